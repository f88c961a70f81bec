"""What a trained VAE is worth: numbers in nats, each with its conditions and its error.

Noise comes from one stream of random numbers for each image, given by ``seed`` and the image's
position in ``images``. So an estimate for an image doesn't depend on which others stand at the
other positions, on how they are split into chunks, or on the device (beyond rounding); at another
position the same image gets other noise. Its first k samples are the same for any larger number
of samples.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vae_core._checks import checked_seed, describe, positive_float, positive_int
from vae_core.elbo import kl, reparameterise, terms_from_q
from vae_core.models import evaluating
from vae_core.pixels import check_pixels, is_binary
from vae_core.vae import VAE

__all__ = [
    "ActiveUnits",
    "ElboEstimate",
    "Estimate",
    "Information",
    "active_units",
    "estimate_elbo",
    "estimate_information",
    "estimate_log_likelihood",
    "log_evidence_2d",
]

BINARISATIONS = ("grey", "fixed", "redrawn")
ROWS = 250  # codes decoded at a time on a CPU: their images stay in its cache
ROWS_ELSEWHERE = 20_000  # on a GPU, where each piece costs the same few launches


@dataclass(frozen=True, eq=False)
class Estimate:
    """A mean over images, in nats, with what one must know to compare it with another.

    ``value`` is the mean of ``per_image`` ``[N]``; ``error`` its standard error that comes from
    the random samples (not from the choice of images): 0 for a closed form, infinite where one
    sample can't tell.
    ``samples`` says how many samples, or which grid, each image got. ``binarisation`` is "grey",
    "fixed" or "redrawn", as in ``ImageData``.
    """

    quantity: str
    per_image: Tensor
    error: float
    samples: str
    binarisation: str

    @property
    def value(self) -> float:
        """Mean over the images."""
        return self.per_image.mean().item()

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.per_image)

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        error = "unknown" if math.isinf(self.error) else f"⟨{self.error:.2g}⟩"
        error = f" ± {error}" if self.error else ""
        return (
            f"{self.quantity}: ⟨{self.value:.2f}⟩{error} nats "
            f"({self.binarisation}, ⟨{self.n_images:,}⟩ images, {self.samples})"
        )


@dataclass(frozen=True, eq=False)
class ElboEstimate:
    """The ELBO and its two terms: ``elbo`` = ``log_likelihood`` − ``kl``."""

    elbo: Estimate
    log_likelihood: Estimate
    kl: Estimate

    def __float__(self) -> float:
        return self.elbo.value

    def __repr__(self) -> str:
        return f"{self.elbo}\n  {self.log_likelihood}\n  {self.kl}"


@dataclass(frozen=True, eq=False)
class ActiveUnits:
    """Latent units whose posterior mean varies with the image.

    Shapes: ``variances`` ``[d]``, the variance of each unit's posterior mean over the images;
    ``active`` ``[d]``, true where it is above the threshold.
    """

    variances: Tensor
    active: Tensor
    threshold: float
    n_images: int
    binarisation: str

    @property
    def count(self) -> int:
        """Number of active units."""
        return int(self.active.sum())

    def __repr__(self) -> str:
        return (
            f"active units: ⟨{self.count}⟩ of {len(self.active)} "
            f"(variance above {self.threshold:g}; {self.binarisation}, ⟨{self.n_images:,}⟩ images)"
        )


@dataclass(frozen=True, eq=False)
class Information:
    """Mean KL = I(x; z) + KL(q(z) ‖ p(z)), for the images given, each seen with probability 1/N.

    ``ceiling`` is log N: N images can't carry more information than which of them it was, so
    ``mutual_information`` can't exceed it, whatever the model. Near the ceiling it says how many
    images there were, and nothing about the model.
    """

    mutual_information: Estimate
    marginal_kl: Estimate
    mean_kl: Estimate
    ceiling: float

    def __repr__(self) -> str:
        return (
            f"{self.mutual_information}\n  which is at most log N = ⟨{self.ceiling:.2f}⟩\n"
            f"{self.marginal_kl}\n{self.mean_kl}"
        )


def estimate_elbo(
    model: VAE, images: Tensor, *, binarisation: str, n_samples: int = 10, seed: int = 0
) -> ElboEstimate:
    """The ELBO of each image: log p(x|z) at samples of q(z|x), less the closed-form KL.

    Shapes: ``images`` as ``as_pixels`` takes them, at least one. ``binarisation`` says what they
    are (``data.binarisation``); black-and-white images that are called grey are a warning.

    Raises: TypeError or ValueError for arguments that can't be right, among them grey images that
    are called black and white; ValueError where an estimate is NaN or infinite;
    NotImplementedError where the KL has no closed form, as in ``kl``.

    Source: Kingma and Welling (2014), equation 3.
    """
    n_samples, seed = positive_int(n_samples, "n_samples"), checked_seed(seed)
    _check_images(model, images, binarisation)
    log_likelihood, rates, spread = [], [], []
    with evaluating(model):
        for first, chunk in _chunks(model, images, n_samples):
            q, x = model.encode(chunk), model.as_input(chunk)
            total, total_of_squares = torch.zeros(2, len(chunk), dtype=torch.float64)
            for noise in _noise(model, seed, first, len(chunk), n_samples):
                terms = terms_from_q(model, q, x, noise.to(x))
                values = terms.log_likelihood.cpu().double()
                total += values.sum(dim=0)
                total_of_squares += values.square().sum(dim=0)
            mean = total / n_samples
            log_likelihood.append(mean)
            spread.append((total_of_squares / n_samples - mean.square()).clamp(min=0))
            rates.append(terms.kl.cpu().double())
    log_likelihood, rates = torch.cat(log_likelihood), torch.cat(rates)
    error = math.inf
    if n_samples > 1:
        error = _error_of_mean(torch.cat(spread) / (n_samples - 1))
    about = {"samples": _samples(n_samples), "binarisation": binarisation}
    return ElboEstimate(
        _estimate("ELBO", log_likelihood - rates, error, **about),
        _estimate("E_q[log p(x|z)]", log_likelihood, error, **about),
        _estimate("KL(q(z|x) ‖ p(z))", rates, 0.0, "closed form", binarisation),
    )


def estimate_log_likelihood(
    model: VAE, images: Tensor, *, k: int, binarisation: str, seed: int = 0
) -> Estimate:
    """Importance-weighted log-likelihood, log of the **mean** of k importance weights.

    In expectation it is a lower bound of log p(x), which rises with k; at k = 1 it is the ELBO
    with a sampled KL. A single estimate can lie above log p(x). Memory is bounded for any k.

    The error is that of the samples at hand (the variance of a logarithm to first order). Where q
    misses a part of the true posterior no error computed from q's samples can tell.

    Shapes and errors as in ``estimate_elbo``, except that no KL in closed form is needed.

    Source: Burda, Grosse and Salakhutdinov (2016), equation 8.
    """
    k, seed = positive_int(k, "k"), checked_seed(seed)
    _check_images(model, images, binarisation)
    values, variances = [], []
    with evaluating(model):
        for first, chunk in _chunks(model, images, k):
            q, x = model.encode(chunk), model.as_input(chunk)
            log_sum = log_sum_of_squares = torch.tensor(-math.inf, dtype=torch.float64)
            for noise in _noise(model, seed, first, len(chunk), k):
                log_weights = terms_from_q(model, q, x, noise.to(x)).log_weights.cpu().double()
                log_sum = torch.logaddexp(log_sum, log_weights.logsumexp(dim=0))
                log_sum_of_squares = torch.logaddexp(
                    log_sum_of_squares, (2 * log_weights).logsumexp(dim=0)
                )
            values.append(log_sum - math.log(k))
            variances.append((log_sum_of_squares - 2 * log_sum).exp() - 1 / k)
    error = _error_of_mean(torch.cat(variances).clamp(min=0)) if k > 1 else math.inf
    return _estimate(
        f"importance-weighted log p(x), k = {k:,}",
        torch.cat(values),
        error,
        _samples(k),
        binarisation,
    )


def log_evidence_2d(
    model: VAE,
    images: Tensor,
    *,
    binarisation: str,
    points: int = 401,
    extent: float = 6.0,
) -> Estimate:
    """log p(x) of each image for two latent dimensions: ∫ p(z) p(x|z) dz summed over a grid.

    The grid has ``points`` × ``points`` codes from −``extent`` to ``extent`` on both axes. The
    ``error`` is how far the values move, on average, when every second line of the grid is left
    out. For smooth integrands this shrinks very fast once the spacing is below the posterior's
    width.

    Shapes and errors as in ``estimate_elbo``, except that no KL in closed form is needed;
    ValueError also for another latent dimension, an even number of points, and for an integrand
    that the grid's edge cuts off.
    """
    points = positive_int(points, "points")
    extent = positive_float(extent, "extent")
    if model.latent_dim != 2:
        raise ValueError(f"model: expected 2 latent dimensions, got {model.latent_dim}")
    if points % 2 == 0 or points < 5:
        raise ValueError(f"points: expected an odd number of at least 5, got {points}")
    _check_images(model, images, binarisation)
    axis = torch.linspace(-extent, extent, points, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)  # (points², 2)
    line = torch.arange(points)
    lines = torch.cartesian_prod(line, line)
    coarse = (lines % 2 == 0).all(dim=1)
    edge = ((lines == 0) | (lines == points - 1)).any(dim=1)
    sums = torch.full((3, len(images)), -math.inf, dtype=torch.float64)  # fine, coarse, edge
    with evaluating(model):
        x = model.as_input(images)
        for chunk in torch.arange(len(grid)).split(_rows(model)):
            z = grid[chunk].to(x)
            # (G, N), every code with every image
            log_joint = model.decode(z).log_prob_table(x).cpu()
            log_joint += model.prior.log_prob(z).cpu().double()[:, None]
            for i, part in enumerate((None, coarse[chunk], edge[chunk])):
                if part is None or part.any():
                    values = log_joint if part is None else log_joint[part]
                    sums[i] = torch.logaddexp(sums[i], values.logsumexp(dim=0))
    spacing = 2 * extent / (points - 1)
    fine = sums[0] + 2 * math.log(spacing)
    coarser = sums[1] + 2 * math.log(2 * spacing)
    outside = (sums[2] - sums[0]).exp().max().item()
    if outside > 1e-3:
        raise ValueError(
            f"extent: expected a grid that holds the whole posterior; {outside:.1%} of an image's "
            f"lies on the edge at ±{extent:g}"
        )
    return _estimate(
        "log p(x)",
        fine,
        (fine - coarser).abs().mean().item(),
        f"grid of {points} × {points} codes",
        binarisation,
    )


def active_units(
    model: VAE, images: Tensor, *, binarisation: str, threshold: float = 0.01
) -> ActiveUnits:
    """Which latent units are in use: the variance over images of E_q[zᵢ] is above the threshold.

    Shapes: ``images`` as in ``estimate_elbo``, at least two.

    Raises: TypeError or ValueError for arguments that can't be right, and for weights that aren't
    finite.

    Source: Burda, Grosse and Salakhutdinov (2016), section 5.
    """
    threshold = positive_float(threshold, "threshold")
    _check_images(model, images, binarisation)
    if len(images) < 2:
        raise ValueError(f"images: expected at least 2 images, got {len(images)}")
    with evaluating(model):
        means = torch.cat([model.encode(chunk).mean.cpu() for chunk in images.split(_rows(model))])
    variances = means.double().var(dim=0, correction=0)
    return ActiveUnits(variances, variances > threshold, threshold, len(images), binarisation)


def estimate_information(
    model: VAE, images: Tensor, *, binarisation: str, n_samples: int = 1, seed: int = 0
) -> Information:
    """How much z says about x, and how far the codes of all images are from the prior.

    q(z) is the mean of q(z|x) over the images given, a mixture of N Gaussians, computed exactly
    at each sample. I(x; z) = E[log q(z|x) − log q(z)] and KL(q(z) ‖ p(z)) = E[log q(z) − log p(z)].

    The time grows with N²: 10,000 images take seconds.

    Shapes and errors as in ``estimate_elbo``.

    Source: Hoffman and Johnson (2016).
    """
    n_samples, seed = positive_int(n_samples, "n_samples"), checked_seed(seed)
    _check_images(model, images, binarisation)
    n = len(images)
    with evaluating(model):
        prior = model.prior
        mean_kl = torch.cat(
            [kl(model.encode(chunk), prior).cpu().double() for chunk in images.split(_rows(model))]
        )
        x = model.as_input(images)
        everyone = model.q(x)
        mutual, marginal = torch.zeros(2, n_samples, n, dtype=torch.float64)
        rows = max(1, 2_000_000 // (n * model.latent_dim))
        for first in range(0, n, rows):
            chunk = x[first : first + rows]
            done = 0
            for noise in _noise(model, seed, first, len(chunk), n_samples):
                for z in reparameterise(model.q(chunk), noise.to(x)):  # (rows, d)
                    here = (done, slice(first, first + len(chunk)))
                    pairs = everyone.log_prob(z[:, None])  # (rows, n)
                    log_q_z = (pairs.logsumexp(dim=1) - math.log(n)).cpu().double()
                    own = pairs[torch.arange(len(z)), torch.arange(first, first + len(z))]
                    mutual[here] = own.cpu().double() - log_q_z
                    marginal[here] = log_q_z - prior.log_prob(z).cpu().double()
                    done += 1
    about = {"samples": _samples(n_samples), "binarisation": binarisation}
    return Information(
        *(
            _estimate(name, values.mean(dim=0), _error_of_samples(values), **about)
            for name, values in (("I(x; z)", mutual), ("KL(q(z) ‖ p(z))", marginal))
        ),
        _estimate("mean KL(q(z|x) ‖ p(z))", mean_kl, 0.0, "closed form", binarisation),
        math.log(n),
    )


# ---------------------------------------------------------------------------- shared parts


def _check_images(model: VAE, images: Tensor, binarisation: str) -> None:
    """Images there are, and the name of their binarisation isn't wrong."""
    if binarisation not in BINARISATIONS:
        raise ValueError(
            f"binarisation: expected one of {', '.join(BINARISATIONS)}, got {binarisation!r}"
        )
    if not isinstance(images, Tensor) or images.ndim == 0:
        raise TypeError(f"images: expected a tensor of images, got {describe(images)}")
    if len(images) == 0:
        raise ValueError("images: expected at least 1 image, got 0")
    model.check_input(images, name="images")
    if binarisation != "grey" and not is_binary(images):
        check_pixels(images, n_pixels=model.n_pixels, name="images")  # any value is LinearVAE's
        raise ValueError(
            f"binarisation: expected 'grey' for images with grey pixels, got {binarisation!r}"
        )
    # All of one colour, a few grey images could be too; pixels of both colours and none between
    # are no accident.
    if binarisation == "grey" and is_binary(images) and images.min() < images.max():
        warnings.warn(
            "binarisation: the images are black and white, got 'grey'; the estimate is not one of "
            "grey images ('fixed' or 'redrawn' says which they are)",
            stacklevel=3,
        )


