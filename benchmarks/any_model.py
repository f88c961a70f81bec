"""Race (b): VAEs for 105, 100 and 95 nats on re-drawn MNIST, trained with ``fit`` alone.

Each has a mixture of Gaussians for a prior, fitted with the rest, and SiLU networks whose hidden
layers of equal width add to what they get. The encoder sees the pixels that often have ink; where
hardly an image has any, the decoder has only a bias. What each part gained is on the page.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from vae_core import VAE, fit, warm_up

# By target: what chose itself on validation images, each the cheapest that passed.
RECIPES: dict[int, dict] = {}
INK_SEEN, INK_DRAWN = 0.02, 0.001  # mean ink of the pixels that count
PRIOR_RATE = 5.0  # times the rate of the rest


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.silu(self.linear(x))


class Pick(nn.Module):
    """Some pixels of each image."""

    def __init__(self, pixels: Tensor):
        super().__init__()
        self.register_buffer("pixels", pixels)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.pixels)


class Place(nn.Module):
    """Logits of some pixels in their places; the others have a logit of their own, always."""

    def __init__(self, pixels: Tensor, others: Tensor):
        super().__init__()
        self.register_buffer("pixels", pixels)
        self.register_buffer("others", others)

    def forward(self, logits: Tensor) -> Tensor:
        whole = self.others.to(logits).expand(len(logits), -1)
        return whole.index_copy(1, self.pixels, logits)


class MixtureOfGaussians(Distribution):
    """Σₖ wₖ N(mₖ, diag σₖ²), from means and log σ² ``[K, d]`` and log w ``[K]``."""

    arg_constraints: dict = {}
    support = constraints.real_vector

    def __init__(self, means: Tensor, log_vars: Tensor, log_weights: Tensor):
        super().__init__((), means.shape[1:], validate_args=False)
        self.means, self.log_vars, self.log_weights = means, log_vars, log_weights

    def log_prob(self, z: Tensor) -> Tensor:
        precisions = torch.exp(-self.log_vars)
        constant = (self.means.square() * precisions + self.log_vars).sum(dim=1)
        constant = constant + self.means.shape[1] * math.log(2 * math.pi)
        distances = z.square() @ precisions.T - 2 * z @ (self.means * precisions).T + constant
        return torch.logsumexp(self.log_weights - 0.5 * distances, dim=-1)


class Mixture(nn.Module):
    """A prior of ``n`` Gaussians. Its parameters stand divided by ``PRIOR_RATE``: to Adam, whose
    steps have one size for all, that is a higher learning rate."""

    def __init__(self, n: int, d: int, spread: float):
        super().__init__()
        self.means = nn.Parameter(torch.randn(n, d) * spread / PRIOR_RATE)
        self.log_vars = nn.Parameter(torch.zeros(n, d))
        self.logits = nn.Parameter(torch.zeros(n))

    def forward(self, condition: None = None) -> MixtureOfGaussians:
        log_weights = torch.log_softmax(PRIOR_RATE * self.logits, dim=0)
        return MixtureOfGaussians(PRIOR_RATE * self.means, PRIOR_RATE * self.log_vars, log_weights)


def network(*sizes: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        same = n_in == n_out
        layers += [Residual(n_in)] if same else [nn.Linear(n_in, n_out), nn.SiLU()]
    return layers


def any_model(target: int, images: Tensor, seed: int, device: torch.device) -> Callable[[], VAE]:
    """What is timed: from the mean image to the last weight."""
    return partial(_train, RECIPES[target], images, seed, device)


def _train(recipe: dict, images: Tensor, seed: int, device: torch.device) -> VAE:
    mean = images[:10_000].float().mean(dim=0).cpu() / 255
    seen, drawn = ((mean > least).nonzero().flatten() for least in (INK_SEEN, INK_DRAWN))
    d, encoder, decoder = recipe["latent"], recipe["encoder"], recipe["decoder"]
    logits = torch.logit(mean.clamp(1e-3, 1 - 1e-3))
    rest = torch.logit(((mean * 10_000 + 0.5) / 10_001).clamp(max=0.5))
    last = nn.Linear(decoder[-1], len(drawn))
    with torch.no_grad():
        last.bias.copy_(logits[drawn])
    vae = VAE(
        d,
        encoder=nn.Sequential(
            Pick(seen), *network(len(seen), *encoder), nn.Linear(encoder[-1], 2 * d)
        ),
        decoder=nn.Sequential(*network(d, *decoder), last, Place(drawn, rest)),
        prior=Mixture(recipe["mixture"], d, recipe["spread"]),
    ).to(device)
    steps = recipe["steps"]
    fit(
        vae, images, steps=steps, batch_size=recipe["batch"], redraw=True, seed=seed,
        lr=recipe["schedule"](steps, recipe["peak"]), device=device, precision="bfloat16",
        weights={"KL from samples": warm_up(round(recipe["KL warm-up"] * steps))},
        optimiser=lambda weights: torch.optim.Adam(weights, betas=recipe["betas"], fused=True),
    )  # fmt: skip
    return vae
