"""How good are samples? A Fréchet distance on the features of one small, fixed classifier.

The idea is the FID's (Heusel et al. 2017), the ruler is our own: a network of 114,000 weights
that ships with the package and never changes, so that every number in the book is measured
with the same one. Distances from different rulers can't be compared, only their order and, with
care, their ratios.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
import torch
from torch import Tensor, nn

from vae_core._checks import describe
from vae_core.images import check_images, to_rows

__all__ = [
    "DigitClassifier",
    "FrechetDistance",
    "digit_classifier",
    "digit_features",
    "frechet_distance",
]

N_FEATURES = 64
MAX_IMAGES = 10_000  # a distance depends a little on how many images it is measured with


class DigitClassifier(nn.Module):
    """The small convolutional network behind the ruler: pixels → 64 features → 10 digits.

    ``tools/train_ruler.py`` made its weights, on MNIST and StrokeDigits together.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=5, stride=2, padding=2),  # (B, 16, 14, 14)
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=5, stride=2, padding=2),  # (B, 32, 7, 7)
            nn.ReLU(),
            nn.Flatten(),  # (B, 1568)
            nn.Linear(1568, N_FEATURES),
        )
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(N_FEATURES, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the ten digits. Shapes: ``x`` ``[B, 1, 28, 28]``; the result ``[B, 10]``."""
        return self.head(self.features(x))


def digit_classifier() -> DigitClassifier:
    """The classifier with the weights that ship with the package, on the CPU, for evaluation."""
    from safetensors.torch import load

    network = DigitClassifier()
    weights = resources.files("vae_book").joinpath("ruler.safetensors").read_bytes()
    network.load_state_dict(load(weights))
    return network.eval().requires_grad_(False)


_ruler = cache(digit_classifier)  # nobody outside has it, so nobody can change it


def digit_features(images: Tensor | np.ndarray) -> Tensor:
    """The classifier's 64 features of each image.

    Shapes: ``images`` of 28 × 28 pixels as ``check_images`` takes them, on any device; the result
    ``[N, 64]``, float64, on the CPU.

    Raises: TypeError or ValueError as ``check_images`` does, for another size too: the
    classifier knows digits.
    """
    images = check_images(images, n_pixels=784).detach()
    parts = []
    for chunk in images.split(1000):
        x = to_rows(chunk.cpu(), torch.float32).reshape(-1, 1, 28, 28)
        parts.append(_ruler().features(x).double())
    return torch.cat(parts)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance between the Gaussians fitted to two sets of features (equation 1.4).

    ‖m_a − m_b‖² + tr(C_a + C_b − 2 (C_a C_b)^½), with means m and covariance matrices C. It is
    0 only where means and covariances agree.

    Shapes: ``a`` ``[N, F]``, ``b`` ``[M, F]``, at least two rows each; computed in float64.

    Raises: ValueError for other shapes, NaN or infinity.

    Source: Dowson and Landau (1982).
    """
    for name, rows in (("a", a), ("b", b)):
        if rows.ndim != 2 or len(rows) < 2:
            raise ValueError(f"{name}: expected features [N, F] with N ≥ 2, got {describe(rows)}")
        if not torch.isfinite(rows).all():
            raise ValueError(f"{name}: expected finite features, got NaN or infinity")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"b: expected {a.shape[1]} features like a, got {b.shape[1]}")
    a, b = a.double(), b.double()
    cov_a, cov_b = (torch.atleast_2d(torch.cov(rows.T)) for rows in (a, b))
    # tr (C_a C_b)^½ = tr (R C_b R)^½ with R = C_a^½, and R C_b R is symmetric: eigh is enough.
    values, vectors = torch.linalg.eigh(cov_a)
    root_a = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp(min=0).sqrt().sum()
    mean_part = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    return (mean_part + cov_a.trace() + cov_b.trace() - 2 * cross).clamp(min=0).item()


class FrechetDistance:
    """Measures samples against real images, and knows its own floor.

    ``reference`` are the images that samples are compared with, ``others`` real images that aren't
    among them. ``floor`` is what as many of the others, drawn at random, score: even two sets of
    real images are not at distance 0. (Training against test images, because the two halves of
    MNIST's test set were written by different groups of people.)

    ``n`` is the number of images that each measurement uses.

    Raises: TypeError or ValueError as ``digit_features`` does.
    """

    def __init__(self, reference: Tensor | np.ndarray, others: Tensor | np.ndarray):
        self.n = min(len(reference), len(others), MAX_IMAGES)
        self._reference = digit_features(reference[: self.n])
        pick = torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(others), generator=pick)[: self.n]
        self.floor = self(others[chosen.to(getattr(others, "device", "cpu"))])

    def __call__(self, images: Tensor | np.ndarray) -> float:
        """Fréchet distance of the first ``n`` images to the reference; smaller is better.

        Shapes: ``images`` at least ``n``, as ``digit_features`` takes them.

        Raises: ValueError for fewer images: a distance from fewer would come out larger.
        """
        if len(images) < self.n:
            raise ValueError(f"images: expected at least {self.n}, got {len(images)}")
        return frechet_distance(digit_features(images[: self.n]), self._reference)

    def __repr__(self) -> str:
        return f"FrechetDistance(n=⟨{self.n}⟩, floor=⟨{self.floor:.2f}⟩)"
