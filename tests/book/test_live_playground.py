"""The VAE playground: its networks, gradients and Adam against PyTorch, p(x) against sums and
vae_core, its links, and that each experiment ends where its sentence says.
"""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn
from torch.distributions import Normal

from v8 import scripts, unpacked
from vae_book.live import vae_playground
from vae_book.live.playground import NEEDS
from vae_book.points import SHAPES, points
from vae_core import VAE, GaussianLikelihood, fit, log_evidence_2d, seed_everything

matplotlib.use("Agg")

SEEDS = range(1, 6)
MIN_SIGMA = 0.02  # as in vae.js


@pytest.fixture(scope="module")
def script():
    """Evaluates an expression in V8, in which the playground's parts are known by their names."""
    with scripts(*NEEDS, "playground") as v8:
        v8.eval(
            "const v = vaeLive.vae, t = vaeLive.training, p = vaeLive.pictures;"
            "const { OPTIONS, PRESETS, STEPS, USUAL, experimentOf, linkOf, readLink } ="
            " vaeLive.figures.playground.arithmetic;"
            "const plain = value => ArrayBuffer.isView(value) ? Array.from(value) : value;"
        )
        yield lambda text: json.loads(v8.eval(f"JSON.stringify({text}, (_, v) => plain(v))"))


def js(values: object) -> str:
    """A tensor as a typed array of the script, anything else as JSON."""
    if isinstance(values, Tensor):
        return f"Float64Array.from({json.dumps(values.double().flatten().tolist())})"
    return json.dumps(values)


class Sees(nn.Module):
    """What the playground's decoder adds to the mean of x₂ where it sees x₁."""

    def __init__(self, width: int):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, mean: Tensor, x: Tensor) -> Tensor:
        return torch.stack([mean[:, 0], mean[:, 1] + self.net(x[:, :1]).squeeze(1)], dim=1)


class Twin:
    """The playground's model in PyTorch: the book's VAE, and what sees x₁."""

    def __init__(self, latent: int, width: int, sigma: float | None, sees: bool):
        learned = {"learned": True, "min_sigma": MIN_SIGMA} if sigma is None else {}
        likelihood = GaussianLikelihood(sigma or 0.4, activation=nn.Identity(), **learned)
        self.vae = VAE(latent, (width, width), 2, likelihood).double()
        if sigma is not None:  # not rounded to float32 first
            likelihood.fixed_sigma = torch.tensor(sigma, dtype=torch.float64)
        self.sees = Sees(width).double() if sees else None
        self.sigma = sigma
        self.options = {"latent": latent, "width": width, "sees": sees}

    def parameters(self) -> list[Tensor]:
        parts = [self.vae.encoder, self.vae.decoder, *([self.sees] if self.sees else [])]
        excess = [self.vae.likelihood.log_excess] if self.sigma is None else []
        return [p for part in parts for p in part.parameters()] + excess

    def numbers(self) -> Tensor:
        """All numbers in the playground's order; it has one for σₓ also where that is fixed."""
        flat = torch.cat([p.detach().flatten() for p in self.parameters()])
        return flat if self.sigma is None else torch.cat([flat, flat.new_zeros(1)])

    def mean(self, z: Tensor, x: Tensor) -> Tensor:
        mean = self.vae.decoder(z)
        return self.sees(mean, x) if self.sees else mean

    def terms(self, x: Tensor, draws: Tensor, noise: bool) -> tuple[Tensor, Tensor]:
        """Reconstruction ``[N]`` and KL ``[N, d]``, with the noise of the codes given."""
        q = self.vae.encode(x)
        z = q.mean + q.stddev * draws if noise else q.mean
        p = Normal(self.mean(z, x), self.vae.likelihood.sigma_x)
        kl = torch.distributions.kl_divergence(Normal(q.mean, q.stddev), Normal(0.0, 1.0))
        return -p.log_prob(x).sum(dim=1), kl


