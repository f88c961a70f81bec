"""``fit``: what it computes, that it repeats itself, and how it stops."""

import copy
import itertools
import math
import random
import signal
import threading

import matplotlib
import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from vae_core import (
    VAE,
    Autoencoder,
    GaussianLikelihood,
    TrainingDiverged,
    devices,
    fit,
    mean_terms,
    one_cycle,
    pick_device,
    seed_everything,
    training,
    warm_up,
)

matplotlib.use("Agg")


def some_images(n: int = 100) -> torch.Tensor:
    noise = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, 28, 28), generator=noise).to(torch.uint8)


def small_images(n: int = 100, seed: int = 1, black_and_white: bool = True) -> torch.Tensor:
    """Images of 4 × 4 pixels, so that hundreds of steps take no time."""
    noise = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 2 if black_and_white else 256, (n, 4, 4), generator=noise)
    return (values * (255 if black_and_white else 1)).to(torch.uint8)


def small_vae(seed: int = 0, **changes) -> VAE:
    seed_everything(seed)
    return VAE(**{"latent_dim": 2, "hidden": (8,), "n_pixels": 16} | changes)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def same_history(one, other) -> bool:
    return (
        list(one.train) == list(other.train)  # in the same order, which is that of the plots
        and list(one.val) == list(other.val)
        and all(np.array_equal(one.train[term], other.train[term]) for term in one.train)
        and one.val == other.val
        and one.val_steps == other.val_steps
    )


def note_before_loss(model, note) -> None:
    """Call ``note`` before the terms of each batch are computed."""
    terms = model.loss_terms

    def loss_terms(x):
        note()
        return terms(x)

    model.loss_terms = loss_terms


