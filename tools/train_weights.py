"""Train the models whose weights ship with the book, and compare them with the stored weights.

    .venv/bin/python tools/train_weights.py [--store]

Each is trained again. On the test images every term of its loss (of a VAE: the rate, which is the
KL, and the distortion) must be within 3 % of what the stored weights give, and as many units must
be active. With --store the new weights are stored, in half precision.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import nn

from vae_book import weights
from vae_book.data import ImageData, load
from vae_book.models import SquaredErrorVAE
from vae_core import VAE, active_units, mean_terms, seed_everything
from vae_core.weights import write_whole

SEED, TOLERANCE = 0, 0.03
DATA = ("mnist", "strokes")


class Recipe(NamedTuple):
    """What a chapter asks of ``vae_book.weights.trained``."""

    kind: type[nn.Module]
    latent_dim: int
    steps: int
    options: dict[str, Any] = {}  # of the model
    binarised: str | None = None  # how, unless the images are grey
    weights: dict[str, float] = {}
    peak: float = 3e-3

    def model(self) -> nn.Module:
        seed_everything(SEED)
        return self.kind(self.latent_dim, **self.options)

    def training(self) -> dict:
        return {"steps": self.steps, "seed": SEED, "peak": self.peak, "weights": self.weights}


RECIPES = [
    Recipe(SquaredErrorVAE, 2, 10_000),
    Recipe(VAE, 2, 10_000, {"hidden": (256,)}),
    Recipe(VAE, 2, 6_000, {"hidden": (256,)}, binarised="fixed"),
]


def measures(model: nn.Module, data: ImageData) -> dict[str, float]:
    """What is compared: each term of the loss and the active units, on the test images."""
    images = data.test.images
    found = mean_terms(model, images)
    if "KL" in found:
        found["active units"] = active_units(model, images, binarisation=data.binarisation).count
    return found


def agree(name: str, stored: float, new: float) -> bool:
    if name == "active units":
        return stored == new
    return abs(stored - new) <= TOLERANCE * abs(stored)


def save_half(model: nn.Module, recipe: dict[str, str]) -> None:
    """Store the weights; a single number (σₓ, say) keeps all its digits."""
    tensors = {
        name: (tensor.half() if tensor.ndim else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    weights.FOLDER.mkdir(exist_ok=True)
    write_whole(weights.file_of(recipe), save(tensors, recipe))


def differences(recipe: Recipe, data: ImageData, store: bool) -> int:
    """Train by one recipe on one data set, print what was measured; how much of it differs."""
    new = recipe.model()
    header = weights.recipe_of(new, data, recipe.training())
    weights.train(new, data, **recipe.training())
    if store:
        save_half(new, header)
    print(weights.file_of(header).stem, flush=True)
    stored = recipe.model()
    if not weights.load_stored(stored, header):
        print("  no stored weights of this recipe")
        return 1
    count = 0
    before, now = measures(stored, data), measures(new, data)
    for name in now:
        same = agree(name, before[name], now[name])
        count += not same
        verdict = "" if same else "   differs"
        print(f"  {name:16} stored {before[name]:9.4g}   new {now[name]:9.4g}{verdict}")
    return count


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", action="store_true", help="store the new weights")
    store = parser.parse_args(argv).store
    torch.set_num_threads(min(2, torch.get_num_threads()))
    count = 0
    for name in DATA:
        data = load(name)
        for recipe in RECIPES:
            images = data.binarised(recipe.binarised) if recipe.binarised else data
            count += differences(recipe, images, store)
    print(f"{count} differences")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
