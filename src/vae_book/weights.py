"""Models that take minutes to train, trained: weights that ship with the book."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import safe_open
from torch import nn

from vae_book.data import ImageData
from vae_book.stored import SWITCH
from vae_core import History, fit, load_weights, one_cycle

__all__ = ["trained"]

FOLDER = Path(__file__).parent / "weights"
Model = TypeVar("Model", bound=nn.Module)


def trained(
    model: Model,
    data: ImageData,
    *,
    steps: int,
    seed: int,
    peak: float = 3e-3,
    weights: Mapping[str, float] | None = None,
) -> Model:
    """Train a model in place, unless its weights ship with the book; one line says which it was.

    Training is ``fit(model, data.train.images, steps=steps, lr=one_cycle(steps, peak=peak),
    weights=weights, seed=seed)``. Weights from the book are used only where all of this is the
    same, with the same model and the same data; they are rounded to half precision.
    ``$VAE_CORE_STORED`` set to "ignore" always trains. No file is ever written here: ``make weights
    STORE=1`` does that.

    ``model`` has ``latent_dim``; ``weights`` are plain numbers. Returns the model.

    Raises: TypeError for a weight that isn't a number, and what ``fit`` raises.
    """
    training = {"steps": steps, "seed": seed, "peak": peak, "weights": weights or {}}
    recipe = recipe_of(model, data, training)
    source = "weights stored with the book"
    if os.environ.get(SWITCH) == "ignore" or not load_stored(model, recipe):
        history = train(model, data, **training)
        source = f"stopped after {history.steps:,} steps" if history.interrupted else "trained now"
    weighted = [f"{term} × {weight:g}" for term, weight in _not_one(weights or {}).items()]
    words = [type(model).__name__, f"d = {model.latent_dim}", *weighted, f"{steps:,} steps"]
    print(f"{', '.join(words)}: ⟨{source}⟩")
    return model


def train(
    model: nn.Module,
    data: ImageData,
    *,
    steps: int,
    seed: int,
    peak: float,
    weights: Mapping[str, float],
) -> History:
    """Train a model in place without a word, other than a progress bar where somebody watches."""
    with contextlib.redirect_stdout(io.StringIO()):  # the bar is on stderr
        return fit(
            model,
            data.train.images,
            steps=steps,
            lr=one_cycle(steps, peak=peak),
            weights=weights,
            seed=seed,
        )


def recipe_of(model: nn.Module, data: ImageData, training: Mapping[str, Any]) -> dict[str, str]:
    """All that decides which weights come out of a training, as a file's header has it.

    ``training`` has what ``train`` takes by name.
    """
    return {
        "class": type(model).__name__,
        "latent_dim": str(model.latent_dim),
        "shapes": " ".join("x".join(map(str, p.shape)) for p in model.parameters()),
        "weights": json.dumps(_not_one(training["weights"]), sort_keys=True),
        "steps": str(training["steps"]),
        "peak": f"{training['peak']:g}",
        "seed": str(training["seed"]),
        "data": data.name,
        "images": f"{len(data.train)} {data.binarisation}",
    }


def file_of(recipe: Mapping[str, str]) -> Path:
    """Where the weights of a recipe are, if they ship: the name says what a reader looks for."""
    weights = json.loads(recipe["weights"])
    what = "_".join(f"{term.replace(' ', '_')}{w:g}" for term, w in weights.items()) or "plain"
    name = f"{recipe['class']}-{recipe['latent_dim']}-{what}-{recipe['steps']}-{recipe['data']}"
    return FOLDER / f"{name}.safetensors"


def load_stored(model: nn.Module, recipe: Mapping[str, str]) -> bool:
    """Fill the model with the weights that ship for exactly this recipe; whether there are some."""
    file = file_of(recipe)
    if not file.exists():
        return False
    with safe_open(file, framework="pt") as opened:
        if opened.metadata() != dict(recipe):
            return False
    load_weights(model, file)
    return True


def _not_one(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights that change the loss, as floats: a term without a weight counts once."""
    for term, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise TypeError(f"weights[{term!r}]: expected a number, got {weight!r}")
    return {term: float(weight) for term, weight in weights.items() if weight != 1}
