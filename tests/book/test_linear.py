"""Principal component analysis and the linear VAE: closed forms against independent computations,
and the bounds that they settle."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from small import grey, random_numbers
from vae_book.linear import LinearVAE, optimal_kl_per_unit, pca, principal_angles
from vae_core import elbo_terms, estimate_elbo, fit, kl, mean_terms


def random_model(latent_dim: int = 3, n_pixels: int = 8, *, learned: bool = False) -> LinearVAE:
    """Weights, biases and an encoder of no merit, float64."""
    model = LinearVAE(latent_dim, n_pixels, sigma_x=0.75, learned=learned).double()
    with torch.no_grad():
        for number, weights in enumerate(
            [*model.encoder.parameters(), *model.decoder.parameters()]
        ):
            weights.copy_(0.5 * random_numbers(*weights.shape, seed=number))
    return model


def decoder_parts(model: LinearVAE) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """W, b and σₓ² as the parameters that they are."""
    weights = dict(model.named_parameters())
    return weights["decoder.0.weight"], weights["decoder.0.bias"], model.likelihood.sigma_x.square()


def drawn_from(model: LinearVAE, n: int = 40, seed: int = 50) -> torch.Tensor:
    """Data from the model itself: x = W z + b + σₓ ε."""
    W, b, noise = (part.detach() for part in decoder_parts(model))
    z = random_numbers(n, W.shape[1], seed=seed)
    return z @ W.T + b + noise.sqrt() * random_numbers(n, W.shape[0], seed=seed + 1)


def encoder_by_hand(model: LinearVAE, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of q(z|x) from the encoder's weights."""
    weights = dict(model.named_parameters())
    outputs = x @ weights["encoder.0.weight"].T + weights["encoder.0.bias"]
    mean, log_var = outputs.chunk(2, dim=1)
    return mean, log_var.exp()


def exact_elbo(model: LinearVAE, x: torch.Tensor) -> torch.Tensor:
    """The ELBO of each row without a sample: the mean of a square is known under a Gaussian.

    E_q‖x − b − W z‖² = ‖x − b − W μ‖² + Σᵢ sᵢ² ‖wᵢ‖² for q(z|x) = N(μ, diag s²).
    """
    W, b, noise = decoder_parts(model)
    mean, variance = encoder_by_hand(model, x)
    error = (x - b - mean @ W.T).square().sum(dim=1) + (variance * W.square().sum(dim=0)).sum(dim=1)
    log_likelihood = -error / (2 * noise) - 0.5 * len(b) * torch.log(2 * math.pi * noise)
    rate = 0.5 * (mean.square() + variance - 1 - variance.log()).sum(dim=1)
    return log_likelihood - rate


def dense_evidence(model: LinearVAE) -> MultivariateNormal:
    """p(x) with its covariance matrix W Wᵀ + σₓ² I written out."""
    W, b, noise = (part.detach() for part in decoder_parts(model))
    return MultivariateNormal(b, W @ W.T + noise * torch.eye(len(b)))


# ---------------------------------------------------------------------------- PCA


IMAGES = grey(200, 30)


def test_pca_against_the_singular_values_of_the_data():
    found = pca(IMAGES)
    centred = (IMAGES - IMAGES.mean(dim=0)).numpy()
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.variances.numpy(), singular**2 / 200, rtol=1e-10)
    overlap = np.abs(np.sum(found.components.numpy() * right.T, axis=0))
    np.testing.assert_allclose(overlap, 1, rtol=1e-8)


def test_smallest_error_is_that_of_the_projection():
    found = pca(IMAGES)
    top = found.components[:, :4]
    projected = found.mean + (IMAGES - found.mean) @ top @ top.T
    error = (IMAGES - projected).square().sum(dim=1).mean().item()
    assert found.smallest_error(4) == pytest.approx(error, rel=1e-10)


def test_no_random_subspace_does_better():
    found = pca(IMAGES)
    for seed in range(20):
        q = torch.linalg.qr(random_numbers(30, 4, seed=seed)).Q
        projected = found.mean + (IMAGES - found.mean) @ q @ q.T
        assert (IMAGES - projected).square().sum(dim=1).mean() > found.smallest_error(4)


