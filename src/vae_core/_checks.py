"""Checks of what callers pass in. Every message names the argument, what came and what was
expected."""

from __future__ import annotations

import math
from numbers import Integral, Real

from torch import Tensor


def describe(value: object) -> str:
    """One short phrase for an error message: type, and shape and dtype of a tensor."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return f"{value!r} ({type(value).__name__})"


def positive_int(value: object, name: str) -> int:
    """``value`` as an int of at least 1, or an error that names the argument ``name``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected an integer of at least 1, got {describe(value)}")
    if value < 1:
        raise ValueError(f"{name}: expected an integer of at least 1, got {value}")
    return int(value)


def positive_float(value: object, name: str) -> float:
    """``value`` as a finite float above 0, or an error that names the argument ``name``."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number above 0, got {describe(value)}")
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name}: expected a finite number above 0, got {value}")
    return float(value)


def checked_seed(value: object) -> int:
    """``value`` as an int of at least 0 and below 2**63, or an error that names ``seed``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"seed: expected an integer of at least 0, got {describe(value)}")
    if value < 0:
        raise ValueError(f"seed: expected an integer of at least 0, got {value}")
    if value >= 2**63:
        raise ValueError(f"seed: expected an integer below 2**63, got {value}")
    return int(value)


def tuple_of(values: object, name: str) -> tuple:
    """``values`` as a tuple, or an error that names the argument ``name``."""
    try:
        return tuple(values)
    except TypeError as error:
        raise TypeError(f"{name}: expected a sequence, got {describe(values)}") from error
