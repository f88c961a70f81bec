"""``fit`` and ``mean_terms``: what they compute, what they refuse, and how a run stops."""

import contextlib
import copy
import itertools
import math
import signal
import threading

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from small import N_PIXELS, OneNumber, same_history, same_weights, small_images, small_vae
from vae_book.models import Autoencoder
from vae_core import (
    Batches,
    GaussianLikelihood,
    Guard,
    History,
    TrainingDiverged,
    TrainingState,
    fit,
    mean_terms,
    one_cycle,
    training,
    warm_up,
)

TEN = {"steps": 5, "batch_size": 10}
GREY = small_images(binary=False)


def autoencoder() -> Autoencoder:
    small_vae()  # seeds
    return Autoencoder(2, hidden=(8,), n_pixels=N_PIXELS)


def note_before_loss(model, note) -> None:
    """Call ``note`` before the terms of each batch are computed."""
    terms = model.loss_terms

    def loss_terms(x):
        note()
        return terms(x)

    model.loss_terms = loss_terms


def nan_in(first: int, last: int | None = None):
    """An event: the error is NaN in some calls, counted from 1; in one, if no last one is given.

    ``fit`` goes back where it finds NaN, and calls again: a call is given NaN only once.
    """
    last = first if last is None else last
    return lambda call, terms: {
        "error": terms["error"] * (torch.nan if first <= call <= last else 1)
    }


def marked(step: int) -> torch.Tensor:
    """A condition: 1 for that one of 300 images which the step sees, counted from 1, else 0.

    With batches of one image and the seed 0 it spoils a step, and spoils it again when that step is
    repeated.
    """
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    return torch.zeros(300).index_fill(0, order[step - 1 : step], 1.0)


ONE_BY_ONE = {"batch_size": 1, "seed": 0, "device": "cpu"}


class Watching(OneNumber):
    """Notes every batch that it is given, apart for training and validation."""

    def __init__(self, n_pixels: int = N_PIXELS):
        super().__init__()
        self.n_pixels, self.batches, self.val_batches = n_pixels, [], []

    def loss_terms(self, x):
        (self.batches if torch.is_grad_enabled() else self.val_batches).append(x.clone())
        return super().loss_terms(x)


# What it computes


def test_fit_equals_the_loop_written_by_hand():
    """Same model, same order of images, same optimiser: the same losses to the last bit."""
    model = autoencoder()
    by_hand = copy.deepcopy(model)
    history = fit(model, GREY, steps=9, batch_size=32, lr=2e-3, seed=5, device="cpu")

    optimiser = torch.optim.Adam(by_hand.parameters(), lr=2e-3, fused=True)
    order = torch.Generator().manual_seed(5)
    losses = []
    for _ in range(3):  # three epochs of three whole batches; four images are left over each time
        epoch = torch.randperm(100, generator=order)
        for start in (0, 32, 64):
            x = GREY[epoch[start : start + 32]].reshape(32, 16).float() / 255
            loss = (x - by_hand.decoder(by_hand.encoder(x))).square().sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert history.train["squared error"].tolist() == losses
    assert same_weights(model, by_hand)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
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
    kept = np.float64 if dtype == torch.float64 else np.float32
    assert all(values.dtype == kept for values in history.train.values())


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


def test_another_optimiser_steps_at_the_rate_of_the_schedule():
    """Gradient descent on (1 − w)², by hand: w grows by rate · 2 (1 − w)."""
    model, ink = OneNumber(), small_images(5) * 0 + 255
    rates = [0.1, 0.3, 0.2]
    fit(
        model, ink, steps=3, batch_size=5, lr=rates.__getitem__, device="cpu",
        optimiser=lambda weights: torch.optim.SGD(weights, lr=1.0),
    )  # fmt: skip
    w = 0.0
    for rate in rates:
        w += rate * 2 * (1 - w)
    assert model.w.item() == pytest.approx(w)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_mean_terms_of_a_vae_is_the_mean_over_all_images(batch_size):
    """By hand, image by image, with the same noise drawn batch by batch, the last one short."""
    model, images = small_vae(), small_images(7)
    got = mean_terms(model, images, batch_size=batch_size)
    torch.manual_seed(0)
    sums = {"reconstruction": 0.0, "KL": 0.0}
    for batch in images.split(batch_size):
        for term, values in model.loss_terms(batch.flatten(1) / 255).items():
            sums[term] += values.detach().double().sum().item()
    assert got == pytest.approx({term: total / 7 for term, total in sums.items()}, rel=1e-6)


