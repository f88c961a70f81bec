// The VAE playground: a small VAE of points in the plane that trains while one looks at it, with its
// codes, its draws, its density and both terms of its bound.
(() => {
  "use strict";
  const { button, choice, el, float32, int16, say, slider } = vaeLive.parts;
  const { REACH, landscape, logEvidence, stream } = vaeLive.vae;
  const { MOST, askew, astray, makeRun, mean, median, posterior } = vaeLive.training;
  const { EDGE, REACHES, deviations, drawCodes, drawData, drawModel, drawPen, groupsOf, makeCurves, makePlane,
    makeUnits, reachOf, remember } = vaeLive.pictures;

  // What can be set: for each setting its name, and its values with the words for them.
  // The values are pairs, for the keys of an object that look like numbers would come first.
  const asThey = values => values.map(value => [value, value]);
  const OPTIONS = {
    data: ["data", [["moons", "two moons"], ["ring", "ring"], ["blobs", "five blobs"], ["spiral", "spiral"],
      ["wave", "wave"], ["own", "draw your own"]]],
    latent: ["latent units", asThey(["1", "2"])],
    width: ["network width", asThey(["8", "16", "32"])],
    weight: ["weight of the KL", asThey(["0", "0.05", "0.2", "0.5", "1", "2", "5", "20", "100"])],
    sigma: ["σₓ", asThey(["learned", "0.05", "0.1", "0.15", "0.2", "0.5", "1"])],
    noise: ["noise", asThey(["on", "off"])],
    decoder: ["decoder sees", [["z", "the code z"], ["x", "z and x₁"]]],
    rate: ["learning rate", asThey(["0.001", "0.002", "0.005", "0.01", "0.02"])],
  };
  const RESTART = ["data", "latent", "width", "decoder", "seed"]; // the others may change on the way
  const USUAL = { data: "blobs", latent: "2", width: "32", weight: "1", sigma: "0.15", noise: "on", decoder: "z",
    rate: "0.005", seed: "1" };
  const SEED = /^\d{1,6}$/;

  // What the book teaches, each in one sentence that holds after STEPS steps.
  const STEPS = 2000;
  const PRESETS = {
    copies: { title: "Plain autoencoder", chapter: [1, "01_autoencoder"], change: { noise: "off" },
      words: "Every point is copied well, but nothing ties codes to N(0, I), the dashed circles: more than half of "
        + "the draws from it miss the data." },
    dies: { title: "Noise that dies", chapter: [2, "02_noisy_codes"], change: { weight: "0" },
      words: "Noise only makes copies worse and nothing pays for it, so training shrinks every cloud to a point: watch "
        + "the median σ fall." },
    lives: { title: "The KL keeps it", chapter: [3, "03_kl_term"], change: {},
      words: "A narrow cloud now costs KL: clouds stay open and share the prior among them, and most draws land on "
        + "the data." },
    silent: { title: "Posterior collapse", chapter: [8, "08_codes"], change: { weight: "100" },
      words: "The KL weighs so much that every cloud becomes the prior: codes say nothing, and all copies are the "
        + "mean of the data." },
    hole: { title: "Hole in the prior", chapter: [8, "08_codes"], change: { weight: "0.05" },
      words: "The KL is cheap and clouds are small: q(z), all of them together, leaves holes where the prior "
        + "draws, and a third to half of the draws miss." },
    loose: { title: "Loose bound", askew: true, chapter: [7, "07_gap"], change: { data: "ring", sigma: "0.1" },
      words: "Codes that explain the orange point (shaded) lie askew, but its cloud stands upright: on average the ELBO "
        + "stays about half a nat below log p(x)." },
    strong: { title: "Decoder too strong", chapter: [8, "08_codes"],
      change: { data: "wave", sigma: "learned", decoder: "x" },
      words: "The decoder also sees x₁ (across), which tells it x₂ (up): it needs no code, both units fall silent, and "
        + "all copies get the same x₁." },
  };
  const FIRST = "lives"; // its result is what the figure starts with

  // --- settings as a link ------------------------------------------------------------------------

  const BYTE = EDGE / 127;

  // Points as text, a byte for each number.
  const packPoints = points => {
    const letters = points.map(value => String.fromCharCode(Math.round(value / BYTE) & 255));
    return btoa(letters.join("")).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  };
  const unpackPoints = text => {
    const letters = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return Array.from(letters, letter => (letter.charCodeAt(0) << 24 >> 24) * BYTE);
  };

  const linkOf = (settings, own) => {
    const all = settings.data === "own" ? { ...settings, points: packPoints(own) } : settings;
    return "#" + Object.entries(all).map(([key, value]) => `${key}=${value}`).join("&");
  };

  // Settings from a link, null where it holds none; and what was wrong with it, in words. A setting
  // that the link leaves out is the usual one.
  const readLink = hash => {
    const asked = new Map(hash.slice(1).split("&").map(pair => pair.split("=", 2)));
    if (!asked.has("data")) return null;
    const settings = { ...USUAL }, wrong = [];
    let own = null;
    for (const [key, value] of asked) {
      const values = Object.hasOwn(OPTIONS, key) ? OPTIONS[key][1].map(([each]) => each) : [];
      if (key === "points") {
        try { own = unpackPoints(value); } catch { wrong.push("its points can't be read"); }
      } else if (key === "seed" ? SEED.test(value) : values.includes(value)) {
        settings[key] = value;
      } else if (Object.hasOwn(USUAL, key)) {
        const expected = key === "seed" ? "a number of up to six digits" : values.join(", ");
        wrong.push(`${key}: expected ${expected}, got ${value}; it is ${USUAL[key]} now`);
      } else {
        wrong.push(`there is no setting ${key}`);
      }
    }
    if (own?.length % 2 || own?.length > 2 * MOST) {
      own = null;
      wrong.push(`points: expected up to ${MOST} pairs`);
    }
    return { settings, own, wrong };
  };

  // The experiment that settings are, whatever the seed; null if they are none.
  const experimentOf = settings => {
    const same = key => {
      const wanted = { ...USUAL, ...PRESETS[key].change, seed: settings.seed };
      return Object.keys(wanted).every(name => wanted[name] === settings[name]);
    };
    return Object.keys(PRESETS).find(same) ?? null;
  };

  // --- the figure --------------------------------------------------------------------------------

  const PER_FRAME = 6; // milliseconds of training
  const FASTEST = 8; // steps a frame; the first ones come one by one, for most happens then
  const CALM = 700; // milliseconds between two pictures where motion is to be reduced
  const COARSE = 40, FINE = 100; // codes and places in each direction for p(x), while it trains and at rest
  const ON_LINE = 2000; // codes of one unit
  const BRUSH = 5; // points for each place of the pen
  const SPREAD = 0.07;
  const STROKE = 0.1; // how far the pen moves before it puts points again
  const HERE = [0, 0];
  const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1], Enter: HERE, " ": HERE };
  const OF_WATCHED = 80; // draws from the cloud of the watched point
  const LEAST = 10; // points
  const YOURS = "Your own settings, trained until you pause. The weight of the KL, σₓ, the noise and the learning "
    + "rate may change on the way.";
  const DRAW = "Draw at least ten points in the left picture: drag with mouse or finger, or move the pen "
    + "with the arrow keys and press Enter. Then train.";

  const inside = value => Math.min(Math.max(value, -EDGE), EDGE);
  const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
  const evenly = count => Array.from({ length: count }, (_, k) => k / count);
  const percent = share => `${Math.round(100 * share)} %`;

  // The copies and the codes for those who can't see them.
  const inWords = (look, reach) => {
    if (!look) return { copies: "", codes: "No codes yet." };
    const error = Math.sqrt(2 * mean(look.copies.map((value, k) => (value - look.x[k]) ** 2)));
    const clouds = look.noise ? `clouds of median width ${say(median(deviations(look)))}` : "single codes without clouds";
    return {
      copies: `, copied with an error of ${say(error)}`,
      codes: `Codes from −${reach} to ${reach}: ${clouds}.`,
    };
  };

  // The sentence of an experiment and its chapter; a link, where the page says where the book is.
  const told = ({ title, words, chapter: [number, name] }, book) => {
    const place = `chapter ${number}`;
    return [el("strong", {}, `${title}. `), `${words} More in `,
      book === undefined ? place : el("a", { href: `${book}book/${name}.html` }, place), "."];
  };

  vaeLive.figures.playground = (root, data, ask) => {
    const onSite = ask === undefined; // in a notebook the address isn't ours
    const { content_root: book } = document.documentElement.dataset; // where the book is, if the page says so
    const unpack = text => Array.from(int16(text), whole => whole * data.unit);
    const sets = Object.fromEntries(Object.entries(data.sets).map(([name, { points, along }]) =>
      [name, { points: unpack(points), along: unpack(along) }]));
    sets.own = { points: [], along: [] };
    let settings = { ...USUAL }, chosen = FIRST, watched = 0, pen = [0, 0];
    let run, past, groups, still, look, side, nodes, density, missed, evidence, explains, origin;
    let timer = null, frames = 0;

    const points = () => sets[settings.data];
    const count = () => points().points.length / 2;

    // --- what there is to see and to press

    const planes = { data: makePlane(), codes: makePlane(), model: makePlane() };
    const curves = makeCurves(), units = makeUnits();
    const captions = { data: el("p", { class: "caption" }), codes: el("p", { class: "caption" }),
      model: el("p", { class: "caption" }), curves: el("p", { class: "caption" }),
      units: el("p", { class: "caption" }, "KL of each unit") };
    const note = el("p", { class: "note", "aria-live": "polite" });
    const heard = el("p", { class: "heard", role: "status" });
    const titles = Object.entries(PRESETS).map(([key, { title }]) => [key, title]);
    const presets = choice({ label: "experiments", chosen: FIRST, picked: stage,
      options: Object.fromEntries(titles) });
    const play = button("", () => timer ? pause() : train(), { class: "play" });
    const restartButton = button("Restart", () => {
      chosen = experimentOf(settings);
      announce();
      restart();
    });
    const copy = button("Copy link", copyLink);
    const alone = el("a", { class: "alone", target: "_blank" }, "Open alone");
    const clear = button("Clear points", () => { empty(); restart(); });
    const watch = slider({ label: "orange point", min: 0, max: 1, step: 1, value: 0,
      say: k => String(k + 1), tell: k => `${k + 1}, ${placeOf(k)}`,
      moved: k => { watched = k; explain(); show(!timer); } });
    const selects = Object.entries(OPTIONS).map(([key, [label, values]]) => {
      const options = values.map(([value, words]) => el("option", { value }, words));
      const select = el("select", { "aria-label": label, onchange: () => change({ [key]: select.value }) }, ...options);
      return { key, select, root: el("label", {}, el("span", {}, label), select) };
    });

    const panel = (name, drawn) => el("div", { class: `panel of-${name}` }, captions[name], drawn.root);
    const panels = el("div", { class: "panels" }, panel("data", planes.data), panel("codes", planes.codes),
      panel("model", planes.model), panel("curves", curves), panel("units", units));
    root.classList.add("trainer");
    presets.root.classList.add("presets");
    root.append(presets.root, note, heard,
      el("div", { class: "controls" }, play, button("Step", () => { pause(); train(1); }),
        restartButton, button("New seed", () => change({ seed: String(1 + Number(settings.seed) % 999999) })),
        onSite ? copy : "", book ? alone : ""),
      panels,
      watch.root,
      el("div", { class: "settings" }, ...selects.map(select => select.root)));

    // --- training

    // From the start, or from where a training has come already.
    function restart(numbers, steps = 0, before = []) {
      stop();
      run = makeRun(settings, points().points, numbers);
      run.steps = steps;
      past = before;
      origin = numbers ? "by PyTorch" : `seed ${settings.seed}`;
      still = stream(Number(settings.seed) + 2e6).normals(OF_WATCHED * Number(settings.latent));
      draw(true);
    }

    function train(most = Infinity) {
      if (count() < LEAST) { note.textContent = DRAW; return; }
      const end = Math.min(chosen && run.steps < STEPS ? STEPS : Infinity, run.steps + most);
      const calm = isCalm();
      const later = next => { // a function that calls it off
        const id = calm ? setTimeout(next, CALM) : requestAnimationFrame(next);
        return () => calm ? clearTimeout(id) : cancelAnimationFrame(id);
      };
      const next = () => {
        if (!root.isConnected) return stop();
        const some = run.steps + (calm ? 200 : Math.min(FASTEST, 1 + run.steps / 25));
        const until = performance.now() + (calm ? CALM / 2 : PER_FRAME);
        do run.step(); while (run.steps < Math.min(end, some) && performance.now() < until);
        if (run.steps >= end) return pause();
        timer = later(next);
        draw(false);
      };
      play.textContent = "■ Pause";
      heard.textContent = "It trains.";
      next();
    }

    const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

    function stop() {
      timer?.();
      timer = null;
      play.textContent = "▶ Train";
    }

    function pause() {
      stop();
      draw(true);
    }

    // --- settings

    // An experiment: its settings, from the start to where its sentence holds.
    function stage(key) {
      settings = { ...USUAL, ...PRESETS[key].change, seed: settings.seed };
      chosen = key;
      announce();
      share();
      restart();
      train();
      panels.scrollIntoView({ block: "nearest", behavior: isCalm() ? "instant" : "smooth" });
    }

    function change(some) {
      Object.assign(settings, some);
      const anew = Object.keys(some).some(key => RESTART.includes(key));
      chosen = anew || run.steps === 0 ? experimentOf(settings) : null; // it must have been so from the start
      announce();
      share();
      if (anew) restart(); else draw(!timer);
    }

    function announce(wrong = []) {
      presets.mark(chosen);
      selects.forEach(({ key, select }) => {
        select.value = settings[key];
        select.disabled = key === "weight" && settings.noise === "off"; // a code without noise has no KL
      });
      if (isOwn()) restartButton.after(clear); else clear.remove();
      surface.classList.toggle("draggable", isOwn());
      if (isOwn()) surface.tabIndex = 0; else surface.removeAttribute("tabindex");
      surface.setAttribute("role", isOwn() ? "application" : "img");
      const words = isOwn() ? [DRAW] : chosen ? told(PRESETS[chosen], book) : [YOURS];
      note.replaceChildren(...wrong.length ? [`The link: ${wrong.join("; ")}.`] : words);
      pointAlone();
    }

    // The address of the page holds all settings and the reader's points, and so does a link to the
    // playground alone.
    function share() {
      const link = pointAlone();
      if (!onSite) return;
      try { window.history.replaceState(null, "", link); } catch { /* asked for too often: it stays as it is */ }
    }

    function pointAlone() {
      const link = linkOf(settings, sets.own.points);
      alone.href = `${book}_static/playground.html${link}`;
      return link;
    }

    async function copyLink() {
      share();
      try {
        await navigator.clipboard.writeText(location.href);
        note.textContent = "The link is copied: it carries all settings, and the points you drew.";
      } catch {
        note.textContent = "The link, with all settings, is the address of this page now.";
      }
    }

    // --- the reader's points

    const surface = planes.data.root;
    const isOwn = () => settings.data === "own";
    const place = event => {
      const box = surface.getBoundingClientRect();
      const across = (event.clientX - box.left) / box.width, up = (box.bottom - event.clientY) / box.height;
      return [across, up].map(share => inside(EDGE * (2 * share - 1)));
    };

    // Some points where the pen is, or as many as there may still be.
    function put() {
      const random = stream(count() + 1).normals(2 * BRUSH);
      for (let k = 0; k < BRUSH && count() < MOST; k++) {
        sets.own.points.push(...pen.map((value, i) => inside(value + SPREAD * random[2 * k + i])));
      }
      sets.own.along = evenly(count());
      if (!timer) draw(false);
    }

    function empty() {
      sets.own.points.length = sets.own.along.length = 0;
    }

    surface.addEventListener("pointerdown", event => {
      if (event.button || !isOwn()) return;
      event.preventDefault();
      surface.setPointerCapture(event.pointerId);
      pen = place(event);
      put();
    });
    surface.addEventListener("pointermove", event => {
      const now = place(event);
      if (!surface.hasPointerCapture(event.pointerId) || distance(now, pen) < STROKE) return;
      pen = now;
      put();
    });
    const lifted = () => {
      if (!isOwn()) return;
      announceDrawn();
      share();
      if (!timer) draw(true);
    };
    surface.addEventListener("pointerup", lifted);
    surface.addEventListener("pointercancel", lifted);
    surface.addEventListener("click", event => { if (!isOwn() && count()) pick(place(event)); });
    surface.addEventListener("keydown", event => {
      if (!isOwn() || !(event.key in KEYS)) return;
      event.preventDefault();
      const way = KEYS[event.key];
      pen = pen.map((value, i) => inside(value + 2 * STROKE * way[i]));
      if (way === HERE) put();
      announceDrawn();
      if (way === HERE) share();
      if (!timer) draw(true);
    });

    function announceDrawn() {
      const more = count() < LEAST ? `Draw at least ${LEAST}` : count() < MOST ? "Draw more, or train" : "Now train";
      note.textContent = `${count()} points; the pen is at (${say(pen[0], 1)}, ${say(pen[1], 1)}). ${more}.`;
    }

    function pick([x, y]) {
      const all = points().points;
      const far = k => (all[2 * k] - x) ** 2 + (all[2 * k + 1] - y) ** 2;
      for (let k = 0; k < count(); k++) if (far(k) < far(watched)) watched = k;
      watch.set(watched);
      explain();
      show(!timer);
    }

    function placeOf(k) {
      if (k >= count()) return "no point";
      return `at ${say(points().points[2 * k])}, ${say(points().points[2 * k + 1])}`;
    }

    // --- drawing

    // Everything anew. What takes longer, p(x), is measured roughly and now and then while it trains;
    // finely at rest, and only then the evidence of all points.
    function draw(rest) {
      look = count() ? run.look() : null;
      root.classList.toggle("empty", !look);
      groups = groupsOf(points().along);
      watched = Math.min(watched, Math.max(count() - 1, 0));
      watch.input.max = Math.max(count() - 1, 1);
      watch.set(watched);
      if (rest || frames++ % 8 === 0) {
        const fineness = rest ? FINE : COARSE;
        side = run.model.latent === 1 ? ON_LINE : fineness;
        nodes = run.quadrature(side);
        density = landscape(nodes, fineness, EDGE);
        missed = look ? percent(astray(run.draws(), look.x)) : "";
        evidence = rest && onGrid() ? evidenceOf(nodes, look) : null;
        if (rest && chosen && PRESETS[chosen].askew) watch.set(watched = mostAskew());
        explain();
      }
      if (look) remember(past, run.steps, look.terms);
      show(rest);
    }

    // Whether the grid of codes for p(x) reaches all clouds.
    const onGrid = () => look?.noise && look.mu.every(value => Math.abs(value) < REACH);

    // log p(x) of all points, or null where it would lie below the ELBO: then the true posteriors lie between
    // the lines of the grid.
    function evidenceOf(nodes, { x, terms }) {
      const found = logEvidence(nodes, x);
      return mean(found) < -(terms.reconstruction + terms.kl) - 0.01 ? null : found;
    }

    // The point whose true posterior an upright ellipse fits worst.
    function mostAskew() {
      const coarse = run.quadrature(COARSE);
      const each = Array.from({ length: count() }, (_, k) => Math.abs(askew(coarse, look.x.slice(2 * k, 2 * k + 2))));
      return each.indexOf(Math.max(...each));
    }

    // Which codes explain the orange point.
    function explain() {
      const x = look?.x.slice(2 * watched, 2 * watched + 2);
      explains = onGrid() ? { side, values: posterior(nodes, x) } : null;
    }

    function show(rest) {
      const draws = run.draws();
      drawModel(planes.model, density, draws);
      if (look) {
        const scene = { run, look, groups, watched, still, explains };
        drawData(planes.data, scene);
        drawCodes(planes.codes, scene);
        const terms = curves.draw(past, look.noise, evidence && rest ? -mean(evidence) : NaN);
        if (rest) {
          curves.root.setAttribute("aria-label", `Curves over training, in nats a point. Now ${terms}.`);
          heard.textContent = `${run.steps.toLocaleString("en")} steps: ${terms}.`;
        }
        units.draw(look);
      } else {
        planes.data.clear(EDGE);
        planes.codes.clear(REACHES[0]);
      }
      if (isOwn()) drawPen(planes.data, pen);
      describe(draws, rest);
    }

    // Captions, and at rest what the pictures show in words.
    function describe(draws, rest) {
      const reach = look ? reachOf(look) : REACHES[0], steps = run.steps.toLocaleString("en");
      const missing = missed && `; ${missed} miss`;
      const clouds = look?.noise ? `; median σ ${say(median(deviations(look)), 3)}` : "";
      captions.data.textContent = `${isOwn() ? "yours" : "points"}, and lines to their copies`;
      captions.codes.textContent = `codes, −${reach} to ${reach}${clouds}`;
      captions.model.textContent = `p(x) and draws${missing}`;
      captions.curves.textContent = `nats after ${steps} steps; σₓ ${say(run.sigma())}, ${origin}`;
      if (!rest) return;
      const told = inWords(look, reach);
      const keys = isOwn() ? " Arrow keys move the pen, Enter puts points there." : "";
      surface.setAttribute("aria-label", `${count()} points from −${EDGE} to ${EDGE}${told.copies}.${keys}`);
      planes.codes.root.setAttribute("aria-label", told.codes);
      planes.model.root.setAttribute("aria-label",
        `p(x) as a landscape, and ${draws.length / 2} draws from it${missing}.`);
    }

    // --- the beginning

    // What a link says, or else the trained state that comes with the page.
    function begin() {
      const link = onSite ? readLink(location.hash) : null;
      if (link) {
        ({ settings } = link);
        if (link.own) {
          sets.own.points = link.own;
          sets.own.along = evenly(link.own.length / 2);
        }
        chosen = experimentOf(settings);
        announce(link.wrong);
        restart();
      } else {
        announce();
        restart(Float64Array.from(float32(data.start.numbers)), data.start.steps, [...data.start.past]);
      }
    }

    begin();
    if (onSite) {
      window.addEventListener("hashchange", () => {
        if (!readLink(location.hash)) return;
        begin();
        root.scrollIntoView({ block: "start" });
      });
    }
  };

  vaeLive.figures.playground.arithmetic = { OPTIONS, PRESETS, STEPS, USUAL, experimentOf, linkOf, readLink };
})();
