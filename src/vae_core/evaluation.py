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

from vae_core._checks import checked_seed, positive_float, positive_int
from vae_core.elbo import ElboTerms, elbo_terms
from vae_core.images import check_images, is_binary
from vae_core.networks import evaluating
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

Images = Tensor | np.ndarray
BINARISATIONS = ("grey", "fixed", "redrawn")
ROWS = 250  # codes decoded at a time on a CPU: their images stay in its cache
ROWS_ELSEWHERE = 20_000  # on a GPU, where each piece costs the same few launches


@dataclass(frozen=True, eq=False)
class Estimate:
    """A mean over images, in nats, with what one must know to compare it with another.

    ``value`` is the mean of ``per_image`` ``[N]``; ``error`` its standard error that comes from
    the random samples (not from the choice of images): 0 for a closed form, infinite where one
    sample can't tell. ``samples`` says how many samples, or which grid, each image got.
    ``binarisation`` is "grey", "fixed" or "redrawn", as the images are.
    """

    quantity: str
    per_image: Tensor
    error: float
    samples: str
    binarisation: str

    def __post_init__(self) -> None:
        bad = (~torch.isfinite(self.per_image)).nonzero()
        if len(bad):
            raise ValueError(
                f"{self.quantity} of image {bad[0].item()} is "
                f"{self.per_image[bad[0]].item()}; are the model's weights finite?"
            )

    @property
    def value(self) -> float:
        """Mean over the images."""
        return self.per_image.mean().item()

    def __repr__(self) -> str:
        error = "unknown" if math.isinf(self.error) else f"⟨{self.error:.2g}⟩"
        error = f" ± {error}" if self.error else ""
        return (
            f"{self.quantity}: ⟨{self.value:.2f}⟩{error} nats "
            f"({self.binarisation}, ⟨{len(self.per_image):,}⟩ images, {self.samples})"
        )


@dataclass(frozen=True, eq=False)
class ElboEstimate:
    """The ELBO and its two terms: ``elbo`` = ``log_likelihood`` − ``kl``."""

    elbo: Estimate
    log_likelihood: Estimate
    kl: Estimate

    def __repr__(self) -> str:
        return f"{self.elbo}\n  {self.log_likelihood}\n  {self.kl}"


@dataclass(frozen=True, eq=False)
class ActiveUnits:
    """Latent units whose posterior mean varies with the image.

    Shapes: ``variances`` ``[d]``, the variance of each unit's posterior mean over the images;
    ``active`` ``[d]``, true where it is above the threshold.
    """

    variances: Tensor
    threshold: float
    n_images: int
    binarisation: str

    @property
    def active(self) -> Tensor:
        """Which units are active."""
        return self.variances > self.threshold

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

    @property
    def ceiling(self) -> float:
        """log N, in nats."""
        return math.log(len(self.mean_kl.per_image))

    def __repr__(self) -> str:
        return (
            f"{self.mutual_information}\n  which is at most log N = ⟨{self.ceiling:.2f}⟩\n"
            f"{self.marginal_kl}\n{self.mean_kl}"
        )


def estimate_elbo(
    model: VAE,
    images: Images,
    *,
    binarisation: str,
    n_samples: int = 10,
    seed: int = 0,
) -> ElboEstimate:
    """The ELBO of each image: log p(x|z) at samples of q(z|x), less the closed-form KL.

    Shapes: ``images`` as ``check_images`` takes them, at least one. ``binarisation`` says what they
    are ("grey", "fixed" or "redrawn"); black-and-white images that are called grey are a warning.

    Raises: TypeError or ValueError for arguments that can't be right, among them grey images that
    are called black and white; ValueError where an estimate is NaN or infinite;
    NotImplementedError where the KL has no closed form, as in ``kl``.

    Source: Kingma and Welling (2014), equation 3.
    """
    n_samples, seed = positive_int(n_samples, "n_samples"), checked_seed(seed)
    images = _checked(model, images, binarisation)
    means, variances, rates = [], [], []
    with evaluating(model):
        for pieces in _terms(model, images, n_samples, seed):
            total = squares = 0.0
            for terms in pieces:
                values = terms.log_likelihood.cpu().double()
                total = total + values.sum(dim=0)
                squares = squares + values.square().sum(dim=0)
            means.append(total / n_samples)
            variances.append(squares / n_samples - means[-1].square())
            rates.append(terms.kl.cpu().double())
    log_likelihood, rates = torch.cat(means), torch.cat(rates)
    error = _error(torch.cat(variances) / (n_samples - 1)) if n_samples > 1 else math.inf
    about = (error, _each(n_samples), binarisation)
    return ElboEstimate(
        Estimate("ELBO", log_likelihood - rates, *about),
        Estimate("E_q[log p(x|z)]", log_likelihood, *about),
        Estimate("KL(q(z|x) ‖ p(z))", rates, 0.0, "closed form", binarisation),
    )