@pytest.fixture(autouse=True)
def one_thread():
    """Several would only wait for each other with images and networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fit_of_a_vae_equals_the_loop_written_by_hand(dtype):
    """With schedules for both, and the noise that the model gets: the same to the last bit."""
    images, val = small_images(), small_images(7, seed=2)
    start_of_noise = []
    model = small_vae().to(dtype)
    by_hand = copy.deepcopy(model)
    note_before_loss(model, lambda: start_of_noise.append(torch.get_rng_state()))
    history = fit(
        model, images, val=val, steps=9, batch_size=32, seed=5, device="cpu",
        lr=one_cycle(9, 1e-2), weights={"KL": warm_up(5), "reconstruction": 2.0},
    )  # fmt: skip

    optimiser = torch.optim.Adam(by_hand.parameters(), lr=1.0, fused=True)
    order = torch.Generator().manual_seed(5)
    batches = [torch.randperm(100, generator=order)[:96].split(32) for _ in range(3)]
    torch.set_rng_state(start_of_noise[0])
    for step, batch in enumerate(itertools.chain(*batches)):
        x = images[batch].reshape(32, 16).to(dtype) / 255
        terms = {term: values.mean() for term, values in by_hand.loss_terms(x).items()}
        for term, mean in terms.items():  # without their weights
            assert history.train[term][step] == mean.item()
        optimiser.param_groups[0]["lr"] = one_cycle(9, 1e-2)(step)
        optimiser.zero_grad()
        (2.0 * terms["reconstruction"] + min(1, step / 5) * terms["KL"]).backward()
        optimiser.step()
    assert same_weights(model, by_hand)
    assert history.train["KL"].dtype == np.dtype(str(dtype).removeprefix("torch."))


def test_fit_of_a_vae_is_the_training_that_the_formulas_say():
    """Nothing of the package but ``fit``: cross-entropy and KL as they stand in a textbook."""
    images = small_images()
    start_of_noise = []
    model = small_vae()
    encoder, decoder = copy.deepcopy(model.encoder), copy.deepcopy(model.decoder)
    note_before_loss(model, lambda: start_of_noise.append(torch.get_rng_state()))
    history = fit(model, images, steps=30, batch_size=100, lr=1e-2, weights={"KL": 0.5}, seed=0)

    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
    order = torch.Generator().manual_seed(0)
    torch.set_rng_state(start_of_noise[0])
    expected = {"reconstruction": [], "KL": []}
    for _ in range(30):
        x = images[torch.randperm(100, generator=order)].reshape(100, 16) / 255
        mean, log_var = encoder(x).chunk(2, dim=1)
        logits = decoder(mean + torch.exp(log_var / 2) * torch.randn(100, 2))
        reconstruction = binary_cross_entropy_with_logits(logits, x, reduction="sum") / 100
        kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum() / 100
        optimiser.zero_grad()
        (reconstruction + 0.5 * kl).backward()
        optimiser.step()
        expected["reconstruction"].append(reconstruction.item())
        expected["KL"].append(kl.item())
    for term, values in expected.items():
        np.testing.assert_allclose(history.train[term], values, rtol=1e-4)


def test_validation_means_the_same_for_any_weight():
    """The weights of the model stay where they are, so only the weights of the terms differ."""
    images, val = small_images(), small_images(50, seed=2)
    runs = [
        fit(small_vae(), images, val=val, steps=4, batch_size=10, lr=lambda step: 0.0, weights=w)
        for w in (None, {"KL": 0.0}, {"KL": 100.0}, {"KL": warm_up(3), "reconstruction": 0.1})
    ]
    assert all(same_history(runs[0], run) for run in runs[1:])
    assert runs[0].val["KL"] == pytest.approx([mean_terms(small_vae(), val)["KL"]] * 4)


def test_the_weight_of_the_kl_counts():
    """The heavier the KL, the smaller it gets."""
    runs = [
        fit(small_vae(), small_images(), steps=200, batch_size=50, lr=1e-2, weights={"KL": weight})
        for weight in (0.0, 0.1, 10.0)
    ]
    none, little, much = (run.recent("KL", 20) for run in runs)
    assert none > 2 * little > 4 * much


def test_schedules_are_asked_for_every_step_from_0():
    asked = {"lr": [], "weights": []}
    schedules = {
        name: lambda step, name=name: asked[name].append(step) or 0.5 for name in ("lr", "weights")
    }
    fit(
        small_vae(), small_images(), steps=5, batch_size=10,
        lr=schedules["lr"], weights={"KL": schedules["weights"]},
    )  # fmt: skip
    for steps in asked.values():
        assert steps[0] == 0 and steps[1:] == [0, 1, 2, 3, 4]  # tried once, and then used


@pytest.mark.parametrize("also", [{}, {"KL": 0.5}])
def test_a_weight_of_an_unknown_term_is_an_error_before_any_step(also):
    model = small_vae()
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match=r"weights: .*\(reconstruction, KL\), got kl$"):
        fit(model, small_images(), steps=3, batch_size=10, weights={"kl": 1.0, **also})
    assert same_weights(model, before)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (math.nan, ValueError, "expected finite numbers of at least 0, got nan at step"),
        (math.inf, ValueError, "expected finite numbers of at least 0, got inf at step"),
        (-0.1, ValueError, "expected finite numbers of at least 0, got -0.1 at step"),
        ("big", TypeError, r"expected a number or a function of the step, got 'big' \(str\)"),
        (None, TypeError, "expected a number or a function of the step, got None"),
        (True, TypeError, "expected a number or a function of the step, got True"),
        (torch.ones(2), TypeError, "a float32 tensor of shape"),
    ],
)
@pytest.mark.parametrize("bad_from", [0, 2])
@pytest.mark.parametrize("which", ["lr", "weights"])
def test_a_schedule_that_gives_no_sensible_number(which, bad_from, value, error, words):
    model = small_vae()
    before, never_bad = copy.deepcopy(model), copy.deepcopy(model)

    def schedule(step):
        return value if step >= bad_from else 0.5

    arguments = {"lr": {"lr": schedule}, "weights": {"weights": {"KL": schedule}}}[which]
    name = {"lr": "lr", "weights": r"weights\['KL'\]"}[which]
    with pytest.raises(error, match=f"^{name}: .*{words}"):
        fit(model, small_images(), steps=5, batch_size=10, **arguments)
    good = {"lr": {"lr": 0.5}, "weights": {"weights": {"KL": 0.5}}}[which]
    fit(never_bad, small_images(), steps=2, batch_size=10, **good)
    assert same_weights(model, before if bad_from == 0 else never_bad)  # nothing from then on


@pytest.mark.parametrize("value", [math.nan, -1.0, "big", None])
def test_a_weight_that_is_no_sensible_number(value):
    with pytest.raises((TypeError, ValueError), match=r"weights\['KL'\]: expected"):
        fit(small_vae(), small_images(), steps=3, batch_size=10, weights={"KL": value})


def test_weights_that_are_no_mapping():
    with pytest.raises(TypeError, match="weights: expected a mapping from terms to weights"):
        fit(small_vae(), small_images(), steps=3, batch_size=10, weights=0.5)


def test_same_seed_same_run_whatever_else_draws_numbers():
    runs = []
    for disturb in (False, True):
        seed_everything(0)
        model = Autoencoder(2)
        if disturb:
            torch.rand(10)
        runs.append(fit(model, some_images(), steps=5, batch_size=10).train["squared error"])
    assert np.array_equal(*runs)


@pytest.mark.parametrize("redraw", [False, True])
def test_same_seed_same_noise_whatever_else_draws_numbers(redraw):
    images = small_images(black_and_white=not redraw)
    model = small_vae()
    models, histories = [copy.deepcopy(model) for _ in range(3)], []
    for disturbance, each in enumerate(models):
        seed_everything(disturbance)
        torch.rand(disturbance), np.random.rand(disturbance)
        histories.append(fit(each, images, steps=9, batch_size=32, redraw=redraw, seed=3))
    assert same_history(histories[0], histories[1]) and same_history(histories[0], histories[2])
    assert same_weights(models[0], models[1]) and same_weights(models[0], models[2])


def test_the_seed_of_the_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("VAE_CORE_SEED", "7")
    default = fit(small_vae(), small_images(), steps=4, batch_size=32)
    assert same_history(default, fit(small_vae(), small_images(), steps=4, batch_size=32, seed=7))
    other = fit(small_vae(), small_images(), steps=4, batch_size=32, seed=8)
    assert not same_history(default, other)


def global_random_numbers() -> list[float]:
    """The next random numbers that anybody would get."""
    return [torch.rand(()).item(), float(np.random.rand()), random.random()]


def test_nobody_elses_random_numbers_change():
    model, images = small_vae(), small_images(black_and_white=False)
    binary = small_images(7)
    seed_everything(11)
    expected = global_random_numbers()
    for disturb in (
        lambda: fit(model, images, val=binary, steps=4, batch_size=32, redraw=True),
        lambda: mean_terms(model, images),
    ):
        seed_everything(11)
        disturb()
        assert global_random_numbers() == expected


def test_random_numbers_are_put_back_after_an_error_too():
    seed_everything(11)
    expected = global_random_numbers()
    seed_everything(11)
    model = Eventful(lambda call, terms: {"error": terms["error"] * torch.rand(()) * torch.nan})
    with pytest.raises(TrainingDiverged):
        fit(model, some_images(), steps=4, batch_size=32)
    assert global_random_numbers() == expected


class Drawing(OneNumber):
    """Notes the random numbers that it draws for its noise."""

    def __init__(self):
        super().__init__()
        self.drawn = []

    def loss_terms(self, x):
        self.drawn.append(torch.rand(5, dtype=torch.float64).tolist())  # no two alike by chance
        return super().loss_terms(x)


def test_noise_is_new_in_every_step_and_not_the_numbers_of_the_order():
    """Were both made from the same numbers, an image's noise would depend on its place."""
    drawn = []
    for seed in (0, 1, 2):
        model = Drawing()
        fit(model, some_images(), steps=6, batch_size=32, seed=seed)
        drawn += model.drawn
        order = torch.Generator().manual_seed(seed)
        drawn.append(torch.rand(5, dtype=torch.float64, generator=order).tolist())
    assert len(np.unique(drawn)) == 3 * (6 + 1) * 5


