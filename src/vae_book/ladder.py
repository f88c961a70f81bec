"""The ladder of chapter 3: one network trained without noise, with noise, and with the KL at
growing weight; what each rung measures and draws.

One sweep takes minutes, so its table ships with the book for the book's own seed.
"""

from __future__ import annotations

import base64
import functools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vae_book.data import ImageData
from vae_book.frechet import FrechetDistance
from vae_book.models import Autoencoder, NoisyAutoencoder, SquaredErrorVAE
from vae_book.stored import stored
from vae_book.weights import train
from vae_core.elbo import kl
from vae_core.evaluation import active_units
from vae_core.images import as_pixels
from vae_core.seeds import seed_everything
from vae_core.training import mean_terms
from vae_core.vae import VAE

__all__ = [
    "LATENT_DIM",
    "STEPS",
    "WEIGHTS",
    "Rung",
    "climb",
    "images_of",
    "over_seeds",
    "price_of_noise",
]

LATENT_DIM = 8
STEPS = 4000
WEIGHTS = (0.03, 0.1, 0.3, 1, 3, 10)  # of the KL
N_SHOWN = 16  # drawings that are kept of each model


@dataclass(frozen=True)
class Rung:
    """One trained model of the ladder. Its rate is infinite for the autoencoder without noise.

    ``fd`` are Fréchet distances of drawings, by where their codes came from: "own" (the codes of
    training images), "fit" (a Gaussian fitted to those), "scale" (independent coordinates with the
    means and standard deviations of the codes), "N(0, I)".

    ``mean_square`` of the codes, ``sigma2`` (the harmonic mean of σ² over images) and ``price``
    (the mean of ‖∂g/∂zᵢ‖²) have one number for each coordinate. ``clouds`` are μ and σ of ten test
    images in the coordinate whose means differ most. Pictures are in [0, 1]: ``copies`` of the
    third 8 among the test images, from eight draws of its cloud, and what is ``drawn`` from
    N(0, I) and ``from_fit`` with the same noise in every rung.

    Shapes: one per coordinate ``[8]``; ``clouds`` ``[10, 2]``; pictures ``[n, 784]``.
    """

    name: str
    rate: float
    distortion: float
    active: int
    fd: dict[str, float]
    mean_square: Tensor
    sigma2: Tensor
    price: Tensor
    clouds: Tensor
    copies: Tensor
    drawn: Tensor
    from_fit: Tensor


def climb(data: ImageData, *, seed: int, steps: int = STEPS) -> dict[str, Rung]:
    """All rungs by name: "AE", "w = 0" (noise, no KL), "w = 0.03", … "w = 10"; from the stored
    results where they have them, else trained now. One line says which."""
    trained_now = False
    ruler = functools.cache(lambda: FrechetDistance(data.test.images, data.train.images))

    @stored("ladder", data.name, _trained, _measured, price_of_noise, SquaredErrorVAE)
    def rung(weight, seed, steps):
        nonlocal trained_now
        trained_now = True
        return _measured(_trained(data, weight, seed, steps), data, ruler())

    rungs = {}
    for weight in (None, 0, *WEIGHTS):
        name = "AE" if weight is None else f"w = {weight:g}"
        rungs[name] = _as_rung(name, rung(weight, seed, steps))
    how = "trained now" if trained_now else "stored with the book"
    print(f"{len(rungs)} models, {steps:,} steps each: ⟨{how}⟩")
    return rungs


def over_seeds(
    data: ImageData,
    rungs: Mapping[str, Rung],
    *,
    others: Sequence[int] = (1, 2, 3, 4),
    steps: int = STEPS,
) -> dict[str, Tensor]:
    """Rate and squared error of every VAE of the ladder, first those of the ``rungs``, then once
    for each of the ``others``, seeds to train from, by name: "w = 0.03", … "w = 10". The others
    come from the stored results where they have them, else they are trained now.

    Shapes: each ``[1 + len(others), 2]``, in nats and as a sum over pixels.

    Raises: ValueError where a rung is missing.
    """
    names = [f"w = {weight:g}" for weight in WEIGHTS]
    if missing := [name for name in names if name not in rungs]:
        raise ValueError(f"rungs: expected one for every weight, got none for {missing}")

    @stored("ladder_seeds", data.name, _trained, SquaredErrorVAE)
    def point(weight, seed, steps):
        terms = mean_terms(_trained(data, weight, seed, steps), data.test.images)
        return [terms["KL"], terms["squared error"]]

    points = {}
    for name, weight in zip(names, WEIGHTS, strict=True):
        own = [rungs[name].rate, rungs[name].distortion]
        points[name] = torch.tensor([own, *[point(weight, seed, steps) for seed in others]])
    return points


