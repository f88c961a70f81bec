"""The KL playground: what its script computes, against PyTorch, and what the maker gives it."""

import json
import math

import matplotlib
import pytest
import torch
from matplotlib import pyplot as plt
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from v8 import scripts
from vae_book.live import kl_playground

matplotlib.use("Agg")

mu, log_sigma = (
    grid.flatten()
    for grid in torch.meshgrid(
        torch.linspace(-3, 3, 13, dtype=torch.float64),
        torch.linspace(-3, 1.1, 42, dtype=torch.float64),
        indexing="ij",
    )
)
sigma = log_sigma.exp()


@pytest.fixture(scope="module")
def script():
    """Evaluates an expression in V8, in which ``a`` is the arithmetic of the figure."""
    with scripts("kl") as v8:
        v8.eval("const a = vaeLive.figures.kl.arithmetic;")
        yield lambda text: json.loads(v8.eval(f"JSON.stringify({text})"))


def on_the_grid(script, function: str) -> dict[str, Tensor]:
    """The answers of a function of (mu, sigma), by name, for all of the grid."""
    pairs = json.dumps(list(zip(mu.tolist(), sigma.tolist(), strict=True)))
    answers = script(f"{pairs}.map(([mu, sigma]) => {function})")
    return {
        name: torch.tensor([answer[name] for answer in answers], dtype=torch.float64)
        for name in answers[0]
    }


def kl(mean: Tensor, deviation: Tensor) -> Tensor:
    return kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0))


def test_the_two_parts_are_the_kl(script):
    costs = on_the_grid(script, "a.costs(mu, sigma)")
    zero, one = torch.zeros_like(mu), torch.ones_like(mu)
    torch.testing.assert_close(costs["place"] + costs["width"], kl(mu, sigma))
    torch.testing.assert_close(costs["place"], kl(mu, one))
    torch.testing.assert_close(costs["width"], kl(zero, sigma))


def test_the_naive_penalty_is_that_of_the_chapter(script):
    costs = on_the_grid(script, "a.costs(mu, sigma)")
    chapter = mu**2 / 2 + (sigma**2).log() ** 2 / 4
    torch.testing.assert_close(costs["place"] + costs["naiveWidth"], chapter)


def test_the_pull_is_minus_the_derivative(script):
    inputs = mu.clone().requires_grad_(), sigma.clone().requires_grad_()
    slopes = torch.autograd.grad(kl(*inputs).sum(), inputs)
    pull = on_the_grid(script, "a.pull(mu, sigma)")
    torch.testing.assert_close(pull["mu"], -slopes[0])
    torch.testing.assert_close(pull["sigma"], -slopes[1])


def test_the_flow_follows_the_pull_to_the_standard_normal(script):
    step, time = 1e-5, 0.4
    before, after = (
        on_the_grid(script, f"a.flow(mu, sigma, {time + side * step})") for side in (-1, 1)
    )
    there = on_the_grid(script, f"a.flow(mu, sigma, {time})")
    speed = {name: (after[name] - before[name]) / (2 * step) for name in there}
    torch.testing.assert_close(speed["mu"], -there["mu"], rtol=1e-6, atol=1e-6)
    pulled = 1 / there["sigma"] - there["sigma"]
    torch.testing.assert_close(speed["sigma"], pulled, rtol=1e-6, atol=1e-6)
    start = on_the_grid(script, "a.flow(mu, sigma, 0)")
    torch.testing.assert_close(start["sigma"], sigma)
    torch.testing.assert_close(start["mu"], mu)
    end = on_the_grid(script, "a.flow(mu, sigma, 6)")  # as far as the button plays it
    assert end["mu"].abs().max() < 0.01  # rounds to 0: a step of the sliders is 0.02
    assert end["sigma"].log().abs().max() < 0.01


def test_the_bell_is_the_density(script):
    there = on_the_grid(script, "({ q: a.density(0.7, mu, sigma) })")["q"]
    torch.testing.assert_close(there, Normal(mu, sigma).log_prob(torch.tensor(0.7)).exp())


@pytest.mark.parametrize(
    ("cloud", "said"),
    [
        ((0, 1), "costs nothing and says nothing"),
        ((0.1, 1), "nearly N(0, 1)"),
        ((0, 0.4), "A narrow cloud: the width alone costs 0.50 nats, and the KL pulls it wider"),
        ((0, 3), "A wide cloud: the width alone costs 2.90 nats, and the KL pulls it narrower"),
        ((2, 1), "the place alone costs 2.00 nats, and the KL pulls it to the left"),
        ((-2, 1), "the place alone costs 2.00 nats, and the KL pulls it to the right"),
        ((1, 0.4), "the place costs 0.50 nats, the width 0.50. The KL pulls it to the left"),
        ((2, 0.1), "each halving of σ adds 0.69 nats"),
    ],
)
def test_what_is_said_of_a_cloud(script, cloud, said):
    assert said in script(f"a.words{cloud}")


def test_what_is_said_of_halving_is_so(script):
    def costs(deviation: float) -> tuple[float, float]:
        answer = script(f"a.costs(0, {deviation})")
        return answer["width"], answer["naiveWidth"]

    for deviation in (0.15, 0.1, 0.05):  # where the figure says it
        (wide, naive_wide), (narrow, naive_narrow) = costs(deviation), costs(deviation / 2)
        assert narrow - wide == pytest.approx(math.log(2), abs=0.01)
        assert naive_narrow - naive_wide > 4 * math.log(2)


def test_a_figure_without_data_or_name():
    picture = plt.figure()
    live = kl_playground(picture)
    assert (live.figure, live.data, live.name, live.picture) == ("kl", {}, None, picture)
    assert live.html() == '<div class="live" data-figure="kl"><div></div></div>'
    assert not plt.fignum_exists(picture.number)  # else a notebook shows it twice


def test_a_picture_that_is_none():
    with pytest.raises(TypeError, match=r"^picture: expected a matplotlib figure, got None"):
        kl_playground(None)
