"""StrokeDigits: handwriting-like digits drawn by formula, with every factor known.

Ten digits, most of them in two or three styles (a 7 with or without a bar …), are given as
skeletons: a few smooth strokes through control points. Each sample bends its skeleton (wobble),
stretches, slants, turns and scales it, puts its centre of mass into the middle of the image, as
MNIST does, moves it a little, and inks it with a round, soft pen.

The same seed gives the same bytes on every machine. The only randomness is `Generator.random`,
and everything after it is made of + − × ÷ √, minima and sums in a fixed order, all in float64,
which IEEE 754 rounds alike everywhere; there is one rounding to uint8 at the end.
"""

from __future__ import annotations

import functools
import hashlib
from typing import NamedTuple

import numpy as np

__all__ = [
    "FACTORS",
    "N_STYLES",
    "SHA256",
    "Factor",
    "dataset",
    "describe",
    "draw",
    "render",
    "sha256",
]

SIZE = 28  # pixels
N_TRAIN, N_TEST = 20_000, 4_000
SEED_TRAIN, SEED_TEST = 0, 1

# sha256 of training images, training labels (as uint8), test images, test labels.
SHA256 = "4bd9820d9bde8b2d10c06202439db5cb4c671581643670cf903bec8d22d2e508"


# Images uint8 [N, 28, 28], labels int64 [N], factors by name [N].
Drawn = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]


class Factor(NamedTuple):
    """A factor of variation: its unit, its range (uniform between low and high) and its meaning."""

    unit: str
    low: float
    high: float
    meaning: str


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