@pytest.mark.parametrize("n", [1001, 1999])
def test_validation_is_the_mean_over_all_images_with_a_last_batch_that_is_short(n):
    """1,000 black images and some white ones: a mean of batch means would be one half."""
    val = torch.zeros(n, N_PIXELS)
    val[1000:] = 1
    model = OneNumber()
    history = fit(model, torch.zeros(50, N_PIXELS), val=val, lr=lambda step: 0.0, **TEN)
    assert history.val["error"] == pytest.approx([(n - 1000) / n] * 5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_arrays_are_trained_as_tensors_are(dtype):
    """Bytes bit for bit, and floats that stand for the same bytes."""
    array = GREY.numpy() if dtype == np.uint8 else (GREY.double() / 255).numpy().astype(dtype)
    one, other = small_vae(), small_vae()
    history = fit(one, GREY, val=GREY[:9], seed=0, **TEN)
    again = fit(other, array, val=array[:9], seed=0, **TEN)
    for term, values in history.train.items():
        np.testing.assert_allclose(again.train[term], values, rtol=1e-6)
    if dtype == np.uint8:
        assert same_history(history, again) and same_weights(one, other)
    assert mean_terms(one, array) == pytest.approx(mean_terms(one, GREY), rel=1e-6)


def test_arrays_and_images_stay_as_they_were():
    before = GREY.clone()
    floats = GREY / 255
    fit(small_vae(), GREY.numpy(), val=small_images(9), redraw=True, **TEN)
    fit(small_vae(), floats, **TEN)
    assert torch.equal(GREY, before) and torch.equal(floats, before / 255)


# Weights and schedules


def test_validation_means_the_same_for_any_weight():
    """The weights of the model stay where they are, so only the weights of the terms differ."""
    images, val = small_images(), small_images(50, seed=2)
    runs = [
        fit(
            small_vae(), images, val=val, steps=4, batch_size=10, lr=lambda step: 0.0, weights=w,
            seed=0,
        )
        for w in (None, {"KL": 0.0}, {"KL": 100.0}, {"KL": warm_up(3), "reconstruction": 0.1})
    ]  # fmt: skip
    assert all(same_history(runs[0], run) for run in runs[1:])
    assert runs[0].val["KL"] == pytest.approx([mean_terms(small_vae(), val)["KL"]] * 4)


def test_the_weight_of_the_kl_counts():
    """The heavier the KL, the smaller it gets."""
    runs = [
        fit(
            small_vae(), small_images(), steps=60, batch_size=50, lr=3e-2, weights={"KL": weight},
            seed=0,
        )
        for weight in (0.0, 0.1, 10.0)
    ]  # fmt: skip
    none, little, much = (run.recent("KL", 20) for run in runs)
    assert none > 2 * little > 4 * much


@pytest.mark.parametrize("event", [lambda call, terms: terms, nan_in(4)], ids=["well", "diverged"])
def test_schedules_are_asked_once_for_every_step_and_before_the_first(event):
    """Not once more for steps that are repeated, because a later one was NaN."""
    asked, model = {"lr": [], "weight": []}, OneNumber(event)

    def schedule(name):
        return lambda step: asked[name].append((step, model.calls)) or 0.5

    with contextlib.suppress(TrainingDiverged):
        fit(model, GREY, lr=schedule("lr"), weights={"error": schedule("weight")}, **TEN)
    assert asked["lr"] == asked["weight"] == [(step, 0) for step in range(5)]
    assert model.calls >= 5


@pytest.mark.parametrize("also", [{}, {"KL": 0.5}])
def test_a_weight_of_an_unknown_term_is_an_error_before_any_step(also, tmp_path):
    model, path = small_vae(), tmp_path / "run.pt"
    with pytest.raises(ValueError, match=r"^weights: .*\(reconstruction, KL\), got kl$"):
        fit(model, small_images(), weights={"kl": 1.0, **also}, checkpoint=path, **TEN)
    assert same_weights(model, small_vae()) and not path.exists()


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (math.nan, ValueError, "expected finite numbers of at least 0, got nan at step "),
        (math.inf, ValueError, "expected finite numbers of at least 0, got inf at step "),
        (-0.1, ValueError, "expected finite numbers of at least 0, got -0.1 at step "),
        ("big", TypeError, r"expected a number or a function of the step, got 'big' \(str\)"),
        (None, TypeError, "expected a number or a function of the step, got None"),
        (True, TypeError, "expected a number or a function of the step, got True"),
        (torch.ones(2), TypeError, "a float32 tensor of shape"),
    ],
)
@pytest.mark.parametrize("bad_step", [0, 2, 4])
@pytest.mark.parametrize("which", ["lr", "weights"])
def test_a_schedule_that_gives_no_sensible_number(which, bad_step, value, error, words, tmp_path):
    """At any step, the last one too: an error before the first, and no file."""
    model, path = OneNumber(), tmp_path / "run.pt"

    def schedule(step):
        return value if step == bad_step else 0.5

    arguments = {"lr": {"lr": schedule}, "weights": {"weights": {"error": schedule}}}[which]
    name = {"lr": "lr", "weights": r"weights\['error'\]"}[which]
    at = f"{bad_step}$" if error is ValueError else ""
    with pytest.raises(error, match=f"^{name}: .*{words}{at}"):
        fit(model, small_images(), seed=0, checkpoint=path, **arguments, **TEN)
    assert model.calls == 0 and same_weights(model, OneNumber()) and not path.exists()


@pytest.mark.parametrize("value", [math.nan, -1.0, "big", None])
def test_a_weight_that_is_no_sensible_number(value):
    with pytest.raises((TypeError, ValueError), match=r"^weights\['KL'\]: expected"):
        fit(small_vae(), small_images(), weights={"KL": value}, **TEN)


