"""Where to compute, and with how many digits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vae_core._checks import describe

__all__ = [
    "float32_products",
    "own_stream",
    "pick_device",
    "pick_precision",
    "tiny_numbers_are_zero",
]

PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}


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


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """The type that matrix products are computed in while training: float32 or bfloat16.

    Weights, sums and this package's densities stay in float32 either way; networks within a flow
    don't. "tf32" is float32 whose products have 11 of its 24 bits (see ``float32_products``).

    Raises: ValueError for another name, and for "tf32" without CUDA.
    """
    if precision not in PRECISIONS:
        expected = ", ".join(map(repr, PRECISIONS))
        raise ValueError(f"precision: expected one of {expected}, got {precision!r}")
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"precision: expected 'tf32' only on a CUDA device, not on {device}")
    return PRECISIONS[precision]


@contextmanager
def float32_products(*, tf32: bool = False) -> Iterator[None]:
    """float32 convolutions and matrix products on a GPU: with all 24 bits, or the 11 of TF32.

    By default cuDNN rounds to TF32.
    """
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = tf32
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """On a GPU, a stream beside the default one, which can't be recorded; what was launched
    before is waited for, and so is what is launched here."""
    if device.type != "cuda":
        yield
        return
    default, own = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    own.wait_stream(default)
    try:
        with torch.cuda.stream(own):
            yield
    finally:
        default.wait_stream(own)


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
