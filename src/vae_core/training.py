"""Training: one loop for every model."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vae_core._checks import checked_seed, describe, positive_float, positive_int
from vae_core.batches import Batches
from vae_core.checkpoints import Checkpoint, Run
from vae_core.devices import (
    exact_float32,
    pick_device,
    pick_precision,
    tiny_numbers_are_zero,
)
from vae_core.history import History
from vae_core.images import check_images, draw_binary, is_binary, to_rows
from vae_core.likelihoods import BernoulliLikelihood
from vae_core.networks import evaluating, training
from vae_core.seeds import new_seed, own_random_numbers

__all__ = ["Trainable", "fit", "mean_terms"]

LOOK_EVERY, LOOK_EVERY_ON_CPU = 100, 1  # steps; on a GPU each look makes the CPU wait
VALIDATIONS = 20  # looks at the validation images: no fewer if the steps allow, and 39 at most

Schedule = Callable[[int], float]  # a number for each step, counted from 0


class Trainable(Protocol):
    """What ``fit`` needs of a model: an ``nn.Module`` with the loss of each image, by term."""

    n_pixels: int

    def loss_terms(self, x: Tensor) -> dict[str, Tensor]:
        """Terms of the loss, each ``[B]``, for pixel values ``x`` ``[B, n_pixels]``."""
        ...


def fit(
    model: Trainable,
    images: Tensor | np.ndarray,
    *,
    steps: int,
    val: Tensor | np.ndarray | None = None,
    batch_size: int = 128,
    lr: float | Schedule = 1e-3,
    weights: Mapping[str, float | Schedule] | None = None,
    redraw: bool = False,
    seed: int | None = None,
    device: str | torch.device | None = None,
    precision: str = "float32",
    checkpoint: str | Path | None = None,
    resume: bool = False,
) -> History:
    """Train ``model`` for ``steps`` optimisation steps with Adam, and return what was seen.

    The loss is the sum of the model's ``loss_terms``, each a mean over the batch times its number
    in ``weights`` (1 where it has none). A weight, like ``lr``, is a number or a function of the
    step, counted from 0. The history holds the terms **without** their weights, so it means the
    same for any weight. With ``redraw`` each batch is drawn anew as black-and-white images from
    their grey values.

    It all happens on ``device`` (None: ``pick_device()``), with matrix products in ``precision``
    ("float32" or "bfloat16"); the model comes back to where it was. Order (see ``Batches``), draws
    and the model's noise are given by ``seed``, whatever else draws random numbers. None means a
    new seed from PyTorch's random numbers: ``seed_everything`` decides it, and a second run isn't
    the first again. Ctrl-C stops after the step at hand and keeps what was reached.

    The run is saved to the file ``checkpoint`` once a minute, and when it ends or is stopped. With
    ``resume`` it goes on from there; on a CPU with the same number of threads the result is the
    uninterrupted run's, bit for bit. Functions can't be saved: pass the same schedules.

    Shapes: ``images`` and ``val`` as ``check_images`` takes them; uint8 needs the least memory.

    Raises: TypeError or ValueError for arguments that can't be right, before any step, and for a
    model whose terms aren't one number an image (a mean over the batch, say);
    NotImplementedError for a VAE whose KL has no closed form; ``TrainingDiverged`` when a term of
    the loss or its gradient is NaN or infinite (on a CPU before it reaches the weights, elsewhere
    within 100 steps), or a weight at the end; OSError or ``WeightsError``, as ``Checkpoint``.
    """
    steps, batch_size = positive_int(steps, "steps"), positive_int(batch_size, "batch_size")
    lr_at = _as_schedule(lr, "lr")
    if weights is not None and not isinstance(weights, Mapping):
        raise TypeError(f"weights: expected a mapping from terms to weights, got {weights!r}")
    weight_at = {term: _as_schedule(w, f"weights[{term!r}]") for term, w in (weights or {}).items()}
    images, val = _checked(model, images, val, redraw)
    seed = None if seed is None else checked_seed(seed)
    chosen, low_precision = pick_device(device), pick_precision(precision) is torch.bfloat16
    about = {"batch size": batch_size, "redraw": redraw, "precision": precision, "seed": seed}
    file = Checkpoint(checkpoint, resume, about | {"images": images, "val": val})
    seed = new_seed() if seed is None else seed

    home = next(model.parameters()).device
    model.to(chosen)
    try:
        run = Run(model, Batches(len(images), batch_size, seed), steps, chosen)
        with (
            own_random_numbers(_noise_seed(seed), chosen),
            training(model),
            exact_float32(),
            tiny_numbers_are_zero(),
            _ctrl_c_noted() as stop,
            _progress_bar(steps) as bar,
        ):
            if resume:
                run.load_state_dict(file.read(), file.path)
                bar.update(run.done)
            images, dtype = images.to(chosen), next(model.parameters()).dtype
            look_every = LOOK_EVERY_ON_CPU if chosen.type == "cpu" else LOOK_EVERY
            validate_every = max(1, steps // VALIDATIONS)
            first = run.done
            while run.done < steps and not stop.is_set():
                step = run.done
                batch = images[next(run.batches).to(chosen)]
                x = to_rows(draw_binary(batch) if redraw else batch, dtype)
                with torch.autocast(chosen.type, torch.bfloat16, enabled=low_precision):
                    terms = model.loss_terms(x)
                if step == first:
                    _check_terms(terms, len(x), weight_at)
                means = {term: values.mean() for term, values in terms.items()}  # the reduction
                loss = sum(
                    mean * weight_at[term](step) if term in weight_at else mean
                    for term, mean in means.items()
                )
                run.optimiser.zero_grad()
                loss.backward()
                run.note(means)
                if run.done % look_every == 0:
                    run.stop_if_not_finite()
                for group in run.optimiser.param_groups:
                    group["lr"] = lr_at(step)
                run.optimiser.step()
                bar.update()
                if val is not None and (run.done % validate_every == 0 or run.done == steps):
                    run.note_validation(mean_terms(model, val))
                if file.is_due():
                    file.write(run)
            history = run.finish()
            file.write(run)
    finally:
        model.to(home)
    print(f"fit: {history!r}")
    return history


def mean_terms(
    model: Trainable, images: Tensor | np.ndarray, *, batch_size: int = 1000
) -> dict[str, float]:
    """Every term of the loss as a mean over **all** images, the last short batch included.

    Sums are added up and divided once: a mean of batch means would give the images of a short
    last batch too much weight. A model that draws random numbers gets the same ones at each call,
    and nobody else's random numbers change.

    Shapes: ``images`` as ``check_images`` takes them, at least one.

    Raises: TypeError or ValueError for images that can't be right, and for a model whose terms
    aren't one number an image.
    """
    images = _checked_images(model, images, "images")
    sums: dict[str, float] = {}
    to = next(model.parameters())
    with evaluating(model), own_random_numbers(0, to.device):
        for chunk in images.split(positive_int(batch_size, "batch_size")):
            terms = model.loss_terms(to_rows(chunk.to(to.device), to.dtype))
            _check_terms(terms, len(chunk), {})
            for term, values in terms.items():
                sums[term] = sums.get(term, 0.0) + values.cpu().double().sum().item()
    return {term: total / len(images) for term, total in sums.items()}


def _checked(
    model: Trainable, images: object, val: object, redraw: bool
) -> tuple[Tensor, Tensor | None]:
    """Images that fit the model, and validation images that fit them: looked at once."""
    images = _checked_images(model, images, "images")
    if val is None:
        return images, None
    val = _checked_images(model, val, "val")
    if redraw and not is_binary(val):
        raise ValueError(
            "val: expected black-and-white images with redraw, got grey ones "
            "(data.binarised('redrawn') draws them once)"
        )
    bernoulli = isinstance(getattr(model, "likelihood", None), BernoulliLikelihood)
    if not redraw and bernoulli and is_binary(val) and not is_binary(images):
        raise ValueError(
            "redraw: expected True for grey training images and black-and-white val, got False "
            "(to train on the grey values, pass grey val)"
        )
    return images, val


def _checked_images(model: Trainable, images: object, name: str) -> Tensor:
    unit_interval = getattr(model, "unit_interval", True)
    images = check_images(images, n_pixels=model.n_pixels, name=name, unit_interval=unit_interval)
    if len(images) == 0:
        raise ValueError(f"{name}: expected at least 1 image, got 0")
    return images


def _check_terms(terms: object, n_images: int, weight_at: Mapping[str, Schedule]) -> None:
    """A mean over the batch in place of a number an image would be a wrong number, in silence."""
    if not isinstance(terms, Mapping) or not terms:
        raise TypeError(f"loss_terms: expected terms by name, got {describe(terms)}")
    for term, values in terms.items():
        if not isinstance(values, Tensor) or values.shape != (n_images,):
            raise ValueError(
                f"loss_terms: expected one number an image, shape [{n_images}], for {term!r}, "
                f"got {describe(values)}; fit takes the mean over the batch"
            )
    if unknown := weight_at.keys() - terms.keys():
        raise ValueError(
            f"weights: expected terms of the loss ({', '.join(terms)}), "
            f"got {', '.join(sorted(unknown))}"
        )


def _noise_seed(seed: int) -> int:
    """Another seed for noise than for the order of images: two streams, not one twice."""
    return int(np.random.SeedSequence((seed, 1)).generate_state(1)[0])


def _as_schedule(value: float | Schedule, name: str) -> Schedule:
    """The value at each step, checked: a finite number of at least 0."""

    def at(step: int) -> float:
        number = value(step) if callable(value) else value
        if isinstance(number, bool) or not isinstance(number, Real):
            raise TypeError(
                f"{name}: expected a number or a function of the step, got {describe(number)}"
            )
        if not math.isfinite(number) or number < 0:
            raise ValueError(
                f"{name}: expected finite numbers of at least 0, got {number} at step {step}"
            )
        return float(number)

    if not callable(value) and name == "lr":
        positive_float(value, name)
    at(0)
    return at


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


def _progress_bar(steps: int):
    """A bar where somebody watches; ``VAE_CORE_PROGRESS=0`` says that nobody does."""
    from tqdm import tqdm

    in_notebook = "ipykernel" in sys.modules
    watched = os.environ.get("VAE_CORE_PROGRESS", "1") != "0" and (
        in_notebook or sys.stderr.isatty()
    )
    return tqdm(total=steps, disable=not watched, leave=False, unit="step")
