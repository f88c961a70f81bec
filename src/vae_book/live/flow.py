"""The live figure of chapter 10: one slider, the time of a flow that carries noise to codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vae_book.figures import BLUE, ORANGE, show_ink, tile
from vae_book.live.decoders import image_shape
from vae_book.live.packing import hex_images, packed
from vae_book.live.page import LiveFigure
from vae_core._checks import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["flow_slider"]

INT16 = 32767
REACH = 0.995  # share of codes that fit in the plane, in each direction
FAINT = 1 / 15  # ink below one shade of sixteen is none: rounded, a pale ground would be speckled
IN_PICTURE = 5  # times


def flow_slider(
    path: Tensor, drawn: Tensor, codes: Tensor, *, name: str | None = None
) -> LiveFigure:
    """A live figure of points that a flow carries from noise to codes, in a plane, with what the
    decoder makes of the first of them at each time. It starts at the end, with the ways they came.

    ``path`` are the places of all points at equally spaced times from 0 to 1, ``drawn`` the images
    of the first M points at these times, ``codes`` those of real images in the same plane.
    ``name`` puts the figure on the site (see ``LiveFigure``); its picture has five of the times.

    Shapes: ``path`` ``[T, N, 2]``, ``drawn`` ``[T, M, D]`` with M at most N, ``codes`` ``[K, 2]``.

    Raises: ValueError for other shapes, fewer than five times, and for NaN or infinity.
    """
    shapes = {
        "path": (path, path.ndim == 3 and path.shape[-1] == 2 and len(path) >= IN_PICTURE),
        "drawn": (drawn, drawn.ndim == 3 and drawn.shape[0] == len(path)),
        "codes": (codes, codes.ndim == 2 and codes.shape[1] == 2),
    }
    for argument, (values, fits) in shapes.items():
        if not fits:
            raise ValueError(
                f"{argument}: expected path [T, N, 2] with T ≥ {IN_PICTURE}, drawn [T, M, D] and "
                f"codes [K, 2], got {describe(values)}"
            )
        if not torch.isfinite(values).all():
            raise ValueError(f"{argument}: expected finite values, got NaN or infinity")
    if drawn.shape[1] > path.shape[1]:
        raise ValueError(f"drawn: expected at most {path.shape[1]} images a time")
    path, drawn, codes = (values.detach().cpu().float() for values in (path, drawn, codes))
    height, width = image_shape(drawn[0], None)
    inside = torch.cat([codes, path[0]]).abs().quantile(REACH).item()
    unit = path.abs().max().item() / INT16
    data = {
        "times": len(path),
        "reach": 1.1 * inside,
        "codes": packed(codes),
        "unit": unit,
        "points": packed((path / unit).round(), "int16"),
        "images": hex_images(drawn * (drawn >= FAINT)),
        "drawings": drawn.shape[1],
        "image": {"height": height, "width": width},
    }
    return LiveFigure("flow", data, _picture(path, drawn, codes, data["reach"]), name=name)


def _picture(path: Tensor, drawn: Tensor, codes: Tensor, reach: float) -> Figure:
    """Five times: the points in the plane above what some of them decode to."""
    import matplotlib.pyplot as plt

    looks = torch.linspace(0, len(path) - 1, IN_PICTURE).round().int().tolist()
    shown = drawn.shape[1]
    figure, axes = plt.subplots(2, IN_PICTURE, figsize=(6.5, 3.5), layout="constrained",
                                height_ratios=[1, 1.2])  # fmt: skip
    for (above, below), look in zip(axes.T, looks, strict=True):
        above.scatter(*codes.T, s=0.5, color="#c2c6cb")
        above.scatter(*path[look, shown:].T, s=2, color=BLUE)
        above.scatter(*path[look, :shown].T, s=8, color=ORANGE)
        above.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect=1)
        above.spines[:].set_visible(False)
        above.set_title(f"t = {look / (len(path) - 1):g}", fontsize=11)
        show_ink(below, tile(drawn[look], 3))
    plt.close(figure)
    return figure
