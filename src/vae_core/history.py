"""What a training run saw, step by step; it draws itself."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["History"]

TRAINING, VALIDATION = "#0072B2", "#D55E00"  # of Okabe and Ito's colours


@dataclass(repr=False)
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
