"""The terms of the ELBO against torch.distributions, Monte Carlo and finite differences."""

import math

import pytest
import torch
from torch.distributions import (
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    StudentT,
    kl_divergence,
)
from torch.nn.functional import binary_cross_entropy_with_logits

from small import diagonal, full, grey, random_numbers
from vae_core import (
    VAE,
    DiagonalGaussian,
    ElboTerms,
    GaussianLikelihood,
    elbo_terms,
    kl,
    kl_per_unit,
)
from vae_core.posteriors import diagonal_gaussian


def dense(q: Independent) -> MultivariateNormal:
    """The same diagonal Gaussian, with its covariance matrix written out."""
    return MultivariateNormal(q.mean, q.variance.diag_embed())


STANDARD = Independent(Normal(torch.zeros(3).double(), torch.ones(3).double()), 1)
LEARNED = diagonal(seed=7)

# ---------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("p", [STANDARD, LEARNED, diagonal(5, seed=8)])
def test_kl_of_diagonal_gaussians_against_torch(p):
    q = diagonal(5)
    truth = kl_divergence(Normal(q.mean, q.stddev), Normal(p.mean, p.stddev)).sum(dim=-1)
    assert truth.shape == (5,)
    torch.testing.assert_close(kl(q, p), truth)
    if p is not STANDARD:
        torch.testing.assert_close(kl_divergence(q, p), truth)  # PyTorch's function knows it too


def test_kl_to_the_standard_prior_is_the_general_formula():
    """It has a formula of its own, for speed."""
    prior, q = VAE(3).double().prior(), diagonal(5)
    torch.testing.assert_close(kl(q, prior), kl(q, STANDARD))
    general = DiagonalGaussian(torch.zeros(3).double(), torch.zeros(3).double())
    torch.testing.assert_close(kl_per_unit(q, prior), kl_per_unit(q, general))


@pytest.mark.parametrize("q", [diagonal(5), full(5)])
def test_kl_to_a_full_covariance(q):
    p = full(seed=3)
    there = q if isinstance(q, MultivariateNormal) else dense(q)
    torch.testing.assert_close(kl(q, p), kl_divergence(there, p))


@pytest.mark.parametrize("p", [STANDARD, LEARNED])
def test_kl_of_a_full_covariance_against_torch_and_by_hand(p):
    """½(tr(P⁻¹Q) + (μ_p − μ_q)ᵀP⁻¹(μ_p − μ_q) − d + log(det P / det Q))."""
    q = full(5)
    assert kl(q, p).shape == (5,)
    torch.testing.assert_close(kl(q, p), kl_divergence(q, dense(p)))
    shift = p.mean - q.mean
    by_hand = 0.5 * (
        (q.covariance_matrix.diagonal(dim1=-2, dim2=-1) / p.variance).sum(dim=-1)
        + (shift.square() / p.variance).sum(dim=-1)
        - 3
        + p.variance.log().sum()
        - torch.logdet(q.covariance_matrix)
    )
    torch.testing.assert_close(kl(q, p), by_hand)


def test_kl_between_full_covariances_and_of_other_families_is_left_to_torch():
    torch.testing.assert_close(kl(full(5), full(seed=3)), kl_divergence(full(5), full(seed=3)))
    q, p = (Independent(Laplace(random_numbers(5, 3, seed=s), 1.0), 1) for s in (1, 2))
    torch.testing.assert_close(kl(q, p), kl_divergence(q, p))


def test_kl_of_each_unit_against_torch_and_by_hand():
    q = diagonal(5)
    per_unit = kl_per_unit(q, LEARNED)
    assert per_unit.shape == (5, 3)
    torch.testing.assert_close(
        per_unit, kl_divergence(Normal(q.mean, q.stddev), Normal(LEARNED.mean, LEARNED.stddev))
    )
    variance = q.variance
    by_hand = 0.5 * (q.mean.square() + variance - 1 - variance.log())
    torch.testing.assert_close(kl_per_unit(q, STANDARD), by_hand)


def test_kl_of_one_unit_against_its_integral():
    """∫ q log(q/p) dz on a fine grid."""
    q, p = diagonal(4, d=1), diagonal(d=1, seed=7)
    z = torch.linspace(-30, 30, 60_001, dtype=torch.float64)[:, None, None]
    log_q, log_p = q.log_prob(z), p.log_prob(z)
    integral = torch.trapezoid(log_q.exp() * (log_q - log_p), dx=0.001, dim=0)
    torch.testing.assert_close(kl(q, p), integral, rtol=1e-6, atol=1e-8)


def test_kl_is_never_negative_and_nothing_where_q_is_the_prior():
    assert (kl_per_unit(diagonal(1000), LEARNED) >= 0).all()
    torch.testing.assert_close(kl_per_unit(LEARNED, LEARNED), torch.zeros(3).double())
    assert kl(STANDARD, STANDARD).item() == 0