# Loss terms that are none


@pytest.mark.parametrize(
    ("terms", "error", "words"),
    [
        (lambda x: {"good": x.mean(1), "bad": x.mean()}, ValueError, r"'bad', .* shape \(\);"),
        (lambda x: {"bad": x.mean(1).sum().item()}, ValueError, r"for 'bad', got .* \(float\);"),
        (lambda x: {"bad": x}, ValueError, r"'bad', got a float32 tensor of shape \(10, 16\);"),
        (lambda x: {"bad": x.mean(1, keepdim=True)}, ValueError, r"of shape \(10, 1\);"),
        (lambda x: {"bad": x.mean(1)[:1]}, ValueError, r"of shape \(1,\);"),
        (lambda x: x.mean(1), TypeError, "expected terms by name, got a float32 tensor of shape"),
        (lambda x: {}, TypeError, "expected terms by name, got a dict of length 0"),
        (lambda x: None, TypeError, "expected terms by name, got None"),
    ],
    ids=["a mean", "a number", "pixels", "a column", "one image", "no names", "none", "None"],
)
def test_terms_that_are_not_one_number_an_image_are_an_error_on_the_first_batch(
    terms, error, words
):
    """A batch mean would come out right in ``fit`` and wrong in ``mean_terms``."""

    class Wrong(OneNumber):
        def loss_terms(self, x):
            self.calls += 1
            return terms(x + self.w)

    for use in (
        lambda model: fit(model, small_images(), **TEN),
        lambda model: mean_terms(model, small_images(50), batch_size=10),
    ):
        model = Wrong()
        with pytest.raises(error, match=f"^loss: .*{words}"):
            use(model)
        assert model.calls == 1 and model.w.item() == 0


def test_one_image_and_its_mean_are_told_apart():
    """Of one image the mean is the same number, in another shape."""

    class Mean(OneNumber):
        def loss_terms(self, x):
            return {"error": super().loss_terms(x)["error"].mean()}

    with pytest.raises(ValueError, match="^loss: expected one number an image"):
        fit(Mean(), small_images(), steps=1, batch_size=1)
    assert fit(OneNumber(), small_images(), steps=1, batch_size=1).steps == 1


# Batches and validation


def test_an_epoch_shows_every_image_once_in_batches_of_one_size():
    images = torch.arange(100, dtype=torch.uint8)[:, None].repeat(1, N_PIXELS)
    model = Watching()
    fit(model, images, steps=13, batch_size=32)
    assert {len(batch) for batch in model.batches} == {32}
    model = Watching()
    fit(model, images, steps=10, batch_size=10)
    seen = (torch.cat(model.batches)[:, 0] * 255).round().int().tolist()
    assert sorted(seen) == list(range(100)) and seen != sorted(seen)


def test_no_gradient_ever_sees_a_validation_image():
    """Training images are dark here, validation images light."""
    dark, light = torch.full((50, N_PIXELS), 0.1), torch.full((7, N_PIXELS), 0.9)
    model = Watching()
    history = fit(model, dark, val=light, steps=40, batch_size=10)
    assert history.val_steps == list(range(2, 41, 2))
    seen, validated = torch.cat(model.batches), torch.cat(model.val_batches)
    assert len(seen) == 40 * 10 and seen.max() < 0.5
    assert len(validated) == 20 * 7 and validated.min() > 0.5


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, [1]), (19, range(1, 20)), (41, [*range(2, 41, 2), 41])]
)
def test_the_last_step_is_always_validated(steps, expected):
    history = fit(OneNumber(), GREY, val=GREY[:3], steps=steps, batch_size=10)
    assert history.val_steps == list(expected) and len(history.val["error"]) == len(expected)


def test_the_model_is_the_last_one_not_the_best_on_validation_images():
    """A choice by validation images is the caller's to make, in the open."""
    model = OneNumber()
    model.w.data.fill_(1.0)  # right for the validation images; training leads away from there
    black, white = torch.zeros(50, N_PIXELS), torch.ones(7, N_PIXELS)
    history = fit(model, black, val=white, steps=20, batch_size=10, lr=0.01)
    assert history.val["error"] == sorted(history.val["error"])
    assert history.val["error"][-1] == pytest.approx((1 - model.w.item()) ** 2)
    assert history.val["error"][-1] > 0.01


# Black and white, drawn anew


@pytest.mark.parametrize("as_floats", [False, True], ids=["bytes", "floats"])
def test_redraw_draws_every_image_anew_in_every_epoch(as_floats):
    """One image of all grey values, 400 times; 20 epochs of 4 batches."""
    grey = torch.arange(256, dtype=torch.uint8).repeat(400, 1)
    grey = grey.float() / 255 if as_floats else grey
    model = Watching(n_pixels=256)
    fit(model, grey, steps=80, batch_size=100, redraw=True)
    drawn = torch.cat(model.batches)
    assert ((drawn == 0) | (drawn == 1)).all()
    assert len(set(map(bytes, drawn.bool().numpy()))) == 8000  # no two draws are the same
    p = torch.arange(256) / 255
    error = (p * (1 - p) / len(drawn)).sqrt()
    assert ((drawn.mean(dim=0) - p).abs() <= 5 * error).all()


