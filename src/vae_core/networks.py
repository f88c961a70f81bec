"""Fully connected networks, and the mode (training or evaluation) that layers are in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from vae_core.devices import exact_float32

__all__ = ["evaluating", "mlp", "training"]


def mlp(*sizes: int) -> nn.Sequential:
    """Fully connected layers ``sizes[0] → sizes[1] → …``, a ReLU between any two of them.

    The last layer has no activation, so that a code can take any real value.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No gradients, and layers such as dropout switched off; every layer's mode comes back."""
    with _modes_put_back(model), torch.no_grad(), exact_float32():
        model.eval()
        yield


@contextmanager
def training(model: nn.Module) -> Iterator[None]:
    """A model in evaluation mode trains as a whole; every layer's mode comes back.

    In a model that is in training mode already, the layers that somebody froze with ``.eval()``
    stay frozen.
    """
    with _modes_put_back(model):
        if not model.training:
            model.train()
        yield


@contextmanager
def _modes_put_back(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
