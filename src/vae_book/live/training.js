// A training of the small VAE on points in the plane, step by step, and what there is to see of it.
(() => {
  "use strict";
  const { adam, forward, makeModel, pass, quadrature, seen, sigmaX, start, stream, update } = vaeLive.vae;
  const BATCH = 125;
  const MOST = 500; // points
  const DRAWS = 300; // from the prior
  const FAR = 0.3; // from the nearest point: a draw that misses the data

  // A training that has begun: `step()` takes one step, `look()` says what there is to see. `points`
  // are x₁ and x₂ of each in turn. They may grow on the way, and the settings that don't ask for
  // another model may change.
  const makeRun = (settings, points, numbers) => {
    const latent = Number(settings.latent), seed = Number(settings.seed);
    const model = makeModel({ latent, width: Number(settings.width), sees: settings.decoder === "x" });
    const random = stream(seed), eyes = stream(seed + 1e6); // what is shown has noise of its own
    const run = { model, numbers: numbers ?? start(model, random), steps: 0 };
    const state = adam(model.size), still = eyes.normals(MOST * latent);
    const drawn = { z: eyes.normals(DRAWS * latent), noise: eyes.normals(2 * DRAWS) };
    let order = [];
    const options = () => {
      const noise = settings.noise === "on"; // without it a code has no KL
      const sigma = settings.sigma === "learned" ? null : Number(settings.sigma);
      return { noise, sigma, weight: noise ? Number(settings.weight) : 0 };
    };
    run.step = () => {
      const count = points.length / 2, size = Math.min(BATCH, count);
      if (order.length < size) order = random.shuffled(count);
      const chosen = order.splice(0, size);
      const batch = Float64Array.from({ length: 2 * size }, (_, k) => points[2 * chosen[k >> 1] + k % 2]);
      const gradient = new Float64Array(model.size);
      pass(model, run.numbers, options(), batch, random.normals(size * latent), gradient);
      update(state, run.numbers, gradient, Number(settings.rate));
      run.steps++;
    };
    // The terms of every point and where all of it lies. Copies are of the middles of the clouds.
    run.look = () => {
      const x = Float64Array.from(points), count = x.length / 2, now = options();
      const { mu, logVar, kl, reconstruction } = pass(model, run.numbers, now, x, still);
      const copies = decode(mu, x);
      const terms = { reconstruction: mean(reconstruction), kl: now.noise ? latent * mean(kl) : 0 };
      const units = Array.from({ length: latent }, (_, i) => unit(mu, kl, latent, i));
      return { x, count, latent, mu, logVar, kl, copies, reconstruction, terms, units, noise: now.noise };
    };
    // The decoder's means for codes `z`, of points whose x₁ it may see.
    const decode = (z, x) => {
      const means = forward(model.decoder, run.numbers, x.length / 2, z).at(-1);
      seen(model, run.numbers, x)?.at(-1).forEach((more, row) => { means[2 * row + 1] += more; });
      return means;
    };
    run.quadrature = side => quadrature(model, run.numbers, options().sigma, side);
    run.sigma = () => sigmaX(model, run.numbers, options().sigma);
    // Points from p(x): a code from the prior, and then a point from the decoder's Gaussian around its
    // mean, x₁ first, for a decoder may see it.
    run.draws = () => {
      const sigma = run.sigma(), x = forward(model.decoder, run.numbers, DRAWS, drawn.z).at(-1);
      drawn.noise.forEach((e, k) => { x[k] += sigma * e; });
      seen(model, run.numbers, x)?.at(-1).forEach((more, row) => { x[2 * row + 1] += more; });
      return x;
    };
    // What codes of the cloud of point `k` decode to.
    run.cloud = (look, k, draws) => {
      const z = draws.map((e, at) => {
        const i = latent * k + at % latent;
        return look.mu[i] + (look.noise ? Math.exp(look.logVar[i] / 2) * e : 0);
      });
      return decode(z, Float64Array.from({ length: 2 * z.length / latent }, (_, at) => look.x[2 * k + at % 2]));
    };
    return run;
  };

  const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;

  // A unit of the code: its mean KL, and whether its middle varies (Burda et al. 2016).
  const unit = (mu, kl, latent, i) => {
    const mine = values => values.filter((_, at) => at % latent === i);
    const middle = mean(mine(mu)), variance = mean(mine(mu).map(value => (value - middle) ** 2));
    return { kl: mean(mine(kl)), active: variance > 0.01 };
  };

  // p(z|x) of one point on a grid of codes, up to a factor: the prior's share times p(x|z).
  const posterior = ({ model, numbers, share, mean: places, sigma }, x) => {
    const more = seen(model, numbers, x)?.at(-1)[0] ?? 0;
    const log = Float64Array.from(share, (part, k) => Math.log(part)
      - ((x[0] - places[2 * k]) ** 2 + (x[1] - places[2 * k + 1] - more) ** 2) / (2 * sigma ** 2));
    const top = log.reduce((most, value) => Math.max(most, value), -Infinity);
    return log.map(value => Math.exp(value - top));
  };

  // How far p(z|x) lies askew: the correlation of its two units. 0 if it is upright, or a single code.
  const askew = (nodes, x) => {
    const values = posterior(nodes, x), side = Math.sqrt(values.length);
    const all = values.reduce((sum, value) => sum + value, 0);
    const average = of => values.reduce((sum, value, k) => sum + value * of(k % side, Math.floor(k / side)), 0) / all;
    const across = average(i => i), up = average((_, j) => j);
    const spread = average(i => (i - across) ** 2) * average((_, j) => (j - up) ** 2);
    return average((i, j) => (i - across) * (j - up)) / (Math.sqrt(spread) || 1);
  };

  // The share of draws that miss all points by more than FAR.
  const astray = (draws, x) => {
    let far = 0;
    for (let k = 0; k < draws.length; k += 2) {
      let nearest = Infinity;
      for (let i = 0; i < x.length; i += 2) {
        nearest = Math.min(nearest, (draws[k] - x[i]) ** 2 + (draws[k + 1] - x[i + 1]) ** 2);
      }
      far += nearest > FAR ** 2;
    }
    return far / (draws.length / 2);
  };

  const median = values => Array.from(values).sort((a, b) => a - b)[values.length >> 1];

  vaeLive.training = { MOST, askew, astray, makeRun, mean, median, posterior };
})();