def test_validation_does_not_touch_the_noise_of_training():
    with_val, without = small_vae(), small_vae()
    one = fit(with_val, small_images(), val=small_images(9), steps=40, batch_size=32)
    other = fit(without, small_images(), steps=40, batch_size=32)
    assert same_weights(with_val, without)
    assert all(np.array_equal(one.train[term], other.train[term]) for term in other.train)


def test_mean_terms_draws_the_same_noise_at_each_call():
    model, images = small_vae(), small_images()
    assert mean_terms(model, images) == mean_terms(model, images)


def test_mean_terms_draws_other_noise_for_each_batch():
    """One noise for all batches would be the error of a much smaller sample."""
    model = Drawing()
    mean_terms(model, some_images(30), batch_size=10)
    assert len(np.unique(model.drawn)) == 3 * 5


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_the_seed_reaches_the_device_and_its_random_numbers_are_put_back(monkeypatch, device):
    """A GPU has random numbers of its own; here a stand-in, so that it is tested everywhere."""
    theirs = {"state": torch.tensor([99])}
    module = getattr(torch, device)

    def put(state, device=None):
        theirs["state"] = state

    monkeypatch.setattr(module, "get_rng_state", lambda device=None: theirs["state"])
    monkeypatch.setattr(module, "set_rng_state", put)
    monkeypatch.setattr(module, "manual_seed", lambda seed: put(torch.tensor([seed])))
    monkeypatch.setattr(torch.cuda, "device", lambda device: threading.Lock())  # any context
    with training._own_random_numbers(5, torch.device(device)):
        assert theirs["state"].item() == 5
    assert theirs["state"].item() == 99


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_seed_same_noise_on_the_gpu():
    histories = []
    for disturbance in (0, 5):
        model = small_vae()
        torch.rand(disturbance, device="cuda")
        before = torch.cuda.get_rng_state()
        histories.append(fit(model, small_images(), steps=9, batch_size=32, device="cuda"))
        assert torch.equal(torch.cuda.get_rng_state(), before)
    assert same_history(*histories)


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


