"""The closed forms of Part I, derived once more: by sympy, or by another road."""

import math

import numpy as np
import pytest
import sympy as sp
import torch
from sympy import stats
from sympy.stats import density
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.nn import functional

from small import random_numbers
from vae_book.beta import effective_beta
from vae_book.linear import LinearVAE, optimal_kl_per_unit
from vae_book.models import SquaredErrorVAE
from vae_core import VAE, GaussianLikelihood, kl

z, x, mu = sp.symbols("z x mu", real=True)
s, s_x, a, lam = sp.symbols("sigma sigma_x a lambda", positive=True)


def log_gaussian(value, mean, variance):
    return -sp.log(2 * sp.pi * variance) / 2 - (value - mean) ** 2 / (2 * variance)


def over_gaussian(expression, variable, mean, variance):
    """E[expression] for variable ~ N(mean, variance), by the integral."""
    density = sp.exp(-((variable - mean) ** 2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)
    return sp.integrate(sp.expand(expression) * density, (variable, -sp.oo, sp.oo))


def zero(expression) -> bool:
    return sp.simplify(sp.expand_log(sp.expand(expression), force=True)) == 0


# ---------------------------------------------------------------------------- KL of Gaussians


def test_kl_to_the_standard_normal_is_the_integral_3_5():
    log_ratio = log_gaussian(z, mu, s**2) - log_gaussian(z, 0, 1)
    by_integral = over_gaussian(log_ratio, z, mu, s**2)
    assert zero(by_integral - (mu**2 + s**2 - 1 - sp.log(s**2)) / 2)
    value = float(by_integral.subs({mu: sp.Rational(3, 10), s: sp.Rational(7, 10)}))
    q = Independent(Normal(torch.tensor([0.3]).double(), torch.tensor([0.7]).double()), 1)
    p = Independent(Normal(torch.zeros(1).double(), torch.ones(1).double()), 1)
    assert kl(q, p).item() == pytest.approx(value, abs=1e-7)


def precision_matrix(d: int, seed: int = 0) -> torch.Tensor:
    A = random_numbers(d, d + 1, seed=seed)
    return A @ A.T + torch.eye(d).double()


def test_kl_of_a_diagonal_from_a_full_gaussian_by_quadrature_7_1():
    """Gauss–Hermite nodes give means of polynomials of degree 2 exactly."""
    Lam, m, mean = precision_matrix(2), random_numbers(2, seed=1), random_numbers(2, seed=2)
    sigma = random_numbers(2, seed=3).exp()
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    nodes = torch.tensor(nodes)
    weights = torch.tensor(weights) / math.sqrt(2 * math.pi)
    points = mean + sigma * torch.cartesian_prod(nodes, nodes)
    q, p = Independent(Normal(mean, sigma), 1), MultivariateNormal(m, precision_matrix=Lam)
    mass = torch.cartesian_prod(weights, weights).prod(dim=1)
    by_nodes = (mass * (q.log_prob(points) - p.log_prob(points))).sum()
    delta = mean - m
    by_formula = (
        delta @ Lam @ delta
        - torch.logdet(Lam)
        + (Lam.diagonal() * sigma**2 - (sigma**2).log() - 1).sum()
    ) / 2
    torch.testing.assert_close(by_nodes, by_formula)
    torch.testing.assert_close(kl(MultivariateNormal(mean, torch.diag(sigma**2)), p), by_formula)


def test_noise_is_left_where_both_pulls_are_equal_3_12():
    s2, w = sp.symbols("s2 w", positive=True)
    loss = a * s2 + w / 2 * (s2 - sp.log(s2))
    (at_rest,) = sp.solve(sp.diff(loss, s2), s2)
    assert zero(at_rest - 1 / (1 + 2 * a / w))
    assert sp.simplify(sp.diff(loss, s2, 2)) == w / (2 * s2**2)  # positive: it is the smallest
    assert sp.limit(at_rest, w, 0) == 0 and sp.limit(at_rest, w, sp.oo) == 1


def test_the_mean_square_of_the_codes_is_1_at_rest_3_14():
    c = sp.symbols("c", positive=True)
    K = (c**2 * (mu**2 + s**2) - 1 - sp.log(c**2 * s**2)) / 2  # (3.13) for one image
    assert zero(sp.diff(K, c).subs(c, 1) - (mu**2 + s**2 - 1))


# ---------------------------------------------------------------------------- how the noise dies


def test_noise_under_small_steps_downhill_2_15():
    """v = log σ² goes down the slope of its price ‖w‖² eᵛ (2.14)."""
    t, w, s_0 = sp.symbols("t w s_0", positive=True)
    s2 = 1 / (1 / s_0**2 + w**2 * t)
    assert sp.simplify(sp.diff(sp.log(s2), t) + w**2 * s2) == 0
    assert s2.subs(t, 0) == s_0**2
    assert sp.limit(sp.sqrt(s2) * w * sp.sqrt(t), t, sp.oo) == 1


def test_price_of_noise_under_a_linear_decoder_2_11():
    """Coins have mean 0 and covariance I, exactly: the mean over their outcomes is the formula."""
    W, sigma, r = random_numbers(5, 3), random_numbers(3, seed=1).exp(), random_numbers(5, seed=2)
    coins = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    by_outcomes = (r - (sigma * coins) @ W.T).square().sum(dim=1).mean()
    torch.testing.assert_close(by_outcomes, r @ r + (sigma**2 * W.square().sum(dim=0)).sum())


# ---------------------------------------------------------------------------- mean field


def test_mean_field_optimum_by_sympy_7_5():
    l11, l22, v1, v2 = sp.symbols("l11 l22 v1 v2", positive=True)
    l12, d1, d2 = sp.symbols("l12 d1 d2", real=True)
    Lam, delta = sp.Matrix([[l11, l12], [l12, l22]]), sp.Matrix([d1, d2])
    gap = (
        (delta.T * Lam * delta)[0]
        - sp.log(Lam.det())
        + l11 * v1 - sp.log(v1) + l22 * v2 - sp.log(v2) - 2
    ) / 2  # fmt: skip
    at = {v1: 1 / l11, v2: 1 / l22, d1: 0, d2: 0}
    assert all(sp.simplify(sp.diff(gap, u).subs(at)) == 0 for u in (v1, v2, d1, d2))
    assert zero(gap.subs(at) - (sp.log(l11) + sp.log(l22) - sp.log(Lam.det())) / 2)


@pytest.mark.parametrize("d", [2, 4])
def test_mean_field_gap_is_what_an_optimiser_finds_7_6(d):
    Lam, m = precision_matrix(d, seed=d), random_numbers(d, seed=9)
    p = MultivariateNormal(m, precision_matrix=Lam)
    free = torch.zeros(2 * d, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([free], max_iter=500, line_search_fn="strong_wolfe",
                                  tolerance_grad=1e-12, tolerance_change=1e-14)  # fmt: skip

    def loss():
        optimiser.zero_grad()
        value = kl(MultivariateNormal(free[:d], torch.diag(free[d:].exp())), p)
        value.backward()
        return value

    optimiser.step(loss)
    formula = (Lam.diagonal().log().sum() - torch.logdet(Lam)) / 2
    assert formula > 0.01
    torch.testing.assert_close(loss().detach(), formula)
    torch.testing.assert_close(free[d:].exp().detach(), 1 / Lam.diagonal())
    wider = kl(MultivariateNormal(m, torch.diag(torch.linalg.inv(Lam).diagonal())), p)
    assert wider > formula  # the right variances are not the best ones


# ---------------------------------------------------------------------------- linear model


def test_evidence_of_one_linear_unit_is_the_integral_4_1():
    w, b = sp.symbols("w b", real=True)
    at = {w: sp.Rational(3, 2), b: sp.Rational(1, 3), s_x: sp.Rational(1, 2), x: sp.Rational(4, 5)}
    joint = sp.exp(log_gaussian(z, 0, 1) + log_gaussian(x, w * z + b, s_x**2))
    by_integral = sp.integrate(joint.subs(at), (z, -sp.oo, sp.oo))
    by_formula = sp.exp(log_gaussian(x, b, w**2 + s_x**2)).subs(at)
    assert float(by_integral) == pytest.approx(float(by_formula), rel=1e-12)


def test_posterior_of_one_linear_unit_by_bayes_rule_4_7():
    """log p(z) + log p(x|z) − log p(x) is the Gaussian with the precision and mean of (4.6)."""
    w, b = sp.symbols("w b", real=True)
    bayes = (
        log_gaussian(z, 0, 1)
        + log_gaussian(x, w * z + b, s_x**2)
        - log_gaussian(x, b, w**2 + s_x**2)
    )
    precision = 1 + w**2 / s_x**2
    mean = w * (x - b) / s_x**2 / precision
    difference = sp.diff(bayes - log_gaussian(z, mean, 1 / precision), z)
    assert sp.simplify(difference) == 0  # what is left does not depend on z …
    at = {z: 0, x: 1, w: 2, b: sp.Rational(1, 3), s_x: sp.Rational(1, 2)}
    left = bayes.subs(at).evalf()
    assert float(left - log_gaussian(z, mean, 1 / precision).subs(at).evalf()) == pytest.approx(0)


def test_the_best_linear_unit_has_the_data_s_variance_8_1():
    mean_log_evidence = -(sp.log(a + s_x**2) + lam / (a + s_x**2)) / 2
    assert sp.solve(sp.diff(mean_log_evidence, a), a) == [lam - s_x**2] or zero(
        sp.diff(mean_log_evidence, a).subs(a, lam - s_x**2)
    )
    falling = sp.diff(mean_log_evidence, a).subs({lam: 1, s_x: 2})
    assert all(falling.subs(a, value) < 0 for value in (0.01, 0.5, 3))  # so a = 0 is best


def test_kl_of_a_linear_unit_is_the_information_of_two_gaussians_8_3():
    """I = −½ log(1 − ρ²) for the correlation ρ of z and its pixel direction: no KL formula."""
    best = lam - s_x**2
    rho_squared = best / (best + s_x**2)
    assert zero(-sp.log(sp.simplify(1 - rho_squared)) / 2 - sp.log(lam / s_x**2) / 2)
    variances = torch.tensor([4.0, 1.5, 0.3], dtype=torch.float64)
    expected = [0.5 * math.log(4 / 0.81), 0.5 * math.log(1.5 / 0.81), 0.0]
    assert optimal_kl_per_unit(variances, 0.9).tolist() == pytest.approx(expected)


def test_average_kl_is_information_plus_marginal_kl_8_7():
    """x ~ N(0, a²) and q(z|x) = N(x, σ²): the KLs by integrals, the information by entropies."""
    wide, narrow = sp.Rational(4, 3), sp.Rational(2, 5)  # a² and σ²
    each = over_gaussian(log_gaussian(z, x, narrow) - log_gaussian(z, 0, 1), z, x, narrow)
    average = over_gaussian(each, x, 0, wide)
    total = wide + narrow
    marginal = over_gaussian(log_gaussian(z, 0, total) - log_gaussian(z, 0, 1), z, 0, total)
    information = sp.log(total / narrow) / 2
    assert float(average) == pytest.approx(float(information + marginal), rel=1e-12)
    assert float(marginal) > 0.01


def test_drawn_elbo_is_constant_at_the_true_posterior_g_4():
    model = LinearVAE(2, 5, sigma_x=0.6).double()
    image = random_numbers(1, 5)
    posterior = model.true_posterior(image)
    codes = random_numbers(50, 2, seed=4)
    with torch.no_grad():
        log_joint = model.prior().log_prob(codes) + model.decode(codes).log_prob(image)
        B = log_joint - posterior.log_prob(codes)
        A = model.decode(codes).log_prob(image)
    assert B.std() < 1e-10 < 1e-2 < A.std()
    torch.testing.assert_close(B.mean(), model.evidence.log_prob(image)[0].detach())


# ---------------------------------------------------------------------------- importance weights


def test_leaving_one_weight_out_lowers_the_logarithm_7_9():
    """The step of the proof: it holds for every draw, and is equal only for equal weights."""
    weights = random_numbers(200, 6).exp()
    left_out = (weights.sum(dim=1, keepdim=True) - weights) / 5
    difference = weights.mean(dim=1).log() - left_out.log().mean(dim=1)
    assert difference.min() > 0
    torch.testing.assert_close(left_out.mean(dim=1), weights.mean(dim=1))


# ---------------------------------------------------------------------------- likelihoods, weights


def gradients(model, loss: torch.Tensor) -> torch.Tensor:
    weights = [p for p in model.parameters() if p.requires_grad]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])


