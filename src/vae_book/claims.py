"""``claim``: a sentence about a measurement that stops the notebook when it isn't true."""

from __future__ import annotations

import math

__all__ = ["ClaimFailed", "claim"]


class ClaimFailed(AssertionError):
    """A claim of the text isn't borne out by what was measured."""


def claim(
    quantity: str,
    value: float,
    *,
    above: float | None = None,
    below: float | None = None,
) -> None:
    """Assert that a measured value lies above and/or below a bound, and print the sentence.

    The sentence is made from the arguments, so text and bound can't drift apart. The measured
    value stands between ⟨ and ⟩, which tells the tests that it may differ between data sets and
    seeds while everything around it may not.

    Raises: ``ClaimFailed`` where the value is on the wrong side, or NaN; TypeError or ValueError
    where no bound is given, or the value isn't one number.
    """
    if above is None and below is None:
        raise ValueError("above, below: expected at least one bound, got none")
    if above is not None and below is not None and not above < below:
        raise ValueError(f"above: expected less than below = {below:g}, got {above:g}")
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"value: expected one number, got {value!r}") from error

    bounds = []
    if above is not None:
        bounds.append(f"above {above:g}")
    if below is not None:
        bounds.append(f"below {below:g}")
    sentence = f"{quantity}: ⟨{number:.4g}⟩, {' and '.join(bounds)}"
    holds = (
        not math.isnan(number)
        and (above is None or number > above)
        and (below is None or number < below)
    )
    if not holds:
        raise ClaimFailed(f"not true here: {sentence}")
    print(f"✓ {sentence}")
