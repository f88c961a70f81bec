"""The rate–distortion figure: every model of the book as one point, coloured by its samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vae_core._checks import positive_float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Point", "plot_rate_distortion"]

STRIP = 0.08  # width that each rate off the scale gets beyond it, as a share of the scale
LABELLED_DISTANCES = [m * 10**k for k in range(5) for m in (1, 1.5, 2, 3, 5, 7)]


@dataclass(frozen=True)
class Point:
    """One model: what its codes cost, what its copies lose, and how good its samples are.

    ``rate`` is the average KL(q(z|x) ‖ p(z)) in nats, infinite where a code is a point and no
    cloud. ``distortion`` is the average squared error of an image, summed over its pixels.
    ``fd_prior`` and ``fd_fitted`` are the Fréchet distances of samples whose codes were drawn from
    p(z) and from a Gaussian fitted to the codes of the training images.

    Raises: ValueError for NaN or a number below 0, or for an infinite one that isn't the rate.

    Source: Alemi et al. (2018), for the plane of rate and distortion.
    """

    name: str
    rate: float
    distortion: float
    fd_prior: float
    fd_fitted: float

    def __post_init__(self) -> None:
        for field in ("rate", "distortion", "fd_prior", "fd_fitted"):
            value = getattr(self, field)
            if not value >= 0 or (math.isinf(value) and field != "rate"):
                raise ValueError(f"{field}: expected a finite number of at least 0, got {value}")


def horizontal_places(
    rates: Sequence[float], rate_limit: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Where each rate stands, which are off the scale that ends at ``rate_limit``, and the end.

    Those off the scale stand side by side in a strip beyond it, the larger rates farther right.
    Their distances mean nothing there, and their labels say the rate.

    Shapes: places and whether off the scale ``[len(rates)]``; the right end of the strip (or of
    the scale, where there is none) is one number.
    """
    places = np.asarray(rates, dtype=float).copy()
    off = places > rate_limit
    order = np.flatnonzero(off)[np.argsort(places[off], kind="stable")]
    places[order] = rate_limit * (1 + STRIP * (np.arange(len(order)) + 0.75))
    end = rate_limit * (1 + STRIP * (len(order) + 0.5)) if len(order) else rate_limit
    return places, off, end


def label_of(point: Point, off: bool) -> str:
    """The name of a point, and its rate where the axis doesn't show it."""
    if not off:
        return point.name
    rate = "∞" if math.isinf(point.rate) else f"{point.rate:.0f}"
    return f"{point.name}: {rate}"


def colour_range(points: Sequence[Point]) -> tuple[float, float]:
    """The smallest and the largest Fréchet distance of all points, for one scale of colours."""
    distances = [value for point in points for value in (point.fd_prior, point.fd_fitted)]
    low, high = max(min(distances), 1e-6), max(max(distances), 1e-6)
    return (low, high) if high > low else (low / 2, high * 2)