def test_no_gradient_ever_sees_a_validation_image():
    """Training images are dark here, validation images light."""
    seen = {"gradient": [], "no gradient": []}

    class Spy(OneNumber):
        def loss_terms(self, x):
            kind = "gradient" if torch.is_grad_enabled() else "no gradient"
            seen[kind] += x.mean(dim=1).tolist()
            return super().loss_terms(x)

    dark, light = torch.full((50, 784), 0.1), torch.full((7, 784), 0.9)
    fit(Spy(), dark, val=light, steps=40, batch_size=10)
    assert len(seen["gradient"]) == 40 * 10 and max(seen["gradient"]) < 0.5
    assert len(seen["no gradient"]) == 20 * 7 and min(seen["no gradient"]) > 0.5


def test_the_model_is_the_last_one_not_the_best_on_validation_images():
    """A choice by validation images is the caller's to make, in the open."""
    model = OneNumber()
    model.w.data.fill_(1.0)  # right for the validation images; training leads away from there
    black, white = torch.zeros(50, 784), torch.ones(7, 784)
    history = fit(model, black, val=white, steps=20, batch_size=10, lr=0.01)
    assert history.val["error"] == sorted(history.val["error"])
    assert history.val["error"][-1] == pytest.approx((1 - model.w.item()) ** 2)
    assert history.val["error"][-1] > 0.01


def test_every_batch_has_the_same_number_of_images():
    sizes = []

    class Spy(OneNumber):
        def loss_terms(self, x):
            sizes.append(len(x))
            return super().loss_terms(x)

    fit(Spy(), some_images(), steps=10, batch_size=32)
    assert sizes == [32] * 10


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_mean_terms_of_a_vae_is_the_mean_over_all_images(batch_size):
    """By hand, image by image, with the same noise drawn batch by batch."""
    model, images = small_vae(), small_images(7)
    got = mean_terms(model, images, batch_size=batch_size)
    torch.manual_seed(0)
    sums = {"reconstruction": 0.0, "KL": 0.0}
    for batch in images.split(batch_size):
        for term, values in model.loss_terms(batch.flatten(1) / 255).items():
            sums[term] += values.detach().double().sum().item()
    assert got == pytest.approx({term: total / 7 for term, total in sums.items()}, rel=1e-6)


class WithModes(OneNumber):
    """Layers of different modes: a part that is frozen in evaluation mode, say."""

    def __init__(self, fails: bool = False):
        super().__init__()
        self.fails = fails
        self.frozen, self.free = torch.nn.Dropout(), torch.nn.Dropout()
        self.train()
        self.frozen.eval()

    def modes(self):
        return [module.training for module in (self, self.frozen, self.free)]

    def loss_terms(self, x):
        assert self.modes() == [False] * 3
        if self.fails:
            raise ArithmeticError("planted")
        return super().loss_terms(x)


