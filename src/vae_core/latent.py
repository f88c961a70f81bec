"""Ways through the space of codes: quantile grids, traversals, paths between two codes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from vae_core._checks import describe, positive_int
from vae_core.networks import evaluating
from vae_core.vae import VAE

__all__ = [
    "decoder_jacobian",
    "normal_quantiles",
    "quantile_grid",
    "spherical_path",
    "straight_path",
    "traversal",
]


def normal_quantiles(n: int, low: float = 0.05, high: float = 0.95) -> Tensor:
    """n values with equal shares of a standard normal distribution between neighbours.

    A share ``low`` of the draws lies below the first, a share ``high`` below the last (6.1).

    Shapes: the result ``[n]``, rising, float32.

    Raises: TypeError or ValueError for an n that isn't an integer of at least 1, and for shares
    that aren't 0 < low < high < 1.

    Source: Kingma and Welling (2014), appendix A.
    """
    if not 0 < low < high < 1:
        raise ValueError(f"low, high: expected 0 < low < high < 1, got {low} and {high}")
    shares = torch.linspace(low, high, positive_int(n, "n"), dtype=torch.float64)
    return torch.special.ndtri(shares).float()


def quantile_grid(n: int, low: float = 0.05, high: float = 0.95) -> Tensor:
    """n² two-dimensional codes on normal quantiles, in the order in which images are read.

    So a grid of their images lies as a scatter plot does: z₁ grows to the right and z₂ upwards,
    and the first row, on top, has the **largest** z₂.

    Shapes: the result ``[n * n, 2]``.

    Raises: as ``normal_quantiles``.
    """
    axis = normal_quantiles(n, low, high)
    z_2, z_1 = torch.meshgrid(axis.flip(0), axis, indexing="ij")
    return torch.stack([z_1, z_2], dim=2).reshape(-1, 2)


def decoder_jacobian(vae: VAE, z: Tensor) -> Tensor:
    """Derivatives of the decoder's outputs with respect to the code, at each of N codes.

    The outputs are those of ``vae.decoder``, before the likelihood: logits, for Bernoulli pixels.

    Shapes: ``z`` ``[N, d]``; the result ``[N, D, d]``, without gradients of its own.
    """
    with evaluating(vae), warnings.catch_warnings():
        # Forward mode loads a part of PyTorch that warns of its own use of torch.jit.
        warnings.filterwarnings("ignore", "`torch.jit", category=FutureWarning)
        return torch.func.vmap(torch.func.jacfwd(vae.decoder))(z)


def traversal(code: Tensor, unit: int, values: Sequence[float] | Tensor) -> Tensor:
    """Copies of one code in which coordinate number ``unit`` takes the values one by one.

    Shapes: ``code`` ``[d]``, ``values`` ``[n]``; the result ``[n, d]``.

    Raises: ValueError for another shape, or a unit that isn't one of the d.
    """
    if code.ndim != 1 or not code.is_floating_point():
        raise ValueError(f"code: expected floats of shape [d], got {describe(code)}")
    if not 0 <= unit < len(code):
        raise ValueError(f"unit: expected one of 0 to {len(code) - 1}, got {unit}")
    moved = code.repeat(len(values), 1)
    moved[:, unit] = torch.as_tensor(values, dtype=code.dtype, device=code.device)
    return moved


def straight_path(start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """Codes on the straight line from ``start`` (t = 0) to ``end`` (t = 1), equation (6.12).

    Shapes: ``start`` and ``end`` ``[d]`` or ``[B, d]``, ``t`` ``[n]``; ``[n, d]`` or ``[n, B, d]``.

    Raises: ValueError for shapes that don't fit.
    """
    t = _along(start, end, t)
    return (1 - t) * start + t * end


def spherical_path(start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """Codes from ``start`` to ``end`` whose direction turns, and whose norm changes, evenly.

    The direction goes along the shorter arc of the unit sphere, the norm along a straight line
    (6.14), so ends of unequal norms are reached exactly. Where the directions are the same, the
    path is straight.

    Shapes: as in ``straight_path``.

    Raises: ValueError for shapes that don't fit, for a code of norm 0, which has no direction,
    and for opposite directions, between which no arc is the shorter one.

    Source: Shoemake (1985), for unit vectors; White (2016), for codes.
    """
    t = _along(start, end, t)
    norms = start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True)
    if not all((norm > 0).all() for norm in norms):
        raise ValueError("start, end: expected codes of a norm above 0, got one of norm 0")
    u, v = start / norms[0], end / norms[1]
    # Kahan's angle keeps its digits where the directions are nearly the same or opposite.
    theta = 2 * torch.atan2((u - v).norm(dim=-1, keepdim=True), (u + v).norm(dim=-1, keepdim=True))
    sine = theta.sin()
    same = sine < 10 * torch.finfo(sine.dtype).eps
    if (same & (theta > 1)).any():
        raise ValueError("start, end: expected directions that aren't opposite")
    safe = sine.masked_fill(same, 1.0)
    a = torch.where(same, 1 - t, ((1 - t) * theta).sin() / safe)
    b = torch.where(same, t, (t * theta).sin() / safe)
    return ((1 - t) * norms[0] + t * norms[1]) * (a * u + b * v)


def _along(start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """t with one dimension more for each of the ends', which must be of one shape."""
    if start.ndim not in (1, 2) or start.shape != end.shape or t.ndim != 1:
        raise ValueError(
            "start, end, t: expected shapes [d], [d] and [n], or [B, d], [B, d] and [n], "
            f"got {describe(start)}, {describe(end)} and {describe(t)}"
        )
    return t.to(start).reshape(-1, *[1] * start.ndim)
