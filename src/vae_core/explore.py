"""``explore``: drag through what a VAE has learned, or see a static picture of it.

What is drawn for given values of the sliders is made by functions of arrays, which know nothing
of widgets: ``units_to_move``, ``code_at``, ``dots``, ``with_cross``, ``picture``. Whatever else
shows sliders, such as a page without a kernel, can share them.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vae_core._checks import describe, positive_int
from vae_core.latent import quantile_grid, traversal
from vae_core.models import evaluating
from vae_core.plots import show_grids, show_rows, tile
from vae_core.vae import VAE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Exploration",
    "code_at",
    "dots",
    "explore",
    "has_live_front_end",
    "picture",
    "units_to_move",
    "with_cross",
]

LIMIT = 3.0  # the sliders go from −3 to 3: 99.7 % of a standard normal number
STEP = 0.05
MAP_SIZE = 168  # pixels of the map of the plane, a side; 6 for each pixel of a digit
MOST_SLIDERS = 8
STATIC_VALUES = torch.linspace(-2.5, 2.5, 11)
SWITCH = "VAE_CORE_WIDGETS"
VIEW = "application/vnd.jupyter.widget-view+json"
LIVE = "vae-core-explore"  # the class of living sliders; the output after them is the picture
HIDE_PICTURE = f"<style>.jp-OutputArea-child:has(.{LIVE}) + * {{display: none}}</style>"


def explore(
    vae: VAE, images: Tensor, *, static: bool | None = None, max_units: int = MOST_SLIDERS
) -> Exploration:
    """Sliders for the codes of a VAE, or a static picture where nobody could move them.

    The start is the mean code of the first image. With two latent units the sliders move a point
    in the plane, over the mean codes of all ``images``; with another number each slider moves one
    unit alone, the most active first, at most ``max_units`` of them. They go from −3 to 3, and
    start at the mean code as far as they reach.

    ``static`` chooses the picture (True) or the sliders (False). None, the default, leaves it to
    ``has_live_front_end``; a live notebook without ipywidgets then gets the picture, and a line
    that says so.

    Shapes: ``images`` as ``as_pixels`` takes them, at least two, of 784 pixels.

    Raises: TypeError or ValueError for what isn't a VAE of 784 pixels, images or a number of
    sliders; ImportError, saying what to install, where sliders were asked for and ipywidgets isn't
    there.
    """
    if not isinstance(vae, VAE):
        raise TypeError(f"vae: expected a VAE, got {describe(vae)}")
    if vae.n_pixels != 784:
        raise ValueError(f"vae: expected one of images of 784 pixels, got {vae.n_pixels} pixels")
    max_units = positive_int(max_units, "max_units")
    vae.check_input(images, name="images")
    if len(images) < 2:
        raise ValueError(f"images: expected at least 2 images, got {len(images)}")
    if static is None:
        static = not has_live_front_end()
        asked = os.environ.get(SWITCH) == "1"
        if not static and not asked and importlib.util.find_spec("ipywidgets") is None:
            print("explore: a static picture; for sliders, pip install ipywidgets and restart")
            static = True
    return Exploration(vae, images, static=static, max_units=max_units)


def has_live_front_end(
    environ: Mapping[str, str] | None = None, modules: Mapping[str, object] | None = None
) -> bool:
    """Is somebody there who could move a slider?

    ``$VAE_CORE_WIDGETS`` answers where it is set, 1 for yes and 0 for no. Else the answer is yes
    only with evidence: a kernel that a Jupyter server started for a notebook (its variable
    ``JPY_SESSION_NAME``), Colab's package, or a variable of VS Code's (``VSCODE_CWD`` too, for on a
    remote machine there is no ``VSCODE_PID``). A notebook executed by nbconvert, nbclient or a test
    has none of them.

    ``environ`` and ``modules`` stand for ``os.environ`` and ``sys.modules`` in tests.

    Raises: ValueError where the variable holds something else.
    """
    environ = os.environ if environ is None else environ
    modules = sys.modules if modules is None else modules
    switch = environ.get(SWITCH, "")
    if switch not in ("", "0", "1"):
        raise ValueError(f"{SWITCH}: expected 0 or 1, got {switch!r}")
    if switch:
        return switch == "1"
    if "ipykernel" not in modules:
        return False
    evidence = {"JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD"}
    return bool(evidence & environ.keys() or "google.colab" in modules)


def units_to_move(means: Tensor, at_most: int = MOST_SLIDERS) -> list[int]:
    """Which units get a slider: both of two, else the most active, the most active first.

    Shapes: ``means`` ``[N, d]``, mean codes of images.
    """
    d = means.shape[1]
    if d == 2:
        return [0, 1]
    variances = means.var(dim=0, correction=0)
    return variances.argsort(descending=True, stable=True)[:at_most].tolist()


def code_at(start: Tensor, units: Sequence[int], values: Sequence[float]) -> Tensor:
    """The start with the units of the sliders put to their values.

    Shapes: ``start`` ``[d]``; the result ``[d]``, a new tensor.

    Raises: ValueError where there aren't as many values as units.
    """
    if len(units) != len(values):
        raise ValueError(f"values: expected {len(units)}, one a unit, got {len(values)}")
    code = start.clone()
    code[list(units)] = torch.as_tensor(list(values), dtype=code.dtype, device=code.device)
    return code


def dots(codes: Tensor, *, limit: float = LIMIT, size: int = MAP_SIZE) -> np.ndarray:
    """Two-dimensional codes as a map of grey dots, z₁ to the right and z₂ upwards.

    The map reaches from −``limit`` to ``limit`` both ways; codes outside it aren't on it.

    Shapes: ``codes`` ``[N, 2]``; the result ``[size, size]``, 0 for paper, 0.3 for a code or more.
    """
    canvas = np.zeros((size, size), dtype=np.float32)
    columns, rows = _pixel_of(codes, limit, size)
    inside = (columns >= 0) & (columns < size) & (rows >= 0) & (rows < size)
    canvas[rows[inside], columns[inside]] = 0.3
    return canvas


def with_cross(canvas: np.ndarray, code: Tensor, *, limit: float = LIMIT) -> np.ndarray:
    """A copy of a map with a cross at a code; a code outside is marked at the nearest edge.

    Shapes: ``canvas`` ``[size, size]``, ``code`` ``[2]``; the result ``[size, size]``.
    """
    size = len(canvas)
    (column,), (row,) = _pixel_of(code[None], limit, size)
    column, row = (int(np.clip(place, 0, size - 1)) for place in (column, row))
    marked, arm = canvas.copy(), max(2, size // 24)
    marked[row, max(0, column - arm) : column + arm + 1] = 1
    marked[max(0, row - arm) : row + arm + 1, column] = 1
    return marked


def _pixel_of(codes: Tensor, limit: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of the pixel that each code falls on, also outside the map."""
    places = codes.detach().cpu().double().numpy()
    share = (places + limit) / (2 * limit)  # 0 at the left and at the bottom, 1 at the other end
    columns = np.floor(share[:, 0] * size)
    rows = np.floor((1 - share[:, 1]) * size)
    far = 10 * size  # so that no code, however far, overflows an integer
    return tuple(np.clip(p, -far, far).astype(int) for p in (columns, rows))


