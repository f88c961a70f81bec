"""The VAE: values against matrix products, extreme encoders, and models that change one part."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import (
    Bernoulli,
    Independent,
    Normal,
)

from small import random_numbers, small_images, small_vae, with_random_weights
from vae_core import (
    VAE,
    BernoulliLikelihood,
    GaussianLikelihood,
    as_pixels,
    elbo_terms,
    estimate_log_likelihood,
    fit,
    mlp,
)


@pytest.fixture
def images() -> torch.Tensor:
    return small_images(7, binary=False)


# ---------------------------------------------------------------------------- values


@pytest.mark.parametrize("likelihood", [None, GaussianLikelihood(0.3)])
def test_shapes(images, likelihood):
    model = VAE(3, hidden=(9, 7), n_pixels=16, likelihood=likelihood)
    q = model.encode(images)
    assert q.batch_shape == (7,) and q.event_shape == (3,)
    assert model.prior().batch_shape == () and model.prior().event_shape == (3,)
    for shape in ((5,), (2, 5), (4, 2, 5)):
        p = model.decode(torch.zeros(*shape, 3))
        assert p.batch_shape == shape and p.event_shape == (16,)
        assert p.mean.shape == p.sample().shape == (*shape, 16)
    terms = elbo_terms(model, images, n_samples=4)
    shapes = {
        "z": (4, 7, 3),
        "log_likelihood": (4, 7),
        "kl": (7,),
        "kl_per_unit": (7, 3),
        "sampled_kl": (4, 7),
        "log_weights": (4, 7),
        "elbo": (7,),
    }
    assert {name: tuple(getattr(terms, name).shape) for name in shapes} == shapes
    loss_terms = model.loss_terms(as_pixels(images))
    assert {name: tuple(term.shape) for name, term in loss_terms.items()} == {
        "reconstruction": (7,),
        "KL": (7,),
    }


def test_the_decoder_mirrors_the_encoder():
    model = VAE(3, hidden=(9, 7), n_pixels=16)
    for network, widths in ((model.encoder, [16, 9, 7, 6]), (model.decoder, [3, 7, 9, 16])):
        linear = [layer for layer in network if isinstance(layer, nn.Linear)]
        assert [layer.in_features for layer in linear] == widths[:-1]
        assert [layer.out_features for layer in linear] == widths[1:]
        assert [type(layer) for layer in network[1::2]] == [nn.ReLU] * 2 and len(network) == 5


def test_every_accepted_form_of_images_gives_the_same_posterior(images):
    model = small_vae()
    unit = images.float() / 255
    wanted = model.encode(images).mean
    for form in (unit, unit.reshape(7, 16), unit[:, None], images[:, None], unit.double()):
        assert torch.equal(model.encode(form).mean, wanted)
        assert torch.equal(model.encode(form.numpy()).mean, wanted)


class ByHand:
    """The terms in float64 with NumPy: matrix products from the state dict, and densities."""

    def __init__(self, model: VAE, x: np.ndarray, noise: np.ndarray):
        w = {name: weights.numpy() for name, weights in model.state_dict().items()}
        d = noise.shape[-1]
        hidden = np.maximum(x @ w["encoder.0.weight"].T + w["encoder.0.bias"], 0)
        outputs = hidden @ w["encoder.2.weight"].T + w["encoder.2.bias"]
        self.mean, log_variance = outputs[:, :d], outputs[:, d:]
        self.sigma = np.sqrt(np.exp(log_variance))
        self.z = self.mean + self.sigma * noise
        hidden = np.maximum(self.z @ w["decoder.0.weight"].T + w["decoder.0.bias"], 0)
        pixel = 1 / (1 + np.exp(-(hidden @ w["decoder.2.weight"].T + w["decoder.2.bias"])))
        if isinstance(model.likelihood, BernoulliLikelihood):
            each = x * np.log(pixel) + (1 - x) * np.log(1 - pixel)
        else:
            s = model.likelihood.sigma_x.item()
            each = -0.5 * ((x - pixel) / s) ** 2 - np.log(s * np.sqrt(2 * np.pi))
        self.log_likelihood = each.sum(axis=-1)
        self.kl_per_unit = 0.5 * (self.mean**2 + self.sigma**2 - 1 - log_variance)


@pytest.mark.parametrize(
    "likelihood", [None, GaussianLikelihood(0.3), GaussianLikelihood(0.7, learned=True)]
)
def test_terms_against_matrix_products(images, likelihood):
    model = VAE(3, hidden=(5,), n_pixels=16, likelihood=copy.deepcopy(likelihood))
    model = with_random_weights(model)
    noise = random_numbers(4, 7, 3)
    found = elbo_terms(model, images, noise=noise)
    truth = ByHand(model, images.reshape(7, 16).numpy() / 255, noise.numpy())
    kl = truth.kl_per_unit.sum(axis=1)
    for value, expected in (
        (found.q.mean, truth.mean),
        (found.q.stddev, truth.sigma),
        (found.z, truth.z),
        (found.log_likelihood, truth.log_likelihood),
        (found.kl_per_unit, truth.kl_per_unit),
        (found.kl, kl),
        (found.elbo, truth.log_likelihood.mean(axis=0) - kl),
    ):
        np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-10)


def test_samples_are_spread_as_the_encoder_says():
    """σ = exp(½ log σ²): the spread of many samples, against the encoder's own outputs."""
    model = with_random_weights(VAE(3, hidden=(5,), n_pixels=6))
    x = random_numbers(4, 6, seed=1).sigmoid()
    log_variance = model.encoder(x)[:, 3:]
    assert (log_variance.abs() > 0.2).any()
    n = 20_000
    z = elbo_terms(model, x, noise=random_numbers(n, 4, 3, seed=2)).z
    found, expected = z.var(dim=0), log_variance.exp()
    assert ((found / expected - 1).abs() < 5 * math.sqrt(2 / n)).all()


