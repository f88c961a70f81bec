// Parts that all live figures share: unpacking, the decoder's arithmetic, drawing, and controls.
//
// Classic scripts, without modules or fetch: so they work from file://, and the widget of a
// notebook holds the same text. A figure is a function (root, data, ask) that fills the element
// `root` from `data`; `ask` is there only in a notebook, where a kernel can answer.
(() => {
  "use strict";
  const live = (globalThis.vaeLive ??= { figures: {}, data: {} });

  // --- unpacking ---------------------------------------------------------------------------------

  const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const int8 = text => new Int8Array(bytes(text).buffer);
  const int16 = text => new Int16Array(bytes(text).buffer);
  const float32 = text => new Float32Array(bytes(text).buffer);

  // Images as text, a hexadecimal digit for each value: 0 is empty, f is full.
  const hexImages = (text, size) => {
    const images = [];
    for (let at = 0; at < text.length; at += size) {
      images.push(Float32Array.from(text.slice(at, at + size), digit => parseInt(digit, 16) / 15));
    }
    return images;
  };

  // --- arithmetic --------------------------------------------------------------------------------

  const ACTIVATIONS = {
    identity: a => a,
    relu: a => Math.max(a, 0),
    sigmoid: a => 1 / (1 + Math.exp(-a)),
    tanh: Math.tanh,
  };

  // A fully connected network, from a code to the values of an image. The weights are whole numbers
  // from -127 to 127, with a scale for each row: a row gives scale * (weights · inputs) + bias.
  const mlp = packed => {
    const layers = packed.map(({ weight, scale, bias, activation }) => ({
      weight: int8(weight), scale: float32(scale), bias: float32(bias),
      activation: ACTIVATIONS[activation],
    }));
    return code => layers.reduce(apply, code);
  };

  const apply = (inputs, { weight, scale, bias, activation }) => {
    const outputs = new Float32Array(bias.length);
    const width = inputs.length;
    for (let row = 0; row < outputs.length; row++) {
      let sum = 0;
      for (let i = 0, at = row * width; i < width; i++, at++) sum += weight[at] * inputs[i];
      outputs[row] = activation(scale[row] * sum + bias[row]);
    }
    return outputs;
  };

  const mix = (from, to, t) => from.map((value, i) => (1 - t) * value + t * to[i]);

  // From one code (t = 0) to another (t = 1) along the shorter arc: the direction turns evenly, the
  // norm changes evenly. Where there is no such arc, the path is straight.
  const arc = (from, to, t) => {
    const norm = Math.hypot(...from), other = Math.hypot(...to);
    const u = from.map(value => value / norm), v = to.map(value => value / other);
    const half = Math.atan2(Math.hypot(...mix(u, v.map(x => -x), 0.5)), Math.hypot(...mix(u, v, 0.5)));
    const sine = Math.sin(2 * half);
    if (!(sine > 1e-6)) return mix(from, to, t);
    const a = Math.sin((1 - t) * 2 * half) / sine, b = Math.sin(t * 2 * half) / sine;
    return u.map((value, i) => ((1 - t) * norm + t * other) * (a * value + b * v[i]));
  };

  // --- the page ----------------------------------------------------------------------------------

  const fill = (element, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };
  // An element: attributes by name, listeners as onclick and the like, then its children.
  const el = (tag, attributes = {}, ...children) =>
    fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  // A number as a reader would write it, with a true minus and no "-0.00".
  const say = (value, digits = 2) => {
    const text = Math.abs(value).toFixed(digits);
    return (value < 0 && Number(text) !== 0 ? "−" : "") + text;
  };

  // A canvas in its own pixels, as wide and high on the page as the style says.
  const canvas = (width, height, label) => {
    const spoken = label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" };
    return el("canvas", { width, height, ...spoken });
  };

  // Values of an image on a canvas of just its pixels. Grey values are ink on paper, 0 is white;
  // three values a pixel are red, green and blue.
  const drawImage = (target, values, channels = 1) => {
    const context = target.getContext("2d");
    const pixels = context.createImageData(target.width, target.height);
    for (let p = 0; p < target.width * target.height; p++) {
      for (let c = 0; c < 3; c++) {
        const value = channels === 1 ? 1 - values[p] : values[p * channels + c];
        pixels.data[4 * p + c] = Math.round(255 * value);
      }
      pixels.data[4 * p + 3] = 255;
    }
    context.putImageData(pixels, 0, 0);
  };

  // One canvas for each image of a row or grid; `draw(images)` fills them.
  const sheet = (count, { width = 28, height = 28, channels = 1, columns = count, label }) => {
    const cells = Array.from({ length: count }, () => canvas(width, height));
    const root = el("div", { class: "paper sheet", role: "img", "aria-label": label,
      style: `--columns: ${columns}` }, ...cells);
    return { root, cells, draw: images => cells.forEach((cell, i) => drawImage(cell, images[i], channels)) };
  };

  // A native slider with its name and, on the right, what it says; `say` puts a value into words,
  // for the eye, `tell` for a screen reader.
  const slider = ({ label, min, max, step = "any", value, say: words, tell = words, moved }) => {
    const shown = el("output", { "aria-hidden": "true" });
    const input = el("input", { type: "range", min, max, step, "aria-label": label });
    const root = el("label", { class: "slider" }, el("span", {}, label), input, shown);
    const update = () => {
      shown.textContent = words(Number(input.value));
      input.setAttribute("aria-valuetext", tell(Number(input.value)));
    };
    const set = next => { input.value = next; update(); };
    input.addEventListener("input", () => { update(); moved(Number(input.value)); });
    set(value);
    return { root, input, set, get value() { return Number(input.value); } };
  };

  const button = (text, onclick, attributes = {}) =>
    el("button", { type: "button", ...attributes, onclick }, text);

  // Buttons of which one is chosen.
  const choice = ({ label, options, chosen, picked }) => {
    const buttons = Object.entries(options).map(([key, text]) =>
      button(text, () => { mark(key); picked(key); }, { "data-key": key }));
    const mark = key =>
      buttons.forEach(each => each.setAttribute("aria-pressed", String(each.dataset.key === key)));
    mark(chosen);
    return { root: el("div", { class: "choice", role: "group", "aria-label": label }, ...buttons), mark };
  };

  // A button that plays `show(0)` … `show(count - 1)`, only when asked, and stops when asked again;
  // `done` is called at the end and where it is stopped with the button.
  // With reduced motion the pictures change in a few steps instead of smoothly.
  const player = ({ label, count, every = 40, show, done = () => {} }) => {
    let timer = 0;
    const stop = () => { clearInterval(timer); timer = 0; root.textContent = `▶ ${label}`; };
    const play = () => {
      if (timer) { stop(); return done(); }
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const stride = calm ? Math.ceil(count / 8) : 1;
      let at = 0;
      const next = () => {
        if (!root.isConnected) return stop();
        show(Math.min(at, count - 1));
        if (at >= count - 1) { stop(); done(); } else at += stride;
      };
      root.textContent = `■ Stop`;
      timer = setInterval(next, calm ? 700 : every);
      next();
    };
    const root = button(`▶ ${label}`, play, { class: "play" });
    return { root, stop, get playing() { return timer !== 0; } };
  };

  // A point on a surface that a pointer drags. `x` and `y` are the ranges shown from left to right
  // and from bottom to top; `moved(x, y)` hears where it went. For keys and screen readers a figure
  // has a slider for each of the two.
  const handle = ({ surface, x, y, moved, className = "handle" }) => {
    const dot = el("div", { class: className });
    surface.append(dot);
    const place = (u, v) => {
      dot.style.left = `${100 * (u - x[0]) / (x[1] - x[0])}%`;
      dot.style.top = `${100 * (y[1] - v) / (y[1] - y[0])}%`;
    };
    const clip = (value, [low, high]) => Math.min(Math.max(value, low), high);
    const follow = event => {
      const box = surface.getBoundingClientRect();
      const u = x[0] + (event.clientX - box.left) / box.width * (x[1] - x[0]);
      const v = y[1] - (event.clientY - box.top) / box.height * (y[1] - y[0]);
      moved(clip(u, x), clip(v, y));
    };
    surface.classList.add("draggable");
    surface.addEventListener("pointerdown", event => {
      if (event.button) return;
      event.preventDefault();
      surface.setPointerCapture(event.pointerId);
      follow(event);
    });
    surface.addEventListener("pointermove", event => {
      if (surface.hasPointerCapture(event.pointerId)) follow(event);
    });
    return { dot, place };
  };

  // Decoders: functions (codes, show) that hand the images of some codes to `show`, at once where
  // the page computes them, later where a kernel does.
  const decoders = {
    // A network of the page.
    mlp: ({ layers }) => {
      const network = mlp(layers);
      return (codes, show) => show(codes.map(code => network(code).map(v => Math.min(Math.max(v, 0), 1))));
    },
    // Images decoded beforehand, on a square grid of the plane; a code gets the nearest.
    table: ({ images, size, low, high, count }) => {
      const all = hexImages(images, size);
      const nearest = (value, k) => {
        const at = Math.round((value - low[k]) / (high[k] - low[k]) * (count - 1));
        return Math.min(Math.max(at, 0), count - 1);
      };
      return (codes, show) => show(codes.map(([u, v]) => all[nearest(v, 1) * count + nearest(u, 0)]));
    },
    // The kernel. While it works on one question only the newest of the next ones is kept.
    kernel: (_, ask) => {
      let busy = false, waiting = null;
      const next = async (codes, show) => {
        busy = true;
        try {
          show(await ask(codes.map(code => Array.from(code))));
        } finally {
          busy = false; // after an error too, which goes on to the console
          if (waiting) { const [again, then] = waiting; waiting = null; next(again, then); }
        }
      };
      return (codes, show) => { if (busy) waiting = [codes, show]; else next(codes, show); };
    },
  };
  const decoder = (packed, ask) => decoders[packed.kind](packed, ask);

  const DIGIT_COLOURS = ["#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77",
    "#CC6677", "#882255", "#AA4499", "#777777"]; // as in vae_book.figures

  live.parts = { DIGIT_COLOURS, arc, button, canvas, choice, decoder, drawImage, el, float32, handle,
    hexImages, int16, mix, mlp, player, say, sheet, slider, svg };
})();
