"""The bound at work: the identity on the page's grid, the refinement, and what doesn't fit."""

import json
import math

import matplotlib
import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from v8 import scripts
from vae_book.linear import LinearVAE
from vae_book.live import bound_at_work
from vae_book.live.bound import LINES, Window, refine
from vae_core import VAE, estimate_elbo, log_evidence_2d, seed_everything

matplotlib.use("Agg")
N_PIXELS = 16


@pytest.fixture(scope="module")
def linear() -> LinearVAE:
    """A model whose evidence and posterior are known: Gaussian, and tilted."""
    seed_everything(0)
    model = LinearVAE(2, N_PIXELS, sigma_x=1.2).double()
    with torch.no_grad():
        model.decoder[0].weight.copy_(torch.randn(N_PIXELS, 2))
        model.encoder[0].weight.mul_(0.3)
        model.encoder[0].bias[:2] += 0.7
    return model


@pytest.fixture(scope="module")
def image(linear) -> torch.Tensor:
    seed_everything(1)
    return linear.decode(torch.tensor([[0.5, -0.3]]).double()).sample()


@pytest.fixture(scope="module")
def data(linear, image) -> dict:
    return bound_at_work(linear, image, name="x").data


def on_the_page(data: dict, expression: str):
    with scripts("bound") as v8:
        v8.eval(f"const data = {json.dumps(data)}")
        v8.eval("const grid = vaeLive.figures.bound.arithmetic.onGrid(data)")
        return json.loads(v8.eval(f"JSON.stringify({expression})"))


CLOUDS = [[0.5, -0.3, 0.3, 0.3], [0.2, 0.4, 0.15, 0.6], [0.0, 0.0, 1.0, 0.1], [3.0, -3.0, 0.5, 0.5]]


def test_the_page_has_the_evidence(linear, image, data):
    evidence = on_the_page(data, "grid.evidence")
    assert evidence == pytest.approx(linear.evidence.log_prob(image).item(), abs=5e-3)
    of_package = log_evidence_2d(linear, image, binarisation="grey", points=281, extent=7.0)
    assert evidence == pytest.approx(of_package.value, abs=5e-3)


def test_gap_and_elbo_make_the_evidence_for_any_cloud(linear, image, data):
    """The gap is the KL of q, normalised on the grid, from the posterior on the grid."""
    low, side = torch.tensor(data["low"]).double(), data["side"]
    window = Window(linear, linear.as_input(image), low, side)
    posterior = (window.log_joint.flatten() - window.log_joint.flatten().logsumexp(0)).exp()
    got = on_the_page(data, f"{CLOUDS}.map(cloud => [grid.evidence, grid.elbo(cloud)])")
    for (evidence, elbo), (*mean, s1, s2) in zip(got, CLOUDS, strict=True):
        points = torch.cartesian_prod(*window.axes)
        q = Independent(Normal(torch.tensor(mean), torch.tensor([s1, s2])), 1)
        q = q.log_prob(points).double().softmax(0)
        gap = (q * (q / posterior).log()).nan_to_num().sum().item()
        assert gap >= 0 and elbo + gap == pytest.approx(evidence, abs=1e-3)


def test_the_gap_is_the_kl_of_gaussians_where_the_posterior_is_one(linear, image, data):
    true = linear.true_posterior(linear.as_input(image))
    true = MultivariateNormal(true.loc.reshape(2), true.covariance_matrix.reshape(2, 2))
    for cloud in CLOUDS[:2]:
        mean, std = torch.tensor(cloud).double().reshape(2, 2)
        gap = kl_divergence(MultivariateNormal(mean, torch.diag(std**2)), true).item()
        got = on_the_page(data, f"grid.evidence - grid.elbo({cloud})")
        assert got == pytest.approx(gap, rel=0.02, abs=5e-3)


def test_the_first_cloud_is_the_encoders_and_its_elbo_the_packages(linear, image, data):
    q = linear.encode(image)
    assert data["path"][0] == pytest.approx([*q.mean[0].tolist(), *q.stddev[0].tolist()])
    drawn = estimate_elbo(linear, image, binarisation="grey", n_samples=20_000).elbo
    got = on_the_page(data, "grid.elbo(data.path[0])")
    assert got == pytest.approx(drawn.value, abs=5 * drawn.error + 0.01)


