"""``fit``: what it computes, that it repeats itself, and how it stops."""

import copy
import signal

import numpy as np
import pytest
import torch

from vae_core import (
    Autoencoder,
    TrainingDiverged,
    fit,
    mean_terms,
    pick_device,
    seed_everything,
)


def some_images(n: int = 100) -> torch.Tensor:
    noise = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, 28, 28), generator=noise).to(torch.uint8)


class OneNumber(torch.nn.Module):
    """A model with one weight w and the loss (mean pixel − w)², for tests by hand."""

    n_pixels = 784

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(()))

    def loss_terms(self, x):
        return {"error": (x.mean(dim=1) - self.w).square()}


def test_fit_equals_the_loop_written_by_hand():
    """Same model, same order of images, same optimiser: the same losses to the last bit."""
    images = some_images()
    seed_everything(3)
    model = Autoencoder(2)
    by_hand = copy.deepcopy(model)
    history = fit(model, images, steps=9, batch_size=32, lr=2e-3, seed=5, device="cpu")

    optimiser = torch.optim.Adam(by_hand.parameters(), lr=2e-3, fused=True)
    order = torch.Generator().manual_seed(5)
    losses = []
    for _ in range(3):  # three epochs of three whole batches; four images are left over each time
        epoch = torch.randperm(100, generator=order)
        for start in (0, 32, 64):
            x = images[epoch[start : start + 32]].reshape(32, 784).float() / 255
            loss = (x - by_hand.decoder(by_hand.encoder(x))).square().sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert history.train["squared error"].tolist() == losses
    for a, b in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(a, b)


def test_same_seed_same_run_whatever_else_draws_numbers():
    runs = []
    for disturb in (False, True):
        seed_everything(0)
        model = Autoencoder(2)
        if disturb:
            torch.rand(10)
        runs.append(fit(model, some_images(), steps=5, batch_size=10).train["squared error"])
    assert np.array_equal(*runs)


def test_another_seed_is_another_order():
    runs = []
    for seed in (0, 1):
        seed_everything(0)
        history = fit(Autoencoder(2), some_images(), steps=5, batch_size=10, seed=seed)
        runs.append(history.train["squared error"])
    assert not np.array_equal(*runs)


def test_an_epoch_shows_every_image_once():
    seen = []

    class Spy(OneNumber):
        def loss_terms(self, x):
            seen.extend((x[:, 0] * 255).round().int().tolist())
            return super().loss_terms(x)

    images = torch.arange(100, dtype=torch.uint8)[:, None].repeat(1, 784)
    fit(Spy(), images, steps=10, batch_size=10)
    assert sorted(seen) == list(range(100)) and seen != sorted(seen)


def test_validation_is_recorded_and_never_trained_on():
    images, val = some_images(), some_images(7) // 2
    seed_everything(0)
    with_val = Autoencoder(2)
    without = copy.deepcopy(with_val)
    history = fit(with_val, images, val=val, steps=40, batch_size=20)
    fit(without, images, steps=40, batch_size=20)
    assert history.val_steps == list(range(2, 41, 2))
    assert history.val["squared error"][-1] == pytest.approx(
        mean_terms(with_val, val)["squared error"]
    )
    assert all(map(torch.equal, with_val.parameters(), without.parameters()))


def test_training_on_float_images_is_training_on_bytes():
    runs = []
    for images in (some_images(), some_images().float() / 255):
        seed_everything(0)
        runs.append(fit(Autoencoder(2), images, steps=5, batch_size=10).train["squared error"])
    np.testing.assert_allclose(*runs, rtol=1e-6)


class Eventful(OneNumber):
    """``OneNumber`` with something happening: ``event(call number, terms)`` gives the terms."""

    def __init__(self, event):
        super().__init__()
        self.event, self.calls = event, 0

    def loss_terms(self, x):
        self.calls += 1
        return self.event(self.calls, super().loss_terms(x))


def interrupt_at(last: int, event=lambda call, terms: terms):
    """The event, until Ctrl-C is pressed in call number ``last``."""

    def happen(call, terms):
        if call == last:
            signal.raise_signal(signal.SIGINT)
        return event(call, terms)

    return happen


