"""The book's figures, drawn from arrays that can be tested: tests don't compare pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vae_core._checks import describe, positive_int
from vae_core.images import check_images, to_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DIGIT_COLOURS",
    "decoded_plane",
    "draw_ellipses",
    "draw_plane",
    "ellipse_outlines",
    "label_places",
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
BLUE = "#0072B2"
ORANGE = "#D55E00"
GREEN = "#009E73"
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


def tile(
    images: Tensor | np.ndarray,
    columns: int,
    *,
    shape: Sequence[int] | None = None,
    gap: int = 2,
) -> np.ndarray:
    """Images side by side in one array, in reading order: left to right, then down.

    Values outside [0, 1], which a linear decoder gives, are cut off there. ``gap`` is the number of
    empty pixels between neighbours; cells that are left over stay empty.

    Shapes: ``images`` ``[N, H, W]``, ``[N, 1, H, W]`` or, in colour, ``[N, 3, H, W]`` or
    ``[N, H, W, 3]``; or flat, ``[N, D]``, and then ``shape`` is that of one image (a square grey
    one needs none). The result ``[rows, columns]`` in pixels, for colour ``[rows, columns, 3]``,
    values in [0, 1].

    Raises: TypeError or ValueError for what isn't images, or a shape that they don't have.
    """
    columns = positive_int(columns, "columns")
    images = check_images(images, unit_interval=False).detach().cpu()
    shape = tuple(shape) if shape is not None else _shape_of(images)
    pixels = to_rows(images, torch.float32).clamp(0, 1).numpy()
    if math.prod(shape) != pixels.shape[1]:
        raise ValueError(f"shape: expected one of {pixels.shape[1]} pixels, got {shape}")
    pixels = pixels.reshape(-1, *shape)
    if len(shape) == 3:
        channels_first = shape[0] in (1, 3)
        pixels = np.moveaxis(pixels, 1, 3) if channels_first else pixels
        pixels = pixels[..., 0] if pixels.shape[3] == 1 else pixels
    if pixels.ndim != 3 and not (pixels.ndim == 4 and pixels.shape[3] == 3):
        raise ValueError(
            f"shape: expected (H, W), (1 or 3, H, W) or (H, W, 1 or 3) for one image, got {shape}"
        )
    height, width = pixels.shape[1:3]
    rows = -(-len(pixels) // columns)
    background = 0.0 if pixels.ndim == 3 else 1.0  # paper: grey values are ink, colours are light
    size = (rows * (height + gap) - gap, columns * (width + gap) - gap)
    canvas = np.full((*size, *pixels.shape[3:]), background, dtype=np.float32)
    for i, image in enumerate(pixels):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def _shape_of(images: Tensor) -> tuple[int, ...]:
    """The shape of one image, where the array says it, or one can tell."""
    if images.ndim > 2:
        return tuple(images.shape[1:])
    side = math.isqrt(images.shape[1])
    if side * side != images.shape[1]:
        raise ValueError(
            f"shape: expected the shape of one image, such as (28, 28) or (3, 32, 32), for flat "
            f"images that aren't square and grey ({describe(images)})"
        )
    return side, side


def show_ink(ax: Axes, array: np.ndarray) -> None:
    """Draw an array from ``tile``: grey values are ink (0 is white, 1 is black), colours as they
    are; row 0 on top."""
    ax.imshow(array, cmap="gray_r", vmin=0, vmax=1, origin="upper", interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def show_rows(
    rows: Mapping[str, Tensor | np.ndarray], *, shape: Sequence[int] | None = None
) -> Figure:
    """One row of images under another, each with its name on the left.

    Shapes: every value as ``tile`` takes it, the same number of images in all of them.
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
        show_ink(ax, tile(images, n, shape=shape))
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    plt.close(figure)  # a notebook shows a cell's last value and every open figure
    return figure


def show_grids(
    grids: Mapping[str, Tensor | np.ndarray],
    *,
    columns: int = 8,
    shape: Sequence[int] | None = None,
) -> Figure:
    """Grids of images next to each other, each under its name, in reading order.

    Shapes: every value as ``tile`` takes it.
    """
    import matplotlib.pyplot as plt

    arrays = {name: tile(images, columns, shape=shape) for name, images in grids.items()}
    height = max(array.shape[0] / array.shape[1] for array in arrays.values())
    width = 6.5 / len(arrays)
    figure, axes = plt.subplots(
        1, len(arrays), figsize=(6.5, width * height + 0.35), squeeze=False, layout="constrained"
    )
    for ax, (name, array) in zip(axes[0], arrays.items(), strict=True):
        show_ink(ax, array)
        ax.set_title(name)
    plt.close(figure)
    return figure


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
    for digit, (x, y) in label_places(codes, labels).items():
        ax.text(x, y, str(digit), ha="center", va="center", fontweight="bold", fontsize=9,
                bbox={"boxstyle": "circle,pad=0.2", "fc": "white", "alpha": 0.85,
                      "ec": DIGIT_COLOURS[digit]})  # fmt: skip
    ax.set_xlabel("$z_1$")
    ax.set_ylabel("$z_2$")


def label_places(codes: Tensor, labels: Tensor) -> dict[int, tuple[float, float]]:
    """Where each digit's name stands: at the median of its codes, a little aside of its neighbours.

    Shapes: ``codes`` ``[N, 2]``, ``labels`` ``[N]`` with values 0 to 9.
    """
    present = [digit for digit in range(10) if (labels == digit).any()]
    medians = torch.stack([codes[labels == d].median(dim=0).values for d in present])
    width = float((codes.amax(0) - codes.amin(0)).max())
    places = spread_apart(medians.numpy(), LABEL_SIZE * width)
    return {digit: (float(x), float(y)) for digit, (x, y) in zip(present, places, strict=True)}


def decoded_plane(
    decode: Callable[[Tensor], Tensor],
    across: tuple[float, float],
    up: tuple[float, float],
    *,
    n: int = 16,
) -> np.ndarray:
    """What a decoder draws across the plane of two code numbers: ``n`` × ``n`` images in one array.

    The image in column i and row k shows the middle of its cell: z₁ grows to the right from
    ``across[0]`` to ``across[1]``, z₂ upwards from ``up[0]`` to ``up[1]``.

    Shapes: ``decode`` takes ``[n², 2]`` and gives square grey images ``[n², D]``; the result is
    ``[n √D, n √D]``, row 0 on top.
    """
    n = positive_int(n, "n")
    middles = (torch.arange(n) + 0.5) / n
    z1 = across[0] + (across[1] - across[0]) * middles
    z2 = up[1] - (up[1] - up[0]) * middles  # the first row is the highest
    rows, columns = torch.meshgrid(z2, z1, indexing="ij")
    with torch.no_grad():
        images = decode(torch.stack([columns, rows], dim=-1).reshape(-1, 2))
    return tile(images, n, gap=0)


def draw_plane(
    ax: Axes,
    decode: Callable[[Tensor], Tensor],
    across: tuple[float, float],
    up: tuple[float, float],
    *,
    n: int = 16,
) -> None:
    """Draw ``decoded_plane`` as ink, each image at the place of its code."""
    array = decoded_plane(decode, across, up, n=n)
    ax.imshow(array, cmap="gray_r", vmin=0, vmax=1, extent=(*across, *up), aspect="equal")
    ax.set(xlabel="$z_1$", ylabel="$z_2$")


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
