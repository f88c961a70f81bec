"""One step of training, three ways: with autograd, which takes any loss; written out for the plain
VAE (``by_hand``); and recorded as a CUDA graph, which a GPU replays without waiting for Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real

import torch
from torch import Tensor, nn

from vae_core._checks import describe, positive_float
from vae_core._data import Data
from vae_core.by_hand import ByHand
from vae_core.processes import Processes

__all__ = ["Loss", "Recorded", "Schedule", "Schedules", "Step", "check_terms", "own_loss"]

Schedule = Callable[[int], float]  # a number for each step, counted from 0
Loss = Callable[..., Mapping[str, Tensor]]  # of model, x and, where there is one, condition


def own_loss(model: nn.Module, *batch: Tensor) -> Mapping[str, Tensor]:
    """The loss that a model brings with it."""
    return model.loss_terms(*batch)


class Step:
    """One step of training: ``backward(numbers)``, from image numbers to gradients, and
    ``update()``, from gradients to weights.

    Of several processes, each has its part of the images and of the means; ``backward`` adds up.

    Raises: ValueError for weights of terms that the loss doesn't have.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        loss: Loss | None,
        optimiser: torch.optim.Optimizer,
        schedules: Schedules,
        batch_size: int,
        products: torch.dtype,
        processes: Processes,
    ):
        self.model, self.data, self.optimiser = model, data, optimiser
        self.schedules, self.batch_size, self.processes = schedules, batch_size, processes
        self.plain = loss is None and data.condition is None
        rows = processes.rows(batch_size)
        sizes = rows.stop - rows.start, batch_size
        if self.plain and ByHand.fits(model, products):
            check_weights(("reconstruction", "KL"), schedules.weights)
            self.gradients = ByHand(model, *sizes, products)
        else:
            loss = own_loss if loss is None else loss
            self.gradients = Autograd(model, loss, *sizes, products)

    def backward(self, numbers: Tensor) -> Mapping[str, Tensor]:
        """The terms' means over the whole batch; gradients are in ``grad`` of the parameters."""
        with self.processes.sharing(self.batch_size) as rows:
            means = self.gradients(self.data[numbers[rows]], self.schedules.weights)
        if self.processes.count > 1:
            slopes = [w.grad for w in self.model.parameters() if w.grad is not None]
            self.processes.add_up([*slopes, *means.values()])
        return means

    def update(self) -> None:
        """The optimiser's step, at the rate of the schedule."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedules.rate
        self.optimiser.step()

    def can_be_recorded(self) -> bool:
        """True if a step launches the same each time: layers of PyTorch's and of this package's.

        What other modules do in Python, a random choice say, would be frozen in a recording.
        """
        return (
            all(group.get("capturable", False) for group in self.optimiser.param_groups)
            and self.plain
            and self.processes.count == 1
            and all(
                type(module).__module__.split(".")[0] in ("torch", "vae_core")
                for module in self.model.modules()
            )
        )


class Autograd:
    """Gradients of any loss: its terms, their means, a weighted sum, and ``backward``.

    It is given ``rows`` of the ``batch_size`` images that a mean is over.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, rows: int, batch_size: int, products: torch.dtype
    ):
        self.model, self.loss, self.rows, self.checked = model, loss, rows, False
        self.share = rows / batch_size
        self.low_precision = products is torch.bfloat16

    def __call__(
        self, batch: tuple[Tensor, ...], weights: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The terms' means; their weighted gradient is in ``grad`` of the parameters."""
        with torch.autocast(batch[0].device.type, torch.bfloat16, enabled=self.low_precision):
            terms = self.loss(self.model, *batch)
        if not self.checked:
            check_terms(terms, self.rows, weights)
            self.checked = True
        means = {term: values.mean() for term, values in terms.items()}  # the reduction
        if self.share < 1:
            means = {term: mean * self.share for term, mean in means.items()}
        weighted = [
            mean * weights[term] if term in weights else mean for term, mean in means.items()
        ]
        self.model.zero_grad()
        sum(weighted[1:], start=weighted[0]).backward()
        return {term: mean.detach() for term, mean in means.items()}


class Schedules:
    """The learning rate and the weights of the terms, at the step at hand.

    On a GPU they stand in memory that a recorded step reads; ``at`` changes what stands there.

    Raises: TypeError or ValueError for what isn't a finite number of at least 0 at every step.
    """

    def __init__(self, lr: float | Schedule, weights: object, steps: int):
        if weights is not None and not isinstance(weights, Mapping):
            raise TypeError(f"weights: expected a mapping from terms to weights, got {weights!r}")
        self.rates = _table(lr, "lr", steps)
        self.tables = {
            term: _table(w, f"weights[{term!r}]", steps) for term, w in (weights or {}).items()
        }

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move them there, once; the weights in the type of the terms."""
        self.on_gpu = device.type == "cuda"
        self.rates = self.rates.to(device, torch.float32) if self.on_gpu else self.rates.tolist()
        self.rate = torch.zeros((), device=device) if self.on_gpu else 0.0
        self.tables = {term: table.to(device, dtype) for term, table in self.tables.items()}
        self.weights = {term: torch.zeros((), device=device, dtype=dtype) for term in self.tables}

    def at(self, step: int) -> None:
        """Set ``rate`` and ``weights`` to those of a step; it never waits for the device."""
        for term, table in self.tables.items():
            self.weights[term].copy_(table[step])
        if self.on_gpu:
            self.rate.copy_(self.rates[step])
        else:
            self.rate = self.rates[step]  # a number, for Adam to read on a CPU


class Recorded:
    """A step as a CUDA graph: what ``step`` launches, recorded once, then replayed.

    A replay reads image numbers, rate and weights where they stand in memory, and draws new random
    numbers. Record after a few steps of the ordinary kind, on a stream that isn't the default one.
    """

    def __init__(self, step: Step, numbers: Tensor):
        self.numbers, self.graph = numbers.clone(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=torch.cuda.current_stream()):
            self.means = step.backward(self.numbers)
            step.update()

    def __call__(self, numbers: Tensor) -> Mapping[str, Tensor]:
        """The terms' means, until the next call."""
        self.numbers.copy_(numbers)
        self.graph.replay()
        return self.means


def check_terms(terms: object, n_images: int, weights: Mapping[str, Tensor]) -> None:
    """A mean over the batch in place of a number an image would be a wrong number, in silence.

    Raises: TypeError or ValueError.
    """
    if not isinstance(terms, Mapping) or not terms:
        raise TypeError(f"loss: expected terms by name, got {describe(terms)}")
    for term, values in terms.items():
        fits = isinstance(values, Tensor) and values.is_floating_point()
        if not fits or values.shape != (n_images,):
            raise ValueError(
                f"loss: expected one number an image, floats of shape [{n_images}], for {term!r}, "
                f"got {describe(values)}; fit takes the mean over the batch"
            )
    check_weights(terms, weights)


def check_weights(terms: Iterable[str], weights: Mapping[str, Tensor]) -> None:
    """Raises: ValueError for the weight of a term that the loss doesn't have."""
    if unknown := weights.keys() - set(terms):
        raise ValueError(
            f"weights: expected terms of the loss ({', '.join(terms)}), "
            f"got {', '.join(sorted(unknown))}"
        )


def _table(value: float | Schedule, name: str, steps: int) -> Tensor:
    """The value at each step, ``[steps]``: finite numbers of at least 0, all looked at before the
    first step, so that none has to ask."""
    if not callable(value) and name == "lr":
        positive_float(value, name)
    numbers = [value(step) for step in range(steps)] if callable(value) else [value]
    for step, number in enumerate(numbers):
        if isinstance(number, bool) or not isinstance(number, Real):
            raise TypeError(
                f"{name}: expected a number or a function of the step, got {describe(number)}"
            )
        if not math.isfinite(number) or number < 0:
            raise ValueError(
                f"{name}: expected finite numbers of at least 0, got {number} at step {step}"
            )
    return torch.tensor(numbers, dtype=torch.float64).expand(steps)
