"""``scrubber``: drag through a training and see the clouds of codes, and what the decoder draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vae_book.figures import DIGIT_COLOURS, draw_ellipses, show_ink, tile
from vae_book.live.decoders import image_shape
from vae_book.live.packing import hex_images, packed
from vae_book.live.page import LiveFigure
from vae_core._checks import describe, positive_int
from vae_core.images import check_images
from vae_core.networks import evaluating

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Look", "Watch", "looks_at", "scrubber"]

DRAWN = 12  # random codes
A_DECADE = 10  # looks between step 10 and step 100, and so on
CIRCLE = 2  # radius of the circle that holds 86 % of N(0, I)
REACH = 0.98  # share of a network's codes, in each direction, that fit in a plane of its own
WIDEST = 1.75  # times what the network with the smaller codes would need
MARGIN = 1.1
FAINT = 1 / 15  # ink below one shade of sixteen is none: rounded, a pale ground would be speckled
INT16 = 32767


class Look(NamedTuple):
    """A network at one step: the clouds of the watched images, and what the random codes draw.

    Shapes: ``mean`` and ``std`` ``[N, 2]``, ``drawn`` ``[12, D]``.
    """

    mean: Tensor
    std: Tensor
    drawn: Tensor


class Watch:
    """Notes, during a training, where the clouds of some images are and what random codes draw.

    It is a loss for ``fit``: the model's own, and at chosen steps it takes a look.

        watch = Watch(images, z, steps=1500)
        fit(model, train_images, steps=1500, loss=watch)

    Looking draws no random numbers and changes nothing: training goes as it would without. The
    model has two numbers in its code, gives clouds, and is trained to the end in one go. The look
    after the last step is taken when ``looks`` is first called: change nothing in between.

    Shapes: ``images`` as the model takes them; ``z`` ``[12, 2]``.

    Raises: TypeError or ValueError for what isn't images, twelve codes, or a number of steps; at
    the first step, for a model whose codes aren't clouds of two numbers.
    """

    def __init__(self, images: Tensor | np.ndarray, z: Tensor, *, steps: int) -> None:
        self.images = check_images(images)
        if not isinstance(z, Tensor) or z.shape != (DRAWN, 2):
            raise ValueError(f"z: expected {DRAWN} codes, [{DRAWN}, 2], got {describe(z)}")
        self.z, self.steps = z.detach().cpu().float(), positive_int(steps, "steps")
        self.at = looks_at(self.steps)
        self.seen: dict[int, Look] = {}
        self.done = 0  # steps, as far as it knows
        self.model: nn.Module | None = None

    def __call__(self, model: nn.Module, *batch: Tensor) -> Mapping[str, Tensor]:
        """The model's own terms of the loss; ``fit`` calls it before each update."""
        terms = model.loss_terms(*batch)
        if model.training:  # else the images are those of a validation
            self.model = model
            if self.done in self.at:
                self.seen[self.done] = self._look()
            self.done += 1
        return terms

    def _look(self) -> Look:
        with evaluating(self.model):
            cloud = self.model.encode(self.images)
            if isinstance(cloud, Tensor):
                raise TypeError("model: expected one that gives clouds of codes, got points")
            if cloud.event_shape != (2,):
                raise ValueError(f"model: expected 2 code numbers, got {cloud.event_shape.numel()}")
            answer = self.model.decode(self.z.to(cloud.mean))
        drawn = answer if isinstance(answer, Tensor) else answer.mean
        look = Look(*(each.cpu().float() for each in (cloud.mean, cloud.stddev, drawn)))
        if not all(torch.isfinite(each).all() for each in look):
            raise ValueError(f"model: expected finite clouds at step {self.done}, got NaN or inf")
        return look

    def looks(self) -> dict[int, Look]:
        """All looks by their step, from 0 (before the first update) to the last.

        Raises: ValueError where the training took another number of steps than was said.
        """
        if self.done != self.steps:
            raise ValueError(
                f"steps: expected a training of {self.steps} steps with loss=watch, "
                f"got {self.done} steps"
            )
        if self.steps not in self.seen:
            self.seen[self.steps] = self._look()
        return self.seen


def looks_at(steps: int) -> list[int]:
    """At which steps to look: the first few, then ten a decade, and the last."""
    decades = np.arange(0, np.log10(steps), 1 / A_DECADE)
    between = {round(10**power) for power in decades.tolist()}
    return sorted({0, steps} | {step for step in between if step <= 0.95 * steps})


