"""q(z|x): from the encoder's outputs to a distribution, and from noise to a code."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

__all__ = ["diagonal_gaussian", "reparameterise"]


def diagonal_gaussian(outputs: Tensor) -> Independent:
    """q(z|x) from the encoder's outputs: first the d means, then the d values of log σ².

    σ = exp(½ log σ²) is positive whatever the network puts out.

    Shapes: ``outputs`` ``[B, 2d]``; the result a distribution of batch shape ``[B]`` and event
    shape ``[d]``.

    Source: Kingma and Welling (2014), appendix C.2.
    """
    mean, log_var = at_least_float32(outputs).chunk(2, dim=-1)
    sigma = torch.exp(0.5 * log_var)
    return Independent(Normal(mean, sigma, validate_args=False), 1, validate_args=False)


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
    if is_diagonal_gaussian(q):
        return q.base_dist.loc + q.base_dist.scale * noise
    raise TypeError(f"q: expected a diagonal or a multivariate normal distribution, got {q}")


def is_diagonal_gaussian(q: Distribution) -> bool:
    """True for ``Independent(Normal)`` over vectors, the family of ``diagonal_gaussian``."""
    return (
        isinstance(q, Independent)
        and isinstance(q.base_dist, Normal)
        and q.reinterpreted_batch_ndims == 1
    )


def at_least_float32(x: Tensor) -> Tensor:
    """Densities need more digits than the 8 bits that bfloat16 layers put out."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
