"""A model's decoder in a form that a live figure can use without PyTorch, and how well."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vae_book.live.packing import hex_images, packed
from vae_core.networks import evaluating

__all__ = ["Decoder", "image_shape"]

TABLE = 21  # images along each side of a table of the plane
LARGEST_ERROR = 16 / 255  # of a pixel, from weights of 8 bits
ACTIVATIONS = {nn.ReLU: "relu", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh", nn.Identity: "identity"}
FUNCTIONS = {
    "identity": lambda values: values,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def image_shape(images: Tensor, shape: Sequence[int] | None) -> tuple[int, ...]:
    """The shape of one image: what was said, what the array says, or a grey square."""
    if shape is not None:
        return tuple(shape)
    if images.ndim > 2:
        return tuple(images.shape[1:])
    side = math.isqrt(images.shape[1])
    return side, images.shape[1] // side


class Decoder:
    """From codes ``[N, d]`` to images ``[N, D]``, values in [0, 1], pixel by pixel in rows.

    ``codes`` are some of those that a reader may come to: what is rounded is rounded for them.
    ``shape`` is height, width and channels (1 or 3). Of a distribution the mean is shown.

    Raises: ValueError for a shape that the images don't have, or images that aren't finite.
    """

    def __init__(self, model: nn.Module, codes: Tensor, shape: tuple[int, ...]) -> None:
        self.model, self.codes = model, codes
        images = self._raw(codes)
        if not torch.isfinite(images).all():
            raise ValueError("model: expected finite images of its codes, got NaN or infinity")
        shape = (*shape, 1) if len(shape) == 2 else shape
        channels_first = len(shape) == 3 and shape[0] in (1, 3)
        if len(shape) != 3 or math.prod(shape) != images.shape[1] or not {1, 3} & {*shape[::2]}:
            raise ValueError(
                "shape: expected (H, W), (1 or 3, H, W) or (H, W, 1 or 3) for images of "
                f"{images.shape[1]} values, got {shape}"
            )
        order = torch.arange(images.shape[1]).reshape(shape)
        order = order.movedim(0, 2) if channels_first else order
        self.shape, self.order = tuple(order.shape), order.flatten()

    def __call__(self, codes: Tensor) -> Tensor:
        return self._raw(codes)[:, self.order].clamp(0, 1)

    def _raw(self, codes: Tensor) -> Tensor:
        with evaluating(self.model):
            to = next(self.model.parameters())
            answer = self.model.decode(codes.to(to))
        return (answer if isinstance(answer, Tensor) else answer.mean).cpu().float().flatten(1)

    def as_network(self) -> dict[str, Any] | None:
        """A fully connected network with weights of 8 bits and a scale a row; None if it isn't one.

        It is one if the model's ``decoder`` consists of such layers, and, with some activation at
        the end, gives what the model's ``decode`` gives; and if the rounding changes no pixel at
        the codes by more than 16/255.
        """
        layers = _layers(getattr(self.model, "decoder", None))
        if layers is None:
            return None
        wanted = self(self.codes)
        weight, bias, last = layers.pop()
        for end in [last] if last != "identity" else FUNCTIONS:
            exact = [*layers, (weight[self.order], bias[self.order], end)]
            if (run(exact, self.codes).clamp(0, 1) - wanted).abs().max() < 1e-4:
                whole = rounded(exact, self.codes)
                error = (run(shipped(whole), self.codes).clamp(0, 1) - wanted).abs().max()
                return None if error > LARGEST_ERROR else _network(whole)
        return None

    def as_table(self, low: Tensor, high: Tensor) -> dict[str, Any] | None:
        """Grey images on a grid of the plane, from the top row of codes; None for colour."""
        if self.shape[2] != 1:
            return None
        across, up = (torch.linspace(a, b, TABLE) for a, b in zip(low, high, strict=True))
        codes = torch.cartesian_prod(up, across).flip(1)
        return {
            "kind": "table",
            "images": hex_images(self(codes)),
            "size": math.prod(self.shape),
            "count": TABLE,
            "low": low.tolist(),
            "high": high.tolist(),
        }


Layer = tuple[Tensor, Tensor, str]  # weights, biases, the activation's name


def _layers(decoder: nn.Module | None) -> list[Layer] | None:
    """The layers of a fully connected network; None if it has anything else in it."""
    modules = [m for m in decoder.modules() if not list(m.children())] if decoder else []
    layers: list[Layer] = []
    for module in modules:
        if isinstance(module, nn.Linear):
            zeros = torch.zeros(module.out_features)
            bias = zeros if module.bias is None else module.bias.detach().cpu().float()
            layers.append((module.weight.detach().cpu().float(), bias, "identity"))
        elif layers and type(module) in ACTIVATIONS and layers[-1][2] == "identity":
            layers[-1] = (*layers[-1][:2], ACTIVATIONS[type(module)])
        elif not isinstance(module, nn.Dropout):
            return None
    fits = all(b[0].shape[1] == a[0].shape[0] for a, b in itertools.pairwise(layers))
    return layers if layers and fits else None


def run(layers: Sequence[Layer], codes: Tensor) -> Tensor:
    """What a fully connected network gives, before it is cut off at 0 and 1."""
    for weight, bias, activation in layers:
        codes = FUNCTIONS[activation](codes @ weight.T + bias)
    return codes


Rounded = tuple[Tensor, Tensor, Tensor, str]  # whole numbers, a scale a row, biases, activation


def rounded(layers: Sequence[Layer], codes: Tensor) -> list[Rounded]:
    """Weights as whole numbers from −127 to 127, with a scale for each row.

    Rounded column by column; after each, the columns that are left make up for its error, as well
    as they can for these codes. That makes the largest error of a pixel about eight times smaller
    than rounding each weight to the nearest does.

    Source: Frantar et al. (2023), OPTQ.
    """
    done: list[Rounded] = []
    for weight, bias, activation in layers:
        inputs = run(shipped(done), codes).double()
        products = inputs.T @ inputs / len(inputs)
        products += 1e-4 * products.diagonal().mean() * torch.eye(len(products))
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(products))
        factor = torch.linalg.cholesky(inverse, upper=True)
        left = weight.double().clone()
        scale = (left.abs().amax(dim=1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        whole = torch.empty_like(left)
        for i in range(left.shape[1]):
            whole[:, i] = (left[:, i] / scale).round().clamp(-127, 127)
            error = (left[:, i] - scale * whole[:, i]) / factor[i, i]
            left[:, i:] -= error[:, None] * factor[i, i:]
        done.append((whole.float(), scale.float(), bias, activation))
    return done


def shipped(layers: Sequence[Rounded]) -> list[Layer]:
    """The network that whole numbers and scales stand for."""
    return [(scale[:, None] * whole, bias, end) for whole, scale, bias, end in layers]


def _network(layers: Sequence[Rounded]) -> dict[str, Any]:
    packed_layers = [
        {
            "weight": packed(whole, "int8"),
            "scale": packed(scale),
            "bias": packed(bias),
            "activation": activation,
        }
        for whole, scale, bias, activation in layers
    ]
    return {"kind": "mlp", "layers": packed_layers}
