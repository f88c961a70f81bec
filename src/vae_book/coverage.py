"""Do samples look like real images, and do they come from everywhere that real images are?

A Fréchet distance mixes the two up. Here they are counted apart, on the same 64 features: around
each real image lies a ball that reaches to its k-th nearest real neighbour. A sample in some ball
looks real; a ball with some sample in it is covered.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vae_book.frechet import digit_features
from vae_core._checks import describe, positive_int

__all__ = ["Coverage", "Overlap", "overlap"]

MAX_IMAGES = 4000  # balls shrink as their number grows


class Overlap(NamedTuple):
    """Two shares, both from 0 to 1: of samples in a ball, and of balls with a sample."""

    precision: float
    coverage: float


def overlap(real: Tensor, samples: Tensor, k: int = 5) -> Overlap:
    """Precision and coverage of samples, by their features.

    The ball around a real image reaches to its k-th nearest neighbour among the real images.
    Precision is the share of samples that lie in at least one ball; coverage is the share of balls
    in which at least one sample lies. For as many samples as real images from the same
    distribution, coverage comes to about 1 − 2⁻ᵏ.

    Shapes: ``real`` ``[N, F]`` with N > k, ``samples`` ``[M, F]``.

    Raises: TypeError or ValueError for a ``k`` that isn't an integer of at least 1, other shapes,
    NaN or infinity.

    Source: Kynkäänniemi et al. (2019) for precision; Naeem et al. (2020) for coverage.
    """
    k = positive_int(k, "k")
    for name, rows, least in (("real", real, k + 1), ("samples", samples, 1)):
        if rows.ndim != 2 or len(rows) < least:
            raise ValueError(
                f"{name}: expected features [N, F] with N ≥ {least}, got {describe(rows)}"
            )
        if not torch.isfinite(rows).all():
            raise ValueError(f"{name}: expected finite features, got NaN or infinity")
    if real.shape[1] != samples.shape[1]:
        raise ValueError(f"samples: expected {real.shape[1]} features, got {samples.shape[1]}")
    real, samples = real.double(), samples.double()
    radius = torch.cdist(real, real).kthvalue(k + 1, dim=1).values  # the nearest is itself
    inside = torch.cdist(samples, real) <= radius
    return Overlap(*(inside.any(dim=dim).double().mean().item() for dim in (1, 0)))


class Coverage:
    """Measures samples against real images, and knows what real images score.

    ``reference`` are the images with the balls, ``others`` real images that aren't among them;
    ``real`` is what as many of the others, drawn at random, score. ``n`` is the number of images
    that each measurement uses.

    Raises: TypeError or ValueError as ``digit_features`` does.
    """

    def __init__(self, reference: Tensor | np.ndarray, others: Tensor | np.ndarray):
        self.n = min(len(reference), len(others), MAX_IMAGES)
        pick = torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(reference), generator=pick)[: self.n]
        self._reference = digit_features(reference[chosen.to(_device(reference))])
        chosen = torch.randperm(len(others), generator=pick)[: self.n]
        self.real = self(others[chosen.to(_device(others))])

    def __call__(self, images: Tensor | np.ndarray) -> Overlap:
        """Precision and coverage of the first ``n`` images; larger is better.

        Shapes: ``images`` at least ``n``, as ``digit_features`` takes them.

        Raises: ValueError for fewer images: fewer would cover less.
        """
        if len(images) < self.n:
            raise ValueError(f"images: expected at least {self.n}, got {len(images)}")
        return overlap(self._reference, digit_features(images[: self.n]))

    def __repr__(self) -> str:
        precision, coverage = self.real
        return (
            f"Coverage(n=⟨{self.n}⟩, real: precision ⟨{precision:.2f}⟩, coverage ⟨{coverage:.2f}⟩)"
        )


def _device(images: object) -> object:
    return getattr(images, "device", "cpu")
