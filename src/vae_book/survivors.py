"""Chapter 8's experiment: which of twenty units live, with the KL at growing weight.

At rest it takes minutes for each data set and seed, so its results ship with the book.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vae_book.data import ImageData
from vae_book.models import SquaredErrorVAE
from vae_book.stored import stored
from vae_book.weights import train
from vae_core.elbo import kl_per_unit
from vae_core.seeds import seed_everything
from vae_core.training import mean_terms

__all__ = ["LATENT_DIM", "STEPS", "WEIGHTS", "Survivors", "survivors"]

LATENT_DIM = 20
STEPS = 12_000  # at rest
WEIGHTS = (1, 2, 3, 4, 6, 8)  # of the KL


@dataclass(frozen=True)
class Survivors:
    """One trained `SquaredErrorVAE` of twenty units, on the test images, its units by their KL.

    ``rate`` is each unit's average KL in nats, the largest first; ``variance`` that of its mean
    μᵢ over the images, and ``distortion`` the average squared error, summed over pixels. A unit is
    active where the variance is above 0.01 (Burda et al., 2016).

    Shapes: ``rate`` and ``variance`` ``[20]``.
    """

    weight: float
    rate: Tensor
    variance: Tensor
    distortion: float

    @property
    def active(self) -> int:
        """How many units are active."""
        return int((self.variance > 0.01).sum())


def survivors(data: ImageData, *, seed: int, steps: int = STEPS) -> list[Survivors]:
    """A network 784-256-20 for each of the ``WEIGHTS``, trained alike; from the stored results
    where they have them, else trained now. One line says which."""
    trained_now = False

    @stored("survivors", data.name, SquaredErrorVAE)
    def measured(weight, seed, steps):
        nonlocal trained_now
        trained_now = True
        seed_everything(seed)
        model = SquaredErrorVAE(LATENT_DIM)
        train(model, data, steps=steps, seed=seed, peak=3e-3, weights={"KL": weight})
        with torch.no_grad():
            q = model.encode(data.test.images)
            rate = kl_per_unit(q, model.prior()).mean(dim=0)
        order = rate.argsort(descending=True)
        return {
            "rate": rate[order].tolist(),
            "variance": q.mean.var(dim=0)[order].tolist(),
            "distortion": mean_terms(model, data.test.images)["squared error"],
        }

    found = []
    for weight in WEIGHTS:
        result = measured(weight, seed, steps)
        rate, variance = torch.tensor(result["rate"]), torch.tensor(result["variance"])
        found.append(Survivors(weight, rate, variance, result["distortion"]))
    how = "trained now" if trained_now else "stored with the book"
    print(f"{len(found)} models of {LATENT_DIM} units, {steps:,} steps each: ⟨{how}⟩")
    return found