def _rows(model: VAE) -> int:
    """How many codes to decode at a time."""
    return ROWS if next(model.parameters()).device.type == "cpu" else ROWS_ELSEWHERE


def _chunks(model: VAE, images: Tensor, n_samples: int) -> Iterator[tuple[int, Tensor]]:
    """Chunks of images with the position of their first; few images where samples are many."""
    size = max(1, _rows(model) // n_samples)
    for first in range(0, len(images), size):
        yield first, images[first : first + size]


def _noise(model: VAE, seed: int, first: int, n_images: int, n_samples: int) -> Iterator[Tensor]:
    """Standard normal noise ``[S, n_images, d]``, in pieces that add up to ``n_samples``.

    NumPy's streams don't depend on the sizes of the pieces they are drawn in; PyTorch's do.
    """
    streams = [np.random.default_rng((seed, first + i)) for i in range(n_images)]
    piece = max(1, _rows(model) // n_images)
    for start in range(0, n_samples, piece):
        size = (min(piece, n_samples - start), model.latent_dim)
        yield torch.from_numpy(np.stack([s.standard_normal(size) for s in streams], axis=1))


def _error_of_mean(variances: Tensor) -> float:
    """Standard error of a mean over images from the variance of each image's estimate."""
    return variances.sum().sqrt().item() / len(variances)


def _error_of_samples(values: Tensor) -> float:
    """Standard error of the mean of values ``[S, N]`` that comes from the S samples.

    With one sample an image, the spread over images is in it too: the error is then too large.
    """
    n_samples, n_images = values.shape
    if n_samples > 1:
        return _error_of_mean(values.var(dim=0) / n_samples)
    return values.std().item() / math.sqrt(n_images) if n_images > 1 else math.inf


def _samples(n: int) -> str:
    return f"{n:,} sample{'s' if n > 1 else ''} each"


def _estimate(
    quantity: str, per_image: Tensor, error: float, samples: str, binarisation: str
) -> Estimate:
    """The estimate, unless it is NaN or infinite."""
    if not torch.isfinite(per_image).all():
        bad = (~torch.isfinite(per_image)).nonzero()[0].item()
        raise ValueError(
            f"{quantity} of image {bad} is {per_image[bad].item()}; are the model's weights finite?"
        )
    return Estimate(quantity, per_image, error, samples, binarisation)
