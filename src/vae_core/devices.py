"""Where to compute."""

from __future__ import annotations

import torch

__all__ = ["pick_device"]


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
