// A small VAE that trains on the page: fully connected networks and their gradients, Adam, a seeded
// stream of noise, and p(x) by quadrature. No page and no drawing.
(() => {
  "use strict";
  const live = (globalThis.vaeLive ??= { figures: {}, data: {} });
  const LOG_2PI = Math.log(2 * Math.PI);
  const MIN_SIGMA = 0.02; // a learned σₓ stays above it

  // --- random numbers ----------------------------------------------------------------------------

  // The same numbers from the same seed in every browser: mulberry32, and Box-Muller for normal ones.
  const stream = seed => {
    let state = seed >>> 0;
    const uniform = () => {
      state = (state + 0x6D2B79F5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
    const normal = () =>
      Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
    const normals = count => Float64Array.from({ length: count }, normal);
    // The numbers from 0 to count - 1 in random order.
    const shuffled = count => {
      const order = Array.from({ length: count }, (_, k) => k);
      for (let k = count - 1; k > 0; k--) {
        const other = Math.floor(uniform() * (k + 1));
        [order[k], order[other]] = [order[other], order[k]];
      }
      return order;
    };
    return { uniform, normals, shuffled };
  };

  // --- fully connected networks ------------------------------------------------------------------

  // All numbers of a model stand in one array; a layer says where in it its weights and biases begin.
  const layers = (sizes, start) => sizes.slice(1).map((outputs, k) => {
    const weight = start, bias = start + outputs * sizes[k];
    start = bias + outputs;
    return { inputs: sizes[k], outputs, weight, bias, end: start };
  });

  // What each layer puts out for some rows of inputs, the inputs first. A ReLU follows every layer
  // but the last.
  const forward = (network, numbers, rows, inputs) => {
    const values = [inputs];
    network.forEach(({ inputs: n, outputs: m, weight, bias }, k) => {
      const from = values[k], to = new Float64Array(rows * m), last = k === network.length - 1;
      for (let row = 0; row < rows; row++) {
        for (let j = 0; j < m; j++) {
          let sum = numbers[bias + j];
          for (let i = 0; i < n; i++) sum += numbers[weight + j * n + i] * from[row * n + i];
          to[row * m + j] = last || sum > 0 ? sum : 0;
        }
      }
      values.push(to);
    });
    return values;
  };

  // Backpropagation: from the slopes of a loss by the outputs to those by the inputs. The slopes by
  // weights and biases are added to `gradient`.
  const backward = (network, numbers, rows, values, slopes, gradient) => {
    for (let k = network.length - 1; k >= 0; k--) {
      const { inputs: n, outputs: m, weight, bias } = network[k];
      const from = values[k], below = new Float64Array(rows * n);
      for (let row = 0; row < rows; row++) {
        for (let j = 0; j < m; j++) {
          const slope = slopes[row * m + j];
          if (slope === 0) continue;
          gradient[bias + j] += slope;
          for (let i = 0; i < n; i++) {
            gradient[weight + j * n + i] += slope * from[row * n + i];
            below[row * n + i] += slope * numbers[weight + j * n + i];
          }
        }
      }
      if (k > 0) below.forEach((_, at) => { if (from[at] === 0) below[at] = 0; }); // the ReLU
      slopes = below;
    }
    return slopes;
  };

  // Adam, with the usual settings (Kingma and Ba 2015).
  const adam = size => ({ steps: 0, mean: new Float64Array(size), square: new Float64Array(size) });

  const update = (state, numbers, gradient, rate) => {
    state.steps++;
    const step = rate / (1 - 0.9 ** state.steps), grown = Math.sqrt(1 - 0.999 ** state.steps);
    for (let k = 0; k < numbers.length; k++) {
      state.mean[k] += 0.1 * (gradient[k] - state.mean[k]);
      state.square[k] += 0.001 * (gradient[k] ** 2 - state.square[k]);
      numbers[k] -= step * state.mean[k] / (Math.sqrt(state.square[k]) / grown + 1e-8);
    }
  };

  // --- the VAE -----------------------------------------------------------------------------------

  // Where a VAE of points in the plane has its numbers. A decoder that `sees` x₁ adds a function of
  // it to its mean of x₂.
  const makeModel = ({ latent, width, sees }) => {
    const encoder = layers([2, width, width, 2 * latent], 0);
    const decoder = layers([latent, width, width, 2], encoder.at(-1).end);
    const sight = sees ? layers([1, width, 1], decoder.at(-1).end) : [];
    const excess = (sight.at(-1) ?? decoder.at(-1)).end; // log of σₓ² above its least
    return { latent, encoder, decoder, sight, excess, size: excess + 1 };
  };

  // As PyTorch starts: every number uniform between ± 1/√inputs; σₓ starts at 0.5.
  const start = (model, random) => {
    const numbers = new Float64Array(model.size);
    for (const { inputs, weight, end } of [...model.encoder, ...model.decoder, ...model.sight]) {
      for (let at = weight; at < end; at++) numbers[at] = (2 * random.uniform() - 1) / Math.sqrt(inputs);
    }
    numbers[model.excess] = Math.log(0.5 ** 2 - MIN_SIGMA ** 2);
    return numbers;
  };

  const sigmaX = (model, numbers, fixed) =>
    fixed ?? Math.sqrt(MIN_SIGMA ** 2 + Math.exp(numbers[model.excess]));

  // What a decoder that sees x₁ of the points `x` adds for each, with what leads to it; else null.
  const seen = (model, numbers, x) =>
    model.sight.length ? forward(model.sight, numbers, x.length / 2, x.filter((_, k) => k % 2 === 0)) : null;

  // One pass of points `x`, x₁ and x₂ of each in turn, with the noise of their codes: both terms of
  // each point in nats. With a `gradient` the slopes of their mean loss are added to it, in which
  // the KL counts `weight` times. `sigma` is σₓ, or null where it is learned.
  const pass = (model, numbers, { weight, sigma, noise }, x, draws, gradient) => {
    const { latent } = model, rows = x.length / 2;
    const encoded = forward(model.encoder, numbers, rows, x), q = encoded.at(-1);
    const mu = new Float64Array(rows * latent), logVar = new Float64Array(rows * latent);
    const z = new Float64Array(rows * latent), kl = new Float64Array(rows * latent);
    for (let row = 0, at = 0; row < rows; row++) {
      for (let i = 0; i < latent; i++, at++) {
        mu[at] = q[2 * row * latent + i];
        logVar[at] = q[2 * row * latent + latent + i];
        z[at] = mu[at] + (noise ? Math.exp(logVar[at] / 2) * draws[at] : 0);
        kl[at] = (mu[at] ** 2 + Math.exp(logVar[at]) - 1 - logVar[at]) / 2;
      }
    }
    const decoded = forward(model.decoder, numbers, rows, z), mean = decoded.at(-1).slice();
    const sight = seen(model, numbers, x);
    if (sight) sight.at(-1).forEach((more, row) => { mean[2 * row + 1] += more; });
    const variance = sigmaX(model, numbers, sigma) ** 2;
    const squares = new Float64Array(rows), reconstruction = new Float64Array(rows);
    for (let row = 0; row < rows; row++) {
      squares[row] = (x[2 * row] - mean[2 * row]) ** 2 + (x[2 * row + 1] - mean[2 * row + 1]) ** 2;
      reconstruction[row] = squares[row] / (2 * variance) + LOG_2PI + Math.log(variance);
    }
    if (gradient) {
      const slopes = mean.map((value, k) => (value - x[k]) / variance / rows);
      if (sight) {
        const ofSecond = slopes.filter((_, k) => k % 2 === 1);
        backward(model.sight, numbers, rows, sight, ofSecond, gradient);
      }
      if (sigma === null) {
        const square = squares.reduce((sum, value) => sum + value, 0) / rows;
        gradient[model.excess] += (1 - square / (2 * variance)) / variance * Math.exp(numbers[model.excess]);
      }
      const byCode = backward(model.decoder, numbers, rows, decoded, slopes, gradient);
      const byQ = new Float64Array(2 * rows * latent);
      for (let row = 0, at = 0; row < rows; row++) {
        for (let i = 0; i < latent; i++, at++) {
          const deviation = Math.exp(logVar[at] / 2);
          byQ[2 * row * latent + i] = byCode[at] + weight * mu[at] / rows;
          byQ[2 * row * latent + latent + i] = (noise ? byCode[at] * draws[at] * deviation / 2 : 0)
            + weight * (deviation ** 2 - 1) / 2 / rows;
        }
      }
      backward(model.encoder, numbers, rows, encoded, byQ, gradient);
    }
    return { mu, logVar, kl, mean, reconstruction };
  };

  // --- p(x) --------------------------------------------------------------------------------------

  // Where the decoder puts a grid of codes, each with the share of N(0, I) that it stands for: all
  // that p(x) needs. `side` codes from -REACH to REACH in each direction.
  const REACH = 4;
  const quadrature = (model, numbers, sigma, side) => {
    const axis = Array.from({ length: side }, (_, k) => REACH * (2 * (k + 0.5) / side - 1));
    const bell = axis.map(z => Math.exp(-z * z / 2)), sum = bell.reduce((a, b) => a + b, 0);
    const flat = model.latent === 1, count = flat ? side : side * side;
    const z = new Float64Array(count * model.latent), share = new Float64Array(count);
    for (let k = 0; k < count; k++) {
      const i = k % side, j = Math.floor(k / side);
      share[k] = flat ? bell[i] / sum : bell[i] * bell[j] / sum ** 2;
      if (flat) z[k] = axis[i]; else { z[2 * k] = axis[i]; z[2 * k + 1] = axis[j]; }
    }
    const mean = forward(model.decoder, numbers, count, z).at(-1);
    return { model, numbers: numbers.slice(), share, mean, sigma: sigmaX(model, numbers, sigma) };
  };

  // log p(x) of points, in nats: the log of p(x|z), averaged over the grid.
  const logEvidence = ({ model, numbers, share, mean, sigma }, x) => {
    const rows = x.length / 2, scale = 1 / (2 * sigma ** 2);
    const sight = seen(model, numbers, x)?.at(-1);
    return Float64Array.from({ length: rows }, (_, row) => {
      const x1 = x[2 * row], x2 = x[2 * row + 1] - (sight ? sight[row] : 0);
      let nearest = Infinity, sum = 0;
      for (let k = 0; k < share.length; k++) {
        nearest = Math.min(nearest, (x1 - mean[2 * k]) ** 2 + (x2 - mean[2 * k + 1]) ** 2);
      }
      for (let k = 0; k < share.length; k++) {
        const square = (x1 - mean[2 * k]) ** 2 + (x2 - mean[2 * k + 1]) ** 2 - nearest;
        if (square * scale < 40) sum += share[k] * Math.exp(-square * scale);
      }
      return Math.log(sum) - nearest * scale - LOG_2PI - 2 * Math.log(sigma);
    });
  };

  // p(x) on `cells` × `cells` places of the square from -edge to edge, rows from the bottom: each code
  // of the grid leaves its bell there, up to four σₓ away.
  const landscape = ({ model, numbers, share, mean, sigma }, cells, edge) => {
    const size = 2 * edge / cells, place = k => (k + 0.5) * size - edge;
    const sight = seen(model, numbers, Float64Array.from({ length: 2 * cells }, (_, k) => place(k >> 1)))?.at(-1);
    const density = new Float64Array(cells * cells);
    const bell = distance => Math.exp(-((distance / sigma) ** 2) / 2);
    const ratio = Math.exp(-((size / sigma) ** 2)); // from cell to cell a bell's slope changes by it
    const first = middle => Math.max(Math.ceil((middle - 4 * sigma + edge) / size - 0.5), 0);
    const last = middle => Math.min(Math.floor((middle + 4 * sigma + edge) / size - 0.5), cells - 1);
    for (let k = 0; k < share.length; k++) {
      const height = share[k] / (2 * Math.PI * sigma ** 2), across = mean[2 * k];
      for (let i = first(across); i <= last(across); i++) {
        const up = mean[2 * k + 1] + (sight ? sight[i] : 0), from = first(up), to = last(up);
        let value = height * bell(place(i) - across) * bell(place(from) - up);
        let factor = Math.exp(-size * (2 * (place(from) - up) + size) / (2 * sigma ** 2));
        for (let j = from; j <= to; j++) {
          density[j * cells + i] += value;
          value *= factor;
          factor *= ratio;
        }
      }
    }
    return density;
  };

  live.vae = { REACH, adam, backward, forward, landscape, layers, logEvidence, makeModel, pass, quadrature,
    seen, sigmaX, start, stream, update };
})();