TWINS = [
    # latent, width, σₓ, sees, weight, noise
    (2, 32, None, False, 1.0, True),
    (1, 8, 0.3, False, 0.2, True),
    (2, 16, 0.15, True, 5.0, True),
    (1, 32, None, True, 1.0, True),
    (2, 8, 0.5, False, 0.0, False),
]


@pytest.fixture(params=TWINS, ids=str)
def twin(request):
    latent, width, sigma, sees, weight, noise = request.param
    torch.manual_seed(0)
    made = Twin(latent, width, sigma, sees)
    return made, weight, noise, f"{{ weight: {weight}, sigma: {js(sigma)}, noise: {js(noise)} }}"


def test_terms_and_gradient_are_pytorch_s(script, twin):
    made, weight, noise, options = twin
    x = points("moons", 40).x
    draws = torch.randn(40, made.options["latent"], dtype=torch.float64)
    reconstruction, kl = made.terms(x, draws, noise)
    loss = (reconstruction + weight * kl.sum(dim=1)).mean()
    slopes = torch.autograd.grad(loss, made.parameters(), allow_unused=True, materialize_grads=True)
    got = script(
        f"(() => {{ const model = v.makeModel({js(made.options)});"
        f"const gradient = new Float64Array(model.size);"
        f"const numbers = {js(made.numbers())}, x = {js(x)}, draws = {js(draws)};"
        f"const look = v.pass(model, numbers, {options}, x, draws, gradient);"
        "return { ...look, gradient }; })()"
    )
    wanted = torch.cat([slope.flatten() for slope in slopes])
    gradient = torch.tensor(got["gradient"], dtype=torch.float64)
    if made.sigma is not None:
        assert gradient[-1] == 0  # a fixed σₓ doesn't move
        gradient = gradient[:-1]
    torch.testing.assert_close(gradient, wanted, rtol=1e-8, atol=1e-10)
    close = {"rtol": 1e-9, "atol": 1e-11}
    got = {name: torch.tensor(values, dtype=torch.float64) for name, values in got.items()}
    torch.testing.assert_close(got["reconstruction"], reconstruction.detach(), **close)
    torch.testing.assert_close(got["kl"], kl.detach().flatten(), **close)


def test_fifty_steps_are_pytorch_s(script, twin):
    made, weight, noise, options = twin
    x = points("ring", 100).x
    draws = torch.randn(50, 100, made.options["latent"], dtype=torch.float64)
    before = made.numbers()
    adam = torch.optim.Adam(made.parameters(), lr=0.01)
    for some in draws:
        reconstruction, kl = made.terms(x, some, noise)
        adam.zero_grad()
        (reconstruction + weight * kl.sum(dim=1)).mean().backward()
        adam.step()
    got = script(
        f"(() => {{ const model = v.makeModel({js(made.options)}), x = {js(x)};"
        f"const numbers = {js(before)}, state = v.adam(model.size), draws = {js(draws)};"
        f"const each = draws.length / 50;"
        "for (let k = 0; k < 50; k++) {"
        "  const gradient = new Float64Array(model.size);"
        f" v.pass(model, numbers, {options}, x, draws.slice(k * each, (k + 1) * each), gradient);"
        "  v.update(state, numbers, gradient, 0.01); }"
        "return numbers; })()"
    )
    now = torch.tensor(got, dtype=torch.float64)
    assert (now - before).abs().max() > 0.1  # it has gone somewhere
    torch.testing.assert_close(now, made.numbers(), rtol=1e-6, atol=1e-7)


# ---------------------------------------------------------------------------- a run


def steps_of(script, changes: list[dict[str, str]], **settings: str) -> Tensor:
    """The numbers of a run after one step with each of some changes of its settings."""
    x = points("moons", 60).x.flatten().tolist()
    got = script(
        f"(() => {{ const settings = {{ ...USUAL, ...{js(settings)} }};"
        f"const run = t.makeRun(settings, {x});"
        f"for (const change of {js(changes)}) {{ Object.assign(settings, change); run.step(); }}"
        "return run.numbers; })()"
    )
    return torch.tensor(got, dtype=torch.float64)


