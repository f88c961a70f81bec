"""What a trained VAE is worth: numbers in nats, each with its conditions and its error.

Noise comes from one stream of random numbers for each image, given by ``seed`` and the image's
position in ``images`` (see ``seeds.noise_at``), and is drawn where the model is. So an estimate for
an image doesn't depend on which others stand at the other positions, on how they are split into
chunks, or on the device (beyond rounding); at another position the same image gets other noise.
Its first k samples are the same for any larger number of samples.

A ``condition``, one row for each image, makes each of them a statement about p(x|y).

In a group of processes (``torch.distributed``) each takes a part of the images in
``estimate_elbo``, ``estimate_log_likelihood`` and ``estimate_information``; all of them must call,
and all get the same answer.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_core._checks import checked_seed, positive_float, positive_int
from vae_core._data import Data
from vae_core.elbo import ElboTerms, elbo_terms
from vae_core.images import is_binary
from vae_core.networks import evaluating
from vae_core.processes import Processes
from vae_core.seeds import noise_at
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

Array = Tensor | np.ndarray
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
    images there were, and nothing about the model. (With a condition, N is the number of images
    that share it, and the ceiling the mean of its logarithm.)
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
    model: VAE,
    images: Array,
    condition: Array | None = None,
    *,
    binarisation: str,
    n_samples: int = 10,
    seed: int = 0,
) -> ElboEstimate:
    """The ELBO of each image: log p(x|z) at samples of q(z|x), less the KL.

    The KL is in closed form, or, where there is none, from the same samples; then it is called
    "from samples" and has an error.

    Shapes: ``images`` as ``check_images`` takes them, at least one, ``condition`` ``[N, …]``.
    ``binarisation`` says what the images are ("grey", "fixed" or "redrawn"); black-and-white images
    that are called grey are a warning.

    Raises: TypeError or ValueError for arguments that can't be right, among them grey images that
    are called black and white; ValueError where an estimate is NaN or infinite.

    Source: Kingma and Welling (2014), equation 3.
    """
    n_samples, seed = positive_int(n_samples, "n_samples"), checked_seed(seed)
    data = _checked(model, images, condition, binarisation)
    elbos, log_likelihoods, rates = [], [], []
    with evaluating(model):
        for pieces in _terms(model, data, n_samples, seed):
            samples = []
            for terms in pieces:
                samples.append(torch.stack([terms.log_likelihood, _kl_at_samples(terms)]).cpu())
                closed = terms.closed_kl is not None
            log_likelihood, rate = torch.cat(samples, dim=1).double()  # (n_samples, images) each
            elbos.append(_over_samples(log_likelihood - rate))
            log_likelihoods.append(_over_samples(log_likelihood))
            rates.append(_over_samples(rate))

    given, on = _names(data)
    kl = f"KL(q(z|x{given}) ‖ p(z{on}))"
    about = len(data), n_samples, binarisation
    return ElboEstimate(
        _estimate("ELBO", elbos, *about),
        _estimate(f"E_q[log p(x|z{given})]", log_likelihoods, *about),
        _estimate(kl, rates, *about, closed=closed),
    )


def estimate_log_likelihood(
    model: VAE,
    images: Array,
    condition: Array | None = None,
    *,
    k: int,
    binarisation: str,
    seed: int = 0,
) -> Estimate:
    """Importance-weighted log-likelihood, log of the **mean** of k importance weights.

    In expectation it is a lower bound of log p(x), which rises with k; at k = 1 it is the ELBO
    with a sampled KL. A single estimate can lie above log p(x). Images are decoded a few at a
    time, so any k fits into memory.

    The error is that of the samples at hand, to first order in the spread of the weights: for a
    poor q and a small k it comes out too small. Where q misses a part of the true posterior, no
    error computed from q's samples can tell.

    Shapes and errors as in ``estimate_elbo``.

    Source: Burda, Grosse and Salakhutdinov (2016), equation 8.
    """
    k, seed = positive_int(k, "k"), checked_seed(seed)
    data = _checked(model, images, condition, binarisation)
    chunks = []
    with evaluating(model):
        for pieces in _terms(model, data, k, seed):
            log_w = torch.cat([terms.log_weights.cpu() for terms in pieces]).double()  # (k, images)
            value = log_w.logsumexp(dim=0) - math.log(k)
            # Var(mean weight)/(mean weight)², by the k − 1 degrees of freedom that k weights have
            shares = log_w.softmax(dim=0).square().sum(dim=0) - 1 / k
            chunks.append(torch.stack([value, shares * k / max(k - 1, 1)]))
    values, variances = Processes().gather(torch.cat(chunks, dim=1), len(data))
    error = _error(variances) if k > 1 else math.inf
    name = f"importance-weighted log p(x{_names(data)[1]}), k = {k:,}"
    return Estimate(name, values, error, _each(k), binarisation)


def log_evidence_2d(
    model: VAE,
    images: Array,
    condition: Array | None = None,
    *,
    binarisation: str,
    points: int = 401,
    extent: float = 6.0,
) -> Estimate:
    """log p(x) of each image for two latent dimensions: ∫ p(z) p(x|z) dz summed over a grid.

    The grid has ``points`` × ``points`` codes from −``extent`` to ``extent`` on both axes. The
    ``error`` is how far the values move, on average, when every second line of the grid is left
    out. For smooth integrands this shrinks very fast once the spacing is below the posterior's
    width. The grid is decoded once for each condition that occurs.

    Shapes and errors as in ``estimate_elbo``; ValueError also for another latent dimension, an
    even number of points, and for an integrand or a prior that the grid's edge cuts off.
    """
    points, extent = positive_int(points, "points"), positive_float(extent, "extent")
    if model.latent_dim != 2:
        raise ValueError(f"model: expected 2 latent dimensions, got {model.latent_dim}")
    if points % 2 == 0 or points < 5:
        raise ValueError(f"points: expected an odd number of at least 5, got {points}")
    data = _checked(model, images, condition, binarisation)
    axis = torch.linspace(-extent, extent, points, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)  # (points², 2)
    lines = torch.cartesian_prod(torch.arange(points), torch.arange(points))
    every = torch.ones(len(grid), dtype=torch.bool)
    coarse = (lines % 2 == 0).all(dim=1)
    edge = ((lines == 0) | (lines == points - 1)).any(dim=1)
    sums = torch.full((3, len(data)), -math.inf, dtype=torch.float64)
    on_grid = torch.zeros(len(data), dtype=torch.float64)  # of the prior
    groups = _groups(data).cpu()
    with evaluating(model):
        for group in groups.unique():
            members = (groups == group).nonzero().flatten()
            x, *given = data[members.to(data.rows.device)]
            given = [y[:1] for y in given]  # the same for all of them
            here = sums[:, members]
            for chunk in torch.arange(len(grid)).split(_rows(model)):
                z = grid[chunk].to(x)
                at_each = [y.expand(len(z), *y.shape[1:]) for y in given]
                log_prior = model.prior(*at_each).log_prob(z).cpu().double()[:, None]
                log_joint = _log_prob_table(model.decode(z, *at_each), x) + log_prior
                on_grid[members] += log_prior.exp().sum()
                for i, of in enumerate((every, coarse, edge)):
                    if of[chunk].any():
                        here[i] = torch.logaddexp(here[i], log_joint[of[chunk]].logsumexp(dim=0))
            sums[:, members] = here
    outside = (sums[2] - sums[0]).exp().max().item()
    if outside > 1e-3:
        raise ValueError(
            f"extent: expected a grid that holds the whole posterior; {outside:.1%} of an image's "
            f"lies on the edge at ±{extent:g}"
        )
    spacing = 2 * extent / (points - 1)
    if (share := on_grid.min().item() * spacing**2) < 0.99:
        raise ValueError(
            f"extent: expected a grid that holds the whole prior; {share:.1%} of it lies within "
            f"±{extent:g} (or it is narrower than the grid's lines are apart)"
        )
    fine, coarser = sums[0] + 2 * math.log(spacing), sums[1] + 2 * math.log(2 * spacing)
    error = (fine - coarser).abs().mean().item()
    name, where = f"log p(x{_names(data)[1]})", f"grid of {points} × {points} codes"
    return Estimate(name, fine, error, where, binarisation)


def active_units(
    model: VAE,
    images: Array,
    condition: Array | None = None,
    *,
    binarisation: str,
    threshold: float = 0.01,
) -> ActiveUnits:
    """Which latent units are in use: the variance over images of E_q[zᵢ] is above the threshold.

    Shapes: ``images`` and ``condition`` as in ``estimate_elbo``, at least two images.

    Raises: TypeError or ValueError for arguments that can't be right, and for weights that aren't
    finite; NotImplementedError for a posterior whose mean has no closed form.

    Source: Burda, Grosse and Salakhutdinov (2016), section 5.
    """
    threshold = positive_float(threshold, "threshold")
    data = _checked(model, images, condition, binarisation)
    if len(data) < 2:
        raise ValueError(f"images: expected at least 2 images, got {len(data)}")
    with evaluating(model):
        chunks = data.numbers.split(_rows(model))
        posteriors = [model.encode(*data[chunk]) for chunk in chunks]
        try:
            means = torch.cat([q.mean.cpu() for q in posteriors])
        except NotImplementedError as error:
            name = type(posteriors[0]).__name__
            raise NotImplementedError(f"posterior: expected one with a mean, got {name}") from error
    variances = means.double().var(dim=0, correction=0)
    if not torch.isfinite(variances).all():
        raise ValueError("the mean of q(z|x) is not finite; are the model's weights?")
    return ActiveUnits(variances, threshold, len(data), binarisation)


def estimate_information(
    model: VAE,
    images: Array,
    condition: Array | None = None,
    *,
    binarisation: str,
    n_samples: int = 2,
    seed: int = 0,
) -> Information:
    """How much z says about x, and how far the codes of all images are from the prior.

    q(z) is the mean of q(z|x) over the images given, a mixture of N distributions, computed exactly
    at each sample. I(x; z) = E[log q(z|x) − log q(z)] and KL(q(z) ‖ p(z)) = E[log q(z) − log p(z)].
    With a condition, q(z|y) is the mean over the images of that condition, and all three are what
    they are on average within one.

    The time grows with N²: 10,000 images take seconds.

    Shapes and errors as in ``estimate_elbo``.

    Source: Hoffman and Johnson (2016).
    """
    n_samples, seed = positive_int(n_samples, "n_samples"), checked_seed(seed)
    data = _checked(model, images, condition, binarisation)
    n, groups = len(data), _groups(data)
    log_sizes = groups.bincount()[groups].cpu().double().log()  # of each image's group
    size = max(1, 2_000_000 // (n * model.latent_dim))
    mutual, marginal, rates = [], [], []
    with evaluating(model):
        everyone = model.encode(*data[data.numbers])
        chunks = zip(
            _mine(data).split(size), _terms(model, data, n_samples, seed, size), strict=True
        )
        for here, pieces in chunks:
            strangers = groups[here, None] != groups  # (images here, n)
            samples = []
            for terms in pieces:
                for z, log_p in zip(terms.z, terms.prior.log_prob(terms.z), strict=True):
                    pairs = everyone.log_prob(z[:, None])  # of this sample of each image here
                    own = pairs.gather(1, here[:, None])[:, 0]
                    log_q = pairs.masked_fill(strangers, -math.inf).logsumexp(dim=1)
                    samples.append(torch.stack([own, log_q, log_p]).cpu())
                closed = terms.closed_kl
            own, log_q, log_p = torch.stack(samples, dim=1).double()  # (n_samples, images) each
            log_q = log_q - log_sizes[here.cpu()]
            rate = own - log_p if closed is None else closed.cpu().double()[None]
            for chunk, of in ((mutual, own - log_q), (marginal, log_q - log_p), (rates, rate)):
                chunk.append(_over_samples(of))
    given, on = _names(data)
    about = n, n_samples, binarisation
    rate_name = f"mean KL(q(z|x{given}) ‖ p(z{on}))"
    return Information(
        _estimate(f"I(x; z{on})", mutual, *about),
        _estimate(f"KL(q(z{on}) ‖ p(z{on}))", marginal, *about),
        _estimate(rate_name, rates, *about, closed=closed is not None),
        ceiling=log_sizes.mean().item(),
    )


def _log_prob_table(p: Distribution, x: Tensor) -> Tensor:
    """log p(x|z) of every image at every code, ``[codes, images]``, float64."""
    if hasattr(p, "log_prob_table"):
        return p.log_prob_table(x).cpu()
    return torch.stack([p.log_prob(image) for image in x], dim=1).cpu().double()


def _checked(model: VAE, images: Array, condition: Array | None, binarisation: str) -> Data:
    """Images there are, that fit the model, and are what ``binarisation`` calls them."""
    if binarisation not in BINARISATIONS:
        expected = ", ".join(BINARISATIONS)
        raise ValueError(f"binarisation: expected one of {expected}, got {binarisation!r}")
    data = Data(model, images, condition, "images")
    data.check_condition(model)
    binary = is_binary(data.rows)
    if binarisation != "grey" and not binary:
        raise ValueError(
            f"binarisation: expected 'grey' for images with grey pixels, got {binarisation!r}"
        )
    # All of one colour, a few grey images could be too; pixels of both colours and none between
    # are no accident.
    if binarisation == "grey" and binary and data.rows.min() < data.rows.max():
        warnings.warn(
            "binarisation: the images are black and white, got 'grey'; the estimate is not one of "
            "grey images ('fixed' or 'redrawn' says which they are)",
            stacklevel=3,
        )
    data.to(next(model.parameters()).device)
    return data


def _rows(model: VAE) -> int:
    """How many codes to decode at a time."""
    return ROWS if next(model.parameters()).device.type == "cpu" else ROWS_ELSEWHERE


def _terms(
    model: VAE, data: Data, n_samples: int, seed: int, size: int | None = None
) -> Iterator[Iterator[ElboTerms]]:
    """For each chunk of images the terms of the ELBO, in pieces that add up to ``n_samples``.

    Memory stays bounded: there are few images in a chunk where samples are many.
    """
    size = size or max(1, _rows(model) // n_samples)
    for positions in _mine(data).split(size):
        yield _pieces(model, data, positions, n_samples, seed)


def _pieces(
    model: VAE, data: Data, positions: Tensor, n_samples: int, seed: int
) -> Iterator[ElboTerms]:
    batch, d = data[positions], model.latent_dim
    for samples in torch.arange(n_samples).split(max(1, _rows(model) // len(positions))):
        first, last = samples[0].item() * d, (samples[-1].item() + 1) * d
        noise = noise_at(seed, positions, first, last)  # (images, samples · d)
        noise = noise.unflatten(1, (-1, d)).transpose(0, 1)
        yield elbo_terms(model, *batch, noise=noise)


def _mine(data: Data) -> Tensor:
    """The numbers of this process's images."""
    return data.numbers[Processes().rows(len(data))]


