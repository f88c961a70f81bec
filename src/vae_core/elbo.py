"""The terms of the ELBO, one number an image, in nats, with every constant.

ELBO(x) = E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)) ≤ log p(x)

Nothing here takes a mean over images, pixels or latent units. That happens in one place, ``fit``,
so that no term can be weighed against another by accident; ``effective_beta`` says what an
accident of that kind amounts to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal
from torch.distributions import kl_divergence as torch_kl

from vae_core._checks import describe, positive_float, positive_int

if TYPE_CHECKING:
    from vae_core.vae import VAE

__all__ = ["ElboTerms", "effective_beta", "elbo_terms", "kl", "kl_per_unit", "reparameterise"]


def reparameterise(q: Distribution, noise: Tensor) -> Tensor:
    """Samples of a Gaussian q from standard normal noise: z = μ + σ ⊙ ε, or μ + L ε.

    The noise is an argument, so the result can be repeated, and a gradient can be checked
    against finite differences.

    Shapes: q a diagonal Gaussian ``Independent(Normal)`` or a ``MultivariateNormal`` of batch
    shape ``[B]`` and event shape ``[d]``; ``noise`` and the result ``[S, B, d]``.

    Raises: TypeError for a q that is neither of them.

    Source: Kingma and Welling (2014), section 2.4.
    """
    if isinstance(q, MultivariateNormal):
        # As a sum, not a matrix product: autocast would compute that in bfloat16.
        return q.loc + (q.scale_tril * noise.unsqueeze(-2)).sum(dim=-1)
    if _is_diagonal(q):
        return q.base_dist.loc + q.base_dist.scale * noise
    raise TypeError(f"q: expected a diagonal or a multivariate normal distribution, got {q}")


def kl_per_unit(q: Distribution, p: Distribution) -> Tensor:
    """KL(q ‖ p) of each latent unit, in nats, for diagonal Gaussians q and p, in closed form.

    log(σ_p/σ_q) + (σ_q² + (μ_q − μ_p)²)/(2σ_p²) − ½, which is ½(μ² + σ² − 1 − log σ²) where p is
    the standard normal distribution.

    Shapes: q and p ``Independent(Normal)`` of event shape ``[d]``; the result ``[B, d]``.

    Raises: TypeError for other distributions; ValueError for two of different event shapes.

    Source: Kingma and Welling (2014), appendix B.
    """
    for name, given in (("q", q), ("p", p)):
        if not _is_diagonal(given):
            raise TypeError(f"{name}: expected a diagonal Gaussian, got {given}")
    _check_same_event(q, p)
    q, p = q.base_dist, p.base_dist
    distance = (q.scale.square() + (q.loc - p.loc).square()) / (2 * p.scale.square())
    return p.scale.log() - q.scale.log() + distance - 0.5


def kl(q: Distribution, p: Distribution) -> Tensor:
    """KL(q ‖ p) in nats, in closed form.

    Shapes: q of batch shape ``[B]``; the result ``[B]``.

    Raises: NotImplementedError for a pair that has no closed form in PyTorch;
    ``ElboTerms.sampled_kl`` is the estimate for that case. TypeError for a distribution of single
    numbers, whose KL would come out one for each of them. ValueError for two distributions of
    different event shapes.
    """
    if not q.event_shape:
        raise TypeError(f"q: expected a distribution of vectors (see Independent), got {q}")
    _check_same_event(q, p)
    if _is_diagonal(q) and _is_diagonal(p):
        return kl_per_unit(q, p).sum(dim=-1)
    if isinstance(q, MultivariateNormal) and _is_diagonal(p):
        p = MultivariateNormal(p.mean, scale_tril=p.base_dist.scale.diag_embed())
    try:
        return torch_kl(q, p)
    except NotImplementedError as error:
        raise NotImplementedError(
            f"KL(q ‖ p) has no closed form in PyTorch where q is {type(q).__name__} and p is "
            f"{type(p).__name__}; ElboTerms.sampled_kl estimates it from samples"
        ) from error


@dataclass(frozen=True, eq=False)
class ElboTerms:
    """What the ELBO of a batch is made of, unreduced, in nats.

    Shapes: ``q`` the posterior q(z|x) of batch shape ``[B]`` and event shape ``[d]``, ``prior``
    p(z); ``z`` ``[S, B, d]``, S samples of q for each image; ``log_likelihood`` ``[S, B]``,
    log p(x|z) of each of them.
    """

    q: Distribution
    prior: Distribution
    z: Tensor
    log_likelihood: Tensor

    @property
    def kl(self) -> Tensor:
        """KL(q(z|x) ‖ p(z)) in closed form, ``[B]``.

        Raises: NotImplementedError where there is none, as ``kl`` does.
        """
        return kl(self.q, self.prior)

    @property
    def kl_per_unit(self) -> Tensor:
        """The same for each latent unit, ``[B, d]``.

        Raises: TypeError where q or p(z) isn't a diagonal Gaussian.
        """
        return kl_per_unit(self.q, self.prior)

    @property
    def sampled_kl(self) -> Tensor:
        """log q(z|x) − log p(z) at each sample, ``[S, B]``; its mean over S estimates the KL."""
        return self.q.log_prob(self.z) - self.prior.log_prob(self.z)

    @property
    def log_weights(self) -> Tensor:
        """Importance weights log p(x|z) + log p(z) − log q(z|x), ``[S, B]``.

        The mean of their exponentials estimates p(x) without bias, which holds only with the
        densities at the samples themselves: the closed-form KL has no place here.

        Source: Burda, Grosse and Salakhutdinov (2016).
        """
        return self.log_likelihood - self.sampled_kl

    @property
    def elbo(self) -> Tensor:
        """Mean of log p(x|z) over the samples, less the closed-form KL, ``[B]``.

        Raises: NotImplementedError where the KL has no closed form, as ``kl`` does.
        """
        return self.log_likelihood.mean(dim=0) - self.kl


def elbo_terms(
    model: VAE, x: Tensor, *, n_samples: int = 1, noise: Tensor | None = None
) -> ElboTerms:
    """The terms of the ELBO of each image, from samples of q(z|x).

    The samples are drawn with PyTorch's random numbers, or made from ``noise`` where that is
    given (and then S is the noise's).

    Shapes: ``x`` images as ``model.encode`` takes them, B of them; ``noise`` ``[S, B, d]``.

    Raises: TypeError or ValueError for images, a number of samples or noise that don't fit, or
    noise that is NaN or infinite. TypeError for a q(z|x) that isn't a Gaussian.
    """
    x = model.as_input(x)
    if noise is None:
        shape = (positive_int(n_samples, "n_samples"), len(x), model.latent_dim)
        noise = torch.randn(shape, dtype=x.dtype, device=x.device)
    else:
        if not isinstance(noise, Tensor) or not noise.is_floating_point():
            raise TypeError(f"noise: expected a float tensor, got {describe(noise)}")
        if noise.ndim != 3 or noise.shape[1:] != (len(x), model.latent_dim) or len(noise) < 1:
            raise ValueError(
                f"noise: expected shape [S, {len(x)}, {model.latent_dim}] with S of at least 1, "
                f"got {describe(noise)}"
            )
        noise = noise.to(x)
        if not torch.isfinite(noise).all():
            raise ValueError("noise: expected finite values, got NaN or infinity")
    return terms_from_noise(model, x, noise)


def terms_from_noise(model: VAE, x: Tensor, noise: Tensor) -> ElboTerms:
    """``elbo_terms`` for pixel values ``[B, D]`` and noise ``[S, B, d]`` that are known to fit."""
    return terms_from_q(model, model.q(x), x, noise)


def terms_from_q(model: VAE, q: Distribution, x: Tensor, noise: Tensor) -> ElboTerms:
    """The same where q(z|x) is known already."""
    z = reparameterise(q, noise)
    return ElboTerms(q, model.prior, z, model.p(z).log_prob(x))


def effective_beta(
    weight: float = 1.0,
    *,
    latent_dim: int,
    n_pixels: int = 784,
    batch_size: int = 1,
    over_pixels: Literal["sum", "mean"] = "sum",
    over_units: Literal["sum", "mean"] = "sum",
    over_images: tuple[Literal["sum", "mean"], Literal["sum", "mean"]] = ("mean", "mean"),
    sigma_x: float | None = None,
) -> float:
    """The β that a training loss really has: ELBO_β = E_q[log p(x|z)] − β KL(q(z|x) ‖ p(z)).

    For a loss *reconstruction + weight × KL*, whatever its reductions: ``over_pixels`` is how the
    reconstruction is reduced over the pixels, ``over_units`` how the KL is reduced over the latent
    units, and ``over_images`` how the two are reduced over the batch (which counts only where they
    differ). ``sigma_x`` is None where the reconstruction is −log p(x|z) itself, such as binary
    cross-entropy. Where it is the plain squared error, ``sigma_x`` is the standard deviation of
    the Gaussian decoder that it stands for: −log p(x|z) is the squared error over 2σₓ².

    The ELBO itself has β = 1.

    Raises: TypeError or ValueError for a reduction that isn't "sum" or "mean", sizes below 1, and
    a weight or σₓ that isn't above 0.

    Source: Higgins et al. (2017) for β.
    """
    if not isinstance(over_images, tuple) or len(over_images) != 2:
        raise TypeError(
            "over_images: expected a pair, the reconstruction's reduction and the KL's, "
            f"got {over_images!r}"
        )
    batch_of_reconstruction, batch_of_kl = over_images
    reconstruction = _factor(over_pixels, n_pixels, "over_pixels", "n_pixels")
    reconstruction *= _factor(batch_of_reconstruction, batch_size, "over_images", "batch_size")
    kl = _factor(over_units, latent_dim, "over_units", "latent_dim")
    kl *= _factor(batch_of_kl, batch_size, "over_images", "batch_size")
    if sigma_x is not None:  # squared error = 2σₓ² (−log p(x|z) − constant)
        reconstruction *= 2 * positive_float(sigma_x, "sigma_x") ** 2
    return positive_float(weight, "weight") * kl / reconstruction


def _factor(reduction: str, n: int, name: str, name_of_n: str) -> float:
    """What a reduction over n numbers does to their sum."""
    if reduction not in ("sum", "mean"):
        raise ValueError(f"{name}: expected 'sum' or 'mean', got {reduction!r}")
    n = positive_int(n, name_of_n)
    return 1.0 if reduction == "sum" else 1.0 / n


def _check_same_event(q: Distribution, p: Distribution) -> None:
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"p: expected the event shape of q {tuple(q.event_shape)}, got {tuple(p.event_shape)}"
        )


def _is_diagonal(q: Distribution) -> bool:
    return (
        isinstance(q, Independent)
        and isinstance(q.base_dist, Normal)
        and q.reinterpreted_batch_ndims == 1
    )
