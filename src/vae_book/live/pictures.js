// The pictures of the VAE playground: points, codes and draws in squares of the plane, the terms of the
// bound as curves, and a bar for each unit. They are given a run and a look at it, as playground.js
// makes them.
(() => {
  "use strict";
  const { canvas, el, say, svg } = vaeLive.parts;
  const { REACH } = vaeLive.vae;
  const EDGE = 2.6; // x₁ and x₂ go from -2.6 to 2.6
  const SIZE = 520, DOT = 3; // of a plane's canvas, and the radius of a code on it, in pixels
  const INK = "#22262b", GREY = "#8b9199", ORANGE = "#d55e00";
  const SHADES = [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [110, 200, 90]];
  const CELLS = 40; // of the shading of q(z), in each direction
  const SHOWN = 40; // clouds, and draws from each
  const IN_CLOUD = 10;

  // The colour at a place along a shape, from 0 to 1.
  const colourOf = along => {
    const at = along * (SHADES.length - 1), k = Math.min(Math.floor(at), SHADES.length - 2);
    return `rgb(${SHADES[k].map((from, i) => Math.round(from + (at - k) * (SHADES[k + 1][i] - from)))})`;
  };

  // Points of about the same place along their shape get one colour, and are drawn in one go: for
  // each colour the numbers of its points.
  const COLOURS = 12;
  const groupsOf = along => Array.from({ length: COLOURS }, (_, c) => ({
    colour: colourOf(c / (COLOURS - 1)),
    members: along.flatMap((value, k) => Math.min(Math.floor(value * COLOURS), COLOURS - 1) === c ? [k] : []),
  }));

  // A square of the plane from -edge to edge.
  const makePlane = () => {
    const field = canvas(SIZE, SIZE), context = field.getContext("2d");
    const root = el("div", { class: "paper plane", role: "img" }, field);
    const shading = canvas(CELLS, CELLS).getContext("2d");
    let edge = EDGE;
    const across = x => (x + edge) / (2 * edge) * SIZE, down = y => SIZE - across(y);
    const clear = wide => { edge = wide; context.clearRect(0, 0, SIZE, SIZE); };
    const dots = (places, radius, colour) => {
      context.fillStyle = colour;
      context.beginPath();
      for (const [x, y] of places) {
        context.moveTo(across(x) + radius, down(y));
        context.arc(across(x), down(y), radius, 0, 2 * Math.PI);
      }
      context.fill();
    };
    const segments = (pairs, colour, width) => {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      for (const [from, to] of pairs) {
        context.moveTo(across(from[0]), down(from[1]));
        context.lineTo(across(to[0]), down(to[1]));
      }
      context.stroke();
    };
    const line = (places, colour, width, dash = []) => {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.setLineDash(dash);
      context.beginPath();
      for (const [x, y] of places) context.lineTo(across(x), down(y));
      context.stroke();
      context.setLineDash([]);
    };
    const ellipse = (x, y, a, b, colour, width, dash = []) => {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.setLineDash(dash);
      context.beginPath();
      context.ellipse(across(x), down(y), a / (2 * edge) * SIZE, b / (2 * edge) * SIZE, 0, 0, 2 * Math.PI);
      context.stroke();
      context.setLineDash([]);
    };
    // Values on a grid from -reach to reach, rows from the bottom; the largest gets the darkest ink.
    const shade = (values, side, reach, [red, green, blue], darkest) => {
      const most = values.reduce((top, value) => Math.max(top, value), 0);
      const pixels = shading.createImageData(side, side);
      for (let j = 0; j < side; j++) {
        for (let i = 0; i < side; i++) {
          const at = 4 * ((side - 1 - j) * side + i), ink = Math.sqrt(values[j * side + i] / (most || 1));
          pixels.data.set([red, green, blue, 255 * darkest * ink], at);
        }
      }
      shading.canvas.width = shading.canvas.height = side;
      shading.putImageData(pixels, 0, 0);
      context.drawImage(shading.canvas, across(-reach), down(reach), reach / edge * SIZE, reach / edge * SIZE);
    };
    return { root, clear, dots, segments, line, ellipse, shade };
  };

  // The places x₁, x₂ of a flat list, one after the other.
  const pairs = flat => Array.from({ length: flat.length / 2 }, (_, k) => [flat[2 * k], flat[2 * k + 1]]);

  // Every point, a line from it to its copy, and for some what their clouds decode to.
  const drawData = (plane, { run, look, groups, watched, still }) => {
    const points = pairs(look.x), copies = pairs(look.copies), { count, latent } = look;
    plane.clear(EDGE);
    for (const { colour, members } of groups) plane.dots(members.map(k => points[k]), 5, colour);
    const some = still.subarray(0, IN_CLOUD * latent);
    plane.dots(shown(count).flatMap(k => pairs(run.cloud(look, k, some))), 2.5, GREY);
    for (const { colour, members } of groups) plane.segments(members.map(k => [points[k], copies[k]]), colour, 1.5);
    plane.dots(copies, 2.5, INK);
    plane.dots(pairs(run.cloud(look, watched, still)), 3, ORANGE);
    plane.ellipse(...points[watched], 0.16, 0.16, ORANGE, 4);
  };

  // The points whose clouds are drawn.
  const shown = count => {
    const every = Math.ceil(count / SHOWN);
    return Array.from({ length: Math.ceil(count / every) }, (_, k) => k * every);
  };

  // Where the keys would put points.
  const drawPen = (plane, [x, y]) => {
    plane.line([[x - 0.15, y], [x + 0.15, y]], ORANGE, 4);
    plane.line([[x, y - 0.15], [x, y + 0.15]], ORANGE, 4);
  };

  // How far the plane of codes reaches: few sizes, so that it doesn't shake.
  const REACHES = [3, 4, 6, 9, 13, 20, 30, 50, 80, 130, 200];
  const reachOf = ({ mu }) => {
    const far = mu.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    return REACHES.find(reach => far < 0.97 * reach) ?? far;
  };

  const deviations = look => look.logVar.map(value => look.noise ? Math.exp(value / 2) : 0);

  // q(z), the mean of all clouds, on a grid from -reach to reach. Clouds narrower than a cell are
  // drawn as wide as one; in a plane those smaller than a dot are left out, for the dots show them.
  const allCodes = (look, side, reach) => {
    const { mu, latent, count } = look, sigma = deviations(look), cell = 2 * reach / side, dot = 2 * reach * DOT / SIZE;
    const place = k => (k + 0.5) * cell - reach;
    const bell = (at, k) => {
      const wide = Math.max(sigma[at], cell);
      return Math.exp(-(((place(k) - mu[at]) / wide) ** 2) / 2) / wide / Math.sqrt(2 * Math.PI) / count;
    };
    const density = new Float64Array(side ** latent);
    const span = at => {
      const middle = (mu[at] + reach) / cell, half = 4 * Math.max(sigma[at] / cell, 1);
      return [Math.max(Math.floor(middle - half), 0), Math.min(Math.ceil(middle + half), side)];
    };
    for (let k = 0; k < count; k++) {
      const [left, right] = span(latent * k);
      if (latent === 1) {
        for (let i = left; i < right; i++) density[i] += bell(k, i);
        continue;
      }
      if (Math.max(sigma[2 * k], sigma[2 * k + 1]) < dot) continue;
      const [low, high] = span(2 * k + 1);
      const row = Array.from({ length: right - left }, (_, i) => bell(2 * k, left + i));
      for (let j = low; j < high; j++) {
        const up = count * bell(2 * k + 1, j);
        for (let i = left; i < right; i++) density[j * side + i] += row[i - left] * up;
      }
    }
    return density;
  };

  // The plane of codes, or their axis: q(z) as shading, the prior dashed, clouds as outlines.
  const drawCodes = (plane, scene) => {
    const reach = reachOf(scene.look);
    plane.clear(reach);
    (scene.look.latent === 1 ? drawAxis : drawField)(plane, scene, reach);
  };

  const drawField = (plane, { look, groups, watched, explains }, reach) => {
    const { count, noise } = look, middles = pairs(look.mu), sigma = pairs(deviations(look));
    if (noise) plane.shade(allCodes(look, CELLS, reach), CELLS, reach, [0, 114, 178], 0.45);
    if (explains) plane.shade(explains.values, explains.side, REACH, [213, 94, 0], 0.9);
    for (const k of [1, 2]) plane.ellipse(0, 0, k, k, INK, 2.5, [9, 7]);
    const outlined = new Set(noise ? shown(count) : []);
    for (const { colour, members } of groups) {
      plane.dots(members.map(k => middles[k]), DOT, colour);
      for (const k of members) if (outlined.has(k)) plane.ellipse(...middles[k], ...sigma[k], colour, 1.5);
    }
    plane.dots([middles[watched]], 6, ORANGE);
    if (noise) plane.ellipse(...middles[watched], ...sigma[watched], ORANGE, 5);
  };

  // With one unit the codes lie on a line; bells stand on it, those of single points equally high.
  const drawAxis = (plane, { look, groups, watched, explains }, reach) => {
    const { mu, count, noise } = look, sigma = deviations(look), side = 6 * CELLS;
    const ground = -0.8 * reach, low = -0.88 * reach;
    const grid = Array.from({ length: side }, (_, k) => (k + 0.5) / side * 2 * reach - reach);
    const normal = z => Math.exp(-z * z / 2);
    const curve = (values, colour, width, dash) =>
      plane.line(grid.map((z, k) => [z, ground + reach * values[k]]), colour, width, dash);
    const bell = (k, colour, width) => {
      const wide = Math.max(sigma[k], reach / side);
      curve(grid.map(z => 0.5 * normal((z - mu[k]) / wide)), colour, width);
    };
    plane.line([[-reach, ground], [reach, ground]], GREY, 2);
    if (noise) {
      const heights = allCodes(look, side, reach).map(value => Math.min(1.4 * value, 1.75));
      plane.segments(grid.map((z, k) => [[z, ground], [z, ground + reach * heights[k]]]), "rgb(0 114 178 / 35%)", 3);
    }
    curve(grid.map(z => 1.4 * normal(z) / Math.sqrt(2 * Math.PI)), INK, 2.5, [9, 7]);
    const outlined = new Set(noise ? shown(count) : []);
    for (const { colour, members } of groups) {
      plane.dots(members.map(k => [mu[k], low]), 3, colour);
      for (const k of members) if (outlined.has(k)) bell(k, colour, 1.5);
    }
    plane.dots([[mu[watched], low]], 6, ORANGE);
    if (noise) bell(watched, ORANGE, 5);
    if (explains) {
      const { side: count, values } = explains, place = k => REACH * (2 * (k + 0.5) / count - 1);
      const heights = Array.from(values, (value, k) => [place(k), ground + 0.5 * reach * value]);
      plane.line(heights, "rgb(213 94 0 / 55%)", 3, [3, 3]);
    }
  };

  // p(x) as a landscape, and draws from it.
  const drawModel = (plane, density, draws) => {
    plane.clear(EDGE);
    plane.shade(density, Math.sqrt(density.length), EDGE, [34, 38, 43], 0.85);
    plane.dots(pairs(draws), 3, "#0072b2");
  };

  // --- the curves --------------------------------------------------------------------------------

  const LINES = { reconstruction: "reconstruction", kl: "KL", bound: "−ELBO", evidence: "−log p(x)" };
  const KEPT = 400; // entries of the history

  // What is remembered of a training: both terms after some of its steps, fewer as it gets longer.
  const remember = (past, step, { reconstruction, kl }) => {
    const now = [step, reconstruction, kl];
    if (past.at(-1)?.[0] === step) past[past.length - 1] = now; else past.push(now);
    const last = past.length - 1;
    if (last === KEPT) past.splice(0, last + 1, ...past.filter((_, k) => k % 2 === 0 || k === last));
  };

  // From the lowest value to the highest of the later half; early ones may be far off.
  const rangeOf = (past, evidence) => {
    const late = past.slice(Math.floor(past.length / 2));
    const terms = late.flatMap(([, reconstruction, kl]) => [reconstruction, kl, reconstruction + kl]);
    const values = [0, evidence, ...terms].filter(Number.isFinite);
    const low = Math.min(...values), high = Math.max(...values), room = 0.06 * Math.max(high - low, 1);
    return [low - room, high + room];
  };

  // Labels beside the ends of their lines, moved apart where they would touch; shares of the height.
  const apart = (places, least) => {
    const order = places.map((_, k) => k).sort((a, b) => places[a] - places[b]), moved = [...places];
    order.forEach((k, at) => { if (at) moved[k] = Math.max(moved[k], moved[order[at - 1]] + least); });
    let limit = 1 - least / 2;
    for (const k of order.reverse()) { moved[k] = Math.min(moved[k], limit); limit = moved[k] - least; }
    return moved;
  };

  const makeCurves = () => {
    const keys = Object.keys(LINES);
    const lines = keys.map(key => svg("polyline", { class: key }));
    const area = el("div", { class: "field" },
      svg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" }, ...lines));
    const zero = el("div", { class: "zero" }), gap = el("div", { class: "gap" });
    const labels = keys.map(key => el("span", { class: key }));
    area.append(zero, gap);
    const root = el("div", { class: "paper curves", role: "img" }, area, el("div", { class: "names" }, ...labels));
    return {
      root,
      draw: (past, noise, evidence) => {
        const [low, high] = rangeOf(past, evidence), last = past.at(-1);
        const up = value => Math.min(Math.max((high - value) / (high - low), -0.5), 1.5);
        const across = step => step / Math.max(last[0], 1);
        const of = { reconstruction: ([, rec]) => rec, kl: ([, , kl]) => kl, bound: ([, rec, kl]) => rec + kl,
          evidence: () => evidence };
        const values = keys.map(key => noise || key === "reconstruction" ? of[key](last) : NaN);
        const known = values.map(Number.isFinite);
        const places = apart(values.map((value, k) => known[k] ? up(value) : 1), 0.17);
        keys.forEach((key, k) => {
          const points = known[k] ? past.map(entry => `${across(entry[0])},${up(of[key](entry))}`).join(" ") : "";
          lines[k].setAttribute("points", points);
          labels[k].textContent = known[k] ? `${LINES[key]} ${say(values[k])}` : "";
          labels[k].style.top = `${100 * places[k]}%`;
        });
        zero.style.top = `${100 * up(0)}%`;
        gap.hidden = !(known[3] && values[2] > evidence);
        gap.style.top = `${100 * up(values[2])}%`;
        gap.style.height = `${100 * (up(evidence) - up(values[2]))}%`;
        return labels.map(label => label.textContent).filter(Boolean).join(", ");
      },
    };
  };

  // A bar for each unit of the code: its KL, and whether it is active.
  const makeUnits = () => {
    const rows = [1, 2].map(number => {
      const bar = el("i"), words = el("span");
      const root = el("div", {}, el("span", {}, `unit ${number}`), el("div", { class: "track" }, bar), words);
      return { bar, words, root };
    });
    return {
      root: el("div", { class: "paper units" }, ...rows.map(row => row.root)),
      draw: ({ units, noise }) => rows.forEach(({ root, bar, words }, k) => {
        root.classList.toggle("absent", k >= units.length);
        if (k >= units.length) return;
        const { kl, active } = units[k], state = active ? "active" : "silent";
        bar.style.width = noise ? `${Math.min(100 * kl / 4, 100)}%` : "0";
        words.textContent = noise ? `${say(kl)} nats, ${state}` : `no noise, ${state}`;
      }),
    };
  };

  vaeLive.pictures = { EDGE, REACHES, apart, deviations, drawCodes, drawData, drawModel, drawPen, groupsOf,
    makeCurves, makePlane, makeUnits, reachOf, remember };
})();
