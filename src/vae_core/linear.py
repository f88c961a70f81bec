"""What is known exactly: principal component analysis, the best linear autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vae_core._checks import describe, positive_int
from vae_core.pixels import as_pixels

__all__ = ["PCA", "pca", "principal_angles"]


@dataclass(frozen=True)
class PCA:
    """Mean, directions and variances of the data, the largest variance first.

    Shapes: ``mean`` ``[D]``; ``components`` ``[D, D]``, one orthonormal direction in each
    **column**; ``variances`` ``[D]``, the eigenvalues λ₁ ≥ λ₂ ≥ … of the covariance matrix. All
    of them float64.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor

    def smallest_error(self, latent_dim: int) -> float:
        """The smallest mean squared error of any linear autoencoder with this code size.

        It is the variance that the first ``latent_dim`` directions leave over (equation 1.9).

        Source: Eckart and Young (1936); Baldi and Hornik (1989).
        """
        return self.variances[positive_int(latent_dim, "latent_dim") :].sum().item()


def pca(images: Tensor) -> PCA:
    """Principal component analysis of the images, by the eigenvectors of their covariance.

    Shapes: ``images`` as ``as_pixels`` takes them, at least two of them.
    """
    if len(images) < 2:
        raise ValueError(f"images: expected at least 2 images, got {len(images)}")
    pixels = as_pixels(images.cpu(), n_pixels=images[0].numel(), dtype=torch.float64)
    mean = pixels.mean(dim=0)
    # Division by N, not N − 1: the training loss is a mean over N images too.
    covariance = (pixels - mean).T @ (pixels - mean) / len(pixels)
    variances, components = torch.linalg.eigh(covariance)  # ascending
    return PCA(mean, components.flip(dims=[1]), variances.flip(dims=[0]).clamp(min=0))


def principal_angles(a: Tensor, b: Tensor) -> Tensor:
    """Angles in degrees between the spaces that the columns of ``a`` and of ``b`` span.

    The largest one is 0 only where the two spaces are the same.

    Shapes: ``a`` and ``b`` ``[D, d]``; the result ``[d]``, ascending.

    Source: Björck and Golub (1973).
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"b: expected the shape of a {tuple(a.shape)}, got {describe(b)}")
    q_a, q_b = (torch.linalg.qr(m.double()).Q for m in (a, b))
    # The sine is accurate for small angles, where the cosine is flat.
    residual = q_b - q_a @ (q_a.T @ q_b)
    sines = torch.linalg.svdvals(residual).clamp(max=1)
    return torch.rad2deg(torch.arcsin(sines)).flip(dims=[0])
