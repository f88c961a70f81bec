"""Figures, drawn from array functions that can be tested: pictures aren't compared by a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vae_core._checks import describe, positive_int
from vae_core.pixels import as_pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vae_core.training import History

__all__ = [
    "DIGIT_COLOURS",
    "draw_ellipses",
    "ellipse_outlines",
    "plot_history",
    "scatter_codes",
    "show_grids",
    "show_ink",
    "show_rows",
    "tile",
    "use_book_style",
]

# Ten hues that stay apart for colour-blind readers as far as ten can (after Paul Tol's "muted"
# set); scatter plots also write the digit itself at the middle of its cloud.
DIGIT_COLOURS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933",
    "#DDCC77", "#CC6677", "#882255", "#AA4499", "#777777",
)  # fmt: skip
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
LABEL_SIZE = 0.055  # of a digit in a scatter plot, as a fraction of the width of all codes


def use_book_style() -> None:
    """Set the look of the book's figures: sharp on any screen, light frame, colours that differ
    for colour-blind readers (Okabe and Ito's)."""
    import matplotlib as mpl

    mpl.rcParams.update(
        {
            "figure.facecolor": "white",
            "font.size": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": mpl.cycler(color=[BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00"]),
            "legend.frameon": False,
        }
    )
    if mpl.get_backend().lower().endswith("inline"):
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")


