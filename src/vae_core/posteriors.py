"""q(z|x): from the encoder's outputs to a distribution that turns noise into codes.

What ``encode`` returns is a distribution of PyTorch's with one method more: ``from_noise`` makes
codes of standard normal noise. So a posterior with a full covariance, or a flow, is a class of its
own and changes nothing else. Its ``log_prob`` takes any codes whose shape can be broadcast to its
own, ``[…, B, d]``, and gives a number for each, ``[…, B]``. (A flow remembers what it needs for the
codes it made, as PyTorch's transforms do with ``cache_size=1``.) If it has ``detached()``, a copy
whose parameters pass no gradient on, it can also be used with ``elbo_terms(…, detach_q=True)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, constraints

__all__ = ["DiagonalGaussian", "diagonal_gaussian"]


class DiagonalGaussian(Distribution):
    """A Gaussian of independent units, N(μ, σ²), given by μ and log σ².

    σ = exp(½ log σ²) is positive whatever a network puts out.

    Shapes: ``mean`` and ``log_var`` ``[…, d]``; batch shape ``[…]``, event shape ``[d]``.

    Source: Kingma and Welling (2014), appendix C.2.
    """

    has_rsample = True
    arg_constraints = {"loc": constraints.real_vector, "log_var": constraints.real_vector}
    support = constraints.real_vector

    def __init__(self, mean: Tensor, log_var: Tensor):
        self.loc, self.log_var = mean, log_var
        self.scale = torch.exp(0.5 * log_var)
        super().__init__(mean.shape[:-1], mean.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """μ, ``[…, d]``."""
        return self.loc

    @property
    def stddev(self) -> Tensor:
        """σ, ``[…, d]``."""
        return self.scale

    @property
    def variance(self) -> Tensor:
        """σ², ``[…, d]``."""
        return self.scale.square()

    def from_noise(self, noise: Tensor) -> Tensor:
        """Codes z = μ + σ ⊙ ε from standard normal noise ε.

        Shapes: ``noise`` and the result ``[S, …, d]``.

        Source: Kingma and Welling (2014), section 2.4.
        """
        return self.loc + self.scale * noise

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Codes from PyTorch's random numbers, ``[*sample_shape, …, d]``, with gradients."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.from_noise(self.loc.new_empty(shape).normal_())

    def log_prob(self, value: Tensor) -> Tensor:
        """log q(z|x) in nats, ``[…]`` for ``value`` ``[…, d]``."""
        noise = (value - self.loc) / self.scale
        return -0.5 * (noise.square() + self.log_var + math.log(2 * math.pi)).sum(dim=-1)

    def entropy(self) -> Tensor:
        """−E_q[log q(z|x)] in nats, ``[…]``."""
        return 0.5 * (1 + self.log_var + math.log(2 * math.pi)).sum(dim=-1)

    def detached(self) -> DiagonalGaussian:
        """The same distribution; its log-density gives μ and log σ² no gradient.

        Raises: NotImplementedError for a subclass without a ``detached`` of its own.
        """
        if as_diagonal_gaussian(self) is None:
            raise NotImplementedError(f"{type(self).__name__} has no detached() of its own")
        return DiagonalGaussian(self.loc.detach(), self.log_var.detach())


class StandardGaussian(DiagonalGaussian):
    """N(0, I), from which the KL is shorter."""

    def __init__(self, zeros: Tensor):
        super().__init__(zeros, zeros)


def diagonal_gaussian(outputs: Tensor) -> DiagonalGaussian:
    """q(z|x) from the encoder's outputs: first the d means, then the d values of log σ².

    Shapes: ``outputs`` ``[B, 2d]``; the result a distribution of batch shape ``[B]`` and event
    shape ``[d]``.
    """
    mean, log_var = at_least_float32(outputs).chunk(2, dim=-1)
    return DiagonalGaussian(mean, log_var)


def as_diagonal_gaussian(p: Distribution) -> DiagonalGaussian | None:
    """The same distribution in this form, or None for one of another family (a subclass, too)."""
    if type(p) in (DiagonalGaussian, StandardGaussian):
        return p
    normal = type(p) is Independent and type(p.base_dist) is Normal
    if not normal or p.reinterpreted_batch_ndims != 1:
        return None
    return DiagonalGaussian(p.base_dist.loc, 2 * p.base_dist.scale.log())


def at_least_float32(x: Tensor) -> Tensor:
    """Densities need more digits than the 8 bits that bfloat16 layers put out."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
