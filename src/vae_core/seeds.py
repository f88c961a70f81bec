"""Random numbers: what a seed decides, and streams that nobody else disturbs."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vae_core._checks import checked_seed

__all__ = [
    "Part",
    "drawing_for",
    "new_seed",
    "noise_at",
    "own_random_numbers",
    "seed_everything",
    "standard_normal",
]

WORD = 2**32 - 1  # a mask of 32 bits


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


@dataclass(frozen=True)
class Part:
    """The rows ``first`` to ``last`` of a batch of ``whole`` rows, whose random numbers come from
    ``generator``: each of several processes has a part of every batch."""

    first: int
    last: int
    whole: int
    generator: torch.Generator


_PART: ContextVar[Part | None] = ContextVar("part", default=None)


@contextmanager
def drawing_for(part: Part | None) -> Iterator[None]:
    """Random numbers for images are those that the whole batch would get in one process."""
    token = _PART.set(part)
    try:
        yield
    finally:
        _PART.reset(token)


def part_of(n: int) -> Part:
    """The part that ``n`` images are; without ``drawing_for`` they are a batch of their own."""
    part = _PART.get()
    return part if part and part.last - part.first == n else Part(0, n, n, None)


def standard_normal(like: Tensor, n_samples: int, n: int, d: int) -> Tensor:
    """Noise ε for n images, ``[n_samples, n, d]``, from PyTorch's random numbers."""
    part = part_of(n)
    noise = like.new_empty(n_samples, part.whole, d).normal_(generator=part.generator)
    return noise[:, part.first : part.last]


def noise_at(seed: int, positions: Tensor, first: int, last: int) -> Tensor:
    """Standard normal numbers, each a function of the seed, its position and its own number.

    So a position's numbers don't depend on how many others are drawn with them, on other
    positions, or on the device (beyond rounding).

    Shapes: ``positions`` ``[N]``, int64; the result ``[N, last − first]``, the numbers from
    ``first`` on of each position's stream, float32, on the device of ``positions``.

    Source: Salmon et al. (2011), Philox 4×32 with 10 rounds; Box and Muller (1958).
    """
    fours = torch.arange(first // 4, (last + 3) // 4, device=positions.device)
    position, four = torch.broadcast_tensors(positions[:, None], fours)
    counter = (position & WORD, position >> 32, four & WORD, four >> 32)
    bits = torch.stack(philox(counter, (seed & WORD, seed >> 32)), dim=-1)  # (N, fours, 4)
    radius = (-2 * ((bits[..., :2] + 0.5) / 2**32).log()).sqrt()
    angle = bits[..., 2:] * (2 * math.pi / 2**32)
    normal = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1).flatten(start_dim=1)
    return normal[:, first % 4 : first % 4 + last - first]


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Four words of 32 random bits for each counter of four words, as int64."""
    a, b, c, d = counter
    for i in range(10):
        k, m = (key[0] + i * 0x9E3779B9) & WORD, (key[1] + i * 0xBB67AE85) & WORD
        ac, cc = a * 0xD2511F53, c * 0xCD9E8D57  # the 64 bits of a product, its sign among them
        a, b, c, d = (cc >> 32 & WORD) ^ b ^ k, cc & WORD, (ac >> 32 & WORD) ^ d ^ m, ac & WORD
    return a, b, c, d


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
