"""Where to compute, and with how many digits."""

from __future__ import annotations

import torch

__all__ = ["pick_device", "pick_precision"]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BFLOAT16_PAYS_FROM = 0.4e9  # operations a step, see benchmarks/precision_speed.md


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
        raise TypeError(f"device: expected a name or a torch.device, got {device!r}")
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


def pick_precision(
    precision: str, *, device: torch.device, n_weights: int, batch_size: int
) -> torch.dtype:
    """The type that the network's matrix products are computed in while training.

    "float32" and "bfloat16" are what they say. "auto" is bfloat16 only where it was measured to be
    clearly faster: on a CPU that multiplies it in hardware, for networks and batches that aren't
    small. It depends on the machine, the model and the batch size, never on a stopwatch, so
    that a run can be repeated.

    Raises: ValueError for another name.
    """
    if precision in PRECISIONS:
        return PRECISIONS[precision]
    if precision != "auto":
        raise ValueError(
            f"precision: expected 'auto', {' or '.join(map(repr, PRECISIONS))}, got {precision!r}"
        )
    operations = 6 * n_weights * batch_size  # 2 forward, 4 backward for each weight and image
    fast = device.type == "cpu" and operations >= BFLOAT16_PAYS_FROM and _cpu_multiplies_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    """Does the processor have instructions for it? (Elsewhere it works, more slowly.)"""
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every PyTorch
    return any(getattr(torch.cpu, question, lambda: False)() for question in questions)