# Styles of each digit: (weight, strokes). A stroke is a smooth curve through its points, given as
# "x,y x,y …" in hundredths of the digit's height, y downwards; strokes are separated by "|".
# Points that coincide stay together when the digit wobbles.
_STYLES: dict[int, list[tuple[float, str]]] = {
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

_SPACING = 0.03  # between the pen's positions, in digit heights: about half a pixel
_EDGE = 1.3  # width of the pen's soft edge, px
_CHUNK = 64  # images drawn together: few enough for the processor's cache
_N_BENDS, _N_JOINTS = 8, 20  # random numbers a sample has for its wobble: bends, and joints (x, y)


class _Skeleton(NamedTuple):
    joints: np.ndarray  # [J, 2] the control points that differ, in digit heights
    index: np.ndarray  # [4, P] the four joints that each position of the pen is made of …
    weight: np.ndarray  # [4, P] … and how much of each
    down: np.ndarray  # [P - 1] 1 where the pen draws on to the next position, 0 where it is lifted


def _parse(text: str) -> _Skeleton:
    joints: list[tuple[float, float]] = []
    index, weight, down = [], [], []
    for stroke in text.split("|"):
        points = [tuple(float(v) / 100 for v in point.split(",")) for point in stroke.split()]
        joints += [p for p in dict.fromkeys(points) if p not in joints]
        ids = [joints.index(p) for p in points]
        # Catmull-Rom: a cubic between two points, with slopes taken from their neighbours.
        closed = ids[0] == ids[-1]
        around = [ids[-2] if closed else ids[0], *ids, ids[1] if closed else ids[-1]]
        for k, ((x0, y0), (x1, y1)) in enumerate(zip(points[:-1], points[1:], strict=True)):
            steps = max(2, round(float(np.sqrt((x1 - x0) ** 2 + (y1 - y0) ** 2)) / _SPACING))
            is_last = k == len(points) - 2
            t = np.arange(steps + is_last) / steps
            t2, t3 = t * t, t * t * t
            cubic = (-t + 2 * t2 - t3, 2 - 5 * t2 + 3 * t3, t + 4 * t2 - 3 * t3, t3 - t2)
            weight.append(np.stack(cubic) / 2)
            index.append(np.repeat(np.array(around[k : k + 4])[:, None], len(t), axis=1))
            down.append(np.ones(len(t)))
        down[-1][-1] = 0.0
    return _Skeleton(
        np.array(joints),
        np.concatenate(index, axis=1),
        np.concatenate(weight, axis=1),
        np.concatenate(down)[:-1],
    )


_SKELETONS = {digit: [_parse(text) for _, text in styles] for digit, styles in _STYLES.items()}
N_STYLES = {digit: len(styles) for digit, styles in _STYLES.items()}


def _sin_cos(degrees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sine and cosine of small angles by their series: library versions differ in the last bit."""
    a = degrees * (np.pi / 180)
    b = a * a
    sin = a * (1 - b / 6 * (1 - b / 20 * (1 - b / 42 * (1 - b / 72))))
    cos = 1 - b / 2 * (1 - b / 12 * (1 - b / 30 * (1 - b / 56)))
    return sin, cos


def _trace(
    skeleton: _Skeleton, factors: dict[str, np.ndarray], noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The pen's positions [P, B] in pixels, x and y, for B samples of one skeleton."""
    jx, jy = (c[:, None] for c in skeleton.joints.T)
    n_joints = len(jx)
    # Wobble: bends of the whole plane (Legendre polynomials, so that what they do is neither
    # shift nor slant nor scale), and each joint by itself; variances 0.7 and 0.3 of wobble².
    noise = (2 * noise - 1) * np.sqrt(3.0)  # uniform with mean 0, variance 1
    bends = noise[:, :_N_BENDS].T * np.sqrt(0.7 / 4)
    shakes = noise[:, _N_BENDS:].T * np.sqrt(0.3)
    h, v = (jx - 0.3) / 0.3, (jy - 0.5) / 0.5
    shapes = (
        np.sqrt(5.0) * (1.5 * v * v - 0.5),
        np.sqrt(7.0) * (2.5 * v * v * v - 1.5 * v),
        np.sqrt(5.0) * (1.5 * h * h - 0.5),
        3.0 * h * v,
    )
    dx, dy = shakes[:n_joints], shakes[_N_JOINTS : _N_JOINTS + n_joints]
    for k, shape in enumerate(shapes):
        dx = dx + bends[k] * shape
        dy = dy + bends[k + 4] * shape
    jx, jy = jx + factors["wobble"] * dx, jy + factors["wobble"] * dy

    # Stretch, slant, turn: about any point, for the position is set below.
    jx = (jx - 0.3) * factors["aspect"] - (jy - 0.5) * factors["slant"]
    jy = jy - 0.5
    sin, cos = _sin_cos(factors["rotation"])
    jx, jy = jx * cos - jy * sin, jx * sin + jy * cos

    x, y = (
        sum(w[:, None] * j[i] for i, w in zip(skeleton.index, skeleton.weight, strict=True))
        for j in (jx, jy)
    )
    width, height = x.max(0) - x.min(0), y.max(0) - y.min(0)
    zoom = (factors["scale"] - factors["thickness"]) / np.maximum(width, height)
    x, y = x * zoom, y * zoom

    # Centre of mass of the line; pixel 0's centre is at 0, so the image's centre is at 13.5.
    step_x, step_y = x[1:] - x[:-1], y[1:] - y[:-1]
    mass = np.sqrt(step_x * step_x + step_y * step_y) * skeleton.down[:, None]
    total, centre = mass.sum(0), (SIZE - 1) / 2
    x = x + (centre + factors["shift_x"] - (mass * (x[1:] + x[:-1]) / 2).sum(0) / total)
    y = y + (centre + factors["shift_y"] - (mass * (y[1:] + y[:-1]) / 2).sum(0) / total)
    return x, y


def _ink(x: np.ndarray, y: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """Images [B, SIZE, SIZE], 0 … 255, of a pen that was at x, y [P, B]."""
    n = x.shape[1]
    pixel = np.arange(SIZE, dtype=np.float64)[:, None]
    reach = float(thickness.max()) / 2 + _EDGE / 2
    nearest = np.full((SIZE, SIZE, n), 1e3)  # squared distance to the nearest position of the pen
    scratch = np.empty_like(nearest)
    low_x, low_y = (np.clip(np.ceil(c.min(1) - reach), 0, SIZE).astype(int) for c in (x, y))
    high_x, high_y = (np.clip(np.floor(c.max(1) + reach) + 1, 0, SIZE).astype(int) for c in (x, y))
    for k in range(len(x)):
        rows, columns = slice(low_y[k], high_y[k]), slice(low_x[k], high_x[k])
        to_x, to_y = pixel[columns] - x[k], pixel[rows] - y[k]
        near, new = nearest[rows, columns], scratch[rows, columns]
        np.add((to_y * to_y)[:, None], (to_x * to_x)[None], out=new)
        np.minimum(near, new, out=near)
    edge = (thickness / 2 - np.sqrt(nearest)) / _EDGE + 0.5
    edge = np.minimum(np.maximum(edge, 0.0), 1.0)
    ink = edge * edge * (3 - 2 * edge)  # smooth from no ink to full ink
    return np.floor(255 * ink + 0.5).astype(np.uint8).transpose(2, 0, 1)


def describe(n: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """What `render(n, seed)` will draw: labels [n], factors, and the wobble's noise [n, 48].

    Cheap, since nothing is drawn. The first m samples are those of `describe(m, seed)`. Raises as
    `render` does.
    """
    _check_count("n", n, low=1)
    _check_count("seed", seed, low=0)
    # Balanced labels: the ten digits in a new order for every ten samples.
    order = np.random.Generator(np.random.PCG64(seed)).random((-(-n // 10), 10))
    labels = np.argsort(order, axis=1).ravel()[:n].astype(np.int64)
    # Streams of their own for labels and the rest, so that neither depends on n.
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    u = rng.random((n, 1 + len(FACTORS) + _N_BENDS + 2 * _N_JOINTS))
    style = np.zeros(n, dtype=np.int64)
    for digit, styles in _STYLES.items():
        weights = [w for w, _ in styles]
        bounds = np.array([sum(weights[: k + 1]) / sum(weights) for k in range(len(weights) - 1)])
        mine = labels == digit
        style[mine] = (u[mine, :1] >= bounds).sum(1)
    factors: dict[str, np.ndarray] = {"style": style}
    for k, (name, factor) in enumerate(FACTORS.items(), start=1):
        factors[name] = factor.low + (factor.high - factor.low) * u[:, k]
    return labels, factors, u[:, 1 + len(FACTORS) :]


def draw(labels: np.ndarray, factors: dict[str, np.ndarray], noise: np.ndarray) -> np.ndarray:
    """Draws what `describe` describes: uint8 [n, 28, 28], 0 paper, 255 ink.

    Change a factor first to see what it alone does.
    """
    images = np.empty((len(labels), SIZE, SIZE), dtype=np.uint8)
    for digit, skeletons in _SKELETONS.items():
        for style, skeleton in enumerate(skeletons):
            mine = np.flatnonzero((labels == digit) & (factors["style"] == style))
            for start in range(0, len(mine), _CHUNK):
                some = mine[start : start + _CHUNK]
                here = {name: values[some] for name, values in factors.items()}
                x, y = _trace(skeleton, here, noise[some])
                images[some] = _ink(x, y, here["thickness"])
    return images


def render(n: int, seed: int) -> Drawn:
    """Draws n digits: the same bytes for the same seed on every machine.

    Returns images (uint8 [n, 28, 28], 0 paper, 255 ink), labels (int64 [n], each digit equally
    often, to within one) and factors: each name of `FACTORS` (float64 [n]) and "style" (int64 [n],
    which of the digit's `N_STYLES` ways of writing it). The first m of n samples are
    `render(m, seed)`.

    Raises TypeError or ValueError if n is not a positive or seed not a non-negative integer.
    """
    labels, factors, noise = describe(n, seed)
    return draw(labels, factors, noise), labels, factors


@functools.cache
def dataset() -> tuple[Drawn, Drawn]:
    """The StrokeDigits data set: 20,000 training and 4,000 test digits, each as `render` gives.

    Drawn once a process (a second or two), checked against the committed hash, and read-only.

    Raises RuntimeError if this machine draws other bytes than the published ones.
    """
    parts = render(N_TRAIN, SEED_TRAIN), render(N_TEST, SEED_TEST)
    if (got := sha256(*parts)) != SHA256:
        raise RuntimeError(
            f"strokes: expected images with sha256 {SHA256}, got {got}; this machine's numpy "
            f"{np.__version__} draws other digits than the published ones, please report it"
        )
    for images, labels, factors in parts:
        for array in (images, labels, *factors.values()):
            array.flags.writeable = False
    return parts


def sha256(*parts: Drawn) -> str:
    """Fingerprint of the images and labels (not the factors) of one or more `render` results."""
    digest = hashlib.sha256()
    for images, labels, _ in parts:
        digest.update(np.ascontiguousarray(images))
        digest.update(labels.astype(np.uint8))
    return digest.hexdigest()


def _check_count(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if value < low:
        raise ValueError(f"{name}: expected an integer of at least {low}, got {value}")
