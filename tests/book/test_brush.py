"""BrushDigits: another pen than StrokeDigits', other hands, and digits that can be read.

What every drawn set has to do is tested in `test_strokes.py`.
"""

import numpy as np
import pytest
import torch

from vae_book import brush, strokes
from vae_book.frechet import digit_classifier

STILL = dict(slant=0, rotation=0, wobble=0, aspect=1, shift_x=0, shift_y=0, uneven=0, fade=0, ink=1)


@pytest.fixture(scope="module")
def test():
    return brush.dataset()[1]


def redraw(n=200, seed=11, **changes):
    """The same digits again with some factors set to a number."""
    labels, factors, noise = brush.HAND.describe(n, seed)
    for name, value in changes.items():
        factors[name] = np.full_like(factors[name], value)
    return brush.HAND.draw(labels, factors, noise) / 255


def straight(digit, style, **changes):
    """Images [N, 28, 28] of one style, drawn upright and large by a steady hand."""
    labels, factors, _ = brush.HAND.describe(400, 11)
    images = redraw(400, 11, **(STILL | {"scale": 20} | changes))
    images = images[(labels == digit) & (factors["style"] == style)]
    assert len(images) > 5
    return images


def stems(**changes):
    """Ones with a foot, whose stems are upright."""
    return straight(1, 2, **changes)


# ---------------------------------------------------------------------------- the pen


@pytest.mark.parametrize(("width", "flatness", "angle"), [(4, 2, 20), (4, 3.2, 50), (3, 1.5, 35)])
def test_the_lines_width_depends_on_its_direction(width, flatness, angle):
    # The nib is an edge with a thin round pen all along it: an upright line is as wide as the
    # edge's shadow on the ground, a level line as its shadow on a wall.
    pen = dict(nib_width=width, nib_flatness=flatness, nib_angle=angle)
    thin = width / flatness
    upright = stems(**pen)[:, 15].sum(1)
    assert np.allclose(upright, (width - thin) * np.cos(np.deg2rad(angle)) + thin, atol=0.15)
    level = straight(7, 2, **pen)[:, :12, 10].sum(1)  # the top of a plain 7, away from its leg
    assert np.allclose(level, (width - thin) * np.sin(np.deg2rad(angle)) + thin, atol=0.25)


def test_the_edge_rises_to_the_right():
    pen = dict(nib_angle=45, nib_width=4.5, nib_flatness=3)
    left, right = (stems(slant=s, **pen)[:, 15].sum(1) for s in (-0.5, 0.5))
    assert np.all(left > 1.5 * right)  # a line that leans as the edge does is thin


def test_width_adds_ink():
    narrow, wide = (redraw(nib_width=w, scale=20).sum((1, 2)) for w in (2.5, 5))
    assert np.all(wide > 1.3 * narrow)


# ---------------------------------------------------------------------------- the ink


def test_ink_is_the_lines_darkness():
    for ink in (0.6, 0.8, 1.0):
        images = redraw(ink=ink, fade=0, uneven=0, nib_width=5, nib_flatness=1.4)
        assert np.allclose(images.max((1, 2)), ink, atol=0.005)
    pale, dark = (redraw(ink=ink, fade=0, uneven=0) for ink in (0.6, 0.9))
    assert np.allclose(dark * 2 / 3, pale, atol=0.01)


def test_the_ink_fades_from_the_beginning_of_the_line_to_its_end():
    for fade in (0.1, 0.3):
        ratio = stems(fade=fade, nib_width=5) / np.maximum(stems(nib_width=5), 1e-9)
        inked = stems(nib_width=5) > 0.5
        assert np.allclose(ratio[inked].min(), 1 - fade, atol=0.02)
        assert ratio[inked].max() > 1 - 0.1 * fade
        middle = [ratio[:, row, 13].mean() for row in range(8, 19)]
        assert np.all(np.diff(middle) < 0)  # the stem is drawn downwards


