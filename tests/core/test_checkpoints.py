"""Checkpoints: a run that was stopped and resumed is the run that never stopped, bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import vae_core
from damaged import Bomb, bomb, damaged_copies, full_disk
from small import OneNumber, same_history, same_weights, small_images, small_vae
from vae_core import (
    Batches,
    Checkpoint,
    GaussianLikelihood,
    History,
    TrainingDiverged,
    TrainingState,
    WeightsError,
    checkpoints,
    fit,
    load_weights,
    one_cycle,
    save_weights,
    seed_everything,
    training,
    warm_up,
)

STEPS, PER_EPOCH = 40, 3  # of 30 from 100 images, so that ten wait for the next epoch


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "run.pt"


@pytest.fixture
def after_each_step(monkeypatch) -> None:
    """The file is written after each step, not once a minute."""
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1.0)


def plain(seed: int = 0) -> nn.Module:
    """With a hook, like the models that ``in_step`` stops: then all of them train with autograd."""
    model = small_vae(seed=seed)
    model.encoder.register_forward_hook(lambda *_: None)
    return model


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


PLAIN = {}
EVERYTHING = {
    "val": small_images(9, seed=2),
    "lr": one_cycle(STEPS, 1e-2),
    "weights": {"KL": warm_up(20)},
    "redraw": True,
}


def train(model, settings: dict, **changes):
    arguments = {"images": small_images(binary=False), "steps": STEPS, "batch_size": 30}
    return fit(model, **(arguments | {"seed": 1, "device": "cpu"} | settings | changes))


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


def press_twice() -> None:
    press_ctrl_c(), press_ctrl_c()


def stopped(make, settings, path, step, **changes):
    """A model whose run was stopped by Ctrl-C in a step, and saved."""
    model = make()
    in_step(model, step, press_ctrl_c)
    history = train(model, settings, checkpoint=path, **changes)
    assert history.steps == step and history.interrupted == (step < STEPS)
    return model


def content(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def steps_in(path: Path) -> int:
    """Number of steps that the run in the file has done."""
    return len(content(path)["parts"]["history"]["train"])


@pytest.mark.parametrize(
    ("make", "settings"),
    [(plain, EVERYTHING), (with_buffers_and_dropout, EVERYTHING), (with_frozen_weights, PLAIN)],
    ids=["everything", "buffers and dropout", "frozen weights"],
)
def test_stopped_and_resumed_is_never_stopped(make, settings, path):
    """First step, end of an epoch, within one, at a validation, and in the last step of all."""
    whole = make()
    history = train(whole, settings)
    for step in [1, PER_EPOCH, 20, STEPS]:
        stopped(make, settings, path, step)
        resumed = make()
        for parameter in resumed.parameters():
            parameter.data.fill_(0.1)  # nothing of the new model's own weights may remain
        again = train(resumed, settings, checkpoint=path, resume=True)
        assert same_weights(resumed, whole), f"stopped after step {step}"
        assert same_history(again, history) and not again.interrupted
        assert os.listdir(path.parent) == [path.name]
        path.unlink()


def test_stopped_twice_and_resumed_twice_whatever_else_draws_numbers(path):
    """The same model goes on itself, as in a notebook; then a new one."""
    whole, last = with_buffers_and_dropout(), with_buffers_and_dropout()
    history = train(whole, EVERYTHING)
    model = stopped(with_buffers_and_dropout, EVERYTHING, path, 5)
    in_step(model, 11, press_ctrl_c)  # step 16 of the whole
    assert train(model, EVERYTHING, checkpoint=path, resume=True).steps == 16
    seed_everything(77)
    expected = torch.rand(3)
    seed_everything(77)
    assert same_history(train(last, EVERYTHING, checkpoint=path, resume=True), history)
    assert same_weights(last, whole) and torch.equal(torch.rand(3), expected)


def test_a_run_without_a_seed_is_resumed_with_the_seed_that_it_drew(path):
    """Whatever is drawn where it is resumed."""
    whole, resumed = plain(), plain()
    seed_everything(5)
    history = train(whole, EVERYTHING, seed=None)
    model = plain()
    in_step(model, 7, press_ctrl_c)
    seed_everything(5)
    train(model, EVERYTHING, seed=None, checkpoint=path)
    seed_everything(6)
    again = train(resumed, EVERYTHING, seed=None, checkpoint=path, resume=True)
    assert same_history(again, history) and same_weights(resumed, whole)


def test_checkpoints_change_nothing_in_the_run(path, after_each_step):
    with_file, without = plain(), plain()
    history = train(with_file, EVERYTHING, checkpoint=path)
    assert same_history(history, train(without, EVERYTHING)) and same_weights(with_file, without)


def test_a_finished_run_stays_as_it_is_and_can_go_on(path):
    model, again = plain(), plain()
    history = train(model, PLAIN, checkpoint=path)
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_images_and_models_of_any_type_can_be_resumed(path, dtype):
    images = (small_images() / 255).to(dtype)
    whole, resumed = plain().to(dtype), plain().to(dtype)
    train(whole, PLAIN, images=images)
    stopped(lambda: plain().to(dtype), PLAIN, path, 5, images=images)
    train(resumed, PLAIN, images=images, checkpoint=path, resume=True)
    assert same_weights(resumed, whole)


def test_the_same_images_may_come_as_an_array(path):
    whole, resumed = plain(), plain()
    train(whole, PLAIN)
    stopped(plain, PLAIN, path, 5)
    images = small_images(binary=False).numpy()
    train(resumed, PLAIN, images=images, checkpoint=path, resume=True)
    assert same_weights(resumed, whole)


def test_a_model_of_another_kind_works_too(path):
    """``fit`` asks nothing of a model but its terms."""
    whole, resumed = OneNumber(), OneNumber()
    history = train(whole, PLAIN)
    last = 11
    model = OneNumber(lambda call, terms: (press_ctrl_c() if call == last else None, terms)[1])
    assert train(model, PLAIN, checkpoint=path).steps == last
    again = train(resumed, PLAIN, checkpoint=path, resume=True)
    assert same_history(again, history) and same_weights(resumed, whole)


# In another process, after one that died


RESUME = """
import sys, numpy, torch
sys.path.insert(0, sys.argv[3])
from test_checkpoints import EVERYTHING, train, with_buffers_and_dropout
from vae_core import save_weights
torch.set_num_threads(1)
torch.manual_seed(99)
model = with_buffers_and_dropout()
history = train(model, EVERYTHING, checkpoint=sys.argv[1], resume=True)
save_weights(model, sys.argv[2] + ".safetensors")
val = {f"val {term}": values for term, values in history.val.items()}
numpy.savez(sys.argv[2] + ".npz", **history.train, **val)
"""


class Death(BaseException):
    """Nothing catches it: what the process does after it is no longer seen."""


def die() -> None:
    raise Death


@pytest.mark.slow
def test_a_new_process_goes_on_where_a_dead_one_was(path, after_each_step, monkeypatch):
    """It died in step 14, and while it wrote what step 13 gave: half of that file is left."""
    model, write = with_buffers_and_dropout(), Path.write_bytes
    in_step(model, 13, lambda: monkeypatch.setattr(Path, "write_bytes", write_half_and_die))
    monkeypatch.setattr(Path, "unlink", lambda self: None)  # the dead tidy up nothing

    def write_half_and_die(self, content):
        write(self, content[: len(content) // 2])
        die()

    with pytest.raises(Death):
        train(model, EVERYTHING, checkpoint=path)
    monkeypatch.undo()
    assert len(os.listdir(path.parent)) == 2 and steps_in(path) == 12

    here, source = Path(__file__).parent, Path(vae_core.__file__).resolve().parents[1]
    report = path.with_name("report")
    places = os.pathsep.join(map(str, (source, here.parent)))
    done = subprocess.run(
        [sys.executable, "-c", RESUME, path, report, here],
        env=os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    whole, resumed = with_buffers_and_dropout(), with_buffers_and_dropout()
    history = train(whole, EVERYTHING)
    load_weights(resumed, report.with_suffix(".safetensors"))
    assert same_weights(resumed, whole)
    with np.load(report.with_suffix(".npz")) as reported:
        for term in ("reconstruction", "KL"):
            assert np.array_equal(reported[term], history.train[term])
            assert np.array_equal(reported[f"val {term}"], history.val[term])


def test_it_is_saved_once_a_minute_and_at_the_end(path, monkeypatch):
    clock = iter(range(0, 10**6, 25))  # seconds: 25 between any two looks
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    saved, save = [], Checkpoint.save
    monkeypatch.setattr(
        Checkpoint, "save", lambda file: saved.append(file.state.history.steps) or save(file)
    )
    train(plain(), PLAIN, steps=10, checkpoint=path)
    # The third look is 75 s after the last save, and then the clock is read once more.
    assert saved == [3, 6, 9, 10]
    assert steps_in(path) == 10


# What can't be resumed


def test_a_file_that_is_there_is_not_overwritten(path):
    stopped(plain, PLAIN, path, 3)
    before = path.read_bytes()
    model = plain(1)
    with pytest.raises(FileExistsError, match=f"checkpoint: {path} exists; resume=True"):
        train(model, PLAIN, checkpoint=path)
    assert path.read_bytes() == before and same_weights(model, plain(1))


@pytest.mark.parametrize(
    ("name", "resume", "error", "words"),
    [
        ("run.pt", True, FileNotFoundError, "run.pt is not there, and resume is True"),
        ("gone/run.pt", False, FileNotFoundError, "the folder .*gone is not there"),
        (None, True, ValueError, "expected the file to resume from, got None"),
    ],
)
def test_what_is_not_there_is_an_error_before_any_step(tmp_path, name, resume, error, words):
    model = plain(1)
    in_step(model, 1, lambda: pytest.fail("a step was taken"))
    with pytest.raises(error, match=f"^checkpoint: .*{words}"):
        train(model, PLAIN, checkpoint=name and tmp_path / name, resume=resume)
    assert same_weights(model, plain(1)) and os.listdir(tmp_path) == []


def refuses_to_resume(path, words, error=WeightsError, model=None, **changes) -> None:
    model = plain(1) if model is None else model
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    before = path.read_bytes()
    with pytest.raises(error, match=words) as caught:
        train(model, PLAIN, checkpoint=path, resume=True, **changes)
    assert error is not WeightsError or str(caught.value).startswith(f"{path}: ")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in weights.items())
    assert path.read_bytes() == before


def one_pixel_changed(images):
    images[3, 2, 1] ^= 255
    return images


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 20}, "made with batch size 30, this run has batch size 20$"),
        ({"seed": 2}, "made with seed 1, this run has seed 2$"),
        ({"seed": None}, "made with seed 1, this run has seed None$"),
        ({"redraw": True, "val": small_images(9)}, "redraw False, this run has redraw True$"),
        ({"precision": "bfloat16"}, "made with precision float32, .* has precision bfloat16$"),
        ({"images": small_images(99, binary=False)}, "made with images .*, this run has images"),
        (
            {"images": one_pixel_changed(small_images(binary=False))},
            "made with images .*, this run has images",
        ),
        ({"val": None}, "made with val .*, this run has val None$"),
        ({"val": 255 - small_images(9, binary=False, seed=2)}, "made with val .*, .* has val"),
        ({"model": small_vae(3)}, "weights of another model: .*decoder"),
        ({"model": small_vae(hidden=(8, 8))}, "decoder.4.bias is missing"),
        ({"model": small_vae(likelihood=GaussianLikelihood(0.5))}, "fixed_sigma is missing"),
        ({"model": OneNumber()}, "weights of another model: .*w is missing"),
    ],
)
def test_a_run_that_is_not_the_same_cannot_be_resumed(path, change, words):
    grey_val = {"val": small_images(9, binary=False, seed=2)}
    stopped(plain, PLAIN, path, 7, **grey_val)
    refuses_to_resume(path, words, **(grey_val | change))


def test_a_condition_belongs_to_the_run(path):
    """Resumed with the same it goes on; with another, or with none, it is refused."""

    def with_labels(labels) -> dict:
        loss = lambda model, x, condition=None: model.loss_terms(x)  # noqa: E731
        return {"condition": labels, "loss": loss}

    labels = torch.arange(100)
    whole, resumed = plain(), plain()
    train(whole, PLAIN, **with_labels(labels))
    stopped(plain, PLAIN, path, 7, **with_labels(labels))
    words = "made with condition of images [0-9a-f]{16}, this run has condition of images "
    refuses_to_resume(path, f"{words}[0-9a-f]{{16}}$", **with_labels(labels.flip(0)))
    refuses_to_resume(path, f"{words}None$", **with_labels(None))
    train(resumed, PLAIN, checkpoint=path, resume=True, **with_labels(labels))
    assert same_weights(resumed, whole)


def test_the_loss_of_a_resumed_run_is_looked_at_too(path):
    """It is passed again, so it may be another: a mean over the batch, say."""

    def mean_loss(model, x):
        return {term: values.mean() for term, values in model.loss_terms(x).items()}

    stopped(plain, PLAIN, path, 7)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="^loss: expected one number an image"):
        train(plain(), PLAIN, checkpoint=path, resume=True, loss=mean_loss)
    assert path.read_bytes() == before


def test_fewer_steps_than_were_done_are_an_error(path):
    stopped(plain, PLAIN, path, 7)
    refuses_to_resume(path, "steps: expected at least the 7 done, got 6", ValueError, steps=6)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_damaged_checkpoint_or_another_file_is_refused(path):
    stopped(plain, PLAIN, path, 7)
    copies = dict(damaged_copies(path))
    save_weights(plain(), path)
    for each in (*copies.values(), path.read_bytes()):
        path.write_bytes(each)
        refuses_to_resume(path, "damaged, or no checkpoint$")
    others = [{"about": 3}, {"about": {}}, {"about": {}, "parts": 3}, {"parts": {}}]
    for other in (torch.zeros(3), plain().state_dict(), *others):
        torch.save(other, path)
        refuses_to_resume(path, "expected a checkpoint, got another file$")


def test_a_checkpoint_is_no_file_of_weights(path):
    stopped(plain, PLAIN, path, 3)
    model = plain(1)
    with pytest.raises(WeightsError, match="damaged, or no safetensors file"):
        load_weights(model, path)
    assert same_weights(model, plain(1))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_is_unpickled(path):
    """A file from somewhere else can't run code, be it a pickle or one of PyTorch's files."""
    planted = path.with_name("planted")
    torch.save({"about": Bomb(planted)}, path)
    torch.load(path, weights_only=False)
    planted.unlink()  # the trap works
    refuses_to_resume(path, "damaged, or no checkpoint$")
    path.write_bytes(bomb(planted))
    refuses_to_resume(path, "damaged, or no checkpoint$")
    assert not planted.exists()


def test_weights_that_are_nan_are_not_resumed(path):
    stopped(plain, PLAIN, path, 3)
    state = content(path)
    state["parts"]["model"]["decoder.0.bias"][1] = torch.nan
    torch.save(state, path)
    refuses_to_resume(path, "decoder.0.bias has NaN or infinite values")


def test_a_checkpoint_holds_no_images(path):
    """It may be passed on without the data; a fingerprint of them is enough."""
    images = small_images(5000, binary=False)
    fit(plain(), images, val=images[:9], steps=2, batch_size=30, checkpoint=path)
    assert path.stat().st_size < images.numel() / 2
    about = content(path)["about"]
    assert len(about["images"]) == len(about["val"]) == 16 and about["images"] != about["val"]


# A loop of one's own


def own_loop(steps: int, path: Path | None = None, *, resume=False, about=None, more=()) -> tuple:
    """Another optimiser, noise, and a file at the end; ``more`` parts than there must be."""
    seed_everything(5 if resume else 0)  # where it is resumed, the noise is that of the file
    model, images = small_vae(), small_images().flatten(1) / 255
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    batches, history = Batches(100, 30, seed=int(resume)), History()
    parts = {"model": model, "optimiser": optimiser, "batches": batches, "history": history}
    state = TrainingState(parts | dict(more))
    file = Checkpoint(path, state, resume=resume, about=about)
    if resume:
        for parameter in model.parameters():
            parameter.data.fill_(0.1)
        file.load(steps=steps)
    while history.steps < steps:
        means = {term: v.mean() for term, v in model.loss_terms(images[next(batches)]).items()}
        optimiser.zero_grad()
        sum(means.values()).backward()
        history.note(means)
        optimiser.step()
        assert not file.is_due()  # in less than a minute
    history.note_validation({"KL": float(steps)})
    file.save()
    return model, history


@pytest.mark.parametrize("done", [1, 3, 10])
def test_a_loop_of_ones_own_goes_on_from_its_file(path, done):
    own_loop(done, path, about={"rate": 1e-2})
    whole, expected = own_loop(20)
    resumed, history = own_loop(20, path, resume=True, about={"rate": 1e-2})
    assert same_weights(resumed, whole) and history.val_steps == [done, 20]
    for term, values in expected.train.items():
        assert np.array_equal(history.train[term], values)
    assert steps_in(path) == 20


def test_a_loop_of_ones_own_is_refused_the_file_of_another(path):
    own_loop(3, path, about={"rate": 1e-2})
    refused = {"resume": True, "about": {"rate": 1e-2}}
    with pytest.raises(WeightsError, match="made with rate 0.01, this run has rate 0.1$"):
        own_loop(20, path, **refused | {"about": {"rate": 0.1}})
    with pytest.raises(WeightsError, match="made with rate 0.01, this run has rate None$"):
        own_loop(20, path, **refused | {"about": None})
    with pytest.raises(WeightsError, match="made with depth None, this run has depth 3$"):
        own_loop(20, path, **refused | {"about": {"rate": 1e-2, "depth": 3}})
    names = "model, optimiser, batches, history"
    words = f"^{path}: a checkpoint of {names}, this run has {names}, average$"
    with pytest.raises(WeightsError, match=words):
        own_loop(20, path, **refused, more={"average": OneNumber()})
    with pytest.raises(ValueError, match="steps: expected at least the 3 done, got 2$"):
        own_loop(2, path, **refused)
    assert steps_in(path) == 3


def test_every_model_among_the_parts_is_checked_before_anything_changes(path):
    first, second = OneNumber(), OneNumber()
    parts = {"first": first, "second": second, "history": History()}
    Checkpoint(path, TrainingState(parts)).save()
    state = content(path)
    state["parts"]["first"]["w"].fill_(3.0)
    state["parts"]["second"]["w"].fill_(torch.nan)
    torch.save(state, path)
    with pytest.raises(WeightsError, match="w has NaN or infinite values$"):
        Checkpoint(path, TrainingState(parts), resume=True).load()
    assert first.w.item() == second.w.item() == 0
    state["parts"]["second"]["w"].fill_(4.0)
    torch.save(state, path)
    Checkpoint(path, TrainingState(parts), resume=True).load()
    assert (first.w.item(), second.w.item()) == (3, 4)


def test_without_a_path_there_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1.0)
    file = Checkpoint(None, TrainingState({"history": History()}))
    file.save()
    assert not file.is_due() and os.listdir(tmp_path) == []


# A run that diverges


def overflow_in(step: int):
    """A step size that no weight survives, in one step, counted from 1."""
    return {"lr": lambda done: 1e39 if done == step - 1 else 1e-3}


def test_a_checkpoint_is_never_of_a_run_that_diverged(path, after_each_step):
    """NaN is looked for every 100 steps; a save in between must look too."""
    model = OneNumber(
        lambda call, terms: {"error": terms["error"] * (torch.nan if call == 6 else 1)}
    )
    with pytest.raises(TrainingDiverged, match="'error' became nan at step 6;"):
        train(model, PLAIN, checkpoint=path)
    assert steps_in(path) == 5 and torch.isfinite(content(path)["parts"]["model"]["w"])


def test_a_checkpoint_never_holds_weights_that_an_update_spoilt(path, after_each_step):
    """Terms and gradients of step 6 are finite; its update isn't, and the save comes after it."""
    with pytest.raises(TrainingDiverged, match="weights .* infinite in the update of step 6, "):
        train(plain(), overflow_in(6), checkpoint=path)
    assert steps_in(path) == 5
    resumed, whole = plain(), plain()
    assert train(resumed, PLAIN, checkpoint=path, resume=True, steps=9).steps == 9
    train(whole, PLAIN, steps=9)
    assert same_weights(resumed, whole)


