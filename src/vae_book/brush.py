"""BrushDigits: a third set of digits, in other hands and with another pen than StrokeDigits.

No number in the book was chosen with it, so what holds here was not tuned to hold. The digits are
drawn by formula as StrokeDigits are, but every skeleton is another, and so is the pen: a flat nib,
like a broad fountain pen's, held at an angle. It draws a wide line across its edge and a thin one
along it. Pressure on it varies, and its ink fades along the line.

The same seed gives the same bytes on every machine: `vae_book.handwriting` says how.
"""

from __future__ import annotations

import functools

import numpy as np

from vae_book.handwriting import (
    EDGE,
    SIZE,
    Drawn,
    Factor,
    Hand,
    Styles,
    Values,
    lengths,
    published,
    reached,
    sin_cos,
    soft_edge,
)

__all__ = ["FACTORS", "HAND", "SHA256", "dataset"]

N_TRAIN, N_TEST = 20_000, 4_000
SEED_TRAIN, SEED_TEST = 2, 3

# sha256 of training images, training labels (as uint8), test images, test labels.
SHA256 = "2f33c08354dde91c5f57207b288150b80b558f00a3fe75f3e08740ce308d5285"

FACTORS: dict[str, Factor] = {
    "slant": Factor("px/px", -0.3, 0.6, "shear: shift to the right for each pixel up"),
    "rotation": Factor("degrees", -15.0, 15.0, "turn, clockwise"),
    "scale": Factor("px", 15.0, 21.0, "longer side of the box around the ink, without unevenness"),
    "aspect": Factor("ratio", 0.75, 1.4, "stretch of the width before slant and rotation"),
    "shift_x": Factor("px", -2.0, 2.0, "the line's centre of mass from the image's, rightwards"),
    "shift_y": Factor("px", -2.0, 2.0, "the line's centre of mass from the image's, downwards"),
    "wobble": Factor("heights", 0.01, 0.06, "how far the strokes stray, in digit heights (std)"),
    "nib_width": Factor("px", 2.4, 5.0, "width of the line that is drawn across the nib's edge"),
    "nib_flatness": Factor("ratio", 1.4, 3.4, "that width over the line's width along the edge"),
    "nib_angle": Factor("degrees", 10.0, 60.0, "rise of the nib's edge to the right"),
    "ink": Factor("ratio", 0.6, 1.0, "darkness where the line begins"),
    "fade": Factor("ratio", 0.0, 0.3, "share of the darkness that is lost by the line's end"),
    "uneven": Factor("ratio", 0.0, 0.25, "how far the pressure strays along the line"),
}

# Styles of each digit, written as `handwriting.Styles` says.
_STYLES: Styles = {
    0: [
        (2, "29,0 14,13 8,48 15,87 30,100 44,86 50,48 43,13 29,0"),
        (2, "22,5 1,32 3,76 30,100 58,80 64,36 45,3 22,2 10,14"),
        (1, "33,0 9,15 0,50 9,86 33,100 57,84 65,50 56,15 33,0 | 53,18 33,50 12,84"),
    ],
    1: [
        (2, "6,34 20,19 36,0 | 36,0 35,34 34,68 33,100"),
        (1, "34,0 31,38 29,78 36,99 48,91"),
        (2, "14,16 24,11 33,1 | 33,1 33,50 32,98 | 12,98 32,98 52,97"),
        (1, "26,0 31,32 31,70 27,100"),
    ],
    2: [
        (2, "4,28 13,5 38,0 55,19 46,47 26,72 6,94 | 6,94 24,85 44,99 64,89"),
        (1, "6,10 28,1 55,8 | 55,8 35,46 5,95 | 5,95 34,97 62,93"),
        (2, "8,26 20,3 44,2 55,24 42,54 22,83 6,90 6,77 22,77 42,96 65,85"),
    ],
    3: [
        (2, "4,20 15,3 39,0 53,16 44,38 24,47 | 24,47 50,53 59,77 43,98 18,100 2,85"),
        (1, "6,4 32,2 57,2 | 57,2 44,20 30,38 | 30,38 55,47 61,72 40,98 14,99 0,86"),
        (1, "3,14 22,0 45,7 45,29 29,43 17,44 20,38 38,46 58,68 50,94 22,102 0,93"),
    ],
    4: [
        (2, "18,0 11,28 3,58 | 3,58 34,56 64,53 | 47,24 44,60 41,100"),
        (2, "45,0 22,33 0,69 | 0,69 34,69 66,66 | 45,0 45,50 44,100"),
        (1, "8,3 2,33 13,53 38,50 57,30 | 62,2 57,30 51,64 46,100"),
        (1, "50,100 51,50 53,2 | 53,2 29,32 3,62 | 3,62 26,66 66,60"),
    ],
    5: [
        (2, "22,4 18,24 14,46 | 14,46 36,38 56,51 57,78 36,99 4,95 | 22,4 42,4 64,0"),
        (1, "57,6 34,0 15,13 20,36 44,49 55,70 40,95 6,98"),
        (2, "54,1 18,1 | 18,1 13,41 | 13,41 40,39 52,66 38,96 5,100"),
    ],
    6: [
        (2, "54,1 26,26 7,62 13,91 34,100 54,85 48,62 28,57 9,72"),
        (2, "51,11 39,0 18,15 4,52 8,88 32,100 55,82 48,58 24,51 7,68"),
        (1, "22,0 12,34 8,72 18,98 42,98 53,78 41,61 22,64 10,82"),
    ],
    7: [
        (2, "2,18 6,3 34,4 62,0 | 62,0 43,40 29,100 | 18,49 40,46 62,43"),
        (1, "0,15 14,2 36,10 61,2 | 61,2 41,36 29,70 24,100"),
        (1, "2,2 30,2 59,2 | 59,2 40,50 19,100"),
        (1, "0,6 30,4 60,4 | 60,4 36,32 27,64 26,100"),
    ],
    8: [
        (1, "30,0 13,9 12,33 30,45 48,33 46,9 30,0 | 30,45 7,58 6,87 30,100 55,87 53,58 30,45"),
        (2, "30,46 10,27 23,2 45,6 47,28 30,46 10,66 9,90 32,100 52,88 49,64 30,46"),
        (1, "56,11 34,0 13,14 18,35 46,58 53,84 28,100 7,86 16,62 42,34 63,1"),
    ],
    9: [
        (2, "54,11 30,0 8,14 8,38 28,50 48,37 54,11 | 54,11 53,54 51,100"),
        (2, "54,24 40,2 16,4 4,27 18,48 42,44 54,24 | 54,24 56,60 43,93 18,100 3,89"),
        (1, "50,22 34,3 13,11 7,31 22,46 44,34 54,6 | 54,6 45,54 23,100"),
    ],
}