def scrubber(
    watches: Mapping[str, Watch],
    labels: Tensor,
    picture: Figure | None = None,
    *,
    name: str | None = None,
) -> LiveFigure:
    """A live figure of the training of one network or two, side by side, to be dragged through.

    For each network, by its name: the clouds of the watched images as ellipses (one standard
    deviation, coloured by ``labels``, digits from 0 to 9) with the random codes as crosses, and
    below it what the decoder draws from these. Each plane is the same square at every step, and the
    same for both networks. It is wide enough for the codes at the end, but at most 1.75 times as
    wide as the network with the smaller codes needs: of the other some clouds may lie outside, and
    the figure says how many.

    ``name`` puts the figure on the site (see ``LiveFigure``). ``picture`` is what is shown where
    nothing can be dragged, by default three steps of each network and the last drawings.

    Shapes: ``labels`` ``[N]``.

    Raises: TypeError or ValueError for no watches or more than two, watches that don't belong
    together (other images, codes or steps), labels that aren't those of the images; ValueError
    where a training isn't complete.
    """
    if not isinstance(watches, Mapping) or len(watches) not in (1, 2):
        raise ValueError(f"watches: expected one watch or two by name, got {describe(watches)}")
    first = next(iter(watches.values()))
    for key, watch in watches.items():
        if not isinstance(watch, Watch):
            raise TypeError(f"watches: expected a Watch as {key!r}, got {describe(watch)}")
        if watch.steps != first.steps:
            raise ValueError(
                f"watches: expected the same number of steps, got {first.steps} and {watch.steps}"
            )
        if not torch.equal(watch.z, first.z) or not torch.equal(watch.images, first.images):
            raise ValueError("watches: expected the same images and the same z for both")
    n = len(first.images)
    digits = isinstance(labels, Tensor) and labels.shape == (n,) and not labels.is_floating_point()
    if not digits or not ((labels >= 0) & (labels <= 9)).all():
        raise ValueError(f"labels: expected {n} digits from 0 to 9, got {describe(labels)}")
    looks = {key: watch.looks() for key, watch in watches.items()}
    low, side = square([each[first.steps].mean for each in looks.values()])
    height, width = image_shape(first.images, None)
    clouds = {key: stacked(each) for key, each in looks.items()}
    furthest = max(each[..., :2].abs().max().item() for each in clouds.values())
    widest = max(each[..., 2:].max().item() for each in clouds.values())
    unit = torch.tensor([furthest, furthest, widest, widest]) / INT16
    data: dict[str, Any] = {
        "steps": first.at,
        "labels": "".join(map(str, labels.tolist())),
        "square": {"left": low[0].item(), "bottom": low[1].item(), "side": side},
        "unit": unit.tolist(),
        "z": packed(first.z),
        "image": {"height": height, "width": width},
        "networks": [
            {
                "name": key,
                "clouds": packed((each / unit).round(), "int16"),
                "drawn": drawings(looks[key]),
            }
            for key, each in clouds.items()
        ],
    }
    if picture is None:
        picture = _picture(looks, labels, low, side, (height, width))
    return LiveFigure("scrubber", data, picture, name=name, room=f"--networks: {len(watches)}")


def stacked(looks: Mapping[int, Look]) -> Tensor:
    """The clouds at all looks, ``[looks, N, 4]``: μ₁, μ₂, σ₁ and σ₂ of each image."""
    return torch.stack([torch.cat([look.mean, look.std], dim=1) for look in looks.values()])


def drawings(looks: Mapping[int, Look]) -> str:
    """What the random codes draw at all looks, one after the other, as ``hex_images``."""
    ink = torch.cat([look.drawn for look in looks.values()])
    return hex_images(ink * (ink >= FAINT))


def square(means: list[Tensor]) -> tuple[Tensor, float]:
    """The lower left corner and the side of the square in which the codes are shown.

    It holds the codes of all networks and the circle, but is at most 1.75 times as wide as the
    network with the smaller codes needs; then it holds these, and as much of the others as it can.

    Shapes: ``means`` each ``[N, 2]``; the corner ``[2]``.
    """
    quantiles = torch.tensor([1 - REACH, REACH])
    boxes = torch.stack([each.quantile(quantiles, dim=0) for each in means])  # (networks, 2, 2)
    lows, highs = boxes[:, 0].clamp(max=-CIRCLE), boxes[:, 1].clamp(min=CIRCLE)
    needed = (highs - lows).amax(dim=1)
    small, large = int(needed.argmin()), int(needed.argmax())
    low, high = lows.amin(dim=0), highs.amax(dim=0)
    side, middle = (high - low).max().item(), (low + high) / 2
    if side > WIDEST * needed[small]:
        side = WIDEST * needed[small].item()
        most = means[large].median(dim=0).values
        middle = most.clamp(min=highs[small] - side / 2, max=lows[small] + side / 2)
    side *= MARGIN
    return middle - side / 2, side


def _picture(
    looks: Mapping[str, Mapping[int, Look]],
    labels: Tensor,
    low: Tensor,
    side: float,
    shape: tuple[int, int],
) -> Figure:
    """A row for each network: the clouds at three steps, and what it draws in the end."""
    import matplotlib.pyplot as plt

    steps = list(next(iter(looks.values())))
    chosen = [steps[0], steps[2 * len(steps) // 3], steps[-1]]
    figure, axes = plt.subplots(
        len(looks), 4, figsize=(6.5, 0.6 + 1.6 * len(looks)), squeeze=False, layout="constrained"
    )
    for row, (name, each) in zip(axes, looks.items(), strict=True):
        for ax, step in zip(row, chosen, strict=False):
            draw_ellipses(ax, each[step].mean, each[step].std, labels)
            ax.add_patch(plt.Circle((0, 0), CIRCLE, fill=False, linestyle="--"))
            (left, bottom), (right, top) = low.tolist(), (low + side).tolist()
            ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
            ax.spines[:].set_visible(True)
        show_ink(row[3], tile(each[chosen[-1]].drawn, 3, shape=shape))
        row[0].set_ylabel(name)
    titles = [*(f"step {step:,}" for step in chosen), "random codes"]
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=11)
    key = [plt.Line2D([], [], marker="o", linestyle="", color=each) for each in DIGIT_COLOURS]
    figure.legend(
        key, range(10), loc="outside lower center", ncols=10, handletextpad=0,
        columnspacing=1, fontsize=10, frameon=False,
    )  # fmt: skip
    plt.close(figure)
    return figure
