"""Learn where codes lie: a Gaussian, a mixture, a flow; and chapter 10's experiment with them.

The experiment takes minutes for each data set and seed, so its results ship with the book.
"""

from __future__ import annotations

import contextlib
import functools
import io
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from vae_book.coverage import Coverage, overlap
from vae_book.data import ImageData
from vae_book.flow import Velocity, carry, flow_matching, log_density
from vae_book.frechet import FrechetDistance
from vae_book.ladder import images_of
from vae_book.models import Autoencoder, SquaredErrorVAE
from vae_book.stored import stored
from vae_book.weights import train
from vae_core import VAE, fit, mean_terms, one_cycle, seed_everything

__all__ = [
    "LEARNED",
    "MODELS",
    "Drawing",
    "FlowPrior",
    "MixturePrior",
    "codes_of",
    "experiment",
    "fit_gaussian",
]

STEPS = 3000
LEARNED = ("Gaussian", "mixture", "flow")
NEXT_TO_NOTHING = 1e-6  # the weight of the KL in Stable Diffusion's autoencoder
SMALL = 100  # that codes are divided by, to see what a flow then does
JUDGED = 500  # images whose codes' log-density is taken
MODELS = (  # d and w
    (16, None),
    (16, NEXT_TO_NOTHING),
    (16, 0.05),
    (16, 0.3),
    (16, 1),
    (8, None),
    (32, None),
)