def test_principal_angles():
    a = torch.eye(5, dtype=torch.float64)[:, :2]
    turn = torch.deg2rad(torch.tensor(1e-4, dtype=torch.float64))
    b = a.clone()
    b[0, 0], b[2, 0] = turn.cos(), turn.sin()
    torch.testing.assert_close(principal_angles(a, b).tolist(), [0.0, 1e-4], rtol=1e-6, atol=1e-12)
    mixed = b @ torch.tensor([[1.0, 2.0], [0.5, -3.0]], dtype=torch.float64)
    torch.testing.assert_close(principal_angles(a, mixed), principal_angles(a, b), rtol=1e-6,
                               atol=1e-9)  # fmt: skip
    assert principal_angles(a, torch.eye(5)[:, 3:])[-1].item() == pytest.approx(90)


def test_bad_data_and_directions():
    with pytest.raises(ValueError, match="at least 2 images"):
        pca(IMAGES[:1])
    with pytest.raises(ValueError, match="latent_dim"):
        pca(IMAGES).smallest_error(0)
    with pytest.raises(ValueError, match="b: expected the shape of a"):
        principal_angles(torch.eye(3), torch.eye(4))


# ---------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("learned", [False, True])
def test_evidence_against_the_covariance_written_out(learned):
    model = random_model(learned=learned)
    x = drawn_from(model)
    found = model.evidence
    torch.testing.assert_close(found.log_prob(x), dense_evidence(model).log_prob(x))
    torch.testing.assert_close(found.mean, dense_evidence(model).mean)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_evidence_against_a_sum_over_a_grid_of_codes(latent_dim):
    """∫ p(z) p(x|z) dz with the model's own decoder and prior."""
    model = random_model(latent_dim)
    x = drawn_from(model, 10)
    axis = torch.linspace(-9, 9, 361, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * latent_dim).reshape(-1, latent_dim)
    log_joint = model.decode(grid[:, None]).log_prob(x) + model.prior().log_prob(grid)[:, None]
    log_sum = log_joint.logsumexp(dim=0) + latent_dim * math.log(0.05)
    torch.testing.assert_close(model.evidence.log_prob(x), log_sum, rtol=0, atol=1e-8)


def test_evidence_is_the_mean_and_covariance_of_what_the_model_draws():
    model, n = random_model(), 50_000
    z = random_numbers(n, 3)
    torch.manual_seed(0)
    centred = model.decode(z).sample() - model.evidence.mean
    assert (centred.mean(dim=0).abs() < 5 * centred.std(dim=0) / math.sqrt(n)).all()
    covariance = centred.T @ centred / n
    error = (centred.square().T @ centred.square() / n - covariance.square()).sqrt() / math.sqrt(n)
    assert ((covariance - model.evidence.covariance_matrix).abs() < 5 * error).all()


def test_true_posterior_is_the_joint_gaussian_given_x():
    """Conditioning the Gaussian of (z, x) on x, with an 8 × 8 inverse instead of a 3 × 3 one."""
    model = random_model()
    x = drawn_from(model)
    W, b, noise = (part.detach() for part in decoder_parts(model))
    gain = W.T @ torch.linalg.inv(W @ W.T + noise * torch.eye(8))
    found = model.true_posterior(x)
    assert found.batch_shape == (40,) and found.event_shape == (3,)
    torch.testing.assert_close(found.mean, (x - b) @ gain.T)
    covariance = (torch.eye(3) - gain @ W).expand(40, 3, 3)
    torch.testing.assert_close(found.covariance_matrix, covariance)


def test_true_posterior_obeys_bayes_rule():
    """log p(z|x) = log p(x|z) + log p(z) − log p(x) at any z."""
    model = random_model()
    x, z = drawn_from(model), random_numbers(40, 3, seed=9)
    right = model.decode(z).log_prob(x) + model.prior().log_prob(z) - model.evidence.log_prob(x)
    torch.testing.assert_close(model.true_posterior(x).log_prob(z), right)


