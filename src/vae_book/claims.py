"""``claim``: a sentence about a measurement that stops the notebook when it isn't true.

``check`` gathers the claims of a section in one folded list.
"""

from __future__ import annotations

import html
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vae_book.data import NAMES, last_loaded

__all__ = ["ClaimFailed", "check", "claim"]

SWITCH = "VAE_CORE_CLAIMS"
# As the text calls them; a data set that isn't here goes by its own name.
TITLES = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "kmnist": "KMNIST",
    "strokes": "StrokeDigits",
    "brush": "BrushDigits",
}


class ClaimFailed(AssertionError):
    """A claim of the text isn't borne out by what was measured."""


@dataclass(frozen=True)
class _Judged:
    """A claim's sentence, whether it holds (None: not judged), and whether it is about all data."""

    sentence: str
    holds: bool | None
    general: bool

    @property
    def line(self) -> str:
        mark = {True: "✓", False: "✗", None: "–"}[self.holds]
        return f"{mark if self.general else f'⟨{mark}⟩'} {self.sentence}"


_gathered: list[_Judged] | None = None  # the claims of the `check` that is open


def claim(
    quantity: str,
    value: float,
    *,
    above: float | None = None,
    below: float | None = None,
    only: str | tuple[str, ...] = (),
) -> None:
    """Assert that a measured value lies above and/or below a bound, and print the sentence.

    The sentence is made from the arguments, so text and bound can't drift apart. The measured
    value stands between ⟨ and ⟩, which tells the tests that it may differ between data sets and
    seeds while everything around it may not.

    ``only`` names the data set that the claim is about, or several: where `vae_book.data.load`
    gave another one last, the sentence is printed with its value but not judged.

    Inside `check` the sentence joins the list that is shown at the end of the block.
    ``$VAE_CORE_CLAIMS`` is "collect" to mark what fails with ✗ and go on (``make claims`` does).

    Raises: ``ClaimFailed`` where the value is on the wrong side, or NaN; TypeError or ValueError
    where no bound is given, the value isn't one number, or ``only`` isn't names of data sets.
    """
    judged = _judge(quantity, value, above, below, only)
    if _gathered is not None:
        _gathered.append(judged)
        return
    _stop_at_failures([judged])
    print(judged.line)


@contextmanager
def check(label: str) -> Iterator[None]:
    """Gather the claims of a ``with`` block, and show them as one list, folded in a notebook.

    The fold's summary says how many hold of those that were judged; plain Python prints the
    sentences, one a line, as `claim` does.

    Raises: ``ClaimFailed`` at the end of the block, after the list was shown, naming every claim
    that failed; RuntimeError inside another `check`; ValueError for a block without a claim. An
    error inside the block passes through, and then nothing is shown.
    """
    global _gathered
    if _gathered is not None:
        raise RuntimeError(f"check({label!r}): expected to stand outside any other check")
    _gathered = gathered = []
    try:
        yield
    finally:
        _gathered = None
    if not gathered:
        raise ValueError(f"check({label!r}): expected at least one claim in the block, got none")
    _show(label, gathered)
    _stop_at_failures(gathered)


def _judge(
    quantity: str,
    value: float,
    above: float | None,
    below: float | None,
    only: str | tuple[str, ...],
) -> _Judged:
    if above is None and below is None:
        raise ValueError("above, below: expected at least one bound, got none")
    if above is not None and below is not None and not above < below:
        raise ValueError(f"above: expected less than below = {below:g}, got {above:g}")
    about = (only,) if isinstance(only, str) else only
    if not set(about) <= set(NAMES):
        raise ValueError(f"only: expected one of {', '.join(NAMES)}, or several, got {only!r}")
    try:
        # Of a tensor with a gradient float() warns.
        number = float(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"value: expected one number, got {value!r}") from error

    bounds = []
    if above is not None:
        bounds.append(f"above {above:g}")
    if below is not None:
        bounds.append(f"below {below:g}")
    where = f" (on {' and '.join(TITLES.get(name, name) for name in about)})" if about else ""
    sentence = f"{quantity}: ⟨{number:.4g}⟩, {' and '.join(bounds)}{where}"
    if about and last_loaded() not in about:
        return _Judged(sentence, None, general=False)
    holds = (
        not math.isnan(number)
        and (above is None or number > above)
        and (below is None or number < below)
    )
    return _Judged(sentence, holds, general=not about)


def _stop_at_failures(claims: list[_Judged]) -> None:
    how = os.environ.get(SWITCH, "")
    if how not in ("", "collect"):
        raise ValueError(f"{SWITCH}: expected collect or nothing, got {how!r}")
    failed = [judged.sentence for judged in claims if judged.holds is False]
    if failed and not how:
        raise ClaimFailed(f"not true here: {'; '.join(failed)}")


def _show(label: str, claims: list[_Judged]) -> None:
    """Display the list, folded, in a notebook; print its lines elsewhere."""
    plain = "\n".join(judged.line for judged in claims)
    if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None:
        print(plain)
        return
    from IPython.display import display

    display({"text/html": _as_html(label, claims), "text/plain": plain}, raw=True)


def _as_html(label: str, claims: list[_Judged]) -> str:
    """What is on the page but not between ⟨ and ⟩ is the same for every data set and seed."""
    hold = sum(judged.holds is True for judged in claims)
    judged = sum(judged.holds is not None for judged in claims)
    items = "".join(f"<li>{html.escape(judged.line)}</li>" for judged in claims)
    summary = f"Check: {html.escape(label)}: ⟨{hold}⟩ of ⟨{judged}⟩ hold"
    return f'<details class="claims"><summary>{summary}</summary><ul>{items}</ul></details>'