def images_of(model: nn.Module, z: Tensor) -> Tensor:
    """What a model draws from codes, as pixel values ``[B, 784]``: a VAE's mean image."""
    images = model.decode(z)
    return images if isinstance(images, Tensor) else images.mean


def price_of_noise(model: nn.Module, z: Tensor) -> Tensor:
    """‖∂g/∂zᵢ‖² of the decoder, the mean over codes: what a unit of σᵢ² costs (equation 2.11).

    Shapes: ``z`` ``[B, d]``; the result ``[d]``.
    """
    prices = []
    for direction in torch.eye(z.shape[1]):
        _, slope = torch.autograd.functional.jvp(
            lambda codes: images_of(model, codes), z, direction.expand_as(z)
        )
        prices.append(slope.square().sum(dim=1).mean())
    return torch.stack(prices)


def _trained(data: ImageData, weight: float | None, seed: int, steps: int) -> nn.Module:
    seed_everything(seed)
    if weight is None:
        model = Autoencoder(LATENT_DIM)
    elif weight == 0:
        model = NoisyAutoencoder(LATENT_DIM)
    else:
        model = SquaredErrorVAE(LATENT_DIM)
    weights = {"KL": weight} if weight else {}
    train(model, data, steps=steps, seed=seed, peak=3e-3, weights=weights)
    return model


def _measured(model: nn.Module, data: ImageData, ruler: FrechetDistance) -> dict:
    """The numbers and pictures of one trained model, as plain numbers and strings."""
    model.requires_grad_(False)
    seed_everything(0)  # the same noise for every rung
    test, training = data.test.images, data.train.images
    eight = test[data.test.labels == 8][2:3]
    epsilon = torch.randn(ruler.n, LATENT_DIM)

    answer = model.encode(training)
    z = answer if isinstance(answer, Tensor) else answer.sample()
    mean, std, R = z.mean(dim=0), z.std(dim=0), torch.linalg.cholesky(torch.cov(z.T))
    codes = {"own": z[: ruler.n], "fit": mean + epsilon @ R.T, "scale": mean + std * epsilon,
             "N(0, I)": epsilon}  # fmt: skip
    pictures = {name: images_of(model, codes[name]) for name in codes}

    answer = model.encode(test)
    if isinstance(answer, Tensor):
        means, stds, rate = answer, torch.zeros_like(answer), float("inf")
        copies = model.reconstruct(eight.expand(8, -1, -1))
    else:
        means, stds = answer.mean, answer.stddev
        prior = torch.distributions.Independent(torch.distributions.Normal(
            torch.zeros_like(means), torch.ones_like(means)), 1)  # fmt: skip
        rate = kl(answer, prior).mean().item()
        copies = images_of(model, model.encode(eight).sample((8,))[:, 0])
    telling = means.var(dim=0).argmax()
    clouds = torch.stack([means[:10, telling], stds[:10, telling]], dim=1)
    active = LATENT_DIM
    if isinstance(model, VAE):
        active = active_units(model, test, binarisation=data.binarisation).count
    return {
        "rate": rate,
        "distortion": mean_terms(model, test)["squared error"],
        "active": active,
        "fd": {name: ruler(images) for name, images in pictures.items()},
        "mean_square": z.square().mean(dim=0).tolist(),
        "sigma2": (1 / stds.double().square().reciprocal().mean(dim=0)).tolist(),
        "price": price_of_noise(model, z[:500]).tolist(),
        "clouds": clouds.tolist(),
        "copies": _packed(copies),
        "drawn": _packed(pictures["N(0, I)"][:N_SHOWN]),
        "from_fit": _packed(pictures["fit"][:N_SHOWN]),
    }


def _as_rung(name: str, result: dict) -> Rung:
    numbers = ("mean_square", "sigma2", "price", "clouds")
    pictures = ("copies", "drawn", "from_fit")
    return Rung(
        name,
        **result
        | {key: torch.tensor(result[key]) for key in numbers}
        | {key: _unpacked(result[key]) for key in pictures},
    )


def _packed(images: Tensor) -> str:
    """Images as text: a byte for each pixel, compressed."""
    grey = (255 * images.clamp(0, 1)).round().to(torch.uint8).cpu().numpy()
    return base64.b64encode(zlib.compress(grey.tobytes(), 9)).decode()


def _unpacked(text: str) -> Tensor:
    grey = zlib.decompress(base64.b64decode(text))
    return as_pixels(torch.frombuffer(bytearray(grey), dtype=torch.uint8).reshape(-1, 784))
