"""Flow matching against a Gaussian, for which velocity, path and density are known exactly."""

import math

import pytest
import torch

from vae_book.flow import Velocity, carry, flow_matching, log_density
from vae_book.priors import FlowPrior, MixturePrior, fit_gaussian
from vae_core import fit, one_cycle

MEAN, STD = torch.tensor([1.5, -0.5], dtype=torch.float64), torch.tensor([0.5, 2.0]).double()


def exact(z, t):
    """E[z − ε | z_t] for codes from N(m, s²): linear regression of one Gaussian on another."""
    t = torch.as_tensor(t, dtype=z.dtype)
    variance = (1 - t) ** 2 + (t * STD) ** 2
    return MEAN + (t * STD**2 - (1 - t)) / variance * (z - t * MEAN)


def test_the_exact_velocity_carries_noise_to_the_gaussian():
    noise = torch.randn(500, 2, dtype=torch.float64)
    path = carry(exact, noise, steps=200)
    assert path.shape == (201, 500, 2) and torch.equal(path[0], noise)
    # For one Gaussian the flow is the affine map with the standard deviation at each time.
    for k in (50, 100, 200):
        t = k / 200
        std = ((1 - t) ** 2 + (t * STD) ** 2).sqrt()
        assert torch.allclose(path[k], t * MEAN + std * noise, atol=1e-3)


def test_half_the_step_has_a_quarter_of_the_error():
    """Euler's rule would have half of it."""
    noise = torch.randn(50, 2, dtype=torch.float64)
    errors = [(carry(exact, noise, n)[-1] - (MEAN + STD * noise)).abs().max() for n in (20, 40)]
    assert errors[0] / errors[1] > 3


def test_the_density_is_that_of_the_gaussian():
    z = MEAN + STD * torch.randn(100, 2, dtype=torch.float64)
    wanted = torch.distributions.Independent(torch.distributions.Normal(MEAN, STD), 1).log_prob(z)
    assert torch.allclose(log_density(exact, z, steps=100), wanted, atol=1e-3)
    standing = log_density(lambda z, t: torch.zeros_like(z), z)
    assert torch.allclose(standing, -0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=1))


def test_the_loss_is_smallest_at_the_exact_velocity():
    z = MEAN + STD * torch.randn(20_000, 2, dtype=torch.float64)
    losses = {}
    for name, velocity in {
        "exact": exact,
        "faster": lambda z, t: 1.1 * exact(z, t),
        "backwards": lambda z, t: -exact(z, t),
        "time reversed": lambda z, t: exact(z, 1 - t),
        "shifted": lambda z, t: exact(z, t) + 0.3,
    }.items():
        torch.manual_seed(0)
        terms = flow_matching(velocity, z)
        assert terms.keys() == {"squared error"} and terms["squared error"].shape == (20_000,)
        losses[name] = terms["squared error"].mean().item()
    assert min(losses, key=losses.get) == "exact"


def test_a_network_learns_it():
    torch.manual_seed(0)
    codes = (MEAN + STD * torch.randn(20_000, 2, dtype=torch.float64)).float()
    velocity = Velocity(2, width=64)
    fit(velocity, codes, steps=600, batch_size=256, lr=one_cycle(600, peak=5e-3), seed=0)
    velocity.requires_grad_(False)
    arrived = carry(velocity, torch.randn(4000, 2))[-1]
    assert torch.allclose(arrived.mean(dim=0), MEAN.float(), atol=0.15)
    assert torch.allclose(arrived.std(dim=0), STD.float(), rtol=0.15)


def test_velocity_takes_a_number_or_a_time_for_each_point():
    velocity, z = Velocity(3), torch.randn(5, 3)
    one = velocity(z, 0.3)
    assert one.shape == (5, 3) and torch.allclose(one, velocity(z, torch.full((5, 1), 0.3)))
    assert not torch.allclose(one, velocity(z, 0.7))
    with pytest.raises(ValueError, match="latent_dim: expected an integer of at least 1, got 0"):
        Velocity(0)
    with pytest.raises(TypeError, match="width"):
        Velocity(2, width=1.5)


# ---------------------------------------------------------------------------- the fitted priors


def bells(n):
    centres = torch.tensor([[-3.0, 0.0], [3.0, 0.0]])
    return centres[torch.randint(2, (n,))] + 0.3 * torch.randn(n, 2)


def test_priors_of_growing_freedom():
    torch.manual_seed(0)
    codes, unseen = bells(4000), bells(1000)
    fitted = {
        "Gaussian": fit_gaussian(codes),
        "mixture": MixturePrior(codes, components=2),
        "flow": FlowPrior(codes, seed=0, steps=600),
    }
    nats = {name: prior.log_prob(unseen).mean().item() for name, prior in fitted.items()}
    entropy = math.log(2) + 2 * 0.5 * math.log(2 * math.pi * math.e * 0.3**2)
    assert nats["mixture"] == pytest.approx(-entropy, abs=0.1)
    assert nats["flow"] == pytest.approx(-entropy, abs=0.4)
    assert nats["Gaussian"] < -entropy - 0.5
    for name in ("mixture", "flow"):
        torch.manual_seed(1)
        drawn = fitted[name].sample((1000,))
        assert drawn.shape == (1000, 2) and drawn.dtype == torch.float32
        left = drawn[:, 0] < 0
        assert 0.4 < left.double().mean() < 0.6, name
        assert 0.4 < left[:500].double().mean() < 0.6, name  # the library sorts by component
        torch.manual_seed(1)
        assert torch.equal(drawn, fitted[name].sample((1000,)))
        assert not torch.equal(drawn, fitted[name].sample((1000,)))
