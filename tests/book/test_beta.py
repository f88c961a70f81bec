"""The β that a loss has, against the gradient of the loss written out."""

import itertools
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from small import grey, random_numbers, with_random_weights
from vae_book.beta import effective_beta
from vae_core import VAE, GaussianLikelihood, elbo_terms

SUM_OR_MEAN = ("sum", "mean")


@pytest.mark.parametrize("over_pixels", SUM_OR_MEAN)
@pytest.mark.parametrize("over_units", SUM_OR_MEAN)
@pytest.mark.parametrize("over_images", list(itertools.product(SUM_OR_MEAN, SUM_OR_MEAN)))
@pytest.mark.parametrize(("weight", "sigma_x"), [(1.0, None), (0.3, None), (1.0, 0.4), (2.5, 1.7)])
def test_a_loss_trains_the_model_of_its_effective_beta(
    over_pixels, over_units, over_images, weight, sigma_x
):
    """Its gradient points where that of −E_q[log p(x|z)] + β KL does, whatever its length."""
    likelihood = None if sigma_x is None else GaussianLikelihood(sigma_x)
    model, x = VAE(2, hidden=(4,), n_pixels=6, likelihood=likelihood), grey(5, 6)
    model = with_random_weights(model, size=0.7)
    terms = elbo_terms(model, x, noise=random_numbers(1, 5, 2))

    # The loss as others write it: errors of the pixels, KL of the units, and three reductions.
    outputs = model.decoder(terms.z[0])
    if sigma_x is None:
        errors = binary_cross_entropy_with_logits(outputs, x, reduction="none")
    else:
        errors = (torch.sigmoid(outputs) - x).square()
    rates = kl_divergence(Normal(terms.q.mean, terms.q.stddev), Normal(0, 1))

    def reduced(values: torch.Tensor, within: str, over_batch: str) -> torch.Tensor:
        values = values.sum(dim=1) if within == "sum" else values.mean(dim=1)
        return values.sum() if over_batch == "sum" else values.mean()

    loss = reduced(errors, over_pixels, over_images[0])
    loss = loss + weight * reduced(rates, over_units, over_images[1])
    beta = effective_beta(
        weight,
        latent_dim=2,
        n_pixels=6,
        batch_size=5,
        over_pixels=over_pixels,
        over_units=over_units,
        over_images=over_images,
        sigma_x=sigma_x,
    )
    target = (-terms.log_likelihood[0] + beta * terms.kl).mean()
    directions = []
    for value in (loss, target):
        gradients = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
        gradient = torch.cat([g.flatten() for g in gradients])
        directions.append(gradient / gradient.norm())
    tolerance = 1e-10 if sigma_x is None else 1e-6  # σₓ is stored in single precision
    torch.testing.assert_close(*directions, rtol=0, atol=tolerance)


def test_betas_that_public_code_has_by_accident():
    assert effective_beta(latent_dim=20) == 1
    assert effective_beta(latent_dim=20, over_pixels="mean") == pytest.approx(784)
    assert effective_beta(latent_dim=20, over_units="mean") == pytest.approx(1 / 20)
    both = effective_beta(latent_dim=20, over_pixels="mean", over_units="mean")
    assert both == pytest.approx(784 / 20)
    uneven = effective_beta(latent_dim=20, batch_size=128, over_images=("sum", "mean"))
    assert uneven == pytest.approx(1 / 128)
    for sigma_x in (0.1, 0.5, 2.0):  # the weight that makes squared error the ELBO
        assert effective_beta(2 * sigma_x**2, latent_dim=20, sigma_x=sigma_x) == pytest.approx(1)
    # Plain squared error, weight 1: the ELBO of a Gaussian decoder with variance ½.
    assert effective_beta(latent_dim=20, sigma_x=math.sqrt(0.5)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"weight": 0}, ValueError, "weight: expected a finite number above 0"),
        ({"weight": -1.0}, ValueError, "weight: expected a finite number above 0"),
        ({"weight": math.inf}, ValueError, "weight: expected a finite number above 0"),
        ({"weight": "1"}, TypeError, "weight: expected a number above 0"),
        ({"latent_dim": 0}, ValueError, "latent_dim: expected an integer of at least 1"),
        ({"latent_dim": 2.0}, TypeError, "latent_dim: expected an integer of at least 1"),
        ({"n_pixels": 0}, ValueError, "n_pixels: expected an integer of at least 1"),
        ({"batch_size": 0}, ValueError, "batch_size: expected an integer of at least 1"),
        ({"over_pixels": "none"}, ValueError, "over_pixels: expected 'sum' or 'mean', got 'none'"),
        ({"over_units": None}, ValueError, "over_units: expected 'sum' or 'mean', got None"),
        ({"over_images": ("sum", "batchmean")}, ValueError, "over_images: .*got 'batchmean'"),
        ({"sigma_x": 0.0}, ValueError, "sigma_x: expected a finite number above 0"),
        ({"sigma_x": math.nan}, ValueError, "sigma_x: expected a finite number above 0"),
    ],
)
def test_bad_reductions(arguments, error, words):
    with pytest.raises(error, match=words):
        effective_beta(**({"latent_dim": 2} | arguments))


@pytest.mark.parametrize("pair", ["mean", 3, ("mean",)])
def test_over_images_must_be_a_pair(pair):
    with pytest.raises(TypeError, match="over_images: expected a pair"):
        effective_beta(latent_dim=2, over_images=pair)
