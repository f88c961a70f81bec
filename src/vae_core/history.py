"""What a training run saw, step by step; it draws itself."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vae_core.posteriors import at_least_float32

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["History"]

TRAINING, VALIDATION = "#0072B2", "#D55E00"  # of Okabe and Ito's colours


class History:
    """What a training run saw: each term of the loss, as a mean over the images of a batch.

    ``train[term]`` ``[steps]`` has one value a step, ``val[term]`` the mean over all validation
    images after each step named in ``val_steps``. A loop of one's own calls ``note``.
    """

    def __init__(
        self,
        train: Mapping[str, np.ndarray] | None = None,
        val: Mapping[str, list[float]] | None = None,
        val_steps: list[int] | None = None,
        interrupted: bool = False,
    ):
        self.val = {term: list(values) for term, values in (val or {}).items()}
        self.val_steps, self.interrupted = list(val_steps or ()), interrupted
        self._terms = list(train or ())
        columns = [torch.tensor(values) for values in (train or {}).values()]
        self._table = torch.stack(columns, dim=1) if columns else torch.empty(0, 0)
        self._rows: list[Tensor] = []  # not in the table yet

    @property
    def steps(self) -> int:
        """Number of optimisation steps done."""
        return len(self._table) + len(self._rows)

    def note(self, means: Mapping[str, Tensor]) -> None:
        """Record the terms of one more step, without waiting for the device they are on.

        Shapes: each mean a scalar.

        Raises: ValueError where the terms aren't scalars, or those of the steps before.
        """
        if self.steps == 0:
            self._terms = list(means)
        elif list(means) != self._terms:
            raise ValueError(
                f"means: expected the terms of the steps before ({', '.join(self._terms)}), "
                f"got {', '.join(means)}"
            )
        row = torch.stack(list(means.values())).detach()
        if row.ndim != 1:
            raise ValueError(f"means: expected scalars, got shape {tuple(row.shape[1:])}")
        self._rows.append(row)
        if len(self._rows) == 1000:
            self._gather()

    def _gather(self) -> Tensor:
        """All steps in one table, ``[steps, terms]``."""
        if self._rows:
            new = at_least_float32(torch.stack(self._rows))
            old = [self._table.to(new.device)] if len(self._table) else []
            self._table, self._rows = torch.cat([*old, new]), []
        return self._table

    def note_validation(self, means: Mapping[str, float]) -> None:
        """Record the terms of the validation images after the step just done."""
        self.val_steps.append(self.steps)
        for term, mean in means.items():
            self.val.setdefault(term, []).append(mean)

    @property
    def train(self) -> dict[str, np.ndarray]:
        """Each term at every step, ``[steps]``."""
        table = self._gather().cpu().numpy()
        return {term: table[:, i] for i, term in enumerate(self._terms)}

    def first_not_finite(self) -> tuple[int, str, float] | None:
        """The first step, counted from 1, with a term that is NaN or infinite; term and value."""
        table = self._gather()
        for step, term in (~table.isfinite()).nonzero().tolist()[:1]:
            return step + 1, self._terms[term], table[step, term].item()
        return None

    def state_dict(self) -> dict:
        """What was seen so far."""
        return {
            "terms": self._terms,
            "train": self._gather(),
            "val": copy.deepcopy(self.val),
            "val_steps": list(self.val_steps),
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on from where ``state_dict`` was called."""
        self._terms, self._table, self._rows = list(state["terms"]), state["train"], []
        self.val, self.val_steps = copy.deepcopy(state["val"]), list(state["val_steps"])

    def recent(self, term: str, steps: int = 100) -> float:
        """Mean of a term over the last ``steps`` training steps (fewer if there were fewer)."""
        return float(self.train[term][-steps:].mean())

    def __repr__(self) -> str:
        """One line: how it ended, and each term over the last 100 steps."""
        parts = [f"{term} ⟨{self.recent(term):.4g}⟩" for term in self.train if self.steps]
        parts += [f"validation {term} ⟨{v[-1]:.4g}⟩" for term, v in self.val.items() if v]
        steps = f"{self.steps:,} steps" + (", stopped by hand" if self.interrupted else "")
        return "; ".join([steps, *([", ".join(parts)] if parts else [])])

    def plot(self) -> Figure:
        """A panel for each term: every training step, their running mean, validation."""
        import matplotlib.pyplot as plt

        terms = list(self.train) or ["loss"]
        figure, axes = plt.subplots(
            1, len(terms), figsize=(min(6.5, 4.5 * len(terms)), 3.0), squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for ax, term in zip(axes[0], terms, strict=True):
            values = self.train.get(term, np.empty(0))
            steps = np.arange(1, len(values) + 1)
            ax.plot(steps, values, color=TRAINING, alpha=0.25, linewidth=0.6)
            window = max(1, len(values) // 40)
            middle, smooth = running_mean(values, window)
            ax.plot(middle, smooth, color=TRAINING, label=f"training, mean of {window} steps")
            if self.val.get(term):
                ax.plot(
                    self.val_steps, self.val[term], "o", color=VALIDATION, ms=4, label="validation"
                )
            ax.set_xlabel("step")
            ax.set_ylabel(f"{term} per image")
            ax.set_ylim(*without_the_first_steps(values))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2)
        plt.close(figure)  # a notebook shows a cell's last value and every open figure
        return figure

    def _repr_png_(self) -> bytes | None:
        """The plot, where a notebook shows the history."""
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            return None
        png = io.BytesIO()
        self.plot().savefig(png, format="png", dpi=110, bbox_inches="tight")
        return png.getvalue()


def running_mean(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of ``window`` neighbouring steps, and the step in the middle of each."""
    if len(values) == 0:
        return np.empty(0), np.empty(0)
    smooth = np.convolve(values, np.ones(window) / window, mode="valid")
    return np.arange(1, len(values) + 1)[window // 2 :][: len(smooth)], smooth


def without_the_first_steps(values: np.ndarray) -> tuple[float, float]:
    """Limits of the vertical axis that the steep beginning doesn't flatten everything else."""
    later = values[len(values) // 20 :]
    if len(later) == 0:
        return 0.0, 1.0
    room = 0.1 * max(float(later.max() - later.min()), 1e-9)
    return float(later.min()) - room, float(later.max()) + room
