"""Several processes that train one model, each on its part of every batch.

``torchrun`` starts them, ``torch.distributed.init_process_group()`` makes them a group; ``fit``
and the estimates then share the work, and give what one process would give (up to rounding). A
process by itself is a group of one, and adds nothing up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from vae_core.seeds import Part, drawing_for, own_random_numbers

__all__ = ["Processes"]


class Processes:
    """The group that this process is in: its number, and how many there are.

    Raises: RuntimeError where ``torchrun`` started several that were not made a group.
    """

    def __init__(self):
        ready = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if ready else 0
        self.count = distributed.get_world_size() if ready else 1
        self.noise: torch.Generator | None = None  # that all draw from, for the whole batch
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if started > 1 and not ready and "TORCHELASTIC_RUN_ID" in os.environ:
            raise RuntimeError(
                f"torchrun started {started} processes; make them a group first, with "
                "torch.distributed.init_process_group()"
            )

    @property
    def first(self) -> bool:
        """True for the one that prints and writes files."""
        return self.rank == 0

    def rows(self, n: int) -> slice:
        """Which of ``n`` images are this one's: all but equal parts, in order. Where there are
        fewer images than processes, each of them has all (see ``copies``)."""
        if self.copies(n) > 1:
            return slice(0, n)
        return slice(n * self.rank // self.count, n * (self.rank + 1) // self.count)

    def copies(self, n: int) -> int:
        """How many processes have the same one of ``n`` images."""
        return self.count if n < self.count else 1

    @contextmanager
    def random_numbers(self, seed: int, device: torch.device) -> Iterator[None]:
        """Random numbers from ``seed``; those that aren't drawn for images differ between them."""
        before = self.noise
        if self.count > 1:
            self.noise = torch.Generator(device).manual_seed(seed)
        try:
            with own_random_numbers(self._own(seed), device):
                yield
        finally:
            self.noise = before

    def part_ways(self, seed: int) -> None:
        """Go on with random numbers of one's own, after all have read the same checkpoint."""
        if self.count > 1:
            torch.manual_seed(self._own(seed))

    def _own(self, seed: int) -> int:
        return seed if self.count == 1 else (seed + 1 + self.rank) % 2**63

    @contextmanager
    def sharing(self, n: int) -> Iterator[slice]:
        """This one's rows of a batch of ``n`` images, whose random numbers are drawn for all."""
        if self.count == 1:
            yield slice(0, n)
            return
        rows = self.rows(n)
        with drawing_for(Part(rows.start, rows.stop, n, self.noise)):
            yield rows

    @property
    def parts(self) -> dict[str, Processes]:
        """What a training state has beyond that of one process: the noise for all."""
        return {} if self.count == 1 else {"processes": self}

    def state_dict(self) -> dict[str, Tensor]:
        """Where the noise stands."""
        return {"noise": self.noise.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from where ``state_dict`` was called."""
        self.noise.set_state(state["noise"])

    def check(self, model: nn.Module, batch_size: int) -> None:
        """Refuse what isn't a sum over images, or has none for one of them.

        Raises: ValueError for a layer that normalises over the batch, and for a batch with fewer
        images than there are processes.
        """
        if self.count == 1:
            return
        if batch_size < self.count:
            raise ValueError(
                f"batch_size: expected at least one image for each of {self.count} processes, "
                f"got {batch_size}"
            )
        for name, layer in model.named_modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                raise ValueError(
                    f"model: expected no layer that mixes the images of a batch where several "
                    f"processes have a part of it each, got {type(layer).__name__} ({name!r})"
                )

    def agree_on(self, number: int) -> int:
        """The first one's number, for all."""
        if self.count == 1:
            return number
        numbers = [number]
        distributed.broadcast_object_list(numbers, src=0)
        return numbers[0]

    def start_alike(self, model: nn.Module) -> None:
        """Give the first one's weights and buffers to all."""
        if self.count > 1:
            for tensor in model.state_dict().values():
                distributed.broadcast(tensor, src=0)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in one message."""
        message = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(message)
        parts = message.split([tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, parts, strict=True):
            tensor.copy_(total.view_as(tensor))

    def total(self, numbers: Tensor, device: torch.device) -> Tensor:
        """The sum over all processes, on the CPU; ``device`` is where messages are sent from."""
        if self.count == 1:
            return numbers
        numbers = numbers.to(device)
        distributed.all_reduce(numbers)
        return numbers.cpu()

    def any(self, flag: bool, *, now: bool, device: torch.device) -> bool:
        """True if it is for one of them; they ask each other ``now``, or don't."""
        if self.count == 1 or not now:
            return flag and self.count == 1
        return self.total(torch.tensor(float(flag)), device).item() > 0

    def gather(self, values: Tensor, n: int) -> Tensor:
        """All processes' values ``[…, images]``, of ``n`` images, put together in order."""
        if self.count == 1 or self.copies(n) > 1:
            return values
        parts: list[Tensor] = [values] * self.count
        distributed.all_gather_object(parts, values.cpu())
        return torch.cat(parts, dim=-1)
