"""The racing program ends in a plain VAE, and its gradient is that of the loss."""

import sys
from pathlib import Path

import pytest
import torch

from vae_core import VAE, mean_terms

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
record = pytest.importorskip("record")


@pytest.fixture
def images():
    """Eight pictures in the middle of a white page, again and again, bytes [N, 784]."""
    noise = torch.Generator().manual_seed(0)
    pages = torch.zeros(600, 28, 28)
    pictures = (torch.rand(8, 14, 14, generator=noise) > 0.5).float()
    pages[:, 7:21, 7:21] = pictures.repeat(75, 1, 1)
    return (pages * 255).to(torch.uint8).flatten(1)


@pytest.fixture
def racer(monkeypatch, images):
    monkeypatch.setattr(record, "STEPS", 20)
    racer = record.Racer(0, torch.float32)
    racer.vae = racer.train(images)
    return racer


def test_what_comes_out_is_the_model_that_raced(racer, images):
    """Means of 2 × 2 pixels and centred layers, spread over a plain VAE's weights."""
    assert type(racer.vae) is VAE
    racer.weights = racer.ends
    x = images[:9].float() / 255
    seen = racer._pooled(x)[:, racer.seen] - racer.block_mean[racer.seen]
    hidden = (seen @ racer.weights["W1"] + racer.weights["b1"]).relu()
    outputs = (hidden - racer.encoder.mean) @ racer.weights["W2"] + racer.weights["b2"]
    torch.testing.assert_close(racer.vae.encoder(x), outputs, rtol=1e-4, atol=1e-4)
    z = outputs[:, :20]
    units = (z @ racer.weights["W3"] + racer.weights["b3"]).relu()
    logits = (units - racer.decoder.mean) @ racer.weights["W4"] + racer.weights["b4"]
    found = racer.vae.decoder(z)[:, racer.drawn]
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-4)


def test_its_gradient_is_that_of_the_loss(racer, images):
    """Through autograd, with the noise that it draws, and no direction damped."""
    racer.damped = lambda units, step: units
    racer.encoder = racer.decoder = lambda units, weights, bias: units - centre
    centre, state, batch = 0.3, racer.noise.get_state(), images[:7]
    found = racer._gradients(batch, step=5)

    racer.noise.set_state(state)
    noise = torch.randn(7, 20, generator=racer.noise)
    w = {name: weights.clone().requires_grad_() for name, weights in racer.weights.items()}
    x = batch.float() / 255
    seen = racer._pooled(x)[:, racer.seen] - racer.block_mean[racer.seen]
    hidden = (seen @ w["W1"] + w["b1"]).relu() - centre
    mean, log_var = (hidden @ w["W2"] + w["b2"]).chunk(2, dim=1)
    z = mean + torch.exp(0.5 * log_var) * noise
    logits = ((z @ w["W3"] + w["b3"]).relu() - centre) @ w["W4"] + w["b4"]
    target = x[:, racer.drawn]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    loss = loss + 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum()
    (loss / 7).backward()
    assert found.keys() == w.keys()
    for name, weights in w.items():
        torch.testing.assert_close(found[name], weights.grad, rtol=1e-3, atol=1e-5)


def test_it_learns(monkeypatch, images):
    losses = []
    for steps in (5, 80):
        monkeypatch.setattr(record, "STEPS", steps)
        terms = mean_terms(record.Racer(0, torch.float32).train(images), images)
        losses.append(sum(terms.values()))
    assert losses[1] < losses[0] - 20


@pytest.mark.parametrize("share", [0.0, 0.03, 0.07, 0.3, 0.5, 0.8, 1.0])
def test_the_rate_rises_stays_and_falls_to_a_quarter(share):
    rate = record.rate_at(share) / record.RATE
    assert 0.04 <= rate <= 1 + 1e-12
    assert rate == pytest.approx({0.0: 0.04, 0.07: 1, 0.3: 1, 0.5: 1, 1.0: 0.25}.get(share, rate))