@pytest.mark.parametrize("q", [diagonal(5), full(5)])
@pytest.mark.parametrize("p", [STANDARD, LEARNED])
def test_kl_against_monte_carlo(q, p):
    z = q.from_noise(random_numbers(20_000, 5, 3))
    sampled = ElboTerms(q, p, z, torch.zeros(20_000, 5)).sampled_kl
    error = sampled.std(dim=0) / math.sqrt(20_000)
    assert ((sampled.mean(dim=0) - kl(q, p)).abs() < 5 * error).all()
    assert (error < 0.1 * kl(q, p)).all()  # or the comparison would say little


def test_kl_without_a_closed_form():
    q = Independent(Normal(torch.zeros(5, 3), 1.0), 1)
    p = Independent(StudentT(3.0, torch.zeros(3), 1.0), 1)
    with pytest.raises(NotImplementedError):
        kl(q, p)
    with pytest.raises(NotImplementedError):
        kl(MultivariateNormal(torch.zeros(5, 3), torch.eye(3)), p)
    # What stands in for it: log q − log p at the samples.
    z = random_numbers(4, 5, 3).float()
    terms = ElboTerms(q, p, z, torch.zeros(4, 5))
    truth = (Normal(0, 1).log_prob(z) - StudentT(3.0).log_prob(z)).sum(dim=-1)
    torch.testing.assert_close(terms.sampled_kl, truth)
    assert terms.closed_kl is None
    torch.testing.assert_close(terms.kl, truth.mean(dim=0))
    torch.testing.assert_close(terms.elbo, -truth.mean(dim=0))


@pytest.mark.parametrize(
    ("q", "p", "name"),
    [
        (full(5), STANDARD, "q"),
        (diagonal(5), full(), "p"),
        (
            Normal(torch.zeros(5, 3), 1.0),
            STANDARD,
            "q",
        ),  # units that no one has said belong together
        (Independent(Laplace(torch.zeros(5, 3), 1.0), 1), STANDARD, "q"),
    ],
)
def test_kl_of_each_unit_needs_independent_units(q, p, name):
    with pytest.raises(TypeError, match=f"{name}: expected a diagonal Gaussian"):
        kl_per_unit(q, p)


def test_kl_refuses_what_is_not_a_vector():
    """``Normal`` alone would give one KL for each number, and nobody would add them up."""
    q = Normal(torch.zeros(5, 3), torch.ones(5, 3))
    with pytest.raises(TypeError, match="q: expected a distribution of vectors"):
        kl(q, Normal(torch.zeros(3), torch.ones(3)))


@pytest.mark.parametrize("q", [diagonal(5), full(5)], ids=["diagonal", "full"])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_distributions_of_different_sizes_are_an_error(q, d):
    """One unit in the prior would be repeated for all three of q's, and nobody would see it."""
    words = rf"p: expected the event shape of q \(3,\), got \({d},\)"
    with pytest.raises(ValueError, match=words):
        kl(q, diagonal(d=d))
    if isinstance(q, Independent):
        with pytest.raises(ValueError, match=words):
            kl_per_unit(q, diagonal(d=d))


# ---------------------------------------------------------------------------- the terms


def small_model(seed: int = 0, likelihood: torch.nn.Module | None = None) -> VAE:
    """Six pixels, two latent units, four hidden units; every weight of a size that matters."""
    model = VAE(2, hidden=(4,), n_pixels=6, likelihood=likelihood).double()
    with torch.no_grad():
        for number, weights in enumerate(model.encoder.parameters()):
            weights.copy_(0.7 * random_numbers(*weights.shape, seed=seed + number))
        for number, weights in enumerate(model.decoder.parameters(), start=10):
            weights.copy_(0.7 * random_numbers(*weights.shape, seed=seed + number))
    return model


def learned_width() -> GaussianLikelihood:
    return GaussianLikelihood(0.4, learned=True)


def test_the_terms_are_those_of_torch_distributions():
    model, x = small_model(), grey(5, 6)
    terms = elbo_terms(model, x, n_samples=7)
    q = model.encode(x)
    mean, sigma = q.mean, q.stddev
    assert terms.z.shape == (7, 5, 2) and terms.log_likelihood.shape == (7, 5)
    log_prior = Normal(0, 1).log_prob(terms.z).sum(dim=-1)
    log_q = Normal(mean, sigma).log_prob(terms.z).sum(dim=-1)
    logits = model.decoder(terms.z)
    log_likelihood = -binary_cross_entropy_with_logits(
        logits, x.expand(7, 5, 6), reduction="none"
    ).sum(dim=-1)
    rate = kl_divergence(Normal(mean, sigma), Normal(0, 1)).sum(dim=-1)
    torch.testing.assert_close(terms.log_likelihood, log_likelihood)
    torch.testing.assert_close(terms.log_weights, log_likelihood + log_prior - log_q)
    torch.testing.assert_close(terms.sampled_kl, log_q - log_prior)
    torch.testing.assert_close(terms.kl, rate)
    torch.testing.assert_close(terms.kl_per_unit.sum(dim=1), rate)
    torch.testing.assert_close(terms.elbo, log_likelihood.mean(dim=0) - rate)