@pytest.mark.parametrize("learned", [False, True])
def test_evidence_is_elbo_plus_what_the_posterior_is_off_by(learned):
    """log p(x) = ELBO(x) + KL(q(z|x) ‖ p(z|x)) for an encoder that is far from the best."""
    model = random_model(learned=learned)
    x = drawn_from(model)
    mean, variance = encoder_by_hand(model, x)
    q = MultivariateNormal(mean, variance.diag_embed())
    gap = kl_divergence(q, model.true_posterior(x))
    assert gap.min() > 0.1
    found = (exact_elbo(model, x) + gap).detach()
    torch.testing.assert_close(found, model.evidence.log_prob(x).detach(), rtol=0, atol=1e-6)
    # And q is the model's own.
    own = kl(model.encode(x), Independent(Normal(mean, variance.sqrt()), 1))
    assert own.abs().max() < 1e-10


def test_sampled_elbo_has_the_exact_one_as_its_mean():
    model = random_model()
    x = drawn_from(model)
    terms = elbo_terms(model, x, noise=random_numbers(5000, 40, 3))
    for values in (terms.log_likelihood - terms.kl, terms.log_weights):
        error = values.std(dim=0) / math.sqrt(5000)
        assert ((values.mean(dim=0) - exact_elbo(model, x)).abs() < 5 * error).all()
    torch.testing.assert_close(terms.elbo, (terms.log_likelihood - terms.kl).mean(dim=0))


# ---------------------------------------------------------------------------- the bounds


def test_more_samples_tighten_the_bound_and_never_pass_it():
    """E[ELBO] = E[log p̂₁] < E[log p̂₅] < E[log p̂₅₀] < log p(x), each by five standard errors.

    The encoder is off the true posterior: shifted, and wider, so that the importance weights have
    a finite variance.
    """
    model = random_model(learned=False)
    x, repeats = drawn_from(model, 20), 400
    truth = model.true_posterior(x)
    broad = 1.5 * truth.covariance_matrix.diagonal(dim1=1, dim2=2).max(dim=1).values.sqrt()
    q = Independent(Normal(truth.mean + 0.7 * broad[:, None], 1.3 * broad[:, None]), 1)
    model.encode = lambda x: q
    log_p = model.evidence.log_prob(x).mean().item()
    means, errors = [], []
    for k in (1, 5, 50):
        noise = random_numbers(repeats * k, 20, 3, seed=k)
        log_weights = elbo_terms(model, x, noise=noise).log_weights.reshape(repeats, k, 20)
        estimates = (log_weights.logsumexp(dim=1) - math.log(k)).mean(dim=1)  # over the images
        means.append(estimates.mean().item())
        errors.append(estimates.std().item() / math.sqrt(repeats))
    gap = kl_divergence(MultivariateNormal(q.mean, q.variance.diag_embed()), truth).mean().item()
    assert abs(means[0] - (log_p - gap)) < 5 * errors[0]  # k = 1 is the ELBO
    for lower, higher, error in zip(means, [*means[1:], log_p], errors, strict=True):
        assert higher - lower > 5 * error


def test_the_mean_weight_is_the_evidence():
    """Without bias at any number of samples: E[p̂(x)] = p(x)."""
    model = random_model()
    x = drawn_from(model, 20)
    truth = model.true_posterior(x)
    q = Independent(Normal(truth.mean + 0.1, 1.5 * truth.stddev), 1)
    model.encode = lambda x: q
    log_weights = elbo_terms(model, x, noise=random_numbers(20_000, 20, 3)).log_weights
    ratio = (log_weights - model.evidence.log_prob(x)).exp()
    error = ratio.std(dim=0) / math.sqrt(20_000)
    assert error.max() < 0.05
    assert ((ratio.mean(dim=0) - 1).abs() < 5 * error).all()


# ---------------------------------------------------------------------------- the optimum


def grey_images(n: int = 300) -> torch.Tensor:
    """Images of eight pixels in [0, 1] with four strong directions and four weak ones."""
    directions = torch.linalg.qr(random_numbers(8, 8, seed=3)).Q
    widths = torch.tensor([0.16, 0.13, 0.1, 0.08, 0.03, 0.02, 0.02, 0.01], dtype=torch.float64)
    return (0.5 + (random_numbers(n, 8, seed=4) * widths) @ directions.T).clamp(0, 1)


SIGMA_X = 0.0625  # exact in single precision, between the fourth and the fifth direction