def _kl_at_samples(terms: ElboTerms) -> Tensor:
    """KL(q(z|x) ‖ p(z)) ``[S, B]``: the closed form at every sample, or what each one says."""
    return terms.sampled_kl if terms.closed_kl is None else terms.kl.expand(len(terms.z), -1)


def _over_samples(values: Tensor) -> Tensor:
    """Mean over the samples and its variance, ``[2, images]``, from ``[S, images]``."""
    n = len(values)
    variance = values.var(dim=0) / n if n > 1 else torch.full_like(values[0], math.inf)
    return torch.stack([values.mean(dim=0), variance])


def _estimate(
    quantity: str,
    chunks: list[Tensor],
    n_images: int,
    n: int,
    binarisation: str,
    *,
    closed: bool | None = None,
) -> Estimate:
    """From ``_over_samples`` of each chunk; ``closed`` says how a KL came about."""
    mean, variance = Processes().gather(torch.cat(chunks, dim=1), n_images)
    if closed:
        return Estimate(quantity, mean, 0.0, "closed form", binarisation)
    quantity += " from samples" if closed is not None else ""
    return Estimate(quantity, mean, _error(variance), _each(n), binarisation)


def _error(variances: Tensor) -> float:
    """Standard error of a mean over images from the variance of each image's estimate."""
    return variances.clamp(min=0).sum().sqrt().item() / len(variances)


def _each(n: int) -> str:
    return f"{n:,} sample{'s' if n > 1 else ''} each"


def _groups(data: Data) -> Tensor:
    """The number of each image's condition, ``[N]``; all 0 without one."""
    if data.condition is None:
        return torch.zeros_like(data.numbers)
    return data.condition.unique(dim=0, return_inverse=True)[1]


def _names(data: Data) -> tuple[str, str]:
    """How a condition is written behind a comma, and behind a bar."""
    return ("", "") if data.condition is None else (", y", "|y")