def test_settings_act_while_it_trains(script):
    start = steps_of(script, [])
    one = steps_of(script, [{}])
    assert torch.equal(steps_of(script, [{"rate": "0.005"}]), one)  # as usual
    torch.testing.assert_close(steps_of(script, [{"rate": "0.01"}]) - start, 2 * (one - start))
    two = steps_of(script, [{}, {}])
    for change in ({"weight": "100"}, {"sigma": "1"}, {"noise": "off"}, {"sigma": "learned"}):
        assert not torch.allclose(steps_of(script, [{}, change]), two, atol=1e-6)
    off = {"noise": "off"}  # then a code has no KL, whatever it weighs
    assert torch.equal(steps_of(script, [off, {"weight": "100"}]), steps_of(script, [off, {}]))


def test_each_step_has_noise_and_a_batch_of_its_own(script):
    """Adam's step is the same after a step that moved nothing, if the gradient was the same."""
    x = points("moons", 300).x
    same = x[:1].expand(300, 2)  # then only the noise differs
    for some, settings in ((same, {}), (x, {"noise": "off"})):

        def after(waits: int, some: Tensor = some, settings: dict = settings) -> Tensor:
            got = script(
                f"(() => {{ const settings = {{ ...USUAL, ...{js(settings)}, rate: '0' }};"
                f"const run = t.makeRun(settings, {some.flatten().tolist()});"
                f"for (let k = 0; k < {waits}; k++) run.step();"
                "settings.rate = '0.01'; run.step(); return run.numbers; })()"
            )
            return torch.tensor(got, dtype=torch.float64)

        assert (after(0) - after(1)).abs().max() > 1e-3


@pytest.mark.parametrize("decoder", ["z", "x"])
def test_what_there_is_to_see_of_a_run(script, decoder):
    """Copies, clouds and draws are the model's own, with all that the decoder sees."""
    twin = trained(2, sees=decoder == "x")
    x = points("moons", 50).x
    settings = {"width": "16", "sigma": "0.2", "decoder": decoder}
    noise = torch.randn(6, 2, dtype=torch.float64)
    got = script(
        f"(() => {{ const settings = {{ ...USUAL, ...{js(settings)} }};"
        f"const run = t.makeRun(settings, {x.flatten().tolist()}, {js(twin.numbers())});"
        "const look = run.look(), draws = run.draws(); settings.sigma = '1';"
        f"return {{ ...look, cloud: run.cloud(look, 7, {js(noise)}), draws, wide: run.draws() }};"
        "})()"
    )
    got = {name: torch.tensor(got[name], dtype=torch.float64) for name in
           ("copies", "cloud", "draws", "wide")}  # fmt: skip
    with torch.no_grad():
        q = twin.vae.encode(x)
        copies = twin.mean(q.mean, x)
        cloud = twin.mean(q.mean[7] + q.stddev[7] * noise, x[7].expand(6, 2))
    torch.testing.assert_close(got["copies"].reshape(-1, 2), copies)
    torch.testing.assert_close(got["cloud"].reshape(-1, 2), cloud)
    added = (got["wide"] - got["draws"]).reshape(-1, 2)[:, 0] / 0.8  # σₓ from 0.2 to 1
    assert len(added) == 300 and abs(added.std().item() - 1) < 0.15
    assert abs(added.mean().item()) < 0.2


# ---------------------------------------------------------------------------- random numbers


def test_the_noise_is_normal_and_seeded(script):
    draws = np.array(script("v.stream(3).normals(20000)"))
    assert abs(draws.mean()) < 0.03 and abs(draws.std() - 1) < 0.02
    assert abs((draws**4).mean() - 3) < 0.25
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.03
    assert script("v.stream(3).normals(5)") == draws[:5].tolist()
    assert script("v.stream(4).normals(5)") != draws[:5].tolist()
    order = script("v.stream(1).shuffled(500)")
    assert sorted(order) == list(range(500)) != order


