"""StrokeDigits: handwriting-like digits drawn by formula, with every factor known.

Ten digits, most of them in two or three styles (a 7 with or without a bar …), are given as
skeletons: a few smooth strokes through control points. Each sample bends its skeleton (wobble),
stretches, slants, turns and scales it, puts its centre of mass into the middle of the image, as
MNIST does, moves it a little, and inks it with a round, soft pen.

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
    published,
    reached,
    soft_edge,
)

__all__ = ["FACTORS", "HAND", "SHA256", "dataset"]

N_TRAIN, N_TEST = 20_000, 4_000
SEED_TRAIN, SEED_TEST = 0, 1

# sha256 of training images, training labels (as uint8), test images, test labels.
SHA256 = "4bd9820d9bde8b2d10c06202439db5cb4c671581643670cf903bec8d22d2e508"

FACTORS: dict[str, Factor] = {
    "slant": Factor("px/px", -0.15, 0.5, "shear: shift to the right for each pixel up"),
    "thickness": Factor("px", 1.5, 3.8, "width of the pen's line"),
    "rotation": Factor("degrees", -12.0, 12.0, "turn, clockwise"),
    "scale": Factor("px", 18.0, 20.0, "longer side of the box around the ink"),
    "aspect": Factor("ratio", 0.85, 1.4, "stretch of the width before slant and rotation"),
    "shift_x": Factor("px", -1.0, 1.0, "the line's centre of mass from the image's, rightwards"),
    "shift_y": Factor("px", -1.0, 1.0, "the line's centre of mass from the image's, downwards"),
    "wobble": Factor("heights", 0.01, 0.065, "how far the strokes stray, in digit heights (std)"),
}

_STYLES: Styles = {
    0: [
        (2, "34,1 12,11 -2,44 6,82 30,100 56,85 66,46 57,13 34,1"),
        (1, "46,12 30,1 9,14 -1,48 8,86 31,99 55,84 64,48 55,16 37,4 24,8"),
    ],
    1: [
        (4, "30,0 30,35 29,68 29,100"),
        (2, "15,24 23,14 30,0 | 30,0 30,35 29,68 29,100"),
        (1, "12,18 20,13 30,0 | 30,0 30,35 29,68 29,99 | 8,100 29,99 52,99"),
    ],
    2: [
        (1, "6,22 16,6 34,0 52,8 55,28 42,55 22,80 4,97 | 4,97 22,95 42,96 63,96"),
        (1, "6,20 18,4 36,0 53,10 53,32 40,62 24,86 9,97 2,90 10,80 26,86 44,97 66,92"),
    ],
    3: [
        (2, "8,13 27,0 50,7 52,27 38,42 22,46 | 22,46 44,49 58,65 53,89 29,100 4,91"),
        (1, "6,5 28,3 54,3 | 54,3 40,22 27,41 | 27,41 48,47 58,70 44,94 22,100 2,92"),
        (1, "9,12 28,0 50,8 48,30 34,45 24,50 23,44 34,46 54,62 54,88 30,100 6,90"),
    ],
    4: [
        (2, "12,2 8,24 5,50 | 5,50 30,52 64,48 | 54,6 50,38 47,70 44,100"),
        (1, "48,0 26,32 2,63 | 2,63 34,62 68,59 | 48,0 46,50 44,100"),
        (2, "10,4 4,30 12,50 32,50 52,32 | 58,0 52,32 47,66 43,100"),
    ],
    5: [
        (2, "62,2 40,4 20,3 | 20,3 17,22 14,42 | 14,42 34,36 55,48 58,74 38,97 4,94"),
        (1, "62,2 40,2 22,10 18,28 32,42 50,56 54,78 40,96 20,100 3,92"),
    ],
    6: [
        (1, "46,0 24,18 8,50 8,82 28,100 51,90 54,68 36,56 18,64 8,80"),
        (1, "34,0 16,32 5,66 14,94 36,99 54,84 50,64 32,60 16,74 12,90"),
    ],
    7: [
        (2, "4,8 30,6 58,3 | 58,3 42,44 32,72 26,100"),
        (1, "4,8 30,6 58,3 | 58,3 42,44 32,72 26,100 | 16,53 36,50 58,48"),
        (1, "3,20 7,6 32,8 60,3 | 60,3 46,34 38,66 34,100"),
    ],
    8: [
        (2, "52,14 34,0 14,12 20,34 40,52 52,74 38,98 14,92 10,72 28,50 48,32 52,14"),
        (1, "30,1 13,13 15,35 31,47 47,34 48,12 30,1 | 31,47 10,62 9,88 30,100 52,86 50,60 31,47"),
        (1, "56,6 34,1 14,14 22,36 44,54 50,78 34,99 12,88 14,66 34,46 54,24 58,4"),
    ],
    9: [
        (2, "52,12 34,0 12,12 8,34 24,48 44,38 52,12 | 52,12 50,42 47,70 44,100"),
        (1, "50,16 34,1 13,12 8,32 24,46 44,36 52,12 | 52,12 54,44 48,82 30,99 8,90"),
    ],
}


def _pen_size(factors: Values) -> tuple[np.ndarray, np.ndarray]:
    return factors["thickness"], factors["thickness"]


def _ink(
    x: np.ndarray, y: np.ndarray, down: np.ndarray, factors: Values, noise: np.ndarray
) -> np.ndarray:
    """Ink of a round pen (see `Hand`)."""
    n, thickness = x.shape[1], factors["thickness"]
    pixel = np.arange(SIZE, dtype=np.float64)[:, None]
    reach = float(thickness.max()) / 2 + EDGE / 2
    nearest = np.full((SIZE, SIZE, n), 1e3)  # squared distance to the nearest position of the pen
    scratch = np.empty_like(nearest)
    (low_x, high_x), (low_y, high_y) = reached(x, reach), reached(y, reach)
    for k in range(len(x)):
        rows, columns = slice(low_y[k], high_y[k]), slice(low_x[k], high_x[k])
        to_x, to_y = pixel[columns] - x[k], pixel[rows] - y[k]
        near, new = nearest[rows, columns], scratch[rows, columns]
        np.add((to_y * to_y)[:, None], (to_x * to_x)[None], out=new)
        np.minimum(near, new, out=near)
    return soft_edge(thickness / 2 - np.sqrt(nearest)).transpose(2, 0, 1)


#: How these digits are written: ``HAND.render(n, seed)`` draws n of them.
HAND = Hand(_STYLES, FACTORS, _pen_size, _ink)


@functools.cache
def dataset() -> tuple[Drawn, Drawn]:
    """The StrokeDigits data set: 20,000 training and 4,000 test digits, as `HAND.render` gives.

    Drawn once a process (a second or two), checked against the committed hash, and read-only.

    Raises RuntimeError if this machine draws other bytes than the published ones.
    """
    train, test = HAND.render(N_TRAIN, SEED_TRAIN), HAND.render(N_TEST, SEED_TEST)
    return published("strokes", SHA256, train, test)