def test_mean_terms_puts_the_mode_of_every_layer_back():
    model = WithModes()
    mean_terms(model, some_images(5))
    assert model.modes() == [True, False, True]


def test_mean_terms_puts_modes_and_random_numbers_back_after_an_error():
    model = WithModes(fails=True)
    before = torch.get_rng_state()
    with pytest.raises(ArithmeticError, match="planted"):
        mean_terms(model, some_images(5))
    assert model.modes() == [True, False, True]
    assert torch.equal(torch.get_rng_state(), before)


class Watching(OneNumber):
    """Notes every batch that it is given, apart for training and validation."""

    def __init__(self, n_pixels: int = 784):
        super().__init__()
        self.n_pixels, self.batches, self.val_batches = n_pixels, [], []

    def loss_terms(self, x):
        (self.batches if self.training else self.val_batches).append(x.clone())
        return super().loss_terms(x)


@pytest.mark.parametrize("as_floats", [False, True], ids=["bytes", "floats"])
def test_redraw_draws_every_image_anew_in_every_epoch(as_floats):
    """One image of all grey values, 400 times; 20 epochs of 4 batches."""
    grey = torch.arange(256, dtype=torch.uint8).repeat(400, 1)
    grey = grey.float() / 255 if as_floats else grey
    model = Watching(n_pixels=256)
    fit(model, grey, steps=80, batch_size=100, redraw=True)
    drawn = torch.cat(model.batches)
    assert ((drawn == 0) | (drawn == 1)).all()
    assert drawn.unique(dim=0).shape == drawn.shape  # no two draws are the same
    p = torch.arange(256) / 255
    error = (p * (1 - p) / len(drawn)).sqrt()
    assert ((drawn.mean(dim=0) - p).abs() <= 5 * error).all()


def test_redraw_leaves_black_and_white_images_as_they_are():
    images = small_images()
    for each in (images, images / 255):
        watching = [Watching(n_pixels=16), Watching(n_pixels=16)]
        for model, redraw in zip(watching, (True, False), strict=True):
            fit(model, each, steps=9, batch_size=32, redraw=redraw)
        assert all(map(torch.equal, watching[0].batches, watching[1].batches))


def test_without_redraw_grey_stays_grey():
    images = small_images(black_and_white=False)
    model = Watching(n_pixels=16)
    fit(model, images, steps=1, batch_size=100)
    got = (model.batches[0] * 255).round().to(torch.uint8)
    assert torch.equal(got.unique(dim=0), images.flatten(1).unique(dim=0))


def test_redraw_wants_validation_images_that_are_drawn_already():
    grey = small_images(black_and_white=False)
    for val in (grey, grey / 255):
        model = small_vae()
        before = copy.deepcopy(model)
        with pytest.raises(ValueError, match="val: expected black-and-white images with redraw"):
            fit(model, grey, val=val, steps=3, batch_size=10, redraw=True)
        assert same_weights(model, before)
    fit(small_vae(), grey, val=grey, steps=3, batch_size=10)  # grey throughout is a choice


@pytest.mark.parametrize("as_floats", [False, True], ids=["bytes", "floats"])
def test_redraw_forgotten_is_an_error_before_any_step(as_floats):
    """Grey in training and black and white in validation: nobody wants to compare the two."""
    grey, val = small_images(black_and_white=False), small_images(9)
    if as_floats:
        grey, val = grey / 255, val / 255
    model = small_vae()
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match="^redraw: expected True for grey training images"):
        fit(model, grey, val=val, steps=3, batch_size=10)
    assert same_weights(model, before)


def test_where_redraw_was_not_forgotten():
    grey, binary = small_images(black_and_white=False), small_images()
    some = {"steps": 1, "batch_size": 10}
    fit(small_vae(), grey, val=binary[:9], redraw=True, **some)
    fit(small_vae(), grey, val=grey[:9], **some)
    fit(small_vae(), grey, **some)
    fit(small_vae(), binary, val=binary[:9], **some)
    # Other models than those of black-and-white pixels see grey values anyway.
    fit(small_vae(likelihood=GaussianLikelihood(0.3)), grey, val=binary[:9], **some)
    fit(Autoencoder(2, hidden=(8,), n_pixels=16), grey, val=binary[:9], **some)


