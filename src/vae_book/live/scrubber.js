// The scrubber: drag through the steps of a training, and see the clouds of codes of some images,
// and what the decoder draws from the same random codes.
(() => {
  "use strict";
  const { DIGIT_COLOURS, el, float32, hexImages, int16, player, sheet, slider, svg } = vaeLive.parts;
  const EVERY = 180; // milliseconds for each look, while they are played
  const WORDS = { 12: "twelve" };

  // --- arithmetic --------------------------------------------------------------------------------

  // Clouds as they are packed, [looks, N, 4], to one array for each look: μ₁, μ₂, σ₁, σ₂ of each
  // image in turn. `unit` says what 1 stands for, for each of the four.
  const unpack = (text, unit, looks) => {
    const whole = int16(text), size = whole.length / looks;
    return Array.from({ length: looks }, (_, k) =>
      Float32Array.from(whole.subarray(k * size, (k + 1) * size), (value, i) => value * unit[i % 4]));
  };

  // The mean σ, the spread of the means (their standard deviation over the images), both averaged
  // over the two code numbers; and how many means lie outside the square.
  const measure = (clouds, { left, bottom, side }) => {
    const count = clouds.length / 4;
    let sigma = 0, outside = 0;
    const sums = [0, 0], squares = [0, 0];
    for (let at = 0; at < clouds.length; at += 4) {
      sigma += (clouds[at + 2] + clouds[at + 3]) / (2 * count);
      const across = (clouds[at] - left) / side, up = (clouds[at + 1] - bottom) / side;
      outside += Math.min(across, up) < 0 || Math.max(across, up) > 1;
      for (const i of [0, 1]) sums[i] += clouds[at + i] / count;
    }
    for (let at = 0; at < clouds.length; at += 4) {
      for (const i of [0, 1]) squares[i] += (clouds[at + i] - sums[i]) ** 2 / (count - 1);
    }
    const spread = (Math.sqrt(squares[0]) + Math.sqrt(squares[1])) / 2;
    return { sigma, spread, outside };
  };

  // A number with two digits that count: 0.031, 4.9, 360.
  const rough = value => {
    const rounded = Number(value.toPrecision(2));
    return rounded >= 10 ? grouped(rounded) : String(rounded);
  };
  const grouped = value => String(value).replace(/\B(?=(\d{3})+$)/g, ",");

  // --- the figure --------------------------------------------------------------------------------

  const scrubber = (root, data) => {
    const { steps, labels, unit, square } = data;
    const last = steps.length - 1;
    const z = float32(data.z), drawings = z.length / 2;
    const size = data.image.height * data.image.width, whole = drawings * size;
    const networks = data.networks.map(({ name, clouds, drawn }) => {
      const looks = unpack(clouds, unit, steps.length);
      const plane = makePlane(labels, square, z);
      const row = sheet(drawings, data.image);
      const element = el("div", { class: "network" }, el("p", { class: "name" }, name), plane.root,
        el("div", { class: "random" }, el("p", {}, "from random codes ×"), row.root));
      return { name, looks, plane, row, element,
        facts: looks.map(clouds => measure(clouds, square)),
        drawn: look => hexImages(drawn.slice(look * whole, (look + 1) * whole), size) };
    });
    const alone = networks.length === 1;

    // What is to be seen at a look, in a sentence.
    const sentence = look => {
      const parts = networks.map(({ name, facts }) =>
        `${rough(facts[look].spread / facts[look].sigma)} σ` + (alone ? "" : ` ${name}`));
      return `the middles of the clouds spread over ${parts.join(", ")}`;
    };
    const note = el("p", { class: "note" });
    const scrub = slider({ label: "step", min: 0, max: last, step: 1, value: last,
      say: look => grouped(steps[look]),
      tell: look => `step ${grouped(steps[look])} of ${grouped(steps[last])}: ${sentence(look)}`,
      moved: look => { play.stop(); draw(look); } });
    const play = player({ label: "Play the training", count: last + 1, every: EVERY,
      show: look => { scrub.set(look); draw(look); } });

    function draw(look) {
      for (const { name, looks, plane, row, facts, drawn } of networks) {
        plane.draw(looks[look]);
        row.draw(drawn(look));
        const { sigma, spread, outside } = facts[look], when = `at step ${grouped(steps[look])}`;
        plane.tell(`${name} ${when}: the clouds of ${labels.length} images, each about ` +
          `${rough(sigma)} wide, their middles spread over ${rough(spread)}`, outside);
        row.root.setAttribute("aria-label", `${name} ${when}: what the decoder draws from ` +
          `${WORDS[drawings] ?? drawings} random codes`);
      }
      note.textContent = `At step ${grouped(steps[look])} ${sentence(look)}.`;
      hint.textContent = look > 0 ? "Drag the step back to the start." : "Now forward again.";
    }

    const hint = el("span", { class: "hint" });
    root.append(
      el("div", { class: alone ? "networks alone" : "networks" }, ...networks.map(each => each.element)),
      makeKey(), scrub.root, el("div", { class: "controls" }, play.root, hint), note);
    draw(last);
  };

  // A plane with the clouds as ellipses of one standard deviation, each with a dot in the middle,
  // which stays visible however small the cloud; the random codes are crosses.
  const makePlane = (labels, { left: low, bottom, side }, z) => {
    const ellipses = Array.from(labels, digit =>
      svg("ellipse", { class: "cloud", fill: DIGIT_COLOURS[digit], stroke: DIGIT_COLOURS[digit] }));
    const dots = DIGIT_COLOURS.map(stroke => svg("path", { class: "dot", stroke }));
    const drawing = svg("svg", { role: "img", viewBox: `${low} ${-bottom - side} ${side} ${side}` },
      ...ellipses, ...dots, svg("circle", { class: "prior", r: 2 }));
    const crosses = Array.from({ length: z.length / 2 }, (_, k) =>
      svg("svg", { class: "cross", viewBox: "-5 -5 10 10", "aria-hidden": "true",
        style: `left: ${100 * (z[2 * k] - low) / side}%; bottom: ${100 * (z[2 * k + 1] - bottom) / side}%` },
      svg("path", { d: "M-4 -4l8 8m0 -8l-8 8" })));
    const left = el("span", { class: "left", "aria-hidden": "true" });
    return {
      root: el("div", { class: "paper plane" }, drawing, ...crosses, left),
      draw: clouds => {
        const ways = DIGIT_COLOURS.map(() => "");
        ellipses.forEach((ellipse, k) => {
          const [x, y, rx, ry] = clouds.subarray(4 * k, 4 * k + 4);
          ellipse.setAttribute("cx", x);
          ellipse.setAttribute("cy", -y);
          ellipse.setAttribute("rx", rx);
          ellipse.setAttribute("ry", ry);
          ways[labels[k]] += `M${x} ${-y}h0`;
        });
        dots.forEach((dot, digit) => dot.setAttribute("d", ways[digit]));
      },
      tell: (words, outside) => {
        left.textContent = outside ? `${outside} outside` : "";
        drawing.setAttribute("aria-label", words + (outside ? `; ${outside} lie outside` : ""));
      },
    };
  };

  // What the colours and the circle mean.
  const makeKey = () => {
    const mark = shape => svg("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, shape);
    const digits = DIGIT_COLOURS.map((fill, digit) =>
      el("span", {}, mark(svg("circle", { r: 6, fill })), String(digit)));
    return el("div", { class: "paper digits" }, el("div", {}, ...digits),
      el("span", {}, mark(svg("circle", { class: "prior", r: 7 })), "two σ of N(0, I)"));
  };

  scrubber.arithmetic = { unpack, measure, rough, grouped };
  vaeLive.figures.scrubber = scrubber;
})();