def test_redraw_leaves_black_and_white_images_as_they_are():
    images = small_images()
    for each in (images, images / 255):
        watching = [Watching(), Watching()]
        for model, redraw in zip(watching, (True, False), strict=True):
            fit(model, each, redraw=redraw, seed=0, **TEN)
        assert all(map(torch.equal, watching[0].batches, watching[1].batches))


def test_without_redraw_grey_stays_grey():
    model = Watching()
    fit(model, GREY, steps=1, batch_size=100)
    got = (model.batches[0] * 255).round().to(torch.uint8)
    assert torch.equal(got.unique(dim=0), GREY.flatten(1).unique(dim=0))


@pytest.mark.parametrize("as_floats", [False, True], ids=["bytes", "floats"])
@pytest.mark.parametrize(
    ("redraw", "words"),
    [(True, "val: expected black-and-white"), (False, "redraw: expected True for grey training")],
)
def test_training_and_validation_images_must_be_of_one_kind(redraw, words, as_floats):
    """Redraw with grey validation images, or redraw forgotten: an error before any step."""
    grey, val = GREY, GREY[:9] if redraw else small_images(9)
    if as_floats:
        grey, val = grey / 255, val / 255
    model = small_vae()
    with pytest.raises(ValueError, match=f"^{words}"):
        fit(model, grey, val=val, redraw=redraw, **TEN)
    assert same_weights(model, small_vae())


def test_where_redraw_was_not_forgotten():
    binary, some = small_images(), {"steps": 1, "batch_size": 10}
    fit(small_vae(), GREY, val=binary[:9], redraw=True, **some)
    fit(small_vae(), GREY, val=GREY[:9], **some)
    fit(small_vae(), GREY, **some)
    fit(small_vae(), binary, val=binary[:9], **some)
    # Other models than those of black-and-white pixels see grey values anyway.
    fit(small_vae(likelihood=GaussianLikelihood(0.3)), GREY, val=binary[:9], **some)
    fit(autoencoder(), GREY, val=binary[:9], **some)


@pytest.mark.parametrize("redraw", [False, True])
def test_validation_images_are_never_drawn_anew(redraw):
    """The weights of the model don't move, so neither may a single validation number."""
    val = small_images(9) if redraw else GREY[:9]
    still = {"steps": 40, "batch_size": 10, "redraw": redraw, "lr": lambda step: 0.0}
    model = Watching()
    history = fit(model, GREY, val=val, **still)
    assert len(set(history.val["error"])) == 1 and len(history.val["error"]) == 20
    assert all(torch.equal(x, val.flatten(1) / 255) for x in model.val_batches)
    history = fit(small_vae(), GREY, val=val, **still)
    assert all(len(set(values)) == 1 for values in history.val.values())  # nor its noise


# Ctrl-C


def pressed_in(last: int, presses: int = 1, event=lambda call, terms: terms):
    """The event, with Ctrl-C pressed in call number ``last``."""

    def happen(call, terms):
        for _ in range(presses if call == last else 0):
            signal.raise_signal(signal.SIGINT)
        return event(call, terms)

    return happen


def test_ctrl_c_keeps_what_was_reached(capsys):
    model, eight_steps = OneNumber(pressed_in(8)), OneNumber()
    history = fit(model, GREY, steps=50, batch_size=10, seed=0)
    assert history.interrupted and history.steps == 8
    assert "8 steps, stopped by hand" in capsys.readouterr().out
    fit(eight_steps, GREY, steps=8, batch_size=10, seed=0)
    assert same_weights(model, eight_steps) and model.w.item() != 0


def test_a_second_ctrl_c_interrupts_at_once():
    """The first waits for the end of the step; whoever presses again doesn't want to wait."""
    model, two_steps = OneNumber(pressed_in(3, presses=2)), OneNumber()
    with pytest.raises(KeyboardInterrupt):
        fit(model, GREY, steps=50, batch_size=10, seed=0)
    fit(two_steps, GREY, steps=2, batch_size=10, seed=0)
    assert same_weights(model, two_steps)


@pytest.mark.parametrize(
    ("presses", "factor", "error"),
    [(0, 1, None), (1, 1, None), (2, 1, KeyboardInterrupt), (0, torch.nan, TrainingDiverged)],
    ids=["nothing", "ctrl-c", "twice", "diverged"],
)
def test_ctrl_c_means_what_it_meant_before(presses, factor, error):
    model = OneNumber(pressed_in(2, presses, lambda call, terms: {"e": terms["error"] * factor}))
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append("mine"))
    try:
        if error is None:
            fit(model, GREY, **TEN)
        else:
            with pytest.raises(error):
                fit(model, GREY, **TEN)
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
    history = fit(model, GREY, **TEN)
    assert history.interrupted and history.steps == 0 and model.calls == 0
    assert capsys.readouterr().out == "fit: 0 steps, stopped by hand\n"
    history.plot()


def test_ctrl_c_in_the_last_step_interrupts_nothing(capsys):
    history = fit(OneNumber(pressed_in(5)), GREY, **TEN)
    assert not history.interrupted and history.steps == 5
    assert "stopped" not in capsys.readouterr().out