def test_it_starts_as_pytorch_starts(script):
    model = "v.makeModel({ latent: 2, width: 32, sees: true })"
    numbers = torch.tensor(script(f"v.start({model}, v.stream(1))"), dtype=torch.float64)
    twin = Twin(2, 32, None, True)
    assert len(numbers) == len(twin.numbers()) == 2600
    at = 0
    for parameter, fan in zip(
        twin.parameters()[:-1], (n for n in (2, 32, 32, 2, 32, 32, 1, 32) for _ in range(2)),
        strict=True,
    ):  # fmt: skip
        some = numbers[at : at + parameter.numel()]
        at += parameter.numel()
        assert some.abs().max() <= fan**-0.5
        if len(some) > 20:
            assert some.std().item() == pytest.approx((fan * 3) ** -0.5, rel=0.3)
    sigma = script(f"v.sigmaX({model}, {js(numbers)}, null)")
    assert sigma == pytest.approx(0.5)


# ---------------------------------------------------------------------------- p(x)


def trained(latent: int, *, sees: bool = False) -> Twin:
    """A model whose decoder bends its codes, though it hasn't been trained."""
    torch.manual_seed(1)
    twin = Twin(latent, 16, 0.2, sees)
    with torch.no_grad():
        for p in twin.parameters():
            p.mul_(2.5)
    return twin


def quadrature(twin: Twin, side: int) -> str:
    return f"v.quadrature(v.makeModel({js(twin.options)}), {js(twin.numbers())}, 0.2, {side})"


def test_p_of_x_is_vae_core_s(script):
    twin = trained(2)
    with torch.no_grad():
        x = twin.vae.decode(torch.randn(30, 2, dtype=torch.float64)).sample()
    got = script(f"v.logEvidence({quadrature(twin, 144)}, {js(x)})")
    wanted = log_evidence_2d(twin.vae, x, binarisation="grey").per_image
    torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), wanted, rtol=0, atol=0.01)


@pytest.mark.parametrize(("latent", "side"), [(1, 2000), (2, 144)])
@pytest.mark.parametrize("sees", [False, True])
def test_p_of_x_is_a_sum_over_codes(script, latent, side, sees):
    """That of points, that of the landscape, and the posterior, with a decoder of either kind."""
    twin, x = trained(latent, sees=sees), points("spiral", 20).x
    axis = 4 * (2 * (torch.arange(side, dtype=torch.float64) + 0.5) / side - 1)
    z = axis[:, None] if latent == 1 else torch.cartesian_prod(axis, axis).flip(1)
    sigma = torch.tensor(0.2, dtype=torch.float64)
    log_share = Normal(0.0, 1.0).log_prob(z).sum(dim=1).log_softmax(dim=0)

    def joint(some: Tensor) -> Tensor:
        means = torch.stack([twin.mean(z, row.expand(len(z), 2)) for row in some])
        return log_share + Normal(means, sigma).log_prob(some[:, None]).sum(dim=2)

    with torch.no_grad():
        log_joint = joint(x)
    got = script(f"v.logEvidence({quadrature(twin, side)}, {js(x)})")
    wanted = log_joint.logsumexp(dim=1)
    torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), wanted, rtol=0, atol=1e-9)
    got = script(f"t.posterior({quadrature(twin, side)}, {js(x[0])})")
    wanted = (log_joint[0] - log_joint[0].max()).exp()
    torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), wanted, rtol=0, atol=1e-9)
    if latent == 2:
        got = script(f"t.askew({quadrature(twin, side)}, {js(x[0])})")
        cov = torch.cov(z.T, aweights=wanted)
        assert got == pytest.approx((cov[0, 1] / (cov[0, 0] * cov[1, 1]).sqrt()).item(), abs=1e-9)
        single = f"{{ ...{quadrature(twin, side)}, sigma: 1e-6 }}"  # one code explains the point
        assert script(f"t.askew({single}, {js(x[0])})") == 0
    cells, edge = 32, 2.6
    got = np.array(script(f"v.landscape({quadrature(twin, side)}, {cells}, {edge})"))
    middle = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells * 2 * edge - edge
    some = torch.tensor([[middle[i], middle[j]] for j in (3, 15, 22) for i in (5, 16, 30)])
    with torch.no_grad():
        wanted = joint(some).logsumexp(dim=1).exp().numpy()
    at = [j * cells + i for j in (3, 15, 22) for i in (5, 16, 30)]
    assert got[at] == pytest.approx(wanted, rel=0.02, abs=2e-5)  # bells are cut at four σₓ


