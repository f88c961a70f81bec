// The flow: drag through its time, and see points go from noise to codes, and what the decoder makes
// of some of them on the way.
(() => {
  "use strict";
  const { canvas, el, float32, hexImages, int16, player, say, sheet, slider, svg } = vaeLive.parts;
  const EVERY = 110; // milliseconds for each time, while they are played
  const SIZE = 560; // of the plane's canvas, in pixels
  const GREY = "#c2c6cb", BLUE = "#0072b2", ORANGE = "#d55e00";

  // --- arithmetic --------------------------------------------------------------------------------

  // Points as they are packed, [times, N, 2], to one array for each time: x, y of each in turn.
  const unpack = (text, unit, times) => {
    const whole = int16(text), size = whole.length / times;
    return Array.from({ length: times }, (_, k) =>
      Float32Array.from(whole.subarray(k * size, (k + 1) * size), value => value * unit));
  };

  // The time of each look, from 0 to 1.
  const timeOf = (look, times) => look / (times - 1);

  const flow = (root, data) => {
    const { times, reach, image, drawings } = data;
    const last = times - 1, size = image.height * image.width;
    const codes = float32(data.codes);
    const places = unpack(data.points, data.unit, times);
    const pictures = hexImages(data.images, size);
    const row = sheet(drawings, { ...image, columns: 4 });
    const plane = makePlane(codes, places, drawings, reach);
    const note = el("p", { class: "note" }), hint = el("span", { class: "hint" });
    const say2 = look => say(timeOf(look, times));
    const scrub = slider({ label: "time t", min: 0, max: last, step: 1, value: last, say: say2,
      tell: look => `t = ${say2(look)}: ${inWords(look, times)}`,
      moved: look => { play.stop(); draw(look); } });
    const play = player({ label: "Play the flow", count: times, every: EVERY,
      show: look => { scrub.set(look); draw(look); } });

    function draw(look) {
      plane.draw(look);
      row.draw(pictures.slice(look * drawings, (look + 1) * drawings));
      const when = `at t = ${say2(look)}`;
      plane.root.setAttribute("aria-label", `The plane of codes ${when}: ${inWords(look, times)}`);
      row.root.setAttribute("aria-label", `What the decoder makes of ${drawings} of the points ${when}`);
      note.textContent = `${when[0].toUpperCase()}${when.slice(1)}: ${inWords(look, times)}`;
      hint.textContent = look > 0 ? "Drag the time back to 0." : "Now forward again.";
    }

    const key = (kind, words) => el("span", {}, el("i", { class: kind }), words);
    root.append(
      el("div", { class: "stage" }, plane.root,
        el("div", { class: "drawn" }, el("p", { class: "caption" }, "what the orange points decode to"), row.root)),
      el("div", { class: "paper key", "aria-hidden": "true" }, key("of-codes", "codes of real images"),
        key("of-points", "points on their way"), key("of-shown", "those that are decoded")),
      scrub.root, el("div", { class: "controls" }, play.root, hint), note);
    draw(last);
  };

  const inWords = (look, times) => {
    if (look === 0) return "the points are noise from N(0, I), and decode to blots.";
    if (look === times - 1) return "the points lie where codes lie, and decode to digits.";
    return look < 0.6 * (times - 1) ? "the points are on their way." : "digits take shape.";
  };

  // --- drawing -----------------------------------------------------------------------------------

  // The codes, all points, and the way that those have come which are decoded.
  const makePlane = (codes, places, shown, reach) => {
    const field = canvas(SIZE, SIZE), context = field.getContext("2d");
    const at = value => (value + reach) / (2 * reach) * SIZE;
    const dots = (points, radius, colour) => {
      context.fillStyle = colour;
      for (let i = 0; i < points.length; i += 2) {
        context.beginPath();
        context.arc(at(points[i]), SIZE - at(points[i + 1]), radius, 0, 2 * Math.PI);
        context.fill();
      }
    };
    const ways = look => {
      context.strokeStyle = ORANGE;
      context.lineWidth = 2;
      for (let i = 0; i < 2 * shown; i += 2) {
        context.beginPath();
        for (let k = 0; k <= look; k++) context.lineTo(at(places[k][i]), SIZE - at(places[k][i + 1]));
        context.stroke();
      }
    };
    return {
      root: el("div", { class: "paper plane", role: "img" }, field),
      draw: look => {
        context.clearRect(0, 0, SIZE, SIZE);
        dots(codes, 2, GREY);
        dots(places[look].subarray(2 * shown), 3, BLUE);
        ways(look);
        dots(places[look].subarray(0, 2 * shown), 6, ORANGE);
      },
    };
  };

  flow.arithmetic = { unpack, timeOf, inWords };
  vaeLive.figures.flow = flow;
})();
