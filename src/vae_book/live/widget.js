// The last part of a widget's module in a notebook, after the shared parts and the figure.

function render({ model, el }) {
  const box = document.createElement("div");
  const root = document.createElement("div");
  box.className = "live ready";
  box.dataset.figure = model.get("figure");
  box.style = model.get("room");
  box.append(root);
  el.append(box);
  vaeLive.figures[model.get("figure")](root, model.get("data"), asker(model, root));
}

// A function that sends codes to the kernel and waits for their images, a byte a value.
function asker(model, root) {
  const waiting = new Map();
  let last = 0;
  model.on("msg:custom", ({ id, error }, [images]) => {
    const { done, failed } = waiting.get(id) ?? {};
    waiting.delete(id);
    if (error) {
      root.append(Object.assign(document.createElement("p"), { textContent: error }));
      failed?.(new Error(error));
    } else {
      done?.(images);
    }
  });
  return async codes => {
    const id = ++last;
    const { buffer, byteOffset, byteLength } = await new Promise((done, failed) => {
      waiting.set(id, { done, failed });
      model.send({ id, codes });
    });
    const values = Float32Array.from(new Uint8Array(buffer, byteOffset, byteLength), v => v / 255);
    const size = values.length / codes.length;
    return codes.map((_, k) => values.subarray(k * size, (k + 1) * size));
  };
}

export default { render };