def picture(vae: VAE, code: Tensor, map_of_codes: np.ndarray | None = None) -> np.ndarray:
    """What is shown for one code: the decoder's mean image, beside the map if there is one.

    Shapes: ``code`` ``[d]``; the digit is 6 times as large as its 28 × 28 pixels, ``[168, 168]``,
    with a map ``[168, 168]`` to its left and a gap between them ``[168, 348]``. Values in [0, 1].
    """
    with evaluating(vae):
        image = vae.decode(code[None]).mean
    enlarged = np.kron(tile(image, columns=1), np.ones((6, 6), dtype=np.float32))
    if map_of_codes is None:
        return enlarged
    gap = np.zeros((len(enlarged), 12), dtype=np.float32)
    marked = with_cross(map_of_codes, code)
    for edge in (marked[0], marked[-1], marked[:, 0], marked[:, -1]):
        np.maximum(edge, 0.2, out=edge)  # a frame: where the map ends
    return np.concatenate([marked, gap, enlarged], axis=1)


class Exploration:
    """What ``explore`` returns; a notebook shows it as sliders or as a picture.

    ``units`` are the latent units that have a slider, ``values`` where these stand, ``start`` the
    code ``[d]`` of the first image. ``move`` is what the sliders call.

    In a live notebook two outputs are shown: the sliders, and the picture below them. JupyterLab
    hides the picture as long as the sliders live. Opened again later, they are gone, and the
    picture is there.
    """

    def __init__(self, vae: VAE, images: Tensor, *, static: bool, max_units: int):
        with evaluating(vae):
            means = torch.cat([vae.encode(chunk).mean for chunk in images.split(1000)])
        self.vae, self.static = vae, static
        self.start = means[0]
        self.units = units_to_move(means, max_units)
        plane = vae.latent_dim == 2
        self.names = ["z₁", "z₂"] if plane else [f"unit {unit}" for unit in self.units]
        self.map = dots(means) if plane else None
        reached = self.start[self.units].clamp(-LIMIT, LIMIT).tolist()
        self.values = [round(round(value / STEP) * STEP, 2) for value in reached]
        self.box = None if static else self._widgets()

    def __repr__(self) -> str:
        kind = "a static picture" if self.static else "sliders"
        n = len(self.units)
        return f"explore: {kind} of {n} latent unit{'s' if n > 1 else ''}"

    def move(self, values: Sequence[float]) -> np.ndarray:
        """Put the sliders' values into the code, and return the picture of it."""
        picture_now = picture(self.vae, code_at(self.start, self.units, values), self.map)
        self.values = [float(value) for value in values]
        return picture_now

    def figure(self) -> Figure:
        """The static picture: a grid on normal quantiles for two units, else one row a unit."""
        with evaluating(self.vae):
            if self.map is not None:
                images = self.vae.decode(quantile_grid(9).to(self.start)).mean
                return show_grids({"the decoder's image at 9 × 9 codes": images}, columns=9)
            rows = {
                name: self.vae.decode(traversal(self.start, unit, STATIC_VALUES)).mean
                for name, unit in zip(self.names, self.units, strict=True)
            }
        return show_rows(rows)

    def _ipython_display_(self) -> None:
        if self.box is None:
            raise NotImplementedError  # IPython then shows the picture as it shows any value
        from IPython.display import display

        # The box itself would have its widgets' bytes as text/plain, and in ipywidgets 7, which is
        # what Colab has, no bundle.
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        display({VIEW: view, "text/plain": f"{self!r}, while the kernel runs"}, raw=True)
        data, metadata = self._repr_mimebundle_()
        display(data, metadata=metadata, raw=True)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple:
        """The static picture."""
        png = io.BytesIO()
        self.figure().savefig(png, format="png", dpi=144, bbox_inches="tight")
        header = png.getvalue()[16:24]  # a PNG's width and height in pixels
        width, height = (int.from_bytes(header[i : i + 4], "big") // 2 for i in (0, 4))
        data = {
            "text/plain": repr(self),
            "image/png": base64.b64encode(png.getvalue()).decode("ascii"),
        }
        return data, {"image/png": {"width": width, "height": height}}

    def _widgets(self):
        """The sliders and the picture that follows them."""
        try:
            import ipywidgets
        except ImportError as error:
            raise ImportError(
                "explore needs ipywidgets for its sliders: pip install ipywidgets, then restart "
                "the kernel; or explore(…, static=True) for a picture"
            ) from error
        shown = ipywidgets.Image(
            value=as_png(self.move(self.values)), format="png", layout={"flex": "none"}
        )
        sliders = [
            ipywidgets.FloatSlider(value=value, min=-LIMIT, max=LIMIT, step=STEP, description=name)
            for name, value in zip(self.names, self.values, strict=True)
        ]
        follow = follower(self, sliders, shown)
        for slider in sliders:
            slider.observe(follow, names="value")
        self.sliders, self.shown = sliders, shown
        # Beside each other where there is room, and no picture drawn out to the sliders' height.
        layout = {"flex_flow": "row wrap", "align_items": "flex-start"}
        box = ipywidgets.HBox(
            [shown, ipywidgets.VBox(sliders), ipywidgets.HTML(HIDE_PICTURE)], layout=layout
        )
        box.add_class(LIVE)
        return box


def follower(exploration: Exploration, sliders: Sequence, shown) -> Callable[[object], None]:
    """The function that a moved slider calls: it draws the picture of all sliders' values."""

    def follow(_change: object) -> None:
        shown.value = as_png(exploration.move([slider.value for slider in sliders]))

    return follow


def as_png(array: np.ndarray) -> bytes:
    """An array of ink (0 is paper, 1 is ink) as a PNG file."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, array, format="png", cmap="gray_r", vmin=0, vmax=1)
    return buffer.getvalue()
