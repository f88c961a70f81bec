"""``vae_playground``: a VAE of points in the plane that trains where one looks at it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Normal

from vae_book.figures import BLUE, GREEN, ORANGE
from vae_book.live.packing import packed
from vae_book.live.page import LiveFigure
from vae_book.points import SHAPES, points
from vae_core import VAE, History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["vae_playground"]

SHAPE, N, SIGMA_X = "blobs", 500, 0.15  # of what is shown first, as in playground.js
EDGE = 2.6  # x₁ and x₂ go from −2.6 to 2.6
INT16 = 32767
ENTRIES = 120  # of the curves
SIDE, CELLS = 160, 96  # codes and places for p(x), in each direction
INK, FAINT = "#22262b", "#c9ccd0"


def vae_playground(vae: VAE, history: History, *, name: str | None = None) -> LiveFigure:
    """A live figure in which a small VAE of points in the plane trains, with all its settings.

    It starts with ``vae``, at rest: a VAE of two units with ``hidden=(32, 32)``, ``n_pixels=2`` and
    Gaussian points of σₓ = 0.15 around the decoder's, trained on ``points("blobs")`` in float32.
    ``history`` is that of its training, with ``val`` the points themselves. ``name`` puts the
    figure on the site (see ``LiveFigure``).

    Raises: ValueError for a VAE of another make, and for a history without validation.
    """
    numbers = [p for part in (vae.encoder, vae.decoder) for p in part.parameters()]
    wanted = [(32, 2), (32,), (32, 32), (32,), (4, 32), (4,),
              (32, 2), (32,), (32, 32), (32,), (2, 32), (2,)]  # fmt: skip
    sigma_x = getattr(vae.likelihood, "sigma_x", None)
    if [tuple(p.shape) for p in numbers] != wanted or sigma_x is None or vae.likelihood.learned:
        raise ValueError(
            f"vae: expected VAE(2, hidden=(32, 32), n_pixels=2) with a GaussianLikelihood of fixed "
            f"σₓ, got {vae}"
        )
    if not history.val_steps:
        raise ValueError("history: expected one of fit(…, val=…), got one without validation")
    shapes = {shape: points(shape, N) for shape in SHAPES}
    unit = EDGE / INT16
    data = {
        "unit": unit,
        "sets": {
            shape: {
                "points": packed((x / unit).round(), "int16"),
                "along": packed((along / unit).round(), "int16"),
            }
            for shape, (x, along) in shapes.items()
        },
        "start": {
            "numbers": packed(torch.cat([p.detach().flatten() for p in numbers] + [torch.zeros(1)])),
            "steps": history.steps,
            "past": _curves(history),
        },
    }
    return LiveFigure("playground", data, _picture(vae, shapes[SHAPE].x, data["start"]["past"]), name=name)


def _curves(history: History) -> list[list[float]]:
    """Step, reconstruction and KL, from the first to the last, thinned out."""
    rows = list(zip(history.val_steps, history.val["reconstruction"], history.val["KL"], strict=True))
    every = max(len(rows) // ENTRIES, 1)
    kept = rows[: -1 : every] + rows[-1:]
    return [[step, round(float(r), 4), round(float(kl), 4)] for step, r, kl in kept]


def density(vae: VAE) -> Tensor:
    """p(x) on a grid of the plane, rows from the bottom, by a sum over a grid of codes.

    Shapes: ``[96, 96]``, from −3 to 3 in both directions.
    """
    axis = torch.linspace(-4, 4, SIDE)
    z = torch.cartesian_prod(axis, axis)
    share = Normal(0.0, 1.0).log_prob(z).sum(dim=1).softmax(dim=0)
    with torch.no_grad():
        mean = vae.decoder(z)
    places = (torch.arange(CELLS) + 0.5) / CELLS * 2 * EDGE - EDGE
    across, up = (Normal(mean[:, i, None], vae.likelihood.sigma_x).log_prob(places).exp() for i in (0, 1))
    return torch.einsum("k,ku,kr->ur", share, up, across)


def _picture(vae: VAE, x: Tensor, curves: list[list[float]]) -> Figure:
    """What the live figure shows at first: points and copies, codes, p(x) with draws, curves."""
    import matplotlib.pyplot as plt
    from matplotlib.collections import EllipseCollection, LineCollection

    x, along = x.float(), points(SHAPE, N).along
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        q = vae.encode(x)
        copies = vae.decoder(q.mean)
        draws = vae.decoder(torch.randn(300, 2, generator=generator))
    draws += vae.likelihood.sigma_x * torch.randn(300, 2, generator=generator)
    figure, ((data, codes), (model, course)) = plt.subplots(2, 2, figsize=(6.5, 6.3), layout="constrained")
    data.add_collection(LineCollection(torch.stack([x, copies], dim=1).numpy(), color=FAINT, lw=0.7))
    data.scatter(*x.T, c=along, s=6, vmax=1.2)
    data.scatter(*copies.T, color=INK, s=1.5)
    data.set_title("points, and lines to their copies")
    some = slice(None, None, N // 40)
    codes.add_collection(EllipseCollection(*(2 * q.stddev[some]).T, 0, units="xy",
        offsets=q.mean[some].numpy(), offset_transform=codes.transData, facecolor="none",
        edgecolor=BLUE, lw=0.6))  # fmt: skip
    codes.scatter(*q.mean.T, c=along, s=3, vmax=1.2)
    angle = torch.linspace(0, 2 * math.pi, 100)
    for radius in (1, 2):
        codes.plot(radius * angle.cos(), radius * angle.sin(), "--", color=INK, lw=1)
    codes.set_title("codes; N(0, I) dashed")
    model.imshow(density(vae).sqrt(), origin="lower", extent=(-EDGE, EDGE, -EDGE, EDGE), cmap="Greys")
    model.scatter(*draws.T, color=BLUE, s=3)
    model.set_title("p(x), and draws from it")
    for axes, edge in ((data, EDGE), (codes, 4), (model, EDGE)):
        axes.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect=1, xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    step, reconstruction, kl = torch.tensor(curves).T
    late = step >= 0.05 * step[-1]
    for values, colour, words in ((reconstruction, ORANGE, "reconstruction"), (kl, GREEN, "KL"),
                                  (reconstruction + kl, INK, "−ELBO")):  # fmt: skip
        course.plot(step[late], values[late], color=colour)
        course.annotate(words, (step[-1], values[-1]), (0, 5), textcoords="offset points", ha="right", color=colour)
    course.set(xlabel="step", title="nats a point")
    plt.close(figure)
    return figure
