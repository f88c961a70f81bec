"""The checkers of the exercises: right answers pass, each wrong one gets its own diagnosis."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from vae_book.exercises import (
    check_bayes,
    check_conv_weights,
    check_dead_units,
    check_elbo,
    check_file_size,
    check_flow_pair,
    check_importance_weighted,
    check_kl,
    check_quantile_grid,
    check_reparameterise,
    check_squared_error,
    check_training_loss,
)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (lambda x, y: (x - y).square().sum(dim=1), "✓ right"),
        (lambda x, y: (x - y).square().mean(dim=1), "averaged over the pixels"),
        (lambda x, y: (x - y).square().sum(dim=0), "summed over the images"),
        (lambda x, y: (x - y).square().mean(dim=0), "averaged over the images and kept"),
        (lambda x, y: (x - y).square().sum(), "added up the whole batch"),
        (lambda x, y: (x - y).square().mean(), "mean over everything"),
        (lambda x, y: (x - y).square().sum(dim=1).mean(), "mean over the images already"),
        (lambda x, y: (x - y).abs().sum(dim=1), "absolute differences"),
        (lambda x, y: (x - y).norm(dim=1), "square root"),
        (lambda x, y: (y - x).sum(dim=1), "squared nothing"),
        (lambda x, y: (x - y) ** 2, "nothing is summed yet"),
        (lambda x, y: (x - y)[:2, 0], "the shape is [2]"),
        (lambda x, y: 2 * (x - y).square().sum(dim=1), "the values aren't"),
        (lambda x, y: 3.0, "you returned float"),
    ],
)
def test_check_squared_error(capsys, answer, verdict):
    check_squared_error(answer)
    assert verdict in capsys.readouterr().out


def without_gradient(mean, log_var, noise):
    with torch.no_grad():
        return mean + torch.exp(log_var / 2) * noise


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (lambda m, v, e: m + torch.exp(v / 2) * e, "✓ right"),
        (lambda m, v, e: m + torch.sqrt(torch.exp(v)) * e, "✓ right"),
        (without_gradient, "no gradient gets back"),
        (lambda m, v, e: m + torch.exp(v / 2).detach() * e, "no gradient gets back"),
        (lambda m, v, e: m + v.exp() * e, "which is the variance"),
        (lambda m, v, e: m + v * e, "log σ² itself as σ"),
        (lambda m, v, e: m + v / 2 * e, "the exponential is missing"),
        (lambda m, v, e: m + v.sqrt() * e, "holds NaN"),
        (lambda m, v, e: m + (2 * v).exp() * e, "fourth"),
        (lambda m, v, e: m + (-v / 2).exp() * e, "sign of the exponent"),
        (lambda m, v, e: m + v.exp() / 2 * e, "inside the exponential"),
        (lambda m, v, e: m, "mean of the cloud"),
        (lambda m, v, e: m + (v / 2).exp(), "one σ from the mean"),
        (lambda m, v, e: m + e, "isn't scaled"),
        (lambda m, v, e: (v / 2).exp() * e, "μ doesn't appear"),
        (lambda m, v, e: (m + e) * (v / 2).exp(), "scaled the mean too"),
        (lambda m, v, e: (v / 2).exp() + m * e, "mixed up μ and σ"),
        (lambda m, v, e: m - (v / 2).exp() * e, "you subtracted"),
        (lambda m, v, e: m + (v / 2).exp() * e[0], "one ε for the whole batch"),
        (lambda m, v, e: m + (v / 2).exp() * e[:, :1], "one ε for all coordinates"),
        (lambda m, v, e: m + (v / 2).exp() * e.mean(dim=0), "averaged ε over the batch"),
        (lambda m, v, e: m + (v / 2).exp() * torch.randn_like(m), "noise of your own"),
        (lambda m, v, e: torch.distributions.Normal(m, (v / 2).exp()).sample(), "noise of your"),
        (lambda m, v, e: (m + (v / 2).exp() * e).sum(dim=1), "added up the coordinates"),
        (lambda m, v, e: (m + (v / 2).exp() * e).mean(dim=0), "mean over the images"),
        (lambda m, v, e: (m + e)[:2], "the shape is [2, 3]"),
        (lambda m, v, e: 2 * (m + (v / 2).exp() * e), "the values aren't"),
        (lambda m, v, e: (m, v), "you returned tuple"),
    ],
)
def test_check_reparameterise(capsys, answer, verdict):
    check_reparameterise(answer)
    assert verdict in capsys.readouterr().out


def by_torch(mean, log_var):
    return kl_divergence(Normal(mean, log_var.mul(0.5).exp()), Normal(0.0, 1.0)).sum(dim=1)


def terms(m, v):
    return m**2 + v.exp() - 1 - v


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (by_torch, "✓ right"),
        (lambda m, v: 0.5 * terms(m, v).sum(dim=1), "✓ right"),
        (lambda m, v: -0.5 * terms(m, v).sum(dim=1), "the sign is wrong: a KL is never"),
        (lambda m, v: terms(m, v).sum(dim=1), "½ is missing"),
        (lambda m, v: 0.5 * terms(m, v).mean(dim=1), "averaged over the coordinates"),
        (lambda m, v: 0.5 * terms(m, v), "nothing is summed yet"),
        (lambda m, v: 0.5 * terms(m, v).sum(dim=0), "summed over the images and kept"),
        (lambda m, v: 0.5 * terms(m, v).mean(dim=0), "averaged over the images and kept"),
        (lambda m, v: 0.5 * terms(m, v).sum(), "added up the whole batch"),
        (lambda m, v: 0.5 * terms(m, v).sum(dim=1).mean(), "mean over the images already"),
        (lambda m, v: 0.5 * terms(m, v).mean(), "mean over everything"),
        (lambda m, v: 0.5 * (m**2 + (v / 2).exp() - 1 - v).sum(dim=1), "you used σ where σ²"),
        (lambda m, v: 0.5 * (m**2 + v.exp() ** 2 - 1 - v).sum(dim=1), "which is σ² already"),
        (lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v / 2).sum(dim=1), "log σ where log σ²"),
        (lambda m, v: 0.5 * (m**2 + v.exp() - 1 - 2 * v).sum(dim=1), "doubled log σ²"),
        (lambda m, v: 0.5 * terms(m, 2 * v).sum(dim=1), "in both places"),
        (lambda m, v: 0.5 * (m + v.exp() - 1 - v).sum(dim=1), "μ where μ²"),
        (lambda m, v: 0.5 * (m**2 + v.exp() - v).sum(dim=1), "−1 is missing"),
        (lambda m, v: 0.5 * (m**2 + v.exp() - 1 + v).sum(dim=1), "the sign of log σ²"),
        (lambda m, v: 0.5 * (m**2 + v - 1 - v).sum(dim=1), "log_var itself"),
        (lambda m, v: 0.5 * (v.exp() - 1 - v).sum(dim=1), "μ² is missing"),
        (lambda m, v: (m**2 / 2 + v**2 / 4).sum(dim=1), "naive penalty"),
        (lambda m, v: kl_divergence(Normal(0.0, 1.0), Normal(m, (v / 2).exp())).sum(dim=1),
         "the other direction"),
        (lambda m, v: -0.5 * terms(m, v).mean(dim=1), "the sign is wrong, and you averaged"),
        (lambda m, v: 0.5 * terms(m, v)[:2, 0], "the shape is [2]"),
        (lambda m, v: terms(m, v).sum(dim=1).sqrt(), "the values aren't"),
        (lambda m, v: 3.0, "you returned float"),
    ],
)  # fmt: skip
def test_check_kl(capsys, answer, verdict):
    check_kl(answer)
    assert verdict in capsys.readouterr().out


def test_almost_right_is_not_right(capsys):
    check_kl(lambda m, v: 0.5 * terms(m, v).sum(dim=1) + 1e-3)
    assert "the values aren't" in capsys.readouterr().out


def likelihood_by_torch(x, x_hat, sigma_x):
    return Normal(x_hat, sigma_x).log_prob(x).sum(dim=1)


def elbo_by_torch(x, x_hat, s, m, v):
    return likelihood_by_torch(x, x_hat, s) - by_torch(m, v)


def error(x, x_hat):
    return (x - x_hat).square().sum(dim=1)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (elbo_by_torch, "✓ right"),
        (lambda x, y, s, m, v: -elbo_by_torch(x, y, s, m, v), "that is −ELBO, the loss; turn"),
        (lambda x, y, s, m, v: -error(x, y) / (2 * s**2) - by_torch(m, v), "constant of the Gauss"),
        (lambda x, y, s, m, v: error(x, y) / (2 * s**2) + by_torch(m, v), "missing too"),
        (lambda x, y, s, m, v: -error(x, y) / (2 * s**2) - math.log(2 * math.pi * s**2) / 2
         - by_torch(m, v), "counted the constant once"),
        (lambda x, y, s, m, v: -error(x, y) / (2 * s**2) + 6 * math.log(2 * math.pi * s**2)
         - by_torch(m, v), "the constant has the wrong sign"),
        (lambda x, y, s, m, v: -error(x, y) / (2 * s**2) - 6 * math.log(2 * math.pi * s)
         - by_torch(m, v), "σₓ stands where σₓ²"),
        (lambda x, y, s, m, v: -error(x, y) / (2 * s**2) - 6 * math.log(s**2) - by_torch(m, v),
         "the 2π is missing"),
        (lambda x, y, s, m, v: likelihood_by_torch(x, y, s) + by_torch(m, v), "you added the KL"),
        (lambda x, y, s, m, v: likelihood_by_torch(x, y, s), "the KL is missing"),
        (lambda x, y, s, m, v: elbo_by_torch(x, y, s, m, v) + error(x, y) / s**2, "lost its minus"),
        (lambda x, y, s, m, v: -error(x, y) - 6 * math.log(2 * math.pi * s**2) - by_torch(m, v),
         "divide it by 2σₓ²"),
        (lambda x, y, s, m, v: elbo_by_torch(x, y, s, m, v) - error(x, y) / (2 * s**2),
         "the ½ of the squared error"),
        (lambda x, y, s, m, v: -error(x, y) / (2 * s) - 6 * math.log(2 * math.pi * s**2)
         - by_torch(m, v), "divided by 2σₓ;"),
        (lambda x, y, s, m, v: -error(x, y) / (24 * s**2) - 6 * math.log(2 * math.pi * s**2)
         - by_torch(m, v), "averaged the squared error over"),
        (lambda x, y, s, m, v: likelihood_by_torch(x, y, s) / 12 - by_torch(m, v), "β = D"),
        (lambda x, y, s, m, v: likelihood_by_torch(x, y, s) - by_torch(m, v) / 3, "β = 1/d"),
        (lambda x, y, s, m, v: likelihood_by_torch(x, y, s) - 2 * by_torch(m, v), "½ of the KL"),
        (lambda x, y, s, m, v: elbo_by_torch(x, y, s, m, v).sum(), "added up the whole batch"),
        (lambda x, y, s, m, v: elbo_by_torch(x, y, s, m, v).mean(), "over the images already"),
        (lambda x, y, s, m, v: elbo_by_torch(x, y, s, m, v)[:2], "the shape is [2]"),
        (lambda x, y, s, m, v: elbo_by_torch(x, y, s, m, v) + 1e-3, "the values aren't"),
        (lambda x, y, s, m, v: 3.0, "you returned float"),
    ],
)  # fmt: skip
def test_check_elbo(capsys, answer, verdict):
    check_elbo(answer)
    assert verdict in capsys.readouterr().out


def pooled(weights, dim=0):
    return torch.logsumexp(weights, dim=dim) - math.log(weights.shape[dim])


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (lambda x, p, q: pooled(x + p - q), "✓ right"),
        (lambda x, p, q: (x + p - q - math.log(len(x))).logsumexp(dim=0), "✓ right"),
        (lambda x, p, q: (x + p - q).exp().mean(dim=0).log(), "use logsumexp"),
        (lambda x, p, q: (x + p - q).mean(dim=0), "the mean of the logarithms"),
        (lambda x, p, q: (x + p - q).logsumexp(dim=0), "you summed the weights"),
        (lambda x, p, q: (x + p - q).logsumexp(dim=0) + math.log(7), "you added log k"),
        (lambda x, p, q: (x + p - q).logsumexp(dim=0) / 7, "you divided the logarithm by k"),
        (lambda x, p, q: (x + p - q).exp().mean(dim=0), "that is the mean weight"),
        (lambda x, p, q: (x + p - q).sum(dim=0), "added up the logarithms"),
        (lambda x, p, q: (x + p - q).max(dim=0).values, "the best weight alone"),
        (lambda x, p, q: pooled(q - x - p), "upside down"),
        (lambda x, p, q: pooled(x + p), "log q(z|x) is missing"),
        (lambda x, p, q: pooled(x - q), "✗ log p(z) is missing"),
        (lambda x, p, q: pooled(x), "that is the mean likelihood"),
        (lambda x, p, q: pooled(x + p + q), "you multiplied by q"),
        (lambda x, p, q: pooled(x - p + q), "have changed places"),
        (lambda x, p, q: pooled(x + p - q, dim=1), "averaged over the images and kept"),
        (lambda x, p, q: pooled((x + p - q).flatten()), "one mean over codes and images"),
        (lambda x, p, q: pooled(x + p - q).mean(), "the mean over the images already"),
        (lambda x, p, q: pooled(x + p - q).sum(), "added up the images"),
        (lambda x, p, q: x + p - q, "nothing is averaged yet"),
        (lambda x, p, q: -pooled(x + p - q), "turn the sign round"),
        (lambda x, p, q: pooled(x + p - q)[:2], "the shape is [2]"),
        (lambda x, p, q: pooled(x + p - q) + 1e-3, "the values aren't"),
        (lambda x, p, q: 3.0, "you returned float"),
    ],
)
def test_check_importance_weighted(capsys, answer, verdict):
    check_importance_weighted(answer)
    assert verdict in capsys.readouterr().out


def grid(axis, flip=True, swap=False, mirror=False):
    z_2, z_1 = torch.meshgrid(
        axis.flip(0) if flip else axis, axis.flip(0) if mirror else axis, indexing="ij"
    )
    return torch.stack([z_2, z_1] if swap else [z_1, z_2], dim=2).reshape(-1, 2)


def quantiles(n):
    return Normal(0.0, 1.0).icdf(torch.linspace(0.05, 0.95, n))


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (lambda n: grid(quantiles(n)), "✓ right"),
        (lambda n: grid(quantiles(n), flip=False), "upside down"),
        (lambda n: grid(quantiles(n), flip=False, swap=True), "swapped, and z₁ grows downwards"),
        (lambda n: grid(quantiles(n), swap=True), "along a row"),
        (lambda n: grid(quantiles(n), mirror=True), "left and right"),
        (lambda n: grid(quantiles(n), flip=False, mirror=True), "half a turn"),
        (lambda n: grid(torch.linspace(-1, 1, n)), "from −1 to 1"),
        (lambda n: grid(torch.linspace(-3, 3, n)), "from −3 to 3"),
        (lambda n: grid(torch.linspace(-3, 3, n), flip=False), "z₂ is largest there"),
        (lambda n: grid(torch.linspace(-1.64485363, 1.64485363, n)), "equal in z"),
        (lambda n: grid(torch.linspace(0.05, 0.95, n)), "the shares u themselves"),
        (
            lambda n: grid(Normal(0.0, 1.0).cdf(torch.linspace(0.05, 0.95, n))),
            "not its inverse",
        ),
        (lambda n: grid(quantiles(n) / 2), "another σ"),
        (lambda n: grid(Normal(0.0, 1.0).icdf(torch.linspace(0, 1, n))), "infinite"),
        (lambda n: grid(quantiles(n)).reshape(n, n, 2), "apart from that it is right"),
        (lambda n: grid(quantiles(n), flip=False).reshape(n, n, 2), "upside down"),
        (lambda n: quantiles(n), "the shape is [5]"),
        (lambda n: grid(quantiles(n)) + 0.1, "the values aren't"),
        (lambda n: [1.0], "you returned list"),
    ],
)
def test_check_quantile_grid(capsys, answer, verdict):
    check_quantile_grid(answer)
    assert verdict in capsys.readouterr().out


def error_in_place(x, x_hat):
    x -= x_hat
    x *= x
    return x.sum(1)


def kl_in_place(mean, log_var):
    total = mean.square_().add_(log_var.exp()).sub_(1).sub_(log_var)
    return total.mul_(0.5).sum(dim=1)


def elbo_in_place(x, x_hat, sigma_x, mean, log_var):
    error = error_in_place(x, x_hat).div_(-2 * sigma_x**2)
    return error.sub_(6 * math.log(2 * math.pi * sigma_x**2)).sub_(kl_in_place(mean, log_var))


def spoilt(mean, log_var, epsilon):
    """Right, but the product stands where exp() would look for its own result."""
    return log_var.mul_(0.5).exp_().mul_(epsilon).add_(mean)


@pytest.mark.parametrize(
    ("check", "answer", "verdict"),
    [
        (check_squared_error, error_in_place, "✓ right"),
        (check_squared_error, lambda x, y: x.sub_(y).square_().mean(1), "averaged over the pixels"),
        (check_reparameterise, lambda m, v, e: m + v.mul_(0.5).exp_() * e, "✓ right"),
        (check_reparameterise, lambda m, v, e: m.add_(e.mul_((v / 2).exp())), "✓ right"),
        (check_reparameterise, lambda m, v, e: m + v.exp_() * e, "which is the variance"),
        (check_reparameterise, spoilt, "no gradient gets back"),
        (check_kl, kl_in_place, "✓ right"),
        (check_elbo, elbo_in_place, "✓ right"),
        (check_importance_weighted, lambda x, p, q: pooled(x.add_(p).sub_(q)), "✓ right"),
        (check_importance_weighted, lambda x, p, q: pooled(p.add_(x)), "log q(z|x) is missing"),
    ],
)
def test_an_answer_that_works_in_place_is_judged_by_its_result(capsys, check, answer, verdict):
    check(answer)
    out = capsys.readouterr().out
    assert verdict in out and out.count("\n") == 1


def kl_of_units(lam, noise):
    return 0.5 * (lam / noise).clamp(min=1).log()


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (lambda lam, w: kl_of_units(lam, w / 2), "✓ right"),
        (lambda lam, w: (0.5 * (2 * lam / w).log()).clamp(min=0), "✓ right"),
        (lambda lam, w: torch.where(lam > w / 2, (2 * lam / w).log() / 2, 0.0), "✓ right"),
        (lambda lam, w: lam.mul_(2 / w).clamp_(min=1).log_().div_(2), "✓ right"),
        (lambda lam, w: kl_of_units(lam, w), "you took w as the noise"),
        (lambda lam, w: kl_of_units(lam, 2 * w), "you took 2w"),
        (lambda lam, w: kl_of_units(lam, (w / 2) ** 0.5), "the square root of w/2"),
        (lambda lam, w: kl_of_units(lam, (w / 2) ** 2), "w/2 is σₓ² already"),
        (lambda lam, w: kl_of_units(lam, 1), "you ignored the noise"),
        (lambda lam, w: 0.5 * (2 * lam / w).log(), "cut off at 0"),
        (lambda lam, w: 0.5 * (2 * lam / w).log().abs(), "the absolute value"),
        (lambda lam, w: 2 * kl_of_units(lam, w / 2), "½ is missing"),
        (lambda lam, w: 0.5 * (w / 2 / lam).clamp(min=1).log(), "that is ½ log(σₓ²/λ), cut"),
        (lambda lam, w: -0.5 * (2 * lam / w).log(), "upside down"),
        (lambda lam, w: -kl_of_units(lam, w / 2), "the sign is wrong"),
        (lambda lam, w: 0.5 * (2 * lam / w).clamp(min=1), "the logarithm is missing"),
        (lambda lam, w: 0.5 * (1 + 2 * lam / w).log(), "you added 1"),
        (lambda lam, w: (lam - w / 2).clamp(min=0), "(8.1)"),
        (lambda lam, w: (1 - w / 2 / lam).clamp(min=0), "(8.2)"),
        (lambda lam, w: (1 - w / 2 / lam).clamp(min=0) / 2, "widths of the clouds"),
        (lambda lam, w: (lam > w / 2).double(), "which units live"),
        (lambda lam, w: kl_of_units(lam, w / 2).sum(), "you added up the units"),
        (lambda lam, w: kl_of_units(lam, w / 2).mean(), "you averaged over the units"),
        (lambda lam, w: kl_of_units(lam, w / 2) / math.log(2), "bits"),
        (lambda lam, w: kl_of_units(lam, w / 2)[:3], "the shape is [3]"),
        (lambda lam, w: kl_of_units(lam, w / 2) + 1e-3, "the values aren't"),
        (lambda lam, w: 3.0, "you returned float"),
    ],
)  # fmt: skip
def test_check_dead_units(capsys, answer, verdict):
    check_dead_units(answer)
    assert verdict in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (lambda e: e.sum() / math.log(2) / 8, "✓ right"),
        (lambda e: e.sum() / 8, "you took nats for bits"),
        (lambda e: e.sum() * math.log(2) / 8, "you multiplied by log 2"),
        (lambda e: e.sum() / math.log(2), "those are bits"),
        (lambda e: e.sum(), "those are nats"),
        (lambda e: 8 * e.sum() / math.log(2), "multiplied by 8"),
        (lambda e: e.mean() / math.log(2) / 8, "you took the mean over the images"),
        (lambda e: e.mean() / 8, "nats for bits; a bit is log 2 nats; and you took the mean"),
        (lambda e: e / math.log(2) / 8, "a length for each image"),
        (lambda e: -e.sum() / math.log(2) / 8, "the sign is wrong"),
        (lambda e: e.sum() / 7, "the value"),
        (lambda e: 3.0, "you returned float"),
    ],
)
def test_check_file_size(capsys, answer, verdict):
    check_file_size(answer)
    assert verdict in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (lambda i, o, s, p: o * (i * s * s + 1), "✓ right"),
        (lambda i, o, s, p: torch.tensor(i * o * s**2 + o), "✓ right"),
        (lambda i, o, s, p: i * o * s * s, "constants b are missing, one for each"),
        (lambda i, o, s, p: o * s * s + o, "reaches through all the maps that go in, with"),
        (lambda i, o, s, p: o * s * s, "go in; and the constants b are missing"),
        (lambda i, o, s, p: i * s * s + o, "for each pair of maps, in and out"),
        (lambda i, o, s, p: i * s * s + 1, "the weights of one window"),
        (lambda i, o, s, p: i * o * s * s + i, "not for each that goes in"),
        (lambda i, o, s, p: i * o * (s * s + 1), "all windows of a pair"),
        (lambda i, o, s, p: i * o * s * s + 1, "not one in all"),
        (lambda i, o, s, p: i * o * s * s * p + o, "you counted the places where"),
        (lambda i, o, s, p: (i * o * s * s + o) * p, "places, of the weights and of the const"),
        (lambda i, o, s, p: i * o * s * s * p, "those are operations"),
        (lambda i, o, s, p: i * o * s * s + o * p, "the places of the constants b"),
        (lambda i, o, s, p: o * (i * s + 1), "size × size weights"),
        (lambda i, o, s, p: 17, "17 isn't (11.3), which is 740"),
        (lambda i, o, s, p: "740", "you returned str"),
    ],
)
def test_check_conv_weights(capsys, answer, verdict):
    check_conv_weights(answer)
    assert verdict in capsys.readouterr().out


def rec(x, a):
    return cross_entropy(a, x, reduction="none").sum(dim=1)


def rate(m, v):
    return 0.5 * terms(m, v).sum(dim=1)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (lambda x, a, m, v: (rec(x, a) + by_torch(m, v)).mean(), "✓ right"),
        (lambda x, a, m, v: (rec(x, a).sum() + rate(m, v).sum()) / len(x), "✓ right"),
        (lambda x, a, m, v: cross_entropy(a, x) + rate(m, v).mean(), "averaged over the pixels"),
        (lambda x, a, m, v: (rec(x, a) + 0.5 * terms(m, v).mean(dim=1)).mean(), "β = 1/d"),
        (lambda x, a, m, v: cross_entropy(a, x) + 0.5 * terms(m, v).mean(), "both terms are aver"),
        (lambda x, a, m, v: rec(x, a).sum() + rate(m, v).sum(), "over the images too"),
        (lambda x, a, m, v: cross_entropy(a, x) + rate(m, v).sum(), "times the size of the batch"),
        (lambda x, a, m, v: rec(x, a).sum() + rate(m, v).mean(), "summed over the images, and the"),
        (lambda x, a, m, v: rec(x, a).sum() + 0.5 * terms(m, v).mean(), "averaged over everything"),
        (lambda x, a, m, v: rec(x, a).mean() + rate(m, v).sum(), "β = the size of the batch"),
        (lambda x, a, m, v: rec(x, a) + rate(m, v), "the mean over the images is missing"),
        (lambda x, a, m, v: (rec(x, a) - rate(m, v)).mean(), "the KL has the wrong sign"),
        (lambda x, a, m, v: rec(x, a).mean(), "✗ the KL is missing\n"),
        (lambda x, a, m, v: (rec(x, a) + 2 * rate(m, v)).mean(), "½ of the KL"),
        (lambda x, a, m, v: (rec(x, a) + 0.5 * (m**2 + v - 1 - v).sum(dim=1)).mean(),
         "the same stands for σ² and for log σ²"),
        (lambda x, a, m, v: (rec(x, a) + 0.5 * (m**2 + v.exp() ** 2 - 1 - v).sum(dim=1)).mean(),
         "and you squared it"),
        (lambda x, a, m, v: (rec(x, a) + 0.5 * (m**2 + (v / 2).exp() - 1 - v).sum(dim=1)).mean(),
         "σ stands where σ²"),
        (lambda x, a, m, v: (rec(x, a) + 0.5 * (m**2 + v.exp() - 1 - v.exp()).sum(dim=1)).mean(),
         "the same stands for σ² and for log σ²"),
        (lambda x, a, m, v: (rec(x, a) + rate(m, 2 * v)).mean(), "for log σ in both"),
        (lambda x, a, m, v: (rec(x, a) + 0.5 * (m**2 + v - 1 - v.log()).sum(dim=1)).mean(),
         "holds NaN"),
        (lambda x, a, m, v: (rec(x, a) + 0.5 * (m + v.exp() - 1 - v).sum(dim=1)).mean(),
         "μ stands where μ²"),
        (lambda x, a, m, v: (rec(x, a) + 0.5 * (m**2 + v.exp() - v).sum(dim=1)).mean(),
         "−1 of the KL"),
        (lambda x, a, m, v: (rec(x, a) + 0.5 * (m**2 + v.exp() - 1 + v).sum(dim=1)).mean(),
         "the sign of log σ²"),
        (lambda x, a, m, v: (rec(x, a) + kl_divergence(
            Normal(0.0, 1.0), Normal(m, (v / 2).exp())).sum(dim=1)).mean(), "other direction"),
        (lambda x, a, m, v: (rate(m, v) - rec(x, a)).mean(), "has lost its minus"),
        (lambda x, a, m, v: -(rec(x, a) + rate(m, v)).mean(), "that is the ELBO"),
        (lambda x, a, m, v: rate(m, v).mean(), "the cross-entropy is missing"),
        (lambda x, a, m, v: (rec(x, a.sigmoid()) + rate(m, v)).mean(), "sigmoid of the logits twi"),
        (lambda x, a, m, v: (rate(m, v) - (x * a).sum(dim=1)).mean(), "logits for probabilities"),
        (lambda x, a, m, v: (rate(m, v) - (x * a.sigmoid().log()).sum(dim=1)).mean(),
         "only the pixels with ink"),
        (lambda x, a, m, v: (rate(m, v) + (1 + a.exp()).log().sum(dim=1)).mean(),
         "the term x a is missing"),
        (lambda x, a, m, v: (error(x, a.sigmoid()) + rate(m, v)).mean(), "error of the probab"),
        (lambda x, a, m, v: (error(x, a) + rate(m, v)).mean(), "squared error of the logits"),
        (lambda x, a, m, v: cross_entropy(a, x) - rate(m, v).mean(),
         "narrow cloud must cost something; and the cross-entropy is averaged over the pixels"),
        (lambda x, a, m, v: (rec(x, a) + rate(m, v))[:2], "the shape is [2]"),
        (lambda x, a, m, v: (rec(x, a) + rate(m, v)).mean() + 1e-3, "the values aren't"),
        (lambda x, a, m, v: 3.0, "you returned float"),
    ],
)  # fmt: skip
def test_check_training_loss(capsys, answer, verdict):
    check_training_loss(answer)
    assert verdict in capsys.readouterr().out


def test_a_loss_that_works_in_place_is_judged_by_its_result(capsys):
    check_training_loss(lambda x, a, m, v: rec(x, a).add_(kl_in_place(m, v)).mean())
    out = capsys.readouterr().out
    assert "✓ right" in out and out.count("\n") == 1


def pair(place, velocity):
    return lambda z, e, t: torch.stack([place(z, e, t), velocity(z, e, t)])


def on_the_line(z, e, t):
    return (1 - t) * e + t * z


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (pair(on_the_line, lambda z, e, t: z - e), "✓ right"),
        (pair(lambda z, e, t: t * e + (1 - t) * z, lambda z, e, t: z - e), "runs the wrong way"),
        (pair(lambda z, e, t: e + t * z, lambda z, e, t: z - e), "not on the line"),
        (pair(lambda z, e, t: z, lambda z, e, t: z - e), "your place is the code"),
        (pair(on_the_line, lambda z, e, t: e - z), "wrong sign"),
        (pair(on_the_line, lambda z, e, t: (1 - t) * (z - e)), "the way left to go"),
        (pair(on_the_line, lambda z, e, t: z), "your velocity is the code"),
        (pair(on_the_line, lambda z, e, t: t * (z - e)), "multiplied by t"),
        (pair(lambda z, e, t: z - e, on_the_line), "changed places"),
        (
            pair(lambda z, e, t: t * e + (1 - t) * z, lambda z, e, t: e - z),
            "runs the wrong way: at t = 0 it is at the code; and your velocity has the wrong sign",
        ),
        (lambda z, e, t: (on_the_line(z, e, t), z - e), "you returned tuple; one tensor"),
        (lambda z, e, t: on_the_line(z, e, t), "the shape is [5, 3]"),
        (pair(on_the_line, lambda z, e, t: 2 * z), "the values aren't"),
    ],
)
def test_check_flow_pair(capsys, answer, verdict):
    check_flow_pair(answer)
    assert verdict in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (lambda logs, p: (logs + p).softmax(dim=1), "✓ right"),
        (lambda logs, p: ((logs + p) - (logs + p).logsumexp(dim=1, keepdim=True)).exp(), "✓ right"),
        (lambda logs, p: (logs.double() + p).softmax(dim=1), "✓ right"),
        (lambda logs, p: (logs + p).exp() / (logs + p).exp().sum(dim=1, keepdim=True), "holds NaN"),
        (lambda logs, p: logs.softmax(dim=1), "the prior is missing"),
        (lambda logs, p: (logs + p.exp()).softmax(dim=1), "log p(y) already"),
        (lambda logs, p: (logs - p).softmax(dim=1), "the prior has the wrong sign"),
        (lambda logs, p: (p - logs).softmax(dim=1), "the likelihood has the wrong sign"),
        (lambda logs, p: (-logs - p).softmax(dim=1), "both signs are wrong"),
        (lambda logs, p: (logs + p).softmax(dim=0), "normalised over the images"),
        (lambda logs, p: (logs + p).view(-1).softmax(0).view(4, 10), "normalised over everything"),
        (lambda logs, p: (logs + p).log_softmax(dim=1), "those are the logarithms"),
        (lambda logs, p: logs + p, "that is log p(x, y)"),
        (lambda logs, p: (logs + p).logsumexp(dim=1), "that is log p(x), (12.6)"),
        (lambda logs, p: (logs + p) / (logs + p).sum(dim=1, keepdim=True), "divided by their sum"),
        (lambda logs, p: (logs + p - (logs + p).amax(1, True)).exp(), "only the largest is taken"),
        (lambda logs, p: (logs + p).argmax(dim=1), "the most probable label"),
        (lambda logs, p: (logs + p).argmin(dim=1), "the least probable label"),
        (lambda logs, p: p.exp().expand(4, 10), "that is the prior"),
        (lambda logs, p: (logs + p).exp(), "0 in float32"),
        (lambda logs, p: (logs + p).softmax(dim=1)[:2], "the shape is [2, 10]"),
        (lambda logs, p: 2 * (logs + p).softmax(dim=1), "the values aren't"),
        (lambda logs, p: 0.3, "you returned float"),
    ],
)  # fmt: skip
def test_check_bayes(capsys, answer, verdict):
    check_bayes(answer)
    assert verdict in capsys.readouterr().out