def test_ctrl_c_keeps_what_was_reached(capsys):
    model = Eventful(interrupt_at(8))
    history = fit(model, some_images(), steps=50, batch_size=10)
    assert history.interrupted and history.steps == 8 and model.w.item() != 0
    assert "stopped by hand at step 8 of 50" in capsys.readouterr().out


def test_nan_stops_with_term_and_step():
    def diverge(call, terms):
        return {"fine": terms["error"], "bad": terms["error"] / (call < 4)}

    with pytest.raises(TrainingDiverged, match="'bad' became inf at step 4"):
        fit(Eventful(diverge), some_images(), steps=10, batch_size=10)


def test_nan_is_not_kept_by_ctrl_c():
    def diverge(call, terms):
        return {"error": terms["error"] * (torch.nan if call > 5 else 1)}

    with pytest.raises(TrainingDiverged, match="'error' became nan at step 6"):
        fit(Eventful(interrupt_at(9, diverge)), some_images(), steps=50, batch_size=10)


def test_the_last_line_and_nothing_else(capsys):
    fit(OneNumber(), some_images(), val=some_images(3), steps=4, batch_size=10)
    out, err = capsys.readouterr()
    assert out.startswith("fit: 4 steps; error ⟨") and "validation error ⟨" in out
    assert out.count("\n") == 1 and err == ""


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"batch_size": 101}, ValueError, "batch_size: expected at most .* 100, got 101"),
        ({"batch_size": 0}, ValueError, "batch_size: expected an integer"),
        ({"steps": 0}, ValueError, "steps: expected an integer"),
        ({"steps": 1.5}, TypeError, "steps: expected an integer"),
        ({"lr": -1.0}, ValueError, "lr: expected a finite number above 0"),
        ({"lr": float("nan")}, ValueError, "lr: expected a finite number above 0"),
        ({"lr": "fast"}, TypeError, "lr: expected a number"),
        ({"device": "gpu"}, ValueError, "device: expected one that is here, got 'gpu'"),
        ({"device": 0}, TypeError, "device: expected a name or a torch.device, got 0"),
        ({"device": "meta"}, ValueError, "device: expected one that can compute"),
        ({"images": some_images().float()}, ValueError, r"images: .*\[0, 1\]"),
        ({"images": some_images()[:0]}, ValueError, "batch_size: expected at most"),
        ({"val": some_images().float()}, ValueError, r"val: .*\[0, 1\]"),
        ({"val": some_images()[:0]}, ValueError, "val: expected at least 1 image"),
    ],
)
def test_bad_arguments_stop_before_the_first_step(change, error, words):
    model = OneNumber()
    arguments = {"images": some_images(), "steps": 3, "batch_size": 10} | change
    with pytest.raises(error, match=words):
        fit(model, **arguments)
    assert model.w.item() == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match="device: expected one that is here, got 'cuda'"):
        pick_device("cuda")


@pytest.mark.parametrize("value", ["-1", "x", "1.5"])
def test_bad_seed_in_the_environment(monkeypatch, value):
    monkeypatch.setenv("VAE_CORE_SEED", value)
    with pytest.raises(ValueError, match="VAE_CORE_SEED: expected an integer"):
        seed_everything()


def test_seed_of_the_environment(monkeypatch):
    monkeypatch.setenv("VAE_CORE_SEED", "12")
    assert seed_everything() == 12
    first = torch.rand(3)
    seed_everything(12)
    assert torch.equal(first, torch.rand(3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cpu_and_gpu_agree():
    losses = {}
    for device in ("cpu", "cuda"):
        seed_everything(0)
        model = Autoencoder(2)
        history = fit(model, some_images(), steps=20, batch_size=20, device=device)
        losses[device] = history.train["squared error"]
        assert next(model.parameters()).device.type == "cpu"  # back where it was
    np.testing.assert_allclose(losses["cpu"], losses["cuda"], rtol=1e-3)