def plot_rate_distortion(
    points: Sequence[Point],
    *,
    curve: Sequence[str] = (),
    rate_limit: float = 60.0,
    ring: str = "codes from a fitted Gaussian",
) -> Figure:
    """All models in one figure: squared error against average KL, coloured by their samples.

    The disc of a point has the colour of ``fd_prior``, its ring that of ``fd_fitted``. Rates above
    ``rate_limit`` nats, infinite ones among them, stand in a marked strip on the right. A faint
    line joins the points that ``curve`` names, in its order. ``ring`` says what rings stand for.

    Raises: ValueError without points, for two of the same name, for a name in ``curve`` that no
    point has, or for a limit that isn't above 0.
    """
    import matplotlib.pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import MaxNLocator

    rate_limit = positive_float(rate_limit, "rate_limit")
    names = [point.name for point in points]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"points: expected at least one, each with its own name, got {names}")
    if unknown := [name for name in curve if name not in names]:
        raise ValueError(f"curve: expected names of points, got {unknown}")
    places, off, end = horizontal_places([point.rate for point in points], rate_limit)
    low, high = colour_range(points)
    scale = ScalarMappable(LogNorm(low, high), cmap="cividis")
    figure, ax = plt.subplots(figsize=(6.5, 4.4), layout="constrained")
    joined = [names.index(name) for name in curve]
    ax.plot(places[joined], [points[k].distortion for k in joined], color="#bbbbbb", zorder=1)
    for point, place in zip(points, places, strict=True):
        _draw_point(ax, place, point.distortion, scale, point.fd_prior, point.fd_fitted)
    top = 1.12 * max(point.distortion for point in points) or 1.0
    ax.set(xlabel="rate: average KL in nats", ylabel="distortion: squared error per image")
    ticks = MaxNLocator(6).tick_values(0, rate_limit)
    ax.set_xticks([tick for tick in ticks if 0 <= tick <= rate_limit])
    ax.set(xlim=(-0.04 * rate_limit, end + 0.02 * rate_limit), ylim=(0, top))
    if off.any():
        ax.axvspan(rate_limit, end, color="#eeeeee", zorder=0)
        ax.text((rate_limit + end) / 2, top, "off scale", ha="center", va="bottom", fontsize=9)
    _write_names(ax, points, places, off)
    _draw_key(ax, ring)
    bar = figure.colorbar(scale, ax=ax, label="Fréchet distance of samples")
    bar.set_ticks([t for t in LABELLED_DISTANCES if low <= t <= high], minor=False)
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.minorticks_off()
    plt.close(figure)  # a notebook shows a cell's last value and every open figure
    return figure


def _draw_point(ax: Axes, x: float, y: float, scale, fd_prior: float, fd_fitted: float) -> None:
    """A ring and, on it, a disc with a white edge."""
    ring, disc = scale.to_rgba(fd_fitted), scale.to_rgba(fd_prior)
    ax.scatter(x, y, s=210, color=[ring], edgecolors="#555555", linewidths=0.5, zorder=2)
    ax.scatter(x, y, s=80, color=[disc], edgecolors="white", linewidths=1.2, zorder=3)


def _write_names(ax: Axes, points: Sequence[Point], places: np.ndarray, off: np.ndarray) -> None:
    """Names beside their points, each at the first corner where it meets no other name or point;
    off the scale upright above them, for want of room."""
    from matplotlib.transforms import Bbox

    ax.figure.draw_without_rendering()  # now it is settled where things lie
    where = ax.transData.transform([(x, p.distortion) for x, p in zip(places, points, strict=True)])
    size = ax.figure.dpi / 72  # pixels a point
    taken = [Bbox.from_extents(x - 7, y - 7, x + 7, y + 7) for x, y in where / size]
    for index in np.argsort(places, kind="stable"):
        point, is_off = points[index], off[index]
        at = (places[index], point.distortion)
        more = {"textcoords": "offset points", "fontsize": 9, "zorder": 4}
        if is_off:
            ax.annotate(label_of(point, True), at, xytext=(0, 10), rotation=90, ha="center",
                        va="bottom", **more)  # fmt: skip
            continue
        tried = []
        for right, up in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            name = ax.annotate(label_of(point, False), at, xytext=(7 * right, 6 * up),
                               ha="left" if right > 0 else "right",
                               va="bottom" if up > 0 else "top", **more)  # fmt: skip
            box = name.get_window_extent()
            box = Bbox(box.get_points() / size)
            tried.append((sum(box.overlaps(other) for other in taken), len(tried), name, box))
        best = min(tried, key=lambda t: t[:2])
        for attempt in tried:
            if attempt is not best:
                attempt[2].remove()
        taken.append(best[3])


def _draw_key(ax: Axes, words: str) -> None:
    """What disc and ring stand for, where large rates and large errors would meet: nothing does."""
    from matplotlib.lines import Line2D

    ring = Line2D([], [], linestyle="", marker="o", markersize=12, markeredgewidth=3.5,
                  markerfacecolor="none", markeredgecolor="#888888")  # fmt: skip
    disc = Line2D([], [], linestyle="", marker="o", markersize=7, color="#888888")
    ax.legend([disc, ring], ["codes from N(0, I)", words],
              loc="upper center", bbox_to_anchor=(0.5, 1.0), fontsize=9, frameon=False)  # fmt: skip
