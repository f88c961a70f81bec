"""A training run as it stands: what a checkpoint holds, and the file it is in.

Checkpoints are PyTorch files, opened by its restricted reader, so a file from somewhere else
can't run code.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from vae_core.batches import Batches
from vae_core.history import History
from vae_core.posteriors import at_least_float32
from vae_core.seeds import random_states, set_random_states
from vae_core.weights import WeightsError, fill, write_whole

__all__ = ["Checkpoint", "Run", "TrainingDiverged"]

SAVE_EVERY = 60.0  # seconds between two checkpoints


class TrainingDiverged(RuntimeError):
    """A term, a gradient or a weight became NaN or infinite; the message says which, and when."""


class Run:
    """What changes while training goes on: weights, optimiser, batches, noise, history.

    ``record[term]`` ``[steps]`` holds the means of a term, filled on the device and read at the
    end.
    """

    def __init__(self, model: nn.Module, batches: Batches, steps: int, device: torch.device):
        self.model, self.batches, self.steps, self.device = model, batches, steps, device
        self.optimiser = torch.optim.Adam(model.parameters(), fused=device.type != "mps")
        self.done, self.history = 0, History()
        self.record: dict[str, Tensor] = {}

    def note(self, means: dict[str, Tensor]) -> None:
        """Record the terms of one more step."""
        for term, mean in means.items():
            mean = at_least_float32(mean.detach())
            if term not in self.record:
                self.record[term] = mean.new_empty(self.steps)
            self.record[term][self.done] = mean
        self.done += 1

    def note_validation(self, means: dict[str, float]) -> None:
        """Record the terms of the validation images after the step just done."""
        self.history.val_steps.append(self.done)
        for term, mean in means.items():
            self.history.val.setdefault(term, []).append(mean)

    def finish(self) -> History:
        """The history as it is handed over."""
        self.stop_if_not_finite(weights_too=True)  # also what came after the last look
        self.history.interrupted = self.done < self.steps
        self.history.train = {t: v[: self.done].cpu().numpy() for t, v in self.record.items()}
        return self.history

    def stop_if_not_finite(self, *, weights_too: bool = False) -> None:
        """Raise ``TrainingDiverged``, naming the first step that isn't finite, and the term."""
        if not self.record:
            return  # stopped before the first step
        named = dict(self.model.named_parameters())
        gradients = {name: p.grad for name, p in named.items() if p.grad is not None}
        weights = named if weights_too else {}
        latest = [values[self.done - 1] for values in self.record.values()]
        sums = [t.sum() for t in (*gradients.values(), *weights.values())]
        if torch.isfinite(torch.stack([*latest, *sums])).all():
            return
        advice = "a smaller lr is the first thing to try"
        values = torch.stack([values[: self.done] for values in self.record.values()], dim=1)
        for step, term in (~torch.isfinite(values)).nonzero().tolist()[:1]:
            raise TrainingDiverged(
                f"the term {list(self.record)[term]!r} became {values[step, term].item()} "
                f"at step {step + 1}; {advice}"
            )
        for what, tensors in (("gradient of", gradients), ("weights", weights)):
            for name, tensor in tensors.items():
                if not torch.isfinite(tensor).all():
                    raise TrainingDiverged(
                        f"the {what} {name!r} became NaN or infinite at step {self.done}, although "
                        f"each term of the loss ({', '.join(self.record)}) is finite; {advice}"
                    )

    def state_dict(self) -> dict:
        """Everything that the rest of the run depends on, in tensors, numbers and strings."""
        return {
            "done": self.done,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "batches": self.batches.state_dict(),
            "random": random_states(self.device),
            "train": {term: values[: self.done] for term, values in self.record.items()},
            "val": self.history.val,
            "val_steps": self.history.val_steps,
        }

    def load_state_dict(self, state: dict, path: Path) -> None:
        """Go on from where ``state_dict`` was called; ``path`` is for messages."""
        if state["done"] > self.steps:
            raise ValueError(f"steps: expected at least the {state['done']} done, got {self.steps}")
        fill(self.model, state["model"], path)
        self.optimiser.load_state_dict(state["optimiser"])
        self.batches.load_state_dict(state["batches"])
        set_random_states(self.device, state["random"])
        self.done = state["done"]
        self.history.val, self.history.val_steps = state["val"], state["val_steps"]
        for term, values in state["train"].items():
            self.record[term] = values.new_empty(self.steps, device=self.device)
            self.record[term][: self.done] = values


class Checkpoint:
    """The file of a run, written once a minute and at the end; without a path nothing happens.

    ``about`` is what must be the same for a run to be resumed: settings, and images, of which the
    file holds only a fingerprint.

    Raises: ValueError or OSError, before any step, where nothing could be resumed or written.
    """

    def __init__(self, path: str | Path | None, resume: bool, about: dict):
        self.path = None if path is None else Path(path)
        self.saved_at = time.monotonic()
        if self.path is None:
            if resume:
                raise ValueError("checkpoint: expected the file to resume from, got None")
            return
        if resume and not self.path.exists():
            raise FileNotFoundError(f"checkpoint: {self.path} is not there, and resume is True")
        if not resume and self.path.exists():
            raise FileExistsError(f"checkpoint: {self.path} exists; resume=True goes on from it")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"checkpoint: the folder {self.path.parent} is not there")
        if not os.access(self.path.parent, os.W_OK):
            raise PermissionError(f"checkpoint: can't write to the folder {self.path.parent}")
        self.about = {name: _in_words(value) for name, value in about.items()}

    def is_due(self) -> bool:
        """True a minute after the last time."""
        return self.path is not None and time.monotonic() - self.saved_at > SAVE_EVERY

    def write(self, run: Run) -> None:
        """Save the run; a failure is a warning, for training is worth more than its checkpoint."""
        if self.path is None:
            return
        run.stop_if_not_finite(weights_too=True)  # the file before is worth more than NaN
        content = io.BytesIO()
        torch.save({"about": self.about} | run.state_dict(), content)
        try:
            write_whole(self.path, content.getvalue())
        except OSError as error:
            warnings.warn(f"checkpoint: {error.strerror or error}", stacklevel=3)
        self.saved_at = time.monotonic()

    def read(self) -> dict:
        """The state that was saved, on the CPU.

        Raises: ``WeightsError`` for a file that is damaged, or of another run.
        """
        content = io.BytesIO(self.path.read_bytes())
        try:
            state = torch.load(content, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file fails in many ways
            raise WeightsError(f"{self.path}: damaged, or no checkpoint of fit") from error
        about = state.get("about") if isinstance(state, dict) else None
        if not isinstance(about, dict):
            raise WeightsError(f"{self.path}: expected a checkpoint of fit, got another file")
        for name, here in self.about.items():
            if about.get(name) != here:
                raise WeightsError(
                    f"{self.path}: made with {name} {about.get(name)}, this run has {name} {here}"
                )
        return state


def _in_words(value: object) -> str:
    """A setting as text; of images a number that other images don't have."""
    if not isinstance(value, Tensor):
        return str(value)
    content = value.detach().cpu().contiguous().view(torch.uint8)  # NumPy has no bfloat16
    return hashlib.blake2b(content.numpy(), digest_size=8).hexdigest()
