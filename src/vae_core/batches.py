"""The order in which images are seen."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_core._checks import positive_int

__all__ = ["Batches"]


class Batches:
    """Batches of image numbers without end, each epoch in a new random order.

    Every batch has exactly ``batch_size`` numbers: those left over at the end of an epoch wait
    for the next shuffle, so a mean over a batch is always over the same number of images. The
    order depends on ``seed`` alone, and is the same on any device. Where it stands can be saved
    (``state_dict``) and put back.

    ``next(batches)`` gives a batch on ``device``, and never waits for it.

    Raises: TypeError or ValueError for a batch size that isn't an integer of at least 1 and at most
    the number of images.
    """

    def __init__(
        self, n_images: int, batch_size: int, seed: int, device: str | torch.device = "cpu"
    ):
        if positive_int(batch_size, "batch_size") > n_images:
            raise ValueError(
                f"batch_size: expected at most the number of images, {n_images}, got {batch_size}"
            )
        self.n_images, self.batch_size = n_images, batch_size
        self.device = torch.device(device)
        self.generator = torch.Generator().manual_seed(seed)
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.start = self.generator.get_state()  # from which this order can be made again
        order = torch.randperm(self.n_images, generator=self.generator)
        if self.device.type == "cuda":
            order = order.pin_memory()  # a copy from other memory waits for the GPU
        order = order.to(self.device, non_blocking=True)
        self.batches = order.split(self.batch_size)[: self.n_images // self.batch_size]
        self.done = 0  # of them

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Tensor:
        if self.done == len(self.batches):
            self._start_epoch()
        self.done += 1
        return self.batches[self.done - 1]

    def state_dict(self) -> dict[str, Tensor | int]:
        """Where the order stands."""
        sizes = {"n_images": self.n_images, "batch_size": self.batch_size}
        return sizes | {"start": self.start, "done": self.done}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Go on from where ``state_dict`` was called.

        Raises: ValueError for another number of images or another batch size.
        """
        for name, here in (("n_images", self.n_images), ("batch_size", self.batch_size)):
            if state[name] != here:
                raise ValueError(f"{name}: the state is of {state[name]}, these batches of {here}")
        self.generator.set_state(state["start"])
        self._start_epoch()
        self.done = state["done"]