def test_w_is_twice_the_variance_of_a_pixel_4_22():
    """2σₓ² times the gradient of −ELBO is that of squared error + 2σₓ² KL, weight by weight."""
    torch.manual_seed(0)
    gaussian = VAE(3, (8,), n_pixels=12, likelihood=GaussianLikelihood(0.7)).double()
    squared = SquaredErrorVAE(3, (8,), n_pixels=12).double()
    for half in ("encoder", "decoder"):
        getattr(squared, half).load_state_dict(getattr(gaussian, half).state_dict())
    images = torch.rand(6, 12, dtype=torch.float64)
    found = []
    for model, factors in ((gaussian, (2 * 0.7**2, 2 * 0.7**2)), (squared, (1, 2 * 0.7**2))):
        torch.manual_seed(1)
        terms = model.loss_terms(images).values()
        loss = sum(factor * term.mean() for factor, term in zip(factors, terms, strict=True))
        found.append(gradients(model, loss))
    torch.testing.assert_close(*found)
    assert found[0].norm() > 0.1


def test_gaussian_likelihood_and_its_best_variance_4_20_4_24():
    error, w, D, rate = sp.symbols("error w D rate", positive=True)
    one_pixel = -sp.log(density(stats.Normal("pixel", mu, s_x))(x))
    assert zero(one_pixel - (x - mu) ** 2 / (2 * s_x**2) - sp.log(2 * sp.pi * s_x**2) / 2)
    in_nats = error / w + rate + D / 2 * sp.log(sp.pi * w)  # (4.23)
    assert sp.solve(sp.diff(in_nats, w), w) == [2 * error / D]
    from_pixels = error / (2 * s_x**2) + rate + D / 2 * sp.log(2 * sp.pi * s_x**2)
    assert zero(in_nats.subs(w, 2 * s_x**2) - from_pixels)