def test_the_mean_of_the_weights_is_the_evidence():
    """E_q[exp(log weight)] = p(x), here the sum of p(z) p(x|z) over a grid of codes."""
    model, x = small_model(), grey(5, 6).round()
    with torch.no_grad():
        for part in model.encoder.parameters():
            part *= 0.25  # q(z|x) stays as wide as the prior, and p(z|x) is within its reach
    weights = elbo_terms(model, x, noise=random_numbers(20_000, 5, 2, seed=3)).log_weights.exp()
    axis = torch.linspace(-8, 8, 161, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    prior = Normal(0, 1).log_prob(grid).sum(dim=1).exp()
    pixel = torch.sigmoid(model.decoder(grid))[:, None]
    evidence = 0.1**2 * (prior[:, None] * (pixel * x + (1 - pixel) * (1 - x)).prod(dim=-1)).sum(0)
    error = weights.std(dim=0) / math.sqrt(20_000)
    assert (error < 0.05 * evidence).all()
    assert ((weights.mean(dim=0) - evidence).abs() < 5 * error).all()


@pytest.mark.parametrize("likelihood", [None, GaussianLikelihood(0.3), learned_width()])
def test_gradient_against_finite_differences(likelihood):
    """With fixed noise the loss is a plain function of each weight."""
    model, x, noise = small_model(likelihood=likelihood), grey(5, 6), random_numbers(3, 5, 2)
    model.double()

    def loss() -> torch.Tensor:
        return -elbo_terms(model, x, noise=noise).elbo.mean()

    loss().backward()
    for name, weights in model.named_parameters():
        expected = torch.zeros_like(weights)
        for place in range(weights.numel()):
            ends = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    before = weights.view(-1)[place].item()
                    weights.view(-1)[place] = before + step
                    ends.append(loss().item())
                    weights.view(-1)[place] = before
            expected.view(-1)[place] = (ends[0] - ends[1]) / 2e-5
        assert expected.abs().max() > 1e-3, name  # each tensor has a say
        torch.testing.assert_close(weights.grad, expected, rtol=1e-5, atol=1e-7, msg=name)


def test_the_sampled_kl_has_the_gradient_of_the_closed_form_on_average():
    """Both ways of writing the ELBO train the same encoder; one gradient for each of n draws."""
    model, n = small_model(), 20_000
    x = grey(1, 6).expand(n, 6)
    outputs = model.encoder(x).detach().requires_grad_()
    q = diagonal_gaussian(outputs)
    z = q.from_noise(random_numbers(1, n, 2))
    terms = ElboTerms(q, model.prior(), z, model.decode(z).log_prob(x))
    (sampled,) = torch.autograd.grad(terms.log_weights.sum(), outputs, retain_graph=True)
    (closed,) = torch.autograd.grad(terms.elbo.sum(), outputs)
    difference = sampled - closed
    error = difference.std(dim=0) / math.sqrt(n)
    assert (difference.mean(dim=0).abs() < 5 * error).all()
    assert (error < 0.05 * closed.mean(dim=0).abs().max()).all()


def test_an_image_gets_the_same_terms_alone_as_in_a_batch():
    model, x, noise = small_model(), grey(5, 6), random_numbers(3, 5, 2)
    batch = elbo_terms(model, x, noise=noise)
    for i in range(5):
        alone = elbo_terms(model, x[i : i + 1], noise=noise[:, i : i + 1])
        for name in ("z", "log_likelihood", "sampled_kl", "log_weights"):
            torch.testing.assert_close(getattr(alone, name)[:, 0], getattr(batch, name)[:, i])
        for name in ("kl", "kl_per_unit", "elbo"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(batch, name)[i])


def test_samples_are_those_of_the_noise_one_by_one():
    model, x, noise = small_model(), grey(5, 6), random_numbers(3, 5, 2)
    together = elbo_terms(model, x, noise=noise, n_samples=99)  # S is the noise's
    assert together.z.shape == (3, 5, 2)
    for s in range(3):
        one = elbo_terms(model, x, noise=noise[s : s + 1])
        torch.testing.assert_close(one.log_weights[0], together.log_weights[s])
    again = elbo_terms(model, x, noise=noise)
    assert torch.equal(again.log_weights, together.log_weights)


def test_each_sample_of_each_image_in_each_call_has_its_own_noise():
    model, x = small_model(), grey(1, 6).expand(4, 6)  # four times the same image
    seen = []
    for n_samples, n_images in ((3, 4), (3, 4), (1, 1), (2, 3), (1, 4)):
        z = elbo_terms(model, x[:n_images], n_samples=n_samples).z
        assert z.shape == (n_samples, n_images, 2)
        seen += z.flatten().tolist()
    assert len(set(seen)) == len(seen)


def test_one_number_of_samples_is_the_default():
    assert elbo_terms(small_model(), grey(5, 6)).z.shape == (1, 5, 2)


def test_drawn_noise_is_standard_normal():
    model, x = small_model(), grey(5, 6)
    q = model.encode(x)
    torch.manual_seed(0)
    noise = ((elbo_terms(model, x, n_samples=20_000).z - q.mean) / q.stddev).flatten()
    n = len(noise)
    assert abs(noise.mean()) < 5 / math.sqrt(n)
    assert abs(noise.square().mean() - 1) < 5 * math.sqrt(2 / n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_terms_have_the_type_of_the_model(dtype):
    model, x = small_model().to(dtype), grey(5, 6)
    for noise in (None, random_numbers(2, 5, 2), random_numbers(2, 5, 2).float()):
        terms = elbo_terms(model, x, noise=noise)
        assert {terms.z.dtype, terms.log_weights.dtype, terms.elbo.dtype} == {dtype}


@pytest.mark.parametrize(
    ("noise", "error", "words"),
    [
        (torch.zeros(5, 2), ValueError, r"noise: expected shape \[S, 5, 2\].*got .*\(5, 2\)"),
        (torch.zeros(1, 4, 2), ValueError, r"noise: expected shape \[S, 5, 2\]"),
        (torch.zeros(1, 1, 2), ValueError, r"noise: expected shape \[S, 5, 2\]"),  # broadcasts
        (torch.zeros(1, 5, 1), ValueError, r"noise: expected shape \[S, 5, 2\]"),
        (torch.zeros(0, 5, 2), ValueError, "S of at least 1"),
        (torch.zeros(1, 5, 2, dtype=torch.int64), TypeError, "noise: expected a float tensor"),
        ([[[0.0] * 2] * 5], TypeError, "noise: expected a float tensor"),
    ],
)
def test_bad_noise(noise, error, words):
    with pytest.raises(error, match=words):
        elbo_terms(small_model(), grey(5, 6), noise=noise)


@pytest.mark.parametrize(
    ("n_samples", "error"), [(0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError)]
)
def test_bad_number_of_samples(n_samples, error):
    with pytest.raises(error, match="n_samples: expected an integer of at least 1"):
        elbo_terms(small_model(), grey(5, 6), n_samples=n_samples)


def test_images_that_do_not_fit():
    with pytest.raises(ValueError, match="x: expected shape"):
        elbo_terms(small_model(), grey(5, 7))


def test_every_image_and_sample_counts_by_hand():
    """Two images and three samples with known numbers: what is added up, and what is averaged."""
    mean = torch.tensor([[0.0, 1.0], [2.0, 0.0]], dtype=torch.float64)
    q, prior = Independent(Normal(mean, 1.0), 1), Independent(Normal(0 * mean[0], 1.0), 1)
    z = torch.stack([q.mean, q.mean + 1, q.mean - 1])
    log_likelihood = torch.tensor([[-3.0, -1.0], [-5.0, -4.0], [-10.0, -7.0]]).double()
    terms = ElboTerms(q, prior, z, log_likelihood)
    assert terms.kl_per_unit.tolist() == [[0.0, 0.5], [2.0, 0.0]]  # ½ μ²
    assert terms.kl.tolist() == [0.5, 2.0]
    assert terms.elbo.tolist() == [-6.5, -6.0]
    # log q − log p = ½ (‖z‖² − ‖z − μ‖²), added up over the units
    rates = torch.tensor([[0.5, 2.0], [1.5, 4.0], [-0.5, 0.0]]).double()
    torch.testing.assert_close(terms.sampled_kl, rates)
    torch.testing.assert_close(terms.log_weights, log_likelihood - rates)


@pytest.mark.parametrize("likelihood", [None, GaussianLikelihood(0.3)])
def test_gradient_of_the_pixels_against_finite_differences(likelihood):
    """x has a say in q(z|x) and in log p(x|z); a saliency map needs both."""
    model, noise = small_model(likelihood=likelihood).double(), random_numbers(3, 2, 2)
    x = grey(2, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: elbo_terms(model, x, noise=noise).elbo, x)