def estimate_log_likelihood(
    model: VAE, images: Images, *, k: int, binarisation: str, seed: int = 0
) -> Estimate:
    """Importance-weighted log-likelihood, log of the **mean** of k importance weights.

    In expectation it is a lower bound of log p(x), which rises with k; at k = 1 it is the ELBO
    with a sampled KL. A single estimate can lie above log p(x). Memory is bounded for any k.

    The error is that of the samples at hand, to first order in the spread of the weights: for a
    poor q and a small k it comes out too small. Where q misses a part of the true posterior, no
    error computed from q's samples can tell.

    Shapes and errors as in ``estimate_elbo``, except that no KL in closed form is needed.

    Source: Burda, Grosse and Salakhutdinov (2016), equation 8.
    """
    k, seed = positive_int(k, "k"), checked_seed(seed)
    images = _checked(model, images, binarisation)
    values, variances = [], []
    with evaluating(model):
        for pieces in _terms(model, images, k, seed):
            log_sum = log_squares = torch.tensor(-math.inf, dtype=torch.float64)
            for terms in pieces:
                log_w = terms.log_weights.cpu().double()
                log_sum = torch.logaddexp(log_sum, log_w.logsumexp(dim=0))
                log_squares = torch.logaddexp(log_squares, (2 * log_w).logsumexp(dim=0))
            values.append(log_sum - math.log(k))
            # Var(mean weight)/(mean weight)², by the k − 1 degrees of freedom that k weights have
            shares = (log_squares - 2 * log_sum).exp() - 1 / k
            variances.append(shares * k / max(k - 1, 1))
    error = _error(torch.cat(variances)) if k > 1 else math.inf
    name = f"importance-weighted log p(x), k = {k:,}"
    return Estimate(name, torch.cat(values), error, _each(k), binarisation)


