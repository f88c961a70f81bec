"""Networks, fully connected or convolutional, told a label or not, and the mode (training or
evaluation) of layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vae_core._checks import describe, positive_int
from vae_core.devices import float32_products

__all__ = ["OneHotCondition", "conv_decoder", "conv_encoder", "evaluating", "mlp", "training"]


def mlp(*sizes: int) -> nn.Sequential:
    """Fully connected layers ``sizes[0] → sizes[1] → …``, a ReLU between any two of them.

    The last layer has no activation, so that a code can take any real value.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class OneHotCondition(nn.Module):
    """A network that is told a label too: the label's one-hot code is appended to each row.

    It is called with rows and their labels, as an encoder, a decoder or a prior with a condition
    is. ``network`` takes rows that are ``n_classes`` wider. ``fit`` and the estimates check all
    labels once, before they start. A network by itself takes any codes in place of a one-hot one:
    ``decoder.network(torch.cat([z, shares], dim=1))``.

    Raises: TypeError or ValueError for an ``n_classes`` that isn't an integer of at least 1, and,
    when it is called, for labels that aren't integers from 0 to ``n_classes`` − 1, one for each
    row.

    Source: Sohn, Lee and Yan (2015); Kingma, Mohamed, Rezende and Welling (2014).
    """

    def __init__(self, network: nn.Module, n_classes: int):
        super().__init__()
        self.network, self.n_classes = network, positive_int(n_classes, "n_classes")

    def forward(self, rows: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the network puts out for ``rows`` ``[N, D]`` and ``labels`` ``[N]``."""
        self._check_kind(labels)
        code = rows.new_zeros(len(rows), self.n_classes)
        try:
            code.scatter_(1, labels[:, None].long(), 1)  # a GPU stops at a label that isn't one
        except RuntimeError:
            self.check_condition(labels)
            raise
        return self.network(torch.cat([rows, code], dim=1))

    def check_condition(self, labels: object) -> None:
        """Raise what a condition that isn't labels raises; it reads every label.

        ``fit`` and the estimates call it once for each module of the model that has it.
        """
        self._check_kind(labels)
        low, high = (value.item() for value in torch.aminmax(labels))
        if low < 0 or high >= self.n_classes:
            raise ValueError(
                f"condition: expected labels from 0 to {self.n_classes - 1}, "
                f"got labels from {low} to {high}"
            )

    def _check_kind(self, labels: object) -> None:
        if not isinstance(labels, Tensor) or labels.is_floating_point():
            raise TypeError(
                f"condition: expected labels, integers from 0 to {self.n_classes - 1}, "
                f"got {describe(labels)}"
            )
        if labels.ndim != 1:
            raise ValueError(
                f"condition: expected labels of shape [N], no one-hot codes, got {describe(labels)}"
            )


def conv_encoder(
    n_outputs: int,
    image_shape: Sequence[int] = (1, 28, 28),
    channels: Sequence[int] = (32, 64),
) -> nn.Sequential:
    """A convolutional network from images to ``n_outputs`` numbers, 2 d for a VAE of d units.

    Each convolution (a window of 4 × 4 that moves in steps of 2) halves height and width, rounded
    down, and is followed by a ReLU; ``channels`` has their numbers of feature maps, from the pixels
    inwards. A linear layer takes the last maps to the outputs. Weights start
    with the variance 1/n, where an output is a sum of n products, biases at 0.

    Shapes: from rows ``[B, D]``, each an image of shape ``image_shape`` (C, H, W), flattened, to
    ``[B, n_outputs]``. H and W are at least 2 to the power of the number of convolutions.

    Raises: TypeError or ValueError for sizes that aren't integers of at least 1, or don't fit.

    Source: LeCun, Bottou, Orr and Müller (1998), for the variance.
    """
    n_outputs = positive_int(n_outputs, "n_outputs")
    shapes = _shapes_of_maps(image_shape, channels)
    layers: list[nn.Module] = [nn.Unflatten(1, shapes[0])]
    for (n_in, *_), (n_out, *_) in zip(shapes[:-1], shapes[1:], strict=True):
        layers += [nn.Conv2d(n_in, n_out, 4, stride=2, padding=1), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(math.prod(shapes[-1]), n_outputs)]
    return _with_start_values(layers)


def conv_decoder(
    latent_dim: int,
    image_shape: Sequence[int] = (1, 28, 28),
    channels: Sequence[int] = (32, 64),
) -> nn.Sequential:
    """A convolutional network from codes to images: the layers of ``conv_encoder``, transposed.

    A linear layer and a ReLU make the innermost feature maps, as many as the last number of
    ``channels``, and each transposed convolution doubles height and width. The last layer has no
    activation: what its outputs are is for the likelihood to say.

    Shapes: from codes ``[N, latent_dim]`` to rows ``[N, D]``, images of shape ``image_shape``
    (C, H, W), flattened.

    Raises: as ``conv_encoder`` does.
    """
    latent_dim = positive_int(latent_dim, "latent_dim")
    shapes = _shapes_of_maps(image_shape, channels)[::-1]
    layers = [nn.Linear(latent_dim, math.prod(shapes[0])), nn.ReLU(), nn.Unflatten(1, shapes[0])]
    for (n_in, *small), (n_out, *large) in zip(shapes[:-1], shapes[1:], strict=True):
        odd = [b - 2 * a for a, b in zip(small, large, strict=True)]  # a row or column more
        layers += [
            nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1, output_padding=odd),
            nn.ReLU(),
        ]
    return _with_start_values([*layers[:-1], nn.Flatten()])


def _with_start_values(layers: list[nn.Module]) -> nn.Sequential:
    """The layers in a row, with weights of variance 1/n, where an output is a sum of n products.

    PyTorch's own are a third of that, and mostly less where maps are enlarged: a signal fades.
    """
    for layer in layers:
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            n = layer.weight[0].numel()
            if isinstance(layer, nn.ConvTranspose2d):
                n = layer.weight[:, 0].numel() // math.prod(layer.stride)
            nn.init.normal_(layer.weight, std=n**-0.5)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def _shapes_of_maps(image_shape: object, channels: object) -> list[tuple[int, int, int]]:
    """(C, H, W) of the image, and of the feature maps after each convolution, inwards."""
    sizes = {"image_shape": image_shape, "channels": channels}
    for name, of in sizes.items():
        if not isinstance(of, Sequence) or isinstance(of, str):
            raise TypeError(f"{name}: expected a sequence of sizes, got {describe(of)}")
        sizes[name] = [positive_int(size, name) for size in of]
    if len(image_shape) != 3:
        raise ValueError(
            f"image_shape: expected three sizes, channels, height and width, got {image_shape}"
        )
    if not channels:
        raise ValueError(f"channels: expected a number for each convolution, got {channels}")
    shapes = [tuple(sizes["image_shape"])]
    if min(shapes[0][1:]) < 2 ** len(channels):
        raise ValueError(
            f"channels: expected an image that can be halved {len(channels)} times, of at least "
            f"{2 ** len(channels)} × {2 ** len(channels)} pixels, got image_shape {image_shape}"
        )
    for n in sizes["channels"]:
        shapes.append((n, *(side // 2 for side in shapes[-1][1:])))
    return shapes


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No gradients, and layers such as dropout switched off; every layer's mode comes back."""
    with _modes_put_back(model), torch.no_grad(), float32_products():
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
