"""Checkers for the book's exercises: they say what went wrong, not only that it did."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vae_core.models import squared_error

__all__ = ["check_squared_error"]


def check_squared_error(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check a reader's function for the squared error of each image (chapter 1, exercise 1).

    Prints that it is right, or what it computes instead.

    Shapes: ``answer(x, x_hat)`` is called with two tensors [5, 12] and should return [5].
    """
    noise = torch.Generator().manual_seed(0)
    x, x_hat = torch.rand(2, 5, 12, generator=noise, dtype=torch.float64)
    got = answer(x, x_hat)
    right = squared_error(x, x_hat)
    if not isinstance(got, Tensor):
        print(f"✗ you returned {type(got).__name__}; a tensor with one error an image is wanted")
        return
    mistakes = {
        "you averaged over the pixels; equation (1.2) sums over them": right / 12,
        "you summed over the images and kept the pixels": (x - x_hat).square().sum(dim=0),
        "you averaged over the images and kept the pixels": (x - x_hat).square().mean(dim=0),
        "you added up the whole batch; each image has an error of its own": right.sum(),
        "you took the mean over everything, images and pixels": (x - x_hat).square().mean(),
        "you took the mean over the images already; that is equation (1.3)": right.mean(),
        "you summed absolute differences; square them": (x - x_hat).abs().sum(dim=1),
        "you took the square root at the end; the error is the square": right.sqrt(),
        "you squared nothing, so that errors of opposite sign cancel": (x - x_hat).sum(dim=1),
        "nothing is summed yet; sum over the pixels, the last dimension": (x - x_hat).square(),
    }
    if _same(got, right):
        print("✓ right: one squared error an image, summed over its pixels")
        return
    for diagnosis, wrong in mistakes.items():
        if _same(got, wrong) or _same(got, -wrong):
            print(f"✗ {diagnosis}")
            return
    if got.shape != right.shape:
        print(f"✗ the shape is {list(got.shape)}; for 5 images [5] is wanted")
        return
    print("✗ the shape is right and the values aren't; compare with equation (1.2) term by term")


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double())