def tile(images: Tensor, columns: int, *, gap: int = 2) -> np.ndarray:
    """Images side by side in one array, in reading order: left to right, then down.

    ``gap`` is the number of empty pixels between neighbours; cells that are left over stay empty.

    Shapes: ``images`` ``[N, 784]`` or ``[N, 28, 28]`` as ``as_pixels`` takes them; the result
    ``[rows * 28 + (rows - 1) * gap, columns * 28 + (columns - 1) * gap]``, values in [0, 1].
    """
    columns = positive_int(columns, "columns")
    pixels = as_pixels(images.detach().cpu(), dtype=torch.float32).reshape(-1, 28, 28).numpy()
    rows = -(-len(pixels) // columns)
    step = 28 + gap
    canvas = np.zeros((rows * step - gap, columns * step - gap), dtype=np.float32)
    for i, image in enumerate(pixels):
        top, left = i // columns * step, i % columns * step
        canvas[top : top + 28, left : left + 28] = image
    return canvas


def show_ink(ax: Axes, array: np.ndarray) -> None:
    """Draw an array of ink on an axes: 0 is paper (white), 1 is ink (black); row 0 on top."""
    ax.imshow(array, cmap="gray_r", vmin=0, vmax=1, origin="upper", interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def show_rows(rows: Mapping[str, Tensor]) -> Figure:
    """One row of images under another, each with its name on the left.

    Shapes: every value ``[n, 784]`` or ``[n, 28, 28]``, the same n in all of them.
    """
    import matplotlib.pyplot as plt

    lengths = {name: len(images) for name, images in rows.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"rows: expected the same number of images in each row, got {lengths}")
    n = next(iter(lengths.values()))
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(6.5, 0.3 + len(rows) * 6.0 / n), squeeze=False, layout="constrained"
    )
    for ax, (name, images) in zip(axes[:, 0], rows.items(), strict=True):
        show_ink(ax, tile(images, columns=n))
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    return _shown_once(figure)


def show_grids(grids: Mapping[str, Tensor], *, columns: int = 8) -> Figure:
    """Grids of images next to each other, each under its name, in reading order.

    Shapes: every value ``[N, 784]`` or ``[N, 28, 28]``.
    """
    import matplotlib.pyplot as plt

    arrays = {name: tile(images, columns) for name, images in grids.items()}
    height = max(array.shape[0] / array.shape[1] for array in arrays.values())
    width = 6.5 / len(arrays)
    figure, axes = plt.subplots(
        1, len(arrays), figsize=(6.5, width * height + 0.35), squeeze=False, layout="constrained"
    )
    for ax, (name, array) in zip(axes[0], arrays.items(), strict=True):
        show_ink(ax, array)
        ax.set_title(name)
    return _shown_once(figure)


def scatter_codes(ax: Axes, codes: Tensor, labels: Tensor) -> None:
    """Points of a two-dimensional code, coloured by digit, each digit written near its median.

    Shapes: ``codes`` ``[N, 2]``, ``labels`` ``[N]`` with values 0 to 9.
    """
    if codes.ndim != 2 or codes.shape[1] != 2:
        raise ValueError(f"codes: expected shape [N, 2], got {describe(codes)}")
    codes, labels = codes.detach().cpu(), labels.cpu()
    for digit in range(10):
        points = codes[labels == digit]
        ax.scatter(*points.T, s=3, alpha=0.5, linewidths=0, color=DIGIT_COLOURS[digit])
    present = [digit for digit in range(10) if (labels == digit).any()]
    medians = torch.stack([codes[labels == d].median(dim=0).values for d in present])
    places = spread_apart(
        medians.numpy(), LABEL_SIZE * float((codes.amax(0) - codes.amin(0)).max())
    )
    for digit, (x, y) in zip(present, places, strict=True):
        ax.text(x, y, str(digit), ha="center", va="center", fontweight="bold", fontsize=9,
                bbox={"boxstyle": "circle,pad=0.2", "fc": "white", "alpha": 0.85,
                      "ec": DIGIT_COLOURS[digit]})  # fmt: skip
    ax.set_xlabel("$z_1$")
    ax.set_ylabel("$z_2$")


def spread_apart(points: np.ndarray, distance: float) -> np.ndarray:
    """Move points as little as needed until no two are nearer than ``distance``.

    Shapes: ``points`` ``[n, 2]``; the result ``[n, 2]``.
    """
    places = points.astype(float)
    places += 1e-6 * distance * np.arange(len(places))[:, None]  # equal points need a direction
    for _ in range(200):
        apart = places[:, None] - places[None]  # (n, n, 2)
        lengths = np.linalg.norm(apart, axis=2) + np.eye(len(places)) * distance
        push = np.clip(distance - lengths, 0, None) / 2
        if not push.any():
            break
        places += ((push / lengths)[:, :, None] * apart).sum(axis=1)
    return places


def plot_history(history: History) -> Figure:
    """A panel for each term of the loss: every training step, their running mean, validation."""
    import matplotlib.pyplot as plt

    terms = list(history.train)
    figure, axes = plt.subplots(
        1, len(terms), figsize=(min(6.5, 4.5 * len(terms)), 3.0), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for ax, term in zip(axes[0], terms, strict=True):
        values = history.train[term]
        steps = np.arange(1, len(values) + 1)
        ax.plot(steps, values, color=BLUE, alpha=0.25, linewidth=0.6)
        window = max(1, len(values) // 40)
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        middle = steps[window // 2 :][: len(smooth)]
        ax.plot(middle, smooth, color=BLUE, label=f"training, mean of {window} steps")
        if term in history.val:
            ax.plot(
                history.val_steps, history.val[term], "o", color=ORANGE, ms=4, label="validation"
            )
        ax.set_xlabel("step")
        ax.set_ylabel(f"{term} per image")
        ax.set_ylim(*_without_the_first_steps(values))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return _shown_once(figure)


def _shown_once(figure: Figure) -> Figure:
    """A notebook shows a cell's last value *and* every figure that pyplot still holds."""
    import matplotlib.pyplot as plt

    plt.close(figure)
    return figure


def _without_the_first_steps(values: np.ndarray) -> tuple[float, float]:
    """Limits of the vertical axis that the steep beginning doesn't flatten everything else."""
    later = values[len(values) // 20 :]
    room = 0.1 * max(float(later.max() - later.min()), 1e-9)
    return float(later.min()) - room, float(later.max()) + room


def ellipse_outlines(
    mean: Tensor, std: Tensor, *, radius: float = 1.0, points: int = 60
) -> np.ndarray:
    """Outlines of two-dimensional Gaussians with independent coordinates, around their means.

    Point t of an outline is μ + radius · σ ⊙ (cos t, sin t).

    Every point of an outline is ``radius`` standard deviations from the middle. A share
    1 − exp(−radius²/2) of the draws falls inside: 39 % for 1, 86 % for 2.

    Shapes: ``mean`` and ``std`` ``[N, 2]``, standard deviations of at least 0; the result
    ``[N, points, 2]``, counter-clockwise from the right; the last point isn't the first again.

    Raises: ValueError for other shapes, or a standard deviation below 0 or NaN.
    """
    for name, values in (("mean", mean), ("std", std)):
        if values.ndim != 2 or values.shape[1] != 2:
            raise ValueError(f"{name}: expected shape [N, 2], got {describe(values)}")
    if len(mean) != len(std):
        raise ValueError(f"std: expected {len(mean)} rows like mean, got {len(std)}")
    if not (std >= 0).all():
        raise ValueError("std: expected standard deviations of at least 0, got less or NaN")
    points = positive_int(points, "points")
    angle = np.arange(points) * (2 * np.pi / points)
    circle = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)  # (points, 2)
    middle, scale = (values.detach().cpu().double().numpy()[:, None] for values in (mean, std))
    return middle + scale * circle


def draw_ellipses(
    ax: Axes, mean: Tensor, std: Tensor, labels: Tensor | None = None, *, radius: float = 1.0
) -> None:
    """The clouds of two-dimensional codes as ellipses, coloured by digit where labels are given.

    An ellipse reaches ``radius`` standard deviations from its middle. The dot in the middle stays
    visible however small the ellipse is. The limits of ``ax`` stay the caller's choice.

    Shapes: ``mean`` and ``std`` ``[N, 2]``; ``labels`` ``[N]`` with values 0 to 9.
    """
    from matplotlib.collections import PolyCollection

    colours = BLUE if labels is None else [DIGIT_COLOURS[int(digit)] for digit in labels]
    outlines = ellipse_outlines(mean, std, radius=radius)
    ax.scatter(*mean.detach().cpu().T, s=4, linewidths=0, color=colours)
    ax.add_collection(PolyCollection(outlines, facecolors=colours, edgecolors="none", alpha=0.15))
    ax.add_collection(
        PolyCollection(outlines, facecolors="none", edgecolors=colours, linewidths=0.9)
    )
    ax.set_aspect("equal")
