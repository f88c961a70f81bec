"""Which image stands where: pictures aren't compared by nbval, so their arrays are."""

import matplotlib
import numpy as np
import pytest
import torch

from vae_core import Autoencoder, fit
from vae_core.plots import (
    DIGIT_COLOURS,
    draw_ellipses,
    ellipse_outlines,
    scatter_codes,
    show_grids,
    show_rows,
    spread_apart,
    tile,
)

matplotlib.use("Agg")


def numbered(n: int) -> torch.Tensor:
    """Image i has the value i / 10 everywhere, but for a mark of ink in its top right corner."""
    images = torch.stack([torch.full((28, 28), i / 10) for i in range(n)])
    images[:, 0, -1] = 1
    return images


def test_reading_order():
    canvas = tile(numbered(5), columns=3)
    assert canvas.shape == (28 * 2 + 2, 28 * 3 + 2 * 2)
    middles = canvas[14::30, 14::30]
    np.testing.assert_allclose(middles, [[0.0, 0.1, 0.2], [0.3, 0.4, 0.0]], atol=1e-6)


def test_images_are_not_flipped_or_turned():
    canvas = tile(numbered(4), columns=2)
    for top in (0, 30):
        for left in (0, 30):
            assert canvas[top, left + 27] == 1
            assert (
                canvas[top + 27, left] < 1 and canvas[top, left] < 1 > canvas[top + 27, left + 27]
            )


def test_gap_is_paper():
    canvas = tile(torch.ones(4, 784), columns=2, gap=3)
    assert canvas.shape == (59, 59) and canvas[28:31].sum() == 0 and canvas[:, 28:31].sum() == 0


def test_the_figure_shows_the_array_with_row_zero_on_top():
    figure = show_grids({"left": numbered(4), "right": numbered(4).flip(dims=[0])}, columns=2)
    left, right = (ax.images[0] for ax in figure.axes)
    np.testing.assert_array_equal(left.get_array(), tile(numbered(4), columns=2))
    np.testing.assert_array_equal(right.get_array(), tile(numbered(4).flip(dims=[0]), columns=2))
    assert [ax.get_title() for ax in figure.axes] == ["left", "right"]
    assert left.origin == "upper" and (left.norm.vmin, left.norm.vmax) == (0, 1)


def test_rows_are_named_in_their_order():
    figure = show_rows({"original": numbered(3), "copy": numbered(3)})
    assert [ax.get_ylabel() for ax in figure.axes] == ["original", "copy"]
    with pytest.raises(ValueError, match="rows: expected the same number"):
        show_rows({"a": numbered(3), "b": numbered(2)})


def test_spread_apart_moves_only_what_is_too_near():
    points = np.array([[0.0, 0.0], [0.0, 0.0], [0.5, 0.0], [9.0, 9.0]])
    places = spread_apart(points, distance=1.0)
    gaps = [np.linalg.norm(places[i] - places[j]) for i in range(4) for j in range(i)]
    assert min(gaps) > 0.99 and np.allclose(places[3], [9, 9], atol=1e-4)
    assert np.abs(places - points).max() < 1.2


def test_scatter_puts_each_digit_at_the_median_of_its_codes():
    from matplotlib.figure import Figure

    labels = torch.arange(10).repeat_interleave(3)
    codes = torch.stack([labels * 1.0, -labels * 2.0], dim=1)
    ax = Figure().subplots()
    scatter_codes(ax, codes, labels)
    places = {text.get_text(): text.get_position() for text in ax.texts}
    assert list(places) == [str(digit) for digit in range(10)]
    for digit in range(10):
        np.testing.assert_allclose(places[str(digit)], (digit, -2 * digit), atol=1e-4)
    with pytest.raises(ValueError, match=r"codes: expected shape \[N, 2\]"):
        scatter_codes(ax, torch.zeros(3, 3), labels[:3])


def test_history_plots_every_term():
    images = torch.zeros(20, 784)
    history = fit(Autoencoder(2), images, val=images, steps=30, batch_size=10)
    figure = history.plot()
    (ax,) = figure.axes
    assert ax.get_ylabel() == "squared error per image"
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), history.train["squared error"])
    np.testing.assert_array_equal(ax.lines[2].get_ydata(), history.val["squared error"])


MEAN = torch.tensor([[1.0, -2.0], [0.0, 5.0]])
STD = torch.tensor([[3.0, 0.5], [0.0, 2.0]])


@pytest.mark.parametrize("radius", [1.0, 2.5])
def test_every_point_of_an_outline_is_radius_standard_deviations_from_the_middle(radius):
    outlines = ellipse_outlines(MEAN, STD, radius=radius, points=360)
    assert outlines.shape == (2, 360, 2)
    first = outlines[0]
    np.testing.assert_allclose(((first - [1, -2]) / [3, 0.5] / radius) ** 2 @ [1, 1], 1)
    np.testing.assert_allclose(first.max(axis=0), [1 + 3 * radius, -2 + 0.5 * radius])
    np.testing.assert_allclose(first.min(axis=0), [1 - 3 * radius, -2 - 0.5 * radius])
    assert (outlines[1][:, 0] == 0).all()  # σ = 0: no width


def test_the_share_of_draws_inside_an_outline_is_the_one_stated():
    from matplotlib.path import Path

    draws = MEAN[0] + STD[0] * torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    for radius in (1.0, 2.0):
        (outline,) = ellipse_outlines(MEAN[:1], STD[:1], radius=radius, points=200)
        inside = Path(outline).contains_points(draws.numpy()).mean()
        expected = 1 - np.exp(-(radius**2) / 2)
        error = (expected * (1 - expected) / len(draws)) ** 0.5
        assert abs(inside - expected) < 5 * error + 1e-3  # the polygon lies inside the ellipse


def test_outlines_refuse_what_is_no_ellipse():
    with pytest.raises(ValueError, match=r"mean: expected shape \[N, 2\]"):
        ellipse_outlines(torch.zeros(3, 3), torch.ones(3, 3))
    with pytest.raises(ValueError, match="std: expected 2 rows like mean, got 1"):
        ellipse_outlines(MEAN, STD[:1])
    with pytest.raises(ValueError, match="std: expected standard deviations"):
        ellipse_outlines(MEAN, -STD)


def test_each_ellipse_has_the_colour_of_its_digit():
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    draw_ellipses(ax, MEAN, STD, torch.tensor([3, 8]), radius=2)
    lines = ax.collections[-1]
    np.testing.assert_allclose(
        lines.get_edgecolor(), [to_rgba(DIGIT_COLOURS[3]), to_rgba(DIGIT_COLOURS[8])]
    )
    for path, outline in zip(lines.get_paths(), ellipse_outlines(MEAN, STD, radius=2), strict=True):
        np.testing.assert_allclose(path.vertices[:-1], outline)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), MEAN)
    assert ax.get_aspect() == 1
