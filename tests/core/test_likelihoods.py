"""p(x|z): every constant, gradients at any logit, and a learned σₓ that stays above its bound."""

import itertools
import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal
from torch.nn.functional import binary_cross_entropy_with_logits

from small import grey, random_numbers
from vae_core import BernoulliLikelihood, GaussianLikelihood
from vae_core.likelihoods import BernoulliImages, GaussianImages

# ---------------------------------------------------------------------------- Bernoulli


def test_black_and_white_pixels_against_torch():
    logits, x = 5 * random_numbers(3, 4, 20), (random_numbers(4, 20, seed=1) > 0).double()
    truth = Bernoulli(logits=logits).log_prob(x.expand(3, 4, 20)).sum(dim=-1)
    torch.testing.assert_close(BernoulliImages(logits).log_prob(x), truth)


def test_it_is_a_sum_over_pixels_in_nats():
    """An even chance for each of 784 pixels: 784 times log ½, for any image."""
    found = BernoulliLikelihood()(torch.zeros(2, 784)).log_prob(torch.eye(784)[:2])
    torch.testing.assert_close(found, torch.full((2,), 784 * math.log(0.5)))


def test_grey_pixels_give_the_mean_over_their_binarisations():
    """All 2⁶ black-and-white images that a grey one of six pixels can become."""
    logits, x = 3 * random_numbers(6), grey(6)
    mean = 0.0
    for ink in itertools.product((0.0, 1.0), repeat=6):
        ink = torch.tensor(ink, dtype=torch.float64)
        chance = torch.where(ink == 1, x, 1 - x).prod()
        mean += chance * Bernoulli(logits=logits).log_prob(ink).sum()
    torch.testing.assert_close(BernoulliImages(logits).log_prob(x), mean)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("logit", "pixel", "value", "slope"),
    [
        (1e4, 1.0, 0.0, 0.0),
        (1e4, 0.0, -1e4, -1.0),
        (-1e4, 1.0, -1e4, 1.0),
        (-1e4, 0.0, 0.0, 0.0),
        (1e4, 0.25, -7.5e3, -0.75),
        (0.0, 1.0, -math.log(2), 0.5),
        (0.0, 0.25, -math.log(2), -0.25),
        (-0.0, 0.0, -math.log(2), -0.5),
    ],
)
def test_extreme_logits_and_zero(logit, pixel, value, slope, dtype):
    """Values and slopes by hand: −max(a, 0) + x a − log(1 + e^(−|a|)), and x − sigmoid(a)."""
    logits = torch.full((1, 1), logit, dtype=dtype, requires_grad=True)
    found = BernoulliImages(logits).log_prob(torch.full((1, 1), pixel, dtype=dtype))
    found.sum().backward()
    assert found.item() == pytest.approx(value, rel=1e-6)
    assert logits.grad.item() == pytest.approx(slope, rel=1e-6)


def test_bernoulli_gradient_against_that_of_cross_entropy():
    logits = 4 * random_numbers(5, 30)
    logits[0], logits[1, :15], logits[1, 15:] = 0, 60, -60
    x = grey(5, 30)
    weights = random_numbers(5, seed=2)  # a gradient other than one flows back into each image
    gradients = []
    for log_prob in (
        lambda a: BernoulliImages(a).log_prob(x),
        lambda a: -binary_cross_entropy_with_logits(a, x, reduction="none").sum(dim=1),
    ):
        a = logits.clone().requires_grad_()
        (log_prob(a) * weights).sum().backward()
        gradients.append(a.grad)
    torch.testing.assert_close(*gradients)


def test_bernoulli_gradient_against_finite_differences():
    """The gradient's own gradient too, which a penalty on a gradient would need."""
    x, logits = grey(2, 3), random_numbers(4, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: BernoulliImages(a).log_prob(x), logits)
    assert torch.autograd.gradgradcheck(lambda a: BernoulliImages(a).log_prob(x), logits)


@pytest.mark.parametrize("kind", [BernoulliImages, lambda a: GaussianImages(a, torch.tensor(0.5))])
@pytest.mark.parametrize("shape", [(7, 4, 6), (4, 6), (1, 6), (7, 1, 6), (6,)])
def test_one_batch_of_images_under_many_distributions(kind, shape):
    """[S, B, D] against [B, D]: values of each pair, and a gradient of the outputs' shape."""
    outputs, x = random_numbers(*shape).requires_grad_(), grey(4, 6)
    found = kind(outputs).log_prob(x)
    full = outputs.expand(*torch.broadcast_shapes(shape, x.shape))
    pairs = full.reshape(-1, 4, 6)
    loop = torch.stack([torch.stack([kind(a).log_prob(b) for a, b in zip(s, x, strict=True)])
                        for s in pairs])  # fmt: skip
    torch.testing.assert_close(found, loop.reshape(full.shape[:-1]))
    (of_found,) = torch.autograd.grad(found.sum(), outputs)
    (of_loop,) = torch.autograd.grad(loop.sum(), outputs)
    assert of_found.shape == outputs.shape
    torch.testing.assert_close(of_found, of_loop)


