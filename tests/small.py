"""Models and images small enough that a test takes no time; used by all tests."""

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from vae_core import VAE, DiagonalGaussian, History, seed_everything

N_PIXELS = 16


@pytest.fixture(autouse=True)
def one_thread():
    """With networks this small, several threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_images(
    n: int = 100, *, seed: int = 1, binary: bool = True, shape: tuple[int, ...] = (4, 4)
) -> torch.Tensor:
    """uint8 images, black and white or grey, [n, *shape]."""
    noise = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 2 if binary else 256, (n, *shape), generator=noise)
    return (values * (255 if binary else 1)).to(torch.uint8)


def small_vae(latent_dim: int = 2, *, seed: int = 0, kind: type[VAE] = VAE, **changes) -> VAE:
    """A VAE of 4 × 4 images with untrained weights."""
    seed_everything(seed)
    return kind(latent_dim, **{"hidden": (8,), "n_pixels": N_PIXELS} | changes)


class OneNumber(torch.nn.Module):
    """A model with one weight w and the loss (mean pixel − w)², for tests by hand.

    Before it gives its terms, something may happen: ``event(number of the call, terms)`` gives
    others, or the same.
    """

    n_pixels = N_PIXELS

    def __init__(self, event=lambda call, terms: terms):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(()))
        self.event, self.calls = event, 0

    def loss_terms(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        self.calls += 1
        return self.event(self.calls, {"error": (x.mean(dim=1) - self.w).square()})


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """To the last bit, under the same names."""
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def same_history(one: History, other: History) -> bool:
    """To the last bit, with the terms in the same order, which is that of the plots."""
    return (
        list(one.train) == list(other.train)
        and list(one.val) == list(other.val)
        and all(np.array_equal(one.train[term], other.train[term]) for term in one.train)
        and one.val == other.val
        and one.val_steps == other.val_steps
    )


def random_numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal numbers, float64, the same at each call."""
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=noise, dtype=torch.float64)


def grey(*shape: int, seed: int = 1) -> torch.Tensor:
    """Pixel values between 0 and 1, float64, the same at each call."""
    noise = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=noise, dtype=torch.float64)


def with_random_weights(model: torch.nn.Module, size: float = 0.5) -> torch.nn.Module:
    """The model in float64 with every weight drawn anew, except those of its likelihood."""
    model = model.double()
    with torch.no_grad():
        for number, (name, weights) in enumerate(model.named_parameters()):
            if not name.startswith("likelihood"):
                weights.copy_(size * random_numbers(*weights.shape, seed=number))
    return model


def diagonal(*batch: int, d: int = 3, seed: int = 0) -> DiagonalGaussian:
    """A diagonal Gaussian with random means and standard deviations, float64."""
    log_var = random_numbers(*batch, d, seed=seed + 100)
    return DiagonalGaussian(random_numbers(*batch, d, seed=seed), log_var)


class FullGaussian(MultivariateNormal):
    """A posterior N(μ, L Lᵀ), as one writes it for ``vae_core``."""

    def from_noise(self, noise):
        # As a sum, not a matrix product: autocast would compute that in bfloat16.
        return self.loc + (self.scale_tril * noise.unsqueeze(-2)).sum(dim=-1)

    def detached(self):
        return FullGaussian(self.loc.detach(), scale_tril=self.scale_tril.detach())


def full(*batch: int, d: int = 3, seed: int = 0) -> FullGaussian:
    """A Gaussian with a random mean and a random full covariance matrix, float64."""
    root = random_numbers(*batch, d, d, seed=seed + 100)
    covariance = root @ root.mT + 0.3 * torch.eye(d)
    return FullGaussian(random_numbers(*batch, d, seed=seed), covariance)