@pytest.mark.parametrize("likelihood", [None, GaussianLikelihood(0.3)])
def test_loss_terms_are_the_terms_of_minus_the_elbo(likelihood):
    """Many copies of an image: the mean of their losses is −ELBO, with one sample each."""
    model = with_random_weights(VAE(2, hidden=(5,), n_pixels=6, likelihood=likelihood))
    n, x = 20_000, random_numbers(1, 6, seed=1).sigmoid()
    torch.manual_seed(0)
    found = model.loss_terms(x.expand(n, 6))
    assert list(found) == ["reconstruction", "KL"]
    truth = ByHand(model, x.numpy(), random_numbers(n, 1, 2, seed=2).numpy())
    np.testing.assert_allclose(found["KL"].detach(), truth.kl_per_unit.sum().repeat(n))
    samples = [found["reconstruction"].detach().numpy(), -truth.log_likelihood[:, 0]]
    for moment in (lambda v: v, lambda v: (v - samples[1].mean()) ** 2):  # mean, and spread
        a, b = (moment(values) for values in samples)
        assert abs(a.mean() - b.mean()) < 5 * math.hypot(a.std(), b.std()) / math.sqrt(n)
    at_the_mean = ByHand(model, x.numpy(), np.zeros((1, 1, 2))).log_likelihood.item()
    error = samples[0].std() / math.sqrt(n)
    assert abs(samples[0].mean() + at_the_mean) > 10 * error  # z = μ would be seen


def test_each_image_of_each_batch_gets_its_own_noise():
    model = with_random_weights(VAE(2, hidden=(), n_pixels=6))
    x, seen = torch.full((1, 6), 0.3, dtype=torch.float64), []
    for size in (4, 4, 1, 7, 3):
        reconstruction = model.loss_terms(x.expand(size, 6))["reconstruction"]
        assert reconstruction.shape == (size,)
        seen += reconstruction.tolist()
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_terms_have_the_type_of_the_model(dtype):
    terms = VAE(2, n_pixels=6).to(dtype).loss_terms(torch.zeros(3, 6, dtype=dtype))
    assert {term.dtype for term in terms.values()} == {dtype}