@pytest.fixture(scope="module")
def optimum() -> tuple[LinearVAE, torch.Tensor]:
    """The best model with six units, two of which are not worth their price, and its data."""
    images = grey_images()
    return LinearVAE.at_optimum(pca(images), 6, sigma_x=SIGMA_X), images


def test_kl_of_each_unit_at_the_optimum(optimum):
    """½ log(λᵢ/σₓ²) on average over the data, and nothing for a direction below the noise."""
    model, images = optimum
    centred = (images - images.mean(dim=0)).numpy()
    variances = np.linalg.svd(centred, compute_uv=False)[:6] ** 2 / len(images)
    assert (variances > SIGMA_X**2).sum() == 4
    expected = 0.5 * torch.from_numpy(np.log(np.maximum(variances / SIGMA_X**2, 1)))
    rates = elbo_terms(model, images).kl_per_unit.mean(dim=0)
    torch.testing.assert_close(rates, expected, rtol=1e-8, atol=1e-10)
    found = optimal_kl_per_unit(pca(images).variances[:6], SIGMA_X)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    mean, variance = encoder_by_hand(model, images)
    torch.testing.assert_close(mean[:, 4:], torch.zeros(300, 2).double())
    torch.testing.assert_close(variance[:, 4:], torch.ones(300, 2).double())


def test_kl_per_unit_in_numbers():
    variances = torch.tensor([4.0, math.e**2, 1.0, 0.5, 0.0]).double()
    expected = torch.tensor([math.log(2), 1.0, 0.0, 0.0, 0.0]).double()
    torch.testing.assert_close(optimal_kl_per_unit(variances, 1.0), expected)
    for sigma_x, error in ((0.0, ValueError), ("1", TypeError)):
        with pytest.raises(error, match="sigma_x: expected"):
            optimal_kl_per_unit(variances, sigma_x)


def test_the_bound_is_tight_at_the_optimum(optimum):
    model, images = optimum
    evidence = model.evidence.log_prob(images)
    torch.testing.assert_close(exact_elbo(model, images), evidence, rtol=0, atol=1e-8)
    off = kl_divergence(
        MultivariateNormal(model.encode(images).mean, model.encode(images).variance.diag_embed()),
        model.true_posterior(images),
    )
    assert off.max() < 1e-8
    weights = elbo_terms(model, images, n_samples=3).log_weights  # each of them p(x), no spread
    torch.testing.assert_close(weights, evidence.expand(3, -1), rtol=0, atol=1e-8)


def test_evidence_at_the_optimum_by_its_formula(optimum):
    """Tipping and Bishop's largest mean log-likelihood, from the eigenvalues and σₓ alone."""
    model, images = optimum
    variances = pca(images).variances.tolist()
    kept, left = variances[:4], variances[4:]
    noise = SIGMA_X**2
    best = -0.5 * (
        8 * math.log(2 * math.pi)
        + sum(math.log(v) + 1 for v in kept)
        + sum(math.log(noise) + v / noise for v in left)
    )
    assert model.evidence.log_prob(images).mean().item() == pytest.approx(best, abs=1e-8)


def test_the_optimum_is_one(optimum):
    """No slope in any weight, and every small step from it lowers the mean ELBO."""
    model, images = optimum
    best = exact_elbo(model, images).mean()
    slopes = torch.autograd.grad(best, list(model.parameters()))
    assert max(slope.abs().max().item() for slope in slopes) < 1e-8
    with torch.no_grad():
        for seed in range(20):
            before = [weights.clone() for weights in model.parameters()]
            for number, weights in enumerate(model.parameters()):
                weights += 0.01 * random_numbers(*weights.shape, seed=100 * seed + number)
            assert exact_elbo(model, images).mean() < best - 1e-6
            for weights, old in zip(model.parameters(), before, strict=True):
                weights.copy_(old)


def test_a_unit_for_every_direction_and_one_unit_alone():
    images = grey_images()
    data = pca(images)
    for latent_dim in (1, 8):
        model = LinearVAE.at_optimum(data, latent_dim, sigma_x=SIGMA_X)
        elbo = exact_elbo(model, images)
        torch.testing.assert_close(elbo, model.evidence.log_prob(images), rtol=0, atol=1e-8)


