"""Training: one loop for every model of the book."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from vae_core._checks import checked_seed, describe, positive_float, positive_int
from vae_core.devices import pick_device, pick_precision
from vae_core.likelihoods import BernoulliLikelihood
from vae_core.models import evaluating
from vae_core.pixels import as_pixels, check_pixels, draw_binary, is_binary, to_unit_interval
from vae_core.weights import WeightsError, fill, read_tensors, write_tensors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "History",
    "Trainable",
    "TrainingDiverged",
    "default_seed",
    "fit",
    "mean_terms",
    "seed_everything",
]

FINITE_CHECK_EVERY = 100  # steps; on a GPU each look makes the CPU wait
FINITE_CHECK_EVERY_ON_CPU = 1
VALIDATIONS = 20  # looks at the validation images: no fewer if the steps allow, and 39 at most
SAVE_EVERY = 60.0  # seconds between two checkpoints

Schedule = Callable[[int], float]  # a number for each step, counted from 0


class Trainable(Protocol):
    """What ``fit`` needs of a model: an ``nn.Module`` with the loss of each image, by term."""

    n_pixels: int

    def loss_terms(self, x: Tensor) -> dict[str, Tensor]:
        """Terms of the loss, each ``[B]``, for pixel values ``x`` ``[B, n_pixels]``."""
        ...


class TrainingDiverged(RuntimeError):
    """A term, a gradient or a weight became NaN or infinite; the message says which, and when."""


def default_seed() -> int:
    """The seed that a run starts from: ``$VAE_CORE_SEED``, or 0.

    Raises: ValueError when the variable holds no integer of at least 0 and below 2**63.
    """
    value = os.environ.get("VAE_CORE_SEED", "0")
    if not value.isdecimal():
        raise ValueError(f"VAE_CORE_SEED: expected an integer of at least 0, got {value!r}")
    if int(value) >= 2**63:
        raise ValueError(f"VAE_CORE_SEED: expected an integer below 2**63, got {value!r}")
    return int(value)


def seed_everything(seed: int | None = None) -> int:
    """Seed Python's, NumPy's and PyTorch's random numbers (every device), and return the seed.

    Without an argument the seed is ``default_seed()``.

    Raises: TypeError or ValueError for what isn't an integer of at least 0 and below 2**63.
    """
    seed = default_seed() if seed is None else checked_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # the largest that NumPy takes here
    torch.manual_seed(seed)
    return seed


@dataclass
class History:
    """What ``fit`` saw: each term of the loss, as a mean over the images of a batch.

    Shapes: ``train[term]`` ``[steps done]``, one value a step; ``val[term]`` the mean over all
    validation images after each step named in ``val_steps``.
    """

    train: dict[str, np.ndarray] = field(default_factory=dict)
    val: dict[str, list[float]] = field(default_factory=dict)
    val_steps: list[int] = field(default_factory=list)
    interrupted: bool = False

    @property
    def steps(self) -> int:
        """Number of optimisation steps done."""
        return len(next(iter(self.train.values()), ()))

    def recent(self, term: str, steps: int = 100) -> float:
        """Mean of a term over the last ``steps`` training steps (fewer if there were fewer)."""
        return float(self.train[term][-steps:].mean())

    def plot(self) -> Figure:
        """A panel for each term of the loss, training and validation, against the step."""
        from vae_core.plots import plot_history

        return plot_history(self)


def mean_terms(model: Trainable, images: Tensor, *, batch_size: int = 1000) -> dict[str, float]:
    """Every term of the loss as a mean over **all** images, the last short batch included.

    Sums are added up and divided once: a mean of batch means would give the images of a short
    last batch too much weight. A model that draws random numbers gets the same ones at each call,
    and nobody else's random numbers change.

    Shapes: ``images`` as ``as_pixels`` takes them, at least one.

    Raises: TypeError or ValueError for images that can't be right.
    """
    if len(images) == 0:
        raise ValueError("images: expected at least 1 image, got 0")
    sums: dict[str, float] = {}
    parameter = next(model.parameters())
    with evaluating(model), _own_random_numbers(0, parameter.device):
        for chunk in images.split(positive_int(batch_size, "batch_size")):
            x = as_pixels(
                chunk.to(parameter.device), n_pixels=model.n_pixels, dtype=parameter.dtype
            )
            for term, values in model.loss_terms(x).items():
                sums[term] = sums.get(term, 0.0) + values.cpu().double().sum().item()
    return {term: total / len(images) for term, total in sums.items()}


def fit(
    model: Trainable,
    images: Tensor,
    *,
    steps: int,
    val: Tensor | None = None,
    batch_size: int = 128,
    lr: float | Schedule = 1e-3,
    weights: Mapping[str, float | Schedule] | None = None,
    redraw: bool = False,
    seed: int | None = None,
    device: str | torch.device | None = None,
    precision: str = "auto",
    checkpoint: str | Path | None = None,
    resume: bool = False,
) -> History:
    """Train ``model`` for ``steps`` optimisation steps with Adam, and return what was seen.

    The loss is the sum of the model's ``loss_terms``, each a mean over the batch and multiplied by
    its number in ``weights`` (1 where it has none). A weight, like ``lr``, is a number or a
    function of the step, counted from 0. The history holds the terms **without** their weights,
    so that it means the same for any weight, in training and in validation.

    The training happens on ``device`` (``pick_device()`` if none is given: a GPU where there is
    one), in ``precision`` (see ``pick_precision``), and the model comes back to the device it was
    on. The images stay there for the whole run; with ``redraw`` each batch is drawn anew as
    black-and-white images from their grey values. (Without it, a model with a Bernoulli likelihood
    isn't trained on grey images and validated on black-and-white ones, for the two numbers couldn't
    be compared.) An epoch is one pass over them in a new random order. Order, draws and the model's
    noise are given by ``seed`` (``default_seed()`` if none is given) whatever else draws random
    numbers. Every batch has exactly ``batch_size`` images: those left over at the end of an epoch
    wait for the next shuffle, so the mean over a batch is always over the same number.

    Ctrl-C stops the training after the step at hand and keeps what was reached
    (``History.interrupted`` tells).

    The run is saved to the file ``checkpoint`` at its start, once a minute, and when it ends or is
    stopped. With ``resume`` it goes on from there; on a CPU with the same number of threads the
    result is the uninterrupted run's, bit for bit. The schedules are functions and can't be saved:
    pass the same. A checkpoint that can't be written later on is a warning, and the one before
    survives.

    Shapes: ``images`` and ``val`` as ``as_pixels`` takes them; uint8 needs the least memory.

    Raises: TypeError or ValueError for arguments that can't be right, before any step is taken;
    NotImplementedError, before any step too, for a VAE whose KL has no closed form (see ``VAE``);
    ``TrainingDiverged`` when a term of the loss or its gradient is NaN or infinite (on a CPU before
    it reaches the weights, elsewhere within 100 steps), or a weight at the end or before a save;
    FileExistsError for a checkpoint that is there already without ``resume``; FileNotFoundError and
    ``WeightsError`` for one that can't be resumed; OSError for one that can't be written. An error
    before anything trained was saved leaves no new checkpoint behind.
    """
    steps = positive_int(steps, "steps")
    batch_size = positive_int(batch_size, "batch_size")
    lr_at = _as_schedule(lr, "lr")
    if weights is not None and not isinstance(weights, Mapping):
        raise TypeError(f"weights: expected a mapping from terms to weights, got {weights!r}")
    weight_at = {term: _as_schedule(w, f"weights[{term!r}]") for term, w in (weights or {}).items()}
    chosen = pick_device(device)
    # Checked once here, so that a step needn't.
    check_pixels(images, n_pixels=model.n_pixels, name="images")
    if val is not None:
        check_pixels(val, n_pixels=model.n_pixels, name="val")
        if len(val) == 0:
            raise ValueError("val: expected at least 1 image, got 0")
        if redraw and not is_binary(val):
            raise ValueError(
                "val: expected black-and-white images with redraw, got grey ones "
                "(data.binarised('redrawn') draws them once)"
            )
        if (
            not redraw
            and isinstance(getattr(model, "likelihood", None), BernoulliLikelihood)
            and is_binary(val)
            and not is_binary(images)
        ):
            raise ValueError(
                "redraw: expected True for grey training images and black-and-white val, got False "
                "(to train on the grey values, pass grey val)"
            )
    if batch_size > len(images):
        raise ValueError(
            f"batch_size: expected at most the number of images, {len(images)}, got {batch_size}"
        )
    seed = default_seed() if seed is None else checked_seed(seed)
    n_weights = sum(parameter.numel() for parameter in model.parameters())
    precision = pick_precision(precision, device=chosen, n_weights=n_weights, batch_size=batch_size)
    if resume and checkpoint is None:
        raise ValueError("checkpoint: expected the file to resume from, got None")
    if checkpoint is not None and not resume and Path(checkpoint).exists():
        raise FileExistsError(f"checkpoint: {checkpoint} exists; resume=True goes on from it")

    home = next(model.parameters()).device
    model.to(chosen).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=chosen.type != "mps")
    run = _Run(model, optimiser, _Order(len(images), batch_size, seed), steps)
    settings = {"batch_size": batch_size, "seed": seed, "redraw": redraw, "precision": precision}
    bar, created = None, False
    try:
        with _own_random_numbers(_noise_seed(seed), chosen), _ctrl_c_noted() as stop:
            if checkpoint is not None:
                settings |= {"images": _fingerprint(images), "val": _fingerprint(val)}
                settings = {name: str(value) for name, value in settings.items()}
                if resume:
                    run.load(checkpoint, settings, chosen)
                else:
                    run.save(checkpoint, settings, chosen)  # can it be written? now, not hours on
                    created = True
            saved_at = time.monotonic()
            images = images.to(chosen)
            dtype = next(model.parameters()).dtype
            on_cpu = chosen.type == "cpu"
            look_every = FINITE_CHECK_EVERY_ON_CPU if on_cpu else FINITE_CHECK_EVERY
            validate_every = max(1, steps // VALIDATIONS)
            bar = _progress_bar(steps, run.done)
            while run.done < steps and not stop.is_set():
                step = run.done
                batch = images[next(run.order).to(chosen)]
                x = to_unit_interval(draw_binary(batch) if redraw else batch, dtype)
                with torch.autocast(
                    chosen.type, torch.bfloat16, enabled=precision is torch.bfloat16
                ):
                    terms = model.loss_terms(x)
                means = {term: values.mean() for term, values in terms.items()}  # the reduction
                optimiser.zero_grad()
                _weighted_sum(means, weight_at, step).backward()
                run.note(means)
                if run.done % look_every == 0:
                    run.stop_if_not_finite()
                for group in optimiser.param_groups:
                    group["lr"] = lr_at(step)
                optimiser.step()
                bar.update()
                if val is not None and (run.done % validate_every == 0 or run.done == steps):
                    run.history.val_steps.append(run.done)
                    for term, value in mean_terms(model, val).items():
                        run.history.val.setdefault(term, []).append(value)
                if checkpoint is not None and time.monotonic() - saved_at > SAVE_EVERY:
                    run.stop_if_not_finite()  # the checkpoint before is worth more than NaN
                    run.stop_if_weights_not_finite()
                    run.try_to_save(checkpoint, settings, chosen)
                    saved_at = time.monotonic()
            run.history.interrupted = run.done < steps
            run.stop_if_not_finite()  # also what came after the last look
            run.stop_if_weights_not_finite()
            if checkpoint is not None:
                run.try_to_save(checkpoint, settings, chosen, at_end=True)
    except Exception:
        if created and not run.saved_steps:
            Path(checkpoint).unlink(missing_ok=True)  # it holds nothing that was trained
        raise
    finally:
        if bar is not None:
            bar.close()
        model.to(home)

    run.history.train = {
        term: values[: run.done].cpu().numpy() for term, values in run.record.items()
    }
    _say_where_it_ended(run.history, steps)
    return run.history


def _weighted_sum(means: dict[str, Tensor], weight_at: Mapping[str, Schedule], step: int) -> Tensor:
    """The loss: every term times its weight at this step."""
    if unknown := weight_at.keys() - means.keys():
        raise ValueError(
            f"weights: expected terms of the loss ({', '.join(means)}), "
            f"got {', '.join(sorted(unknown))}"
        )
    return torch.stack(
        [
            mean * weight_at[term](step) if term in weight_at else mean
            for term, mean in means.items()
        ]
    ).sum()


class _Order:
    """Batches of image numbers without end; where it stands can be saved."""

    def __init__(self, n_images: int, batch_size: int, seed: int):
        self.n_images, self.batch_size = n_images, batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self.start_epoch()

    def start_epoch(self) -> None:
        self.state = self.generator.get_state()  # from which this epoch's order can be made again
        self.epoch = torch.randperm(self.n_images, generator=self.generator)
        self.position = 0

    def __next__(self) -> Tensor:
        if self.position + self.batch_size > self.n_images:
            self.start_epoch()
        batch = self.epoch[self.position : self.position + self.batch_size]
        self.position += self.batch_size
        return batch


class _Run:
    """What changes while training goes on, and so what a checkpoint holds."""

    def __init__(self, model: Trainable, optimiser: torch.optim.Adam, order: _Order, steps: int):
        self.model, self.optimiser, self.order, self.steps = model, optimiser, order, steps
        self.done = self.saved_steps = 0
        self.history = History()
        self.record: dict[str, Tensor] = {}  # filled on the device, read once at the end

    def note(self, means: dict[str, Tensor]) -> None:
        """Record the terms of one more step."""
        for term, mean in means.items():
            if term not in self.record:
                self.record[term] = torch.empty(self.steps, dtype=mean.dtype, device=mean.device)
            self.record[term][self.done] = mean.detach()
        self.done += 1

    def stop_if_weights_not_finite(self) -> None:
        """Raise ``TrainingDiverged`` where the last step's update itself overflowed."""
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise TrainingDiverged(
                    f"the weights {name!r} aren't finite after step {self.done}, although its "
                    "terms and gradients are; a smaller lr is the first thing to try"
                )

    def stop_if_not_finite(self) -> None:
        """Raise ``TrainingDiverged``, naming the first step that isn't finite, and the term."""
        if not self.record:
            return  # stopped before the first step
        gradients = [p.grad.sum() for p in self.model.parameters() if p.grad is not None]
        latest = [values[self.done - 1] for values in self.record.values()]
        if torch.isfinite(torch.stack([*gradients, *latest])).all():
            return
        values = torch.stack([values[: self.done] for values in self.record.values()], dim=1)
        bad = (~torch.isfinite(values)).nonzero()  # values (done, terms)
        advice = "a smaller lr is the first thing to try"
        if len(bad):
            step, term = bad[0].tolist()
            name = list(self.record)[term]
            raise TrainingDiverged(
                f"the term {name!r} became {values[step, term].item()} at step {step + 1}; {advice}"
            )
        names = [
            name
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
        ]
        if names:
            raise TrainingDiverged(
                f"the gradient of {names[0]!r} isn't finite at step {self.done}, although each "
                f"term of the loss ({', '.join(self.record)}) is; {advice}"
            )

    def save(self, path: str | Path, settings: dict[str, str], device: torch.device) -> None:
        """Write everything that the rest of the run depends on."""
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": t for name, t in state.items()}
        for term, values in self.record.items():
            tensors[f"train.{term}"] = values[: self.done]
        for term, values in self.history.val.items():
            tensors[f"val.{term}"] = torch.tensor(values, dtype=torch.float64)
        tensors["val_steps"] = torch.tensor(self.history.val_steps, dtype=torch.int64)
        tensors["order.state"] = self.order.state
        tensors |= {f"random.{name}": state for name, state in _random_states(device).items()}
        where = {"content": "checkpoint", "done": str(self.done), "device": device.type}
        where["position"] = str(self.order.position)
        where["terms"] = json.dumps(list(self.record))  # a file forgets their order
        write_tensors(path, tensors, settings | where)
        self.saved_steps = self.done

    def try_to_save(
        self,
        path: str | Path,
        settings: dict[str, str],
        device: torch.device,
        *,
        at_end: bool = False,
    ) -> None:
        """``save``, but a failure is a warning: training is worth more than its checkpoint."""
        try:
            self.save(path, settings, device)
        except OSError as error:
            then = f"the file is that of step {self.saved_steps}" if at_end else "training goes on"
            warnings.warn(f"checkpoint: {error}; {then}", stacklevel=3)

    def load(self, path: str | Path, settings: dict[str, str], device: torch.device) -> None:
        """Go on from a checkpoint, which must be of the same model, images and settings."""
        tensors, about = read_tensors(path)
        if about.get("content") != "checkpoint":
            raise WeightsError(f"{path}: expected a checkpoint of fit, got another file")
        for name, value in settings.items():
            if about.get(name) != value:
                raise WeightsError(
                    f"{path}: made with {name} {about.get(name)}, this run has {name} {value}"
                )
        self.done = int(about["done"])
        if self.done > self.steps:
            raise ValueError(f"steps: expected at least the {self.done} done, got {self.steps}")
        parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        fill(self.model, parts["model"], path)
        self.saved_steps = self.done
        state = self.optimiser.state_dict()
        for name, tensor in parts["optimiser"].items():
            number, _, rest = name.partition(".")
            state["state"].setdefault(int(number), {})[rest] = tensor
        self.optimiser.load_state_dict(state)
        terms = json.loads(about["terms"])
        for term in terms:
            values = parts["train"][term]
            self.record[term] = torch.empty(self.steps, dtype=values.dtype, device=device)
            self.record[term][: self.done] = values
        self.history.val = {t: parts["val"][t].tolist() for t in terms if t in parts["val"]}
        self.history.val_steps = tensors["val_steps"].tolist()
        self.order.generator.set_state(parts["order"]["state"])
        self.order.start_epoch()
        self.order.position = int(about["position"])
        _set_random_states(device, parts["random"] if about["device"] == device.type else {})


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


