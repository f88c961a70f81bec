"""The terms of the ELBO, one number an image, in nats, with every constant.

ELBO(x) = E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)) ≤ log p(x)

Nothing here takes a mean over images, pixels or latent units. That happens in one place, ``fit``,
so that no term can be weighed against another by accident.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal
from torch.distributions import kl_divergence as torch_kl
from torch.distributions.kl import register_kl

from vae_core._checks import describe, positive_int
from vae_core.images import as_condition
from vae_core.posteriors import DiagonalGaussian, StandardGaussian, as_diagonal_gaussian
from vae_core.seeds import standard_normal

__all__ = ["ElboTerms", "elbo_terms", "kl", "kl_per_unit"]


def kl_per_unit(q: Distribution, p: Distribution) -> Tensor:
    """KL(q ‖ p) of each latent unit, in nats, for diagonal Gaussians q and p, in closed form.

    ½((σ_q² + (μ_q − μ_p)²)/σ_p² − 1 − log(σ_q²/σ_p²)), which is ½(μ² + σ² − 1 − log σ²) where p is
    the standard normal distribution.

    Shapes: q and p of event shape ``[d]``; the result ``[B, d]``.

    Raises: TypeError for other distributions; ValueError for two of different event shapes.

    Source: Kingma and Welling (2014), appendix B.
    """
    gaussians = as_diagonal_gaussian(q), as_diagonal_gaussian(p)
    for name, given, gaussian in zip("qp", (q, p), gaussians, strict=True):
        if gaussian is None:
            raise TypeError(f"{name}: expected a diagonal Gaussian, got {type(given).__name__}")
    _check_same_event(q, p)
    return _kl_per_unit(*gaussians)


def _kl_per_unit(q: DiagonalGaussian, p: DiagonalGaussian) -> Tensor:
    if isinstance(p, StandardGaussian):
        return 0.5 * (q.loc.square() + q.scale.square() - 1 - q.log_var)
    log_ratio = q.log_var - p.log_var
    distance = ((q.loc - p.loc) / p.scale).square()
    return 0.5 * (log_ratio.exp() + distance - 1 - log_ratio)


def kl(q: Distribution, p: Distribution) -> Tensor:
    """KL(q ‖ p) in nats, in closed form.

    It is the one PyTorch knows; ``torch.distributions.kl.register_kl`` teaches it others.

    Shapes: q of batch shape ``[B]``; the result ``[B]``.

    Raises: NotImplementedError for a pair that has none; ``ElboTerms.kl`` then estimates it from
    samples. TypeError for a distribution of single numbers, whose KL would come out one for each
    of them. ValueError for two distributions of different event shapes.
    """
    if not q.event_shape:
        kind = type(q).__name__
        raise TypeError(f"q: expected a distribution of vectors (see Independent), got {kind}")
    _check_same_event(q, p)
    gaussians = as_diagonal_gaussian(q), as_diagonal_gaussian(p)
    if None not in gaussians:
        return _kl_per_unit(*gaussians).sum(dim=-1)
    if isinstance(q, MultivariateNormal) or isinstance(p, MultivariateNormal):
        q, p = (
            given
            if gaussian is None
            else MultivariateNormal(gaussian.mean, scale_tril=gaussian.scale.diag_embed())
            for given, gaussian in zip((q, p), gaussians, strict=True)
        )
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

    Shapes: ``q`` the posterior q(z|x) of batch shape ``[B]`` and event shape ``[d]`` (``q.mean``
    and, for the default, ``q.log_var`` are the encoder's μ and log σ²); ``prior`` p(z), of batch
    shape ``[]`` or ``[B]``; ``z`` ``[S, B, d]``, S samples of q for each image;
    ``log_likelihood`` ``[S, B]``, log p(x|z) of each of them. ``detach_q`` as in ``elbo_terms``.
    """

    q: Distribution
    prior: Distribution
    z: Tensor
    log_likelihood: Tensor
    detach_q: bool = False

    @cached_property
    def closed_kl(self) -> Tensor | None:
        """KL(q(z|x) ‖ p(z)) in closed form, ``[B]``, or None where there is none (see ``kl``)."""
        try:
            return kl(self.q, self.prior)
        except NotImplementedError:
            return None

    @property
    def kl(self) -> Tensor:
        """KL(q(z|x) ‖ p(z)), ``[B]``: in closed form, or the mean of ``sampled_kl`` over S."""
        return self.sampled_kl.mean(dim=0) if self.closed_kl is None else self.closed_kl

    @property
    def kl_per_unit(self) -> Tensor:
        """The same for each latent unit, ``[B, d]``.

        Raises: TypeError where q or p(z) isn't a diagonal Gaussian.
        """
        return kl_per_unit(self.q, self.prior)

    @cached_property
    def log_q(self) -> Tensor:
        """log q(z|x) of each sample, ``[S, B]``."""
        q = self.q.detached() if self.detach_q else self.q
        return _one_each(q.log_prob(self.z), self.z, "log q(z|x)")

    @cached_property
    def sampled_kl(self) -> Tensor:
        """log q(z|x) − log p(z) at each sample, ``[S, B]``; its mean over S estimates the KL."""
        return self.log_q - _one_each(self.prior.log_prob(self.z), self.z, "log p(z)")

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
        """Mean of log p(x|z) over the samples, less the KL, ``[B]``."""
        return self.log_likelihood.mean(dim=0) - self.kl


