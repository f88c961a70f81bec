// The KL playground: one cloud q = N(μ, σ²) against p = N(0, 1). What it costs in nats, what the
// naive penalty would ask, and where the KL pulls.
(() => {
  "use strict";
  const { button, el, player, say, slider, svg } = vaeLive.parts;
  const START = { mu: 1, logSigma: Math.log(0.4) };
  const MU = [-3, 3];
  const LOG_SIGMA = [-3, 1.1]; // σ from 0.05 to 3
  const STEP = 0.02; // of both, for keys and pointers
  const EDGE = 4; // z goes from -4 to 4
  const TOP = 1.15; // the highest density shown
  const HIGHEST = 0.98; // and the highest place of a handle
  const NATS = 4; // the end of the bars' axis
  const PULL = 0.4; // length of an arrow for a pull of 1, in units of z
  const LONGEST = 1.6; // length of any arrow
  const RIM = 0.3; // half a handle, on a phone
  const FRAMES = 76;
  const END = 6; // in the time of the flow: by then every cloud is N(0, 1), to a step of a slider

  // --- arithmetic --------------------------------------------------------------------------------

  // In nats: the KL is place + width, the naive penalty place + naiveWidth.
  const costs = (mu, sigma) => {
    const logVariance = 2 * Math.log(sigma);
    return {
      place: mu ** 2 / 2,
      width: (sigma ** 2 - 1 - logVariance) / 2,
      naiveWidth: logVariance ** 2 / 4,
    };
  };

  // Minus the derivatives of the KL.
  const pull = (mu, sigma) => ({ mu: -mu, sigma: 1 / sigma - sigma });

  // Where a cloud is that has followed the pull for a time t: dμ/dt = -μ, dσ/dt = 1/σ - σ.
  const flow = (mu, sigma, t) => ({
    mu: mu * Math.exp(-t),
    sigma: Math.sqrt(1 + (sigma ** 2 - 1) * Math.exp(-2 * t)),
  });

  const density = (z, mu, sigma) =>
    Math.exp(-(((z - mu) / sigma) ** 2) / 2) / (sigma * Math.sqrt(2 * Math.PI));

  // The state in one or two plain sentences.
  const words = (mu, sigma) => {
    const { place, width } = costs(mu, sigma);
    if (place + width < 1e-12) return "This cloud is N(0, 1): it costs nothing and says nothing.";
    if (place + width < 0.05) {
      return "This cloud is nearly N(0, 1): it costs almost nothing, and says almost nothing.";
    }
    if (sigma < 0.15) {
      return "A very narrow cloud: each halving of σ adds 0.69 nats to the KL, and several times as "
        + "much to the naive penalty.";
    }
    const shape = sigma < 1 ? "narrow" : "wide", change = sigma < 1 ? "wider" : "narrower";
    const side = mu > 0 ? "left" : "right";
    if (place < 0.05) {
      return `A ${shape} cloud: the width alone costs ${say(width)} nats, and the KL pulls it ${change}.`;
    }
    if (width < 0.05) {
      return `A cloud away from 0: the place alone costs ${say(place)} nats, and the KL pulls it to `
        + `the ${side}.`;
    }
    return `A ${shape} cloud away from 0: the place costs ${say(place)} nats, the width ${say(width)}. `
      + `The KL pulls it to the ${side}, and ${change}.`;
  };

  // --- the figure --------------------------------------------------------------------------------

  const saySigma = sigma => say(sigma, sigma < 0.1 ? 3 : 2);
  const signed = value => (value >= 0.005 ? "+" : "") + say(value);
  const snap = (value, [low, high]) => Math.min(Math.max(Math.round(value / STEP) * STEP, low), high);

  vaeLive.figures.kl = root => {
    let mu, sigma, from;

    const plot = makePlot({
      draggedMiddle: z => moved(z, Math.log(sigma)),
      draggedWidth: width => moved(mu, Math.log(Math.max(width, 0.01))),
    });
    const kl = makeBar("kl", "KL", ["½μ² = ", " from the place"],
      ["½(σ² − 1 − log σ²) = ", " from the width"]);
    const naive = makeBar("naive", "naive penalty", ["½μ² = ", ""], ["¼(log σ²)² = ", ""]);
    const note = el("p", { class: "note" });
    const place = slider({ label: "place μ", min: MU[0], max: MU[1], step: STEP, value: START.mu,
      say, tell: value => `${say(value)}, ${told()}`,
      moved: value => moved(value, Math.log(sigma)) });
    const width = slider({ label: "width σ", min: LOG_SIGMA[0], max: LOG_SIGMA[1], step: STEP,
      value: START.logSigma, say: value => saySigma(Math.exp(value)),
      tell: value => `${saySigma(Math.exp(value))}, ${told()}`,
      moved: value => moved(mu, value) });
    const play = player({ label: "Let the KL pull", count: FRAMES, show: frame });
    const back = button("Back to the start", () => moved(START.mu, START.logSigma));

    // What a slider tells those who can't see the bars.
    function told() {
      if (mu === undefined) return "";
      const { place, width, naiveWidth } = costs(mu, sigma);
      return `KL ${say(place + width)} nats, naive penalty ${say(place + naiveWidth)} nats`;
    }

    function moved(nextMu, nextLogSigma) {
      play.stop();
      put(nextMu, nextLogSigma);
    }

    // The flow begins at the cloud as it is, or at the first one where there is no way to go.
    function frame(k) {
      if (k === 0) {
        if (mu === 0 && sigma === 1) put(START.mu, START.logSigma);
        from = { mu, sigma };
      }
      const now = flow(from.mu, from.sigma, END * k / (FRAMES - 1));
      put(now.mu, Math.log(now.sigma));
    }

    function put(nextMu, nextLogSigma) {
      mu = snap(nextMu, MU);
      const logSigma = snap(nextLogSigma, LOG_SIGMA);
      sigma = Math.exp(logSigma);
      const cost = costs(mu, sigma);
      plot.draw(mu, sigma);
      kl.draw(cost.place, cost.width, "");
      naive.draw(cost.place, cost.naiveWidth, compared(cost.naiveWidth - cost.width));
      note.textContent = words(mu, sigma);
      place.set(mu);
      width.set(logSigma);
    }

    root.classList.add("playground");
    root.append(plot.root,
      el("div", { class: "paper costs" }, kl.root, naive.root, makeAxis()),
      note,
      el("div", { class: "sliders" }, place.root, width.root),
      el("div", { class: "controls" }, play.root, back));
    put(START.mu, START.logSigma);
  };
  vaeLive.figures.kl.arithmetic = { costs, density, flow, pull, words };

  const compared = more => {
    if (Math.abs(more) < 0.005) return "the same";
    return `${say(Math.abs(more))} ${more > 0 ? "more" : "less"}`;
  };

  // --- the two bells -----------------------------------------------------------------------------

  const across = z => 100 * (z + EDGE) / (2 * EDGE); // in percent of the plot
  const up = height => 100 * height / TOP;

  // A bell as a polygon, four of its standard deviations to each side.
  const bell = (mu, sigma) => Array.from({ length: 121 }, (_, k) => {
    const z = mu + sigma * (k - 60) / 15;
    return `${z.toFixed(4)},${(TOP - density(z, mu, sigma)).toFixed(4)}`;
  }).join(" ");

  // Both bells, with a handle at the middle of q and one at each of its shoulders, and the pulls on
  // them. A drag elsewhere moves the middle, from where it is.
  const makePlot = ({ draggedMiddle, draggedWidth }) => {
    const shape = svg("polygon", { class: "q" });
    const area = el("div", { class: "area" },
      svg("svg", { viewBox: `${-EDGE} 0 ${2 * EDGE} ${TOP}`, preserveAspectRatio: "none",
        "aria-hidden": "true" },
        svg("line", { class: "zero", x1: 0, x2: 0, y1: 0, y2: TOP }), shape,
        svg("polyline", { class: "p", points: bell(0, 1) })));
    const name = el("span", { class: "p-name" }, "p = N(0, 1)");
    const peak = el("span", { class: "peak" });
    const arrows = { middle: el("div", { class: "pull" }), left: el("div", { class: "pull" }),
      right: el("div", { class: "pull" }) };
    const dots = { middle: el("div", { class: "handle middle" }, "μ"),
      left: el("div", { class: "handle shoulder" }, "σ"),
      right: el("div", { class: "handle shoulder" }, "σ") };
    area.append(name, peak, ...Object.values(arrows), ...Object.values(dots));
    const pulls = el("span");
    const ticks = Array.from({ length: 2 * EDGE + 1 }, (_, k) =>
      el("span", { style: `left: ${across(k - EDGE)}%` }, k === 2 * EDGE ? "z" : say(k - EDGE, 0)));
    const drawing = el("div", { class: "drawing", role: "img" }, area,
      el("div", { class: "ticks" }, ...ticks));
    const root = el("div", { class: "paper bells" },
      el("div", { class: "legend" },
        el("span", {}, el("i", { class: "key-q" }), "q, the cloud"),
        el("span", {}, el("i", { class: "key-pull" }), "the pull of the KL: ", pulls)),
      drawing);
    let mu, sigma;

    const put = (mark, z, height) => {
      mark.style.left = `${across(z)}%`;
      mark.style.bottom = `${up(height)}%`;
      mark.hidden = Math.abs(z) > EDGE;
    };
    // An arrow from the rim of a handle; a negative pull goes to the left. One that would be too
    // long, or leave the plot, has a break.
    const point = (arrow, dot, z, strength) => {
      const room = EDGE - RIM - z * Math.sign(strength);
      const length = Math.min(PULL * Math.abs(strength), LONGEST, room);
      arrow.style.left = dot.style.left;
      arrow.style.bottom = dot.style.bottom;
      arrow.style.width = `${across(length) - across(0)}%`;
      arrow.classList.toggle("leftwards", strength < 0);
      arrow.classList.toggle("cut", length < PULL * Math.abs(strength));
      arrow.hidden = dot.hidden || length < 0.01;
    };

    // Where the bell is higher than the plot, how high, on the side that has room.
    const drawPeak = height => {
      peak.hidden = height <= TOP;
      if (peak.hidden) return;
      const side = mu > 0 ? -1 : 1, half = sigma * Math.sqrt(2 * Math.log(height / TOP));
      peak.textContent = side < 0 ? `up to ${say(height, 1)} ↑` : `↑ up to ${say(height, 1)}`;
      peak.classList.toggle("left", side < 0);
      peak.style.left = `${across(mu + side * half)}%`;
    };

    area.addEventListener("pointerdown", event => {
      if (event.button) return;
      event.preventDefault();
      area.setPointerCapture(event.pointerId);
      const side = event.target === dots.left ? -1 : event.target === dots.right ? 1 : 0;
      const grip = mu + side * sigma - under(event); // nothing jumps when it is taken
      area.onpointermove = next => {
        if (!area.hasPointerCapture(next.pointerId)) return;
        const z = under(next) + grip;
        if (side) draggedWidth(side * (z - mu)); else draggedMiddle(z);
      };
    });
    const under = event => {
      const box = area.getBoundingClientRect();
      return ((event.clientX - box.left) / box.width * 2 - 1) * EDGE;
    };

    return {
      root,
      draw: (nextMu, nextSigma) => {
        mu = nextMu;
        sigma = nextSigma;
        const force = pull(mu, sigma), height = density(mu, mu, sigma);
        const shoulder = Math.min(height * Math.exp(-0.5), HIGHEST);
        shape.setAttribute("points", bell(mu, sigma));
        put(dots.middle, mu, 0.09);
        put(dots.left, mu - sigma, shoulder);
        put(dots.right, mu + sigma, shoulder);
        point(arrows.middle, dots.middle, mu, force.mu);
        point(arrows.left, dots.left, mu - sigma, -force.sigma);
        point(arrows.right, dots.right, mu + sigma, force.sigma);
        drawPeak(height);
        pulls.textContent = `${signed(force.mu)} on μ, ${signed(force.sigma)} on σ`;
        drawing.setAttribute("aria-label", seen(mu, sigma, force));
      },
    };
  };

  // The drawing in words.
  const seen = (mu, sigma, force) =>
    `A filled bell q around ${say(mu)}, ${saySigma(sigma)} to its shoulders, before the dashed bell p `
    + "around 0, 1 to its shoulders. Green arrows: the KL pulls the middle "
    + `${direction(force.mu, "to the right", "to the left")}, and the shoulders `
    + `${direction(force.sigma, "outwards", "inwards")}.`;
  const direction = (strength, positive, negative) => {
    if (Math.abs(strength) < 0.01) return "nowhere";
    return `${strength > 0 ? positive : negative} with ${say(Math.abs(strength))}`;
  };

  // --- the bars ----------------------------------------------------------------------------------

  // A bar of two parts, with its name, its sum, and what the parts are.
  const makeBar = (key, name, place, width) => {
    const sum = el("b"), values = [el("b"), el("b")], more = el("span", { class: "more" });
    const segments = [el("div", { class: "segment place" }), el("div", { class: "segment width" })];
    const part = (k, [before, after]) =>
      el("span", {}, el("i", { class: `key-${k ? "width" : "place"}` }), before, values[k], after);
    const track = el("div", { class: "track", "aria-hidden": "true" }, ...segments);
    const root = el("div", { class: `cost ${key}` },
      el("div", { class: "sum" }, el("b", {}, name), el("span", {}, more, sum, " nats")),
      el("div", { class: "parts" }, part(0, place), part(1, width)), track);
    const lay = (segment, start, end) => {
      segment.style.left = `${100 * Math.min(start, NATS) / NATS}%`;
      segment.style.right = `${100 * (1 - Math.min(end, NATS) / NATS)}%`;
    };
    return {
      root,
      draw: (place, width, words) => {
        lay(segments[0], 0, place);
        lay(segments[1], place, place + width);
        track.classList.toggle("cut", place + width > NATS);
        values[0].textContent = say(place);
        values[1].textContent = say(width);
        sum.textContent = say(place + width);
        more.textContent = words && `${words}: `;
      },
    };
  };

  const makeAxis = () => el("div", { class: "ticks", "aria-hidden": "true" },
    ...Array.from({ length: NATS + 1 }, (_, k) =>
      el("span", { style: `left: ${100 * k / NATS}%` }, k === NATS ? `${k} nats` : k)));
})();
