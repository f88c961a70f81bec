"""A training run as it stands, and the file from which it goes on.

That is a PyTorch file, opened by its restricted reader, so a file from somewhere else can't run
code.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from vae_core.history import History
from vae_core.seeds import random_states, set_random_states
from vae_core.weights import WeightsError, check_fits, write_whole

__all__ = ["Checkpoint", "TrainingState"]

SAVE_EVERY = 60.0  # seconds between two checkpoints


class Part(Protocol):
    """What changes while training goes on: a model, an optimiser, ``Batches``, ``History``."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> None: ...


class TrainingState:
    """All that a step changes: the ``parts``, by name, and PyTorch's random numbers.

    One of the parts is called "history". ``device`` is the one whose random numbers count.
    """

    def __init__(self, parts: Mapping[str, Part], device: str | torch.device = "cpu"):
        self.parts, self.device = dict(parts), torch.device(device)
        self.history: History = self.parts["history"]

    def weights(self) -> dict[str, nn.Parameter]:
        """The parameters of all models among the parts, by name (and model, if there are more)."""
        models = {n: part for n, part in self.parts.items() if isinstance(part, nn.Module)}
        prefix = "{}.{}" if len(models) > 1 else "{1}"
        return {
            prefix.format(model, name): weights
            for model, part in models.items()
            for name, weights in part.named_parameters()
        }

    def state_dict(self) -> dict:
        """Each part's own, and the states of the random numbers."""
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        return {"parts": parts, "random": random_states(self.device)}

    def load_state_dict(self, state: dict) -> None:
        """Go on from where ``state_dict`` was called."""
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        set_random_states(self.device, state["random"])


class Checkpoint:
    """The file of a training state; without a ``path`` there is none, and nothing happens.

    ``about`` is what must be the same for a run to be resumed: settings, and images, of which the
    file holds only a fingerprint. Of several processes, all resume from it, and one ``writes``.

    Raises: OSError where ``resume`` says that there is a file and there is none, or the other
    way round, or where it couldn't be written; ValueError for ``resume`` without a path.
    """

    def __init__(
        self,
        path: str | Path | None,
        state: TrainingState,
        *,
        resume: bool = False,
        about: Mapping[str, object] | None = None,
        writes: bool = True,
    ):
        path = path if writes or resume else None
        self.writes = path is not None and writes
        self.path, self.state = None if path is None else Path(path), state
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
        self.about = {name: _in_words(value) for name, value in (about or {}).items()}

    def is_due(self) -> bool:
        """True a minute after the last time."""
        return self.writes and time.monotonic() - self.saved_at > SAVE_EVERY

    def save(self) -> None:
        """Write the file; a failure is a warning, for training is worth more than its checkpoint.

        Whether the weights are finite is for the caller to know (``Guard.look``).
        """
        if not self.writes:
            return
        content = io.BytesIO()
        torch.save({"about": self.about} | self.state.state_dict(), content)
        try:
            write_whole(self.path, content.getvalue())
        except OSError as error:
            warnings.warn(f"checkpoint: {error.strerror or error}", stacklevel=3)
        self.saved_at = time.monotonic()

    def load(self, *, steps: int | None = None) -> None:
        """Go on from the file. Everything is checked before anything changes.

        Raises: ``WeightsError`` for a file that is damaged, or of another run; ValueError for one
        of more than ``steps`` steps.
        """
        if self.path is None:
            raise ValueError("checkpoint: expected the file to load, got None")
        content = io.BytesIO(self.path.read_bytes())
        try:
            state = torch.load(content, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file fails in many ways
            raise WeightsError(f"{self.path}: damaged, or no checkpoint") from error
        about, parts = (
            state.get(name) if isinstance(state, dict) else None for name in ("about", "parts")
        )
        if not isinstance(about, dict) or not isinstance(parts, dict):
            raise WeightsError(f"{self.path}: expected a checkpoint, got another file")
        if parts.keys() != self.state.parts.keys():
            there, here = ", ".join(parts), ", ".join(self.state.parts)
            raise WeightsError(f"{self.path}: a checkpoint of {there}, this run has {here}")
        for name in self.about | about:
            there, here = about.get(name), self.about.get(name)
            if there != here:
                raise WeightsError(
                    f"{self.path}: made with {name} {there}, this run has {name} {here}"
                )
        done = len(parts["history"]["train"])
        if steps is not None and done > steps:
            raise ValueError(f"steps: expected at least the {done} done, got {steps}")
        for name, part in self.state.parts.items():
            if isinstance(part, nn.Module):
                check_fits(part, parts[name], self.path)
        self.state.load_state_dict(state)


def _in_words(value: object) -> str:
    """A setting as text; of images a number that other images don't have."""
    if not isinstance(value, Tensor):
        return str(value)
    content = value.detach().cpu().contiguous().view(torch.uint8)  # NumPy has no bfloat16
    return hashlib.blake2b(content.numpy(), digest_size=8).hexdigest()