_N_KNOTS = 6  # places along the line with a pressure of their own, from its beginning to its end


def _nib(factors: Values) -> tuple[np.ndarray, ...]:
    """Length of the nib's edge, its thickness, and sine and cosine of its angle."""
    thin = factors["nib_width"] / factors["nib_flatness"]
    return factors["nib_width"] - thin, thin, *sin_cos(factors["nib_angle"])


def _pen_size(factors: Values) -> tuple[np.ndarray, np.ndarray]:
    length, thin, sin, cos = _nib(factors)
    return length * cos + thin, length * sin + thin


def _progress(x: np.ndarray, y: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Share [P, B] of the line that is drawn when the pen gets to each of its positions."""
    drawn = np.zeros_like(x)
    np.cumsum(lengths(x, y) * down[:, None], axis=0, out=drawn[1:])
    return drawn / drawn[-1]


def _pressure(progress: np.ndarray, uneven: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The pen's pressure [P, B], 1 ± uneven: straight lines between random knots [B, _N_KNOTS]."""
    waver = np.zeros_like(progress)
    for k in range(_N_KNOTS):
        near = 1 - np.abs(progress * (_N_KNOTS - 1) - k)
        waver = waver + np.maximum(near, 0.0) * (2 * noise[:, k] - 1)
    return 1 + uneven * waver


def _ink(
    x: np.ndarray, y: np.ndarray, down: np.ndarray, factors: Values, noise: np.ndarray
) -> np.ndarray:
    """Ink of a flat nib (see `Hand`): its edge is a segment with a thin round pen all along it."""
    n, pixel = x.shape[1], np.arange(SIZE, dtype=np.float64)[:, None]
    length, thin, sin, cos = _nib(factors)
    progress = _progress(x, y, down)
    pressure = _pressure(progress, factors["uneven"], noise)
    # More pressure: more of the edge on the paper, and more ink.
    half_edge = length * pressure / 2
    dark = np.minimum(factors["ink"] * (1 - factors["fade"] * progress) * pressure, 1.0)

    nearest = np.full((SIZE, SIZE, n), 1e3)  # squared distance to the nearest place of the edge …
    darkness = np.zeros_like(nearest)  # … and how dark the ink was there
    rim = float(thin.max()) / 2 + EDGE / 2
    low_x, high_x = reached(x, float((half_edge * cos).max()) + rim)
    low_y, high_y = reached(y, float((half_edge * sin).max()) + rim)
    for k in range(len(x)):
        rows, columns = slice(low_y[k], high_y[k]), slice(low_x[k], high_x[k])
        to_x, to_y = pixel[columns] - x[k], pixel[rows] - y[k]
        along = (to_x * cos)[None] - (to_y * sin)[:, None]
        across = (to_x * sin)[None] + (to_y * cos)[:, None]
        np.abs(along, out=along)
        along -= half_edge[k]
        np.maximum(along, 0.0, out=along)
        along *= along
        across *= across
        along += across
        near = nearest[rows, columns]
        np.copyto(darkness[rows, columns], dark[k], where=along < near)
        np.minimum(near, along, out=near)
    return (darkness * soft_edge(thin / 2 - np.sqrt(nearest))).transpose(2, 0, 1)


#: How these digits are written: ``HAND.render(n, seed)`` draws n of them.
HAND = Hand(_STYLES, FACTORS, _pen_size, _ink, _N_KNOTS)


@functools.cache
def dataset() -> tuple[Drawn, Drawn]:
    """The BrushDigits data set: 20,000 training and 4,000 test digits, as `HAND.render` gives.

    Drawn once a process (a few seconds), checked against the committed hash, and read-only.

    Raises RuntimeError if this machine draws other bytes than the published ones.
    """
    train, test = HAND.render(N_TRAIN, SEED_TRAIN), HAND.render(N_TEST, SEED_TEST)
    return published("brush", SHA256, train, test)
