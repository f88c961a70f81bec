"""The models of chapters 2 and 3: what their losses are, and how they relate to the VAE's."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from vae_core import (
    NoisyAutoencoder,
    SquaredErrorVAE,
    as_pixels,
    effective_beta,
    elbo_terms,
    seed_everything,
)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (7, 28, 28), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )


def test_noisy_loss_by_hand(images):
    model, x = NoisyAutoencoder(3).double(), as_pixels(images, dtype=torch.float64)
    seed_everything(1)
    got = model.loss_terms(x)
    seed_everything(1)
    mean, log_var = model.encoder(x).chunk(2, dim=1)
    z = mean + (log_var / 2).exp() * torch.randn(7, 3, dtype=torch.float64)
    assert list(got) == ["squared error"]
    torch.testing.assert_close(got["squared error"], (x - model.decoder(z)).square().sum(dim=1))


def test_hidden_widths_may_come_from_an_iterator():
    """It can be read once only, and the encoder is built twice."""
    shapes = [
        [tuple(weights.shape) for weights in NoisyAutoencoder(3, hidden=hidden).parameters()]
        for hidden in ((20, 10), iter((20, 10)))
    ]
    assert shapes[0] == shapes[1]


def test_noisy_encode_is_a_cloud_and_reconstruct_draws_from_it(images):
    model = NoisyAutoencoder(2)
    cloud = model.encode(images)
    assert cloud.batch_shape == (7,) and cloud.event_shape == (2,)
    seed_everything(0)
    first = model.reconstruct(images)
    assert first.shape == (7, 784) and not torch.equal(first, model.reconstruct(images))


def test_squared_error_vae_terms_by_hand(images):
    model, x = SquaredErrorVAE(3).double(), as_pixels(images, dtype=torch.float64)
    seed_everything(1)
    got = model.loss_terms(x)
    seed_everything(1)
    mean, log_var = model.encoder(x).chunk(2, dim=1)
    sigma = (log_var / 2).exp()
    z = mean + sigma * torch.randn(7, 3, dtype=torch.float64)
    x_hat = torch.sigmoid(model.decoder(z))
    torch.testing.assert_close(got["squared error"], (x - x_hat).square().sum(dim=1))
    standard = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    wanted = kl_divergence(Independent(Normal(mean, sigma), 1), Independent(standard, 1))
    torch.testing.assert_close(got["KL"], wanted)


def test_weight_1_is_the_elbo_of_variance_one_half(images):
    """squared error + KL = −ELBO less the Gaussian's constant; effective_beta agrees."""
    model, noise = SquaredErrorVAE(3).double(), torch.randn(1, 7, 3, dtype=torch.float64)
    terms = elbo_terms(model, images, noise=noise)
    error = (as_pixels(images, dtype=torch.float64) - model.decode(terms.z[0]).mean).square()
    constant = 784 / 2 * math.log(math.pi)
    torch.testing.assert_close(terms.elbo, -(error.sum(dim=1) + terms.kl) - constant)
    assert effective_beta(1.0, latent_dim=3, sigma_x=math.sqrt(0.5)) == pytest.approx(1)
    assert effective_beta(3.0, latent_dim=3, sigma_x=math.sqrt(1.5)) == pytest.approx(1)