def _fingerprint(images: Tensor | None) -> str:
    """A number that other images don't have."""
    if images is None:
        return "none"
    content = images.detach().cpu().contiguous().view(torch.uint8)  # NumPy has no bfloat16
    return hashlib.blake2b(content.numpy(), digest_size=8).hexdigest()


def _noise_seed(seed: int) -> int:
    """Another seed for noise than for the order of images: the two streams mustn't be the same."""
    return int(np.random.SeedSequence((seed, 1)).generate_state(1)[0])


def _random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of the global random number generators that training on a device uses."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def _set_random_states(device: torch.device, states: Mapping[str, Tensor]) -> None:
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif "mps" in states:
        torch.mps.set_rng_state(states["mps"])


@contextmanager
def _own_random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch's global random numbers start from ``seed``; afterwards they are as before."""
    before = _random_states(device)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
    try:
        yield
    finally:
        _set_random_states(device, before)


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


def _progress_bar(steps: int, done: int):
    """A bar where somebody watches; ``VAE_CORE_PROGRESS=0`` says that nobody does."""
    from tqdm import tqdm

    in_notebook = "ipykernel" in sys.modules
    watched = os.environ.get("VAE_CORE_PROGRESS", "1") != "0" and (
        in_notebook or sys.stderr.isatty()
    )
    return tqdm(total=steps, initial=done, disable=not watched, leave=False, unit="step")


def _say_where_it_ended(history: History, steps: int) -> None:
    """Print the one line that stays: the steps done, and each term over the last of them."""
    end = f"stopped by hand at step {history.steps} of {steps:,}"
    parts = [f"{term} ⟨{history.recent(term):.4g}⟩" for term in history.train]
    parts += [f"validation {term} ⟨{values[-1]:.4g}⟩" for term, values in history.val.items()]
    print(f"fit: {end if history.interrupted else f'{steps:,} steps'}; {', '.join(parts)}")
