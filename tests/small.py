"""Models and images small enough that a test takes no time; used by all tests."""

import torch

from vae_book.linear import LinearVAE
from vae_core import VAE, seed_everything

N_PIXELS = 16


def small_images(
    n: int = 100, *, seed: int = 1, binary: bool = True, shape: tuple[int, ...] = (4, 4)
) -> torch.Tensor:
    """uint8 images, black and white or grey, [n, *shape]."""
    noise = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 2 if binary else 256, (n, *shape), generator=noise)
    return (values * (255 if binary else 1)).to(torch.uint8)


def small_vae(latent_dim: int = 2, *, seed: int = 0, kind: type[VAE] = VAE, **changes) -> VAE:
    """A VAE of 4 × 4 images with untrained weights."""
    seed_everything(seed)
    return kind(latent_dim, **{"hidden": (8,), "n_pixels": N_PIXELS} | changes)


def small_linear_vae(
    latent_dim: int = 2, *, seed: int = 0, n_pixels: int = 6, sigma_x: float = 0.5
) -> LinearVAE:
    """A linear VAE with untrained weights in float64: what it should give is known exactly."""
    seed_everything(seed)
    return LinearVAE(latent_dim, n_pixels, sigma_x=sigma_x).double()