class MixturePrior:
    """A mixture of Gaussians with covariances of their own, fitted to codes by EM.

    Shapes: ``codes`` ``[N, d]``, of which at most 20,000 are used.

    Source: Dempster, Laird and Rubin (1977), as scikit-learn has it.
    """

    def __init__(self, codes: Tensor, *, components: int = 50, seed: int = 0):
        from sklearn.mixture import GaussianMixture

        self.mixture = GaussianMixture(
            components, reg_covar=1e-4, tol=0.01, max_iter=200, random_state=seed
        )
        self.mixture.fit(codes[:20_000].double().numpy())

    def sample(self, shape: tuple[int]) -> Tensor:
        """n codes in random order, ``[n, d]`` for a shape ``(n,)``, as PyTorch's distributions."""
        n = shape[0]
        self.mixture.random_state = int(torch.randint(2**31, ()))
        codes = torch.from_numpy(self.mixture.sample(n)[0]).float()
        return codes[torch.randperm(n)]  # the library sorts them by component

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats, ``[N]``."""
        return torch.from_numpy(np.asarray(self.mixture.score_samples(z.double().numpy())))


class FlowPrior:
    """A flow from N(0, I) to codes, learned by flow matching.

    Shapes: ``codes`` ``[N, d]``.
    """

    def __init__(self, codes: Tensor, *, seed: int, steps: int = 4000):
        self.latent_dim = codes.shape[1]
        torch.manual_seed(seed)
        self.velocity = Velocity(self.latent_dim)
        with contextlib.redirect_stdout(io.StringIO()):  # the progress bar is on stderr
            fit(
                self.velocity,
                codes,
                loss=flow_matching,
                steps=steps,
                batch_size=256,
                lr=one_cycle(steps, peak=4e-3),
                seed=seed,
            )
        self.velocity.requires_grad_(False)

    def path(self, noise: Tensor) -> Tensor:
        """Where noise is carried, at 33 equally spaced times from 0 to 1: ``[33, N, d]``."""
        return carry(self.velocity, noise)

    def sample(self, shape: tuple[int]) -> Tensor:
        """n codes, ``[n, d]`` for a shape ``(n,)``, as PyTorch's distributions."""
        return self.path(torch.randn(*shape, self.latent_dim))[-1]

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats, ``[N]``."""
        return log_density(self.velocity, z)


def fit_gaussian(codes: Tensor) -> MultivariateNormal:
    """The Gaussian with the mean and the covariance of the codes (1.8)."""
    return MultivariateNormal(codes.mean(dim=0), torch.cov(codes.T))


def codes_of(model: nn.Module, images: Tensor) -> Tensor:
    """The codes of images, ``[N, d]``: one draw from each cloud, or the point."""
    with torch.no_grad():
        answer = model.encode(images)
        return answer if isinstance(answer, Tensor) else answer.sample()


@dataclass(frozen=True)
class Drawing:
    """What one model draws, from codes of several origins.

    ``weight`` of the KL is None for the autoencoder. Origins are "N(0, I)", "scale" (independent
    normal coordinates with the means and standard deviations of the codes), "Gaussian", "mixture",
    "flow", "own" (codes of training images) and, at w = 1e-6, "flow of small codes" (learned from a
    hundredth of the codes). ``fd``, ``precision`` and ``coverage`` have one number for each.

    ``spread`` is the standard deviation of the codes, ``noise`` the mean σ over it, both averaged
    over the coordinates. ``distortion`` is the squared error of copies of test images.

    ``rate`` has the average of log q(z|x) − log p(z) over test images for each prior, in nats, and
    is empty for the autoencoder. ``log_density`` has the average of log p(z) over training and over
    test codes for each learned prior, in nats.

    Numbers of nats are averages over the first 500 images.
    """

    latent_dim: int
    weight: float | None
    spread: float
    noise: float
    distortion: float
    fd: dict[str, float]
    precision: dict[str, float]
    coverage: dict[str, float]
    rate: dict[str, float]
    log_density: dict[str, list[float]]


def experiment(
    data: ImageData, *, seed: int, models: tuple[tuple[int, float | None], ...] = MODELS
) -> dict[tuple[int, float | None], Drawing]:
    """Each of the models, by d and w; from the stored results where they have them, else trained
    now. One line says which."""
    trained_now = False
    rulers = functools.cache(
        lambda: [
            ruler(data.test.images, data.train.images) for ruler in (FrechetDistance, Coverage)
        ]
    )

    @stored("priors", data.name, _trained, _drawing, MixturePrior, FlowPrior, Velocity,
            carry, flow_matching, log_density, codes_of, overlap, SquaredErrorVAE)  # fmt: skip
    def drawing(latent_dim, weight, seed):
        nonlocal trained_now
        trained_now = True
        model = _trained(data, latent_dim, weight, seed)
        return _drawing(model, data, weight, seed, *rulers())

    found = {
        (latent_dim, weight): Drawing(latent_dim, weight, **drawing(latent_dim, weight, seed))
        for latent_dim, weight in models
    }
    how = "trained now" if trained_now else "stored with the book"
    print(f"{len(found)} models and their priors: ⟨{how}⟩")
    return found


def _trained(data: ImageData, latent_dim: int, weight: float | None, seed: int) -> nn.Module:
    seed_everything(seed)
    model = Autoencoder(latent_dim) if weight is None else SquaredErrorVAE(latent_dim)
    weights = {} if weight is None else {"KL": weight}
    train(model, data, steps=STEPS, seed=seed, peak=3e-3, weights=weights)
    return model.requires_grad_(False)


def _drawing(
    model: nn.Module,
    data: ImageData,
    weight: float | None,
    seed: int,
    distance: FrechetDistance,
    coverage: Coverage,
) -> dict:
    """What ``Drawing`` has of one trained model, as plain numbers."""
    seed_everything(0)  # the same noise for every model
    codes, test = codes_of(model, data.train.images), data.test.images
    mean, std = codes.mean(dim=0), codes.std(dim=0)
    learned = {
        "Gaussian": fit_gaussian(codes),
        "mixture": MixturePrior(codes, seed=seed),
        "flow": FlowPrior(codes, seed=seed),
    }
    epsilon = torch.randn(distance.n, model.latent_dim)
    origins = {"N(0, I)": epsilon, "scale": mean + std * epsilon, "own": codes[: distance.n]}
    origins |= {name: prior.sample((distance.n,)) for name, prior in learned.items()}
    if weight == NEXT_TO_NOTHING:
        origins["flow of small codes"] = FlowPrior(codes / SMALL, seed=seed).sample((distance.n,))
        origins["flow of small codes"] *= SMALL
    images = {name: images_of(model, z) for name, z in origins.items()}
    overlaps = {name: coverage(drawn) for name, drawn in images.items()}

    z = codes_of(model, test[:JUDGED])
    density = {name: prior.log_prob(z).mean().item() for name, prior in learned.items()}
    on_training = {
        name: prior.log_prob(codes[:JUDGED]).mean().item() for name, prior in learned.items()
    }
    rate, noise = {}, 0.0
    if isinstance(model, VAE):
        q = model.encode(test[:JUDGED])
        z = q.sample()
        log_q, noise = q.log_prob(z), (q.stddev.mean(dim=0) / std).mean().item()
        rate = {"N(0, I)": (log_q - model.prior().log_prob(z)).mean().item()}
        rate |= {name: (log_q - p.log_prob(z)).mean().item() for name, p in learned.items()}
    return {
        "spread": std.mean().item(),
        "noise": noise,
        "distortion": mean_terms(model, test)["squared error"],
        "fd": {name: distance(drawn) for name, drawn in images.items()},
        "precision": {name: both.precision for name, both in overlaps.items()},
        "coverage": {name: both.coverage for name, both in overlaps.items()},
        "rate": rate,
        "log_density": {name: [on_training[name], density[name]] for name in learned},
    }
