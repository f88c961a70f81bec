"""Checkers for the book's exercises: they say what went wrong, not only that it did."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from numbers import Real

import torch
from torch import Tensor
from torch.nn.functional import softplus

from vae_book.models import squared_error
from vae_core.latent import normal_quantiles, quantile_grid

__all__ = [
    "check_bayes",
    "check_conv_weights",
    "check_dead_units",
    "check_elbo",
    "check_file_size",
    "check_flow_pair",
    "check_importance_weighted",
    "check_kl",
    "check_quantile_grid",
    "check_reparameterise",
    "check_squared_error",
    "check_training_loss",
]


def check_squared_error(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check a reader's function for the squared error of each image (chapter 1, exercise 1).

    Prints that it is right, or what it computes instead.

    Shapes: ``answer(x, x_hat)`` is called with two tensors [5, 12] and should return [5].
    """
    noise = torch.Generator().manual_seed(0)
    x, x_hat = torch.rand(2, 5, 12, generator=noise, dtype=torch.float64)
    right = squared_error(x, x_hat)
    got = _answer(answer, "a tensor with one error an image", x, x_hat)
    if got is None:
        return
    mistakes = {
        "you averaged over the pixels; equation (1.2) sums over them": right / 12,
        "you summed over the images and kept the pixels": (x - x_hat).square().sum(dim=0),
        "you averaged over the images and kept the pixels": (x - x_hat).square().mean(dim=0),
        "you added up the whole batch; each image has an error of its own": right.sum(),
        "you took the mean over everything, images and pixels": (x - x_hat).square().mean(),
        "you took the mean over the images already; that is equation (1.3)": right.mean(),
        "you summed absolute differences; square them": (x - x_hat).abs().sum(dim=1),
        "you took the square root at the end; the error is the square": right.sqrt(),
        "you squared nothing, so that errors of opposite sign cancel": (x - x_hat).sum(dim=1),
        "nothing is summed yet; sum over the pixels, the last dimension": (x - x_hat).square(),
    }
    if _same(got, right):
        print("✓ right: one squared error an image, summed over its pixels")
        return
    negated = [(diagnosis, -wrong) for diagnosis, wrong in mistakes.items()]
    known = [*mistakes.items(), *negated]
    _diagnose(got, right, known, "5 images [5]", "equation (1.2) term by term")


