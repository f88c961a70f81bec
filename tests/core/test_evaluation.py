"""Evaluation against independent truth: closed forms of the linear VAE, brute force, and means
over many draws with their error bars."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.nn import functional as F

from small import random_numbers, small_images
from vae_book.linear import LinearVAE, pca
from vae_core import (
    VAE,
    BernoulliLikelihood,
    GaussianLikelihood,
    active_units,
    estimate_elbo,
    estimate_information,
    estimate_log_likelihood,
    evaluation,
    log_evidence_2d,
)
from vae_core.seeds import noise_at

GREY = {"binarisation": "grey"}
FIXED = {"binarisation": "fixed"}


def black_and_white(n: int, n_pixels: int = 12) -> torch.Tensor:
    """n different images of ink and paper, as bytes."""
    return small_images(n, shape=(n_pixels,))


def linear_vae(
    latent_dim: int = 2,
    n_pixels: int = 5,
    sigma_x: float = 0.6,
    *,
    width: float = 3.0,
    shift: float = 0.5,
) -> LinearVAE:
    """A linear VAE whose q(z|x) is the true posterior, but that much too wide and shifted."""
    model = LinearVAE(latent_dim, n_pixels, sigma_x=sigma_x).double()
    W, b = random_numbers(n_pixels, latent_dim, seed=1), random_numbers(n_pixels, seed=2)
    M = W.T @ W + sigma_x**2 * torch.eye(latent_dim)
    to_mean = torch.linalg.solve(M, W.T)
    variance = sigma_x**2 / M.diagonal()
    with torch.no_grad():
        model.decoder[0].weight.copy_(W)
        model.decoder[0].bias.copy_(b)
        model.encoder[0].weight.copy_(torch.cat([to_mean, torch.zeros_like(to_mean)]))
        to_the_side = shift * variance.sqrt() - to_mean @ b
        model.encoder[0].bias.copy_(torch.cat([to_the_side, (width * variance).log()]))
    return model


def best_linear_vae() -> tuple[LinearVAE, torch.Tensor]:
    """A linear VAE whose q(z|x) is the true posterior, and images."""
    widths = torch.tensor([1.0, 0.8, 0.6, 0.3, 0.1], dtype=torch.float64)
    x = random_numbers(200, 5) * widths
    return LinearVAE.at_optimum(pca((x / 8 + 0.5).clamp(0, 1)), 2, sigma_x=0.05), x[:5] / 8 + 0.5


def its_images(model: LinearVAE, n: int, seed: int = 3) -> torch.Tensor:
    """Images drawn from a linear VAE."""
    W, b = model.decoder[0].weight.detach(), model.decoder[0].bias.detach()
    noise = model.likelihood.sigma_x.square()
    z = random_numbers(n, model.latent_dim, seed=seed)
    return z @ W.T + b + noise.sqrt() * random_numbers(n, model.n_pixels, seed=seed + 1)


def parts_of(model: LinearVAE, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Mean and variance of q(z|x), W, b and σₓ², straight from the weights."""
    layer = model.encoder[0]
    mean, log_var = (x @ layer.weight.T + layer.bias).detach().chunk(2, dim=1)
    W, b = model.decoder[0].weight.detach(), model.decoder[0].bias.detach()
    return mean, log_var.exp(), W, b, model.likelihood.sigma_x.double() ** 2