def test_refining_goes_uphill_to_the_best_diagonal_cloud(linear, image, data):
    elbos = on_the_page(data, "data.path.map(grid.elbo)")
    assert len(elbos) == 61 and elbos[-1] > elbos[0] + 0.1
    assert max(elbos) - elbos[-1] < 0.01
    # The best diagonal cloud has the posterior's mean and the inverse of its precision's diagonal.
    true = linear.true_posterior(linear.as_input(image))
    covariance = true.covariance_matrix.reshape(2, 2)
    precision = torch.linalg.inv(covariance)
    best = [*true.loc.reshape(2).tolist(), *precision.diagonal().rsqrt().tolist()]
    assert data["path"][-1] == pytest.approx(best, abs=0.02)
    shape = (covariance @ torch.diag(precision.diagonal())).logdet() / 2
    left = on_the_page(data, "grid.evidence - grid.elbo(data.path.at(-1))")
    assert left == pytest.approx(shape.item(), abs=0.002)


def test_no_cloud_gets_narrower_than_the_grid_can_see(linear, image):
    x = linear.as_input(image)
    wide = Window(linear, x, torch.full((2,), -40.0).double(), 80.0, LINES)
    path = refine(wide, torch.tensor([[0.5, -0.3], [2.0, 2.0]]).double())
    assert path[:, 1].min() >= wide.spacing * (1 - 1e-9)
    assert path[:, 1].min() == pytest.approx(wide.spacing)


def test_the_posterior_and_the_first_cloud_lie_in_the_window(linear, image, data):
    window = Window(
        linear, linear.as_input(image), torch.tensor(data["low"]).double(), data["side"]
    )
    share = (window.log_joint - window.log_joint.flatten().logsumexp(0)).exp()
    edge = share[0].sum() + share[-1].sum() + share[:, 0].sum() + share[:, -1].sum()
    assert edge < 1e-4
    mean, std = torch.tensor(data["path"][0]).reshape(2, 2)
    low, high = torch.tensor(data["low"]), torch.tensor(data["low"]) + data["side"]
    assert (mean - 2.9 * std > low).all() and (mean + 2.9 * std < high).all()


def test_the_picture_has_a_bar_of_the_same_length_under_each_cloud(linear, image):
    live = bound_at_work(linear, image)
    bars = [ax for ax in live.picture.axes if ax.get_xlabel().startswith("gap")]
    totals = [sum(bar.get_width() for bar in ax.patches) for ax in bars]
    assert len(bars) >= 2 and totals == pytest.approx([live.data["shown"]] * len(bars))
    gaps = [float(ax.get_xlabel().split()[1]) for ax in bars]
    assert gaps == sorted(gaps, reverse=True)


class TwoHills(VAE):
    """Its posterior has two narrow hills, too far apart for one grid."""

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, z):
            return self.weight * 40 * (z[:, :1].abs() - 5).abs().expand(-1, N_PIXELS)

    def __init__(self):
        super().__init__(2, (4,), N_PIXELS, decoder=self.Decoder())


def with_nan(model: VAE) -> VAE:
    with torch.no_grad():
        model.decoder[-1].bias[0] = torch.nan
    return model


@pytest.mark.parametrize(
    ("vae", "n", "message"),
    [
        (nn.Linear(2, 2), 1, "vae: expected a VAE"),
        (VAE(3, (4,), N_PIXELS), 1, "vae: expected 2 latent units, got 3"),
        (VAE(2, (4,), N_PIXELS), 2, "image: expected one image, got 2"),
        (with_nan(VAE(2, (4,), N_PIXELS)), 1, r"vae: expected a finite log p\(x\)"),
        (TwoHills(), 1, "image: expected one whose posterior and cloud fit in one window"),
    ],
)
def test_what_has_no_bound_to_show(vae, n, message):
    with pytest.raises((TypeError, ValueError), match=message):
        bound_at_work(vae, torch.zeros(n, N_PIXELS))


def test_an_untrained_model_works():
    seed_everything(0)
    live = bound_at_work(VAE(2, (8,), N_PIXELS), torch.zeros(1, N_PIXELS), name="x")
    assert (
        math.isfinite(on_the_page(live.data, "grid.evidence")) and live.data["image"]["side"] == 4
    )
