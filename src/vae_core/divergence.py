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
    """Stops a loop at the first step that isn't finite, with everything as it was before it.

    In every step the loop notes the terms in ``state.history`` and calls ``check`` before the
    update. After the update it calls ``look`` every now and then, after the last step, and after
    each one while steps are ``repeating``.

    Raises: ValueError for weights that aren't finite to begin with.
    """

    def __init__(self, state: TrainingState):
        if spoilt := _first_not_finite(state.weights()):
            raise ValueError(f"model: expected finite weights, {spoilt!r} has NaN or infinity")
        self.state = state
        self.seen_at: int | None = None  # steps done when something wasn't finite
        self.term: tuple[int, str, float] | None = None  # the first that wasn't, if one was
        self.remembered: dict | None = None
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
        spoilt, step = _first_not_finite(self.state.weights()), self.state.history.steps
        if self.repeating:
            if spoilt:
                self._stop(
                    f"the weights {spoilt!r} became NaN or infinite in the update of step {step}, "
                    "although their gradient is finite"
                )
            self._remember()
            if step >= self.seen_at:
                self._stop(f"something became NaN or infinite by step {step}, but not again")
            return False
        self.term = self.state.history.first_not_finite()
        if spoilt or self.term:
            self.seen_at = step
            self._go_back()
            return True
        self._remember()
        return False

    def check(self) -> None:
        """While steps are repeated, look at one that has its gradients, before its update.

        Raises: ``TrainingDiverged``.
        """
        if not self.repeating:
            return
        history, step = self.state.history, self.state.history.steps
        term = history.first_not_finite()
        if term or (self.term and self.term[0] == step):
            step, name, value = self.term or term
            self._stop(f"the term {name!r} became {value} at step {step}")
        gradients = {name: p.grad for name, p in self.state.weights().items()}
        if spoilt := _first_not_finite(gradients):
            self._stop(
                f"the gradient of {spoilt!r} became NaN or infinite at step {step}, although each "
                f"term of the loss ({', '.join(history.train)}) is finite"
            )

    def _remember(self) -> None:
        self.remembered = _copied(self.state.state_dict(), self.remembered)

    def _go_back(self) -> None:
        self.state.load_state_dict(copy.deepcopy(self.remembered))

    def _stop(self, what: str) -> None:
        self._go_back()
        raise TrainingDiverged(f"{what}; a smaller lr is the first thing to try")


def _copied(state: object, old: object) -> object:
    """A copy, in the memory of an ``old`` one where that fits: new memory costs more than this."""
    if isinstance(state, Tensor):
        fits = isinstance(old, Tensor) and (old.shape, old.dtype) == (state.shape, state.dtype)
        return old.copy_(state) if fits else state.detach().clone()
    if isinstance(state, dict):
        old = old if isinstance(old, dict) else {}
        copies = {key: _copied(value, old.get(key)) for key, value in state.items()}
        whole = copy.copy(state)  # with what a module's state says of its versions
        whole.update(copies)
        return whole
    return copy.deepcopy(state)


def _first_not_finite(tensors: dict[str, Tensor | None]) -> str | None:
    for name, tensor in tensors.items():
        # The sum is fast, and finite if all are; unless they are very large, the other way round.
        if tensor is not None and not tensor.sum().isfinite() and not tensor.isfinite().all():
            return name
    return None