@pytest.mark.parametrize("redraw", [False, True])
def test_validation_images_are_never_drawn_anew(redraw):
    """The weights of the model don't move, so neither may a single validation number."""
    grey = small_images(black_and_white=False)
    val = small_images(9) if redraw else grey[:9]
    model = Watching(n_pixels=16)
    history = fit(model, grey, val=val, steps=40, batch_size=10, redraw=redraw, lr=lambda step: 0.0)
    assert len(set(history.val["error"])) == 1 and len(history.val["error"]) == 20
    assert all(torch.equal(x, val.flatten(1) / 255) for x in model.val_batches)
    stays = fit(
        small_vae(), grey, val=val, steps=40, batch_size=10, redraw=redraw, lr=lambda step: 0.0
    )
    assert all(len(set(values)) == 1 for values in stays.val.values())  # nor its noise


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


def test_a_second_ctrl_c_interrupts_at_once():
    """The first waits for the end of the step; whoever presses again doesn't want to wait."""

    def press_twice(call, terms):
        if call == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("the step went on")
        return terms

    model = Eventful(press_twice)
    with pytest.raises(KeyboardInterrupt):
        fit(model, some_images(), steps=50, batch_size=10)
    two_steps = OneNumber()
    fit(two_steps, some_images(), steps=2, batch_size=10)
    assert same_weights(model, two_steps)


@pytest.mark.parametrize("event", ["nothing", "ctrl-c", "twice", "diverged"])
def test_ctrl_c_means_what_it_meant_before(event):
    def happen(call, terms):
        for _ in range({"ctrl-c": 1, "twice": 2}.get(event, 0) if call == 2 else 0):
            signal.raise_signal(signal.SIGINT)
        return {"error": terms["error"] * (torch.nan if event == "diverged" else 1)}

    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append("mine"))
    try:
        error = {"twice": KeyboardInterrupt, "diverged": TrainingDiverged}.get(event)
        if error is None:
            fit(Eventful(happen), some_images(), steps=3, batch_size=10)
        else:
            with pytest.raises(error):
                fit(Eventful(happen), some_images(), steps=3, batch_size=10)
        assert heard == []
        signal.raise_signal(signal.SIGINT)
        assert heard == ["mine"]
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_before_the_first_step(monkeypatch, capsys):
    bar = training._progress_bar

    def press_and_show(*arguments):
        signal.raise_signal(signal.SIGINT)
        return bar(*arguments)

    monkeypatch.setattr(training, "_progress_bar", press_and_show)
    model = OneNumber()
    history = fit(model, some_images(), steps=5, batch_size=10)
    assert history.interrupted and history.steps == 0 and model.w.item() == 0
    assert "stopped by hand at step 0 of 5" in capsys.readouterr().out


def test_ctrl_c_in_the_last_step_interrupts_nothing(capsys):
    history = fit(Eventful(interrupt_at(5)), some_images(), steps=5, batch_size=10)
    assert not history.interrupted and history.steps == 5
    assert "stopped" not in capsys.readouterr().out


def test_fit_works_outside_the_main_thread():
    """Only the main thread may change what Ctrl-C does; Python raises an error in others."""
    models, histories = [small_vae(), small_vae()], []

    def work(model):
        histories.append(fit(model, small_images(), steps=5, batch_size=10))

    work(models[0])
    thread = threading.Thread(target=work, args=[models[1]])
    thread.start()
    thread.join()
    assert same_history(*histories) and same_weights(*models)


