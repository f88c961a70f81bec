"""The rate–distortion figure: where each point stands, how it is coloured, what it is called."""

import itertools
import math

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from vae_book.rate_distortion import (
    Point,
    colour_range,
    horizontal_places,
    label_of,
    plot_rate_distortion,
)

matplotlib.use("Agg")

POINTS = [
    Point("cheap", 2.0, 30.0, 100.0, 90.0),
    Point("dear", 40.0, 10.0, 400.0, 50.0),
    Point("far", 200.4, 9.0, 600.0, 55.0),
    Point("point", math.inf, 8.0, 650.0, 60.0),
]


def discs(figure):
    """Position and colour of what is drawn, ring and disc of the first point, of the second …"""
    found = figure.axes[0].collections
    return [(tuple(c.get_offsets()[0]), tuple(c.get_facecolor()[0])) for c in found]


def test_rates_on_the_scale_stand_where_they_are():
    places, off, end = horizontal_places([0.0, 60.0, 12.5], 60.0)
    assert places.tolist() == [0.0, 60.0, 12.5] and not off.any() and end == 60.0


def test_rates_off_the_scale_stand_beyond_it_in_their_order_none_on_another():
    places, off, end = horizontal_places([math.inf, 12.5, 61.0, 500.0, math.inf], 60.0)
    assert off.tolist() == [True, False, True, True, True]
    assert 60 < places[2] < places[3] < places[0] < places[4] < end
    assert min(np.diff(np.sort(places[off]))) > 2  # of 60 nats: a disc is about 2 wide


def test_only_a_rate_that_the_axis_does_not_show_is_written_out():
    assert [label_of(point, point.rate > 60) for point in POINTS] == [
        "cheap", "dear", "far: 200", "point: ∞",
    ]  # fmt: skip


def test_both_axes_and_both_distances_are_where_they_belong():
    figure = plot_rate_distortion(POINTS)
    drawn = discs(figure)
    (x, y), _ = drawn[2]
    assert (x, y) == (40.0, 10.0)
    assert figure.axes[0].get_xlabel().startswith("rate")
    assert figure.axes[0].get_ylabel().startswith("distortion")
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.LogNorm(50.0, 650.0), cmap="cividis")
    for i, point in enumerate(POINTS):
        ring, disc = drawn[2 * i][1], drawn[2 * i + 1][1]
        np.testing.assert_allclose(disc, scale.to_rgba(point.fd_prior))
        np.testing.assert_allclose(ring, scale.to_rgba(point.fd_fitted))


def test_colours_cover_every_distance_of_both_kinds():
    assert colour_range(POINTS) == (50.0, 650.0)
    low, high = colour_range([Point("a", 1.0, 1.0, 7.0, 7.0)])
    assert low < 7.0 < high


def test_the_strip_is_there_only_where_it_is_needed():
    def strip(points):
        return [text.get_text() for text in plot_rate_distortion(points).axes[0].texts]

    assert "off scale" in strip(POINTS)
    assert "off scale" not in strip(POINTS[:2])


def test_every_point_is_named_once_and_lies_within_the_axes():
    figure = plot_rate_distortion(POINTS)
    names = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(names) == sorted(["off scale", "cheap", "dear", "far: 200", "point: ∞"])
    (left, right), (bottom, top) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    for (x, y), _ in discs(figure):
        assert left < x < right and bottom < y < top


def test_a_worse_sample_is_brighter():
    drawn = discs(plot_rate_distortion(POINTS))
    brightness = [sum(to_rgba(drawn[2 * i + 1][1])[:3]) for i in (0, 1, 3)]  # FD 100, 400, 650
    assert brightness == sorted(brightness)


@pytest.mark.parametrize(
    ("field", "value"),
    [("rate", math.nan), ("rate", -1.0), ("distortion", math.inf), ("fd_prior", math.nan),
     ("fd_fitted", -0.1)],
)  # fmt: skip
def test_a_number_that_cannot_be_is_named(field, value):
    numbers = {"rate": 1.0, "distortion": 1.0, "fd_prior": 1.0, "fd_fitted": 1.0}
    with pytest.raises(ValueError, match=f"{field}: expected"):
        Point("a", **(numbers | {field: value}))


def test_points_without_a_name_of_their_own_are_refused():
    with pytest.raises(ValueError, match="points: expected"):
        plot_rate_distortion([])
    with pytest.raises(ValueError, match="points: expected"):
        plot_rate_distortion([POINTS[0], POINTS[0]])
    with pytest.raises(ValueError, match="rate_limit"):
        plot_rate_distortion(POINTS, rate_limit=0.0)
    with pytest.raises(ValueError, match=r"curve: expected names of points, got \['nobody'\]"):
        plot_rate_distortion(POINTS, curve=[POINTS[0].name, "nobody"])


def test_names_meet_neither_each_other_nor_a_point():
    places = [(10, 20), (12, 21), (24, 20), (26, 21)]  # at the corner of one is the next
    close = [Point(f"model {k}", x, y, 50, 40) for k, (x, y) in enumerate(places)]
    figure = plot_rate_distortion(close, curve=[point.name for point in close])
    figure.draw_without_rendering()
    ax = figure.axes[0]
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    middles = ax.transData.transform([(point.rate, point.distortion) for point in close])
    assert not any(box.contains(*middle) for box in boxes for middle in middles)
    line = next(line for line in ax.lines if len(line.get_xdata()) == 4)
    assert list(line.get_xdata()) == [point.rate for point in close]
