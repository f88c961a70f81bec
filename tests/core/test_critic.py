"""A VAE and a critic, two optimisers: a loop of one's own, from the public parts.

FactorVAE (Kim and Mnih, 2018): the critic tells codes from codes whose units were shuffled among
the images, and its logit estimates log q(z)/Π q(zᵢ), whose mean is the total correlation.
"""

import copy
import inspect
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from small import same_history, same_weights, small_images
from vae_core import (
    VAE,
    Batches,
    Checkpoint,
    Guard,
    History,
    TrainingDiverged,
    TrainingState,
    as_pixels,
    elbo_terms,
    mlp,
)

IMAGES = small_images(60)


def shuffled(z: torch.Tensor) -> torch.Tensor:
    """Each unit's codes in an order of their own."""
    return torch.stack([unit[torch.randperm(len(z))] for unit in z.T], dim=1)


def train(vae, critic, images, steps, *, path=None, resume=False, gamma=2.0, every=5):
    to_vae = torch.optim.Adam(vae.parameters(), lr=1e-2)
    to_critic = torch.optim.Adam(critic.parameters(), lr=1e-2)
    batches, history = Batches(len(images), 20, seed=1), History()
    state = TrainingState(
        {"vae": vae, "critic": critic, "to vae": to_vae, "to critic": to_critic,
         "batches": batches, "history": history}
    )  # fmt: skip
    file, guard = Checkpoint(path, state, resume=resume), Guard(state)
    if resume:
        file.load()
    while history.steps < steps:
        x = as_pixels(images[next(batches)])
        terms = elbo_terms(vae, x)
        z = terms.z[0]
        tc = critic(z).mean()
        to_vae.zero_grad()
        (-terms.elbo.mean() + gamma * tc).backward()
        to_critic.zero_grad()  # of what came back through it
        says_joint, says_shuffled = critic(z.detach()), critic(shuffled(z.detach()))
        wrong = (softplus(-says_joint) + softplus(says_shuffled)).mean()
        wrong.backward()
        history.note({"-ELBO": -terms.elbo.mean(), "TC": tc, "critic": wrong})
        guard.check()
        to_vae.step()
        to_critic.step()
        pause = history.steps % every == 0 or history.steps == steps or guard.repeating
        if pause and not guard.look():
            file.save()
    return history


def models() -> tuple[VAE, nn.Module]:
    torch.manual_seed(0)
    return VAE(2, (8,), 16), nn.Sequential(mlp(2, 8, 1), nn.Flatten(0))


def test_it_takes_no_more_than_thirty_lines():
    lines = [line for line in inspect.getsource(train).splitlines() if line.strip()]
    assert len(lines) <= 30, len(lines)


def test_it_is_the_loop_that_the_formulas_say():
    """Without the parts, with gradients taken one by one: no optimiser touches the other's."""
    vae, critic = models()
    by_hand = copy.deepcopy((vae, critic))
    torch.manual_seed(4)
    history = train(vae, critic, IMAGES, 4)
    torch.manual_seed(4)
    order = torch.Generator().manual_seed(1)
    vae_2, critic_2 = by_hand
    weights, critics = list(vae_2.parameters()), list(critic_2.parameters())
    for step in range(4):
        if step % 3 == 0:
            epoch = torch.randperm(60, generator=order).split(20)
        x = IMAGES[epoch[step % 3]].flatten(1) / 255
        mean, log_var = vae_2.encoder(x).chunk(2, dim=1)
        z = mean + (log_var / 2).exp() * torch.empty(1, 20, 2).normal_()[0]
        logits = vae_2.decoder(z)
        log_p = (x * logits - softplus(logits)).sum(dim=1)
        rate = (mean.square() + log_var.exp() - 1 - log_var).sum(dim=1) / 2
        of_vae = torch.autograd.grad((rate - log_p).mean() + 2 * critic_2(z).mean(), weights)
        z = z.detach()
        one, two = (z[torch.randperm(20), i] for i in range(2))
        joint, product = critic_2(z).sigmoid(), critic_2(torch.stack([one, two], 1)).sigmoid()
        wrong = -(joint.log() + (1 - product).log()).mean()
        of_critic = torch.autograd.grad(wrong, critics)
        assert history.train["critic"][step] == pytest.approx(wrong.item(), rel=1e-4)
        assert history.train["-ELBO"][step] == pytest.approx((rate - log_p).mean().item(), rel=1e-4)
        if step == 0:
            moments = [[torch.zeros_like(w) for w in [*weights, *critics]] for _ in range(2)]
        with torch.no_grad():
            for w, g, m, v in zip([*weights, *critics], of_vae + of_critic, *moments, strict=True):
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g**2)
                m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
                w -= 1e-2 * m_hat / (v_hat.sqrt() + 1e-8)
    for trained, wanted in zip((vae, critic), by_hand, strict=True):
        for name, weight in trained.state_dict().items():
            torch.testing.assert_close(weight, wanted.state_dict()[name], rtol=1e-3, atol=1e-5)


def test_the_critic_finds_the_total_correlation():
    """Of a fixed posterior with correlated codes: −½ log(1 − ρ²), as ``total_correlation`` does."""
    torch.manual_seed(0)
    critic = models()[1]
    to_critic = torch.optim.Adam(critic.parameters(), lr=1e-2)
    rho = 0.8
    for _ in range(1500):
        z = torch.randn(200, 2)
        z = torch.stack([z[:, 0], rho * z[:, 0] + math.sqrt(1 - rho**2) * z[:, 1]], dim=1)
        wrong = (softplus(-critic(z)) + softplus(critic(shuffled(z)))).mean()
        to_critic.zero_grad()
        wrong.backward()
        to_critic.step()
    assert critic(z).mean().item() == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.15)


def test_it_goes_on_from_its_file_bit_for_bit(tmp_path):
    whole, resumed = models(), models()
    torch.manual_seed(4)
    history = train(*whole, IMAGES, 20)
    torch.manual_seed(4)
    train(*resumed, IMAGES, 10, path=tmp_path / "run.pt")
    resumed = models()
    torch.manual_seed(99)
    again = train(*resumed, IMAGES, 20, path=tmp_path / "run.pt", resume=True)
    assert same_history(history, again)
    assert all(same_weights(*pair) for pair in zip(whole, resumed, strict=True))


def test_nan_stops_it_before_it_reaches_either_model():
    vae, critic = models()
    seven, stopped = models(), models()
    torch.manual_seed(4)
    train(*seven, IMAGES, 7)

    class Breaks(nn.Module):
        """A critic whose output is NaN from its eighth step on."""

        def __init__(self, critic):
            super().__init__()
            self.critic = critic
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, z):
            self.calls += 1  # three in a step
            return self.critic(z) * (torch.nan if self.calls > 21 else 1)

    torch.manual_seed(4)
    with pytest.raises(TrainingDiverged, match="the term 'TC' became nan at step 8"):
        train(stopped[0], Breaks(stopped[1]), IMAGES, 20)
    assert all(same_weights(*pair) for pair in zip(seven, stopped, strict=True))
    assert not same_weights(vae, seven[0]) and not same_weights(critic, seven[1])
