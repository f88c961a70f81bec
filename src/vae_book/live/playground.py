"""``vae_playground``: a VAE of points in the plane that trains where one looks at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from vae_book.figures import BLUE, GREEN, ORANGE
from vae_book.live.packing import packed
from vae_book.live.page import LiveFigure
from vae_book.points import SHAPES, Points, points
from vae_core import VAE, GaussianLikelihood, History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["vae_playground"]

NEEDS = ("vae", "training", "pictures")  # scripts besides its own
SHAPE, N, SIGMA_X = "blobs", 500, 0.15  # of what is shown first, as in playground.js
EDGE = 2.6  # x₁ and x₂ go from −2.6 to 2.6
INT16 = 32767
UNUSED = torch.zeros(1)  # the script's last number, for a learned σₓ
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
    likelihood = vae.likelihood
    gaussian = isinstance(likelihood, GaussianLikelihood) and not likelihood.learned
    fits = gaussian and isinstance(likelihood.activation, nn.Identity)
    fits = fits and abs(likelihood.sigma_x.item() - SIGMA_X) < 1e-6
    if not fits or [tuple(p.shape) for p in numbers] != wanted:
        raise ValueError(
            f"vae: expected VAE(2, hidden=(32, 32), n_pixels=2) with "
            f"GaussianLikelihood({SIGMA_X}, activation=nn.Identity()), got {vae}"
        )
    if not history.val_steps:
        raise ValueError("history: expected one of fit(…, val=…), got one without validation")
    sets = {shape: points(shape, N) for shape in SHAPES}
    unit = EDGE / INT16
    curves = _curves(history)
    data = {
        "unit": unit,
        "sets": {
            shape: {
                "points": packed((x / unit).round(), "int16"),
                "along": packed((along / unit).round(), "int16"),
            }
            for shape, (x, along) in sets.items()
        },
        "start": {
            "numbers": packed(torch.cat([*(p.detach().flatten() for p in numbers), UNUSED])),
            "steps": history.steps,
            "past": curves,
        },
    }
    picture = _picture(vae, sets[SHAPE], curves)
    return LiveFigure("playground", data, picture, name=name, needs=NEEDS)


def _curves(history: History) -> list[list[float]]:
    """Step, reconstruction and KL after each validation."""
    terms = history.val["reconstruction"], history.val["KL"]
    rows = zip(history.val_steps, *terms, strict=True)
    return [[step, round(float(r), 4), round(float(kl), 4)] for step, r, kl in rows]


def _density(vae: VAE) -> Tensor:
    """p(x) on a grid of the plane, rows from the bottom, by a sum over a grid of codes.

    Shapes: ``[96, 96]``, from −2.6 to 2.6 in both directions.
    """
    axis = torch.linspace(-4, 4, SIDE)
    z = torch.cartesian_prod(axis, axis)
    share = Normal(0.0, 1.0).log_prob(z).sum(dim=1).softmax(dim=0)
    with torch.no_grad():
        mean = vae.decoder(z)
    places = (torch.arange(CELLS) + 0.5) / CELLS * 2 * EDGE - EDGE
    p = Normal(mean[:, :, None], vae.likelihood.sigma_x)
    across, up = p.log_prob(places).exp().unbind(dim=1)
    return torch.einsum("k,ku,kr->ur", share, up, across)


def _picture(vae: VAE, points: Points, curves: list[list[float]]) -> Figure:
    """What the live figure shows at first: points and copies, codes, p(x) with draws, curves."""
    import matplotlib.pyplot as plt

    figure, ((data, codes), (model, course)) = plt.subplots(
        2, 2, figsize=(6.5, 6.3), layout="constrained"
    )
    x, along = points.x.float(), points.along
    with torch.no_grad():
        q = vae.encode(x)
        copies = vae.decoder(q.mean)
    _draw_data(data, x, copies, along)
    _draw_codes(codes, q.mean, q.stddev, along)
    _draw_model(model, vae)
    _draw_curves(course, torch.tensor(curves))
    for axes, edge in ((data, EDGE), (codes, 3), (model, EDGE)):
        ticks = [-2, 0, 2]
        axes.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect=1, xticks=ticks, yticks=ticks)
    plt.close(figure)
    return figure


def _draw_data(axes: Axes, x: Tensor, copies: Tensor, along: Tensor) -> None:
    from matplotlib.collections import LineCollection

    pairs = torch.stack([x, copies], dim=1).numpy()
    axes.add_collection(LineCollection(pairs, color=FAINT, lw=0.7))
    axes.scatter(*x.T.numpy(), c=along.numpy(), s=6, vmax=1.2)
    axes.scatter(*copies.T.numpy(), color=INK, s=1.5)
    axes.set_title("points, and lines to their copies")


def _draw_codes(axes: Axes, mean: Tensor, stddev: Tensor, along: Tensor) -> None:
    from matplotlib.patches import Ellipse

    axes.scatter(*mean.T.numpy(), c=along.numpy(), s=3, vmax=1.2)
    outline = {"facecolor": "none", "edgecolor": BLUE, "lw": 0.6}
    for middle, (across, up) in zip(mean[::12].tolist(), stddev[::12].tolist(), strict=True):
        axes.add_patch(Ellipse(middle, 2 * across, 2 * up, **outline))
    for radius in (1, 2):
        axes.add_patch(Ellipse((0, 0), 2 * radius, 2 * radius, fill=False, ls="--", color=INK))
    axes.set_title("codes; N(0, I) dashed")


def _draw_model(axes: Axes, vae: VAE) -> None:
    generator = torch.Generator().manual_seed(0)
    z, noise = torch.randn(2, 300, 2, generator=generator)
    with torch.no_grad():
        draws = vae.decoder(z) + vae.likelihood.sigma_x * noise
    square = (-EDGE, EDGE, -EDGE, EDGE)
    axes.imshow(_density(vae).sqrt().numpy(), origin="lower", extent=square, cmap="Greys")
    axes.scatter(*draws.T.numpy(), color=BLUE, s=3)
    axes.set_title("p(x), and draws from it")


def _draw_curves(axes: Axes, curves: Tensor) -> None:
    step, reconstruction, kl = curves.T.numpy()
    bound = reconstruction + kl
    lines = (
        (reconstruction, ORANGE, "reconstruction", -14),
        (kl, GREEN, "KL", 6),
        (bound, INK, "−ELBO", 6),
    )
    for values, colour, words, above in lines:
        axes.plot(step, values, color=colour)
        axes.annotate(words, (step[-1], values[-1]), (0, above), textcoords="offset points",
                      ha="right", color=colour)  # fmt: skip
    axes.set(xlabel="step", title="nats a point")
    axes.margins(y=0.12)
