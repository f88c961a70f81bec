"""Race (b): VAEs for 105, 100 and 95 nats on re-drawn MNIST, trained with ``fit`` alone.

Each has a mixture of Gaussians for a prior, fitted with the rest, and networks of SiLUs in which a
layer as wide as the one before adds to what it gets.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from vae_core import VAE, fit


@dataclass(frozen=True)
class Recipe:
    """What was chosen on validation images; ``rise`` is the share of steps until the ``peak``."""

    steps: int
    batch: int
    peak: float
    rise: float
    latent: int
    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    mixture: int
    prior_rate: float  # of the prior's parameters, times the rate of the rest


RECIPES = {
    105: Recipe(480, 64, 8e-3, 0.10, 20, (300,), (300, 300), 200, 5.0),
    100: Recipe(410, 128, 8e-3, 0.10, 24, (400,), (400, 400, 400), 500, 5.0),
    95: Recipe(1330, 128, 6e-3, 0.15, 24, (400,), (400, 400, 400), 500, 8.0),
}


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.silu(self.linear(x))


class MixtureOfGaussians(Distribution):
    """Σₖ wₖ N(mₖ, diag σₖ²), from means and log σ² ``[K, d]`` and log w ``[K]``."""

    arg_constraints: dict = {}
    support = constraints.real_vector

    def __init__(self, means: Tensor, log_vars: Tensor, log_weights: Tensor):
        super().__init__((), means.shape[1:], validate_args=False)
        self.means, self.log_vars, self.log_weights = means, log_vars, log_weights

    def log_prob(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):  # differences of large numbers
            precisions = torch.exp(-self.log_vars)
            constant = (self.means.square() * precisions + self.log_vars).sum(dim=1)
            constant = constant + self.means.shape[1] * math.log(2 * math.pi)
            squares = z.square() @ precisions.T - 2 * z @ (self.means * precisions).T
            return torch.logsumexp(self.log_weights - 0.5 * (squares + constant), dim=-1)


class Mixture(nn.Module):
    """A prior of ``n`` Gaussians. Its parameters stand divided by ``rate``: to Adam, whose steps
    are as large for all, that is a higher learning rate."""

    def __init__(self, n: int, d: int, rate: float):
        super().__init__()
        self.rate = rate
        self.means = nn.Parameter(torch.randn(n, d) * 0.4 / rate)
        self.log_vars = nn.Parameter(torch.zeros(n, d))
        self.logits = nn.Parameter(torch.zeros(n))

    def forward(self, condition: None = None) -> MixtureOfGaussians:
        log_weights = torch.log_softmax(self.rate * self.logits, dim=0)
        return MixtureOfGaussians(self.rate * self.means, self.rate * self.log_vars, log_weights)


def network(*sizes: int) -> nn.Sequential:
    """From ``sizes[0]`` to ``sizes[-1]``, without an activation at the end."""
    layers: list[nn.Module] = []
    for n_in, n_out in zip(sizes[:-2], sizes[1:-1], strict=True):
        layers += [Residual(n_in)] if n_in == n_out else [nn.Linear(n_in, n_out), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(*sizes[-2:]))


def any_model(target: int, images: Tensor, seed: int, device: torch.device) -> Callable[[], VAE]:
    """Set up the model for a target; the result is what is timed."""
    recipe = RECIPES[target]
    d = recipe.latent
    vae = VAE(
        d,
        encoder=network(784, *recipe.encoder, 2 * d),
        decoder=network(d, *recipe.decoder, 784),
        prior=Mixture(recipe.mixture, d, recipe.prior_rate),
    ).to(device)
    with torch.no_grad():
        vae.encoder[-1].weight.mul_(2)
        vae.encoder[-1].bias[d:] = -1  # log σ²
    return partial(_train, vae, recipe, images, seed, device)


def _train(vae: VAE, recipe: Recipe, images: Tensor, seed: int, device: torch.device) -> VAE:
    steps, top = recipe.steps, recipe.rise * recipe.steps

    def rate(step: int) -> float:
        return recipe.peak * min((step + 1) / top, (steps - step) / (steps - top))

    with torch.no_grad():
        mean = images[:10_000].float().mean(dim=0) / 255
        vae.decoder[-1].bias.copy_(torch.logit(mean.clamp(1e-3, 1 - 1e-3)))
    fit(
        vae, images, steps=steps, batch_size=recipe.batch, lr=rate, redraw=True, seed=seed,
        weights={"KL from samples": lambda step: min(1.0, step / (0.9 * steps))},
        device=device, precision="bfloat16",
    )  # fmt: skip
    return vae