class RootOfZero(OneNumber):
    """A finite loss with a gradient that isn't: √0 has the slope ∞, and ∞ · 0 is NaN."""

    def __init__(self, bad_step):
        super().__init__()
        self.bad_step, self.calls = bad_step, 0
        self.harmless = torch.nn.Parameter(torch.ones(()))
        self.root = torch.nn.Linear(1, 1)

    def loss_terms(self, x):
        self.calls += 1
        zero = self.root.weight.sum() * (0 if self.calls >= self.bad_step else 1)
        terms = super().loss_terms(x)
        return {"error": terms["error"] * self.harmless, "root": zero.abs().sqrt().expand(len(x))}


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights():
    seed_everything(0)
    model, healthy = RootOfZero(bad_step=4), RootOfZero(bad_step=99)
    healthy.load_state_dict(model.state_dict())
    with pytest.raises(
        TrainingDiverged, match=r"gradient of 'root.weight' isn't finite at step 4, .*\(error, root"
    ):
        fit(model, some_images(), steps=10, batch_size=10, device="cpu")
    fit(healthy, some_images(), steps=3, batch_size=10, device="cpu")
    assert same_weights(model, healthy)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_image_of_a_batch_is_enough_to_stop(value):
    """And the weights stay as the last good step left them."""

    def spoil(call, terms):
        spoilt = terms["error"].clone()
        spoilt[7] = value if call == 3 else spoilt[7]
        return {"fine": terms["error"], "spoilt": spoilt}

    model, healthy = Eventful(spoil), Eventful(spoil)
    with pytest.raises(TrainingDiverged, match=f"'spoilt' became {value} at step 3"):
        fit(model, some_images(), steps=10, batch_size=10, device="cpu")
    fit(healthy, some_images(), steps=2, batch_size=10, device="cpu")
    assert model.w.item() == healthy.w.item() != 0


def test_a_term_without_weight_is_watched_too():
    """0 · inf is NaN, and what is not seen can't be trusted later on."""

    def diverge(call, terms):
        return {"error": terms["error"], "watched": terms["error"] / (call < 3)}

    model = Eventful(diverge)
    with pytest.raises(TrainingDiverged, match="'watched' became inf at step 3"):
        fit(model, some_images(), steps=9, batch_size=10, weights={"watched": 0.0}, device="cpu")
    assert math.isfinite(model.w.item())


@pytest.mark.parametrize("bad_step", [1, 5])
def test_weights_that_the_last_update_spoils_are_an_error(bad_step):
    """Term and gradient are finite; what the optimiser makes of them isn't, and no step follows."""
    model = OneNumber()
    with pytest.raises(TrainingDiverged, match=f"weights 'w' aren't finite after step {bad_step}"):
        fit(
            model, some_images(), steps=bad_step, batch_size=10, device="cpu",
            lr=lambda step: 1e39 if step == bad_step - 1 else 1e-3,
        )  # fmt: skip


def test_rare_looks_find_the_first_bad_step(monkeypatch):
    """As on a GPU, where each look takes time: found later, and still named rightly."""
    monkeypatch.setattr(training, "FINITE_CHECK_EVERY_ON_CPU", 100)

    def diverge(call, terms):
        return {"error": terms["error"] * (torch.inf if call == 12 else 1)}

    for steps in (50, 150):  # before the first look, and at it
        model = Eventful(diverge)
        with pytest.raises(TrainingDiverged, match="'error' became inf at step 12"):
            fit(model, some_images(), steps=steps, batch_size=10, device="cpu")
        assert model.calls == min(steps, 100)


def test_gradients_too_large_to_add_up_are_no_error():
    """Each is finite; only the sum that looks at them all at once isn't."""

    class Steep(OneNumber):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(10))

        def loss_terms(self, x):
            return {"error": (x[:, :10] * self.w * 3e38).sum(dim=1)}

    history = fit(Steep(), torch.ones(10, 784), steps=1, batch_size=10, lr=1e-9)
    assert history.steps == 1


PATTERNS = (torch.rand(10, 784, generator=torch.Generator().manual_seed(3)) < 0.2).float()


def pattern_images(n: int) -> torch.Tensor:
    """Ten patterns with a tenth of the pixels turned over: something to learn."""
    noise = torch.Generator().manual_seed(4)
    chosen = torch.randint(10, (n,), generator=noise)
    turned = torch.rand(n, 784, generator=noise) < 0.1
    return torch.where(turned, 1 - PATTERNS[chosen], PATTERNS[chosen])


