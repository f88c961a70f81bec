// The weight slider: from one trained model of the ladder to the next, and what the weight of the KL
// did to its rate and its error, its clouds, its copies and its drawings.
(() => {
  "use strict";
  const AT_LEAST = 4; // how far the axis of the clouds reaches to either side
  const STRIP = 0.13; // share of the curve's width for the model without KL, off the scale
  const HEIGHT = 0.96; // of every bell, as a share of the drawing's
  const BELL = Array.from({ length: 61 }, (_, k) => -3.6 + 0.12 * k); // where a bell is computed
  const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]; // as in the book's plots

  vaeLive.figures.weight = (root, data) => {
    const { el, hexImages, say, sheet, slider } = vaeLive.parts;
    const { rungs, image } = data;
    const pictures = rungs.map(({ copies, drawn }) =>
      [copies, drawn].map(text => hexImages(text, image.width * image.height)));
    const [eight, sixteen] = pictures[0].map(images => images.length);

    const curve = makeCurve(rungs, data.seeds ?? {}, at => { knob.set(at); draw(at); });
    const bells = makeBells();
    const copies = sheet(eight, { ...image, columns: 4 });
    const drawn = sheet(sixteen, { ...image, columns: 8 });
    const title = el("strong"), words = el("span");
    const drawnCaption = el("p", { class: "caption" });
    const knob = slider({
      label: "weight w of the KL", min: 0, max: rungs.length - 1, step: 1, value: data.start,
      say: at => rungs[at].name, tell: at => inWords(rungs[at], say), moved: at => draw(at),
    });

    function draw(at) {
      const rung = rungs[at];
      const distance = `Fréchet distance ${say(rung.fd, 0)}`;
      curve.draw(at);
      bells.draw(rung);
      title.textContent = `${rung.name}: ${rung.title}. `;
      words.textContent = rung.words;
      copies.draw(pictures[at][0]);
      drawn.draw(pictures[at][1]);
      drawnCaption.textContent = `drawn from N(0, I), ${distance}`;
      copies.root.setAttribute("aria-label",
        `${eight} copies of an 8 at ${rung.name}, squared error ${say(rung.distortion, 1)}`);
      drawn.root.setAttribute("aria-label", `${sixteen} drawings at ${rung.name}, ${distance}`);
    }

    const captioned = (caption, panel, kind) => el("div", { class: kind }, caption, panel);
    const caption = text => el("p", { class: "caption" }, text);
    knob.root.append(el("span", { class: "marks", "aria-hidden": "true" },
      ...rungs.map(({ weight }) => el("span", {}, String(weight)))),
    el("span", { class: "deaths", "aria-hidden": "true" },
      ...[rungs[0], rungs.at(-1)].map(rung => el("span", {}, rung.title))));
    root.classList.add("weight");
    root.append(
      el("div", { class: "panels" },
        captioned(caption("every model is a point, named by its w"), curve.root, "on-curve"),
        captioned(caption("clouds of ten images, and N(0, 1) dashed"), bells.root, "of-ten")),
      knob.root,
      el("p", { class: "note" }, title, words),
      el("div", { class: "images" },
        captioned(caption("our 8, copied from its cloud"), copies.root, "of-eight"),
        captioned(drawnCaption, drawn.root, "of-noise")),
    );
    draw(data.start);
  };

  const inWords = ({ name, rate, distortion }, say) =>
    `${name}, rate ${say(rate, rate < 100 ? 1 : 0)} nats, squared error ${say(distortion, 1)}`;

  // --- arithmetic --------------------------------------------------------------------------------

  // The ends of a list of numbers.
  const ends = values => [Math.min(...values), Math.max(...values)];

  // Round numbers from `low` to `high`, about `count` of them.
  const ticks = (low, high, count) => {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find(factor => factor * power >= rough);
    const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
    return Array.from({ length: last - first + 1 }, (_, k) => (first + k) * step);
  };

  // How far to either side of 0 an axis reaches that shows all clouds.
  const reach = clouds => {
    const farthest = Math.max(...clouds.map(([mu, sigma]) => Math.abs(mu) + 2 * sigma));
    return farthest > AT_LEAST ? 1.05 * farthest : AT_LEAST;
  };

  // A cloud as a bell, in points from (0, 0), bottom left, to (1, 1), top right.
  const bell = (mu, sigma, half) =>
    BELL.map(e => [(mu + sigma * e + half) / (2 * half), HEIGHT * Math.exp(-e * e / 2)]);

  // Where the models stand, from (0, 0) to (1, 1). A model without KL stands in a strip on the
  // right: its rate means only that nothing held it.
  const frame = (rungs, points) => {
    const scale = 1 - STRIP;
    const right = 1.06 * Math.max(...points.map(([rate]) => rate));
    const top = 1.1 * Math.max(...rungs.map(rung => rung.distortion), ...points.map(point => point[1]));
    const place = (rate, distortion) => [scale * rate / right, distortion / top];
    const of = ({ weight, rate, distortion }) =>
      weight === 0 ? [1 - STRIP / 2, distortion / top] : place(rate, distortion);
    return { right, top, scale, place, of };
  };

  // The outline of the band: along the smallest rates and errors of each weight's seeds, and back
  // along the largest.
  const outline = groups => {
    const boxes = groups.map(points => [0, 1].map(i => ends(points.map(point => point[i]))));
    const corner = k => boxes.map(box => box.map(range => range[k]));
    return [...corner(0), ...corner(1).reverse()];
  };

  const nearest = (places, x, y, width, height) => {
    const distances = places.map(([u, v]) => Math.hypot((u - x) * width, (v - y) * height));
    return distances.indexOf(Math.min(...distances));
  };

  vaeLive.figures.weight.arithmetic = { bell, frame, inWords, nearest, outline, reach, ticks };

  // --- drawing -----------------------------------------------------------------------------------

  // A drawing that is stretched over its area, from (0, 0), bottom left, to (1, 1), while lines keep
  // their width and words their size: those are elements of the page, put at a place of the area.
  const makeArea = (kind, ...shapes) => {
    const { el, svg } = vaeLive.parts;
    const stretched = { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" };
    const area = el("div", { class: "field" }, svg("svg", stretched, ...shapes));
    const root = el("div", { class: `paper plot ${kind}`, role: "img" }, area);
    const put = (mark, [x, y]) => {
      mark.style.left = `${100 * x}%`;
      mark.style.top = `${100 * (1 - y)}%`;
    };
    const write = (text, at, name) => {
      const word = el("span", { class: name }, text);
      put(word, at);
      area.append(word);
      return word;
    };
    return { root, area, put, write };
  };

  const path = places => places.map(([x, y]) => `${x.toFixed(5)},${(1 - y).toFixed(5)}`).join(" ");

  // The curve of rate and squared error, with the chosen model on it.
  const makeCurve = (rungs, seeds, picked) => {
    const { el, say, svg } = vaeLive.parts;
    const onScale = rungs.filter(rung => rung.weight > 0);
    const pointsOf = rung => seeds[rung.name] ?? [[rung.rate, rung.distortion]];
    const { right, top, scale, place, of } = frame(rungs, onScale.flatMap(pointsOf));
    const places = rungs.map(of);
    const band = outline(onScale.map(pointsOf)).map(point => place(...point));
    const cross = svg("polyline", { class: "crosshair" });
    const { root, area, put, write } = makeArea("rates",
      svg("rect", { class: "strip", x: scale, y: 0, width: STRIP, height: 1 }),
      cross,
      svg("polygon", { class: "band", points: path(band) }),
      svg("polyline", { class: "line", points: path(onScale.map(of)) }));
    for (const tick of ticks(0, right, 4)) write(say(tick, 0), [scale * tick / right, 0], "tick across");
    for (const tick of ticks(0, top, 3)) write(say(tick, 0), [0, tick / top], "tick up");
    write("rate: average KL in nats", [scale, 0], "axis-name across");
    write("squared error", [0, 1], "axis-name up");
    write("off scale", [1 - STRIP / 2, 1], "off");
    const marks = rungs.map((rung, k) => {
      write(String(rung.weight), places[k], places[k][0] > 0.3 ? "weight-of above" : "weight-of");
      return write("", places[k], "model");
    });
    const reading = el("div", { class: "reading" });
    area.append(reading);
    root.addEventListener("click", event => {
      const box = area.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width, y = (box.bottom - event.clientY) / box.height;
      picked(nearest(places, x, y, box.width, box.height));
    });
    return {
      root,
      draw: at => {
        const rung = rungs[at], [x, y] = places[at];
        marks.forEach((mark, k) => mark.classList.toggle("chosen", k === at));
        cross.setAttribute("points", path([[0, y], [x, y], [x, 0]]));
        const lines = inWords(rung, say).split(", ");
        if (seeds[rung.name]) lines.push(...rangeOf(seeds[rung.name], say));
        reading.replaceChildren(...lines.map(line => el("div", {}, line)));
        root.setAttribute("aria-label", "Squared error against rate: a falling curve through "
          + `${rungs.length} models. Here ${lines.join(", ")}.`);
      },
    };
  };

  const rangeOf = (points, say) => {
    const [rates, errors] = [0, 1].map(i => ends(points.map(point => point[i])));
    const range = ([low, high]) => `${say(low)} to ${say(high)}`;
    return [`${points.length} seeds`, `rate ${range(rates)}`, `error ${range(errors)}`];
  };

  // The clouds of some images in one coordinate, all drawn equally high.
  const makeBells = () => {
    const { el, say, svg } = vaeLive.parts;
    const clouds = svg("g"), prior = svg("polyline", { class: "standard" });
    const { root, area, put } = makeArea("ten-bells", clouds, prior);
    const axis = el("div", { class: "axis" }), longer = el("div", { class: "longer" });
    area.append(axis, longer);
    return {
      root,
      draw: ({ name, clouds: sizes }) => {
        const half = reach(sizes);
        clouds.replaceChildren(...sizes.map(([mu, sigma], k) => {
          const stroke = COLOURS[k % COLOURS.length], points = path(bell(mu, sigma, half));
          return svg("polyline", { class: "bell", points, stroke, fill: stroke });
        }));
        prior.setAttribute("points", path(bell(0, 1, half)));
        axis.replaceChildren(...ticks(-half, half, 6).map(tick => {
          const word = el("span", { class: "tick across" }, say(tick, 0));
          put(word, [(tick + half) / (2 * half), 0]);
          return word;
        }));
        longer.textContent = half > AT_LEAST ? "a longer axis" : "";
        const widths = ends(sizes.map(([, sigma]) => sigma)), middles = ends(sizes.map(([mu]) => mu));
        root.setAttribute("aria-label", `Clouds of ${sizes.length} images at ${name} as bells: middles from `
          + `${say(middles[0])} to ${say(middles[1])}, widths from ${say(widths[0])} to ${say(widths[1])}; `
          + "N(0, 1) is dashed.");
      },
    };
  };
})();
