"""``explore``: drag through what a model with codes has learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import one_hot

from vae_book.figures import (
    DIGIT_COLOURS,
    ORANGE,
    label_places,
    scatter_codes,
    show_ink,
    show_rows,
    tile,
)
from vae_book.live.decoders import Decoder, image_shape
from vae_book.live.packing import packed
from vae_book.live.page import LiveFigure, has_live_front_end
from vae_core._checks import describe, positive_int
from vae_core.images import check_images
from vae_core.latent import straight_path, traversal
from vae_core.networks import OneHotCondition, evaluating

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["explore"]

SHOWN = 2000  # codes in the plane
N_ON_THE_WAY = 9  # images, as in explorer.js
REACH = 3  # of the sliders, in standard deviations of the codes
ACTIVE = 0.01  # variance of a unit's mean over the images (Burda et al., 2016)


def explore(
    model: nn.Module,
    images: Tensor | np.ndarray,
    *,
    labels: Tensor | None = None,
    name: str | None = None,
    start: Tensor | None = None,
    max_units: int = 8,
    shape: Sequence[int] | None = None,
) -> LiveFigure:
    """A live figure of the codes of a model: drag a code, and see what the decoder draws.

    ``model`` is a VAE, or any module with ``encode`` and ``decode`` that give tensors or
    distributions; of a distribution the mean is shown. With two latent units one drags a point in
    the plane, over the mean codes of the images. With another number each slider moves one unit:
    the active ones, the most active first, at most ``max_units``. ``labels``, digits from 0 to 9,
    colour the dots. The code begins at ``start``, by default the mean code of the first image; the
    pinned one at the image whose code is farthest from it.

    A model that is told labels (its decoder is a ``OneHotCondition``) needs ``labels``, and two
    latent units. One then picks a digit and drags its style; the codes of that digit are coloured,
    and below stand all digits with the same code.

    A fully connected decoder is computed by the figure itself, with weights rounded to 8 bits. Any
    other is asked in the kernel. On the site, where there is none, a plane of grey images then has
    a table of images, and anything else is the picture.

    ``name`` puts the figure on the site (see ``LiveFigure``). Its picture is the plane at rest, or
    a row of images for each slider.

    Shapes: ``images`` as the model takes them, at least two; ``labels`` ``[N]``; ``start`` ``[d]``;
    ``shape`` that of one image, where it isn't square and grey (see ``figures.tile``).

    Raises: TypeError or ValueError for what isn't a model, images, labels or a code; ValueError
    where the model's codes or images aren't finite.
    """
    for method in ("encode", "decode"):
        if not isinstance(model, nn.Module) or not callable(getattr(model, method, None)):
            raise TypeError(
                f"model: expected a VAE, or a module with encode and decode, got {describe(model)}"
            )
    max_units = positive_int(max_units, "max_units")
    images = check_images(
        images,
        n_pixels=getattr(model, "n_pixels", None),
        unit_interval=getattr(model, "unit_interval", True),
    )
    if len(images) < 2:
        raise ValueError(f"images: expected at least 2 images, got {len(images)}")
    if labels is not None:
        if not _are_digits(labels, len(images)):
            raise ValueError(
                f"labels: expected {len(images)} digits from 0 to 9, got {describe(labels)}"
            )
        labels = labels.cpu()
    told = isinstance(getattr(model, "decoder", None), OneHotCondition)
    if told and labels is None:
        raise ValueError("labels: expected those that the model is told, got None")
    codes = Codes(model, images, labels if told else None)
    start = codes.means[0] if start is None else start.detach().cpu().float()
    if start.shape != (codes.d,):
        raise ValueError(f"start: expected a code of shape ({codes.d},), got {describe(start)}")
    units = codes.units(max_units)
    if not torch.isfinite(start).all():
        raise ValueError("start: expected finite values, got NaN or infinity")
    if told:
        return _told(model, codes, labels, start, image_shape(images, shape), name)
    decoder = Decoder(model, codes.within_reach(units), image_shape(images, shape))
    if codes.d == 2:
        picture = _plane(decoder, codes, labels, start)
    else:
        picture = _rows(decoder, codes, units)
    form = decoder.as_network()
    if form is None and has_live_front_end():
        form = {"kind": "kernel"}
    if form is None and codes.d == 2:
        form = decoder.as_table(*codes.square())
    if form is None:
        return LiveFigure("explorer", None, picture, name=name)
    data = {
        "decoder": form,
        "image": dict(zip(("height", "width", "channels"), decoder.shape, strict=True)),
        "start": start.tolist(),
        "pinned": codes.farthest_from(start).tolist(),
        "units": [codes.slider(unit, start) for unit in units],
    }
    if codes.d == 2:
        low, high = codes.square()
        data["plane"] = {"low": low.tolist(), "high": high.tolist()}
        data["points"] = packed(codes.means[:SHOWN])
        if labels is not None:
            data["labels"] = "".join(map(str, labels[:SHOWN].tolist()))
            data["names"] = list(label_places(codes.means[:SHOWN], labels[:SHOWN]).items())
    room = None if codes.d == 2 else f"--units: {min(codes.d, max_units)}"
    return LiveFigure("explorer", data, picture, name=name, decode=decoder, room=room)


class Codes:
    """The codes of images: their means, and how far they reach.

    Shapes: ``means`` ``[N, d]``, ``spread`` ``[d]``: the standard deviation of all codes, clouds
    included.
    """

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor | None = None) -> None:
        means, variances = [], []
        with evaluating(model):
            for chunk in torch.arange(len(images)).split(1000):
                given = [] if labels is None else [labels[chunk]]
                answer = model.encode(images[chunk], *given)
                point = isinstance(answer, Tensor)
                means.append((answer if point else answer.mean).cpu().float())
                variances.append(torch.zeros_like(means[-1]) if point else answer.variance.cpu())
        self.means = torch.cat(means)
        self.d = self.means.shape[1]
        if not torch.isfinite(self.means).all():
            raise ValueError("model: expected finite codes of the images, got NaN or infinity")
        self.variances = self.means.var(dim=0, correction=0)
        self.spread = (self.variances + torch.cat(variances).float().mean(dim=0)).sqrt()

    def units(self, at_most: int) -> list[int]:
        """Which units get a slider: both of two, else the active ones, the most active first.

        Where none is active, all are as good as any.
        """
        if self.d == 2:
            return [0, 1]
        order = self.variances.argsort(descending=True, stable=True)[:at_most]
        active = [unit for unit in order.tolist() if self.variances[unit] > ACTIVE]
        return active or order.tolist()

    def square(self) -> tuple[Tensor, Tensor]:
        """Two corners of a square with nearly all codes, and a circle of 2 around 0, in it."""
        low = self.means.quantile(0.005, dim=0).clamp(max=-2)
        high = self.means.quantile(0.995, dim=0).clamp(min=2)
        middle, half = (low + high) / 2, 1.06 * (high - low).max() / 2
        return middle - half, middle + half

    def slider(self, unit: int, start: Tensor) -> dict[str, Any]:
        """A unit's name, and from where to where its slider goes: never short of the start."""
        if self.d == 2:
            low, high = (corner[unit].item() for corner in self.square())
        else:
            middle, half = self.means[:, unit].mean().item(), REACH * self.spread[unit].item()
            low, high = middle - half, middle + half
        value = start[unit].item()
        named = f"z{'₁₂'[unit]}" if self.d == 2 else f"unit {unit}"
        return {"unit": unit, "name": named, "low": min(low, value), "high": max(high, value)}

    def within_reach(self, units: list[int]) -> Tensor:
        """Codes that a reader may come to: those of images, and others all over the sliders' ways.

        Shapes: the result ``[n, d]``, the same at every call.
        """
        means = self.means[:SHOWN]
        moved = means.repeat(-(-SHOWN // len(means)), 1)
        random = torch.rand(len(moved), self.d, generator=torch.Generator().manual_seed(0))
        for unit in units:
            slider = self.slider(unit, means[0])
            anywhere = slider["low"] + (slider["high"] - slider["low"]) * random[:, unit]
            chosen = slice(None) if self.d == 2 else slice(units.index(unit), None, len(units))
            moved[chosen, unit] = anywhere[chosen]
        return torch.cat([means, moved])

    def farthest_from(self, code: Tensor) -> Tensor:
        """The mean code of the image that is farthest from a code, well inside the square."""
        means = self.means
        if self.d == 2:
            low, high = self.square()
            share = (means - low) / (high - low)
            means = means[((share - 0.5).abs() < 0.46).all(dim=1)]
        return means[(means - code).norm(dim=1).argmax()]


class _Told(nn.Module):
    """A decoder that is told a label, as one without: the label's one-hot code ends the code."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.decoder, self.model, self.classes = (
            model.decoder.network, model, model.decoder.n_classes,
        )  # fmt: skip

    def decode(self, codes: Tensor) -> Distribution:
        """p(x|z, y) for codes ``[N, d + n_classes]``."""
        return self.model.decode(codes[:, : -self.classes], codes[:, -self.classes :].argmax(dim=1))


def _with_label(codes: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    return torch.cat([codes, one_hot(labels, n_classes).to(codes)], dim=1)


def _told(
    model: nn.Module,
    codes: Codes,
    labels: Tensor,
    start: Tensor,
    shape: tuple[int, ...],
    name: str | None,
) -> LiveFigure:
    """The figure of a model that is told labels."""
    n = model.decoder.n_classes
    if codes.d != 2 or n > 10:
        raise ValueError(
            "model: expected 2 latent units and at most 10 labels where it is told labels, "
            f"got {codes.d} and {n}"
        )
    anywhere = codes.within_reach([0, 1])
    each = torch.arange(len(anywhere)) % n
    decoder = Decoder(_Told(model), _with_label(anywhere, each, n), shape)
    label = n - 3 if n > 7 else 0  # a 7 of ten digits
    picture = _plane_of_one(decoder, codes, labels, start, label, n)
    form = decoder.as_network()
    if form is None and has_live_front_end():
        form = {"kind": "kernel"}
    if form is None:
        return LiveFigure("explorer", None, picture, name=name)
    low, high = codes.square()
    data = {
        "decoder": form,
        "image": dict(zip(("height", "width", "channels"), decoder.shape, strict=True)),
        "start": start.tolist(),
        "digits": n,
        "digit": label,
        "units": [codes.slider(unit, start) for unit in (0, 1)],
        "plane": {"low": low.tolist(), "high": high.tolist()},
        "points": packed(codes.means[:SHOWN]),
        "labels": "".join(map(str, labels[:SHOWN].tolist())),
    }
    return LiveFigure("explorer", data, picture, name=name, decode=decoder, room="--digits: 1")


def _plane_of_one(
    decoder: Decoder, codes: Codes, labels: Tensor, start: Tensor, label: int, n: int
) -> Figure:
    """That figure at rest: the plane with one digit's codes in colour, and the start's images."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplot_mosaic(
        [["plane", "image"], ["all", "all"]],
        figsize=(6.5, 4.6), width_ratios=[3, 2], height_ratios=[5, 1], layout="constrained",
    )  # fmt: skip
    plane, points, of = axes["plane"], codes.means[:SHOWN], labels[:SHOWN] == label
    plane.plot(*points[~of].T, ".", color="#b5b9be", markersize=2.5)
    plane.plot(*points[of].T, ".", color=DIGIT_COLOURS[label], markersize=4)
    plane.add_patch(plt.Circle((0, 0), 2, fill=False, linewidth=2, linestyle="--"))
    plane.plot(*start, "o", color=ORANGE, markerfacecolor="white", markersize=13, markeredgewidth=3)
    (left, bottom), (right, top) = (corner.tolist() for corner in codes.square())
    plane.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    row = decoder(_with_label(start.expand(n, 2), torch.arange(n), n))
    show_ink(axes["image"], tile(row[label][None], 1, shape=decoder.shape))
    show_ink(axes["all"], tile(row, n, shape=decoder.shape))
    plt.close(figure)
    return figure


def _are_digits(labels: object, n: int) -> bool:
    if not isinstance(labels, Tensor) or labels.shape != (n,) or labels.is_floating_point():
        return False
    return bool(((labels >= 0) & (labels <= 9)).all())


def _plane(decoder: Decoder, codes: Codes, labels: Tensor | None, start: Tensor) -> Figure:
    """The live figure at rest: the plane with the way to the start, its image, and the way's."""
    import matplotlib.pyplot as plt

    pinned = codes.farthest_from(start)
    way = straight_path(pinned, start, torch.linspace(0, 1, N_ON_THE_WAY))
    figure, axes = plt.subplot_mosaic(
        [["plane", "image"], ["way", "way"]],
        figsize=(6.5, 4.6), width_ratios=[3, 2], height_ratios=[5, 1], layout="constrained",
    )  # fmt: skip
    plane = axes["plane"]
    if labels is None:
        plane.plot(*codes.means[:SHOWN].T, ".", color="#777777", markersize=2)
    else:
        scatter_codes(plane, codes.means[:SHOWN], labels[:SHOWN])
    plane.add_patch(plt.Circle((0, 0), 2, fill=False, linewidth=2, linestyle="--"))
    plane.plot(*way.T, color=ORANGE)
    plane.plot(*pinned, "o", color="black", markerfacecolor="white", markersize=7)
    plane.plot(*start, "o", color=ORANGE, markerfacecolor="white", markersize=13, markeredgewidth=3)
    (left, bottom), (right, top) = (corner.tolist() for corner in codes.square())
    plane.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    show_ink(axes["image"], tile(decoder(start[None]), 1, shape=decoder.shape))
    show_ink(axes["way"], tile(decoder(way), N_ON_THE_WAY, shape=decoder.shape))
    plt.close(figure)
    return figure


def _rows(decoder: Decoder, codes: Codes, units: list[int]) -> Figure:
    """One row of images for each slider, from one of its ends to the other."""
    rows = {}
    for unit in units:
        slider = codes.slider(unit, codes.means[0])
        values = torch.linspace(slider["low"], slider["high"], 11)
        rows[slider["name"]] = decoder(traversal(codes.means[0], unit, values))
    return show_rows(rows, shape=decoder.shape)
