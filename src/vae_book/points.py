"""Points in the plane, for a VAE small enough to train on a page: moons, a ring, blobs and more."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vae_core._checks import positive_int

__all__ = ["SHAPES", "Points", "points"]


class Points(NamedTuple):
    """Points and, for each, how far along its shape it lies: neighbours get similar colours.

    Shapes: ``x`` ``[N, 2]``, about 1 to 2 from the origin; ``along`` ``[N]``, from 0 to 1.
    """

    x: Tensor
    along: Tensor


def points(shape: str, n: int = 500, *, seed: int = 0) -> Points:
    """``n`` random points of a shape of ``SHAPES``, in float64, the same for the same seed.

    Raises: ValueError for another shape, TypeError or ValueError for an ``n`` that isn't an integer
    of at least 1.
    """
    if shape not in SHAPES:
        raise ValueError(f"shape: expected one of {', '.join(SHAPES)}, got {shape!r}")
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    along = (torch.arange(positive_int(n, "n")) + torch.rand(n, **draw)) / n
    curve, noise = SHAPES[shape]
    return Points(curve(along) + noise * torch.randn(n, 2, **draw), along)


def _moons(t: Tensor) -> Tensor:
    """Two half circles that reach into each other: the first for t below a half."""
    angle = 2 * math.pi * (t % 0.5)
    side = torch.where(t < 0.5, 1.0, -1.0)
    across, up = angle.cos() - 0.5 * side, angle.sin() - 0.25
    return torch.stack([1.25 * across, 1.6 * side * up], dim=1)


def _ring(t: Tensor) -> Tensor:
    return 1.4 * _turn(t)


def _blobs(t: Tensor) -> Tensor:
    """Five points on a circle, one at the top."""
    return 1.5 * _turn((5 * t).floor() / 5 + 0.25)


def _spiral(t: Tensor) -> Tensor:
    """One and a half turns, with about as many points on each bit of the way."""
    turns = 1.6 * (0.05 + 0.95 * t).sqrt()
    return 1.2 * turns[:, None] * _turn(turns)


def _wave(t: Tensor) -> Tensor:
    """x₁ is normal, and x₂ a wave over it."""
    x1 = 0.45 * torch.special.ndtri(t)
    return torch.stack([x1, 1.4 * (3 * x1).sin()], dim=1)


def _turn(turns: Tensor) -> Tensor:
    angle = 2 * math.pi * turns
    return torch.stack([angle.cos(), angle.sin()], dim=1)


# Each a curve from [N] in [0, 1] to [N, 2], and the noise that is added to both coordinates.
SHAPES: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "moons": (_moons, torch.tensor([0.09, 0.09], dtype=torch.float64)),
    "ring": (_ring, torch.tensor([0.09, 0.09], dtype=torch.float64)),
    "blobs": (_blobs, torch.tensor([0.16, 0.16], dtype=torch.float64)),
    "spiral": (_spiral, torch.tensor([0.05, 0.05], dtype=torch.float64)),
    "wave": (_wave, torch.tensor([0.0, 0.45], dtype=torch.float64)),  # x₁ has its spread already
}