def check_reparameterise(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check a reader's z = μ + σ ⊙ ε from μ, log σ² and ε (chapter 2, exercise 1).

    Prints that it is right, or what it computes instead; also when no gradient gets through.

    Shapes: ``answer(mean, log_var, epsilon)`` is called with three tensors [5, 3] and should
    return [5, 3].
    """
    draw = torch.Generator().manual_seed(0)
    mean, log_var, noise = torch.randn(3, 5, 3, generator=draw, dtype=torch.float64)
    # Whatever an answer does to what it is given in place, it does to copies.
    leaves = [mean.clone().requires_grad_(), log_var.clone().requires_grad_()]
    wanted = "a tensor with one code an image"
    got, again = (_answer(answer, wanted, *leaves, noise) for _ in range(2))
    if got is None or again is None:
        return
    if got.shape == again.shape and not torch.equal(got.nan_to_num(), again.nan_to_num()):
        print("✗ two calls gave two answers: you drew noise of your own; use the ε that is given")
        return
    if torch.isnan(got).any():
        print("✗ your answer holds NaN: log σ² may be negative, and then it has no square root")
        return
    sigma = (0.5 * log_var).exp()
    right = mean + sigma * noise
    if _same(got, right):
        if _lets_gradients_through(got, *leaves):
            print("✓ right: z = μ + σ ⊙ ε with σ = exp(½ log σ²), and the gradient gets through")
        else:
            print("✗ the values are right, but no gradient gets back to μ and log σ²")
        return
    mistakes = {
        "you used exp(log σ²), which is the variance; σ = exp(½ log σ²)": mean
        + log_var.exp() * noise,
        "you used log σ² itself as σ; σ = exp(½ log σ²)": mean + log_var * noise,
        "½ log σ² is log σ; the exponential is missing": mean + 0.5 * log_var * noise,
        "exp(2 log σ²) is σ to the fourth; the square root is a factor ½": mean
        + (2 * log_var).exp() * noise,
        "the sign of the exponent is wrong; that is 1/σ": mean + noise / sigma,
        "you halved the variance; the ½ belongs inside the exponential": mean
        + 0.5 * log_var.exp() * noise,
        "ε doesn't appear: that is the mean of the cloud, not a draw from it": mean,
        "ε doesn't appear: you went one σ from the mean for every image": mean + sigma,
        "ε isn't scaled: multiply it by σ": mean + noise,
        "μ doesn't appear: add it": sigma * noise,
        "you scaled the mean too; σ multiplies ε alone": (mean + noise) * sigma,
        "you mixed up μ and σ: ε is multiplied by σ, and μ is added": sigma + mean * noise,
        "you subtracted σ ⊙ ε: the same cloud, but not the draw of (2.3)": mean - sigma * noise,
        "you used one ε for the whole batch; each image has its own": mean + sigma * noise[:1],
        "you used one ε for all coordinates; each has its own": mean + sigma * noise[:, :1],
        "you averaged ε over the batch; each image has its own": mean + sigma * noise.mean(dim=0),
        "you added up the coordinates; z has as many as μ": right.sum(dim=1),
        "you took the mean over the images; each has its own code": right.mean(dim=0),
    }
    wanted, compare = "5 images with 3 coordinates [5, 3]", "(2.2) and (2.3) term by term"
    _diagnose(got, right, mistakes.items(), wanted, compare)


def _lets_gradients_through(z: Tensor, *inputs: Tensor) -> bool:
    try:
        gradients = torch.autograd.grad(z.sum(), inputs, allow_unused=True)
    except RuntimeError:  # there is none, or what it needs was changed in place
        return False
    return all(gradient is not None for gradient in gradients)


def check_kl(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check a reader's KL(q(z|x) ‖ p(z)) of each image (chapter 3, exercise 1).

    Prints that it is right, or what it computes instead.

    Shapes: ``answer(mean, log_var)`` is called with two tensors [5, 3] and should return [5].
    """
    noise = torch.Generator().manual_seed(0)
    mean, log_var = torch.randn(2, 5, 3, generator=noise, dtype=torch.float64)
    got = _answer(answer, "a tensor with one KL an image", mean, log_var)
    if got is None:
        return
    var, square = log_var.exp(), mean.square()
    per_unit = 0.5 * (square + var - 1 - log_var)  # (3.5)
    right = per_unit.sum(dim=1)  # (3.10)
    if _same(got, right):
        print("✓ right: one KL an image, summed over its coordinates, in nats")
        return

    def total(terms: Tensor) -> Tensor:
        return 0.5 * terms.sum(dim=1)

    sigma = (0.5 * log_var).exp()
    mistakes = {
        "the sign is wrong: a KL is never negative, and it is added to the loss": -right,
        "the factor ½ is missing": 2 * right,
        "you averaged over the coordinates; equation (3.10) sums over them": right / 3,
        "nothing is summed yet; sum over the coordinates, the last dimension": per_unit,
        "you summed over the images and kept the coordinates": per_unit.sum(dim=0),
        "you averaged over the images and kept the coordinates": per_unit.mean(dim=0),
        "you added up the whole batch; each image has a KL of its own": right.sum(),
        "you took the mean over the images already; the loss does that later": right.mean(),
        "you took the mean over everything, images and coordinates": per_unit.mean(),
        "you used σ where σ² belongs: exp(log_var) is σ² already, exp(log_var / 2) is σ": total(
            square + sigma - 1 - log_var
        ),
        "you squared exp(log_var), which is σ² already": total(square + var**2 - 1 - log_var),
        "you used log σ where log σ² belongs: log_var is the one, half of it the other": total(
            square + var - 1 - 0.5 * log_var
        ),
        "you doubled log σ²: log_var is log σ² already, not log σ": total(
            square + var - 1 - 2 * log_var
        ),
        "you took log_var for log σ in both places, σ² and log σ²": total(
            square + var**2 - 1 - 2 * log_var
        ),
        "you used μ where μ² belongs": total(mean + var - 1 - log_var),
        "the −1 is missing; without it the smallest KL is not 0": total(square + var - log_var),
        "the sign of log σ² is wrong: a narrow cloud must cost more, not less": total(
            square + var - 1 + log_var
        ),
        "you used log_var itself where σ² belongs; take exp(log_var)": total(square - 1),
        "μ² is missing: the cloud's place counts too": total(var - 1 - log_var),
        "that is the naive penalty of chapter 3": (square / 2 + log_var.square() / 4).sum(dim=1),
        "that is the other direction, KL(p ‖ q)": total((1 + square) / var - 1 + log_var),
    }
    negated = [(f"the sign is wrong, and {text}", -wrong) for text, wrong in mistakes.items()]
    known = [*mistakes.items(), *negated]
    _diagnose(got, right, known, "5 images [5]", "equation (3.10) term by term")


def check_elbo(answer: Callable[[Tensor, Tensor, float, Tensor, Tensor], Tensor]) -> None:
    """Check a reader's ELBO of each image for Gaussian pixels (chapter 4, exercise 1).

    Prints that it is right, or what it computes instead.

    Shapes: ``answer(x, x_hat, sigma_x, mean, log_var)`` is called with two tensors [5, 12], a
    number and two tensors [5, 3], and should return [5].
    """
    draw = torch.Generator().manual_seed(0)
    x, x_hat = torch.rand(2, 5, 12, generator=draw, dtype=torch.float64)
    mean, log_var = torch.randn(2, 5, 3, generator=draw, dtype=torch.float64)
    sigma_x = 0.3
    got = _answer(answer, "a tensor with one ELBO an image", x, x_hat, sigma_x, mean, log_var)
    if got is None:
        return
    error = (x - x_hat).square().sum(dim=1)
    per_unit = 0.5 * (mean.square() + log_var.exp() - 1 - log_var)  # (3.5)
    rate = per_unit.sum(dim=1)
    constant = 6 * math.log(2 * math.pi * sigma_x**2)  # D/2 log(2πσₓ²) with D = 12
    scaled = error / (2 * sigma_x**2)
    right = -scaled - constant - rate
    if _same(got, right):
        print("✓ right: log p(x|z) with its constant, less the KL, one number an image")
        return
    no_square = 12 * math.log(2 * math.pi * sigma_x) / 2
    per_pixel = constant / 12
    mistakes = {
        "the constant of the Gaussian is missing; (4.20) has it": -scaled - rate,
        "you counted the constant once; each of the D pixels has it": -scaled - per_pixel - rate,
        "the constant has the wrong sign": -scaled + constant - rate,
        "in the constant, σₓ stands where σₓ² belongs": -scaled - no_square - rate,
        "in the constant, the 2π is missing": -scaled - 12 * math.log(sigma_x) - rate,
        "you added the KL; the ELBO is the likelihood less the KL": -scaled - constant + rate,
        "the KL is missing": -scaled - constant,
        "the squared error has lost its minus": scaled - constant - rate,
        "the squared error is multiplied by −1 only; divide it by 2σₓ²": -error - constant - rate,
        "the ½ of the squared error is missing": -2 * scaled - constant - rate,
        "you divided by 2σₓ; the variance σₓ² belongs there": -error / (2 * sigma_x)
        - constant
        - rate,
        "you averaged the squared error over the pixels": -scaled / 12 - constant - rate,
        "you averaged all of log p(x|z) over the pixels; that is β = D": -(scaled + constant) / 12
        - rate,
        "you averaged the KL over the coordinates; that is β = 1/d": -scaled - constant - rate / 3,
        "the ½ of the KL is missing": -scaled - constant - 2 * rate,
        "you added up the whole batch; each image has an ELBO of its own": right.sum(),
        "you took the mean over the images already": right.mean(),
        "that is −ELBO, the loss; turn the sign round": -right,
        "that is the loss, −ELBO, and the constant of the Gaussian is missing too": scaled + rate,
    }
    _diagnose(got, right, mistakes.items(), "5 images [5]", "(4.12) and (4.20)")


def check_importance_weighted(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check a reader's importance-weighted log-likelihood (7.8) (chapter 7, exercise 1).

    Prints that it is right, or what it computes instead.

    Shapes: ``answer(log_lik, log_prior, log_q)`` is called with log p(x|z), log p(z) and
    log q(z|x), three tensors [7, 5] for 7 codes and 5 images, and should return [5].
    """
    k, n_images = 7, 5
    draw = torch.Generator().manual_seed(0)
    log_lik, log_prior, log_q = torch.randn(3, k, n_images, generator=draw, dtype=torch.float64)
    log_prior, log_q = log_prior - 10, log_q - 3  # of usual size; no two of them alike
    likely, unlikely = log_lik - 2, log_lik - 900  # exp(−900) is 0, the logarithm of that −∞
    got = _answer(answer, "a tensor with one number an image", likely, log_prior, log_q)
    if got is None:
        return

    def pooled(log_weights: Tensor, dim: int = 0) -> Tensor:
        return log_weights.logsumexp(dim=dim) - math.log(log_weights.shape[dim])

    log_weights = likely + log_prior - log_q
    right = pooled(log_weights)
    if _same(got, right):
        if _same(answer(unlikely, log_prior.clone(), log_q.clone()), right - 898):
            print("✓ right: the logarithm of the mean weight, one number an image")
        else:
            print("✗ right on paper, but exp() of a log weight of −900 is 0, and its logarithm −∞; "
                  "use logsumexp")  # fmt: skip
        return
    mistakes = {
        "that is the mean of the logarithms, an estimate of the ELBO; (7.8) takes the logarithm "
        "of the mean": log_weights.mean(dim=0),
        "you summed the weights; the mean divides by k, so log k has to go": right + math.log(k),
        "you added log k; it is subtracted": right + 2 * math.log(k),
        "you divided the logarithm by k; divide the sum of the weights by it, which takes log k "
        "off": log_weights.logsumexp(dim=0) / k,
        "that is the mean weight; take its logarithm": right.exp(),
        "you added up the logarithms": log_weights.sum(dim=0),
        "that is the best weight alone, which overrates the image": log_weights.max(dim=0).values,
        "the weights are upside down: q belongs below p(x|z) p(z)": pooled(-log_weights),
        "log q(z|x) is missing: without it the draws from q count as if they were from p(z)": (
            pooled(likely + log_prior)
        ),
        "log p(z) is missing": pooled(likely - log_q),
        "log p(z) and log q(z|x) are missing; that is the mean likelihood": pooled(likely),
        "you multiplied by q; divide by it, which subtracts its logarithm": pooled(
            likely + log_prior + log_q
        ),
        "p(z) and q(z|x) have changed places": pooled(likely - log_prior + log_q),
        "you averaged over the images and kept the codes; the codes are the first dimension": (
            pooled(log_weights, dim=1)
        ),
        "you took one mean over codes and images; each image has a number of its own": pooled(
            log_weights.flatten()
        ),
        "you took the mean over the images already": right.mean(),
        "you added up the images": right.sum(),
        "nothing is averaged yet; take the mean over the codes, the first dimension": log_weights,
        "that is the negative, a loss; turn the sign round": -right,
    }
    _diagnose(got, right, mistakes.items(), "5 images [5]", "(7.8) term by term")


def check_quantile_grid(answer: Callable[[int], Tensor]) -> None:
    """Check a reader's codes for a map on normal quantiles (chapter 6, exercise 1).

    Prints that they are right, or what was laid out instead.

    Shapes: ``answer(n)`` is called with n = 5 and should return [25, 2].
    """
    n = 5
    got = _answer(answer, "a tensor with one code a row", n)
    if got is None:
        return
    right = quantile_grid(n)
    if _same(got, right):
        print("✓ right: equal shares of the prior, the largest z₂ on top, as in a scatter plot")
        return
    if got.shape == (n, n, 2):
        got = got.reshape(-1, 2)
        print("✗ the shape is [n, n, 2]; one code a row is wanted, [n * n, 2]. And:")
        if _same(got, right):
            print("  apart from that it is right")
            return
    if got.shape == right.shape and not torch.isfinite(got).all():
        print("✗ there are infinite codes or NaN: the quantiles of 0 and 1 are infinite")
        return
    shares = torch.linspace(0.05, 0.95, n)
    edge = normal_quantiles(n)[-1].item()
    axes = {
        "": normal_quantiles(n),
        "equal steps from −1 to 1 leave out most of the prior; take quantiles": torch.linspace(
            -1, 1, n
        ),
        "the ends are right, but the steps are equal in z; take them equal in the share u": (
            torch.linspace(-edge, edge, n)
        ),
        "equal steps from −3 to 3 show mostly codes that are hardly ever drawn": torch.linspace(
            -3, 3, n
        ),
        "those are the shares u themselves; put them into the inverse of Φ": shares,
        "those are probabilities: you took Φ of the shares, not its inverse": (
            torch.special.ndtr(shares)
        ),
        "the quantiles are squeezed together: is that a grid for another σ?": normal_quantiles(n)
        / 2,
    }
    known = []
    for about_axis, axis in axes.items():
        down, right_first = torch.meshgrid(axis, axis, indexing="ij")
        layouts = {
            "": torch.stack([right_first, down.flip(0)], dim=2),
            "the map is upside down: the first row is drawn on top, and z₂ is largest there": (
                torch.stack([right_first, down], dim=2)
            ),
            "the axes are swapped, and z₁ grows downwards: z₁ belongs to the columns": torch.stack(
                [down, right_first], dim=2
            ),
            "the axes are swapped: z₁ must grow along a row, z₂ from row to row": torch.stack(
                [down.flip(0), right_first], dim=2
            ),
            "left and right are swapped: z₁ must grow to the right": torch.stack(
                [right_first.flip(1), down.flip(0)], dim=2
            ),
            "everything is turned by half a turn: z₁ must grow to the right, z₂ upwards": (
                torch.stack([right_first.flip(1), down], dim=2)
            ),
        }
        for about_layout, layout in layouts.items():
            diagnosis = "; and ".join(filter(None, [about_axis, about_layout]))
            known.append((diagnosis, layout.reshape(-1, 2)))
    _diagnose(got, right, known, "n = 5 [25, 2]", "(6.1), one axis at a time")


def check_training_loss(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check a reader's loss of a batch, −ELBO for Bernoulli pixels (chapter 5, exercise 1).

    Prints that it is right, or what it computes instead.

    Shapes: ``answer(x, logits, mean, log_var)`` is called with two tensors [5, 12], the first of
    zeros and ones, and two tensors [5, 3], and should return one number [].
    """
    draw = torch.Generator().manual_seed(0)
    logits, pixels = torch.randn(2, 5, 12, generator=draw, dtype=torch.float64)
    mean, log_var = torch.randn(2, 5, 3, generator=draw, dtype=torch.float64)
    x = (pixels > 0).double()
    got = _answer(answer, "a tensor with one number", x, logits, mean, log_var)
    if got is None:
        return
    per_pixel = softplus(logits) - x * logits  # (5.4), before the sum
    var, square = log_var.exp(), mean.square()
    per_unit = 0.5 * (square + var - 1 - log_var)  # (5.5), before the sum
    rec, rate = per_pixel.sum(dim=1), per_unit.sum(dim=1)
    right = (rec + rate).mean()  # (5.6)
    if _same(got, right):
        print("✓ right: sums over pixels and coordinates, a mean over the images, −ELBO in nats")
        return

    if torch.isnan(got).any():
        print("✗ your answer holds NaN: log_var is log σ² already, and may be negative; take no "
              "logarithm and no square root of it")  # fmt: skip
        return

    def with_kl(terms: Tensor) -> Tensor:
        return rec.mean() + 0.5 * terms.sum(dim=1).mean()

    def with_rec(terms: Tensor) -> Tensor:
        return terms.sum(dim=1).mean() + rate.mean()

    rho = torch.sigmoid(logits)
    ways = {  # to put the two terms together, from [images, pixels] and [images, coordinates]
        "": lambda rec, kl: (rec.sum(dim=1) + kl.sum(dim=1)).mean(),
        "the cross-entropy is averaged over the pixels, (5.4) sums over them: that is β = 784 for "
        "a real image": lambda rec, kl: rec.mean() + kl.sum(dim=1).mean(),
        "the KL is averaged over the coordinates, (5.5) sums over them: that is β = 1/d": (
            lambda rec, kl: rec.sum(dim=1).mean() + kl.mean()
        ),
        "both terms are averaged, over pixels and over coordinates; the sizes of the two sums "
        "differ, so that is another β": lambda rec, kl: rec.mean() + kl.mean(),
        "both terms are summed over the images too; (5.6) takes their mean": (
            lambda rec, kl: rec.sum() + kl.sum()
        ),
        "the cross-entropy is averaged over pixels and images, and the KL is summed over all "
        "images: that is β = 784 times the size of the batch": (
            lambda rec, kl: rec.mean() + kl.sum()
        ),
        "the cross-entropy is summed over the images, and the KL averaged: another β": (
            lambda rec, kl: rec.sum() + kl.sum(dim=1).mean()
        ),
        "the cross-entropy is summed over the images, and the KL averaged over everything: "
        "another β": lambda rec, kl: rec.sum() + kl.mean(),
        "the KL is summed over the images, and the cross-entropy averaged: that is β = the size "
        "of the batch": lambda rec, kl: rec.sum(dim=1).mean() + kl.sum(),
        "the mean over the images is missing; (5.6) is one number": (
            lambda rec, kl: rec.sum(dim=1) + kl.sum(dim=1)
        ),
    }
    kls = {
        "": per_unit,
        "the KL has the wrong sign: a narrow cloud must cost something": -per_unit,
        "the KL is missing": 0 * per_unit,
        "the ½ of the KL is missing": 2 * per_unit,
        "the same stands for σ² and for log σ²: log_var is the logarithm, exp(log_var) is σ²": (
            0.5 * (square - 1)
        ),
        "you took log_var for log σ in both places, σ² and log σ²": (
            0.5 * (square + var**2 - 1 - 2 * log_var)
        ),
        "exp(log_var) is σ² already, and you squared it": 0.5 * (square + var**2 - 1 - log_var),
        "σ stands where σ² belongs: exp(log_var) is σ²": (
            0.5 * (square + var.sqrt() - 1 - log_var)
        ),
        "μ stands where μ² belongs": 0.5 * (mean + var - 1 - log_var),
        "the −1 of the KL is missing": 0.5 * (square + var - log_var),
    }
    mistakes = {
        "; and ".join(filter(None, [about_kl, about_way])): way(per_pixel, kl)
        for about_kl, kl in kls.items()
        for about_way, way in ways.items()
        if about_kl or about_way
    }
    mistakes |= {
        "the cross-entropy has lost its minus: it falls as the copies get worse": with_rec(
            -per_pixel
        ),
        "that is the ELBO; a loss is its negative": -right,
        "the cross-entropy is missing": rate.mean(),
        "you took the sigmoid of the logits twice": with_rec(softplus(rho) - x * rho),
        "you took the logits for probabilities: that is log p only if they are log ρ": with_rec(
            -x * logits
        ),
        "only the pixels with ink are counted; paper has log(1 − ρ)": with_rec(
            x * softplus(-logits)
        ),
        "the term x a is missing: nothing asks for ink": with_rec(softplus(logits)),
        "that is the squared error of the probabilities, not (5.4)": with_rec((x - rho).square()),
        "that is the squared error of the logits, not (5.4)": with_rec((x - logits).square()),
        "that is the other direction of the KL, KL(p ‖ q)": with_kl(
            (1 + square) / var - 1 + log_var
        ),
        "the sign of log σ² is wrong: a narrow cloud must cost more, not less": with_kl(
            square + var - 1 + log_var
        ),
    }
    _diagnose(got, right, mistakes.items(), "a batch one number []", "(5.4), (5.5) and (5.6)")


def check_dead_units(answer: Callable[[Tensor, float], Tensor]) -> None:
    """Check a reader's KL of each unit of the best linear VAE (8.3) (chapter 8, exercise 1).

    Prints that it is right, or what it computes instead.

    Shapes: ``answer(variances, w)`` is called with a tensor [6], the largest first, and a number,
    and should return [6].
    """
    variances = torch.tensor([5.0, 3.7, 2.5, 1.2, 0.8, 0.3], dtype=torch.float64)
    w = 3.4  # σₓ² = 1.7: three live; another number dies for each mistake about the noise
    got = _answer(answer, "a tensor with one KL a unit", variances, w)
    if got is None:
        return

    def kl_with(noise: float) -> Tensor:
        return 0.5 * (variances / noise).clamp(min=1).log()

    ratio = variances / (w / 2)
    right = kl_with(w / 2)
    if _same(got, right):
        print("✓ right: ½ log(λ/σₓ²) nats for a unit that lives, 0 for one that is dead")
        return
    column = (variances - w / 2).clamp(min=0)
    mistakes = {
        "you took w as the noise; by (4.22) σₓ² = w/2": kl_with(w),
        "you took 2w as the noise; by (4.22) σₓ² = w/2": kl_with(2 * w),
        "you took σₓ, the square root of w/2; λ is compared with the variance σₓ²": kl_with(
            math.sqrt(w / 2)
        ),
        "you took (w/2)², but w/2 is σₓ² already": kl_with((w / 2) ** 2),
        "you ignored the noise: λ is compared with σₓ² = w/2, and not with 1": kl_with(1),
        "a dead unit pays nothing, and yours pays less than that: cut off at 0": 0.5 * ratio.log(),
        "a dead unit pays nothing; you took the absolute value": 0.5 * ratio.log().abs(),
        "the factor ½ is missing": 2 * right,
        "the ratio is upside down: that is ½ log(σₓ²/λ), cut off at 0": (
            0.5 * (1 / ratio).clamp(min=1).log()
        ),
        "the ratio is upside down: that is ½ log(σₓ²/λ)": -0.5 * ratio.log(),
        "the sign is wrong: a KL is never negative": -right,
        "the logarithm is missing": 0.5 * ratio.clamp(min=1),
        "you added 1 inside the logarithm: λ/σₓ² is the precision of the cloud already": (
            0.5 * (1 + ratio).log()
        ),
        "that is ‖wᵢ‖², (8.1); its KL is wanted": column,
        "that is E[μᵢ²], (8.2), one part of the KL": 1 - 1 / ratio.clamp(min=1),
        "that is ½ E[μᵢ²]; the part with the widths of the clouds is missing": 0.5
        * (1 - 1 / ratio.clamp(min=1)),
        "that says which units live; how many nats does each pay?": (ratio > 1).double(),
        "you added up the units; each has a KL of its own": right.sum(),
        "you averaged over the units; each has a KL of its own": right.mean(),
        "you used the logarithm to base 2: those are bits; nats are wanted": right / math.log(2),
    }
    _diagnose(got, right, mistakes.items(), "6 units [6]", "(8.3), and with (4.22)")


def check_file_size(answer: Callable[[Tensor], Tensor]) -> None:
    """Check a reader's length of a file, in bytes, from −ELBO in nats (chapter 9, exercise 1).

    Prints that it is right, or what it computes instead.

    Shapes: ``answer(minus_elbo)`` is called with a tensor [4] and should return one number [].
    """
    minus_elbo = torch.tensor([104.2, 87.9, 141.3, 120.6], dtype=torch.float64)
    got = _answer(answer, "a tensor with one number", minus_elbo)
    if got is None:
        return
    nats, bit = minus_elbo.sum(), math.log(2)
    right = nats / bit / 8
    if _same(got, right):
        print("✓ right: nats to bits, bits to bytes, all images added up")
        return
    units = {
        "": right,
        "you took nats for bits; a bit is log 2 nats": nats / 8,
        "you multiplied by log 2 where one divides: a nat is more than a bit": nats * bit / 8,
        "those are bits; a byte has 8": nats / bit,
        "those are nats": nats,
        "you multiplied by 8 where one divides": 8 * nats / bit,
    }
    ways = {"": 1, "you took the mean over the images; the file holds all of them": 1 / 4}
    mistakes = {
        "; and ".join(filter(None, [about_unit, about_way])): factor * value
        for about_unit, value in units.items()
        for about_way, factor in ways.items()
        if about_unit or about_way
    }
    mistakes |= {
        "that is a length for each image; add them up": minus_elbo / bit / 8,
        "the sign is wrong: a file has no negative length": -right,
    }
    _diagnose(got, right, mistakes.items(), "one number []", "the sum of (4.12) in bytes")


def check_flow_pair(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check a reader's place and velocity of flow matching (chapter 10, exercise 1).

    Prints that it is right, or what it computes instead.

    Shapes: ``answer(z, noise, t)`` is called with codes and noise [5, 3] and times [5, 1], and
    should return place and velocity, stacked: [2, 5, 3].
    """
    random = torch.Generator().manual_seed(0)
    z, noise = torch.randn(2, 5, 3, generator=random, dtype=torch.float64)
    t = torch.rand(5, 1, generator=random, dtype=torch.float64)
    got = _answer(answer, "one tensor, torch.stack([place, velocity])", z, noise, t)
    if got is None:
        return
    there, velocity = (1 - t) * noise + t * z, z - noise
    right = torch.stack([there, velocity])
    if _same(got, right):
        print("✓ right: on the line from noise to code, and its velocity, the same all the way")
        return
    places = {
        "": there,
        "your line runs the wrong way: at t = 0 it is at the code": t * noise + (1 - t) * z,
        "your place is not on the line: the shares of noise and code add up to 1": noise + t * z,
        "your place is the code; the network must see where the point is at t": z,
    }
    velocities = {
        "": velocity,
        "your velocity has the wrong sign: it leads from the code to the noise": -velocity,
        "your velocity is the way left to go; at time t that takes only 1 − t": z - there,
        "your velocity is the code; it is where to go, not how fast": z,
        "your velocity is multiplied by t; the whole way takes time 1": t * velocity,
    }
    mistakes = {
        "; and ".join(filter(None, [about_place, about_velocity])): torch.stack([place, v])
        for about_place, place in places.items()
        for about_velocity, v in velocities.items()
        if about_place or about_velocity
    }
    mistakes |= {"place and velocity have changed places": right.flip(0)}
    _diagnose(got, right, mistakes.items(), "place and velocity [2, 5, 3]", "(10.2) and (10.3)")


def check_bayes(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check a reader's p(y|x) by Bayes' rule, (12.5) and (12.6) (chapter 12, exercise 1).

    Prints that it is right, or what it computes instead.

    Shapes: ``answer(log_p_x_given_y, log_p_y)`` is called with float32 tensors [4, 10] and [10],
    and should return [4, 10].
    """
    draw = torch.Generator().manual_seed(0)
    logs = -110 + 2 * torch.randn(4, 10, generator=draw)
    logs[1] += 3  # images differ in how probable they are
    log_p_y = torch.linspace(1, 3, 10).log() - math.log(20)
    got = _answer(answer, "a tensor with ten probabilities an image", logs, log_p_y)
    if got is None:
        return
    joint = logs + log_p_y
    right = joint.softmax(dim=1)
    if _same(got, right):
        print("✓ right: prior times likelihood, over their sum, and from logarithms")
        return
    if torch.isnan(got).any():
        print("✗ your answer holds NaN: exp(−110) is 0 in float32, and so is the sum of ten of "
              "them; stay with logarithms (logsumexp, softmax)")  # fmt: skip
        return
    mistakes = {
        "the prior is missing: that is right only where all labels are equally probable": (
            logs.softmax(dim=1)
        ),
        "the prior's logarithm is added, not the prior: log_p_y is log p(y) already": (
            (logs + log_p_y.exp()).softmax(dim=1)
        ),
        "the prior has the wrong sign: log p(y) is added": (logs - log_p_y).softmax(dim=1),
        "the likelihood has the wrong sign: those are log p(x|y), not −ELBO": (
            (log_p_y - logs).softmax(dim=1)
        ),
        "both signs are wrong: the least probable label gets the most": (-joint).softmax(dim=1),
        "normalised over the images; each image's ten numbers must add up to 1": (
            joint.softmax(dim=0)
        ),
        "normalised over everything; each image's ten numbers must add up to 1": (
            joint.flatten().softmax(dim=0).unflatten(0, (4, 10))
        ),
        "those are the logarithms log p(y|x)": joint.log_softmax(dim=1),
        "that is log p(x, y); divide by p(x), which means: take off log p(x)": joint,
        "that is log p(x), (12.6), the sum that you have to divide by": joint.logsumexp(dim=1),
        "logarithms are divided by their sum; take exponentials first": (
            joint / joint.sum(dim=1, keepdim=True)
        ),
        "only the largest is taken off: divide by the sum too": (
            joint - joint.amax(dim=1, keepdim=True)
        ).exp(),
        "that is the most probable label; how probable is each?": joint.argmax(dim=1),
        "that is the least probable label; log p(x|y) is large where the label fits": (
            joint.argmin(dim=1)
        ),
        "that is the prior: the images say nothing": log_p_y.softmax(dim=0).expand(4, 10),
        "those are p(x, y), and 0 in float32: stay with logarithms until they are divided": (
            torch.zeros(4, 10)
        ),
    }
    _diagnose(got, right, mistakes.items(), "4 images and ten labels [4, 10]", "(12.5)")


def check_conv_weights(answer: Callable[[int, int, int, int], int]) -> None:
    """Check a reader's count of the weights of a convolution (chapter 11, exercise 1).

    Prints that it is right, or what it counts instead.

    Shapes: ``answer(n_in, n_out, size, places)`` is called with whole numbers and should return
    one.
    """
    n_in, n_out, size, places = 3, 5, 7, 11  # primes, so that no two mistakes give one number
    got = answer(n_in, n_out, size, places)
    if isinstance(got, Tensor) and got.numel() == 1:
        got = got.item()
    if isinstance(got, bool) or not isinstance(got, Real):
        print(f"✗ you returned {type(got).__name__}; one number is wanted")
        return
    window = size * size
    kernels = n_in * n_out * window
    mistakes = {
        "the constants b are missing, one for each map that comes out": kernels,
        "each window reaches through all the maps that go in, with weights of its own for each":
            n_out * window + n_out,
        "each window reaches through all the maps that go in; and the constants b are missing":
            n_out * window,
        "there is one kernel for each pair of maps, in and out": n_in * window + n_out,
        "those are the weights of one window; there is one for each map that comes out":
            n_in * window + 1,
        "there is one constant b for each map that comes out, and not for each that goes in":
            kernels + n_in,
        "one constant b serves all windows of a pair here; there is one for each map that comes "
        "out": kernels + n_in * n_out,
        "there is one constant b for each map that comes out, and not one in all": kernels + 1,
        "you counted the places where windows are used; all places share their weights":
            kernels * places + n_out,
        "you counted the places, of the weights and of the constants; all places share them":
            (kernels + n_out) * places,
        "those are operations, (11.4): all places share their weights": kernels * places,
        "you counted the places of the constants b; all places share them":
            kernels + n_out * places,
        "a window has size × size weights": n_out * (n_in * size + 1),
    }  # fmt: skip
    if got == kernels + n_out:
        print("✓ right: a kernel for each pair of maps, one constant for each that comes out")
        return
    for diagnosis, wrong in mistakes.items():
        if got == wrong:
            print(f"✗ {diagnosis}")
            return
    print(f"✗ {got:g} isn't (11.3), which is {kernels + n_out} for {n_in} maps in, {n_out} out "
          f"and windows of {size} × {size}")  # fmt: skip


def _answer(answer: Callable, wanted: str, *inputs: object) -> Tensor | None:
    """The reader's answer; None, after a line that says so, where it is no tensor.

    It gets copies, so that one that works in place harms nothing.
    """
    copies = [value.clone() if isinstance(value, Tensor) else value for value in inputs]
    got = answer(*copies)
    if isinstance(got, Tensor):
        return got
    print(f"✗ you returned {type(got).__name__}; {wanted} is wanted")
    return None


def _diagnose(
    got: Tensor, right: Tensor, known: Iterable[tuple[str, Tensor]], wanted: str, compare: str
) -> None:
    """Print the first known mistake that gives this answer, or else what can be said of it."""
    for diagnosis, wrong in known:
        if _same(got, wrong):
            print(f"✗ {diagnosis}")
            return
    if got.shape != right.shape:
        print(f"✗ the shape is {list(got.shape)}; for {wanted} is wanted")
        return
    print(f"✗ the shape is right and the values aren't; compare with {compare}")


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double())
