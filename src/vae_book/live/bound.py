"""``bound_at_work``: a cloud moved onto the true posterior of an image, and what its ELBO loses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vae_book.figures import BLUE, GREEN, ellipse_outlines
from vae_book.live.packing import hex_images, packed
from vae_book.live.page import LiveFigure
from vae_core._checks import describe
from vae_core.networks import evaluating
from vae_core.schedules import one_cycle
from vae_core.vae import VAE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["bound_at_work"]

LINES = 101  # of the grid, along each side
STEPS = 240  # of the refinement: then it is at rest
EVERY = 4  # steps, a cloud is kept
EXTENT = 7.0  # the posterior is looked for from −7 to 7
OUTSIDE = 1e-5  # share of the posterior, in each direction, that may lie outside the window
TOLERANCE = 5e-3  # nats: what is shown has two decimals
NATS_SHOWN = (1, 2, 5, 10, 20, 50, 100)  # of the bar: enough for the first gap


def bound_at_work(
    vae: VAE,
    image: Tensor,
    *,
    name: str | None = None,
) -> LiveFigure:
    """A live figure of log p(x) = ELBO + KL(q(z|x) ‖ p(z|x)) for one image and two latent units.

    The true posterior is a shade in a window of the plane, the cloud q an ellipse that is dragged,
    widened, or walked along the steps of a refinement; log p(x) is a bar of constant height, cut
    into the ELBO and the gap. All is summed over a grid on the window, on which q is normalised; so
    the identity holds for every q, to rounding.

    The first cloud is the encoder's; from there ``refine`` goes uphill on the ELBO. ``name``
    puts the figure on the site (see ``LiveFigure``). Pixel values are taken as they are:
    binarise the image before, where the model is one of binary pixels.

    Shapes: ``image`` one image as the model takes it, ``[1, …]``.

    Raises: TypeError or ValueError for another model, or more than one image; ValueError where
    log p(x) isn't finite, or the posterior and the cloud don't fit in a window that the grid
    resolves, to 0.005 nats.
    """
    if not isinstance(vae, VAE):
        raise TypeError(f"vae: expected a VAE, got {describe(vae)}")
    if vae.latent_dim != 2:
        raise ValueError(f"vae: expected 2 latent units, got {vae.latent_dim}")
    x = vae.as_input(image)
    if len(x) != 1:
        raise ValueError(f"image: expected one image, got {len(x)}")
    with evaluating(vae):
        cloud = vae.encode(x)
        first = torch.stack([cloud.mean.reshape(2), cloud.stddev.reshape(2)]).double().cpu()
    window = Window.around(vae, x, first)
    path = refine(window, first)
    elbos = torch.stack([window.elbo(each) for each in path])
    gaps = window.evidence - elbos
    shown = next((n for n in NATS_SHOWN if n > 1.2 * gaps[0]), NATS_SHOWN[-1])
    side = math.isqrt(x.shape[1])
    data: dict[str, Any] = {
        "low": window.low.tolist(),
        "side": window.side,
        "lines": LINES,
        "logJoint": packed(window.log_joint),
        "every": EVERY,
        "path": path.flatten(1).tolist(),
        "shown": shown,
    }
    if side * side == x.shape[1]:
        data["image"] = {"side": side, "ink": hex_images(x)}
    return LiveFigure("bound", data, _picture(window, path, gaps, shown), name=name)


class Window:
    """log p(x, z) on a square grid of codes, and what follows from it.

    Shapes: ``low`` ``[2]``, the lower left corner; ``log_joint`` ``[lines, lines]``, z₁ along the
    first dimension, float64.
    """

    def __init__(self, vae: VAE, x: Tensor, low: Tensor, side: float, lines: int = LINES) -> None:
        self.low, self.side, self.spacing = low, side, side / (lines - 1)
        self.axes = low[:, None] + torch.linspace(0, side, lines, dtype=torch.float64)
        codes = torch.cartesian_prod(*self.axes).to(x)
        with evaluating(vae):
            parts = [vae.decode(z).log_prob(x) + vae.prior().log_prob(z) for z in codes.split(5000)]
        self.log_joint = torch.cat(parts).reshape(lines, lines).double().cpu()
        self.evidence = self.log_joint.flatten().logsumexp(0) + 2 * math.log(self.spacing)
        if not torch.isfinite(self.evidence):
            raise ValueError("vae: expected a finite log p(x), got NaN or infinity")

    @classmethod
    def around(cls, vae: VAE, x: Tensor, cloud: Tensor) -> Window:
        """The smallest square with nearly all of the posterior and of a cloud in it."""
        whole = cls(vae, x, torch.full((2,), -EXTENT, dtype=torch.float64), 2 * EXTENT, 281)
        posterior = (whole.log_joint - whole.log_joint.max()).exp()
        edges = []
        for axis, of_axis in zip(whole.axes, (posterior.sum(1), posterior.sum(0)), strict=True):
            share = of_axis.cumsum(0) / of_axis.sum()
            inside = axis[(share > OUTSIDE) & (share < 1 - OUTSIDE)]
            edges.append((inside[0].item(), inside[-1].item()))
        mean, std = cloud
        low = torch.tensor([a for a, _ in edges]).double().minimum(mean - 3 * std)
        high = torch.tensor([b for _, b in edges]).double().maximum(mean + 3 * std)
        side = 1.1 * (high - low).max().item()
        window = cls(vae, x, (low + high) / 2 - side / 2, side)
        finer = cls(vae, x, window.low, side, 2 * LINES - 1)
        off = (window.evidence - finer.evidence).abs()
        if off > TOLERANCE or std.min() < window.spacing:
            raise ValueError(
                "image: expected one whose posterior and cloud fit in one window: on a grid of "
                f"{LINES} × {LINES} codes log p(x) is off by {off:.2g} nats"
            )
        return window

    def elbo(self, cloud: Tensor) -> Tensor:
        """The ELBO in nats of a Gaussian that is normalised on the grid; ``cloud`` μ and σ."""
        mean, std = cloud
        log_q = -((self.axes - mean[:, None]) / std[:, None]).square() / 2
        log_q = log_q.log_softmax(dim=1)  # of each line; they are independent
        q = log_q.exp()
        entropy = -(q * log_q).sum() + 2 * math.log(self.spacing)
        return q[0] @ self.log_joint @ q[1] + entropy


def refine(window: Window, cloud: Tensor) -> Tensor:
    """Clouds on the way uphill on the ELBO, no narrower than the grid can see.

    Shapes: ``cloud`` ``[2, 2]``, μ and σ; the result ``[61, 2, 2]``, every fourth step.
    """
    mean, log_std = cloud[0].clone().requires_grad_(), cloud[1].log().requires_grad_()
    # The first gradients are large; with the usual 0.999 they would hold the steps down for long.
    optimiser = torch.optim.Adam([mean, log_std], betas=(0.9, 0.95))
    speed = one_cycle(STEPS, peak=0.03)
    path = [cloud]
    for step in range(STEPS):
        optimiser.zero_grad()
        (-window.elbo(torch.stack([mean, log_std.exp()]))).backward()
        optimiser.param_groups[0]["lr"] = speed(step)
        optimiser.step()
        with torch.no_grad():
            log_std.clamp_(min=math.log(window.spacing))
        if (step + 1) % EVERY == 0:
            path.append(torch.stack([mean, log_std.exp()]).detach())
    return torch.stack(path)


def _picture(window: Window, path: Tensor, gaps: Tensor, shown: float) -> Figure:
    """The encoder's cloud, the one that has lost half of what is mended, the last; and the bars."""
    import matplotlib.pyplot as plt

    half = int((gaps <= (gaps[0] + gaps[-1]) / 2).nonzero()[0])
    titles = {0: "the encoder's cloud"} | {
        k: f"{EVERY * k} steps uphill" for k in (half, len(path) - 1)
    }
    figure, axes = plt.subplots(
        2, len(titles), figsize=(6.5, 3.1), height_ratios=[5, 1], layout="constrained"
    )
    (left, bottom), (right, top) = window.low.tolist(), (window.low + window.side).tolist()
    posterior = (window.log_joint - window.log_joint.max()).exp()
    for (above, below), (k, title) in zip(axes.T, titles.items(), strict=True):
        above.imshow(
            posterior.T.numpy(), origin="lower", extent=(left, right, bottom, top), cmap="Greys",
            interpolation="bicubic",
        )  # fmt: skip
        for radius in (1, 2):
            mean, std = path[k].float()
            outline = ellipse_outlines(mean[None], std[None], radius=radius)[0]
            above.fill(*outline.T, fill=False, edgecolor=BLUE, linewidth=1.5)
        above.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
        above.set_title(title, fontsize=11)
        gap = min(gaps[k].item(), shown)
        below.barh(0, shown - gap, color=BLUE)
        below.barh(0, gap, left=shown - gap, color=GREEN)
        below.set(xlim=(0, shown), yticks=[], xticks=[], xlabel=f"gap {gaps[k]:.2f} nats")
    plt.close(figure)
    return figure