@pytest.mark.parametrize(
    "likelihood", [None, GaussianLikelihood(0.3), GaussianLikelihood(0.3, learned=True)]
)
def test_everything_is_on_the_device_of_the_model(likelihood):
    """PyTorch's device without memory refuses to be mixed with any other."""
    model = VAE(2, n_pixels=6, likelihood=copy.deepcopy(likelihood)).to("meta")
    x = torch.empty(3, 6, device="meta")
    terms = model.loss_terms(x)
    assert {term.device.type for term in terms.values()} == {"meta"}
    assert model.prior().mean.device.type == "meta"


# ---------------------------------------------------------------------------- extreme encoders


def model_with_log_var(log_var: float, likelihood: nn.Module | None = None, d: int = 2) -> VAE:
    """A model whose encoder puts out the mean 0 and this log σ² for each image."""
    torch.manual_seed(0)
    model = VAE(d, hidden=(5,), n_pixels=16, likelihood=likelihood)
    with torch.no_grad():
        model.encoder[2].weight.zero_()
        model.encoder[2].bias.copy_(torch.tensor([0.0] * d + [log_var] * d))
    return model


BLACK_AND_WHITE = torch.tensor([[0.0, 1.0] * 8, [1.0, 0.0] * 8, [0.0] * 16, [1.0] * 16])


@pytest.mark.parametrize("likelihood", [None, GaussianLikelihood(0.3)])
@pytest.mark.parametrize("log_var", [-60.0, -30.0, -20.5, 20.5, 30.0, 60.0])
def test_log_variances_far_out_are_pulled_back(log_var, likelihood):
    """Finite loss and gradients; those of log σ² point back, and aren't 0.

    Where σ is huge, the KL and the error of black-and-white pixels both grow with it; where it is
    tiny, only the KL has a slope.
    """
    model = model_with_log_var(log_var, likelihood)
    torch.manual_seed(1)
    terms = model.loss_terms(BLACK_AND_WHITE)
    assert all(torch.isfinite(term).all() for term in terms.values())
    sum(term.mean() for term in terms.values()).backward()
    for name, weights in model.named_parameters():
        assert torch.isfinite(weights.grad).all(), name
    slope = model.encoder[2].bias.grad[2:]
    assert (slope * math.copysign(1, log_var) > 0.49).all()


@pytest.mark.parametrize("log_var", [-30.0, 0.0, 2.0, 30.0])
def test_samples_use_the_sigma_that_the_kl_uses(log_var):
    """ε = 1 makes z = μ + σ, so σ can be read off the sample and put into the KL's formula."""
    model = model_with_log_var(log_var).double()
    terms = elbo_terms(model, BLACK_AND_WHITE, noise=torch.ones(1, 4, 2))
    sigma = terms.z[0] - terms.q.mean
    torch.testing.assert_close(sigma, torch.full((4, 2), math.exp(log_var / 2)).double())
    truth = 0.5 * (terms.q.mean.square() + sigma.square() - 1 - 2 * sigma.log())
    torch.testing.assert_close(terms.kl_per_unit, truth)


@pytest.mark.parametrize("likelihood", [None, GaussianLikelihood(0.3)])
@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("n_images", [1, 3])
def test_blank_images_and_one_latent_unit(value, n_images, likelihood):
    model = small_vae(1, likelihood=likelihood)
    x = torch.full((n_images, 4, 4), value, dtype=torch.uint8)
    terms = elbo_terms(model, x, n_samples=2)
    assert terms.log_weights.shape == (2, n_images) and terms.kl_per_unit.shape == (n_images, 1)
    loss = sum(term.mean() for term in model.loss_terms(as_pixels(x)).values())
    loss.backward()
    assert torch.isfinite(terms.log_weights).all() and torch.isfinite(loss)
    assert all(torch.isfinite(weights.grad).all() for weights in model.parameters())