@pytest.mark.parametrize("over_pixels", ["sum", "mean"])
@pytest.mark.parametrize("over_units", ["sum", "mean"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "squared error"])
def test_effective_beta_by_the_gradients_of_the_loss_5_18(over_pixels, over_units, likelihood):
    """A loss written with torch's own reductions pulls in the direction of ELBO_β, β as said."""
    torch.manual_seed(0)
    d, D, sigma_x, weight = 3, 12, 0.4, 0.5
    model = VAE(d, (8,), n_pixels=D).double()
    images = torch.rand(6, D, dtype=torch.float64)
    q = model.encode(images)
    logits = model.decoder(q.mean + q.stddev * random_numbers(6, d))
    if likelihood == "bernoulli":
        per_pixel = functional.binary_cross_entropy_with_logits(logits, images, reduction="none")
        reconstruction, sigma = per_pixel.sum(dim=1), None
    else:
        per_pixel = functional.mse_loss(torch.sigmoid(logits), images, reduction="none")
        reconstruction, sigma = per_pixel.sum(dim=1) / (2 * sigma_x**2), sigma_x
    unit = 0.5 * (q.mean**2 + q.variance - 1 - q.variance.log())
    loss = getattr(per_pixel, over_pixels)(dim=1) + weight * getattr(unit, over_units)(dim=1)
    beta = effective_beta(weight, latent_dim=d, n_pixels=D, over_pixels=over_pixels,
                          over_units=over_units, sigma_x=sigma)  # fmt: skip
    right = reconstruction + beta * unit.sum(dim=1)
    weights = list(model.parameters())
    one, two = (
        torch.cat([g.flatten() for g in torch.autograd.grad(v.mean(), weights, retain_graph=True)])
        for v in (loss, right)
    )
    torch.testing.assert_close(one / one.norm(), two / two.norm())
