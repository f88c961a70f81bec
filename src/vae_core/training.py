"""Training: one loop for every model."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vae_core._checks import checked_seed, describe, positive_int
from vae_core._data import Data
from vae_core.batches import Batches
from vae_core.checkpoints import Checkpoint, TrainingState
from vae_core.devices import (
    float32_products,
    own_stream,
    pick_device,
    pick_precision,
    tiny_numbers_are_zero,
)
from vae_core.divergence import Guard
from vae_core.history import History
from vae_core.images import is_binary
from vae_core.likelihoods import BernoulliLikelihood
from vae_core.networks import evaluating, training
from vae_core.processes import Processes
from vae_core.seeds import new_seed
from vae_core.steps import Loss, Recorded, Schedule, Schedules, Step, check_terms, own_loss

__all__ = ["Trainable", "fit", "mean_terms"]

LOOK_EVERY = 100  # steps; each look for NaN waits for the device
BEFORE_RECORDING = 3  # steps, in which libraries set up what can't be recorded
VALIDATIONS = 20  # looks at the validation images: no fewer if the steps allow, and 39 at most

Array = Tensor | np.ndarray
Optimiser = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]


class Trainable(Protocol):
    """What ``fit`` needs of a model: an ``nn.Module`` with the loss of each image, by term.

    A model of images says how many pixels they have, ``n_pixels``. One without is a model of
    whatever rows it is given: codes, say.
    """

    def loss_terms(self, x: Tensor) -> Mapping[str, Tensor]:
        """Terms of the loss, each ``[B]``, for a batch as ``fit`` describes it."""
        ...


def fit(
    model: Trainable,
    images: Array,
    condition: Array | None = None,
    *,
    steps: int,
    loss: Loss | None = None,
    val: Array | tuple[Array, Array] | None = None,
    batch_size: int = 128,
    lr: float | Schedule = 1e-3,
    weights: Mapping[str, float | Schedule] | None = None,
    redraw: bool = False,
    seed: int | None = None,
    optimiser: Optimiser | None = None,
    device: str | torch.device | None = None,
    precision: str = "float32",
    checkpoint: str | Path | None = None,
    resume: bool = False,
) -> History:
    """Train ``model`` for ``steps`` optimisation steps with Adam, and return what was seen.

    The loss is a sum of terms, each a mean over the batch times its number in ``weights`` (1 where
    it has none). The terms are those of ``loss(model, x)``, or ``loss(model, x, condition)`` where
    there is a condition; None means the model's own ``loss_terms``. A weight, like ``lr``, is a
    number or a function of the step, counted from 0. The history holds the terms **without** their
    weights, so it means the same for any weight.

    A model with ``n_pixels`` gets images as rows of pixel values; with ``redraw`` each batch is
    drawn anew as black-and-white images from their grey values. Another model gets rows as they
    are: whole numbers (the codes of a VQ model, say) as int64, never divided by 255, others in the
    type of its weights. The same is true of conditions.

    It all happens on ``device`` (None: ``pick_device()``), with matrix products in ``precision``
    ("float32", "bfloat16", or on a GPU "tf32"); the model comes back to where it was. Order (see
    ``Batches``), draws and the model's noise are given by ``seed``, whatever else draws random
    numbers. None means a new seed from PyTorch's random numbers: ``seed_everything`` decides it,
    and a second run isn't the first again. Ctrl-C stops after the step at hand and keeps what was
    reached.

    ``optimiser`` makes another optimiser than Adam from the model's parameters; ``lr`` is still the
    rate of all of them: ``lambda weights: torch.optim.AdamW(weights, betas=(0.9, 0.99))``.

    In a group of processes (see ``torch.distributed``), each takes a part of every batch, and the
    result is that of one process, up to rounding. On a GPU, the steps of a model made of PyTorch's
    and this package's modules are recorded once, and replayed as a CUDA graph (unless there is a
    ``loss``, a ``condition``, or an ``optimiser`` that isn't ``capturable``).

    The run is saved to the file ``checkpoint`` once a minute, and when it ends or is stopped. With
    ``resume`` it goes on from there; on a CPU with the same number of threads the result is the
    uninterrupted run's, bit for bit. Functions can't be saved: pass the same ones.

    Shapes: ``images`` as ``check_images`` takes them (uint8 needs the least memory), or rows
    ``[N, …]``; ``condition`` ``[N, …]``; ``val`` the same for validation, a pair with a condition.

    Raises: TypeError or ValueError for arguments that can't be right, before any step, and for a
    loss whose terms aren't one number an image (a mean over the batch, say), on the first batch;
    ``TrainingDiverged`` within 100 steps after a term of the loss, its gradient or a weight became
    NaN or infinite, with the model as it was before; OSError or ``WeightsError`` as ``Checkpoint``
    does.
    """
    steps, batch_size = positive_int(steps, "steps"), positive_int(batch_size, "batch_size")
    schedules = Schedules(lr, weights, steps)
    data = Data(model, images, condition, "images", redraw)
    val_data = None if val is None else _validation(model, val, data)
    if loss is None:  # with another one the condition is that one's own matter
        for each in (data, val_data):
            if each is not None:
                each.check_condition(model)
    on = pick_device(device)
    products = pick_precision(precision, on)
    processes = Processes()
    processes.check(model, batch_size)
    seed = None if seed is None else checked_seed(seed)
    about = {"batch size": batch_size, "redraw": redraw, "precision": precision, "seed": seed}
    about |= data.about | ({"val": None} if val_data is None else val_data.about)
    seed = processes.agree_on(new_seed() if seed is None else seed)

    home = next(model.parameters()).device
    model.to(on)
    try:
        processes.start_alike(model)
        adam = _adam(model, on) if optimiser is None else _checked(optimiser(model.parameters()))
        batches, history = Batches(len(data), batch_size, seed, on), History()
        parts = {"model": model, "optimiser": adam, "batches": batches, "history": history}
        state = TrainingState(parts | processes.parts, on)
        about["optimiser"] = type(adam).__name__
        file = Checkpoint(checkpoint, state, resume=resume, about=about, writes=processes.first)
        with (
            own_stream(on),
            processes.random_numbers(_noise_seed(seed), on),
            training(model),
            float32_products(tf32=precision == "tf32"),
            tiny_numbers_are_zero(),
            _ctrl_c_noted() as stop,
            _progress_bar(steps, processes.first) as bar,
        ):
            if resume:
                file.load(steps=steps)
                processes.part_ways(seed + history.steps)
            data.to(on)
            schedules.to(on, torch.promote_types(data.like.dtype, torch.float32))
            step = Step(model, data, loss, adam, schedules, batch_size, products, processes)
            recorded, record_at = None, history.steps + BEFORE_RECORDING
            validate_every = max(1, steps // VALIDATIONS)
            guard = Guard(state)
            while history.steps < steps:
                stopped = processes.any(
                    stop.is_set(), now=history.steps % LOOK_EVERY == 0, device=on
                )
                if stopped and not guard.repeating and not guard.look():
                    break
                schedules.at(history.steps)
                numbers = next(batches)
                if guard.repeating:
                    recorded = None  # its steps are to be looked at one by one
                elif history.steps == record_at and step.can_be_recorded():
                    recorded = Recorded(step, numbers)
                if recorded:
                    history.note(recorded(numbers))
                else:
                    try:
                        means = step.backward(numbers)
                    except Exception:
                        if guard.look():
                            continue  # it was NaN that the loss complained of
                        raise
                    history.note(means)
                    guard.check()
                    step.update()
                done, save = history.steps, file.is_due()
                bar.update(done - bar.n)
                validate = val_data and (done % validate_every == 0 or done == steps)
                pause = validate or save or done % LOOK_EVERY == 0 or done == steps
                if (pause or guard.repeating) and guard.look():
                    continue  # something was NaN: it went back, and repeats the steps
                if validate:
                    history.note_validation(_mean_terms(model, val_data, loss, processes))
                if save:
                    file.save()
            history.interrupted = history.steps < steps
            file.save()
    finally:
        model.to(home)
    if processes.first:
        print(f"fit: {history!r}")
    return history


def mean_terms(
    model: Trainable,
    images: Array,
    condition: Array | None = None,
    *,
    loss: Loss | None = None,
    batch_size: int = 1000,
) -> dict[str, float]:
    """Every term of the loss as a mean over **all** images, the last short batch included.

    Sums are added up and divided once: a mean of batch means would give the images of a short
    last batch too much weight. A model that draws random numbers gets the same ones at each call,
    and nobody else's random numbers change.

    Shapes: ``images`` and ``condition`` as in ``fit``, at least one image.

    Raises: TypeError or ValueError for images that can't be right, and for a loss whose terms
    aren't one number an image.
    """
    data = Data(model, images, condition, "images")
    if loss is None:
        data.check_condition(model)
    batch_size = positive_int(batch_size, "batch_size")
    return _mean_terms(model, data, loss, Processes(), batch_size)


def _mean_terms(
    model: Trainable, data: Data, loss: Loss | None, processes: Processes, batch_size: int = 1000
) -> dict[str, float]:
    sums: dict[str, Tensor] = {}
    data.to(next(model.parameters()).device)
    loss = own_loss if loss is None else loss
    with evaluating(model), processes.random_numbers(0, data.rows.device):
        for numbers in data.numbers.split(batch_size):
            with processes.sharing(len(numbers)) as rows:
                terms = loss(model, *data[numbers[rows]])
            check_terms(terms, len(numbers[rows]), {})
            for term, values in terms.items():
                total = values.cpu().double().sum() / processes.copies(len(numbers))
                sums[term] = sums.get(term, 0.0) + total
    totals = processes.total(torch.stack(list(sums.values())), data.rows.device)
    return {term: total / len(data) for term, total in zip(sums, totals.tolist(), strict=True)}


def _validation(model: Trainable, given: object, data: Data) -> Data:
    """Validation data that fit the training data: with a condition where these have one."""
    if data.condition is None:
        val = Data(model, given, None, "val")
    elif isinstance(given, tuple) and len(given) == 2:
        val = Data(model, *given, "val")
    else:
        raise TypeError(f"val: expected a pair, images and condition, got {describe(given)}")
    if data.redraw and not is_binary(val.rows):
        raise ValueError(
            "val: expected black-and-white images with redraw, got grey ones "
            "(data.binarised('redrawn') draws them once)"
        )
    bernoulli = isinstance(getattr(model, "likelihood", None), BernoulliLikelihood)
    if not data.redraw and bernoulli and is_binary(val.rows) and not is_binary(data.rows):
        raise ValueError(
            "redraw: expected True for grey training images and black-and-white val, got False "
            "(to train on the grey values, pass grey val)"
        )
    return val


def _noise_seed(seed: int) -> int:
    """Another seed for noise than for the order of images: two streams, not one twice."""
    return int(np.random.SeedSequence((seed, 1)).generate_state(1)[0])


def _adam(model: Trainable, on: torch.device) -> torch.optim.Optimizer:
    gpu = on.type == "cuda"
    return torch.optim.Adam(model.parameters(), fused=on.type != "mps", capturable=gpu)


def _checked(optimiser: object) -> torch.optim.Optimizer:
    if not isinstance(optimiser, torch.optim.Optimizer):
        raise TypeError(
            "optimiser: expected a function from parameters to a torch.optim.Optimizer, "
            f"it gave {describe(optimiser)}"
        )
    return optimiser


@contextmanager
def _ctrl_c_noted() -> Iterator[threading.Event]:
    """Ctrl-C sets an event, so that no step is left half done; a second one interrupts at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed  # only the main thread hears of Ctrl-C
        return

    def note(signum: int, frame: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _progress_bar(steps: int, shown: bool):
    """A bar where somebody watches; ``VAE_CORE_PROGRESS=0`` says that nobody does."""
    from tqdm import tqdm

    in_notebook = "ipykernel" in sys.modules
    watched = os.environ.get("VAE_CORE_PROGRESS", "1") != "0" and (
        in_notebook or sys.stderr.isatty()
    )
    return tqdm(total=steps, disable=not (shown and watched), leave=False, unit="step")
