"""``kl_playground``: what a cloud costs that isn't N(0, 1), and where the KL pulls it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vae_book.live.page import LiveFigure
from vae_core._checks import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["kl_playground"]


def kl_playground(picture: Figure) -> LiveFigure:
    """A live figure of (3.5): drag the middle and the width of a Gaussian, and see its KL.

    One cloud q = N(μ, σ²) against p = N(0, 1), with the KL in nats and its two parts, beside the
    naive penalty of (3.15), and the pull of the KL on μ and on σ. There are no data: the script
    computes everything. ``picture`` is shown where nothing can be dragged.

    Raises: TypeError for a picture that isn't a matplotlib figure.
    """
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    if not isinstance(picture, Figure):
        raise TypeError(f"picture: expected a matplotlib figure, got {describe(picture)}")
    plt.close(picture)  # or the cell that drew it would show it once more
    return LiveFigure("kl", {}, picture)