def test_pressure_makes_the_line_wider_and_darker_at_once():
    labels, factors, noise = brush.HAND.describe(200, 11)
    for name, value in {"uneven": 0.25, "fade": 0, "ink": 0.7}.items():
        factors[name][:] = value
    images = {}
    for pressure in (0.0, 0.5, 1.0):  # as random numbers: least, medium, greatest
        noise[:, -brush._N_KNOTS :] = pressure
        images[pressure] = brush.HAND.draw(labels, factors, noise) / 255
    peaks = [np.median(images[p].max((1, 2))) for p in images]
    assert np.allclose(peaks, [0.7 * 0.75, 0.7, 0.7 * 1.25], rtol=0.03)
    area = [(x / x.max((1, 2), keepdims=True)).sum((1, 2)) for x in images.values()]
    assert np.median(area[1] / area[0]) > 1.05 and np.median(area[2] / area[1]) > 1.05


def test_an_even_pressure_needs_no_noise():
    labels, factors, noise = brush.HAND.describe(100, 4)
    factors["uneven"][:] = 0
    before = brush.HAND.draw(labels, factors, noise)
    noise[:, -brush._N_KNOTS :] = 0.9
    assert np.array_equal(brush.HAND.draw(labels, factors, noise), before)
    factors["uneven"][:] = 0.2
    assert not np.array_equal(brush.HAND.draw(labels, factors, noise), before)


# ---------------------------------------------------------------------------- place, size, shape


def centres(images):
    y, x = np.mgrid[:28, :28] - 13.5
    mass = images.sum((1, 2))
    return [(images * c).sum((1, 2)) / mass for c in (x, y)]


def test_shift_moves_the_ink():
    for axis, name in enumerate(("shift_x", "shift_y")):
        before, after = (centres(redraw(scale=15, **{name: s})) for s in (-1, 1))
        assert np.allclose(after[axis] - before[axis], 2, atol=0.2)
        assert np.allclose(after[1 - axis] - before[1 - axis], 0, atol=0.2)


def test_scale_is_the_longer_side_of_the_ink():
    _, factors, _ = brush.HAND.describe(200, 11)
    images = redraw(shift_x=0, shift_y=0, uneven=0, fade=0, ink=1)
    for image, scale in zip(images, factors["scale"], strict=True):
        sides = []
        for profile in (image.max(0), image.max(1)):
            inside = np.flatnonzero(profile >= 0.5)
            sides.append(inside[-1] - inside[0] + 1)
        assert abs(max(sides) - scale) < 2


def test_slant_leans_to_the_right():
    left, right = stems(slant=-0.3), stems(slant=0.5)
    columns = np.arange(28)
    for lean, images in ((-1, left), (1, right)):
        high, low = ((images[:, row] * columns).sum(1) / images[:, row].sum(1) for row in (9, 17))
        assert np.all(lean * (high - low) > 1)


def test_the_hands_and_ranges_are_other_ones():
    # No skeleton is one of StrokeDigits', and where both sets have a factor this one goes further.
    ours, theirs = (
        {text for styles in module._STYLES.values() for _, text in styles}
        for module in (brush, strokes)
    )
    assert not ours & theirs
    assert all(n >= 2 for n in brush.HAND.n_styles.values())
    for name in ("slant", "rotation", "scale", "shift_x", "shift_y"):
        a, b = brush.FACTORS[name], strokes.FACTORS[name]
        assert a.low < b.low and b.high < a.high, name
    assert (brush.FACTORS["ink"].low, brush.FACTORS["ink"].high) == (0.6, 1.0)


# ---------------------------------------------------------------------------- looks


def test_most_of_them_can_be_read(test):
    # By a classifier that was trained on MNIST and StrokeDigits and has never seen this pen.
    images, labels, _ = test
    right = (digit_classifier()(torch.tensor(images[:, None]) / 255).argmax(1)).numpy() == labels
    assert 0.9 < right.mean() < 0.98
    assert min(right[labels == digit].mean() for digit in range(10)) > 0.75


def test_paper_ink_and_edges(test):
    images = test[0]
    assert images.min() == 0 and images.max() == 255
    assert (images == 0).mean() > 0.75
    assert 0.07 < images.mean() / 255 < 0.12  # paler than MNIST's 0.131
    edges = np.concatenate([images[:, [0, -1]].reshape(-1), images[:, :, [0, -1]].reshape(-1)])
    assert (edges > 0).mean() < 0.003
    assert images.max((1, 2)).min() > 0.4 * 255
