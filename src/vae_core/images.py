"""What a model is given: images as rows of pixel values, and conditions such as labels.

It is the one place where bytes become numbers between 0 and 1.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from vae_core._checks import describe
from vae_core.seeds import part_of

__all__ = ["as_condition", "as_numbers", "as_pixels", "binarise", "check_images", "is_binary"]

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
    given, images = images, as_tensor(images)
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


def as_tensor(array: object) -> object:
    """A NumPy array as a tensor; anything else as it is, for the next check to name."""
    if not isinstance(array, np.ndarray):
        return array
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not writable")  # nobody writes here
        try:
            return torch.from_numpy(np.ascontiguousarray(array))
        except (TypeError, ValueError):  # a type that PyTorch doesn't have
            return array


def as_numbers(given: object, name: str) -> Tensor:
    """An array of numbers of any kind, ``[N, …]``, as a tensor, or an error that names it."""
    rows = as_tensor(given)
    if not isinstance(rows, Tensor) or rows.dtype.is_complex:
        raise TypeError(f"{name}: expected an array of numbers, got {describe(given)}")
    if rows.ndim == 0:
        raise ValueError(f"{name}: expected shape [N, …], got {describe(given)}")
    return rows


def as_condition(condition: object, n: int, to: Tensor) -> Tensor:
    """What is known of each image, a label say, as networks take it: ``n`` rows.

    Whole numbers become int64, as embeddings and one-hot codes need them; others get the type of
    ``to``. Both go to its device.

    Shapes: ``condition`` ``[n, …]``.

    Raises: TypeError for what is no array of numbers; ValueError for another number of rows.
    """
    given, condition = condition, as_numbers(condition, "condition")
    if len(condition) != n:
        raise ValueError(
            f"condition: expected shape [{n}, …], a row for each image or code, "
            f"got {describe(given)}"
        )
    return condition.to(to.device, to.dtype if condition.is_floating_point() else torch.int64)


def binarise(images: Tensor | np.ndarray, generator: torch.Generator | None = None) -> Tensor:
    """Black-and-white images drawn from grey ones: each pixel is ink with its grey value as the
    probability.

    Images that are black and white already stay as they are.

    Shapes: ``images`` as ``check_images`` takes them, on any device (``generator`` on the same, or
    None for PyTorch's global one); the result of the same shape and type, 0 or 255 (1 for floats).

    Raises: TypeError or ValueError as ``check_images`` does.

    Source: Salakhutdinov and Murray (2008).
    """
    images = check_images(images)
    ink = draw_binary(images, generator)
    return ink * 255 if images.dtype == torch.uint8 else ink


def draw_binary(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """``binarise`` for images that were checked before a loop, 0 or 1; it never waits for a GPU."""
    part = part_of(len(images))
    generator, mine = generator or part.generator, slice(part.first, part.last)
    shape = part.whole, *images.shape[1:]
    if images.dtype != torch.uint8:
        draws = images.new_empty(shape).uniform_(generator=generator)[mine]
        return (draws < images).to(images.dtype)
    if images.device.type != "cpu":
        draws = images.new_empty(shape).random_(0, 255, generator=generator)[mine]  # 0 to 254
        return (draws < images).to(torch.uint8)
    # A CPU draws 64 bits at once, four times as fast as 8 times a byte. Ink where a draw of two
    # bytes is below 257 x: that is x/255, to 2⁻¹⁶ of it, and exact for paper and for full ink.
    n = math.prod(shape)
    bits = torch.empty(n // 4 + 1, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    high, low = bits.view(torch.uint8)[: 2 * n].view(2, *shape)[:, mine]
    ink = (high < images) | ((high == images) & (low.clamp_(max=254) < images))
    return ink.view(torch.uint8)


def is_binary(images: Tensor) -> bool:
    """True if every pixel is paper or ink, with nothing between."""
    ink = 255 if images.dtype == torch.uint8 else 1
    return bool(((images == 0) | (images == ink)).all())
