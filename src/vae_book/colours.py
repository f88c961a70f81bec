"""ColourDigits: small pictures in colour, with a digit anywhere in them, drawn by formula.

A digit in StrokeDigits' hand, of a size between 10 and 18 pixels, in a bright colour,
stands at any place of a dark background that goes over from one colour to another. The same seed
gives the same bytes on every machine: `vae_book.handwriting` says how.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from vae_book import strokes
from vae_book.handwriting import SIZE as CANVAS
from vae_book.handwriting import Drawn, Factor, published

__all__ = ["SHA256", "SIDE", "dataset", "render"]

SIDE = 32  # pixels
N_TRAIN, N_TEST = 12_000, 1_000
SEED_TRAIN, SEED_TEST = 4, 5

# sha256 of training images, training labels (as uint8), test images, test labels.
SHA256 = "53b1addd05c33ebf82613c614793071e8e0f6bc8d2a1dd83fc96489f4259dc88"

# StrokeDigits in other sizes; a smaller digit has a thinner line.
_SMALLER = {
    "scale": Factor("px", 10.0, 18.0, "longer side of the box around the ink"),
    "thickness": Factor("px", 1.5, 2.6, "width of the pen's line"),
    "shift_x": Factor("px", 0.0, 0.0, "none: the place is chosen with the background"),
    "shift_y": Factor("px", 0.0, 0.0, "none: the place is chosen with the background"),
}
_HAND = replace(strokes.HAND, factors=strokes.FACTORS | _SMALLER)


def render(n: int, seed: int) -> Drawn:
    """Draws n pictures: the same bytes for the same seed on every machine.

    Returns images (uint8 [n, 3, 32, 32], 0 … 255, red, green, blue), labels (int64 [n]) and
    factors: those of StrokeDigits, "x" and "y" (int64 [n], the column and row where the digit's
    square of 28 pixels begins, which may lie outside), and colours (float64 [n, 3], 0 … 1):
    "ink", and "paper" and "other paper", from which to which the background goes. The first m of n
    pictures are `render(m, seed)`.

    Raises TypeError or ValueError if n is not a positive or seed not a non-negative integer.
    """
    digits, labels, factors = _HAND.render(n, seed)
    u = np.random.Generator(np.random.PCG64([seed, 2])).random((n, 13))
    shades = {"ink": 0.5 + u[:, :3] / 2, "paper": u[:, 3:6] / 2, "other paper": u[:, 6:9] / 2}
    inked = digits > 0
    places = {name: _place(inked.any(axis=axis), u[:, k]) for name, axis, k in
              (("x", 1, 9), ("y", 2, 10))}  # fmt: skip

    # Each image's square of digits, cut out of a larger sheet of paper.
    ink = np.zeros((n, SIDE, SIDE))
    canvas = np.zeros((n, SIDE + 2 * CANVAS, SIDE + 2 * CANVAS), dtype=np.uint8)
    for k in range(n):
        top, left = CANVAS + places["y"][k], CANVAS + places["x"][k]
        canvas[k, top : top + CANVAS, left : left + CANVAS] = digits[k]
    ink[:] = canvas[:, CANVAS : CANVAS + SIDE, CANVAS : CANVAS + SIDE] / 255

    # 0 … 1 across the picture, in a direction of its own.
    across = (np.arange(SIDE) / (SIDE - 1) - 0.5)[None]
    slope_x, slope_y = 2 * u[:, 11:12] - 1, 2 * u[:, 12:13] - 1
    size = np.abs(slope_x) + np.abs(slope_y)
    blend = 0.5 + (slope_x / size * across)[:, None, :] + (slope_y / size * across)[:, :, None]

    images = np.empty((n, 3, SIDE, SIDE), dtype=np.uint8)
    for c in range(3):
        of = {name: shade[:, c, None, None] for name, shade in shades.items()}
        paper = of["paper"] + blend * (of["other paper"] - of["paper"])
        images[:, c] = np.floor(255 * (paper + ink * (of["ink"] - paper)) + 0.5)
    return images, labels, factors | places | shades


def _place(inked: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Where a digit's square begins on one axis [n], so that all ink is in the picture; from
    whether there is ink at each place of the square [n, 28]."""
    first = inked.argmax(axis=1)
    last = CANVAS - 1 - inked[:, ::-1].argmax(axis=1)
    low, high = -first, SIDE - 1 - last
    return low + np.floor(u * (high - low + 1)).astype(np.int64)


@functools.cache
def dataset() -> tuple[Drawn, Drawn]:
    """The ColourDigits data set: 12,000 training and 1,000 test pictures, as `render` gives.

    Drawn once a process (seconds), checked against the committed hash, and read-only.

    Raises RuntimeError if this machine draws other bytes than the published ones.
    """
    train, test = render(N_TRAIN, SEED_TRAIN), render(N_TEST, SEED_TEST)
    return published("colours", SHA256, train, test)
