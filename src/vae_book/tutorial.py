"""The experiment of the tutorial that the book's first chapters come from, repeated.

A fully connected network 784-256-8 on MNIST, ten epochs of Adam with the rate 0.001. The batch
size and the first layers aren't given; ours are a guess, and the page "The tutorial's own
experiment" says why.
"""

from __future__ import annotations

import contextlib
import io

import torch
from torch import Tensor, nn

from vae_book.data import ImageData
from vae_book.models import SquaredErrorVAE
from vae_book.stored import stored
from vae_core.images import as_pixels
from vae_core.networks import mlp
from vae_core.seeds import seed_everything
from vae_core.training import fit

__all__ = ["BATCH", "PUBLISHED", "TutorialVAE", "train_tutorial"]

BATCH = 32  # images; a loss per image that one can believe leaves no other power of two
PUBLISHED = {  # weight of the KL: the printed loss after each epoch, summed over a batch
    0: [1253.6, 959.0, 837.9, 799.2, 777.4, 763.3, 752.6, 744.1, 737.4, 731.5],
    3: [1714.9, 1573.3, 1531.8, 1504.2, 1480.5, 1458.2, 1441.6, 1429.9, 1420.6, 1411.4],
}


class TutorialVAE(SquaredErrorVAE):
    """784 → 256 → ``width`` → 8 means and 8 values of log σ², with or without a ReLU before the
    last step.

    Nothing else is new: without the ReLU the last two layers are one linear layer.
    """

    def __init__(self, relu: bool, width: int = 8):
        super().__init__(latent_dim=8)
        self.encoder = nn.Sequential(
            mlp(784, 256, width),
            nn.ReLU() if relu else nn.Identity(),
            nn.Linear(width, 2 * 8),
        )

    def shared(self, x: Tensor) -> Tensor:
        """The numbers that means and log-variances are made of: ``[B, width]``."""
        return self.encoder[:2](as_pixels(x))


def train_tutorial(
    data: ImageData, *, weight: float, relu: bool, seed: int, epochs: int = 1, width: int = 8
) -> dict[str, list[float]]:
    """Train the tutorial's network with this weight of the KL; taken from the stored results where
    they have it.

    Returns "loss": the mean loss of a batch, **summed** over its images, for each epoch; "on": for
    each of the shared numbers, the share of training images for which it is above 0; "sigma" and
    "spread": the mean σ at the end, and the standard deviation of the means over images, for each
    of the 8 code numbers.
    """

    @stored("tutorial_experiment", data.name, TutorialVAE)
    def train(weight, relu, seed, epochs, width):
        seed_everything(seed)
        model = TutorialVAE(relu, width)
        steps = len(data.train.images) // BATCH
        with contextlib.redirect_stdout(io.StringIO()):  # its last line names the steps
            history = fit(model, data.train.images, steps=epochs * steps, batch_size=BATCH,
                          weights={"KL": weight}, seed=seed)  # fmt: skip
        loss = history.train["squared error"] + weight * history.train["KL"]  # at each step
        with torch.no_grad():
            on = (model.shared(data.train.images) > 0).double().mean(dim=0)
            clouds = model.encode(data.train.images)
        return {
            "loss": (BATCH * loss.reshape(epochs, steps).mean(axis=1)).tolist(),
            "on": on.tolist(),
            "sigma": clouds.stddev.mean(dim=0).tolist(),
            "spread": clouds.mean.std(dim=0).tolist(),
        }

    return train(weight, relu, seed, epochs, width)