# ---------------------------------------------------------------------------- experiments


@pytest.fixture(scope="module")
def data() -> str:
    """The points of all shapes, as the script wants them."""
    return js({shape: points(shape).x.flatten().tolist() for shape in SHAPES})


@pytest.fixture(scope="module")
def ends(script, data):
    """What an experiment has come to after its steps, with a seed, and perhaps a change."""
    script(f"(globalThis.sets = {data}) && 0")
    script("""(globalThis.end = (key, seed, change) => {
      const settings = { ...USUAL, ...PRESETS[key].change, ...change, seed: String(seed) };
      const run = t.makeRun(settings, sets[settings.data]);
      for (let k = 0; k < STEPS; k++) run.step();
      const look = run.look(), { reconstruction, kl } = look.terms;
      const middle = [0, 1].map(i => t.mean(look.x.filter((_, at) => at % 2 === i)));
      const evidence = side => t.mean(v.logEvidence(run.quadrature(side), look.x));
      const fine = evidence(100), coarse = run.quadrature(40);
      const pointOf = k => look.x.slice(2 * k, 2 * k + 2);
      const askew = Array.from({ length: 500 }, (_, k) => t.askew(coarse, pointOf(k)));
      const across = look.copies.filter((_, at) => at % 2 === 0);
      return {
        copy: t.median(look.copies.map((value, k) => Math.abs(value - look.x[k]))),
        from_mean: t.mean(look.copies.map((value, k) => (value - middle[k % 2]) ** 2)),
        missing: t.astray(run.draws(), look.x),
        width: t.median(look.logVar.map(value => Math.exp(value / 2))),
        kl, evidence: fine, error: Math.abs(fine - evidence(200)),
        gap: fine + reconstruction + kl, askew: Math.max(...askew.map(Math.abs)),
        across: Math.max(...across) - Math.min(...across),
        active: look.units.map(unit => unit.active),
      };
    }) && 0""")
    known = {}

    def end(key: str, seed: int, **change: str) -> dict:
        name = key, seed, *change.items()
        if name not in known:
            known[name] = script(f"end({js(key)}, {seed}, {js(change)})")
        return known[name]

    return end


@pytest.mark.parametrize("seed", SEEDS)
def test_each_experiment_ends_where_its_sentence_says(ends, seed):
    copies = ends("copies", seed)
    assert copies["copy"] < 0.03 and copies["missing"] > 0.5
    dies = ends("dies", seed)
    assert dies["width"] < 0.01
    lives = ends("lives", seed)
    assert lives["width"] > 0.15 and lives["missing"] < 0.25 and lives["copy"] > 0.05
    assert lives["active"] == [True, True]
    silent = ends("silent", seed)
    assert silent["kl"] < 0.001 and silent["active"] == [False, False]
    assert silent["from_mean"] < 1e-3
    hole = ends("hole", seed)
    assert 1 / 3 < hole["missing"] < 1 / 2 and hole["missing"] > 1.5 * lives["missing"]
    assert hole["width"] < 0.5 * lives["width"]
    loose = ends("loose", seed)
    assert 0.4 < loose["gap"] < 0.7 and loose["error"] < 0.02 and loose["askew"] > 0.7
    strong = ends("strong", seed)
    assert strong["kl"] < 0.01 and strong["active"] == [False, False]
    assert strong["gap"] < 0.01 and strong["missing"] < 0.05 and strong["across"] < 0.02


