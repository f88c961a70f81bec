"""Schedules: plain functions of the step, counted from 0, for ``fit``'s ``lr`` and ``weights``."""

from __future__ import annotations

import math
from collections.abc import Callable

from vae_core._checks import positive_float, positive_int

__all__ = ["one_cycle", "warm_up"]


def warm_up(steps: int) -> Callable[[int], float]:
    """A weight that rises evenly from 0 to 1 over ``steps`` steps and then stays.

    Source: Bowman et al. (2016), for the weight of the KL.
    """
    steps = positive_int(steps, "steps")
    return lambda step: min(1.0, step / steps)


def one_cycle(steps: int, peak: float) -> Callable[[int], float]:
    """A learning rate that rises to ``peak`` over 30 % of the steps and falls to almost 0.

    Both ways it follows half a cosine: from peak / 25, and to peak / 250,000.

    Source: Smith and Topin (2019).
    """
    steps, peak = positive_int(steps, "steps"), positive_float(peak, "peak")
    top = 0.3 * steps

    def rate(step: int) -> float:
        if step < top:
            low, way = peak / 25, step / top
        else:
            low, way = peak / 250_000, 1 - (step - top) / (steps - top)
        return low + (peak - low) * (1 - math.cos(math.pi * max(way, 0.0))) / 2

    return rate
