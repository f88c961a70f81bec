"""How digits are drawn by formula: what the sets `strokes` and `brush` share.

Ten digits in several styles are given as skeletons: a few smooth strokes through control points.
Each sample bends its skeleton (wobble), stretches, slants, turns and scales it, puts its centre of
mass into the middle of the image, as MNIST does, and moves it a little. Then a pen inks it, and
pens differ from set to set.

The same seed gives the same bytes on every machine. The only randomness is `Generator.random`,
and everything after it is made of + − × ÷ √, minima, maxima and sums in a fixed order, all in
float64, which IEEE 754 rounds alike everywhere; there is one rounding to uint8 at the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

__all__ = ["Factor", "Hand"]

SIZE = 28  # pixels
CHUNK = 64  # images drawn together: few enough for the processor's cache
SPACING = 0.03  # between the pen's positions, in digit heights: about half a pixel
EDGE = 1.3  # width of the pen's soft edge, px
_N_BENDS, _N_JOINTS = 8, 20  # random numbers a sample has for its wobble: bends, and joints (x, y)
N_WOBBLE = _N_BENDS + 2 * _N_JOINTS

# Images uint8 [N, 28, 28], labels int64 [N], factors by name [N].
Drawn = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]
Values = dict[str, np.ndarray]
# Styles of each digit: (weight, strokes). A stroke is a smooth curve through its points, given as
# "x,y x,y …" in hundredths of the digit's height, y downwards; strokes are separated by "|".
# Points that coincide stay together when the digit wobbles.
Styles = dict[int, list[tuple[float, str]]]


class Factor(NamedTuple):
    """A factor of variation: its unit, its range (uniform between low and high) and its meaning."""

    unit: str
    low: float
    high: float
    meaning: str


class Skeleton(NamedTuple):
    joints: np.ndarray  # [J, 2] the control points that differ, in digit heights
    index: np.ndarray  # [4, P] the four joints that each position of the pen is made of …
    weight: np.ndarray  # [4, P] … and how much of each
    down: np.ndarray  # [P - 1] 1 where the pen draws on to the next position, 0 where it is lifted


def _skeleton(text: str) -> Skeleton:
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
            steps = max(2, round(float(np.sqrt((x1 - x0) ** 2 + (y1 - y0) ** 2)) / SPACING))
            is_last = k == len(points) - 2
            t = np.arange(steps + is_last) / steps
            t2, t3 = t * t, t * t * t
            cubic = (-t + 2 * t2 - t3, 2 - 5 * t2 + 3 * t3, t + 4 * t2 - 3 * t3, t3 - t2)
            weight.append(np.stack(cubic) / 2)
            index.append(np.repeat(np.array(around[k : k + 4])[:, None], len(t), axis=1))
            down.append(np.ones(len(t)))
        down[-1][-1] = 0.0
    return Skeleton(
        np.array(joints),
        np.concatenate(index, axis=1),
        np.concatenate(weight, axis=1),
        np.concatenate(down)[:-1],
    )


@dataclass(frozen=True)
class Hand:
    """A way of writing: the styles of the digits, what varies between samples, and the pen.

    factors: by name; among them those that `_trace` reads. pen_size: width and height [B] of the
    mark that the pen leaves where it stands, from the factors of B samples. ink: images
    [B, SIZE, SIZE], 0 … 1, from the pen's positions x and y [P, B], whether it draws on to the next
    one [P - 1], the factors, and `n_noise` random numbers a sample [B, n_noise].
    """

    styles: Styles
    factors: dict[str, Factor]
    pen_size: Callable[[Values], tuple[np.ndarray, np.ndarray]]
    ink: Callable[[np.ndarray, np.ndarray, np.ndarray, Values, np.ndarray], np.ndarray]
    n_noise: int = 0

    @cached_property
    def skeletons(self) -> dict[int, list[Skeleton]]:
        """The skeletons of each digit's styles."""
        return {digit: [_skeleton(text) for _, text in s] for digit, s in self.styles.items()}

    @property
    def n_styles(self) -> dict[int, int]:
        """How many styles each digit has."""
        return {digit: len(styles) for digit, styles in self.styles.items()}

    def describe(self, n: int, seed: int) -> tuple[np.ndarray, Values, np.ndarray]:
        """What `render(n, seed)` will draw: labels [n], factors, noise [n, N_WOBBLE + n_noise].

        Cheap, since nothing is drawn. The first m samples are those of `describe(m, seed)`. Raises
        as `render` does.
        """
        _check_count("n", n, low=1)
        _check_count("seed", seed, low=0)
        # Balanced labels: the ten digits in a new order for every ten samples.
        order = np.random.Generator(np.random.PCG64(seed)).random((-(-n // 10), 10))
        labels = np.argsort(order, axis=1).ravel()[:n].astype(np.int64)
        # Streams of their own for labels and the rest, so that neither depends on n.
        rng = np.random.Generator(np.random.PCG64([seed, 1]))
        u = rng.random((n, 1 + len(self.factors) + N_WOBBLE + self.n_noise))
        style = np.zeros(n, dtype=np.int64)
        for digit, styles in self.styles.items():
            weights = [w for w, _ in styles]
            bounds = np.array(
                [sum(weights[: k + 1]) / sum(weights) for k in range(len(weights) - 1)]
            )
            mine = labels == digit
            style[mine] = (u[mine, :1] >= bounds).sum(1)
        values: Values = {"style": style}
        for k, (name, factor) in enumerate(self.factors.items(), start=1):
            values[name] = factor.low + (factor.high - factor.low) * u[:, k]
        return labels, values, u[:, 1 + len(self.factors) :]

    def draw(self, labels: np.ndarray, factors: Values, noise: np.ndarray) -> np.ndarray:
        """Draws what `describe` describes: uint8 [n, 28, 28], 0 paper, 255 ink.

        Change a factor first to see what it alone does.
        """
        images = np.empty((len(labels), SIZE, SIZE), dtype=np.uint8)
        for digit, skeletons in self.skeletons.items():
            for style, skeleton in enumerate(skeletons):
                mine = np.flatnonzero((labels == digit) & (factors["style"] == style))
                for start in range(0, len(mine), CHUNK):
                    some = mine[start : start + CHUNK]
                    here = {name: values[some] for name, values in factors.items()}
                    x, y = _trace(skeleton, here, noise[some], self.pen_size(here))
                    ink = self.ink(x, y, skeleton.down, here, noise[some, N_WOBBLE:])
                    images[some] = np.floor(255 * ink + 0.5).astype(np.uint8)
        return images

    def render(self, n: int, seed: int) -> Drawn:
        """Draws n digits: the same bytes for the same seed on every machine.

        Returns images (uint8 [n, 28, 28], 0 paper, 255 ink), labels (int64 [n], each digit equally
        often, to within one) and factors: each name of `factors` (float64 [n]) and "style" (int64
        [n], which of the digit's `n_styles` ways of writing it). The first m of n samples are
        `render(m, seed)`.

        Raises TypeError or ValueError if n is not a positive or seed not a non-negative integer.
        """
        labels, factors, noise = self.describe(n, seed)
        return self.draw(labels, factors, noise), labels, factors


def sin_cos(degrees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sine and cosine, up to 60°, by their series: library versions differ in the last bit."""
    a = degrees * (np.pi / 180)
    b = a * a
    sin = a * (1 - b / 6 * (1 - b / 20 * (1 - b / 42 * (1 - b / 72))))
    cos = 1 - b / 2 * (1 - b / 12 * (1 - b / 30 * (1 - b / 56)))
    return sin, cos


def _trace(
    skeleton: Skeleton,
    factors: dict[str, np.ndarray],
    noise: np.ndarray,
    pen_size: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The pen's positions [P, B] in pixels, x and y, for B samples of one skeleton.

    `pen_size` is the width and height [B] of the mark that the pen leaves where it stands.
    """
    jx, jy = (c[:, None] for c in skeleton.joints.T)
    n_joints = len(jx)
    # Wobble: bends of the whole plane (Legendre polynomials, so that what they do is neither
    # shift nor slant nor scale), and each joint by itself; variances 0.7 and 0.3 of wobble².
    noise = (2 * noise - 1) * np.sqrt(3.0)  # uniform with mean 0, variance 1
    bends = noise[:, :_N_BENDS].T * np.sqrt(0.7 / 4)
    shakes = noise[:, _N_BENDS:N_WOBBLE].T * np.sqrt(0.3)
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
    sin, cos = sin_cos(factors["rotation"])
    jx, jy = jx * cos - jy * sin, jx * sin + jy * cos

    x, y = (
        sum(w[:, None] * j[i] for i, w in zip(skeleton.index, skeleton.weight, strict=True))
        for j in (jx, jy)
    )
    width, height = x.max(0) - x.min(0), y.max(0) - y.min(0)
    room = [factors["scale"] - size for size in pen_size]
    zoom = np.minimum(room[0] / width, room[1] / height)
    x, y = x * zoom, y * zoom

    # Centre of mass of the line; pixel 0's centre is at 0, so the image's centre is at 13.5.
    mass = lengths(x, y) * skeleton.down[:, None]
    total, centre = mass.sum(0), (SIZE - 1) / 2
    x = x + (centre + factors["shift_x"] - (mass * (x[1:] + x[:-1]) / 2).sum(0) / total)
    y = y + (centre + factors["shift_y"] - (mass * (y[1:] + y[:-1]) / 2).sum(0) / total)
    return x, y


def lengths(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distances [P - 1, B] between one position of the pen [P, B] and the next."""
    step_x, step_y = x[1:] - x[:-1], y[1:] - y[:-1]
    return np.sqrt(step_x * step_x + step_y * step_y)


def reached(x: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last pixel [P] within reach of any of the positions [P, B]."""
    low = np.clip(np.ceil(x.min(1) - reach), 0, SIZE).astype(int)
    return low, np.clip(np.floor(x.max(1) + reach) + 1, 0, SIZE).astype(int)


def soft_edge(inside: np.ndarray) -> np.ndarray:
    """Ink 0 … 1 of pixels that are so far inside the line's edge, px (negative: outside)."""
    edge = np.minimum(np.maximum(inside / EDGE + 0.5, 0.0), 1.0)
    return edge * edge * (3 - 2 * edge)  # smooth from no ink to full ink


def published(name: str, expected: str, *parts: Drawn) -> tuple[Drawn, ...]:
    """The same `render` results, read-only, if their images and labels have the expected sha256.

    Raises RuntimeError if this machine draws other bytes than the published ones.
    """
    if (got := sha256(*parts)) != expected:
        raise RuntimeError(
            f"{name}: expected images with sha256 {expected}, got {got}; this machine's numpy "
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
