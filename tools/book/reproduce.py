"""Run the notebooks on MNIST again, and compare with what is stored."""

import re
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode

from .kernel import refuse_without_mnist, run
from .pages import Refused, code_cells, pages, read_notebook, texts_of

TOLERANCE = 0.1
MEASURED = re.compile(r"⟨([^⟩]*)⟩")
NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?")
HOW_MADE = re.compile("(?:weights )?stored with the book|trained now")
BELOW = re.compile(r", (?:above \S+ and )?below (\S+)")


def reproduce(root: Path, chapter: str | None) -> int:
    """Run notebooks on MNIST and compare with what is stored; the number of differences."""
    chosen, count = pages(root, chapter), 0
    refuse_without_mnist()
    for page in chosen:
        print(f"{page.name}: running", flush=True)
        stored = read_notebook(page.ipynb)
        try:
            found = list(differences(stored, run(stored, page.md.parent, stored="ignore")))
        except Refused as error:
            found = [str(error)]
        for difference in found:
            print(f"{page.ipynb.relative_to(root)}, {difference}")
        count += len(found)
        measured = sum(
            len(MEASURED.findall(text)) for cell in code_cells(stored) for _, text in texts_of(cell)
        )
        print(f"{page.name}: {measured} measured values compared, {len(found)} differences")
    return count


def differences(stored: NotebookNode, got: NotebookNode) -> Iterator[str]:
    """What differs between the text of two runs: each time, which cell, and both versions."""
    pairs = zip(code_cells(stored), code_cells(got), strict=True)
    for number, (old, new) in enumerate(pairs, start=1):
        old_texts, new_texts = texts_of(old), texts_of(new)
        kinds, new_kinds = [k for k, _ in old_texts], [k for k, _ in new_texts]
        if kinds != new_kinds:
            yield f"code cell {number}\n  stored: {kinds or 'no output'}\n  got:    {new_kinds}"
            continue
        for (_, before), (_, now) in zip(old_texts, new_texts, strict=True):
            for a, b in compare(before, now):
                yield f"code cell {number}\n  stored: {a}\n  got:    {b}"


def compare(stored: str, got: str) -> list[tuple[str, str]]:
    """The differing parts: what is between ⟨ and ⟩ within the tolerance, the rest exactly."""
    old, new = MEASURED.split(stored), MEASURED.split(got)
    if old[::2] != new[::2]:
        lines = zip(stored.splitlines(), got.splitlines(), strict=False)
        masked = (pair for pair in lines if MEASURED.sub("", pair[0]) != MEASURED.sub("", pair[1]))
        return [next(masked, (stored, got))]
    pairs = zip(old[1::2], new[1::2], old[2::2], strict=True)
    return [(f"⟨{a}⟩", f"⟨{b}⟩") for a, b, after in pairs if not agree(a, b, bound(after))]


def bound(after: str) -> float:
    """The bound that ``claim`` printed after a value said to lie below it; 0 if there is none."""
    found = BELOW.match(after)
    return float(found[1]) if found else 0.0


def agree(stored: str, got: str, bound: float = 0.0) -> bool:
    """Same words, and numbers within 10 % or one unit of the last printed digit.

    Whether a result was stored or trained now may differ.

    10 % of the value, or of the bound that it was claimed to lie below: how far a rounding error
    of 1e-7 lies below 1e-5 differs from one processor to the next.
    """
    if HOW_MADE.fullmatch(stored) and HOW_MADE.fullmatch(got):
        return True
    words, new_words = (" ".join(NUMBER.sub(" # ", text).split()) for text in (stored, got))
    if words != new_words:
        return False
    pairs = zip(NUMBER.findall(stored), NUMBER.findall(got), strict=True)
    return all(
        abs(value(a) - value(b))
        <= 1.000001 * max(TOLERANCE * max(abs(value(a)), bound), unit(a), unit(b))
        for a, b in pairs
    )


def value(number: str) -> float:
    return float(number.replace(",", "").replace("−", "-"))


def unit(number: str) -> float:
    """One unit of the last printed digit: 0.01 for 1.25, 100 for 1.2e3."""
    mantissa, _, exponent = number.lower().partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