def test_fit_works_outside_the_main_thread():
    """Only the main thread may change what Ctrl-C does; Python raises an error in others."""
    models, histories = [small_vae(), small_vae()], []

    def work(model):
        histories.append(fit(model, small_images(), seed=0, **TEN))

    work(models[0])
    thread = threading.Thread(target=work, args=[models[1]])
    thread.start()
    thread.join()
    assert same_history(*histories) and same_weights(*models)


# NaN


def test_looks_change_nothing(monkeypatch):
    """Neither weights nor noise nor what is seen, however often ``fit`` looks."""
    runs = []
    for look_every in (1, 7, 100):
        monkeypatch.setattr(training, "LOOK_EVERY", look_every)
        model = small_vae()
        runs.append((model, fit(model, small_images(), steps=30, batch_size=30, seed=0)))
    for model, history in runs[:2]:
        assert same_weights(model, runs[2][0]) and same_history(history, runs[2][1])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_image_of_a_batch_is_enough_to_stop_with_term_and_step(value):
    """And the weights stay as the last good step left them."""

    def spoil(call, terms):
        spoilt = terms["error"].clone()
        spoilt[7] = value if call == 3 else spoilt[7]
        return {"fine": terms["error"], "spoilt": spoilt}

    model, healthy = OneNumber(spoil), OneNumber(spoil)
    with pytest.raises(TrainingDiverged, match=f"'spoilt' became {value} at step 3;"):
        fit(model, GREY, device="cpu", seed=0, **TEN)
    fit(healthy, GREY, steps=2, batch_size=10, device="cpu", seed=0)
    assert model.w.item() == healthy.w.item() != 0


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_term_without_weight_or_gradient_is_watched_too(weight):
    """What is not seen can't be trusted later on, even where no weight ever feels it."""

    def watch(call, terms):
        return {**terms, "watched": torch.ones(10) / (call != 3)}

    model, healthy = OneNumber(watch), OneNumber()
    with pytest.raises(TrainingDiverged, match="'watched' became inf at step 3;"):
        fit(model, GREY, weights={"watched": weight}, device="cpu", seed=0, **TEN)
    fit(healthy, GREY, steps=2, batch_size=10, device="cpu", seed=0)
    assert same_weights(model, healthy)


def test_nan_is_not_kept_by_ctrl_c():
    """It is stopped long before the next look, and looks once more."""
    model = OneNumber(pressed_in(9, event=nan_in(6, 9)))
    with pytest.raises(TrainingDiverged, match="'error' became nan at step 6;"):
        fit(model, GREY, steps=50, batch_size=10)
    assert model.calls == 9 + 6 and math.isfinite(model.w.item())


@pytest.mark.parametrize("step", [1, 12, 50, 100, 101, 150])
def test_a_term_that_is_nan_only_once_is_reported_all_the_same(step):
    """No repetition shows it again: which term it was, and when, is known from the first time."""
    model, healthy = OneNumber(nan_in(step)), OneNumber()
    with pytest.raises(TrainingDiverged, match=f"^the term 'error' became nan at step {step};"):
        fit(model, GREY, steps=150, batch_size=10, device="cpu", seed=0)
    seen_at, repeated = (100, step) if step <= 100 else (150, step - 100)
    assert model.calls == seen_at + repeated  # from the look before, and no further
    if step > 1:
        fit(healthy, GREY, steps=step - 1, batch_size=10, device="cpu", seed=0)
    assert same_weights(model, healthy)


class Hooked(OneNumber):
    """Its gradient is NaN in one call, and never again."""

    def __init__(self, bad_call):
        super().__init__()
        self.w.register_hook(lambda grad: grad * (torch.nan if self.calls == bad_call else 1))


@pytest.mark.parametrize(
    ("bad_call", "words", "good_steps"),
    [
        (3, "the term 'error' became nan at step 4;", 3),  # what came of it
        (5, "something became NaN or infinite by step 5, but not again;", 5),
    ],
)
def test_a_gradient_that_is_nan_only_once_leaves_the_weights_of_the_repetition(
    bad_call, words, good_steps
):
    model, healthy = Hooked(bad_call), OneNumber()
    with pytest.raises(TrainingDiverged, match=f"^{words}"):
        fit(model, GREY, device="cpu", seed=0, **TEN)
    fit(healthy, GREY, steps=good_steps, batch_size=10, device="cpu", seed=0)
    assert same_weights(model, healthy)


def spoilt_term(model, x, mark):
    terms = model.loss_terms(x)
    return terms | {"KL": terms["KL"] + torch.where(mark == 1, torch.nan, 0.0)}


def spoilt_gradient(model, x, mark):
    """A finite loss with a gradient that isn't: √0 has the slope ∞, and ∞ · 0 is NaN."""
    root = ((model.decoder[0].weight.sum() + 100) * (1 - mark)).sqrt()
    return model.loss_terms(x) | {"root": root}


def spoilt_by_nothing(model, x, mark):
    return model.loss_terms(x)