def test_gradients_one_image_at_a_time():
    """vmap(grad(…)), as for the norm of each image's gradient: x − sigmoid(a), for each a."""
    logits, x = 3 * random_numbers(5, 6), grey(5, 6)

    def log_prob(a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return BernoulliLikelihood()(a[None]).log_prob(x[None])[0]

    found = torch.func.vmap(torch.func.grad(log_prob))(logits, x)
    torch.testing.assert_close(found, x - 1 / (1 + torch.exp(-logits)))
    # And one image under all distributions, without a dimension more for it.
    ink = x[0].round()
    found = torch.func.vmap(lambda a: BernoulliImages(a).log_prob(ink))(logits)
    torch.testing.assert_close(found, Bernoulli(logits=logits).log_prob(ink).sum(dim=1))


def test_images_may_carry_a_gradient():
    """∂ log p/∂x is the logit of a Bernoulli pixel, and (mean − x)/σₓ² of a Gaussian one."""
    outputs, x = 3 * random_numbers(4, 6), grey(4, 6).requires_grad_()
    (found,) = torch.autograd.grad(BernoulliImages(outputs).log_prob(x).sum(), x)
    torch.testing.assert_close(found, outputs)
    (found,) = torch.autograd.grad(BernoulliImages(outputs[:1]).log_prob(x).sum(), x)
    torch.testing.assert_close(found, outputs[:1].expand(4, 6))
    sigma_x = torch.tensor(0.3, dtype=torch.float64)
    (found,) = torch.autograd.grad(GaussianImages(outputs, sigma_x).log_prob(x).sum(), x)
    torch.testing.assert_close(found, (outputs - x.detach()) / 0.09)


def test_what_is_drawn_has_the_mean_and_spread_of_its_pixels():
    torch.manual_seed(0)
    outputs, n = torch.tensor([-2.0, 0.0, 3.0]), 20_000
    p = torch.sigmoid(outputs)
    for likelihood, sigma in (
        (BernoulliLikelihood(), (p * (1 - p)).sqrt()),
        (GaussianLikelihood(0.3), torch.full((3,), 0.3)),
    ):
        drawn = likelihood(outputs[None]).sample((n,))[:, 0]
        torch.testing.assert_close(likelihood(outputs).mean, p)
        assert ((drawn.mean(dim=0) - p).abs() < 5 * sigma / math.sqrt(n)).all()
        assert ((drawn.std(dim=0) / sigma - 1).abs() < 0.05).all()


def test_single_precision_is_enough():
    """784 pixels, predicted about as well as by a trained model: within 10⁻⁴ nats of float64."""
    x = grey(200, 784).round()
    logits = ((2 * x - 1) * (4 + 3 * random_numbers(200, 784))).float()
    found = BernoulliImages(logits).log_prob(x.float()).double()
    truth = Bernoulli(logits=logits.double()).log_prob(x).sum(dim=1)
    assert (found - truth).abs().max() < 1e-4


# ---------------------------------------------------------------------------- Gaussian


def test_gaussian_log_prob_against_torch():
    mean, x, sigma_x = random_numbers(3, 4, 20), grey(4, 20), torch.tensor(0.3).double()
    truth = Normal(mean, sigma_x).log_prob(x).sum(dim=-1)
    torch.testing.assert_close(GaussianImages(mean, sigma_x).log_prob(x), truth)


def test_gaussian_gradient_against_torch():
    x = grey(4, 20)
    gradients = []
    for kind in (GaussianImages, lambda m, s: Independent(Normal(m, s), 1)):
        mean = random_numbers(3, 4, 20).requires_grad_()
        sigma_x = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        kind(mean, sigma_x).log_prob(x).square().sum().backward()
        gradients.append((mean.grad, sigma_x.grad))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("found", "truth"),
    [
        (BernoulliImages, lambda a: Bernoulli(logits=a)),
        (
            lambda a: GaussianImages(a, torch.tensor(0.2, dtype=a.dtype)),
            lambda a: Normal(a, torch.tensor(0.2, dtype=a.dtype)),
        ),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_table_of_all_images_under_all_distributions(found, truth, dtype):
    outputs, x = (3 * random_numbers(7, 20)).to(dtype), grey(5, 20).round().to(dtype)
    table = found(outputs).log_prob_table(x)
    assert table.shape == (7, 5) and table.dtype == torch.float64
    exact = truth(outputs.double()[:, None]).log_prob(x.double()).sum(dim=-1)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-6  # 0.2 itself is rounded in float32
    torch.testing.assert_close(table, exact, rtol=tolerance, atol=tolerance)
    by_broadcasting = found(outputs[:, None]).log_prob(x).double()
    torch.testing.assert_close(table, by_broadcasting, rtol=tolerance, atol=100 * tolerance)


def test_tables_take_grey_pixels_and_extreme_logits():
    x = grey(5, 20)
    logits = torch.cat([torch.full((1, 20), 1e4), torch.full((1, 20), -1e4), torch.zeros(1, 20)])
    torch.testing.assert_close(
        BernoulliImages(logits).log_prob_table(x),
        BernoulliImages(logits[:, None].double()).log_prob(x),
    )


@pytest.mark.parametrize("learned", [False, True])
def test_gaussian_likelihood_is_a_gaussian_of_that_width(learned):
    likelihood = GaussianLikelihood(0.3, learned=learned).double()
    outputs, x = 2 * random_numbers(4, 20), grey(4, 20)
    p = likelihood(outputs)
    torch.testing.assert_close(p.mean, 1 / (1 + torch.exp(-outputs)))
    truth = Normal(1 / (1 + torch.exp(-outputs)), 0.3).log_prob(x).sum(dim=1)
    # The width itself is stored in single precision.
    torch.testing.assert_close(p.log_prob(x), truth, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(p.stddev, torch.full((4, 20), 0.3).double())


def test_fixed_width_is_saved_and_not_trained():
    likelihood = GaussianLikelihood(0.3)
    assert not list(likelihood.parameters())
    assert [round(v.item(), 6) for v in likelihood.state_dict().values()] == [0.3]
    assert likelihood.to("meta").sigma_x.device.type == "meta"


def test_activation_can_be_left_out():
    outputs = 5 * random_numbers(2, 3)
    linear = GaussianLikelihood(1.0, activation=torch.nn.Identity())
    assert torch.equal(linear(outputs).mean, outputs)


def train_width(likelihood: GaussianLikelihood, outputs, x, *, steps: int) -> list[float]:
    """−log p(x|z) at each step while only σₓ is trained."""
    optimiser = torch.optim.Adam(likelihood.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        loss = -likelihood(outputs).log_prob(x).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_learned_width_finds_the_root_mean_square_error():
    """The best σₓ² of a Gaussian is the mean squared error of its means, in closed form."""
    outputs, x = random_numbers(50, 20), grey(50, 20)
    likelihood = GaussianLikelihood(0.05, learned=True).double()
    train_width(likelihood, outputs, x, steps=500)
    best = (x - torch.sigmoid(outputs)).square().mean().sqrt()
    assert likelihood.sigma_x.item() == pytest.approx(best.item(), rel=1e-4)


@pytest.mark.parametrize("min_sigma", [None, 0.05])
def test_learned_width_stays_above_its_bound(min_sigma):
    """Images that never change and are predicted exactly: nothing else would stop σₓ."""
    settings = {} if min_sigma is None else {"min_sigma": min_sigma}
    bound = 1 / 255 if min_sigma is None else min_sigma
    likelihood = GaussianLikelihood(0.5, learned=True, activation=torch.nn.Identity(), **settings)
    constant = torch.full((8, 784), 0.5)
    losses = train_width(likelihood, constant, constant, steps=400)
    assert all(map(math.isfinite, losses))
    assert bound * (1 - 1e-6) <= likelihood.sigma_x.item() < 1.01 * bound


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"sigma_x": 0}, ValueError, "sigma_x: expected a finite number above 0"),
        ({"sigma_x": -0.1}, ValueError, "sigma_x: expected a finite number above 0"),
        ({"sigma_x": math.inf}, ValueError, "sigma_x: expected a finite number above 0"),
        ({"sigma_x": math.nan}, ValueError, "sigma_x: expected a finite number above 0"),
        ({"sigma_x": "0.1"}, TypeError, "sigma_x: expected a number above 0"),
        ({"sigma_x": True}, TypeError, "sigma_x: expected a number above 0"),
        ({"sigma_x": torch.tensor([0.1, 0.2])}, TypeError, "sigma_x: expected a number above 0"),
        ({"sigma_x": 0.1, "min_sigma": 0}, ValueError, "min_sigma: expected a finite number"),
        (
            {"sigma_x": 0.1, "learned": True, "min_sigma": 0.1},
            ValueError,
            "sigma_x: expected more than min_sigma 0.1, .*, got 0.1",
        ),
        (
            {"sigma_x": 1e-3, "learned": True},
            ValueError,
            "sigma_x: expected more than min_sigma 0.0039.*, got 0.001",
        ),
    ],
)
def test_bad_widths(arguments, error, words):
    with pytest.raises(error, match=words):
        GaussianLikelihood(**arguments)