def test_images_that_never_change():
    """No direction is worth a unit; the model is the mean image and noise."""
    model = LinearVAE.at_optimum(pca(torch.full((5, 8), 0.5)), 2, sigma_x=0.25)
    x = torch.full((1, 8), 0.5)
    truth = Normal(0.5, 0.25).log_prob(x.double()).sum(dim=1)
    torch.testing.assert_close(model.evidence.log_prob(x.double()), truth)
    torch.testing.assert_close(elbo_terms(model, x).elbo, truth)


# ---------------------------------------------------------------------------- input


@pytest.mark.parametrize("share", [1e-3, 1e-6, 1e-9])
def test_a_very_narrow_posterior_is_the_true_one(share):
    """σₓ² far below the largest λ: nothing holds the encoder back, and the bound is tight."""
    images = grey_images()
    data = pca(images)
    model = LinearVAE.at_optimum(data, 1, sigma_x=math.sqrt(share * data.variances[0].item()))
    found, truth = model.encode(images), model.true_posterior(images)
    torch.testing.assert_close(found.variance, truth.variance)
    evidence = model.evidence.log_prob(images)
    torch.testing.assert_close(exact_elbo(model, images), evidence, rtol=1e-6, atol=0)


def test_images_may_have_any_finite_values():
    """Also where they are trained on: standardised images lie on both sides of zero."""
    model, x = random_model(), 2 * random_numbers(40, 8)
    truth = exact_elbo(model, x).mean().item()
    found = estimate_elbo(model, x, binarisation="grey").elbo
    assert abs(found.value - truth) < 5 * found.error
    assert mean_terms(model, x)["KL"] == pytest.approx(elbo_terms(model, x).kl.mean().item())
    fit(model, x, steps=20, batch_size=40, device="cpu")
    assert exact_elbo(model, x).mean() > truth
    other, unit = LinearVAE(2, 9), torch.rand(4, 9)
    torch.testing.assert_close(other.encode(unit.reshape(4, 3, 3)).mean, other.encode(unit).mean)
    as_bytes = torch.arange(36, dtype=torch.uint8).reshape(4, 3, 3)
    in_unit = as_bytes.reshape(4, 9).float() / 255
    torch.testing.assert_close(other.encode(as_bytes).mean, other.encode(in_unit).mean)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.zeros(4, 7), ValueError, r"x: expected shape \[N, …\] with 8 pixels an image"),
        (torch.zeros(8), ValueError, "x: expected shape"),
        (torch.full((4, 2, 4), torch.nan), ValueError, "x: expected finite values"),
        (torch.full((4, 2, 4), -torch.inf), ValueError, "x: expected finite values"),
        (torch.zeros(4, 8, dtype=torch.int64), TypeError, "x: expected images as uint8"),
        ([[0.0] * 8], TypeError, "x: expected images as uint8"),
    ],
)
def test_bad_images(x, error, words):
    for method in (LinearVAE(2, 8).encode, LinearVAE(2, 8).true_posterior):
        with pytest.raises(error, match=words):
            method(x)


@pytest.mark.parametrize(
    ("latent_dim", "sigma_x", "error", "words"),
    [
        (0, 0.1, ValueError, "latent_dim: expected an integer of at least 1"),
        (9, 0.1, ValueError, r"latent_dim: expected at most 8 \(pixels\), got 9"),
        (2.0, 0.1, TypeError, "latent_dim: expected an integer of at least 1"),
        (2, 0.0, ValueError, "sigma_x: expected a finite number above 0"),
        (2, "0.1", TypeError, "sigma_x: expected a number above 0"),
    ],
)
def test_bad_optimum(latent_dim, sigma_x, error, words):
    with pytest.raises(error, match=words):
        LinearVAE.at_optimum(pca(grey_images()), latent_dim, sigma_x=sigma_x)


def test_the_optimum_has_its_sigma_x_in_double_precision():
    data = pca(torch.rand(50, 6, generator=torch.Generator().manual_seed(0)))
    model = LinearVAE.at_optimum(data, 2, sigma_x=0.1)
    assert model.likelihood.sigma_x.item() == 0.1
