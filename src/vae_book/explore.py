"""``explore``: drag through what a VAE has learned, or see a static picture of it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vae_book.figures import show_grids, show_ink, show_rows, tile
from vae_core._checks import describe, positive_int
from vae_core.images import check_images
from vae_core.latent import quantile_grid, traversal
from vae_core.networks import evaluating
from vae_core.vae import VAE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["explore", "figure_at", "has_live_front_end", "static_figure", "units_to_move"]

LIMIT = 3.0  # the sliders go from −3 to 3: 99.7 % of a standard normal number
STEP = 0.05
STATIC_VALUES = torch.linspace(-2.5, 2.5, 11)
SWITCH = "VAE_CORE_WIDGETS"


def explore(
    vae: VAE,
    images: Tensor | np.ndarray,
    *,
    static: bool | None = None,
    max_units: int = 8,
    shape: Sequence[int] | None = None,
):
    """Sliders for the codes of a VAE, or a static picture where nobody could move them.

    The start is the mean code of the first image. With two latent units the sliders move a point
    in the plane, over the mean codes of all ``images``; with another number each slider moves one
    unit alone, the most active first, at most ``max_units`` of them. They go from −3 to 3.

    ``static`` chooses the picture (True) or the sliders (False). None, the default, leaves it to
    ``has_live_front_end``; a live notebook without ipywidgets then gets the picture, and a line
    that says so.

    Shapes: ``images`` as the model takes them, at least two; ``shape`` that of one image, where it
    isn't square and grey (see ``tile``). The result is a figure, or a box of widgets.

    Raises: TypeError or ValueError for what isn't a VAE, images or a number of sliders;
    ImportError where sliders were asked for and ipywidgets isn't there.
    """
    if not isinstance(vae, VAE):
        raise TypeError(f"vae: expected a VAE, got {describe(vae)}")
    max_units = positive_int(max_units, "max_units")
    images = check_images(images, n_pixels=vae.n_pixels, unit_interval=vae.unit_interval)
    if len(images) < 2:
        raise ValueError(f"images: expected at least 2 images, got {len(images)}")
    if shape is None and images.ndim > 2:
        shape = images.shape[1:]
    if static is None:
        static = not has_live_front_end()
        if not static and importlib.util.find_spec("ipywidgets") is None:
            print("explore: a static picture; for sliders, pip install ipywidgets and restart")
            static = True
    with evaluating(vae):
        means = torch.cat([vae.encode(chunk).mean for chunk in images.split(1000)])
    units = units_to_move(means, max_units)
    make = static_figure if static else _sliders
    return make(vae, means, units, shape)


def has_live_front_end(
    environ: Mapping[str, str] | None = None, modules: Mapping[str, object] | None = None
) -> bool:
    """True if a live front end is attached, where somebody could move a slider.

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


def units_to_move(means: Tensor, at_most: int) -> list[int]:
    """Which units get a slider: both of two, else the most active, the most active first.

    Shapes: ``means`` ``[N, d]``, mean codes of images.
    """
    if means.shape[1] == 2:
        return [0, 1]
    variances = means.var(dim=0, correction=0)
    return variances.argsort(descending=True, stable=True)[:at_most].tolist()


def figure_at(vae: VAE, code: Tensor, means: Tensor, shape: Sequence[int] | None = None) -> Figure:
    """The decoder's mean image at one code, beside the plane of codes where there are two units.

    Shapes: ``code`` ``[d]``, ``means`` ``[N, d]``.
    """
    import matplotlib.pyplot as plt

    plane = len(code) == 2
    figure, axes = plt.subplots(
        1, 2 if plane else 1, figsize=(5.2 if plane else 2.6, 2.6), squeeze=False
    )
    with evaluating(vae):
        show_ink(axes[0, -1], tile(vae.decode(code[None]).mean, 1, shape=shape))
    if plane:
        axes[0, 0].plot(*means.detach().cpu().T, ".", color="#bbbbbb", markersize=2)
        axes[0, 0].plot(*code.detach().cpu(), "+", color="black", markersize=14, mew=2)
        axes[0, 0].set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xlabel="$z_1$", ylabel="$z_2$")
    plt.close(figure)
    return figure


def static_figure(
    vae: VAE, means: Tensor, units: Sequence[int], shape: Sequence[int] | None = None
) -> Figure:
    """A grid on normal quantiles for two units; else one row for each unit, that unit moved.

    Shapes: ``means`` ``[N, d]``; the rows start from the first.
    """
    with evaluating(vae):
        if means.shape[1] == 2:
            images = vae.decode(quantile_grid(9).to(means)).mean
            title = "the decoder's image at 9 × 9 codes"
            return show_grids({title: images}, columns=9, shape=shape)
        rows = {
            f"unit {unit}": vae.decode(traversal(means[0], unit, STATIC_VALUES)).mean
            for unit in units
        }
    return show_rows(rows, shape=shape)


def _sliders(vae: VAE, means: Tensor, units: Sequence[int], shape: Sequence[int] | None):
    """One slider for each unit, and the picture of all their values below."""
    try:
        import ipywidgets
    except ImportError as error:
        raise ImportError(
            "explore needs ipywidgets for its sliders: pip install ipywidgets, then restart "
            "the kernel; or explore(…, static=True) for a picture"
        ) from error
    from IPython.display import display

    def draw(**values: float) -> None:
        code = means[0].clone()
        code[list(units)] = torch.tensor(list(values.values())).to(code)
        display(figure_at(vae, code, means, shape))

    sliders = {
        f"unit_{unit}": ipywidgets.FloatSlider(
            value=float(means[0, unit].clamp(-LIMIT, LIMIT)),
            min=-LIMIT, max=LIMIT, step=STEP, description=f"unit {unit}",
        )
        for unit in units
    }  # fmt: skip
    shown = ipywidgets.interactive_output(draw, sliders)
    return ipywidgets.VBox([*sliders.values(), shown])