def exact_terms(model: LinearVAE, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """E_q[log p(x|z)] and KL(q(z|x) ‖ p(z)) of a linear VAE in closed form, each ``[N]``.

    E‖x − b − W z‖² = ‖x − b − W μ‖² + Σ σⱼ² ‖wⱼ‖².
    """
    mean, variance, W, b, noise = parts_of(model, x)
    distance = (x - b - mean @ W.T).square().sum(dim=1) + variance @ W.square().sum(dim=0)
    log_likelihood = -0.5 * (distance / noise + x.shape[1] * (2 * math.pi * noise).log())
    q, standard = Normal(mean, variance.sqrt()), Normal(torch.zeros(()), torch.ones(()))
    return log_likelihood, kl_divergence(q, standard).sum(dim=1)


def exact_evidence(model: LinearVAE, x: torch.Tensor) -> torch.Tensor:
    """log p(x) of a linear VAE ``[N]``: a Gaussian with covariance W Wᵀ + σₓ² I."""
    _, _, W, b, noise = parts_of(model, x)
    return MultivariateNormal(b, W @ W.T + noise * torch.eye(len(b), dtype=W.dtype)).log_prob(x)


def black_and_white_vae(
    latent_dim: int = 2, n_pixels: int = 12, hidden: tuple[int, ...] = (8,), scale: float = 2.0
) -> VAE:
    """A small VAE for black-and-white images whose weights aren't small."""
    model = VAE(latent_dim, hidden=hidden, n_pixels=n_pixels)
    with torch.no_grad():
        for i, weights in enumerate(model.parameters()):
            weights.copy_(scale * random_numbers(*weights.shape, seed=i) / weights.shape[-1] ** 0.5)
    return model


def spread_error(values: torch.Tensor) -> float:
    """Standard error of a mean of independent values."""
    return values.std().item() / len(values) ** 0.5


# ---------------------------------------------------------------------------- the ELBO


def test_elbo_against_the_closed_form():
    model = linear_vae()
    x = its_images(model, 200)
    log_likelihood, kl = exact_terms(model, x)
    result = estimate_elbo(model, x, n_samples=20, **GREY)
    assert abs(result.elbo.value - (log_likelihood - kl).mean()) < 5 * result.elbo.error
    assert abs(result.log_likelihood.value - log_likelihood.mean()) < 5 * result.elbo.error
    torch.testing.assert_close(result.kl.per_image, kl)
    assert result.kl.error == 0
    torch.testing.assert_close(
        result.elbo.per_image, result.log_likelihood.per_image - result.kl.per_image
    )
    assert result.elbo.value == pytest.approx(result.elbo.per_image.mean().item())


def test_elbo_is_not_the_value_at_the_posterior_mean():
    """z = μ in place of a sample leaves out Σ σⱼ² ‖wⱼ‖²/(2σₓ²), and looks that much better."""
    model = linear_vae()
    x = its_images(model, 200)
    mean, variance, W, b, noise = parts_of(model, x)
    gift = (variance @ W.square().sum(dim=0)).mean() / (2 * noise)
    at_mean = Normal(mean @ W.T + b, noise.sqrt()).log_prob(x).sum(dim=1).mean()
    result = estimate_elbo(model, x, n_samples=20, **GREY).log_likelihood
    assert gift > 20 * result.error
    assert abs(result.value - (at_mean - gift)) < 5 * result.error


# ---------------------------------------------------------------------------- errors


def near() -> tuple[VAE, torch.Tensor]:
    """q is close to the true posterior: the variance of a logarithm to first order is enough."""
    model = linear_vae(width=1.2, shift=0.1)
    return model, its_images(model, 5)


def off() -> tuple[VAE, torch.Tensor]:
    model = linear_vae()
    return model, its_images(model, 5)


def nonlinear() -> tuple[VAE, torch.Tensor]:
    return black_and_white_vae(scale=1.0).double(), black_and_white(4)


def about(x: torch.Tensor) -> dict[str, str]:
    return FIXED if x.dtype == torch.uint8 else GREY


def elbo(model, x, n_samples, seed):
    return estimate_elbo(model, x, n_samples=n_samples, seed=seed, **about(x))


def log_likelihood(model, x, k, seed):
    return estimate_log_likelihood(model, x, k=k, seed=seed, **about(x))


def information(model, x, n_samples, seed):
    return estimate_information(model, x, n_samples=n_samples, seed=seed, **about(x))


RUNS = 200


@pytest.mark.parametrize(
    ("images_of", "estimate", "n_samples", "parts"),
    [
        (near, elbo, 2, ["elbo", "log_likelihood"]),
        (off, elbo, 30, ["elbo", "log_likelihood"]),
        (nonlinear, elbo, 5, ["elbo", "log_likelihood"]),
        (best_linear_vae, elbo, 2, ["elbo", "log_likelihood"]),
        *((near, log_likelihood, k, [None]) for k in (2, 5, 50)),
        (off, log_likelihood, 50, [None]),
        (nonlinear, log_likelihood, 60, [None]),
        (off, information, 10, ["mutual_information", "marginal_kl"]),
        (nonlinear, information, 2, ["mutual_information", "marginal_kl"]),
        (best_linear_vae, information, 2, ["mutual_information", "marginal_kl"]),
    ],
)
def test_the_error_is_the_spread_over_seeds(images_of, estimate, n_samples, parts):
    """How much the images differ from each other is no part of it.

    Mean squares are compared, whose expectations are the same for any number of samples; each is
    known to a share of √(2/runs), and a standard deviation to half of that.
    """
    model, x = images_of()
    runs = [estimate(model, x, n_samples, seed) for seed in range(RUNS)]
    for part in parts:
        estimates = runs if part is None else [getattr(run, part) for run in runs]
        values = torch.tensor([estimate.value for estimate in estimates], dtype=torch.float64)
        errors = torch.tensor([estimate.error for estimate in estimates], dtype=torch.float64)
        reported = errors.square().mean().sqrt().item()
        assert reported == pytest.approx(values.std().item(), rel=4 / math.sqrt(2 * RUNS)), part


@pytest.mark.parametrize("k", [2, 5, 50])
def test_equal_weights_have_no_error_and_no_spread(k):
    """Where q is the true posterior every weight is p(x), so one sample says as much as many.

    The ELBO's samples differ all the same: log p(x|z) alone isn't constant.
    """
    model, x = best_linear_vae()
    evidence = exact_evidence(model, x)
    for seed in range(5):
        run = log_likelihood(model, x, k, seed)
        torch.testing.assert_close(run.per_image, evidence, rtol=0, atol=1e-10)
        assert 0 <= run.error < 1e-6
    assert elbo(model, x, k, 0).elbo.error > 0.01


@pytest.mark.parametrize("value", [-1000.0, -0.5, 300.0])
def test_weights_that_are_equal_up_to_rounding(monkeypatch, value):
    """Far from 0, 1/k + rounding may come out below 1/k: the error is 0 then, and never NaN."""
    model, x = best_linear_vae()
    weights = value * (1 + 1e-15 * random_numbers(70, len(x)))
    monkeypatch.setattr(evaluation, "_terms", lambda *_: [[SimpleNamespace(log_weights=weights)]])
    run = log_likelihood(model, x, 70, 0)
    assert run.value == pytest.approx(value) and 0 <= run.error < 1e-5


@pytest.mark.parametrize("n", [2, 3, 40])
def test_the_error_of_known_weights_by_hand(monkeypatch, n):
    """The standard error of the mean weight over the mean weight, and the mean over images."""
    model, x = off()
    log_w = random_numbers(n, len(x)) - 20
    pieces = [SimpleNamespace(log_weights=part) for part in log_w.split(7)]
    monkeypatch.setattr(evaluation, "_terms", lambda *_: [pieces])
    run, w = log_likelihood(model, x, n, 0), log_w.exp()
    torch.testing.assert_close(run.per_image, w.mean(dim=0).log())
    relative = w.std(dim=0) / math.sqrt(n) / w.mean(dim=0)
    assert run.error == pytest.approx(relative.square().sum().sqrt().item() / len(x))


@pytest.mark.parametrize(
    "parts",
    [
        lambda model, x: [elbo(model, x, 1, 0).elbo, elbo(model, x, 1, 0).log_likelihood],
        lambda model, x: [log_likelihood(model, x, 1, 0)],
        lambda model, x: [information(model, x, 1, 0).mutual_information],
        lambda model, x: [information(model, x, 1, 0).marginal_kl],
    ],
)
def test_one_sample_cannot_tell_its_error(parts):
    for estimate in parts(black_and_white_vae(), black_and_white(5)):
        assert estimate.error == math.inf and math.isfinite(estimate.value)
        assert "± unknown nats" in repr(estimate) and "1 sample each" in repr(estimate)


# ---------------------------------------------------------------------------- noise and chunks


def per_image(model, x, **options) -> dict[str, torch.Tensor]:
    """Every estimate that draws samples, image by image."""
    elbo = estimate_elbo(model, x, n_samples=5, **options)
    return {
        "ELBO": elbo.elbo.per_image,
        "log-likelihood": elbo.log_likelihood.per_image,
        "KL": elbo.kl.per_image,
        "importance-weighted": estimate_log_likelihood(model, x, k=11, **options).per_image,
    }


@pytest.mark.parametrize("rows", [1, 3, 7, 50, 100_000])
@pytest.mark.parametrize(("dtype", "nats"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_chunks_change_nothing(monkeypatch, rows, dtype, nats):
    """13 images: the last chunk is ragged, and so is the last piece of the samples."""
    model, x = black_and_white_vae(scale=1.0).to(dtype), black_and_white(13)
    whole = per_image(model, x, **FIXED)
    monkeypatch.setattr(evaluation, "ROWS", rows)
    for name, values in per_image(model, x, **FIXED).items():
        assert values.shape == (13,), name
        assert (values - whole[name]).abs().max() < nats, name


@pytest.mark.parametrize("rows", [10, 333])
def test_chunks_change_nothing_for_a_model_of_full_size(monkeypatch, rows):
    """Sums over 784 pixels, in float32, of hundreds of nats."""
    torch.manual_seed(0)
    model, x = VAE(20, hidden=(100,)), black_and_white(20, 784)
    whole = per_image(model, x, **FIXED)
    monkeypatch.setattr(evaluation, "ROWS", rows)
    for name, values in per_image(model, x, **FIXED).items():
        assert (values - whole[name]).abs().max() < 3e-4, name  # 550 nats have 6e-5


def test_an_image_has_the_same_numbers_in_any_company():
    model, x = black_and_white_vae().double(), black_and_white(33)
    alone = per_image(model, x[:5], **FIXED)
    for name, values in per_image(model, x, **FIXED).items():
        torch.testing.assert_close(values[:5], alone[name], rtol=0, atol=1e-9, msg=name)


def test_every_image_has_noise_of_its_own():
    """Equal images get unequal estimates, also across chunks."""
    model, x = black_and_white_vae().double(), black_and_white(1).repeat(1500, 1)
    for estimate in (
        estimate_elbo(model, x, n_samples=1, **FIXED).elbo,
        estimate_log_likelihood(model, x, k=1, **FIXED),
    ):
        assert len(estimate.per_image.unique()) == 1500


def test_same_numbers_at_each_call_whatever_else_draws_numbers():
    """Nothing is drawn anew: neither the images nor, with the same seed, the samples."""
    model, x = black_and_white_vae(), black_and_white(33)
    kept = x.clone()
    first = per_image(model, x, **FIXED) | {
        "information": estimate_information(model, x, **FIXED).mutual_information.per_image
    }
    torch.rand(3)
    np.random.rand(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    again = per_image(model, x, **FIXED) | {
        "information": estimate_information(model, x, **FIXED).mutual_information.per_image
    }
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(x, kept)


def test_another_seed_is_another_draw():
    model, x = black_and_white_vae(), black_and_white(33)
    one, other = (per_image(model, x, seed=seed, **FIXED) for seed in (0, 1))
    assert torch.equal(one.pop("KL"), other.pop("KL"))  # a closed form
    for name, values in one.items():
        assert (values != other[name]).all(), name
    one, other = (estimate_information(model, x, seed=seed, **FIXED) for seed in (0, 1))
    assert one.mutual_information.value != other.mutual_information.value


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_the_first_samples_are_the_same_for_more_of_them(k):
    """So an estimate of k + 1 samples is that of k and one weight more, made by hand here."""
    model, x = black_and_white_vae().double(), black_and_white(3)
    fewer = estimate_log_likelihood(model, x, k=k, **FIXED).per_image + math.log(k)
    more = estimate_log_likelihood(model, x, k=k + 1, **FIXED).per_image + math.log(k + 1)
    noise = noise_at(0, torch.arange(3), 2 * k, 2 * k + 2).double()  # of the last sample
    with torch.no_grad():
        q = model.encode(x)
        z = q.mean + q.stddev * noise
        logits, pixels = model.decoder(z), x.double() / 255
        weight = -F.binary_cross_entropy_with_logits(logits, pixels, reduction="none").sum(dim=1)
        weight += Normal(0, 1).log_prob(z).sum(dim=1) - Normal(q.mean, q.stddev).log_prob(z).sum(1)
    torch.testing.assert_close(more, torch.logaddexp(fewer, weight), rtol=0, atol=1e-9)


def test_the_mean_counts_every_image_once():
    """1,003 images in chunks of 1,000: a mean of chunk means would be made by the last three."""
    model = linear_vae()
    x = its_images(model, 1003)
    x[-3:] += 30  # unlike all others
    log_likelihood, kl = exact_terms(model, x)
    exact = exact_evidence(model, x)
    elbo = estimate_elbo(model, x, n_samples=2, **GREY)
    assert elbo.kl.value == pytest.approx(kl.mean().item(), rel=1e-9)
    assert elbo.elbo.value == pytest.approx((log_likelihood - kl).mean().item(), rel=0.02)
    many = estimate_log_likelihood(model, x, k=50, **GREY)
    assert len(many.per_image) == len(elbo.elbo.per_image) == 1003
    assert many.value == pytest.approx(many.per_image.mean().item())
    assert many.per_image.mean().item() == pytest.approx(exact.mean().item(), rel=0.02)


# ---------------------------------------------------------------------------- importance weighting


def test_log_likelihood_against_the_exact_evidence():
    model = linear_vae()
    x = its_images(model, 10)
    exact = exact_evidence(model, x)
    result = estimate_log_likelihood(model, x, k=5000, **GREY)
    assert result.error < 0.01
    assert abs(result.value - exact.mean()) < 5 * result.error
    assert (result.per_image - exact).abs().max() < 0.15  # each image, not only the mean
    assert result.value < 0  # log p(x), not its negative: p(x) is below 1 here
    assert exact.mean() < -1


@pytest.mark.parametrize("k", [1, 2, 10, 1500])
def test_the_mean_weight_is_p_x_without_bias(k):
    """E[p̂] = p(x) for any k: many runs on one image, seen as many images."""
    model = linear_vae()
    x = its_images(model, 1)
    n = 4000 if k < 100 else 50
    runs = estimate_log_likelihood(model, x.repeat(n, 1), k=k, **GREY).per_image
    ratios = (runs - exact_evidence(model, x)).exp()
    assert abs(ratios.mean() - 1) < 5 * spread_error(ratios)


def test_elbo_and_importance_weighted_bounds_come_in_order():
    """ELBO = E[log p̂₁] < E[log p̂₂] < E[log p̂₅] < E[log p̂₂₀] < log p(x), on means."""
    model = linear_vae()
    x = its_images(model, 1)
    log_likelihood, kl = exact_terms(model, x)
    means = [((log_likelihood - kl).item(), 0.0)]
    for k in (1, 2, 5, 20):
        runs = estimate_log_likelihood(model, x.repeat(3000, 1), k=k, **GREY).per_image
        means.append((runs.mean().item(), spread_error(runs)))
    means.append((exact_evidence(model, x).item(), 0.0))
    (elbo, _), (one, error), *_ = means
    assert abs(elbo - one) < 5 * error
    for (lower, error_1), (higher, error_2) in zip(means[1:], means[2:], strict=False):
        assert lower + 3 * math.hypot(error_1, error_2) < higher


class Rows:
    """How many codes a decoder gets at a time, and in all."""

    def __init__(self, model: VAE):
        self.most = self.total = 0
        model.decoder.register_forward_pre_hook(self.note)

    def note(self, module, inputs):
        self.most = max(self.most, inputs[0].shape[:-1].numel())
        self.total += inputs[0].shape[:-1].numel()


@pytest.mark.parametrize(("n", "k"), [(1, 12_345), (30, 70), (1500, 1), (3, 999)])
def test_memory_is_bounded_for_any_k(n, k):
    model = black_and_white_vae(1, 2, hidden=())
    x = black_and_white(n, 2)
    for estimate in (
        lambda: estimate_log_likelihood(model, x, k=k, **FIXED),
        lambda: estimate_elbo(model, x, n_samples=k, **FIXED),
    ):
        rows = Rows(model)
        estimate()
        assert rows.most <= evaluation.ROWS
        assert rows.total == n * k  # and no sample is dropped


def test_a_hundred_thousand_samples_of_one_image():
    model = linear_vae(1, 2)
    x = its_images(model, 1)
    result = estimate_log_likelihood(model, x, k=100_000, **GREY)
    assert abs(result.value - exact_evidence(model, x).item()) < 5 * result.error < 0.02
    assert "k = 100,000" in repr(result)


# ---------------------------------------------------------------------------- quadrature


def test_quadrature_against_the_exact_evidence():
    model = linear_vae()
    x = its_images(model, 30)
    result = log_evidence_2d(model, x, points=201, **GREY)
    torch.testing.assert_close(result.per_image, exact_evidence(model, x), rtol=0, atol=1e-5)
    assert result.error < 1e-6


def test_quadrature_of_a_nonlinear_model_against_samples_of_the_prior():
    """p(x) = E[p(x|z)] over codes from the prior, for black-and-white images."""
    model, x = black_and_white_vae().double(), black_and_white(8)
    n, pixels = 100_000, x.double() / 255
    logits = model.decoder(random_numbers(n, 2, seed=100)).detach()
    # log sigmoid(a) where there is ink, log sigmoid(−a) where there is none
    p = (F.logsigmoid(logits) @ pixels.T + F.logsigmoid(-logits) @ (1 - pixels).T).exp()
    error = p.std(dim=0) / n**0.5 / p.mean(dim=0)
    exact = p.mean(dim=0).log()
    assert error.max() < 0.1 and exact.std() > 0.5  # worth comparing
    result = log_evidence_2d(model, x, points=201, **FIXED)
    assert ((result.per_image - exact).abs() < 5 * error).all()
    finer = log_evidence_2d(model, x, points=301, extent=7.0, **FIXED)
    torch.testing.assert_close(result.per_image, finer.per_image, rtol=0, atol=5e-3)


def test_probabilities_of_all_images_add_up_to_one():
    """The 2⁶ images of six pixels are all there are."""
    model = black_and_white_vae(2, 6)
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6)
    result = log_evidence_2d(model, x, points=201, **FIXED)
    assert result.per_image.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_quadrature_gets_better_with_points_and_says_so():
    model = linear_vae(sigma_x=0.3)
    x = its_images(model, 10)
    exact = exact_evidence(model, x).mean().item()
    runs = [log_evidence_2d(model, x, points=points, **GREY) for points in (31, 51, 101)]
    errors = [run.error for run in runs]
    assert errors[0] > 2 * errors[1] and errors[1] > 20 * errors[2]
    for run in runs:
        assert abs(run.value - exact) <= run.error + 1e-6


def test_quadrature_does_not_depend_on_chunks(monkeypatch):
    model, x = black_and_white_vae(), black_and_white(33)
    whole = log_evidence_2d(model, x, points=41, **FIXED).per_image
    monkeypatch.setattr(evaluation, "ROWS", 37)
    torch.testing.assert_close(
        log_evidence_2d(model, x, points=41, **FIXED).per_image, whole, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("extent", [0.5, 2.0])
def test_a_grid_that_cuts_the_posterior_off_is_an_error(extent):
    model = linear_vae()
    x = its_images(model, 3)
    x[1] = (model.decode(torch.tensor([[3.0, 0.0]])).mean).detach()[0]  # its code is at the edge
    with pytest.raises(ValueError, match=f"extent: expected a grid .* on the edge at ±{extent:g}"):
        log_evidence_2d(model, x, extent=extent, points=101, **GREY)


@pytest.mark.parametrize(
    ("latent_dim", "options", "error", "words"),
    [
        (3, {}, ValueError, "model: expected 2 latent dimensions, got 3"),
        (1, {}, ValueError, "model: expected 2 latent dimensions, got 1"),
        (2, {"points": 100}, ValueError, "points: expected an odd number of at least 5, got 100"),
        (2, {"points": 3}, ValueError, "points: expected an odd number of at least 5, got 3"),
        (2, {"points": 101.0}, TypeError, "points: expected an integer"),
        (2, {"extent": 0.0}, ValueError, "extent: expected a finite number above 0"),
        (2, {"extent": math.inf}, ValueError, "extent: expected a finite number above 0"),
        (2, {"extent": "6"}, TypeError, "extent: expected a number"),
    ],
)
def test_bad_grids(latent_dim, options, error, words):
    with pytest.raises(error, match=words):
        log_evidence_2d(black_and_white_vae(latent_dim), black_and_white(3), **options, **FIXED)


# ---------------------------------------------------------------------------- active units


def encoder_of(slopes: list[float], offsets: list[float], sigmas: list[float]) -> LinearVAE:
    """q(z|x) = N(slope · x + offset, σ²) of each unit, for images of one pixel."""
    model = LinearVAE(len(slopes), 1).double()
    slopes, offsets, sigmas = (torch.tensor(v).double() for v in (slopes, offsets, sigmas))
    with torch.no_grad():
        model.encoder[0].weight.copy_(torch.cat([slopes, torch.zeros_like(slopes)])[:, None])
        model.encoder[0].bias.copy_(torch.cat([offsets, 2 * sigmas.log()]))
    return model


def test_active_units_of_a_model_made_by_hand():
    """Unit 0 follows the image, 1 a little, 2 is off zero but constant, 3 is only wide."""
    model = encoder_of([1.0, 0.05, 0.0, 0.0], [0.0, 0.0, 100.0, 0.0], [0.1, 1.0, 1.0, 50.0])
    x = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])
    units = active_units(model, x, **GREY)
    torch.testing.assert_close(units.variances, torch.tensor([1.0, 0.0025, 0, 0]).double())
    assert units.active.tolist() == [True, False, False, False] and units.count == 1
    assert active_units(model, x, threshold=0.002, **GREY).count == 2
    text = repr(units)
    assert "⟨1⟩ of 4" in text and "above 0.01" in text and "grey, ⟨4⟩ images" in text


def test_the_variance_over_images_divides_by_their_number():
    """Two images at ±0.09: 0.0081 is below the threshold, 0.0162 (division by N − 1) isn't."""
    units = active_units(encoder_of([0.09], [0.0], [1.0]), torch.tensor([[-1.0], [1.0]]), **GREY)
    assert units.variances.item() == pytest.approx(0.0081) and units.count == 0


def test_active_units_over_all_chunks(monkeypatch):
    """Images that only differ from one chunk to the next."""
    model = encoder_of([1.0], [0.0], [1.0])
    x = torch.tensor([[1.0], [1.0], [1.0], [4.0]])
    monkeypatch.setattr(evaluation, "ROWS", 3)
    assert active_units(model, x, **GREY).variances.item() == pytest.approx(27 / 16)


@pytest.mark.parametrize(
    ("n", "options", "error", "words"),
    [
        (1, {}, ValueError, "images: expected at least 2 images, got 1"),
        (3, {"threshold": 0}, ValueError, "threshold: expected a finite number above 0"),
        (3, {"threshold": None}, TypeError, "threshold: expected a number"),
    ],
)
def test_bad_arguments_of_active_units(n, options, error, words):
    with pytest.raises(error, match=words):
        active_units(black_and_white_vae(), black_and_white(n), **options, **FIXED)


# ---------------------------------------------------------------------------- information


def gaussian_pixels(n: int) -> torch.Tensor:
    """n images of one pixel that are as Gaussian as n numbers can be: quantiles, variance 1."""
    x = Normal(0, 1).icdf((torch.arange(n).double() + 0.5) / n)
    return (x / x.std(correction=0))[:, None]


@pytest.mark.parametrize(
    ("a", "m", "s"), [(1.0, 0.0, 0.5), (0.9, 0.0, 0.2), (0.3, 1.5, 1.2), (2.0, -0.5, 0.4)]
)
def test_information_and_marginal_kl_each_against_its_closed_form(a, m, s):
    """Codes N(a x + m, s²), and x Gaussian: q(z) = N(m, a² + s²).

    I = ½ log(1 + a²/s²), and KL(q(z) ‖ p(z)) is one of two Gaussians. A second unit ignores the
    image: it adds nothing to I, and its own KL to the other.
    """
    n = 500
    model = encoder_of([a, 0.0], [m, 0.7], [s, 0.6])
    result = estimate_information(model, gaussian_pixels(n), n_samples=20, **GREY)
    information = 0.5 * math.log(1 + a**2 / s**2)
    q = Normal(torch.tensor([m, 0.7]), torch.tensor([math.hypot(a, s), 0.6]))
    marginal = kl_divergence(q, Normal(torch.zeros(2), torch.ones(2))).sum().item()
    # A mixture of N is a little off the Gaussian: by the number of s-wide places, over N.
    bias = 2 * (1 + a / s) / n
    assert bias < 0.03
    for estimate, exact in (
        (result.mutual_information, information),
        (result.marginal_kl, marginal),
    ):
        assert 5 * estimate.error < 0.1
        assert abs(estimate.value - exact) < 5 * estimate.error + bias
    assert result.ceiling == pytest.approx(math.log(n))


def test_results_are_ordinary_tensors():
    """They can be changed, and used where gradients are recorded."""
    model, x = black_and_white_vae(), black_and_white(4)
    elbo, information = estimate_elbo(model, x, **FIXED), estimate_information(model, x, **FIXED)
    for tensor in (
        *(getattr(elbo, part).per_image for part in ("elbo", "log_likelihood", "kl")),
        *(
            getattr(information, part).per_image
            for part in ("mutual_information", "marginal_kl", "mean_kl")
        ),
        estimate_log_likelihood(model, x, k=3, **FIXED).per_image,
        log_evidence_2d(model, x, points=21, **FIXED).per_image,
        active_units(model, x, **FIXED).variances,
    ):
        assert tensor.dtype == torch.float64 and not tensor.requires_grad
        assert not tensor.is_inference()


def test_information_and_marginal_kl_add_up_to_the_mean_kl():
    model, x = black_and_white_vae(), black_and_white(300)
    result = estimate_information(model, x, n_samples=20, **FIXED)
    parts = result.mutual_information, result.marginal_kl
    total = sum(part.value for part in parts)
    assert abs(total - result.mean_kl.value) < 5 * sum(part.error for part in parts)
    q = model.encode(x)
    kl = kl_divergence(Normal(q.mean, q.stddev), Normal(0, 1)).sum(dim=1)
    assert result.mean_kl.value == pytest.approx(kl.mean().item(), rel=1e-5)
    assert result.mean_kl.error == 0


@pytest.mark.parametrize("n", [1, 2, 100, 1500])
def test_information_saturates_at_log_n(n):
    """Codes that tell all images apart carry log N nats, however much they could carry."""
    model = encoder_of([1000.0], [0.0], [1e-3])
    result = estimate_information(model, gaussian_pixels(n + 1)[:n], n_samples=2, **GREY)
    assert result.mutual_information.value == pytest.approx(math.log(n), abs=1e-9)
    assert result.ceiling == pytest.approx(math.log(n), abs=1e-12)
    assert f"at most log N = ⟨{math.log(n):.2f}⟩" in repr(result)


@pytest.mark.parametrize("sigma", [1e-3, 0.03, 0.1, 1.0, 30.0])
def test_information_never_exceeds_log_n(sigma):
    model = encoder_of([3.0], [0.0], [sigma])
    result = estimate_information(model, gaussian_pixels(50), n_samples=5, **GREY)
    assert (result.mutual_information.per_image <= math.log(50) + 1e-9).all()


def test_equal_images_carry_no_information():
    model, x = black_and_white_vae().double(), black_and_white(1).repeat(40, 1)
    result = estimate_information(model, x, n_samples=3, **FIXED)
    assert result.mutual_information.per_image.abs().max() < 1e-9
    assert abs(result.marginal_kl.value - result.mean_kl.value) < 5 * result.marginal_kl.error


def test_information_does_not_depend_on_the_order_of_images_beyond_its_error():
    model = encoder_of([1.0], [0.0], [0.3])
    x = gaussian_pixels(500)
    one, other = (
        estimate_information(model, images, **GREY).mutual_information
        for images in (x, x.flip(dims=[0]))
    )
    assert one.value != other.value
    assert abs(one.value - other.value) < 5 * math.hypot(one.error, other.error)


# ---------------------------------------------------------------------------- what estimates say


def test_an_estimate_says_its_conditions():
    model = black_and_white_vae()
    for binarisation in ("grey", "fixed", "redrawn"):
        x = black_and_white(1234) // (2 if binarisation == "grey" else 1)
        about = {"binarisation": binarisation}
        elbo = estimate_elbo(model, x, n_samples=10, **about)
        information = estimate_information(model, x[:50], n_samples=2, **about)
        for estimate, samples in (
            (elbo.elbo, "10 samples each"),
            (elbo.log_likelihood, "10 samples each"),
            (elbo.kl, "closed form"),
            (estimate_log_likelihood(model, x, k=1, **about), "1 sample each"),
            (estimate_log_likelihood(model, x[:2], k=1500, **about), "1,500 samples each"),
            (log_evidence_2d(model, x[:2], points=41, **about), "grid of 41 × 41 codes"),
            (information.mutual_information, "2 samples each"),
            (information.marginal_kl, "2 samples each"),
            (information.mean_kl, "closed form"),
        ):
            text = repr(estimate)
            assert samples == estimate.samples and samples in text
            assert estimate.binarisation == binarisation and f"({binarisation}, ⟨" in text
            assert f"⟨{len(estimate.per_image):,}⟩ images" in text
            assert f"⟨{estimate.value:.2f}⟩" in text and "nats" in text
            if estimate.error and math.isfinite(estimate.error):
                assert re.search(rf"± ⟨?{re.escape(f'{estimate.error:.2g}')}", text)
        for part in (elbo.elbo, elbo.log_likelihood, elbo.kl):
            assert repr(part) in repr(elbo)
        for part in (information.mutual_information, information.marginal_kl, information.mean_kl):
            assert repr(part) in repr(information)


# ---------------------------------------------------------------------------- model and images


class WithDropout(VAE):
    """Half of all pixels and hidden units are dropped while training."""

    def __init__(self):
        super().__init__(2, hidden=(8,), n_pixels=12)
        self.encoder = torch.nn.Sequential(torch.nn.Dropout(0.5), self.encoder)
        self.decoder = torch.nn.Sequential(self.decoder, torch.nn.Dropout(0.5))


ESTIMATES = {
    "ELBO": lambda model, x, **about: estimate_elbo(model, x, **about).elbo.per_image,
    "log-likelihood": lambda model, x, **about: (
        estimate_log_likelihood(model, x, k=3, **about).per_image
    ),
    "quadrature": lambda model, x, **about: log_evidence_2d(model, x, points=21, **about).per_image,
    "active units": lambda model, x, **about: active_units(model, x, **about).variances,
    "information": lambda model, x, **about: (
        estimate_information(model, x, **about).mutual_information.per_image
    ),
}


@pytest.mark.parametrize("name", ESTIMATES)
@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_comes_back(name, training):
    torch.manual_seed(0)
    model, x = WithDropout().train(training), black_and_white(9)
    before = [weights.clone() for weights in model.parameters()]
    first = ESTIMATES[name](model, x, **FIXED)
    assert torch.equal(ESTIMATES[name](model, x, **FIXED), first)
    assert all(module.training == training for module in model.modules())
    assert torch.equal(ESTIMATES[name](model.eval(), x, **FIXED), first)
    assert all(map(torch.equal, model.parameters(), before))
    assert all(weights.grad is None for weights in model.parameters())


@pytest.mark.parametrize("name", ESTIMATES)
def test_the_mode_comes_back_after_an_error(name):
    model = black_and_white_vae().train()
    with torch.no_grad():
        model.decoder[0].bias.fill_(torch.nan)
        model.encoder[0].bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="model's weights"):
        ESTIMATES[name](model, black_and_white(3), **FIXED)
    assert model.training


@pytest.mark.parametrize("where", ["encoder", "decoder"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["ELBO", "log-likelihood"])
def test_weights_that_are_not_finite_are_an_error(name, where, value):
    model = black_and_white_vae()
    with torch.no_grad():
        getattr(model, where)[-1].bias.fill_(value)
    with pytest.raises(ValueError, match="model's weights"):
        ESTIMATES[name](model, black_and_white(3), **FIXED)


@pytest.mark.parametrize("name", ESTIMATES)
@pytest.mark.parametrize(
    ("x", "binarisation", "error", "words"),
    [
        (black_and_white(3), "dynamic", ValueError, "binarisation: expected one of grey, fixed"),
        (black_and_white(3), None, ValueError, "binarisation: expected one of grey, fixed"),
        (black_and_white(3) // 2, "fixed", ValueError, "binarisation: expected 'grey' for images"),
        (black_and_white(3) // 2, "redrawn", ValueError, "binarisation: expected 'grey'"),
        (torch.full((3, 12), 0.5), "fixed", ValueError, "binarisation: expected 'grey'"),
        (black_and_white(0), "fixed", ValueError, "images: expected at least 1 image, got 0"),
        (
            black_and_white(3).float(),
            "grey",
            ValueError,
            r"images: expected float values in \[0, 1\]",
        ),
        (
            black_and_white(3).float(),
            "fixed",
            ValueError,
            r"images: expected float values in \[0, 1\]",
        ),
        (torch.full((3, 12), torch.nan), "grey", ValueError, "images: expected finite values"),
        (torch.full((3, 12), torch.nan), "fixed", ValueError, "images: expected finite values"),
        (black_and_white(3, 11), "grey", ValueError, "images: expected shape"),
        (black_and_white(3, 11), "fixed", ValueError, "images: expected shape"),
        (black_and_white(3).int(), "grey", TypeError, "images: expected images as uint8"),
        ([[0.0] * 12], "grey", TypeError, "images: expected images as uint8"),
        ([[0.0] * 12], "fixed", TypeError, "images: expected images as uint8"),
        (None, "grey", TypeError, "images: expected images as uint8"),
    ],
)
def test_bad_images(name, x, binarisation, error, words):
    with pytest.raises(error, match=f"^{words}"):
        ESTIMATES[name](black_and_white_vae(), x, binarisation=binarisation)


@pytest.mark.parametrize("name", ESTIMATES)
def test_messages_have_the_shape_of_all_images(name):
    with pytest.raises(ValueError, match=r"^images: expected shape .* \(300, 11\)"):
        ESTIMATES[name](black_and_white_vae(), black_and_white(300, 11), **FIXED)


def test_images_of_a_linear_vae_may_have_any_finite_values():
    model = LinearVAE(2, 5)
    assert math.isfinite(estimate_elbo(model, torch.full((3, 5), 7.0), **GREY).elbo.value)
    with pytest.raises(ValueError, match="^images: expected finite values"):
        estimate_elbo(model, torch.full((3, 5), torch.nan), **GREY)


@pytest.mark.parametrize("name", ESTIMATES)
def test_every_accepted_form_of_images_gives_the_same_numbers(name):
    model, x = black_and_white_vae(), small_images(9, shape=(3, 4))
    wanted = ESTIMATES[name](model, x, **FIXED)
    for form in (x.flatten(1), x / 255, x[:, None], x.numpy(), (x / 255).double().numpy()):
        assert torch.equal(ESTIMATES[name](model, form, **FIXED), wanted)


@pytest.mark.parametrize("name", ESTIMATES)
@pytest.mark.parametrize("form", [lambda x: x, lambda x: x / 255], ids=["bytes", "floats"])
def test_black_and_white_images_that_are_called_grey_are_a_warning(name, form):
    words = "binarisation: the images are black and white, got 'grey'"
    with pytest.warns(UserWarning, match=words) as heard:
        ESTIMATES[name](black_and_white_vae(), form(black_and_white(3)), **GREY)
    assert [warning.filename for warning in heard] == [__file__]  # where the caller is


@pytest.mark.parametrize("name", ESTIMATES)
@pytest.mark.parametrize("value", [0, 255, 128])
def test_images_of_one_colour_may_be_grey_ones(name, value, recwarn):
    ESTIMATES[name](black_and_white_vae(), torch.full((2, 12), value, dtype=torch.uint8), **GREY)
    assert len(recwarn) == 0


@pytest.mark.parametrize(
    ("seed", "error", "words"),
    [
        (-1, ValueError, "seed: expected an integer of at least 0, got -1"),
        (2**63, ValueError, r"seed: expected an integer below 2\*\*63"),
        (1.0, TypeError, "seed: expected an integer of at least 0, got 1.0"),
        (None, TypeError, "seed: expected an integer of at least 0, got None"),
        (True, TypeError, "seed: expected an integer of at least 0, got True"),
    ],
)
@pytest.mark.parametrize("name", ["ELBO", "log-likelihood", "information"])
def test_bad_seeds(name, seed, error, words):
    with pytest.raises(error, match=words):
        ESTIMATES[name](black_and_white_vae(), black_and_white(3), seed=seed, **FIXED)


@pytest.mark.parametrize("seed", [np.int64(3), 2**63 - 1])
def test_seeds_of_numpy_and_large_ones(seed):
    values = ESTIMATES["ELBO"](black_and_white_vae(), black_and_white(3), seed=seed, **FIXED)
    assert torch.isfinite(values).all()


@pytest.mark.parametrize(
    ("k", "error"), [(0, ValueError), (-5, ValueError), (5.0, TypeError), (True, TypeError)]
)
def test_bad_numbers_of_samples(k, error):
    model, x = black_and_white_vae(), black_and_white(3)
    with pytest.raises(error, match="k: expected an integer of at least 1"):
        estimate_log_likelihood(model, x, k=k, **FIXED)
    for estimate in (estimate_elbo, estimate_information):
        with pytest.raises(error, match="n_samples: expected an integer of at least 1"):
            estimate(model, x, n_samples=k, **FIXED)


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("likelihood", [BernoulliLikelihood(), GaussianLikelihood(0.5)])
@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("n", [1, 3])
def test_all_black_all_white_one_image_one_unit(latent_dim, likelihood, value, n):
    torch.manual_seed(0)
    model = VAE(latent_dim, hidden=(4,), n_pixels=16, likelihood=likelihood)
    x = torch.full((n, 4, 4), value, dtype=torch.uint8)
    for name, estimate in ESTIMATES.items():
        if (name == "quadrature" and latent_dim != 2) or (name == "active units" and n == 1):
            continue
        values = estimate(model, x, **FIXED)
        assert torch.isfinite(values).all(), name
        assert values.shape == (latent_dim if name == "active units" else n,), name


def test_one_image_is_a_black_box_with_log_probability_zero():
    """A decoder that is certain of an all-black image: log p(x) = 0, for any q."""
    model = black_and_white_vae()
    with torch.no_grad():
        model.decoder[-1].weight.zero_()
        model.decoder[-1].bias.fill_(-200.0)
    x = torch.zeros(1, 12, dtype=torch.uint8)
    assert estimate_elbo(model, x, **FIXED).log_likelihood.value == 0
    assert log_evidence_2d(model, x, points=101, **FIXED).value == pytest.approx(0, abs=1e-6)
    # All twelve pixels wrong: −200 nats each, and nothing infinite.
    assert estimate_elbo(model, x + 255, **FIXED).log_likelihood.value == pytest.approx(-2400)
    assert log_evidence_2d(model, x + 255, points=101, **FIXED).value == pytest.approx(-2400)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ESTIMATES)
def test_cpu_and_gpu_agree(name):
    model, x = black_and_white_vae(), black_and_white(33)
    on_cpu = ESTIMATES[name](model, x, **FIXED)
    on_gpu = ESTIMATES[name](model.to("cuda"), x, **FIXED)
    assert on_gpu.device.type == "cpu"
    torch.testing.assert_close(on_gpu, on_cpu, rtol=0, atol=1e-3)
