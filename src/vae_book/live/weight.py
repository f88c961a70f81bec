"""The live figure of chapter 3: one slider, the weight of the KL, and what it did to the models of
the ladder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vae_book.ladder import LATENT_DIM, Rung
from vae_book.live.packing import hex_images
from vae_book.live.page import LiveFigure
from vae_core._checks import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["weight_slider"]

PREFIX = "w = "  # of the names of rungs that have a weight
PRIOR = "N(0,\u00a01)"  # not to be torn apart at the end of a line
NEARLY = 1.1  # a Fréchet distance up to here times the smallest is nearly as good


def weight_slider(
    rungs: Mapping[str, Rung],
    picture: Figure,
    *,
    name: str | None = None,
    band: Callable[[], Mapping[str, Tensor]] | None = None,
) -> LiveFigure:
    """A live figure with a slider over trained models: the point of each on the curve of rate and
    squared error, its clouds, copies of one image and drawings from N(0, I). It starts at the model
    that draws best.

    ``rungs`` are those of ``ladder.climb``; the ones named by a weight are shown, such as "w = 1".
    ``picture`` is shown where nothing can be moved. ``name`` puts the figure on the site (see
    ``LiveFigure``). ``band`` gives rates and squared errors over several seeds, as
    ``ladder.over_seeds`` does; it is called only when the figure is written for the site.

    Shapes: the values of ``band`` ``[seeds, 2]``.

    Raises: ValueError for fewer than two rungs with a weight, or numbers that aren't finite;
    TypeError for a picture that isn't a matplotlib figure.
    """
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    if not isinstance(picture, Figure):
        raise TypeError(f"picture: expected a matplotlib figure, got {describe(picture)}")
    chosen = {_weight_of(key): rung for key, rung in rungs.items() if key.startswith(PREFIX)}
    if len(chosen) < 2:
        raise ValueError(
            f"rungs: expected at least two named by their weights, such as 'w = 1', "
            f"got {list(rungs)}"
        )
    for rung in chosen.values():
        _check_finite(rung)
    weights = sorted(chosen)
    ordered = [chosen[weight] for weight in weights]
    best = min(range(len(ordered)), key=lambda k: ordered[k].fd["N(0, I)"])
    data = {
        "start": best,
        "image": {"width": 28, "height": 28},
        "rungs": [
            _packed(weight, rung, best=ordered[best])
            for weight, rung in zip(weights, ordered, strict=True)
        ],
    }
    plt.close(picture)  # or the cell that drew it would show it once more
    slow = None if band is None else lambda: {"seeds": _seeds(band(), ordered)}
    return LiveFigure("weight", data, picture, name=name, slow=slow)


def _weight_of(name: str) -> float:
    try:
        weight = float(name.removeprefix(PREFIX))
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise ValueError(f"rungs: expected names such as 'w = 1', got {name!r}")
    return int(weight) if weight == int(weight) else weight


def _check_finite(rung: Rung) -> None:
    numbers = {"rate": rung.rate, "distortion": rung.distortion, "fd": rung.fd["N(0, I)"]}
    for field, value in numbers.items():
        if not math.isfinite(value):
            raise ValueError(f"rungs: expected a finite {field} of {rung.name!r}, got {value}")


def _packed(weight: float, rung: Rung, *, best: Rung) -> dict[str, Any]:
    """What the script is given of a rung; ``best`` is the one that draws best."""
    title, words = _in_words(weight, rung, best)
    return {
        "name": rung.name,
        "weight": weight,
        "rate": rung.rate,
        "distortion": rung.distortion,
        "fd": rung.fd["N(0, I)"],
        "clouds": rung.clouds.tolist(),
        "copies": hex_images(rung.copies),
        "drawn": hex_images(rung.drawn),
        "title": title,
        "words": words,
    }


def _in_words(weight: float, rung: Rung, best: Rung) -> tuple[str, str]:
    """What happened at a weight, in a few words and in a sentence or two, from measured numbers."""
    size = rung.mean_square.mean().item()
    if weight == 0:
        return "the noise is dead", (
            "The clouds are all but points, far apart: the mean square of the codes is "
            f"{size:.0f}, that of {PRIOR} is 1. Random codes miss them, and decode to nonsense."
        )
    if rung.active == 0:
        return "the code is dead", (
            "No image has a cloud of its own any more. Every copy is the same blot, or nearly, and "
            "so is what every random code decodes to."
        )
    if rung is best:
        return "alive", (
            "The clouds differ from image to image, and together they lie where we draw. "
            "Random codes draw best here."
        )
    if rung.rate < best.rate:
        return "little is said", (
            f"{rung.active} of {LATENT_DIM} coordinates still tell images apart. Clouds overlap, "
            "so copies blur, and so do the drawings."
        )
    if rung.fd["N(0, I)"] <= NEARLY * best.fd["N(0, I)"]:
        return "narrow clouds, sharp copies", (
            f"The mean square of the codes is {size:.1f}, that of {PRIOR} is 1. Random codes draw "
            f"nearly as well as at {best.name}."
        )
    return "narrow clouds, sharp copies", (
        f"But the mean square of the codes is {size:.1f}, that of {PRIOR} is 1. Random codes "
        "miss many of them."
    )


def _seeds(points: Mapping[str, Tensor], rungs: list[Rung]) -> dict[str, list[list[float]]]:
    """Rates and squared errors over seeds, of the weights that have them."""
    for key, values in points.items():
        if values.ndim != 2 or values.shape[1] != 2 or not values.isfinite().all():
            raise ValueError(
                f"band: expected finite rates and errors [seeds, 2] of {key!r}, got {values}"
            )
    return {rung.name: points[rung.name].tolist() for rung in rungs if rung.name in points}
