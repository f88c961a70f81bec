"""The models of chapters 1 to 3: values against computations by hand, and how they relate to the
VAE's."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from small import N_PIXELS, small_images
from vae_book.beta import effective_beta
from vae_book.models import (
    Autoencoder,
    LinearAutoencoder,
    NoisyAutoencoder,
    SquaredErrorVAE,
    squared_error,
)
from vae_core import as_pixels, elbo_terms, fit, seed_everything

KINDS = (Autoencoder, LinearAutoencoder, NoisyAutoencoder, SquaredErrorVAE)
BYTES = small_images(7, binary=False)
X = as_pixels(BYTES, dtype=torch.float64)


def small(kind, latent_dim: int = 3, **sizes):
    seed_everything(0)
    return kind(latent_dim, n_pixels=N_PIXELS, **sizes)


def by_hand(network: torch.nn.Sequential, rows: torch.Tensor) -> torch.Tensor:
    """Two layers as matrix products."""
    first, _, second = network[:3]
    hidden = (rows @ first.weight.T + first.bias).clamp(min=0)
    return hidden @ second.weight.T + second.bias


def cloud_by_hand(model, noise_seed: int):
    """μ, σ and z = μ + σ ⊙ ε with the noise that follows the seed."""
    mean, log_var = by_hand(model.encoder, X).chunk(2, dim=1)
    sigma = (log_var / 2).exp()
    seed_everything(noise_seed)
    return mean, sigma, mean + sigma * torch.randn(7, 3, dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_trains_and_takes_images_in_every_form(kind):
    model = small(kind)
    history = fit(model, BYTES, steps=2, batch_size=4)
    assert all(values.shape == (2,) for values in history.train.values())
    assert {values.shape for values in model.loss_terms(X.float()).values()} == {(7,)}
    codes = [model.encode(form) for form in (BYTES, BYTES[:, None], BYTES.numpy(), X.float())]
    codes = [code if isinstance(code, torch.Tensor) else code.mean for code in codes]
    assert codes[0].shape == (7, 3) and all(torch.equal(code, codes[0]) for code in codes)


def test_codes_and_pixels_of_the_autoencoder_by_hand():
    model = small(Autoencoder, hidden=(5,)).double()
    z = by_hand(model.encoder, X)
    x_hat = 1 / (1 + torch.exp(-by_hand(model.decoder, z)))
    torch.testing.assert_close(model.encode(BYTES), z)
    torch.testing.assert_close(model.decode(z), x_hat)
    torch.testing.assert_close(model.reconstruct(BYTES), x_hat)
    error = model.loss_terms(X)
    torch.testing.assert_close(error, {"squared error": (X - x_hat).square().sum(dim=1)})


def test_codes_of_another_float_type_are_decoded():
    model, z = small(Autoencoder).double(), torch.randn(5, 3)
    assert torch.equal(model.decode(z), model.decode(z.double()))


def test_squared_error_is_a_sum_over_pixels_and_one_number_an_image():
    x, x_hat = torch.zeros(2, 784), torch.zeros(2, 784)
    x_hat[0, :10] = 0.5  # ten pixels off by ½: 10 × ¼
    assert squared_error(x, x_hat).tolist() == [2.5, 0.0]
    with pytest.raises(ValueError, match="x_hat: expected the shape of x"):
        squared_error(x, x_hat[:1])  # would broadcast


def test_the_linear_autoencoder_is_linear():
    model = small(LinearAutoencoder).double()
    middle = model.reconstruct((X[:1] + X[1:2]) / 2)
    torch.testing.assert_close(middle, (model.reconstruct(X[:1]) + model.reconstruct(X[1:2])) / 2)


def test_the_noisy_loss_by_hand():
    model = small(NoisyAutoencoder).double()
    _, _, z = cloud_by_hand(model, noise_seed=1)
    expected = {"squared error": (X - by_hand(model.decoder, z).sigmoid()).square().sum(dim=1)}
    seed_everything(1)
    torch.testing.assert_close(model.loss_terms(X), expected)


def test_hidden_widths_may_come_from_an_iterator():
    """It can be read once only, and the encoder is built twice."""
    one, other = (
        small(NoisyAutoencoder, hidden=hidden).state_dict() for hidden in ((5, 4), iter((5, 4)))
    )
    assert [w.shape for w in one.values()] == [w.shape for w in other.values()]


def test_a_noisy_code_is_a_cloud_and_reconstruct_draws_from_it():
    model = small(NoisyAutoencoder).double()
    cloud = model.encode(BYTES)
    mean, sigma, z = cloud_by_hand(model, noise_seed=1)
    assert cloud.batch_shape == (7,) and cloud.event_shape == (3,)
    torch.testing.assert_close((cloud.mean, cloud.stddev), (mean, sigma))
    first = model.reconstruct(BYTES)
    assert first.shape == (7, N_PIXELS) and not torch.equal(first, model.reconstruct(BYTES))


def test_the_terms_of_the_squared_error_vae_by_hand():
    model = small(SquaredErrorVAE).double()
    mean, sigma, z = cloud_by_hand(model, noise_seed=1)
    standard = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = {
        "squared error": (X - by_hand(model.decoder, z).sigmoid()).square().sum(dim=1),
        "KL": kl_divergence(Independent(Normal(mean, sigma), 1), Independent(standard, 1)),
    }
    seed_everything(1)
    torch.testing.assert_close(model.loss_terms(X), expected)


def test_weight_1_is_the_elbo_of_variance_one_half():
    """squared error + KL = −ELBO less the Gaussian's constant; effective_beta agrees."""
    model, noise = small(SquaredErrorVAE).double(), torch.randn(1, 7, 3, dtype=torch.float64)
    terms = elbo_terms(model, BYTES, noise=noise)
    error = squared_error(X, model.decode(terms.z[0]).mean)
    constant = N_PIXELS / 2 * math.log(math.pi)
    torch.testing.assert_close(
        terms.elbo, -(error + terms.kl) - constant, rtol=1e-6, atol=1e-6
    )  # √½ was rounded to float32
    assert effective_beta(1.0, latent_dim=3, sigma_x=math.sqrt(0.5)) == pytest.approx(1)
    assert effective_beta(3.0, latent_dim=3, sigma_x=math.sqrt(1.5)) == pytest.approx(1)


def test_bad_images_are_named_x():
    with pytest.raises(ValueError, match=r"x: expected float values in \[0, 1\].*255"):
        small(Autoencoder).encode(torch.full((2, N_PIXELS), 255.0))


@pytest.mark.parametrize(
    ("z", "error"),
    [
        (torch.zeros(4, 3), ValueError),
        (torch.zeros(2), ValueError),
        (torch.full((1, 2), torch.nan), ValueError),
        (torch.zeros(4, 2, dtype=torch.int64), TypeError),
        ("z", TypeError),
    ],
)
def test_bad_codes(z, error):
    with pytest.raises(error, match="z: expected"):
        small(Autoencoder, 2).decode(z)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_sizes(kind):
    for size, error in ((0, ValueError), (-2, ValueError), (2.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="latent_dim: expected an integer of at least 1"):
            kind(size)
    if kind is not LinearAutoencoder:
        with pytest.raises(ValueError, match="hidden: expected an integer of at least 1, got 0"):
            kind(2, hidden=(0,))
