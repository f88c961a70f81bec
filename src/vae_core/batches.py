"""The order in which images are seen."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Batches"]


class Batches:
    """Batches of image numbers without end, each epoch in a new random order.

    Every batch has exactly ``batch_size`` numbers: those left over at the end of an epoch wait
    for the next shuffle, so a mean over a batch is always over the same number of images. The
    order depends on ``seed`` alone. Where it stands can be saved (``state``) and put back.
    """

    def __init__(self, n_images: int, batch_size: int, seed: int):
        if batch_size > n_images:
            raise ValueError(
                f"batch_size: expected at most the number of images, {n_images}, got {batch_size}"
            )
        self.n_images, self.batch_size = n_images, batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.start = self.generator.get_state()  # from which this order can be made again
        self.order = torch.randperm(self.n_images, generator=self.generator)
        self.position = 0

    def __next__(self) -> Tensor:
        if self.position + self.batch_size > self.n_images:
            self._start_epoch()
        batch = self.order[self.position : self.position + self.batch_size]
        self.position += self.batch_size
        return batch

    def state_dict(self) -> dict[str, Tensor | int]:
        """Where the order stands."""
        return {"start": self.start, "position": self.position}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Go on from where ``state_dict`` was called."""
        self.generator.set_state(state["start"])
        self._start_epoch()
        self.position = state["position"]