@pytest.mark.parametrize("size", [1.0, 1e4, 1e30])
def test_large_outputs_are_no_error(size):
    """Certain pixels are a matter of the model, and certain they are here."""
    model = with_random_weights(VAE(2, hidden=(), n_pixels=16), size=size).float()
    p = model.decode(torch.ones(3, 2))
    assert torch.isfinite(p.mean).all()


def test_decode_takes_a_likelihood_that_checks_its_values():
    """PyTorch's own Bernoulli refuses grey values, and its mean is one."""

    class Strict(nn.Module):
        def forward(self, outputs):
            return Independent(Bernoulli(logits=outputs, validate_args=True), 1)

    model = small_vae(likelihood=Strict())
    assert model.decode(torch.zeros(1, 2)).mean.shape == (1, 16)


def test_gradients_flow_through_what_encode_and_decode_return(images):
    model = small_vae(likelihood=GaussianLikelihood(0.3, learned=True))
    model.decode(model.encode(images).mean).log_prob(as_pixels(images)).sum().backward()
    assert all(weights.grad is not None for weights in model.parameters())
    grey = small_vae()
    grey.decode(torch.zeros(1, 2)).mean.sum().backward()
    assert grey.decoder[0].bias.grad.abs().max() > 0


@pytest.mark.parametrize("likelihood", [None, GaussianLikelihood(0.3)])
def test_densities_have_single_precision_under_bfloat16(likelihood):
    torch.manual_seed(0)
    model, images = VAE(2, hidden=(50,), likelihood=likelihood), small_images(7, shape=(28, 28))
    types = []
    for network in (model.encoder, model.decoder):
        network.register_forward_hook(lambda _, __, outputs: types.append(outputs.dtype))
    x = as_pixels(images)
    noise = random_numbers(3, 7, 2).float()
    exact = elbo_terms(model, x, noise=noise)
    with torch.autocast("cpu", torch.bfloat16):
        terms = elbo_terms(model, x, noise=noise)
        loss_terms = model.loss_terms(x)
        q, p = model.encode(x), model.decode(noise)
    assert types[:2] == [torch.float32] * 2 and set(types[2:]) == {torch.bfloat16}
    for value in (terms.z, terms.log_likelihood, terms.kl, terms.sampled_kl, q.mean, q.stddev,
                  p.mean, p.log_prob(x), *loss_terms.values()):  # fmt: skip
        assert value.dtype == torch.float32
    # The 8 bits of the layers' outputs, and not those of a sum over 784 pixels.
    torch.testing.assert_close(terms.log_likelihood, exact.log_likelihood, rtol=0.01, atol=0)
    assert len(set(terms.log_likelihood.flatten().tolist())) > 15
    (-terms.elbo).mean().backward()
    assert all(weights.grad.dtype == torch.float32 for weights in model.parameters())


# ---------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.zeros(3, 27, 28), ValueError, "x: expected shape"),
        (torch.zeros(784), ValueError, "x: expected shape"),
        (torch.full((2, 28, 28), 255.0), ValueError, r"x: expected float values in \[0, 1\].*255"),
        (torch.zeros(2, 784, dtype=torch.int64), TypeError, "x: expected images as uint8"),
        ([[0.0] * 784], TypeError, "x: expected images as uint8"),
    ],
)
def test_bad_images(x, error, words):
    """Whatever else can be wrong with images is tried with ``as_pixels``."""
    with pytest.raises(error, match=words):
        VAE(2, hidden=()).encode(x)


