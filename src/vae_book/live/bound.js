// The bound at work: a cloud q over the true posterior of one image, and log p(x) as a bar of
// constant height, cut into the ELBO and the gap.
(() => {
  "use strict";
  const { button, canvas, drawImage, el, float32, handle, hexImages, player, say, slider, svg } =
    vaeLive.parts;

  // --- arithmetic --------------------------------------------------------------------------------

  // What the figure needs of the grid of log p(x, z), z₁ along the rows: log p(x), and the ELBO of a
  // cloud [μ₁, μ₂, σ₁, σ₂] that is normalised on the grid.
  const onGrid = ({ low, side, lines, logJoint }) => {
    const table = float32(logJoint);
    const spacing = side / (lines - 1);
    const highest = table.reduce((a, b) => Math.max(a, b));
    const evidence = highest + 2 * Math.log(spacing)
      + Math.log(table.reduce((sum, value) => sum + Math.exp(value - highest), 0));

    // A Gaussian's shares of the lines along one axis, and their entropy.
    const shares = (k, mean, std) => {
      const logs = Float64Array.from({ length: lines }, (_, i) =>
        -(((low[k] + i * spacing - mean) / std) ** 2) / 2);
      const top = Math.max(...logs);
      const sum = logs.reduce((total, value) => total + Math.exp(value - top), 0);
      const q = logs.map(value => Math.exp(value - top) / sum);
      const negative = q.reduce((total, p, i) => total + p * (logs[i] - top - Math.log(sum)), 0);
      return { q, entropy: -negative };
    };

    const elbo = ([mean1, mean2, std1, std2]) => {
      const across = shares(0, mean1, std1), up = shares(1, mean2, std2);
      let expected = 0;
      for (let i = 0; i < lines; i++) {
        let row = 0;
        for (let j = 0; j < lines; j++) row += up.q[j] * table[i * lines + j];
        expected += across.q[i] * row;
      }
      return expected + across.entropy + up.entropy + 2 * Math.log(spacing);
    };

    return { table, spacing, highest, evidence, elbo };
  };

  const written = value => Number(value.toFixed(2));

  // --- the figure --------------------------------------------------------------------------------

  const bound = (root, data) => {
    const { low, side, path, every, shown } = data;
    const grid = onGrid(data);
    const last = path.length - 1;
    let cloud = [...path[0]], own = false;

    const plane = makePlane(data, grid, (u, v) => change([u, v, cloud[2], cloud[3]]));
    const bar = makeBar(grid.evidence, shown);
    const note = el("p", { class: "note" });
    const tell = () => `ELBO ${say(grid.elbo(cloud))}, gap ${say(gap())} nats`;
    const steps = slider({ label: "steps uphill", min: 0, max: last, step: 1, value: 0,
      say: k => (own ? "yours" : `${every * k}`),
      tell: k => `${own ? "your own cloud" : `${every * k} of ${every * last}`}, ${tell()}`,
      moved: k => { play.stop(); walk(k); } });
    // After a drag the slider may be where one wants it already: then nothing would be "moved".
    const back = event => {
      if (own && !["Tab", "Shift"].includes(event.key)) walk(steps.value);
    };
    steps.input.addEventListener("click", back);
    steps.input.addEventListener("keyup", back);
    const numbers = [["μ₁", 0], ["μ₂", 1], ["σ₁", 2], ["σ₂", 3]].map(([label, k]) => {
      const width = k > 1; // a width's slider is logarithmic
      const [from, to] = width ? [grid.spacing, side / 3] : [low[k], low[k] + side];
      const value = position => (width ? Math.exp(position) : position);
      const position = width ? Math.log(cloud[k]) : cloud[k];
      return slider({ label, min: width ? Math.log(from) : from, max: width ? Math.log(to) : to,
        value: position, say: at => say(value(at)), tell: at => `${say(value(at))}, ${tell()}`,
        moved: at => change(cloud.map((old, i) => (i === k ? value(at) : old))) });
    });
    const play = player({ label: "Refine", count: last + 1, every: 60, show: k => walk(k) });
    const again = button("Encoder's cloud", () => { play.stop(); walk(0); });

    // Of the two numbers as they are written, so that what is written adds up.
    function gap() {
      return written(grid.evidence) - written(grid.elbo(cloud));
    }

    function walk(k) {
      cloud = [...path[k]];
      own = false;
      steps.set(k);
      draw();
    }

    function change(next) {
      play.stop();
      cloud = next;
      own = true;
      draw();
    }

    function draw() {
      const elbo = grid.elbo(cloud);
      plane.draw(cloud);
      bar.draw(elbo, gap());
      steps.set(steps.value);
      numbers.forEach((each, k) => each.set(k > 1 ? Math.log(cloud[k]) : cloud[k]));
      const at = steps.value;
      const words = own ? "Any cloud gives a bound. The height of the bar never changes."
        : at === 0 ? `The encoder's cloud loses ${say(gap())} nats.`
        : at < last ? "What the ELBO gains, the gap loses."
        : `Here the steps end: no small change of this ellipse takes more off the ${say(gap())} nats left.`;
      const sum = `${say(grid.evidence)} = ${say(elbo)} + ${say(gap())}`;
      note.textContent = `log p(x) = ELBO + gap: ${sum} nats. ${words}`;
    }

    root.append(
      el("div", { class: "bound-stage" }, plane.root, bar.root), steps.root,
      el("div", { class: "numbers" }, ...numbers.map(each => each.root)),
      el("div", { class: "controls" }, play.root, again), note);
    draw();
  };

  // The window of the plane: the posterior as a shade, the cloud as ellipses of one and two σ.
  const makePlane = ({ low, side, lines, image }, { table, highest }, moved) => {
    const shade = canvas(lines, lines, "the true posterior");
    const pixels = Float32Array.from(table, (_, p) => {
      const row = Math.floor(p / lines), column = p % lines; // of the picture: z₂ upwards
      return 0.75 * Math.exp(table[column * lines + lines - 1 - row] - highest);
    });
    drawImage(shade, pixels);
    const ellipses = [1, 2].map(radius => [radius, svg("ellipse", { class: "cloud" })]);
    const root = el("div", { class: "paper plane" }, shade,
      svg("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" },
        ...ellipses.map(([, ellipse]) => ellipse)));
    if (image) {
      const digit = canvas(image.side, image.side, "the image x");
      drawImage(digit, hexImages(image.ink, image.side ** 2)[0]);
      root.append(el("div", { class: "digit" }, digit));
    }
    const x = [low[0], low[0] + side], y = [low[1], low[1] + side];
    const dragged = handle({ surface: root, x, y, moved });
    return {
      root,
      draw: ([mean1, mean2, std1, std2]) => {
        dragged.place(mean1, mean2);
        for (const [radius, ellipse] of ellipses) {
          ellipse.setAttribute("cx", (mean1 - x[0]) / side);
          ellipse.setAttribute("cy", (y[1] - mean2) / side);
          ellipse.setAttribute("rx", radius * std1 / side);
          ellipse.setAttribute("ry", radius * std2 / side);
        }
        shade.setAttribute("aria-label", "the true posterior as a grey shade, and the cloud around " +
          `(${say(mean1)}, ${say(mean2)}), ${say(std1)} wide and ${say(std2)} high`);
      },
    };
  };

  // The bar: its upper end is log p(x), its lower end `shown` nats below. The cut is the ELBO.
  const makeBar = (evidence, shown) => {
    const upper = el("div", { class: "gap" }), lower = el("div", { class: "elbo" });
    const above = el("span", {}), below = el("span", {});
    upper.append(above);
    lower.append(below);
    return {
      root: el("div", { class: "paper bar", "aria-hidden": "true" },
        el("p", {}, "log p(x) = ", el("b", {}, say(evidence))),
        el("div", { class: "column" }, upper, lower), el("p", {}, `the top ${shown} nats only`)),
      draw: (elbo, gap) => {
        const share = Math.min(gap / shown, 1);
        upper.style.height = `${100 * share}%`;
        above.textContent = gap > shown ? `gap ${say(gap)}, off the scale ↓` : `gap ${say(gap)}`;
        above.hidden = share < 0.12; // no room for it; the note below says it
        below.textContent = gap > shown ? "" : `ELBO ${say(elbo)}`;
      },
    };
  };

  bound.arithmetic = { onGrid };
  vaeLive.figures.bound = bound;
})();