@pytest.mark.parametrize("step", [1, 50, 100, 101, 250])
@pytest.mark.parametrize(
    ("loss", "rate", "words"),
    [
        (spoilt_term, 1e-3, "the term 'KL' became nan at step {step};"),
        (
            spoilt_gradient,
            1e-3,
            "the gradient of 'decoder.0.weight' became NaN or infinite at step {step}, although "
            r"each term of the loss \(reconstruction, KL, root\) is finite;",
        ),
        (
            spoilt_by_nothing,
            1e39,
            r"the weights 'encoder.0.weight' became NaN or infinite in the update of step {step}, "
            "although their gradient is finite;",
        ),
    ],
    ids=["term", "gradient", "update"],
)
def test_the_weights_are_the_last_ones_that_were_finite(loss, rate, words, step):
    """To the last bit those of a run that ends one step before; its noise is repeated too."""
    images, condition = small_images(300), marked(step)
    model, healthy = small_vae(), small_vae()
    with pytest.raises(TrainingDiverged, match="^" + words.format(step=step)):
        fit(
            model, images, condition, loss=loss, steps=300, **ONE_BY_ONE,
            lr=lambda done: rate if done == step - 1 else 1e-3,
        )  # fmt: skip
    if step > 1:
        fit(healthy, images, condition, loss=loss, steps=step - 1, **ONE_BY_ONE)
    assert same_weights(model, healthy)


@pytest.mark.parametrize("bad_step", [1, 5])
def test_weights_that_the_last_update_spoils_are_an_error(bad_step):
    """Term and gradient are finite; what the optimiser makes of them isn't, and no step follows."""
    words = f"the weights 'w' became NaN or infinite in the update of step {bad_step}, "
    model, healthy = OneNumber(), OneNumber()
    some = {"batch_size": 10, "device": "cpu", "seed": 0}
    with pytest.raises(TrainingDiverged, match=f"^{words}"):
        fit(
            model, GREY, steps=bad_step, **some,
            lr=lambda step: 1e39 if step == bad_step - 1 else 1e-3,
        )  # fmt: skip
    if bad_step > 1:
        fit(healthy, GREY, steps=bad_step - 1, **some)
    assert same_weights(model, healthy)


class Large(OneNumber):
    """Weights, or their gradient, so large that a sum of them is infinite, and each is finite."""

    def __init__(self, size: float, slope: float, event=lambda call, terms: terms):
        super().__init__(event)
        self.w = torch.nn.Parameter(torch.full((10,), size))
        self.slope = slope

    def loss_terms(self, x):
        self.calls += 1
        return self.event(self.calls, {"error": (x[:, :10] * self.w * self.slope).sum(dim=1)})


@pytest.mark.parametrize(("size", "slope"), [(0.0, 3e38), (3e38, 1e-38)])
def test_numbers_too_large_to_add_up_are_no_error(size, slope):
    """Each is finite; only the sum that looks at them all at once isn't."""
    white = torch.ones(10, N_PIXELS)
    history = fit(Large(size, slope), white, steps=3, batch_size=10, lr=1e-9)
    assert history.steps == 3
    # Nor are they blamed for what another step did, while steps are repeated.
    with pytest.raises(TrainingDiverged, match="^the term 'error' became nan at step 2;"):
        fit(Large(size, slope, nan_in(2)), white, steps=3, batch_size=10, lr=1e-9)


# A loop of one's own


def own_loop(model, *, steps=50, guarded=True, look_every=7, lr=1e-2, sabotage=None) -> History:
    """Training as ``Guard`` describes it; ``sabotage`` may happen in a step, before its update."""
    torch.manual_seed(0)  # noise
    images = small_images().flatten(1) / 255
    optimiser = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    batches, history = iter(Batches(len(images), 10, seed=0)), History()
    parts = {"model": model, "optimiser": optimiser, "batches": batches, "history": history}
    guard = Guard(TrainingState(parts))
    while history.steps < steps:
        terms = model.loss_terms(images[next(batches)])
        means = {term: values.mean() for term, values in terms.items()}
        if sabotage is not None:
            sabotage(history.steps + 1, means)
        optimiser.zero_grad()
        sum(means.values()).backward()
        history.note(means)
        if guarded:
            guard.check()
        optimiser.step()
        pause = guard.repeating or history.steps % look_every == 0 or history.steps == steps
        if guarded and pause:
            guard.look()
    return history


def test_a_guard_changes_nothing_in_a_loop_of_ones_own():
    guarded, bare = small_vae(), small_vae()
    history, expected = own_loop(guarded), own_loop(bare, guarded=False)
    assert same_weights(guarded, bare) and same_history(history, expected)
    assert history.steps == 50 and not same_weights(bare, small_vae())


@pytest.mark.parametrize("step", [1, 7, 8, 24, 50])
def test_a_guard_stops_a_loop_of_ones_own_before_the_first_bad_step(step):
    def spoil(at, means):
        if at == step:
            means["KL"] = means["KL"] * torch.nan

    model, healthy = small_vae(), small_vae()
    with pytest.raises(TrainingDiverged, match=f"^the term 'KL' became nan at step {step};"):
        own_loop(model, sabotage=spoil)
    own_loop(healthy, steps=step - 1)
    assert same_weights(model, healthy)