def test_without_its_mechanism_an_experiment_ends_elsewhere(ends):
    blind = ends("strong", 1, decoder="z")  # the same data, for a decoder that needs a code
    assert blind["kl"] > 1 and True in blind["active"]
    assert blind["evidence"] < ends("strong", 1)["evidence"] - 0.3
    small = ends("loose", 1, sigma="1", weight="1")  # clouds so wide that posteriors are round
    assert small["gap"] < 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_what_we_saw(script, ends, seed):
    """The answers of "Try this", in its order."""
    script(
        """(globalThis.saw = (change, steps, after) => {
      const settings = { ...USUAL, ...change, seed: String(SEED) };
      const run = t.makeRun(settings, sets[settings.data]);
      const train = count => { for (let k = 0; k < count; k++) run.step(); return run.look(); };
      return after(train(steps), { run, settings, train });
    }) && 0""".replace("SEED", str(seed))
    )
    widths = script("""saw({}, 500, (look, { settings, train }) => {
      const width = look => t.median(p.deviations(look));
      settings.weight = "0"; const without = width(train(1000));
      settings.weight = "1"; return [width(look), without, width(train(1000))];
    })""")
    assert widths[0] > 0.2 and widths[1] < 0.01 and 0.2 < widths[2] < 0.3

    ring = {"data": "ring", "latent": "1", "sigma": "0.1"}
    ends_of_line = script(f"""saw({js(ring)}, 2000, look => {{
      const order = Array.from(look.mu.keys()).sort((a, b) => look.mu[a] - look.mu[b]);
      return [order[0], order.at(-1)].map(k => Math.atan2(look.x[2 * k + 1], look.x[2 * k]));
    }})""")
    apart = abs(ends_of_line[0] - ends_of_line[1])
    assert min(apart, 2 * math.pi - apart) < 0.4

    used = script(f"saw({js({**ring, 'sigma': 'learned'})}, 3000, look => look.units[0].active)")
    assert used == (seed != 1)

    loose = script("""saw(PRESETS.loose.change, 2000, (look, { run }) => {
      const nodes = run.quadrature(40), upright = [], diagonal = [];
      for (let k = 0; k < look.count; k++) {
        const askew = Math.abs(t.askew(nodes, look.x.slice(2 * k, 2 * k + 2)));
        const turned = Math.abs(Math.sin(2 * Math.atan2(look.mu[2 * k + 1], look.mu[2 * k])));
        if (turned < 0.35) upright.push(askew); else if (turned > 0.85) diagonal.push(askew);
      }
      return [t.mean(upright), t.mean(diagonal)];
    })""")
    assert loose[0] < 0.35 and loose[1] > 0.5

    blind, strong = ends("strong", seed, decoder="z"), ends("strong", seed)
    assert 0.35 < strong["evidence"] - blind["evidence"] < 0.45 and True in blind["active"]


# ---------------------------------------------------------------------------- settings and links


def test_experiments_are_settings_that_can_be_chosen(script):
    options, usual = script("OPTIONS"), script("USUAL")
    assert set(usual) == {*options, "seed"}
    for key, preset in script("PRESETS").items():
        for name, value in {**usual, **preset["change"]}.items():
            assert name == "seed" or value in dict(options[name][1]), (key, name)
        assert script(f"experimentOf({{ ...USUAL, ...PRESETS.{key}.change, seed: '9' }})") == key
        assert len(re.findall(r"[.!?]( |$)", preset["words"])) == 1, "one sentence"
    assert list(dict(options["data"][1])) == [*SHAPES, "own"]
    for key in ("latent", "width", "weight", "rate"):
        values = [float(value) for value, _ in options[key][1]]
        assert values == sorted(values)
    for change in ({"weight": "100", "noise": "off"}, {"data": "ring"}, {"rate": "0.01"}):
        assert script(f"experimentOf({{ ...USUAL, ...{js(change)} }})") is None


