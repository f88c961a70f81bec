// The last part of a widget's module in a notebook, after the shared parts and the figure.

function render({ model, el }) {
  const box = document.createElement("div");
  const root = document.createElement("div");
  box.className = "live ready";
  box.dataset.figure = model.get("figure");
  box.style = `max-width: 44rem; ${model.get("room")}`;
  box.append(root);
  el.append(box);
  // JupyterLab would take a slider's arrow keys, and letters, for commands to its cells.
  box.addEventListener("keydown", event => {
    if (!(event.ctrlKey || event.metaKey || event.altKey || event.shiftKey)) event.stopPropagation();
  });
  vaeLive.figures[model.get("figure")](root, model.get("data"), asker(model, root));
}

// A function that sends codes to the kernel and waits for their images, a byte a value.
function asker(model, root) {
  const view = Math.random(); // two views of a widget hear each other's answers
  const waiting = new Map();
  const trouble = document.createElement("p"); // one line, until an answer comes again
  trouble.setAttribute("role", "alert");
  const tell = words => { trouble.textContent = words; root.append(trouble); };
  let count = 0;
  model.on("msg:custom", ({ id, error, images }) => {
    const asked = waiting.get(id);
    if (!asked) return;
    waiting.delete(id);
    clearTimeout(asked.late);
    trouble.remove();
    if (error) {
      tell(error);
      asked.failed(new Error(error));
    } else {
      asked.done(images);
    }
  });
  return async codes => {
    const id = `${view} ${++count}`;
    const images = await new Promise((done, failed) => {
      const late = setTimeout(tell, 3000,
        "The kernel doesn't answer. It may be busy; if it was restarted, run this cell again.");
      waiting.set(id, { done, failed, late });
      model.send({ id, codes });
    });
    const values = Float32Array.from(atob(images), letter => letter.charCodeAt(0) / 255);
    const size = values.length / codes.length;
    return codes.map((_, k) => values.subarray(k * size, (k + 1) * size));
  };
}

export default { render };
