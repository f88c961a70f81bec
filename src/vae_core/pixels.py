"""Images as rows of pixel values: the one place where bytes become numbers between 0 and 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_core._checks import describe

__all__ = ["as_pixels", "binarise"]


def as_pixels(
    images: Tensor,
    *,
    n_pixels: int = 784,
    dtype: torch.dtype | None = None,
    name: str = "images",
) -> Tensor:
    """Images as flat rows of pixel values between 0 (paper) and 1 (ink).

    Bytes are divided by 255. Floats must lie in [0, 1] already: 0–255 floats are the commonest
    silent mistake with MNIST, so they are an error here and never rescaled.

    Shapes: ``images`` ``[N, n_pixels]``, ``[N, H, W]`` or ``[N, 1, H, W]`` with
    ``H * W == n_pixels``; the result ``[N, n_pixels]``, on the same device, of type ``dtype``
    (PyTorch's default float type if none is given).

    Raises: TypeError for what is neither a uint8 nor a float tensor; ValueError for another
    shape, for NaN or infinite values, and for values outside [0, 1].
    """
    check_pixels(images, n_pixels=n_pixels, name=name)
    return to_unit_interval(images, dtype or torch.get_default_dtype())


def binarise(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Black-and-white images drawn from grey ones: each pixel is ink with its grey value as the
    probability.

    Images that are black and white already stay as they are.

    Shapes: ``images`` of any shape, uint8 or float values in [0, 1], on any device (``generator``
    on the same, or None for PyTorch's global one); the result of the same shape and type, 0 or 255
    (1 for floats).

    Raises: TypeError for what is neither a uint8 nor a float tensor; ValueError for NaN or infinite
    values, and for values outside [0, 1].

    Source: Salakhutdinov and Murray (2008).
    """
    check_values(images, name="images")
    return draw_binary(images, generator)


def draw_binary(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """``binarise`` for images that have passed its checks."""
    if images.dtype == torch.uint8:
        draws = torch.empty_like(images).random_(0, 255, generator=generator)  # 0 to 254
        return (draws < images).to(torch.uint8) * 255
    draws = torch.rand(images.shape, dtype=images.dtype, device=images.device, generator=generator)
    return (draws < images).to(images.dtype)


def is_binary(images: Tensor) -> bool:
    """Is every pixel paper or ink, with nothing between?"""
    ink = 255 if images.dtype == torch.uint8 else 1
    return bool(((images == 0) | (images == ink)).all())


def to_unit_interval(images: Tensor, dtype: torch.dtype) -> Tensor:
    """What ``as_pixels`` does to images that have passed its checks: ``[N, …]`` → ``[N, D]``."""
    flat = images.flatten(start_dim=1).to(dtype)
    return flat / 255 if images.dtype == torch.uint8 else flat


def check_pixels(images: Tensor, *, n_pixels: int, name: str) -> None:
    """The checks of ``as_pixels`` alone, without a copy of the images."""
    check_is_tensor(images, name=name)
    pixels_per_image = math.prod(images.shape[1:])
    if images.ndim not in (2, 3, 4) or pixels_per_image != n_pixels:
        raise ValueError(
            f"{name}: expected shape [N, {n_pixels}] or [N, H, W] with H * W = {n_pixels}, "
            f"got {describe(images)}"
        )
    check_values(images, name=name)


def check_is_tensor(images: object, *, name: str) -> None:
    if not isinstance(images, Tensor):
        raise TypeError(f"{name}: expected a tensor of images, got {describe(images)}")


def check_values(images: Tensor, *, name: str) -> None:
    """Are these pixel values, whatever the shape: bytes, or floats in [0, 1]?"""
    check_is_tensor(images, name=name)
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(
            f"{name}: expected uint8 values 0 to 255 or float values in [0, 1], "
            f"got {describe(images)}"
        )
    if images.dtype != torch.uint8 and images.numel():
        low, high = (value.item() for value in torch.aminmax(images))
        if not (math.isfinite(low) and math.isfinite(high)):  # aminmax passes NaN on
            raise ValueError(f"{name}: expected finite values, got NaN or infinity")
        if low < 0 or high > 1:
            raise ValueError(
                f"{name}: expected float values in [0, 1], got values from {low:g} to {high:g}"
                + (" (divide by 255?)" if low >= 0 and high <= 255 else "")
            )