def test_a_link_carries_all_settings(script):
    settings = {"data": "ring", "latent": "1", "width": "8", "weight": "0.05", "sigma": "learned",
                "noise": "off", "decoder": "x", "rate": "0.002", "seed": "42"}  # fmt: skip
    got = script(f"readLink(linkOf({js(settings)}, []))")
    assert got == {"settings": settings, "own": None, "wrong": []}


def test_a_link_carries_the_reader_s_points(script):
    own = (torch.rand(600, generator=torch.Generator().manual_seed(0)) * 5.2 - 2.6).tolist()
    link = script(f"linkOf({{ ...USUAL, data: 'own' }}, {js(own)})")
    assert re.fullmatch(r"#[\w=&.-]+", link) and len(link) < 1000
    got = script(f"readLink({js(link)})")
    assert got["own"] == pytest.approx(own, abs=0.011) and got["settings"]["data"] == "own"


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("#data=moons&width=99", "width: expected 8, 16, 32, got 99; it is 32 now"),
        ("#data=cats", "data: expected moons, ring, blobs, spiral, wave, own, got cats"),
        ("#data=moons&seed=x1", "seed: expected a number of up to six digits, got x1"),
        ("#data=moons&weight", "weight: expected"),
        ("#data=moons&depth=3", "there is no setting depth"),
        ("#data=moons&constructor=1", "there is no setting constructor"),
        ("#data=moons&__proto__=1", "there is no setting __proto__"),
        ("#data=moons&weight=toString", "weight: expected 0, 0.05"),
        ("#data=own&points=%%%", "its points can't be read"),
        ("#data=own&points=AAAA", "points: expected up to 500 pairs"),
    ],
)
def test_what_is_wrong_with_a_link_is_said(script, link, said):
    got = script(f"readLink({js(link)})")
    assert said in got["wrong"][0]
    assert got["settings"]["width"] == "32" and got["settings"]["seed"] == "1"


def test_the_links_of_the_page_are_right(script):
    page = Path(__file__).parents[2] / "book/pages/playground.md"
    links = re.findall(r'href="(#[^"]+=[^"]+)"', page.read_text("utf-8"))
    assert len(links) == 2
    for link in links:
        got = script(f"readLink({js(html.unescape(link))})")
        assert got["wrong"] == [] and got["settings"] != script("USUAL")


def test_another_anchor_of_the_page_is_no_link(script):
    assert script("[readLink(''), readLink('#try-this')]") == [None, None]


# ---------------------------------------------------------------------------- drawing


def test_labels_of_the_curves_do_not_touch(script):
    for places in ([0.5, 0.5, 0.5, 0.5], [0, 1, 1, 1], [0.9, 0.2, 0.3, 0.25], [1, 1, 0.95, 0.1]):
        moved = sorted(script(f"p.apart({places}, 0.17)"))
        assert all(b - a > 0.169 for a, b in zip(moved, moved[1:], strict=False))
        assert moved[-1] <= 0.916


def test_what_is_remembered_gets_no_longer_than_a_picture_needs(script):
    past = script(
        "(() => { const past = []; for (let k = 0; k < 5000; k++)"
        " p.remember(past, k, { reconstruction: k, kl: 1 }); return past; })()"
    )
    steps = [step for step, *_ in past]
    assert 150 < len(past) <= 400 and steps[0] == 0 and steps[-1] == 4999
    assert steps == sorted(set(steps))
    once = "const past = [[3, 1, 1]]; p.remember(past, 3, { reconstruction: 2, kl: 2 })"
    assert script(f"(() => {{ {once}; return past; }})()") == [[3, 2, 2]]


# ---------------------------------------------------------------------------- the maker


@pytest.fixture(scope="module")
def made():
    seed_everything(0)
    likelihood = GaussianLikelihood(0.15, activation=nn.Identity())
    vae = VAE(2, (32, 32), 2, likelihood)
    x = points("blobs").x.float()
    return vae, fit(vae, x, val=x, steps=200, batch_size=125, lr=0.01, seed=0)


