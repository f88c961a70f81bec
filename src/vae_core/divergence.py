"""Training that became NaN: seen now and then, and traced to the step in which it happened.

To look at each gradient would cost a twentieth of a step on a CPU, and on a GPU each step would
wait for it. So what a history noted on the device is looked at every hundred steps or so, and the
weights with it. If something isn't finite, training goes back to the look before and repeats the
steps since then, one by one.
"""

from __future__ import annotations

import copy

from torch import Tensor

from vae_core.checkpoints import TrainingState

__all__ = ["Guard", "TrainingDiverged"]


class TrainingDiverged(RuntimeError):
    """A term, a gradient or a weight became NaN or infinite; the message says which, and when."""


class Guard:
    """Stops a loop at the first step that isn't finite, with the weights from before it.

    The loop runs while ``state.history.steps`` is too small. In every step it notes the terms in
    the history, calls ``check`` before the update, and every now and then ``look`` after it; and
    after the last one.
    """

    def __init__(self, state: TrainingState):
        self.state = state
        self.seen_at: int | None = None  # steps done when something wasn't finite
        self.term: tuple[int, str, float] | None = None  # the first that wasn't, if one was
        self._remember()

    @property
    def repeating(self) -> bool:
        """True from when it went back."""
        return self.seen_at is not None

    def look(self) -> bool:
        """Wait for the device; if something isn't finite, go back to the look before.

        The result says whether it did.

        Raises: ``TrainingDiverged``, while steps are repeated.
        """
        spoilt = _first_not_finite(self.state.weights())
        if self.repeating:
            if spoilt:
                self._stop_at_update(spoilt)
            elif self.state.history.steps >= self.seen_at:
                _stop(f"the weights became NaN or infinite by step {self.seen_at}, but not again")
            return False
        self.term = self.state.history.first_not_finite()
        if spoilt is None and self.term is None:
            self._remember()
            return False
        self.seen_at = self.state.history.steps
        self._go_back()
        return True

    def check(self) -> None:
        """While steps are repeated, look at one that has its gradients, before its update.

        Raises: ``TrainingDiverged``.
        """
        if not self.repeating:
            return
        step, weights = self.state.history.steps, self.state.weights()
        if spoilt := _first_not_finite(weights):
            self._stop_at_update(spoilt)
        term = self.state.history.first_not_finite() or self.term
        if term and term[0] == step:
            _stop(f"the term {term[1]!r} became {term[2]} at step {step}")
        if spoilt := _first_not_finite({n: p.grad for n, p in weights.items()}):
            terms = ", ".join(self.state.history.train)
            _stop(
                f"the gradient of {spoilt!r} became NaN or infinite at step {step}, although each "
                f"term of the loss ({terms}) is finite"
            )
        self._remember()

    def _remember(self) -> None:
        self.remembered = copy.deepcopy(self.state.state_dict())

    def _go_back(self) -> None:
        self.state.load_state_dict(copy.deepcopy(self.remembered))

    def _stop_at_update(self, name: str) -> None:
        self._go_back()
        _stop(
            f"the weights {name!r} became NaN or infinite in the update of step "
            f"{self.state.history.steps}, although their gradient is finite"
        )


def _first_not_finite(tensors: dict[str, Tensor | None]) -> str | None:
    for name, tensor in tensors.items():
        # The sum is fast, and finite if all are; unless they are very large, the other way round.
        if tensor is not None and not tensor.sum().isfinite() and not tensor.isfinite().all():
            return name
    return None


def _stop(what: str) -> None:
    raise TrainingDiverged(f"{what}; a smaller lr is the first thing to try")