@pytest.mark.parametrize("bad", ["one", "other"])
def test_a_guard_watches_each_of_two_models_whose_weights_have_the_same_names(bad):
    """As in a loop with a critic; each of them goes back to its own weights."""
    parts = {"one": OneNumber(), "other": OneNumber(), "history": History()}
    guard = Guard(TrainingState(parts))
    words = f"^the weights '{bad}.w' became NaN or infinite in the update of step 1, "
    with pytest.raises(TrainingDiverged, match=words):
        for _ in range(2):  # the second time it is repeated
            parts["history"].note({"error": torch.zeros(())})
            guard.check()
            parts[bad].w.data.fill_(torch.inf)
            guard.look()
    assert parts["one"].w.item() == parts["other"].w.item() == 0


def test_without_a_guard_that_loop_ends_with_nan():
    model = small_vae()
    own_loop(model, guarded=False, sabotage=lambda at, means: means["KL"].mul_(torch.nan))
    assert not any(parameter.isfinite().any() for parameter in model.encoder.parameters())


# Devices and precisions


class Travelling(OneNumber):
    """Notes where it is sent."""

    def __init__(self, event=lambda call, terms: terms):
        super().__init__(event)
        self.places = []

    def to(self, *places):
        self.places += places
        return super().to(*places)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (lambda call, terms: terms, None),
        (pressed_in(2, presses=2), KeyboardInterrupt),
        (nan_in(2), TrainingDiverged),
        (lambda call, terms: {}, TypeError),
    ],
    ids=["nothing", "ctrl-c twice", "diverged", "no terms"],
)
def test_the_model_comes_back_to_where_it_was(event, error):
    model = Travelling(event)
    device, home = torch.device("cpu", 0), torch.device("cpu")  # PyTorch tells the two apart
    if error is None:
        fit(model, GREY, device=device, **TEN)
    else:
        with pytest.raises(error):
            fit(model, GREY, device=device, **TEN)
    assert model.places == [device, home] and device != home


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cpu_and_gpu_agree():
    losses = {}
    for device in ("cpu", "cuda"):
        model = autoencoder()
        history = fit(model, GREY, val=GREY[:9], steps=20, batch_size=20, device=device, seed=0)
        losses[device] = history.train["squared error"]
        assert next(model.parameters()).device.type == "cpu"  # back where it was
    np.testing.assert_allclose(losses["cpu"], losses["cuda"], rtol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_seed_same_noise_on_the_gpu():
    histories = []
    for disturbance in (0, 5):
        model = small_vae()
        torch.rand(disturbance, device="cuda")
        before = torch.cuda.get_rng_state()
        histories.append(fit(model, small_images(), device="cuda", seed=0, **TEN))
        assert torch.equal(torch.cuda.get_rng_state(), before)
    assert same_history(*histories)


def learnable_images(n: int) -> torch.Tensor:
    """Four patterns with a tenth of the pixels turned over."""
    noise = torch.Generator().manual_seed(4)
    patterns = torch.rand(4, N_PIXELS, generator=noise) < 0.5
    turned = torch.rand(n, N_PIXELS, generator=noise) < 0.1
    return (patterns[torch.randint(4, (n,), generator=noise)] ^ turned).float()


def test_a_vae_trains_in_bfloat16_as_in_float32():
    """The products have 8 bits; the weights and what is seen keep 24, and validation is exact."""
    images, runs, types = learnable_images(500), {}, {}
    for precision in ("float32", "bfloat16"):
        model = small_vae()
        seen = types[precision] = set()
        model.encoder.register_forward_hook(
            lambda module, x, output, seen=seen: seen.add((module.training, output.dtype))
        )
        runs[precision] = fit(
            model, images, val=images[:100], steps=100, batch_size=100, lr=2e-2, seed=0,
            precision=precision, device="cpu",
        )  # fmt: skip
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert types["float32"] == {(True, torch.float32), (False, torch.float32)}
    assert types["bfloat16"] == {(True, torch.bfloat16), (False, torch.float32)}
    for values in runs["bfloat16"].train.values():
        assert np.isfinite(values).all() and values.dtype == np.float32
    exact, rounded = (run.train["reconstruction"] + run.train["KL"] for run in runs.values())
    # The means of ten steps: single steps differ more, because the runs drift apart.
    np.testing.assert_allclose(*(x.reshape(10, 10).mean(axis=1) for x in (exact, rounded)), 0.03)
    assert exact.tolist() != rounded.tolist() and rounded[-10:].mean() < 0.9 * rounded[0]


@pytest.mark.parametrize("make", [small_vae, autoencoder], ids=["VAE", "Autoencoder"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_of_another_type_trains_and_its_history_is_numpy(make, dtype):
    """bfloat16 is a type that NumPy doesn't have."""
    images, model = learnable_images(200), make().to(dtype)
    history = fit(model, images, val=images[:50], steps=60, batch_size=50, lr=1e-2, seed=0)
    exact = fit(make(), images, val=images[:50], steps=60, batch_size=50, lr=1e-2, seed=0)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    for term, values in history.train.items():
        assert isinstance(values, np.ndarray) and values.dtype in (np.float32, np.float64)
        assert all(isinstance(value, float) for value in history.val[term])
    loss, expected = (sum(run.train.values()) for run in (history, exact))
    assert loss[-10:].mean() == pytest.approx(expected[-10:].mean(), rel=0.1)
    assert loss[-10:].mean() < 0.95 * loss[0]
    assert repr(history).startswith("60 steps; ")


# What it says, and what it refuses


def test_the_last_line_and_nothing_else(capsys):
    history = fit(OneNumber(), GREY, val=GREY[:3], **TEN)
    out, err = capsys.readouterr()
    assert out == f"fit: {history!r}\n" and err == ""


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
        ({"weights": 0.5}, TypeError, "weights: expected a mapping from terms to weights"),
        ({"device": "gpu"}, ValueError, "device: expected one that is here, got 'gpu'"),
        ({"images": GREY.float()}, ValueError, r"images: .*\[0, 1\].*divide by 255\?"),
        ({"images": GREY[:, 1:]}, ValueError, "images: expected .* with 16 pixels an image"),
        ({"images": GREY[:0]}, ValueError, "images: expected at least 1 image, got 0"),
        ({"images": GREY.tolist()}, TypeError, "images: .* got a list of length 100"),
        ({"images": GREY.numpy().astype(object)}, TypeError, r"images: .* \(100, 4, 4\)"),
        ({"val": GREY.float()}, ValueError, r"val: .*\[0, 1\].*divide by 255\?"),
        ({"val": GREY[:0]}, ValueError, "val: expected at least 1 image"),
        ({"val": GREY.tolist()}, TypeError, "val: .* got a list of length 100"),
        ({"optimiser": lambda weights: None}, TypeError, "optimiser: expected a function from"),
        ({"precision": "half"}, ValueError, "precision: expected one of 'float32'"),
        ({"precision": "auto"}, ValueError, "precision: expected one of 'float32'"),
    ],
)
def test_bad_arguments_stop_before_the_first_step(change, error, words):
    model = OneNumber()
    with pytest.raises(error, match=f"^{words}"):
        fit(model, **({"images": GREY, "steps": 3, "batch_size": 10} | change))
    assert model.calls == 0


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (GREY[:0], ValueError, "images: expected at least 1 image, got 0"),
        (GREY.float(), ValueError, r"images: .*divide by 255\?"),
        (GREY.tolist(), TypeError, "images: .* got a list of length 100"),
    ],
)
def test_mean_terms_refuses_the_same_images(images, error, words):
    with pytest.raises(error, match=f"^{words}"):
        mean_terms(OneNumber(), images)


