"""Random numbers: what a seed decides, and streams that nobody else disturbs."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from vae_core._checks import checked_seed

__all__ = ["new_seed", "own_random_numbers", "seed_everything"]


def seed_everything(seed: int | None = None) -> int:
    """Seed Python's, NumPy's and PyTorch's random numbers (every device), and return the seed.

    Without an argument the seed is ``$VAE_CORE_SEED``, or 0.

    Raises: TypeError or ValueError for what isn't an integer of at least 0 and below 2**63.
    """
    if seed is None:
        given = os.environ.get("VAE_CORE_SEED", "0")
        if not given.isdecimal():
            raise ValueError(f"VAE_CORE_SEED: expected an integer of at least 0, got {given!r}")
        seed = checked_seed(int(given), "VAE_CORE_SEED")
    seed = checked_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # the largest that NumPy takes here
    torch.manual_seed(seed)
    return seed


def new_seed() -> int:
    """A seed drawn from PyTorch's random numbers: given by ``seed_everything``, new each time."""
    return int(torch.randint(2**62, ()))


@contextmanager
def own_random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch's global random numbers start from ``seed``; afterwards they are as before."""
    before = random_states(device)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
    try:
        yield
    finally:
        set_random_states(device, before)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of the global random number generators that training on a device uses."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(device: torch.device, states: Mapping[str, Tensor]) -> None:
    """Put back what ``random_states`` gave, as far as this device has it."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    elif "mps" in states and device.type == "mps":
        torch.mps.set_rng_state(states["mps"])
