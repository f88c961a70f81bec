// The latent explorer: drag a code through the plane, or move one unit at a time, and see what the
// decoder draws; pin a code, and see the way from it. A decoder that is told a digit gets buttons to
// pick one, and in place of the way all digits with the same code.
(() => {
  "use strict";
  const { DIGIT_COLOURS, arc, button, canvas, choice, decoder, drawImage, el, float32, handle, mix,
    player, say, sheet, slider, svg } = vaeLive.parts;
  const STRIP = 9; // images shown on the way
  const FRAMES = 61; // while it is played
  const NEAREST = 9; // codes that say among which digits a code lies
  const DOTS = 720; // width of the canvas with the codes, in its own pixels

  vaeLive.figures.explorer = (root, data, ask) => {
    const small = root.parentElement?.dataset.size === "small";
    const decode = decoder(data.decoder, ask);
    const { channels } = data.image;
    const code = [...data.start];
    const digits = Array.from({ length: data.digits ?? 0 }, (_, y) => y);
    let pinned = [...data.pinned ?? code], path = mix, here = "", digit = data.digit;
    // What the decoder gets: the code, and behind it the digit, ten numbers of which one is 1.
    const told = (at, y = digit) => [...at, ...digits.map(each => Number(each === y))];

    const image = canvas(data.image.width, data.image.height, "what the decoder draws");
    const note = el("p", { class: "note" });
    const hint = el("p", { class: "hint" }, digits.length
      ? "Pick a digit, drag the ring. Dots are codes of images; in colour those of the digit. Below, all ten in this style."
      : "Drag the big ring. Dots are codes of real images. Below, the way from the small ring.");
    const plane = data.plane && makePlane(data, (u, v) => { code[0] = u; code[1] = v; moved(); });
    const sliders = data.units.map(({ unit, name, low, high }) => slider({
      label: name, min: low, max: high, value: code[unit],
      say: value => say(value),
      tell: value => say(value) + (plane ? `, ${here}` : ""),
      moved: value => { code[unit] = value; moved(); },
    }));
    const strip = sheet(digits.length || STRIP, { ...data.image,
      label: digits.length ? "all digits with the same code" : "images on the way from the pinned code" });
    const play = player({ label: "Play the way", count: FRAMES, show: frame, done: draw });

    function moved() {
      play.stop();
      draw();
    }

    function draw() {
      const way = digits.length ? digits.map(y => told(code, y))
        : Array.from({ length: STRIP }, (_, k) => path(pinned, code, k / (STRIP - 1)));
      decode([told(code), ...way], ([now, ...onTheWay]) => {
        drawImage(image, now, channels);
        strip.draw(onTheWay);
      });
      here = digits.length ? `drawn as a ${digit}` : plane ? plane.where(code) : "";
      data.units.forEach(({ unit }, k) => sliders[k].set(code[unit]));
      if (!plane) return;
      plane.draw(code, pinned, path);
      note.textContent = placed(code, here);
      image.setAttribute("aria-label", digits.length ? `a ${digit} in this style` : `what the decoder draws ${here}`);
    }

    function frame(k) {
      const at = path(pinned, code, k / (FRAMES - 1));
      decode([at], ([now]) => drawImage(image, now, channels));
      plane?.travel(at);
      if (plane) note.textContent = placed(at, plane.where(at));
    }

    const drawn = el("div", { class: "drawn" }, el("div", { class: "paper" }, image));
    const controls = el("div", { class: "sliders" }, ...sliders.map(each => each.root));
    if (plane) {
      drawn.append(el("div", {}, note, hint));
      root.append(el("div", { class: "stage" }, plane.root, drawn), controls);
    } else {
      root.append(el("div", { class: "stage units" }, drawn, controls));
    }
    if (digits.length) {
      const picker = choice({ label: "digit", chosen: String(digit),
        options: Object.fromEntries(digits.map(y => [y, String(y)])),
        picked: key => { digit = Number(key); plane.highlight(digit); draw(); } });
      picker.root.classList.add("picker");
      picker.root.style.setProperty("--columns", digits.length);
      root.append(picker.root);
      plane.highlight(digit);
    }
    root.append(strip.root);
    if (!small && !digits.length) { // then there is room for the controls of the way
      const roads = choice({ label: "way", options: { straight: "straight", arc: "spherical" },
        chosen: "straight", picked: key => { path = key === "arc" ? arc : mix; moved(); } });
      const pin = button("Pin this code", () => { pinned = [...code]; moved(); });
      root.append(el("div", { class: "controls" }, play.root, roads.root, pin));
    }
    draw();
  };

  // The plane: the codes of real images as dots, the code that is dragged, the pinned one, the way.
  const makePlane = ({ plane: { low, high }, points: packed, labels, names = [], pinned }, moved) => {
    const pinless = !pinned;
    const points = float32(packed);
    const x = [low[0], high[0]], y = [low[1], high[1]];
    const across = u => (u - x[0]) / (x[1] - x[0]), up = v => (y[1] - v) / (y[1] - y[0]);
    const dots = canvas(DOTS, DOTS, "the plane of codes: a dot for each image, in the colour of its digit");
    const context = dots.getContext("2d");
    const highlight = digit => {
      context.clearRect(0, 0, DOTS, DOTS);
      drawDots(context, points, labels, across, up, digit);
    };
    highlight();
    drawNames(context, names, across, up);
    const line = svg("polyline", { class: "way" }), pin = el("div", { class: "pin", hidden: pinless });
    const walker = el("div", { class: "walker", hidden: true });
    const root = el("div", { class: "paper plane" }, dots,
      svg("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" }, line), pin, walker);
    const dragged = handle({ surface: root, x, y, moved });
    const put = (mark, [u, v]) => {
      mark.style.left = `${100 * across(u)}%`;
      mark.style.top = `${100 * up(v)}%`;
    };
    return {
      root,
      highlight,
      where: code => where(code, points, labels, (x[1] - x[0]) / 25),
      travel: code => { walker.hidden = false; put(walker, code); },
      draw: (code, pinned, path) => {
        walker.hidden = true;
        dragged.place(...code);
        put(pin, pinned);
        const way = Array.from({ length: 33 }, (_, k) => path(pinned, code, k / 32));
        line.setAttribute("points", way.map(([u, v]) => `${across(u)},${up(v)}`).join(" "));
      },
    };
  };

  // The dots in the colours of their digits; or only those of one digit, over all the others.
  const drawDots = (context, points, labels, across, up, digit) => {
    const one = digit !== undefined;
    const dot = (k, radius) => {
      context.beginPath();
      context.arc(DOTS * across(points[2 * k]), DOTS * up(points[2 * k + 1]), radius, 0, 2 * Math.PI);
      context.fill();
    };
    const count = points.length / 2;
    context.globalAlpha = 0.55;
    for (let k = 0; k < count; k++) {
      context.fillStyle = one ? "#b5b9be" : labels ? DIGIT_COLOURS[labels[k]] : "#5c636b";
      dot(k, 3.2);
    }
    context.globalAlpha = 0.9;
    context.fillStyle = DIGIT_COLOURS[digit];
    for (let k = 0; one && k < count; k++) if (Number(labels[k]) === digit) dot(k, 5);
    context.globalAlpha = 1;
    context.lineWidth = 3;
    context.setLineDash([12, 9]);
    context.strokeStyle = "#22262b"; // the circle that holds 86 % of N(0, I)
    context.beginPath();
    context.arc(DOTS * across(0), DOTS * up(0), DOTS * (across(2) - across(0)), 0, 2 * Math.PI);
    context.stroke();
    context.setLineDash([]);
  };

  const drawNames = (context, names, across, up) => {
    context.font = "bold 28px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.strokeStyle = "#ffffff";
    context.fillStyle = "#22262b";
    context.lineWidth = 7;
    for (const [digit, [u, v]] of names) {
      context.strokeText(digit, DOTS * across(u), DOTS * up(v));
      context.fillText(digit, DOTS * across(u), DOTS * up(v));
    }
  };

  const placed = (code, here) => `z = (${code.map(z => say(z)).join(", ")}), ${here}`;

  // Among which codes of real images a code lies, in words.
  const where = ([u, v], points, labels, far) => {
    const distances = Array.from({ length: points.length / 2 }, (_, k) =>
      [Math.hypot(points[2 * k] - u, points[2 * k + 1] - v), k]);
    const nearest = distances.sort((a, b) => a[0] - b[0]).slice(0, NEAREST);
    if (nearest[0][0] > far) return "far from the code of any image";
    if (nearest.length > 2 && nearest[2][0] > far) return "near a lone code";
    if (!labels) return "near the code of an image";
    const counts = {};
    for (const [, k] of nearest) counts[labels[k]] = (counts[labels[k]] ?? 0) + 1;
    const digits = Object.keys(counts).filter(digit => counts[digit] >= NEAREST / 3)
      .sort((a, b) => counts[b] - counts[a]);
    if (digits.length === 1) return `among ${digits[0]}s`;
    return `where ${digits.map(digit => `${digit}s`).join(" and ") || "many digits"} meet`;
  };
})();
