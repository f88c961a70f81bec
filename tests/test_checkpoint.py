"""Checkpoints: a run that was stopped and resumed is the run that never stopped, bit for bit."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from test_training import (
    Eventful,
    OneNumber,
    interrupt_at,
    same_history,
    same_weights,
    small_images,
    small_vae,
)
from test_weights import SideEffect, no_room_beyond
from torch import nn

import vae_core
from vae_core import (
    GaussianLikelihood,
    TrainingDiverged,
    WeightsError,
    fit,
    load_weights,
    one_cycle,
    save_weights,
    seed_everything,
    training,
    warm_up,
    weights,
)

STEPS, PER_EPOCH = 40, 3  # of 30 from 100 images, so that ten wait for the next epoch


@pytest.fixture(autouse=True)
def one_thread():
    """Bits are the same only for the same number of threads, in a new process too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "run.safetensors"


def plain() -> nn.Module:
    return small_vae()


def with_buffers_and_dropout() -> nn.Module:
    """Running statistics that training changes, and noise of another kind than the code's."""
    model = small_vae(likelihood=GaussianLikelihood(0.5, learned=True))
    model.encoder = nn.Sequential(
        nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 4)
    )
    return model


def with_frozen_weights() -> nn.Module:
    """Adam has no moments for a weight that never had a gradient."""
    model = small_vae()
    for parameter in model.encoder[0].parameters():
        parameter.requires_grad_(False)
    return model


MODELS = {"plain": plain, "buffers": with_buffers_and_dropout, "frozen": with_frozen_weights}

PLAIN = {}
EVERYTHING = {
    "val": small_images(9, seed=2),
    "lr": one_cycle(STEPS, 1e-2),
    "weights": {"KL": warm_up(20)},
    "redraw": True,
}


def train(model, settings: dict, **changes):
    grey = small_images(100, black_and_white=False)
    arguments = {"images": grey, "steps": STEPS, "batch_size": 30, "seed": 1, "device": "cpu"}
    return fit(model, **(arguments | settings | changes))


def in_step(model, step: int, happen) -> None:
    """Call ``happen`` in the middle of a training step, counted from 1 and from here."""
    steps = 0

    def hook(module, inputs, output):
        nonlocal steps
        steps += module.training
        if module.training and steps == step:
            happen()

    model.encoder.register_forward_hook(hook)


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def stopped(make, settings, path, step, **changes):
    """A model whose run was stopped by Ctrl-C in a step, and saved."""
    model = make()
    in_step(model, step, press_ctrl_c)
    history = train(model, settings, checkpoint=path, **changes)
    assert history.steps == step and history.interrupted == (step < STEPS)
    return model


STOPS = [1, 2, PER_EPOCH, PER_EPOCH + 1, 6 * PER_EPOCH, 20, STEPS - 1, STEPS]