def test_nan_is_not_kept_by_ctrl_c_in_a_validation(tmp_path):
    """The key is pressed after the look of that step, and before the loop asks for it."""

    class Validated(OneNumber):
        steps = validations = 0

        def loss_terms(self, x):
            terms = super().loss_terms(x)
            if torch.is_grad_enabled():
                self.steps += 1
                return {"error": terms["error"] * (torch.nan if self.steps == 6 else 1)}
            self.validations += 1
            if self.validations == 4:  # after step 8
                signal.raise_signal(signal.SIGINT)
            return terms

    model, path = Validated(), tmp_path / "run.pt"
    with pytest.raises(TrainingDiverged, match="'error' became nan at step 6;"):
        fit(model, GREY, val=GREY[:9], steps=50, batch_size=10, checkpoint=path)
    assert math.isfinite(model.w.item()) and not path.exists()


def test_a_loss_that_refuses_nan_is_a_run_that_diverged():
    """torch.distributions do: the weights were spoilt by the step before."""

    class Refuses(OneNumber):
        def loss_terms(self, x):
            return {"nll": -torch.distributions.Normal(self.w, 1.0).log_prob(x).sum(dim=1)}

    model, healthy = Refuses(), Refuses()
    with pytest.raises(TrainingDiverged, match="in the update of step 6"):
        fit(model, GREY, steps=30, batch_size=10, seed=0, lr=lambda s: 1e39 if s == 5 else 1e-3)
    fit(healthy, GREY, steps=5, batch_size=10, seed=0)
    assert same_weights(model, healthy)


def test_buffers_are_those_from_before_the_bad_step_too():
    class Normed(OneNumber):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(16)

        def loss_terms(self, x):
            spoilt = torch.inf if self.norm.num_batches_tracked == 3 else 1  # in step 4
            return {"error": (self.norm(x * spoilt).mean(dim=1) - self.w).square()}

    model = Normed()
    with pytest.raises(TrainingDiverged, match="step 4"):
        fit(model, GREY, steps=5, batch_size=10)
    assert model.norm.running_mean.isfinite().all()


def test_weights_that_are_nan_before_training_are_an_error_before_any_step():
    model = OneNumber()
    model.w.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="^model: expected finite weights, 'w' has NaN"):
        fit(model, GREY, **TEN)
    assert model.calls == 0


def test_a_loss_that_fails_for_another_reason_says_so():
    def loss(model, x):
        raise RuntimeError("of its own")

    with pytest.raises(RuntimeError, match="^of its own$"):
        fit(OneNumber(), GREY, loss=loss, **TEN)
