"""Chapter 11's experiments: a convolutional VAE against fully connected ones of equal budgets.

Together they take minutes for each data set and seed, so their results ship with the book.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import time
import zlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vae_book import colours
from vae_book.data import ImageData
from vae_book.frechet import FrechetDistance
from vae_book.models import squared_error
from vae_book.stored import stored
from vae_core.evaluation import estimate_elbo, estimate_log_likelihood
from vae_core.images import as_pixels
from vae_core.likelihoods import GaussianLikelihood
from vae_core.networks import conv_decoder, conv_encoder, evaluating, mlp
from vae_core.schedules import one_cycle
from vae_core.seeds import seed_everything
from vae_core.training import fit
from vae_core.vae import VAE

__all__ = [
    "HIDDEN",
    "LATENT_DIM",
    "LONGER",
    "STEPS",
    "Contestant",
    "InColour",
    "PublishedModel",
    "SHARE",
    "compete",
    "compete_in_colour",
    "from_the_tutorial",
    "network",
    "operations",
    "shuffled",
    "weights_of",
]

LATENT_DIM = 20
HIDDEN = {"weights": 69, "operations": 613}  # the width at which an MLP has as many as the CNN
STEPS = 1500
LONGER = 2.3  # as many steps of the MLP of equal operations take as long as one of the CNN
N_TEST, K = 500, 100
N_SHOWN = 6


def network(hidden: int | None) -> VAE:
    """A VAE of 20 units for 28 × 28 black-and-white images: fully connected with one hidden layer,
    or convolutional (None)."""
    if hidden is not None:
        return VAE(LATENT_DIM, hidden=(hidden,))
    return VAE(
        LATENT_DIM,
        encoder=conv_encoder(2 * LATENT_DIM, channels=(16, 32)),
        decoder=conv_decoder(LATENT_DIM, channels=(16, 32)),
    )


def weights_of(model: nn.Module) -> int:
    """How many numbers training can change."""
    return sum(parameter.numel() for parameter in model.parameters())


def operations(model: VAE) -> int:
    """Multiplications (each with an addition) from one image to its code and back.

    A weight of a layer counts once for each place where it is used; those that meet the zeros
    around an image count too.

    Raises: TypeError for encoders or decoders that aren't ``nn.Sequential``.
    """
    count = 0
    to = next(model.parameters())
    for part, n_in in ((model.encoder, model.n_pixels), (model.decoder, model.latent_dim)):
        if not isinstance(part, nn.Sequential):
            raise TypeError(f"model: expected networks in a row, got {type(part).__name__}")
        x = torch.zeros(1, n_in, dtype=to.dtype, device=to.device)
        with torch.no_grad():
            for layer in part:
                y = layer(x)
                if isinstance(layer, nn.Linear):
                    count += layer.weight.numel()
                if isinstance(layer, nn.Conv2d):
                    count += layer.weight.numel() * y[0, 0].numel()
                if isinstance(layer, nn.ConvTranspose2d):
                    count += layer.weight.numel() * x[0, 0].numel()
                x = y
    return count


def shuffled(images: Tensor, *, seed: int) -> Tensor:
    """The same images with their pixels in another order, the same for all of them.

    Shapes: ``images`` ``[N, …]``, any shape; the result has it too.
    """
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(images[0].numel(), generator=draw).to(images.device)
    return images.flatten(1)[:, order].view(images.shape)


@dataclass(frozen=True)
class Contestant:
    """One trained VAE of black-and-white images, on test images drawn once, in nats.

    ``log_p`` is the importance-weighted log p(x), k = 100, on 500 images, and ``error`` what
    drawing the codes leaves uncertain in it; ``rate`` the mean KL. ``distortion`` is the squared
    error of the copies of grey images, ``fd_prior`` and ``fd_fitted`` as in
    `rate_distortion.Point`; these three only of "CNN" and "operations", else they are 0.
    ``seconds`` of one thread is what the training took where the results were made, ``copies`` are
    the mean images from a draw of the clouds of the first test images, as the network saw them.

    Shapes: ``copies`` ``[6, 784]`` in [0, 1].
    """

    log_p: float
    error: float
    elbo: float
    rate: float
    distortion: float
    fd_prior: float
    fd_fitted: float
    seconds: float
    copies: Tensor


def compete(grey: ImageData, *, seed: int) -> dict[str, Contestant]:
    """The contestants by name: "CNN"; MLPs of equal "weights", "operations", "seconds"; "CNN" and
    "operations" with ", shuffled" and with ", early" (a quarter of the steps). From the stored
    results where they have them, else trained now. One line says which.

    ``grey`` are grey images; every batch of the training is drawn anew.
    """
    trained_now = False
    ruler = functools.cache(lambda: FrechetDistance(grey.test.images, grey.train.images))

    @stored("neighbours", grey.name, network, shuffled, _trained, _measured, conv_encoder,
            conv_decoder)  # fmt: skip
    def measured(hidden, steps, shuffle, as_point, seed):
        nonlocal trained_now
        trained_now = True
        seed_everything(seed)
        model, seconds = _trained(network(hidden), grey, steps, shuffle, seed)
        return {
            "seconds": seconds,
            **_measured(model, grey, shuffle, seed, ruler() if as_point else None),
        }

    found = {}
    for name, (hidden, steps, shuffle) in {
        "CNN": (None, STEPS, False),
        "weights": (HIDDEN["weights"], STEPS, False),
        "operations": (HIDDEN["operations"], STEPS, False),
        "seconds": (HIDDEN["operations"], round(LONGER * STEPS), False),
        "CNN, early": (None, STEPS // 4, False),
        "operations, early": (HIDDEN["operations"], STEPS // 4, False),
        "CNN, shuffled": (None, STEPS, True),
        "operations, shuffled": (HIDDEN["operations"], STEPS, True),
    }.items():
        result = measured(hidden, steps, shuffle, name in ("CNN", "operations"), seed)
        found[name] = Contestant(**result | {"copies": _unpacked(result["copies"])})
    print(f"{len(found)} trainings, most of {STEPS:,} steps: ⟨{_how(trained_now)}⟩")
    return found


def _trained(
    model: VAE, grey: ImageData, steps: int, shuffle: bool, seed: int
) -> tuple[VAE, float]:
    """The model, trained, and how many seconds of the processor that took."""
    images = shuffled(grey.train.images, seed=seed) if shuffle else grey.train.images
    begin = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):  # without fit's line
        fit(model, images, steps=steps, lr=one_cycle(steps, peak=7e-3), redraw=True, seed=seed)
    return model, time.process_time() - begin


def _measured(
    model: VAE, grey: ImageData, shuffle: bool, seed: int, ruler: FrechetDistance | None
) -> dict:
    """The numbers and pictures of a trained model; its Fréchet distances where there is a ruler."""
    test = grey.binarised("redrawn").test.images
    test = shuffled(test, seed=seed) if shuffle else test
    some = test[:: len(test) // N_TEST][:N_TEST]
    better = estimate_log_likelihood(model, some, k=K, binarisation="redrawn")
    bound = estimate_elbo(model, some, n_samples=4, binarisation="redrawn")
    seed_everything(0)  # the same noise for every contestant
    with evaluating(model):
        copies = model.decode(model.encode(test[:N_SHOWN]).sample()).mean
        extra = dict.fromkeys(("distortion", "fd_prior", "fd_fitted"), 0.0)
        if ruler is not None:
            epsilon = torch.randn(ruler.n, LATENT_DIM)
            z = model.encode(grey.train.images[:10_000]).sample()
            fitted = z.mean(dim=0) + epsilon @ torch.linalg.cholesky(torch.cov(z.T)).T
            copied = model.decode(model.encode(grey.test.images).sample()).mean
            extra = {
                "distortion": squared_error(as_pixels(grey.test.images), copied).mean().item(),
                "fd_prior": ruler(model.decode(epsilon).mean),
                "fd_fitted": ruler(model.decode(fitted).mean),
            }
    return {
        "log_p": better.value,
        "error": better.error,
        "elbo": bound.elbo.value,
        "rate": bound.kl.value,
        **extra,
        "copies": _packed(copies),
    }


# --- A convolutional model from a tutorial -------------------------------------------------------


class PublishedModel(VAE):
    """A tutorial's convolutional encoder and decoder, made to fit each other and 28 × 28 images.

    Windows of 3 × 3 all through. Encoder: two convolutions, each followed by a maximum over 2 × 2,
    then a linear layer. Decoder: a linear layer, two transposed convolutions in steps of 2, two
    convolutions. ``share`` divides the published numbers of feature maps (64, 128; 256, 128, 64).

    With ``noise`` it is a VAE. Without, it is what was published: its code is μ, and the loss the
    squared error of a pixel, on average.
    """

    def __init__(self, share: int, noise: bool):
        a, b, c = 64 // share, 128 // share, 256 // share
        encoder = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),
            nn.Conv2d(1, a, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(b * 7 * 7, 2 * LATENT_DIM),
        )  # fmt: skip
        double = {"stride": 2, "padding": 1, "output_padding": 1}
        decoder = nn.Sequential(
            nn.Linear(LATENT_DIM, b * 7 * 7), nn.ReLU(), nn.Unflatten(1, (b, 7, 7)),
            nn.ConvTranspose2d(b, c, 3, **double), nn.ReLU(),
            nn.ConvTranspose2d(c, b, 3, **double), nn.ReLU(),
            nn.Conv2d(b, a, 3, padding=1), nn.ReLU(),
            nn.Conv2d(a, 1, 3, padding=1), nn.Flatten(),
        )  # fmt: skip
        super().__init__(LATENT_DIM, encoder=encoder, decoder=decoder)
        self.noise = noise
        for layer in (*encoder, *decoder):
            if hasattr(layer, "weight"):  # where Keras starts
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def loss_terms(self, x: Tensor) -> dict[str, Tensor]:
        """Those of a VAE; or the mean squared error of a pixel of each image, ``[B]``."""
        if self.noise:
            return super().loss_terms(x)
        copies = self.decode(self.encode(x).mean).mean
        return {"squared error of a pixel": (x - copies).square().mean(dim=1)}


SHARE = 16  # of the published numbers of maps, one in sixteen
PUBLISHED_STEPS = 1000


@dataclass(frozen=True)
class FromTutorial:
    """What the published model copies and draws from N(0, I), without noise and as a VAE.

    ``fd`` is the Fréchet distance of its drawings and ``minus_elbo`` in nats (of the VAE).

    Shapes: ``copies`` and ``drawn`` ``[12, 784]`` in [0, 1].
    """

    fd: float
    minus_elbo: float
    copies: Tensor
    drawn: Tensor


def from_the_tutorial(grey: ImageData, *, seed: int) -> dict[str, FromTutorial]:
    """The published model as it is ("as published") and with noise and KL ("as a VAE"), each
    trained for 1,000 steps; from the stored results where they have them, else trained now."""

    @stored("published_model", grey.name, PublishedModel, _trained, _drawings)
    def measured(share, noise, steps, seed):
        seed_everything(seed)
        model, _ = _trained(PublishedModel(share, noise), grey, steps, False, seed)
        return _drawings(model, grey)

    found = {}
    for name, noise in (("as published", False), ("as a VAE", True)):
        result = measured(SHARE, noise, PUBLISHED_STEPS, seed)
        pictures = {key: _unpacked(result[key]) for key in ("copies", "drawn")}
        found[name] = FromTutorial(**result | pictures)
    return found


def _drawings(model: PublishedModel, grey: ImageData) -> dict:
    ruler = FrechetDistance(grey.test.images, grey.train.images)
    test = grey.binarised("redrawn").test.images
    some = test[:: len(test) // N_TEST][:N_TEST]
    bound = 0.0
    if model.noise:
        bound = -estimate_elbo(model, some, n_samples=4, binarisation="redrawn").elbo.value
    seed_everything(0)
    with evaluating(model):
        drawn = model.decode(torch.randn(ruler.n, LATENT_DIM)).mean
        q = model.encode(test[:12])
        copies = model.decode(q.sample() if model.noise else q.mean).mean
    return {
        "fd": ruler(drawn),
        "minus_elbo": bound,
        "copies": _packed(copies),
        "drawn": _packed(drawn[:12]),
    }


# --- Small pictures in colour --------------------------------------------------------------------

COLOUR_STEPS = 2000


@dataclass(frozen=True)
class InColour:
    """A VAE of ColourDigits on the test pictures.

    ``bits`` is −ELBO in bits for each of the 3,072 bytes of a picture, ``sigma_x`` the standard
    deviation of a value around its mean, ``seconds`` as in `Contestant`. Pictures are the means of
    p(x|z): ``copies`` of the first test pictures, from a draw of the code, and what is ``drawn``
    from N(0, I).

    Shapes: pictures ``[8, 3072]`` in [0, 1].
    """

    bits: float
    sigma_x: float
    seconds: float
    weights: int
    operations: int
    copies: Tensor
    drawn: Tensor


def compete_in_colour(*, seed: int) -> dict[str, InColour]:
    """A "CNN" and an "MLP" of as many operations on ColourDigits, and the same with ", early" (a
    quarter of the steps); from the stored results where they have them, else trained now. One line
    says which."""
    trained_now = False

    @stored("in_colour", "colours", _colour_network, _in_colour, conv_encoder, conv_decoder)
    def measured(convolutional, steps, seed):
        nonlocal trained_now
        trained_now = True
        return _in_colour(convolutional, steps, seed)

    found = {}
    for name, convolutional, steps in (
        ("CNN", True, COLOUR_STEPS),
        ("MLP", False, COLOUR_STEPS),
        ("CNN, early", True, COLOUR_STEPS // 4),
        ("MLP, early", False, COLOUR_STEPS // 4),
    ):
        result = measured(convolutional, steps, seed)
        pictures = {key: _unpacked(result[key], 3072) for key in ("copies", "drawn")}
        found[name] = InColour(**result | pictures)
    print(f"4 trainings in colour: ⟨{_how(trained_now)}⟩")
    return found


def _colour_network(convolutional: bool) -> VAE:
    d, n_pixels = 32, 3 * 32 * 32
    if convolutional:
        sizes = {"image_shape": (3, 32, 32), "channels": (16, 32, 64)}
        encoder, decoder = conv_encoder(2 * d, **sizes), conv_decoder(d, **sizes)
    else:
        encoder, decoder = mlp(n_pixels, 416, 2 * d), mlp(d, 416, n_pixels)
    return VAE(
        d, n_pixels=n_pixels, encoder=encoder, decoder=decoder,
        likelihood=GaussianLikelihood(0.2, learned=True),
    )  # fmt: skip


def _in_colour(convolutional: bool, steps: int, seed: int) -> dict:
    (images, *_), (test, *_) = colours.dataset()
    images, test = torch.from_numpy(images.copy()), torch.from_numpy(test.copy())
    seed_everything(seed)
    model = _colour_network(convolutional)
    begin = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        fit(model, images, steps=steps, batch_size=64, lr=one_cycle(steps, peak=3e-3), seed=seed)
    seconds = time.process_time() - begin
    # Uniform noise of one step makes the density a bound on the probability of the bytes.
    draw = torch.Generator().manual_seed(0)
    spread = (test + torch.rand(test.shape, generator=draw)) / 256
    bound = estimate_elbo(model, spread, n_samples=2, binarisation="grey").elbo
    seed_everything(0)
    with evaluating(model):
        copies = model.decode(model.encode(test[:8]).sample()).mean
        drawn = model.decode(torch.randn(8, model.latent_dim)).mean
    return {
        "bits": -bound.value / spread[0].numel() / torch.log(torch.tensor(2.0)).item() + 8,
        "sigma_x": model.likelihood.sigma_x.item(),
        "seconds": seconds,
        "weights": weights_of(model),
        "operations": operations(model),
        "copies": _packed(copies),
        "drawn": _packed(drawn),
    }


def _how(trained_now: bool) -> str:
    return "trained now" if trained_now else "stored with the book"


def _packed(images: Tensor) -> str:
    """Images as text: a byte for each pixel, compressed."""
    bytes_ = (255 * images.clamp(0, 1)).round().to(torch.uint8).cpu().numpy()
    return base64.b64encode(zlib.compress(bytes_.tobytes(), 9)).decode()


def _unpacked(text: str, n_pixels: int = 784) -> Tensor:
    values = zlib.decompress(base64.b64decode(text))
    flat = torch.frombuffer(bytearray(values), dtype=torch.uint8)
    return as_pixels(flat.reshape(-1, n_pixels))