@pytest.mark.parametrize(
    ("z", "error", "words"),
    [
        (torch.zeros(4, 3), ValueError, r"z: expected shape \[..., 2\], got .*\(4, 3\)"),
        (torch.zeros(4, 1), ValueError, r"z: expected shape \[..., 2\]"),
        (torch.zeros(2), ValueError, r"z: expected shape \[..., 2\]"),
        (torch.zeros(4, 2, dtype=torch.int64), TypeError, "z: expected a float tensor"),
        ([[0.0, 0.0]], TypeError, "z: expected a float tensor"),
    ],
)
def test_bad_codes(z, error, words):
    with pytest.raises(error, match=words):
        small_vae().decode(z)


PIXELS, TWICE = r"\[N, 16\] \(1 for each pixel\)", r"\[N, 4\] \(2 for each latent unit\)"


@pytest.mark.parametrize("likelihood", [None, GaussianLikelihood(0.3)])
@pytest.mark.parametrize(
    ("name", "network", "words"),
    [
        ("decoder", mlp(2, 1), rf"^decoder: expected .*{PIXELS}, got .*\(15, 1\)"),  # broadcasts
        ("decoder", mlp(2, 15), rf"^decoder: expected .*{PIXELS}"),
        ("decoder", mlp(2, 17), rf"^decoder: expected .*{PIXELS}"),
        ("decoder", nn.Sequential(mlp(2, 16), nn.Unflatten(1, (4, 4))), rf"^decoder: .*{PIXELS}"),
        ("decoder", nn.Sequential(mlp(2, 16), nn.Unflatten(1, (1, 16))), rf"^decoder: .*{PIXELS}"),
        ("encoder", mlp(16, 2), rf"^encoder: expected .*{TWICE}, got .*\(5, 2\)"),  # as d = 1
        ("encoder", mlp(16, 1), rf"^encoder: expected .*{TWICE}"),
        ("encoder", mlp(16, 8), rf"^encoder: expected .*{TWICE}"),
        ("encoder", nn.Sequential(mlp(16, 4), nn.Unflatten(1, (1, 4))), rf"^encoder: .*{TWICE}"),
    ],
)
def test_networks_with_other_numbers_of_outputs(name, network, words, likelihood):
    """One output would be repeated for every pixel or unit, and the nats be wrong in silence."""
    model, x = small_vae(likelihood=likelihood), small_images(5)
    setattr(model, name, network)
    for use in (
        lambda: elbo_terms(model, x, n_samples=3),
        lambda: model.decode(torch.zeros(3, 5, 2)) if name == "decoder" else model.encode(x),
        lambda: estimate_log_likelihood(model, x, k=3, binarisation="fixed"),
    ):
        with pytest.raises(ValueError, match=words):
            use()
    with pytest.raises(ValueError, match=f"^{name}: expected outputs"):
        fit(model, x, steps=1, batch_size=2)


@pytest.mark.parametrize("name", ["latent_dim", "n_pixels"])
@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), (-2, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_bad_sizes(name, size, error):
    with pytest.raises(error, match=f"{name}: expected an integer of at least 1"):
        VAE(**({"latent_dim": 2} | {name: size}))


def test_bad_hidden_width():
    with pytest.raises(ValueError, match="hidden: expected an integer of at least 1, got 0"):
        VAE(2, hidden=(0,))


@pytest.mark.parametrize(
    "likelihood", ["bernoulli", BernoulliLikelihood, GaussianLikelihood, 0.1, lambda a: a]
)
def test_bad_likelihood(likelihood):
    words = r"likelihood: expected a module such as BernoulliLikelihood\(\).*got"
    with pytest.raises(TypeError, match=words):
        VAE(2, likelihood=likelihood)


def test_prior_is_standard_normal():
    z = random_numbers(5, 4)
    truth = Independent(Normal(torch.zeros(4).double(), 1.0), 1).log_prob(z)
    torch.testing.assert_close(VAE(4).double().prior().log_prob(z), truth)


def test_hidden_must_be_a_sequence():
    with pytest.raises(TypeError, match="hidden: expected a sequence of widths, got 4"):
        VAE(2, hidden=4)