def test_a_vae_trains_in_bfloat16_as_in_float32():
    """The products have 8 bits; the weights and what is seen keep 24."""
    images, runs = pattern_images(1000), {}
    for precision in ("float32", "bfloat16"):
        seed_everything(0)
        model = VAE(5, hidden=(64,))
        runs[precision] = fit(
            model, images, val=images[:100], steps=200, batch_size=64, precision=precision
        )
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for term in ("reconstruction", "KL"):
        rounded, exact = runs["bfloat16"].train[term], runs["float32"].train[term]
        assert np.isfinite(rounded).all() and rounded.dtype == np.float32
        assert rounded.tolist() != exact.tolist()  # it really is another precision
    losses = {
        precision: run.train["reconstruction"] + run.train["KL"] for precision, run in runs.items()
    }
    # The sums of ten steps: single steps differ more, because the runs drift apart.
    np.testing.assert_allclose(
        *(loss.reshape(20, 10).mean(axis=1) for loss in losses.values()), rtol=0.03
    )
    assert losses["bfloat16"][-10:].mean() < 0.8 * losses["bfloat16"][0]


@pytest.mark.parametrize(
    ("precision", "fast", "batch_size", "expected"),
    [
        ("auto", True, 128, torch.bfloat16),
        ("auto", True, 8, torch.float32),
        ("auto", False, 128, torch.float32),
        ("float32", True, 128, torch.float32),
        ("bfloat16", False, 8, torch.bfloat16),
    ],
)
def test_fit_computes_in_the_precision_that_was_picked(
    monkeypatch, precision, fast, batch_size, expected
):
    monkeypatch.setattr(devices, "_cpu_multiplies_bfloat16", lambda: fast)
    types = []
    model = VAE(2)
    model.encoder.register_forward_hook(
        lambda module, inputs, output: types.append((module.training, output.dtype))
    )
    images = pattern_images(128)
    fit(model, images, val=images[:5], steps=1, batch_size=batch_size, precision=precision,
        device="cpu")  # fmt: skip
    assert types == [(True, expected), (False, torch.float32)]  # validation is always exact


def test_a_vae_plots_a_panel_for_each_term():
    history = fit(small_vae(), small_images(), val=small_images(9), steps=30, batch_size=10)
    figure = history.plot()
    assert [ax.get_ylabel() for ax in figure.axes] == ["reconstruction per image", "KL per image"]
    assert [ax.get_xlabel() for ax in figure.axes] == ["step", "step"]
    for ax, term in zip(figure.axes, ("reconstruction", "KL"), strict=True):
        lines = [line.get_ydata() for line in ax.lines]
        assert any(np.array_equal(line, history.train[term]) for line in lines)
        assert any(np.array_equal(line, history.val[term]) for line in lines)


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
        ({"seed": -1}, ValueError, "seed: expected an integer of at least 0, got -1"),
        ({"seed": 1.0}, TypeError, "seed: expected an integer of at least 0, got 1.0"),
        ({"seed": "1"}, TypeError, "seed: expected an integer of at least 0, got '1'"),
        ({"seed": 2**63}, ValueError, r"seed: expected an integer below 2\*\*63, got 9223"),
        ({"precision": "half"}, ValueError, "precision: expected 'auto', 'float32' or 'bfloat16'"),
        ({"precision": torch.bfloat16}, ValueError, "precision: expected 'auto'"),
        ({"resume": True}, ValueError, "checkpoint: expected the file to resume from, got None"),
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


@pytest.mark.parametrize("value", ["-1", "x", "1.5", str(2**63)])
def test_bad_seed_in_the_environment(monkeypatch, value):
    monkeypatch.setenv("VAE_CORE_SEED", value)
    with pytest.raises(ValueError, match="VAE_CORE_SEED: expected an integer"):
        seed_everything()


@pytest.mark.parametrize(
    ("seed", "error"),
    [(-1, ValueError), (2**63, ValueError), (1.0, TypeError), (True, TypeError), ("1", TypeError)],
)
def test_bad_seeds(seed, error):
    seed_everything(11)
    expected = global_random_numbers()
    seed_everything(11)
    with pytest.raises(error, match="seed: expected an integer"):
        seed_everything(seed)
    assert global_random_numbers() == expected  # nothing was seeded by halves


@pytest.mark.parametrize("seed", [np.int64(3), 2**32, 2**63 - 1])
def test_large_seeds_and_those_of_numpy(seed):
    assert seed_everything(seed) == seed
    first = global_random_numbers()
    seed_everything(seed)
    assert global_random_numbers() == first
    fit(small_vae(), small_images(), steps=1, batch_size=10, seed=seed)


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
