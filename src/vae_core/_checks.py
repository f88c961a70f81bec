"""Checks of what callers pass in. Every message names the argument, what came and what was
expected, and never shows an array's contents."""

from __future__ import annotations

import math
from numbers import Integral, Real


def describe(value: object) -> str:
    """One short phrase for an error message: the type, and shape and dtype of an array."""
    kind = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        dtype = str(value.dtype).removeprefix("torch.")
        article = "an" if dtype[0] in "io" else "a"
        noun = "array" if kind == "ndarray" else "tensor"
        return f"{article} {dtype} {noun} of shape {tuple(value.shape)}"
    if value is None or isinstance(value, bool | Real | str):
        return f"{value!r} ({kind})"
    return f"a {kind} of length {len(value)}" if hasattr(value, "__len__") else f"a {kind}"


def positive_int(value: object, name: str) -> int:
    """``value`` as an int of at least 1, or an error that names the argument ``name``."""
    return _int_from(value, 1, name)


def checked_seed(value: object, name: str = "seed") -> int:
    """``value`` as an int of at least 0 and below 2**63, or an error that names the argument."""
    seed = _int_from(value, 0, name)
    if seed >= 2**63:
        raise ValueError(f"{name}: expected an integer below 2**63, got {seed}")
    return seed


def _int_from(value: object, least: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected an integer of at least {least}, got {describe(value)}")
    if value < least:
        raise ValueError(f"{name}: expected an integer of at least {least}, got {value}")
    return int(value)


def positive_float(value: object, name: str) -> float:
    """``value`` as a finite float above 0, or an error that names the argument ``name``."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number above 0, got {describe(value)}")
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name}: expected a finite number above 0, got {value}")
    return float(value)
