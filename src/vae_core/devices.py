"""Where to compute, and with how many digits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vae_core._checks import describe

__all__ = ["exact_float32", "pick_device", "pick_precision", "tiny_numbers_are_zero"]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device to compute on: the one asked for, else CUDA, else Apple's MPS, else the CPU.

    Raises: TypeError for what is no name of a device; ValueError for a name that PyTorch doesn't
    know, and for a device that this machine doesn't have.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not isinstance(device, str | torch.device):
        raise TypeError(f"device: expected a name or a torch.device, got {describe(device)}")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device: expected one that is here, got {str(device)!r}: {reason}"
        ) from error
    if chosen.type == "meta":
        raise ValueError("device: expected one that can compute, got 'meta'")
    return chosen


def pick_precision(precision: str) -> torch.dtype:
    """The type that matrix products are computed in while training: float32 or bfloat16.

    Weights, sums and this package's densities stay in float32 either way; networks within a flow
    don't.

    Raises: ValueError for another name.
    """
    if precision not in PRECISIONS:
        expected = " or ".join(map(repr, PRECISIONS))
        raise ValueError(f"precision: expected {expected}, got {precision!r}")
    return PRECISIONS[precision]


@contextmanager
def exact_float32() -> Iterator[None]:
    """float32 convolutions with all 24 bits; by default cuDNN rounds to the 11 bits of TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextmanager
def tiny_numbers_are_zero() -> Iterator[None]:
    """A CPU takes numbers below 10⁻³⁸ for 0: it computes with them many times more slowly, and
    Adam's averages decay into them wherever a unit is dead."""
    before = bool(torch.tensor(1e-39) * 1 == 0)  # PyTorch can set this, not tell it
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