def test_the_figure_holds_the_trained_model_and_all_points(script, made):
    vae, history = made
    live = vae_playground(vae, history, name="vae_playground")
    assert live.html().startswith(
        '<div class="live" data-figure="playground" data-name="vae_playground"'
        ' data-needs="vae training pictures">'
    )
    x = points("blobs").x
    for shape, packed in live.data["sets"].items():
        got = unpacked(packed["points"], "<i2").reshape(-1, 2) * live.data["unit"]
        assert np.abs(got - points(shape).x.numpy()).max() < 1e-4
        along = unpacked(packed["along"], "<i2") * live.data["unit"]
        assert np.abs(along - points(shape).along.numpy()).max() < 1e-4
    numbers = torch.tensor(unpacked(live.data["start"]["numbers"]).copy())
    model = "v.makeModel({ latent: 2, width: 32, sees: false })"
    options = "{ weight: 1, sigma: 0.15, noise: false }"
    got = script(f"v.pass({model}, {js(numbers)}, {options}, {js(x)}).mean")
    with torch.no_grad():
        wanted = vae.decoder(vae.encode(x.float()).mean).flatten()
    torch.testing.assert_close(torch.tensor(got), wanted, rtol=0, atol=1e-5)
    assert live.data["start"]["past"][-1][0] == live.data["start"]["steps"] == 200
    assert len(live.picture.axes) == 4 and not plt.fignum_exists(live.picture.number)


def test_another_make_of_vae_is_refused(made):
    vae, history = made
    gaussian = GaussianLikelihood(0.15, activation=nn.Identity())
    wide = GaussianLikelihood(0.5, activation=nn.Identity())
    bounded = GaussianLikelihood(0.15)
    others = [VAE(2, (16, 16), 2, gaussian), VAE(1, (32, 32), 2, gaussian)]
    others += [VAE(2, (32, 32), 2, likelihood) for likelihood in (None, wide, bounded)]
    for other in others:
        with pytest.raises(ValueError, match=r"^vae: expected VAE\(2, hidden=\(32, 32\)"):
            vae_playground(other, history)
    x = points("blobs").x.float()
    bare = fit(vae, x, steps=2, seed=0)
    with pytest.raises(ValueError, match=r"^history: expected one of fit\(…, val=…\)"):
        vae_playground(vae, bare)


# ---------------------------------------------------------------------------- points


@pytest.mark.parametrize("shape", SHAPES)
def test_points_of_a_shape(shape):
    x, along = points(shape, 400, seed=3)
    assert x.shape == (400, 2) and x.dtype == torch.float64 and x.abs().max() < 2.6
    assert along.shape == (400,) and 0 <= along.min() and along.max() <= 1
    assert torch.equal(points(shape, 400, seed=3).x, x)
    assert not torch.equal(points(shape, 400, seed=4).x, x)


def test_where_points_lie():
    ring = points("ring", 2000).x.norm(dim=1)
    assert ring.mean().item() == pytest.approx(1.4, abs=0.01)
    assert ring.std().item() == pytest.approx(0.09, abs=0.01)
    x, along = points("blobs", 2000)
    for k in range(5):
        mine = x[(5 * along).floor() == k]
        angle = 2 * math.pi * (k / 5 + 0.25)
        middle = 1.5 * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
        assert (mine.mean(dim=0) - middle).abs().max() < 0.03
        assert mine.std(dim=0).tolist() == pytest.approx([0.16, 0.16], abs=0.02)
    wave = points("wave", 2000).x
    assert wave[:, 0].std().item() == pytest.approx(0.45, abs=0.02)
    assert (wave[:, 1] - 1.4 * (3 * wave[:, 0]).sin()).std().item() == pytest.approx(0.45, abs=0.02)


def test_bad_shapes_and_numbers_of_points():
    with pytest.raises(ValueError, match=r"^shape: expected one of moons, ring.*, got 'circle'"):
        points("circle")
    with pytest.raises((TypeError, ValueError), match=r"^n: "):
        points("ring", 0)
