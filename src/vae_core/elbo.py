"""The terms of the ELBO, one number an image, in nats, with every constant.

ELBO(x) = E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)) ≤ log p(x)

Nothing here takes a mean over images, pixels or latent units. That happens in one place, ``fit``,
so that no term can be weighed against another by accident.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal
from torch.distributions import kl_divergence as torch_kl

from vae_core._checks import describe, positive_int
from vae_core.posteriors import is_diagonal_gaussian, reparameterise

__all__ = ["ElboTerms", "elbo_terms", "kl", "kl_per_unit"]


def kl_per_unit(q: Distribution, p: Distribution) -> Tensor:
    """KL(q ‖ p) of each latent unit, in nats, for diagonal Gaussians q and p, in closed form.

    log(σ_p/σ_q) + (σ_q² + (μ_q − μ_p)²)/(2σ_p²) − ½, which is ½(μ² + σ² − 1 − log σ²) where p is
    the standard normal distribution.

    Shapes: q and p ``Independent(Normal)`` of event shape ``[d]``; the result ``[B, d]``.

    Raises: TypeError for other distributions; ValueError for two of different event shapes.

    Source: Kingma and Welling (2014), appendix B.
    """
    for name, given in (("q", q), ("p", p)):
        if not is_diagonal_gaussian(given):
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
    if is_diagonal_gaussian(q) and is_diagonal_gaussian(p):
        return kl_per_unit(q, p).sum(dim=-1)
    if isinstance(q, MultivariateNormal) and is_diagonal_gaussian(p):
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
    model: nn.Module, x: Tensor, *, n_samples: int = 1, noise: Tensor | None = None
) -> ElboTerms:
    """The terms of the ELBO of each image, from samples of q(z|x): all that objectives, training
    and estimates are made of.

    The samples are drawn with PyTorch's random numbers, or made from ``noise`` where that is
    given (and then S is the noise's).

    Shapes: ``x`` images as ``model.encode`` takes them, B of them; ``noise`` ``[S, B, d]``.

    Raises: TypeError or ValueError for images, a number of samples or noise that don't fit.
    TypeError for a q(z|x) that isn't a Gaussian.
    """
    x = model.as_input(x)
    if noise is None:
        noise = x.new_empty(positive_int(n_samples, "n_samples"), len(x), model.latent_dim)
        noise.normal_()
    elif not isinstance(noise, Tensor) or not noise.is_floating_point():
        raise TypeError(f"noise: expected a float tensor, got {describe(noise)}")
    elif noise.ndim != 3 or noise.shape[1:] != (len(x), model.latent_dim) or len(noise) < 1:
        raise ValueError(
            f"noise: expected shape [S, {len(x)}, {model.latent_dim}] with S of at least 1, "
            f"got {describe(noise)}"
        )
    q = model.encode(x)
    z = reparameterise(q, noise.to(x))
    return ElboTerms(q, model.prior, z, model.decode(z).log_prob(x))


def _check_same_event(q: Distribution, p: Distribution) -> None:
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"p: expected the event shape of q {tuple(q.event_shape)}, got {tuple(p.event_shape)}"
        )
