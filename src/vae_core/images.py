"""Images as rows of pixel values: the one place where bytes become numbers between 0 and 1."""

from __future__ import annotations

import contextlib
import math
import warnings

import numpy as np
import torch
from torch import Tensor

from vae_core._checks import describe

__all__ = ["as_pixels", "binarise", "check_images", "is_binary"]

ROUNDING = 1e-6  # an average of float32 values in [0, 1] may come out that far beyond


def as_pixels(
    images: Tensor | np.ndarray,
    *,
    n_pixels: int | None = None,
    dtype: torch.dtype | None = None,
    name: str = "images",
    unit_interval: bool = True,
) -> Tensor:
    """Images as flat rows of pixel values between 0 (paper) and 1 (ink).

    Bytes are divided by 255. Floats must lie in [0, 1] already: 0–255 floats are the commonest
    silent mistake with MNIST, so they are an error here and never rescaled.

    Shapes: ``images`` as ``check_images`` takes them; the result ``[N, D]``, on the same device, of
    type ``dtype`` (PyTorch's default float type if none is given).

    Raises: TypeError or ValueError as ``check_images`` does.
    """
    images = check_images(images, n_pixels=n_pixels, name=name, unit_interval=unit_interval)
    return to_rows(images, dtype or torch.get_default_dtype())


def to_rows(images: Tensor, dtype: torch.dtype) -> Tensor:
    """``as_pixels`` for images that were checked before a loop: ``[N, …]`` → ``[N, D]``."""
    rows = images.flatten(start_dim=1).to(dtype)
    return rows / 255 if images.dtype == torch.uint8 else rows


def check_images(
    images: Tensor | np.ndarray,
    *,
    n_pixels: int | None = None,
    name: str = "images",
    unit_interval: bool = True,
) -> Tensor:
    """The images as a tensor, neither flattened nor rescaled, once they have been checked.

    Bytes can't be wrong, so that costs nothing; floats are read through once. Without
    ``unit_interval`` they may be any finite numbers (for standardised images, say).

    Shapes: ``images`` ``[N, …]`` with the pixels of an image in any number of dimensions, grey or
    colour; ``n_pixels`` says how many there must be.

    Raises: TypeError for what is neither a uint8 nor a float array; ValueError for another
    shape, for NaN or infinite values, and for values outside [0, 1]. They name the argument
    ``name``.
    """
    given = images
    if isinstance(images, np.ndarray):
        # A type that PyTorch doesn't have stays what it is: the next check says so.
        with warnings.catch_warnings(), contextlib.suppress(TypeError, ValueError):
            warnings.filterwarnings("ignore", ".*not writable")  # nobody writes here
            images = torch.from_numpy(np.ascontiguousarray(images))
    if not isinstance(images, Tensor) or not (
        images.dtype == torch.uint8 or images.is_floating_point()
    ):
        raise TypeError(
            f"{name}: expected images as uint8 values 0 to 255 or float values in [0, 1], "
            f"got {describe(given)}"
        )
    if images.ndim < 2 or n_pixels not in (None, math.prod(images.shape[1:])):
        of = "[N, …]" if n_pixels is None else f"[N, …] with {n_pixels} pixels an image"
        raise ValueError(f"{name}: expected shape {of}, got {describe(given)}")
    if images.dtype != torch.uint8 and images.numel():
        low, high = (value.item() for value in torch.aminmax(images))
        if not (math.isfinite(low) and math.isfinite(high)):  # aminmax passes NaN on
            raise ValueError(f"{name}: expected finite values, got NaN or infinity")
        if unit_interval and (low < -ROUNDING or high > 1 + ROUNDING):
            raise ValueError(
                f"{name}: expected float values in [0, 1], got values from {low:g} to {high:g}"
                + (" (divide by 255?)" if low >= 0 and 1 < high <= 255 else "")
            )
    return images


def binarise(images: Tensor | np.ndarray, generator: torch.Generator | None = None) -> Tensor:
    """Black-and-white images drawn from grey ones: each pixel is ink with its grey value as the
    probability.

    Images that are black and white already stay as they are.

    Shapes: ``images`` as ``check_images`` takes them, on any device (``generator`` on the same, or
    None for PyTorch's global one); the result of the same shape and type, 0 or 255 (1 for floats).

    Raises: TypeError or ValueError as ``check_images`` does.

    Source: Salakhutdinov and Murray (2008).
    """
    return draw_binary(check_images(images), generator)


def draw_binary(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """``binarise`` for images that were checked before a loop; it never waits for a GPU."""
    if images.dtype == torch.uint8:
        draws = torch.empty_like(images).random_(0, 255, generator=generator)  # 0 to 254
        return (draws < images).to(torch.uint8) * 255
    draws = torch.rand(images.shape, dtype=images.dtype, device=images.device, generator=generator)
    return (draws < images).to(images.dtype)


def is_binary(images: Tensor) -> bool:
    """True if every pixel is paper or ink, with nothing between."""
    ink = 255 if images.dtype == torch.uint8 else 1
    return bool(((images == 0) | (images == ink)).all())
