"""The autoencoder: shapes, values against a computation by hand, and errors that name things."""

import pytest
import torch

from vae_core import Autoencoder, LinearAutoencoder, as_pixels, mean_terms, squared_error


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (7, 28, 28), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )


def test_shapes(images):
    model = Autoencoder(3)
    assert model.encode(images).shape == (7, 3)
    assert model.decode(torch.zeros(5, 3)).shape == (5, 784)
    assert model.reconstruct(images).shape == (7, 784)
    assert {name: t.shape for name, t in model.loss_terms(as_pixels(images)).items()} == {
        "squared error": (7,)
    }


def test_every_accepted_form_of_images_gives_the_same_codes(images):
    model = Autoencoder(2)
    unit = images.float() / 255
    for form in (unit, unit.reshape(7, 784), unit[:, None], images[:, None]):
        assert torch.equal(model.encode(form), model.encode(images))


def test_codes_and_pixels_against_matrix_products(images):
    model = Autoencoder(2, hidden=(5,)).double()
    weights = dict(model.named_parameters())
    x = images.double().reshape(7, 784) / 255
    hidden = (x @ weights["encoder.0.weight"].T + weights["encoder.0.bias"]).clamp(min=0)
    z = hidden @ weights["encoder.2.weight"].T + weights["encoder.2.bias"]
    hidden = (z @ weights["decoder.0.weight"].T + weights["decoder.0.bias"]).clamp(min=0)
    x_hat = 1 / (
        1 + torch.exp(-(hidden @ weights["decoder.2.weight"].T + weights["decoder.2.bias"]))
    )
    torch.testing.assert_close(model.encode(images), z)
    torch.testing.assert_close(model.reconstruct(images), x_hat)


def test_squared_error_is_a_sum_over_pixels_and_one_number_an_image():
    x, x_hat = torch.zeros(2, 784), torch.zeros(2, 784)
    x_hat[0, :10] = 0.5  # ten pixels off by ½: 10 × ¼
    assert squared_error(x, x_hat).tolist() == [2.5, 0.0]


def test_linear_autoencoder_is_linear(images):
    model = LinearAutoencoder(4).double()
    x = as_pixels(images, dtype=torch.float64)
    middle = model.reconstruct((x[:1] + x[1:2]) / 2)
    torch.testing.assert_close(middle, (model.reconstruct(x[:1]) + model.reconstruct(x[1:2])) / 2)
    assert not any(isinstance(layer, torch.nn.Sigmoid) for layer in model.modules())


def test_mean_terms_counts_every_image_once(images):
    """Seven images in batches of three: a mean of batch means would weigh the last one thrice."""
    model = Autoencoder(2)
    whole = model.loss_terms(as_pixels(images))["squared error"].mean().item()
    assert mean_terms(model, images, batch_size=3)["squared error"] == pytest.approx(whole)


def test_mean_terms_leaves_the_mode_as_it_was(images):
    model = Autoencoder(2).train()
    mean_terms(model, images)
    assert model.training


def test_bytes_are_divided_by_255(images):
    assert torch.equal(as_pixels(images), images.reshape(7, 784).float() / 255)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.zeros(3, 27, 28), ValueError, "x: expected shape"),
        (torch.zeros(784), ValueError, "x: expected shape"),
        (torch.full((2, 784), 255.0), ValueError, r"x: expected float values in \[0, 1\].*255"),
        (torch.full((2, 784), -0.1), ValueError, r"x: expected float values in \[0, 1\]"),
        (torch.full((2, 784), torch.nan), ValueError, "x: expected finite values"),
        (torch.full((2, 784), torch.inf), ValueError, "x: expected finite values"),
        (torch.zeros(2, 784, dtype=torch.int64), TypeError, "x: expected uint8"),
        ([[0.0] * 784], TypeError, "x: expected a tensor"),
    ],
)
def test_bad_images(x, error, words):
    with pytest.raises(error, match=words):
        Autoencoder(2).encode(x)


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
        Autoencoder(2).decode(z)


@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), (-2, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_bad_latent_dim(size, error):
    with pytest.raises(error, match="latent_dim: expected an integer of at least 1"):
        Autoencoder(size)


def test_bad_hidden_width():
    with pytest.raises(ValueError, match="hidden: expected an integer of at least 1, got 0"):
        Autoencoder(2, hidden=(0,))


def test_shapes_that_broadcast_are_not_a_squared_error():
    with pytest.raises(ValueError, match="x_hat: expected the shape of x"):
        squared_error(torch.zeros(4, 784), torch.zeros(1, 784))
