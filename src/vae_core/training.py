"""Training: one loop for every model of the book."""

from __future__ import annotations

import os
import random
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from vae_core._checks import positive_float, positive_int
from vae_core.devices import pick_device
from vae_core.pixels import as_pixels, check_pixels, to_unit_interval

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
VALIDATIONS = 20  # looks at the validation images in one training run


class Trainable(Protocol):
    """What ``fit`` needs of a model: an ``nn.Module`` with the loss of each image, by term."""

    n_pixels: int

    def loss_terms(self, x: Tensor) -> dict[str, Tensor]:
        """Terms of the loss, each ``[B]``, for pixel values ``x`` ``[B, n_pixels]``."""
        ...


class TrainingDiverged(RuntimeError):
    """A term of the loss became NaN or infinite; the message names the term and the step."""


def default_seed() -> int:
    """The seed that a run starts from: ``$VAE_CORE_SEED``, or 0.

    Raises: ValueError when the variable holds no integer of at least 0.
    """
    value = os.environ.get("VAE_CORE_SEED", "0")
    if not value.isdecimal():
        raise ValueError(f"VAE_CORE_SEED: expected an integer of at least 0, got {value!r}")
    return int(value)


def seed_everything(seed: int | None = None) -> int:
    """Seed Python's, NumPy's and PyTorch's random numbers (every device), and return the seed.

    Without an argument the seed is ``default_seed()``.
    """
    seed = default_seed() if seed is None else seed
    random.seed(seed)
    np.random.seed(seed)
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
    last batch too much weight.

    Shapes: ``images`` as ``as_pixels`` takes them, at least one.
    """
    if len(images) == 0:
        raise ValueError("images: expected at least 1 image, got 0")
    sums: dict[str, float] = {}
    parameter = next(model.parameters())
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for chunk in images.split(positive_int(batch_size, "batch_size")):
            x = as_pixels(
                chunk.to(parameter.device), n_pixels=model.n_pixels, dtype=parameter.dtype
            )
            for term, values in model.loss_terms(x).items():
                sums[term] = sums.get(term, 0.0) + values.cpu().double().sum().item()
    model.train(was_training)
    return {term: total / len(images) for term, total in sums.items()}


def fit(
    model: Trainable,
    images: Tensor,
    *,
    steps: int,
    val: Tensor | None = None,
    batch_size: int = 128,
    lr: float = 1e-3,
    seed: int | None = None,
    device: str | torch.device | None = None,
) -> History:
    """Train ``model`` for ``steps`` optimisation steps with Adam, and return what was seen.

    The training happens on ``device`` (``pick_device()`` if none is given: a GPU where there is
    one), and the model comes back to the device it was on. The images stay there for the whole
    run. An epoch is one pass over them in a new random order, given by ``seed``
    (``default_seed()`` if none is given) whatever else draws random numbers. Every batch has
    exactly ``batch_size`` images: those left over at the end of an epoch wait for the next
    shuffle, so the mean over a batch is always over the same number.

    Ctrl-C stops the training and keeps what was reached (``History.interrupted`` tells).

    Shapes: ``images`` and ``val`` as ``as_pixels`` takes them; uint8 needs the least memory.

    Raises: TypeError or ValueError for images, sizes, rates or devices that can't be right,
    before any step is taken; ``TrainingDiverged`` when a term of the loss is NaN or infinite.
    """
    steps = positive_int(steps, "steps")
    batch_size = positive_int(batch_size, "batch_size")
    lr = positive_float(lr, "lr")
    chosen = pick_device(device)
    # Checked once here, so that a step needn't.
    check_pixels(images, n_pixels=model.n_pixels, name="images")
    if val is not None:
        check_pixels(val, n_pixels=model.n_pixels, name="val")
        if len(val) == 0:
            raise ValueError("val: expected at least 1 image, got 0")
    if batch_size > len(images):
        raise ValueError(
            f"batch_size: expected at most the number of images, {len(images)}, got {batch_size}"
        )

    home = next(model.parameters()).device
    model.to(chosen).train()
    images = images.to(chosen)
    dtype = next(model.parameters()).dtype
    optimiser = torch.optim.Adam(model.parameters(), lr=lr, fused=chosen.type != "mps")
    order = torch.Generator().manual_seed(default_seed() if seed is None else seed)

    history = History()
    record: dict[str, Tensor] = {}  # filled on the device, read once at the end
    done = 0
    validate_every = max(1, steps // VALIDATIONS)
    bar = _progress_bar(steps)
    try:
        while done < steps:
            epoch = torch.randperm(len(images), generator=order).to(chosen)
            for chosen_images in epoch.split(batch_size):
                if len(chosen_images) < batch_size or done == steps:
                    break
                x = to_unit_interval(images[chosen_images], dtype)
                terms = model.loss_terms(x)
                means = {term: values.mean() for term, values in terms.items()}  # the reduction
                optimiser.zero_grad()
                torch.stack(list(means.values())).sum().backward()
                optimiser.step()
                for term, mean in means.items():
                    if term not in record:
                        record[term] = torch.empty(steps, dtype=mean.dtype, device=chosen)
                    record[term][done] = mean.detach()
                done += 1
                bar.update()
                if done % FINITE_CHECK_EVERY == 0:
                    _stop_if_not_finite(record, done)
                if val is not None and (done % validate_every == 0 or done == steps):
                    history.val_steps.append(done)
                    for term, value in mean_terms(model, val).items():
                        history.val.setdefault(term, []).append(value)
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        bar.close()
        model.to(home)

    if done:
        _stop_if_not_finite(record, done)  # also what came after the last look
    history.train = {term: values[:done].cpu().numpy() for term, values in record.items()}
    _say_where_it_ended(history, steps)
    return history


def _stop_if_not_finite(record: dict[str, Tensor], done: int) -> None:
    """Raise ``TrainingDiverged``, naming the first step that isn't finite, and the term."""
    values = torch.stack([values[:done] for values in record.values()], dim=1)  # (done, terms)
    bad = (~torch.isfinite(values)).nonzero()
    if len(bad):
        step, term = bad[0].tolist()
        raise TrainingDiverged(
            f"the term {list(record)[term]!r} became {values[step, term].item()} at step "
            f"{step + 1}; a smaller lr is the first thing to try"
        )


def _progress_bar(steps: int):
    """A bar where somebody watches; ``VAE_CORE_PROGRESS=0`` says that nobody does."""
    from tqdm import tqdm

    in_notebook = "ipykernel" in sys.modules
    watched = os.environ.get("VAE_CORE_PROGRESS", "1") != "0" and (
        in_notebook or sys.stderr.isatty()
    )
    return tqdm(total=steps, disable=not watched, leave=False, unit="step")


def _say_where_it_ended(history: History, steps: int) -> None:
    """Print the one line that stays: the steps done, and each term over the last of them."""
    end = f"stopped by hand at step {history.steps} of {steps:,}"
    parts = [f"{term} ⟨{history.recent(term):.4g}⟩" for term in history.train]
    parts += [f"validation {term} ⟨{values[-1]:.4g}⟩" for term, values in history.val.items()]
    print(f"fit: {end if history.interrupted else f'{steps:,} steps'}; {', '.join(parts)}")
