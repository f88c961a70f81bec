"""q(z|x): means and widths from an encoder's outputs, and samples that have them."""

import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal

from small import FullGaussian, diagonal, full, random_numbers
from vae_core import kl_per_unit
from vae_core.posteriors import diagonal_gaussian

STANDARD = Independent(Normal(torch.zeros(2).double(), torch.ones(2).double()), 1)


# ---------------------------------------------------------------------------- from the outputs


def test_first_the_means_then_the_logarithms_of_the_variances():
    outputs = torch.tensor([[1.0, -2.0, math.log(4.0), math.log(0.25)]])
    q = diagonal_gaussian(outputs)
    assert q.batch_shape == (1,) and q.event_shape == (2,)
    torch.testing.assert_close(q.mean, torch.tensor([[1.0, -2.0]]))
    torch.testing.assert_close(q.stddev, torch.tensor([[2.0, 0.5]]))
    z = torch.tensor([[3.0, -1.0]])
    truth = Normal(1.0, 2.0).log_prob(z[:, 0]) + Normal(-2.0, 0.5).log_prob(z[:, 1])
    torch.testing.assert_close(q.log_prob(z), truth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_var", [-30.0, -20.5, -10.0, 0.0, 10.0, 20.5, 30.0])
def test_no_width_is_held_back(log_var, dtype):
    """KL and sample have the slopes of their formulas: ½ (σ² − 1), and ½ σ ε for z."""
    sigma, noise = math.exp(log_var / 2), torch.tensor([[[0.7, -1.3]]], dtype=dtype)
    outputs = torch.tensor([[0.5, -0.5, log_var, log_var]], dtype=dtype, requires_grad=True)
    q = diagonal_gaussian(outputs)
    torch.testing.assert_close(q.stddev, torch.full((1, 2), sigma, dtype=dtype))
    (of_kl,) = torch.autograd.grad(kl_per_unit(q, STANDARD).sum(), outputs, retain_graph=True)
    expected = torch.tensor([[0.5, -0.5] + [0.5 * math.expm1(log_var)] * 2], dtype=of_kl.dtype)
    torch.testing.assert_close(of_kl, expected, rtol=1e-5, atol=0)
    z = q.from_noise(noise)
    (of_z,) = torch.autograd.grad(z.sum(), outputs)
    expected = torch.cat([torch.ones(1, 2), 0.5 * sigma * noise[0]], dim=1).to(dtype)
    torch.testing.assert_close(of_z, expected, rtol=1e-5, atol=0)
    assert (of_kl[0, 2:].abs() > 0.4).all() or log_var == 0


@pytest.mark.parametrize("log_var", [-60.0, -30.0, -1.0, 0.0, 2.0, 30.0, 60.0])
def test_samples_use_the_sigma_that_kl_and_density_use(log_var):
    """ε = 1 makes z = μ + σ, so σ can be read off the sample and put into the other formulas."""
    q = diagonal_gaussian(torch.tensor([[0.0, 0.0, log_var, log_var / 2]], dtype=torch.float64))
    z = q.from_noise(torch.ones(1, 1, 2, dtype=torch.float64))
    sigma = z[0] - q.mean
    torch.testing.assert_close(kl_per_unit(q, STANDARD), 0.5 * (sigma**2 - 1) - sigma.log())
    log_q = -0.5 * math.log(2 * math.pi) - sigma.log() - 0.5
    torch.testing.assert_close(q.log_prob(z)[0], log_q.sum(dim=1))


def test_densities_have_single_precision_after_bfloat16():
    outputs = random_numbers(5, 4)
    low = diagonal_gaussian(outputs.bfloat16())
    assert low.mean.dtype == low.stddev.dtype == torch.float32
    torch.testing.assert_close(low.stddev, (0.5 * outputs[:, 2:].bfloat16().float()).exp())
    assert diagonal_gaussian(outputs).mean.dtype == torch.float64


# ---------------------------------------------------------------------------- samples


def test_samples_are_mean_plus_sigma_times_noise():
    q, noise = diagonal(5), random_numbers(4, 5, 3, seed=2)
    z = q.from_noise(noise)
    torch.testing.assert_close(z, q.mean + q.variance.sqrt() * noise)


@pytest.mark.parametrize("q", [diagonal(5), full(5)], ids=["diagonal", "full"])
def test_detached_is_the_same_density_with_a_gradient_for_the_sample_alone(q):
    z = random_numbers(4, 5, 3, seed=2).requires_grad_()
    parameters = [q.loc, q.log_var] if hasattr(q, "log_var") else [q.loc, q.scale_tril]
    parameters = [p.clone().requires_grad_() for p in parameters]
    if hasattr(q, "log_var"):
        q = type(q)(*parameters)
    else:
        q = FullGaussian(parameters[0], scale_tril=parameters[1])
    torch.testing.assert_close(q.detached().log_prob(z), q.log_prob(z))
    slopes = torch.autograd.grad(
        q.detached().log_prob(z).sum(), [z, *parameters], allow_unused=True
    )
    (slope,) = torch.autograd.grad(q.log_prob(z).sum(), z)
    torch.testing.assert_close(slopes[0], slope)
    assert slopes[1:] == (None, None)


@pytest.mark.parametrize("q", [diagonal(5), full(5)], ids=["diagonal", "full"])
def test_samples_have_the_mean_and_covariance_of_q(q):
    n = 20_000
    z = q.from_noise(random_numbers(n, 5, 3, seed=2))
    centred = z - q.mean
    assert (centred.mean(dim=0).abs() < 5 * q.stddev / math.sqrt(n)).all()
    products = centred.unsqueeze(-1) * centred.unsqueeze(-2)  # (n, 5, 3, 3)
    truth = q.covariance_matrix if isinstance(q, MultivariateNormal) else q.variance.diag_embed()
    error = products.std(dim=0) / math.sqrt(n)
    assert ((products.mean(dim=0) - truth).abs() < 5 * error).all()


def test_full_covariance_samples_keep_their_digits_under_autocast():
    q, noise = full(5), random_numbers(2, 5, 3)
    wanted = q.from_noise(noise)
    q = FullGaussian(q.mean.float(), scale_tril=q.scale_tril.float())
    with torch.autocast("cpu", torch.bfloat16):
        got = q.from_noise(noise.float())
    torch.testing.assert_close(got, wanted.float(), rtol=1e-5, atol=1e-5)


def test_it_is_a_distribution_of_pytorch_in_every_other_way():
    """What is printed, drawn and asked of it, as of PyTorch's own."""
    q = diagonal(5)
    theirs = Independent(Normal(q.mean, q.stddev), 1)
    assert repr(q) == "DiagonalGaussian(loc: torch.Size([5, 3]), log_var: torch.Size([5, 3]))"
    for name in ("mean", "stddev", "variance", "batch_shape", "event_shape", "has_rsample"):
        one, other = getattr(q, name), getattr(theirs, name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, name
    torch.testing.assert_close(q.entropy(), theirs.entropy())
    for shape in ((), (4,), (2, 4)):
        draws = []
        for distribution in (q, theirs):
            torch.manual_seed(1)
            draws += [distribution.rsample(shape), distribution.sample(shape)]
        assert torch.equal(draws[0], draws[2]) and torch.equal(draws[1], draws[3])
        torch.testing.assert_close(q.log_prob(draws[0]), theirs.log_prob(draws[0]))