def log_evidence_2d(
    model: VAE,
    images: Images,
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
    points, extent = positive_int(points, "points"), positive_float(extent, "extent")
    if model.latent_dim != 2:
        raise ValueError(f"model: expected 2 latent dimensions, got {model.latent_dim}")
    if points % 2 == 0 or points < 5:
        raise ValueError(f"points: expected an odd number of at least 5, got {points}")
    images = _checked(model, images, binarisation)
    axis = torch.linspace(-extent, extent, points, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)  # (points², 2)
    lines = torch.cartesian_prod(torch.arange(points), torch.arange(points))
    every = torch.ones(len(grid), dtype=torch.bool)
    coarse = (lines % 2 == 0).all(dim=1)
    edge = ((lines == 0) | (lines == points - 1)).any(dim=1)
    sums = torch.full((3, len(images)), -math.inf, dtype=torch.float64)
    with evaluating(model):
        x = model.as_input(images)
        for chunk in torch.arange(len(grid)).split(_rows(model)):
            z = grid[chunk].to(x)
            log_joint = model.decode(z).log_prob_table(x).cpu()  # (G, N), every code and image
            log_joint += model.prior.log_prob(z).cpu().double()[:, None]
            for i, of in enumerate((every, coarse, edge)):
                if of[chunk].any():
                    sums[i] = torch.logaddexp(sums[i], log_joint[of[chunk]].logsumexp(dim=0))
    outside = (sums[2] - sums[0]).exp().max().item()
    if outside > 1e-3:
        raise ValueError(
            f"extent: expected a grid that holds the whole posterior; {outside:.1%} of an image's "
            f"lies on the edge at ±{extent:g}"
        )
    spacing = 2 * extent / (points - 1)
    fine, coarser = sums[0] + 2 * math.log(spacing), sums[1] + 2 * math.log(2 * spacing)
    error = (fine - coarser).abs().mean().item()
    return Estimate("log p(x)", fine, error, f"grid of {points} × {points} codes", binarisation)


def active_units(
    model: VAE, images: Images, *, binarisation: str, threshold: float = 0.01
) -> ActiveUnits:
    """Which latent units are in use: the variance over images of E_q[zᵢ] is above the threshold.

    Shapes: ``images`` as in ``estimate_elbo``, at least two.

    Raises: TypeError or ValueError for arguments that can't be right, and for weights that aren't
    finite.

    Source: Burda, Grosse and Salakhutdinov (2016), section 5.
    """
    threshold = positive_float(threshold, "threshold")
    images = _checked(model, images, binarisation)
    if len(images) < 2:
        raise ValueError(f"images: expected at least 2 images, got {len(images)}")
    with evaluating(model):
        means = torch.cat([model.encode(chunk).mean.cpu() for chunk in images.split(_rows(model))])
    variances = means.double().var(dim=0, correction=0)
    if not torch.isfinite(variances).all():
        raise ValueError("the mean of q(z|x) is not finite; are the model's weights?")
    return ActiveUnits(variances, threshold, len(images), binarisation)


def estimate_information(
    model: VAE, images: Images, *, binarisation: str, n_samples: int = 2, seed: int = 0
) -> Information:
    """How much z says about x, and how far the codes of all images are from the prior.

    q(z) is the mean of q(z|x) over the images given, a mixture of N Gaussians, computed exactly
    at each sample. I(x; z) = E[log q(z|x) − log q(z)] and KL(q(z) ‖ p(z)) = E[log q(z) − log p(z)].

    The time grows with N²: 10,000 images take seconds.

    Shapes and errors as in ``estimate_elbo``.

    Source: Hoffman and Johnson (2016).
    """
    n_samples, seed = positive_int(n_samples, "n_samples"), checked_seed(seed)
    images = _checked(model, images, binarisation)
    n, prior = len(images), model.prior
    rows = max(1, 2_000_000 // (n * model.latent_dim))
    rates, mutual, marginal = [], [], []
    with evaluating(model):
        everyone = model.encode(images)
        for first, pieces in enumerate(_terms(model, images, n_samples, seed, rows)):
            own, log_q, log_p = [], [], []
            for terms in pieces:
                here = first * rows + torch.arange(terms.z.shape[1])
                for z in terms.z:  # (rows, d), one sample of each image
                    pairs = everyone.log_prob(z[:, None])  # (rows, n)
                    own.append(pairs[torch.arange(len(z)), here].cpu().double())
                    log_q.append((pairs.logsumexp(dim=1) - math.log(n)).cpu().double())
                    log_p.append(prior.log_prob(z).cpu().double())
            own, log_q, log_p = (torch.stack(values) for values in (own, log_q, log_p))
            mutual.append(own - log_q)
            marginal.append(log_q - log_p)
            rates.append(terms.kl.cpu().double())

    def over_samples(name: str, values: Tensor) -> Estimate:
        error = _error(values.var(dim=0) / n_samples) if n_samples > 1 else math.inf
        return Estimate(name, values.mean(dim=0), error, _each(n_samples), binarisation)

    return Information(
        over_samples("I(x; z)", torch.cat(mutual, dim=1)),
        over_samples("KL(q(z) ‖ p(z))", torch.cat(marginal, dim=1)),
        Estimate("mean KL(q(z|x) ‖ p(z))", torch.cat(rates), 0.0, "closed form", binarisation),
    )


def _checked(model: VAE, images: Images, binarisation: str) -> Tensor:
    """Images there are, that fit the model, and are what ``binarisation`` calls them."""
    if binarisation not in BINARISATIONS:
        expected = ", ".join(BINARISATIONS)
        raise ValueError(f"binarisation: expected one of {expected}, got {binarisation!r}")
    images = check_images(images, n_pixels=model.n_pixels, unit_interval=model.unit_interval)
    if len(images) == 0:
        raise ValueError("images: expected at least 1 image, got 0")
    binary = is_binary(images)
    if binarisation != "grey" and not binary:
        raise ValueError(
            f"binarisation: expected 'grey' for images with grey pixels, got {binarisation!r}"
        )
    # All of one colour, a few grey images could be too; pixels of both colours and none between
    # are no accident.
    if binarisation == "grey" and binary and images.min() < images.max():
        warnings.warn(
            "binarisation: the images are black and white, got 'grey'; the estimate is not one of "
            "grey images ('fixed' or 'redrawn' says which they are)",
            stacklevel=3,
        )
    return images


def _rows(model: VAE) -> int:
    """How many codes to decode at a time."""
    return ROWS if next(model.parameters()).device.type == "cpu" else ROWS_ELSEWHERE


def _terms(
    model: VAE, images: Tensor, n_samples: int, seed: int, rows: int | None = None
) -> Iterator[Iterator[ElboTerms]]:
    """For each chunk of images the terms of the ELBO, in pieces that add up to ``n_samples``.

    Memory stays bounded: there are few images in a chunk where samples are many.
    """
    size = rows or max(1, _rows(model) // n_samples)
    for first in range(0, len(images), size):
        x = model.as_input(images[first : first + size])
        noise = _noise(model, seed, first, len(x), n_samples)
        yield (elbo_terms(model, x, noise=piece.to(x)) for piece in noise)


def _noise(model: VAE, seed: int, first: int, n_images: int, n_samples: int) -> Iterator[Tensor]:
    """Standard normal noise ``[S, n_images, d]``, in pieces that add up to ``n_samples``.

    NumPy's streams don't depend on the sizes of the pieces they are drawn in; PyTorch's do.
    """
    streams = [np.random.default_rng((seed, first + i)) for i in range(n_images)]
    piece = max(1, _rows(model) // n_images)
    for start in range(0, n_samples, piece):
        size = (min(piece, n_samples - start), model.latent_dim)
        yield torch.from_numpy(np.stack([s.standard_normal(size) for s in streams], axis=1))


def _error(variances: Tensor) -> float:
    """Standard error of a mean over images from the variance of each image's estimate."""
    return variances.clamp(min=0).sum().sqrt().item() / len(variances)


def _each(n: int) -> str:
    return f"{n:,} sample{'s' if n > 1 else ''} each"