def elbo_terms(
    model: nn.Module,
    x: Tensor,
    condition: Tensor | None = None,
    *,
    n_samples: int = 1,
    noise: Tensor | None = None,
    detach_q: bool = False,
) -> ElboTerms:
    """The terms of the ELBO of each image, from samples of q(z|x): all that objectives, training
    and estimates are made of.

    The samples are drawn with PyTorch's random numbers, or made from ``noise`` where that is
    given (and then S is the noise's). A ``condition`` goes to encoder, prior and decoder. With
    ``detach_q``, ``log_q`` passes gradients on to z, not to the parameters of q: of its
    derivative, that part is 0 on average and only adds noise.

    Shapes: ``x`` images as ``model.encode`` takes them, B of them, ``condition`` ``[B, …]``;
    ``noise`` ``[S, B, d]``.

    Raises: TypeError or ValueError for images, a condition, a number of samples or noise that
    don't fit, and for a posterior, a prior or a likelihood that doesn't give each code a number.
    TypeError for a q(z|x) that can't turn noise into samples (see ``posteriors``).

    Source: Roeder, Wu and Duvenaud (2017), for ``detach_q``.
    """
    x = model.as_input(x)
    if noise is None:
        noise = standard_normal(x, positive_int(n_samples, "n_samples"), len(x), model.latent_dim)
    elif not isinstance(noise, Tensor) or not noise.is_floating_point():
        raise TypeError(f"noise: expected a float tensor, got {describe(noise)}")
    elif noise.ndim != 3 or noise.shape[1:] != (len(x), model.latent_dim) or len(noise) < 1:
        raise ValueError(
            f"noise: expected shape [S, {len(x)}, {model.latent_dim}] with S of at least 1, "
            f"got {describe(noise)}"
        )
    given = () if condition is None else (as_condition(condition, len(x), x),)
    q = model.encode(x, *given)
    q = as_diagonal_gaussian(q) or q  # PyTorch's own will do
    for needed in ("from_noise", "detached") if detach_q else ("from_noise",):
        if not hasattr(q, needed):
            raise TypeError(
                f"encode: expected a posterior with {needed} (see posteriors), "
                f"got {type(q).__name__}"
            )
    z, prior = q.from_noise(noise.to(x)), model.prior(*given)
    if z.shape != noise.shape:
        raise ValueError(f"from_noise: expected shape {tuple(noise.shape)}, got {tuple(z.shape)}")
    batches = [(), (len(x),)] if given else [()]
    if prior.batch_shape not in batches or prior.event_shape != z.shape[-1:]:
        raise ValueError(
            f"prior: expected batch shape {' or '.join(map(str, batches))} and event shape "
            f"({z.shape[-1]},), got {tuple(prior.batch_shape)} and {tuple(prior.event_shape)}"
        )
    log_likelihood = _one_each(model.decode(z, *given).log_prob(x), z, "log p(x|z)")
    return ElboTerms(q, prior, z, log_likelihood, detach_q)


def _one_each(values: Tensor, z: Tensor, name: str) -> Tensor:
    """A density that gives another number of values would be broadcast, in silence."""
    if values.shape != z.shape[:-1]:
        raise ValueError(
            f"{name}: expected one number for each code, shape {tuple(z.shape[:-1])}, "
            f"got {tuple(values.shape)}"
        )
    return values


@register_kl(DiagonalGaussian, DiagonalGaussian)
def _kl_for_torch(q: DiagonalGaussian, p: DiagonalGaussian) -> Tensor:
    """For PyTorch's ``kl_divergence``; a subclass is another distribution."""
    if as_diagonal_gaussian(q) is None or as_diagonal_gaussian(p) is None:
        raise NotImplementedError
    return _kl_per_unit(q, p).sum(dim=-1)


def _check_same_event(q: Distribution, p: Distribution) -> None:
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"p: expected the event shape of q {tuple(q.event_shape)}, got {tuple(p.event_shape)}"
        )