@pytest.mark.parametrize("step", [1, 14, STEPS])
def test_a_run_that_dies_before_it_was_saved_leaves_no_file(path, step):
    """Else the next attempt would be refused, for the sake of nothing."""
    with pytest.raises(TrainingDiverged):
        train(plain(), overflow_in(step), checkpoint=path)
    assert os.listdir(path.parent) == []


def test_a_resumed_run_that_dies_leaves_the_file_that_it_came_from(path):
    stopped(plain, PLAIN, path, 7)
    before = path.read_bytes()
    with pytest.raises(TrainingDiverged):
        train(plain(), overflow_in(8), checkpoint=path, resume=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("step", [8, 10])
def test_a_resumed_run_that_diverges_is_left_with_the_weights_before(path, step):
    """It goes back to where it was resumed, not to the first step, and its noise with it."""
    stopped(plain, PLAIN, path, 7)
    model, healthy = plain(1), plain()
    words = f"infinite in the update of step {step}, "
    with pytest.raises(TrainingDiverged, match=words):
        train(model, overflow_in(step), checkpoint=path, resume=True)
    train(healthy, PLAIN, steps=step - 1)
    assert same_weights(model, healthy)


# A full disk, and Ctrl-C at a bad moment


def test_a_full_disk_is_a_warning_and_training_goes_on(path, monkeypatch, after_each_step):
    """Writes fail from step 6 on; the run and the checkpoint of step 5 both survive."""
    whole, model = plain(), plain()
    history = train(whole, PLAIN)
    full = full_disk(monkeypatch)
    in_step(model, 6, full.__enter__)
    try:
        with pytest.warns(UserWarning, match=f"checkpoint: .*write {path}: No space") as heard:
            with_warnings = train(model, PLAIN, checkpoint=path)
    finally:
        full.__exit__(None, None, None)
    assert len(heard) == (STEPS - 5) + 1  # after each step, and at the end
    assert same_history(with_warnings, history) and same_weights(model, whole)
    assert os.listdir(path.parent) == [path.name] and steps_in(path) == 5
    resumed = plain()
    train(resumed, PLAIN, checkpoint=path, resume=True)
    assert same_weights(resumed, whole)


@pytest.mark.parametrize("resume", [False, True])
def test_a_disk_that_was_full_from_the_start_is_a_warning_too(path, monkeypatch, resume):
    if resume:
        stopped(plain, PLAIN, path, 7)
    before = path.read_bytes() if resume else None
    whole, model = plain(), plain()
    train(whole, PLAIN)
    with full_disk(monkeypatch), pytest.warns(UserWarning, match=f"could not write {path}"):
        train(model, PLAIN, checkpoint=path, resume=resume)
    assert same_weights(model, whole)
    assert [file.read_bytes() for file in path.parent.iterdir()] == [before] * resume


def test_ctrl_c_while_saving_leaves_a_whole_file(path, monkeypatch, after_each_step):
    """It is heard, and waits: the file is written to its end, and the run stops after it."""
    replace, calls = os.replace, []

    def press_and_replace(*names):
        calls.append(names)
        if len(calls) == 4:
            press_ctrl_c()
        replace(*names)

    monkeypatch.setattr(os, "replace", press_and_replace)
    history = train(plain(), PLAIN, checkpoint=path)
    assert history.interrupted and history.steps == 4 and steps_in(path) == 4


def test_a_second_ctrl_c_leaves_the_checkpoint_before(path, after_each_step):
    model, whole, resumed = plain(), plain(), plain()
    in_step(model, 6, press_twice)
    with pytest.raises(KeyboardInterrupt):
        train(model, PLAIN, checkpoint=path)
    assert steps_in(path) == 5
    train(whole, PLAIN)
    train(resumed, PLAIN, checkpoint=path, resume=True)
    assert same_weights(resumed, whole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_checkpoint_of_the_gpu_goes_on_there_and_on_the_cpu(path, device):
    """On the GPU with the noise of the whole run; its sums may differ in the last bits."""
    whole, resumed = plain(), plain()
    history = train(whole, EVERYTHING, device="cuda")
    stopped(plain, EVERYTHING, path, 7, device="cuda")
    again = train(resumed, EVERYTHING, checkpoint=path, resume=True, device=device)
    assert again.steps == STEPS and not again.interrupted
    same = STEPS if device == "cuda" else 7
    for term, values in history.train.items():
        np.testing.assert_allclose(again.train[term][:same], values[:same], rtol=1e-3)


def test_a_mask_of_minus_infinity_is_no_damage(path):
    """Every causal transformer has one."""

    class Masked(OneNumber):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

    fit(Masked(), small_images(), steps=2, batch_size=10, seed=0, checkpoint=path)
    resumed, whole = Masked(), Masked()
    fit(resumed, small_images(), steps=5, batch_size=10, seed=0, checkpoint=path, resume=True)
    fit(whole, small_images(), steps=5, batch_size=10, seed=0)
    assert same_weights(resumed, whole)
    save_weights(whole, path.with_suffix(".safetensors"))
    load_weights(Masked(), path.with_suffix(".safetensors"))


def test_batches_of_other_sizes_are_not_put_back():
    state = Batches(100, 10, seed=0).state_dict()
    for batches, name in (
        (Batches(60, 10, seed=0), "n_images"),
        (Batches(100, 20, seed=0), "batch_size"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: the state is of"):
            batches.load_state_dict(state)