@pytest.mark.parametrize("settings", [PLAIN, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_stopped_and_resumed_is_never_stopped(make, settings, path):
    """First step, within an epoch, at its end, at a validation, and in the last step of all."""
    whole = make()
    history = train(whole, settings)
    for step in STOPS:
        stopped(make, settings, path, step)
        resumed = make()
        for parameter in resumed.parameters():
            parameter.data.fill_(0.1)  # nothing of the new model's own weights may remain
        again = train(resumed, settings, checkpoint=path, resume=True)
        assert same_weights(resumed, whole), f"stopped after step {step}"
        assert same_history(again, history) and not again.interrupted
        path.unlink()


def test_the_same_model_can_go_on_itself(path):
    """In a notebook nobody makes a new model to resume."""
    whole = plain()
    train(whole, EVERYTHING)
    model = stopped(plain, EVERYTHING, path, 7)
    train(model, EVERYTHING, checkpoint=path, resume=True)
    assert same_weights(model, whole)


def test_resumed_twice(path):
    whole = with_buffers_and_dropout()
    history = train(whole, EVERYTHING)
    stopped(with_buffers_and_dropout, EVERYTHING, path, 5)
    second = with_buffers_and_dropout()
    in_step(second, 11, press_ctrl_c)  # step 16 of the whole
    assert train(second, EVERYTHING, checkpoint=path, resume=True).steps == 16
    third = with_buffers_and_dropout()
    assert same_history(train(third, EVERYTHING, checkpoint=path, resume=True), history)
    assert same_weights(third, whole)


def test_what_else_draws_random_numbers_does_not_matter_to_a_resumed_run(path):
    whole = plain()
    train(whole, EVERYTHING)
    stopped(plain, EVERYTHING, path, 7)
    resumed = plain()
    seed_everything(77)
    expected = torch.rand(3)
    seed_everything(77)
    train(resumed, EVERYTHING, checkpoint=path, resume=True)
    assert same_weights(resumed, whole) and torch.equal(torch.rand(3), expected)


def test_checkpoints_change_nothing_in_the_run(path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", -1.0)  # after each step
    with_file, without = plain(), plain()
    history = train(with_file, EVERYTHING, checkpoint=path)
    assert same_history(history, train(without, EVERYTHING)) and same_weights(with_file, without)


def test_a_finished_run_stays_as_it_is_and_can_go_on(path):
    model = plain()
    history = train(model, PLAIN, checkpoint=path)
    again = plain()
    assert same_history(train(again, PLAIN, checkpoint=path, resume=True), history)
    assert same_weights(again, model)

    longer, whole = plain(), plain()
    further = train(longer, PLAIN, checkpoint=path, resume=True, steps=STEPS + 7)
    assert same_history(further, train(whole, PLAIN, steps=STEPS + 7))
    assert same_weights(longer, whole)


def test_a_run_that_was_stopped_before_its_first_step_can_be_resumed(path, monkeypatch):
    bar = training._progress_bar

    def press_and_show(*arguments):
        press_ctrl_c()
        return bar(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_progress_bar", press_and_show)
        for resume in (False, True):
            history = train(plain(), EVERYTHING, checkpoint=path, resume=resume)
            assert history.interrupted and history.steps == 0
    whole, resumed = plain(), plain()
    history = train(whole, EVERYTHING)
    assert same_history(train(resumed, EVERYTHING, checkpoint=path, resume=True), history)
    assert same_weights(resumed, whole)


def test_images_of_any_float_type_can_be_resumed(path):
    images = (small_images() / 255).bfloat16()
    whole, resumed = plain(), plain()
    train(whole, PLAIN, images=images)
    stopped(plain, PLAIN, path, 5, images=images)
    train(resumed, PLAIN, images=images, checkpoint=path, resume=True)
    assert same_weights(resumed, whole)


# In another process, and after a process that died


def in_new_process(function: str, *arguments: object) -> int:
    """Run a function of this file in a new Python process; its return code."""
    source = Path(vae_core.__file__).resolve().parents[1]
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    call = f"import test_checkpoint; test_checkpoint.{function}(*{[str(a) for a in arguments]})"
    done = subprocess.run(
        [sys.executable, "-c", call],
        cwd=Path(__file__).parent,
        env=os.environ | {"PYTHONPATH": str(source)} | one_thread,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode <= 0, done.stderr
    return done.returncode


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def resume_and_report(path: str, report: str) -> None:
    torch.manual_seed(99)
    model = with_buffers_and_dropout()
    history = train(model, EVERYTHING, checkpoint=path, resume=True)
    save_weights(model, f"{report}.safetensors")
    np.savez(f"{report}.npz", **history.train, **{f"val {t}": v for t, v in history.val.items()})


def die_in_step_14(path: str) -> None:
    training.SAVE_EVERY = -1.0
    model = with_buffers_and_dropout()
    in_step(model, 14, die)
    train(model, EVERYTHING, checkpoint=path)


def die_while_saving(path: str) -> None:
    """In the middle of the fifth write: the new file is there in part, under its other name."""
    training.SAVE_EVERY = -1.0
    writes = 0
    sync = os.fsync

    def count_and_die(handle):
        nonlocal writes
        writes += 1
        if writes == 5:
            os.truncate(handle, os.fstat(handle).st_size // 2)
            die()
        sync(handle)

    os.fsync = count_and_die
    train(with_buffers_and_dropout(), EVERYTHING, checkpoint=path)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    ("death", "done"), [("die_in_step_14", 13), ("die_while_saving", 3), (None, 7)]
)
def test_a_new_process_goes_on_where_a_dead_one_was(path, death, done):
    """Killed without a warning, in a step or while it saves; or stopped, and the computer too."""
    if death is None:
        stopped(with_buffers_and_dropout, EVERYTHING, path, done)
    else:
        assert in_new_process(death, path) == -signal.SIGKILL
    assert weights.read_tensors(path)[1]["done"] == str(done)
    report = path.parent / "report"
    assert in_new_process("resume_and_report", path, report) == 0

    whole, resumed = with_buffers_and_dropout(), with_buffers_and_dropout()
    history = train(whole, EVERYTHING)
    load_weights(resumed, report.with_suffix(".safetensors"))
    assert same_weights(resumed, whole)
    with np.load(report.with_suffix(".npz")) as reported:
        for term in ("reconstruction", "KL"):
            assert np.array_equal(reported[term], history.train[term])
            assert np.array_equal(reported[f"val {term}"], history.val[term])


def test_a_save_happens_when_it_is_time(path, monkeypatch):
    clock = iter(range(0, 10**6, 25))  # seconds: 25 between any two looks
    monkeypatch.setattr(training.time, "monotonic", lambda: float(next(clock)))
    saved = []
    save = training._Run.save
    monkeypatch.setattr(
        training._Run, "save", lambda run, *rest: saved.append(run.done) or save(run, *rest)
    )
    train(plain(), PLAIN, steps=10, checkpoint=path)
    # The third look is 75 s after the last save, and then the clock is read once more.
    assert saved == [0, 3, 6, 9, 10]


# What can't be resumed


def test_a_checkpoint_that_is_there_is_not_overwritten(path):
    stopped(plain, PLAIN, path, 3)
    before = path.read_bytes()
    model, untouched = small_vae(1), small_vae(1)
    with pytest.raises(FileExistsError, match=f"{path} exists; resume=True"):
        train(model, PLAIN, checkpoint=path)
    assert path.read_bytes() == before and same_weights(model, untouched)


def test_no_checkpoint_to_resume(path):
    model, untouched = small_vae(1), small_vae(1)
    with pytest.raises(FileNotFoundError, match=f"{path}: no such file"):
        train(model, PLAIN, checkpoint=path, resume=True)
    assert same_weights(model, untouched) and not path.exists()


def test_a_folder_that_is_not_there_is_an_error_before_any_step(path):
    model, untouched = small_vae(1), small_vae(1)
    in_step(model, 1, lambda: pytest.fail("a step was taken"))
    with pytest.raises(OSError, match="could not write .*gone"):
        train(model, PLAIN, checkpoint=path.parent / "gone" / path.name)
    assert same_weights(model, untouched)


def one_pixel_changed(images):
    images[3, 2, 1] ^= 255
    return images


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"batch_size": 20}, WeightsError, "made with batch_size 30, this run has batch_size 20"),
        ({"seed": 2}, WeightsError, "made with seed 1, this run has seed 2"),
        ({"redraw": True}, WeightsError, "made with redraw False, this run has redraw True"),
        (
            {"precision": "bfloat16"},
            WeightsError,
            "made with precision torch.float32, this run has precision torch.bfloat16",
        ),
        ({"images": small_images(99)}, WeightsError, "made with images .*, this run has images"),
        (
            {"images": one_pixel_changed(small_images(100, black_and_white=False))},
            WeightsError,
            "made with images .*, this run has images",
        ),
        ({"steps": 6}, ValueError, "steps: expected at least the 7 done, got 6"),
        ({"model": small_vae(latent_dim=3)}, WeightsError, "weights of another model: .*decoder"),
        ({"model": small_vae(hidden=(8, 8))}, WeightsError, "decoder.4.bias is missing"),
        (
            {"model": small_vae(likelihood=GaussianLikelihood(0.5))},
            WeightsError,
            "likelihood.fixed_sigma is missing",
        ),
        ({"model": OneNumber()}, WeightsError, "weights of another model: .*w is missing"),
    ],
)
def test_a_run_that_is_not_the_same_cannot_be_resumed(path, change, error, words):
    stopped(plain, PLAIN, path, 7, precision="float32")
    before = path.read_bytes()
    model = change.get("model", small_vae(1))
    model.n_pixels = 16
    weights_before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    arguments = {"precision": "float32"} | {k: v for k, v in change.items() if k != "model"}
    with pytest.raises(error, match=words):
        train(model, PLAIN, checkpoint=path, resume=True, **arguments)
    after = model.state_dict()
    assert all(torch.equal(after[name], weights_before[name]) for name in weights_before)
    assert path.read_bytes() == before


def refuses_to_resume(path, words="damaged, or no safetensors file") -> None:
    model, untouched = small_vae(1), small_vae(1)
    before = path.read_bytes()
    with pytest.raises(WeightsError, match=words) as caught:
        train(model, PLAIN, checkpoint=path, resume=True)
    assert str(path) in str(caught.value)
    assert same_weights(model, untouched) and path.read_bytes() == before


def test_a_truncated_checkpoint(path):
    stopped(plain, PLAIN, path, 7)
    content = path.read_bytes()
    for size in [*(len(content) * eighths // 8 for eighths in range(8)), len(content) - 1]:
        path.write_bytes(content[:size])
        refuses_to_resume(path)


def test_random_bytes(path):
    noise = torch.Generator().manual_seed(0)
    path.write_bytes(bytes(torch.randint(0, 256, (5000,), generator=noise).tolist()))
    refuses_to_resume(path)


def test_nothing_is_unpickled(path):
    path = path.with_suffix(".pt")  # torch.load looks at the name
    planted = path.parent / "planted"
    torch.save({"done": 7, "model": SideEffect(planted)}, path)
    refuses_to_resume(path)
    assert not planted.exists()


def test_weights_are_no_checkpoint_and_a_checkpoint_is_no_weights(path):
    save_weights(plain(), path)
    refuses_to_resume(path, "expected a checkpoint of fit, got another file")
    path.unlink()
    stopped(plain, PLAIN, path, 3)
    model, untouched = small_vae(1), small_vae(1)
    with pytest.raises(WeightsError, match="expected weights, got a checkpoint of fit"):
        load_weights(model, path)
    assert same_weights(model, untouched)


def test_a_safetensors_file_of_somebody_else(path):
    save_file({"weight": torch.zeros(3)}, path)
    refuses_to_resume(path, "expected a checkpoint of fit, got another file")


def test_weights_that_are_nan_are_not_resumed(path):
    stopped(plain, PLAIN, path, 3)
    tensors, about = weights.read_tensors(path)
    tensors["model.decoder.0.bias"][1] = torch.nan
    save_file(tensors, path, about)
    refuses_to_resume(path, "decoder.0.bias has NaN or infinite values")


def test_a_checkpoint_is_never_of_a_run_that_diverged(path, monkeypatch):
    """On a GPU NaN is looked for every 100 steps; a save in between must look too."""
    monkeypatch.setattr(training, "FINITE_CHECK_EVERY_ON_CPU", 100)
    monkeypatch.setattr(training, "SAVE_EVERY", -1.0)

    def diverge(call, terms):
        return {"error": terms["error"] * (torch.nan if call == 6 else 1)}

    model = Eventful(diverge)
    model.n_pixels = 16
    with pytest.raises(TrainingDiverged, match="'error' became nan at step 6"):
        train(model, PLAIN, checkpoint=path)
    tensors, about = weights.read_tensors(path)
    assert about["done"] == "5" and all(
        torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point()
    )


def overflow_in(step: int):
    """A step size that no weight survives, in one step, counted from 1."""
    return {"lr": lambda done: 1e39 if done == step - 1 else 1e-3}


def test_a_checkpoint_never_holds_weights_that_an_update_spoilt(path, monkeypatch):
    """Terms and gradients of step 6 are finite; its update isn't, and the save comes after it."""
    monkeypatch.setattr(training, "SAVE_EVERY", -1.0)
    with pytest.raises(TrainingDiverged, match="weights .* aren't finite after step 6"):
        train(plain(), overflow_in(6), checkpoint=path)
    resumed, whole = plain(), plain()
    assert train(resumed, PLAIN, checkpoint=path, resume=True, steps=9).steps == 9
    train(whole, PLAIN, steps=9)
    assert same_weights(resumed, whole)


@pytest.mark.parametrize("step", [1, 2, 14, STEPS])
def test_a_run_that_dies_before_anything_trained_was_saved_leaves_no_file(path, step):
    """Else the next attempt would be refused, for the sake of untrained weights."""
    with pytest.raises(TrainingDiverged):
        train(plain(), overflow_in(step), checkpoint=path)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("done", [0, 7])
def test_a_resumed_run_that_dies_leaves_the_file_that_it_came_from(path, done, monkeypatch):
    if done:
        stopped(plain, PLAIN, path, done)
    else:
        in_step(model := plain(), 1, lambda: (press_ctrl_c(), press_ctrl_c()))
        with pytest.raises(KeyboardInterrupt):
            train(model, PLAIN, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(TrainingDiverged):
        train(plain(), overflow_in(done + 1), checkpoint=path, resume=True)
    assert path.read_bytes() == before


def test_the_fingerprint_of_the_images_is_short_enough_to_read(path):
    stopped(plain, EVERYTHING, path, 3)
    about = weights.read_tensors(path)[1]
    assert len(about["images"]) == len(about["val"]) == 16 and about["images"] != about["val"]


# A full disk


def test_a_full_disk_is_a_warning_and_training_goes_on(path, monkeypatch):
    """Writes really fail from step 6 on; the run and the checkpoint of step 5 both survive."""
    monkeypatch.setattr(training, "SAVE_EVERY", -1.0)
    whole, model = plain(), plain()
    history = train(whole, PLAIN)
    full = no_room_beyond(1000)
    in_step(model, 6, full.__enter__)
    try:
        with pytest.warns(UserWarning, match=f"could not write {path}.*training goes on") as heard:
            with_warnings = train(model, PLAIN, checkpoint=path)
    finally:
        full.__exit__(None, None, None)
    assert len(heard) == (STEPS - 5) + 1  # after each step, and at the end
    *during, last = [str(warning.message) for warning in heard]
    assert all(message.endswith("; training goes on") for message in during)
    assert last.endswith("; the file is that of step 5") and "goes on" not in last
    assert same_history(with_warnings, history) and same_weights(model, whole)
    assert os.listdir(path.parent) == [path.name]
    assert weights.read_tensors(path)[1]["done"] == "5"
    resumed = plain()
    train(resumed, PLAIN, checkpoint=path, resume=True)
    assert same_weights(resumed, whole)


def test_a_full_disk_for_a_resumed_run_leaves_the_file_that_it_came_from(path):
    stopped(plain, PLAIN, path, 7)
    with no_room_beyond(1000), pytest.warns(UserWarning, match="the file is that of step 7$"):
        train(plain(), PLAIN, checkpoint=path, resume=True)
    assert weights.read_tensors(path)[1]["done"] == "7"


def test_a_full_disk_at_the_start_is_an_error(path):
    model, untouched = small_vae(1), small_vae(1)
    with no_room_beyond(1000), pytest.raises(OSError, match="could not write") as caught:
        train(model, PLAIN, checkpoint=path)
    assert caught.value.errno == errno.EFBIG
    assert same_weights(model, untouched) and os.listdir(path.parent) == []


def test_ctrl_c_while_saving_leaves_a_whole_file(path, monkeypatch):
    """It is heard, and waits: the file is written to its end, and the run stops after it."""
    monkeypatch.setattr(training, "SAVE_EVERY", -1.0)
    replace, calls = os.replace, []

    def press_and_replace(*names):
        calls.append(names)
        if len(calls) == 5:
            press_ctrl_c()
        replace(*names)

    monkeypatch.setattr(os, "replace", press_and_replace)
    history = train(plain(), PLAIN, checkpoint=path)
    assert history.interrupted and history.steps == 4  # the first file was of step 0
    assert weights.read_tensors(path)[1]["done"] == "4"


def test_a_second_ctrl_c_leaves_the_checkpoint_before(path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", -1.0)
    model, whole, resumed = plain(), plain(), plain()
    in_step(model, 6, lambda: (press_ctrl_c(), press_ctrl_c()))
    with pytest.raises(KeyboardInterrupt):
        train(model, PLAIN, checkpoint=path)
    assert weights.read_tensors(path)[1]["done"] == "5"
    train(whole, PLAIN)
    train(resumed, PLAIN, checkpoint=path, resume=True)
    assert same_weights(resumed, whole)


def test_a_checkpoint_of_a_model_of_another_kind_works_too(path):
    """``fit`` asks nothing of a model but its terms."""

    def run(event, **changes):
        model = Eventful(event)
        model.n_pixels = 16
        return train(model, PLAIN, **changes), model

    def unchanged(call, terms):
        return terms

    history, whole = run(unchanged)
    run(interrupt_at(11), checkpoint=path)
    again, resumed = run(unchanged, checkpoint=path, resume=True)
    assert same_history(again, history) and same_weights(resumed, whole)


def test_a_checkpoint_holds_no_images(path):
    """It may be passed on without the data; a fingerprint of them is enough."""
    stopped(plain, PLAIN, path, 3)
    with safe_open(path, framework="pt") as file:
        assert {name.partition(".")[0] for name in file.keys()} == {
            "model", "optimiser", "train", "val_steps", "order", "random",
        }  # fmt: skip


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_checkpoint_of_the_gpu_goes_on_on_the_cpu(path):
    model = plain()
    in_step(model, 7, press_ctrl_c)
    train(model, EVERYTHING, checkpoint=path, device="cuda")
    resumed = plain()
    history = train(resumed, EVERYTHING, checkpoint=path, resume=True, device="cpu")
    assert history.steps == STEPS and not history.interrupted


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_resumed_run_on_the_gpu_draws_the_noise_of_the_whole(path):
    """Its sums may differ in the last bits, its random numbers may not."""
    whole, resumed = plain(), plain()
    history = train(whole, EVERYTHING, device="cuda")
    stopped(plain, EVERYTHING, path, 7, device="cuda")
    again = train(resumed, EVERYTHING, checkpoint=path, resume=True, device="cuda")
    for term, values in history.train.items():
        np.testing.assert_allclose(again.train[term], values, rtol=1e-3)


def test_other_validation_images_cannot_be_resumed(tmp_path):
    run = {"images": small_images(), "batch_size": 10, "checkpoint": tmp_path / "run.safetensors"}
    val = small_images(7, seed=2)
    fit(small_vae(), val=val, steps=5, **run)
    for other in (None, 255 - val):
        with pytest.raises(WeightsError, match="made with val"):
            fit(small_vae(), val=other, steps=9, resume=True, **run)


def test_a_mistyped_term_leaves_no_checkpoint_behind(tmp_path):
    path = tmp_path / "run.safetensors"
    with pytest.raises(ValueError, match="weights: expected terms of the loss"):
        fit(small_vae(), small_images(), steps=5, batch_size=9, checkpoint=path, weights={"kl": 2})
    assert not path.exists()
