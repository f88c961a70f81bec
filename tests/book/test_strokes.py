"""StrokeDigits: the same bytes everywhere, and factors that do what they say.

What holds for every drawn set (`digits`) is tested on BrushDigits too; `test_brush.py` has its
rest.
"""

import hashlib

import numpy as np
import pytest
import torch

from vae_book import brush, handwriting, strokes
from vae_book.frechet import digit_classifier


@pytest.fixture(params=[strokes, brush], ids=["strokes", "brush"])
def digits(request):
    return request.param


@pytest.fixture(scope="module")
def train():
    return strokes.dataset()[0]


@pytest.fixture(scope="module")
def test():
    return strokes.dataset()[1]


# ---------------------------------------------------------------------------- bytes


# Written out here as well, so that neither the constants nor the data can change unnoticed.
SHA256 = {
    strokes: "4bd9820d9bde8b2d10c06202439db5cb4c671581643670cf903bec8d22d2e508",
    brush: "2f33c08354dde91c5f57207b288150b80b558f00a3fe75f3e08740ce308d5285",
}


def test_the_bytes_are_the_committed_ones(digits):
    digest = hashlib.sha256()
    for images, labels, _ in digits.dataset():
        digest.update(images.tobytes())
        digest.update(labels.astype(np.uint8).tobytes())
    assert digest.hexdigest() == digits.SHA256 == SHA256[digits]


def test_other_bytes_are_an_error(digits, monkeypatch):
    monkeypatch.setattr(digits, "SHA256", "0" * 64)
    monkeypatch.setattr(digits, "N_TRAIN", 20)
    monkeypatch.setattr(digits, "N_TEST", 10)
    name = digits.__name__.removeprefix("vae_book.")
    with pytest.raises(
        RuntimeError, match=rf"^{name}: expected images with sha256 0{{64}}, got \w+"
    ):
        digits.dataset.__wrapped__()


def test_shapes_types_and_read_only(digits):
    for (images, labels, factors), n in zip(digits.dataset(), (20_000, 4_000), strict=True):
        assert images.shape == (n, 28, 28) and images.dtype == np.uint8
        assert labels.shape == (n,) and labels.dtype == np.int64
        assert set(factors) == {"style", *digits.FACTORS}
        for name, values in factors.items():
            assert values.shape == (n,)
            assert values.dtype == (np.int64 if name == "style" else np.float64)
        with pytest.raises(ValueError, match="read-only"):
            images[0] = 0


def test_a_seed_gives_the_same_digits_however_many(digits):
    train = digits.dataset()[0]
    images, labels, factors = digits.HAND.render(333, digits.SEED_TRAIN)
    assert np.array_equal(images, train[0][:333])
    assert np.array_equal(labels, train[1][:333])
    assert all(np.array_equal(values, train[2][name][:333]) for name, values in factors.items())


def test_another_seed_gives_other_digits(digits):
    a, b = digits.HAND.render(50, 7), digits.HAND.render(50, 8)
    assert not np.array_equal(a[1], b[1])
    assert not (set(map(bytes, a[0])) & set(map(bytes, b[0])))


def test_training_and_test_digits_differ(digits):
    train, test = digits.dataset()
    assert not (set(map(bytes, train[0])) & set(map(bytes, test[0])))


def test_the_size_of_the_chunks_changes_nothing(digits, monkeypatch):
    expected = digits.HAND.render(300, 5)[0]
    monkeypatch.setattr(handwriting, "CHUNK", 7)
    assert np.array_equal(digits.HAND.render(300, 5)[0], expected)


# ---------------------------------------------------------------------------- labels and factors


def test_labels_are_balanced(digits):
    train, test = digits.dataset()
    assert np.bincount(train[1]).tolist() == [2_000] * 10
    assert np.bincount(train[1][-2_000:]).tolist() == [200] * 10  # the validation part
    assert np.bincount(test[1]).tolist() == [400] * 10
    counts = np.bincount(digits.HAND.render(37, 3)[1], minlength=10)
    assert set(counts.tolist()) == {3, 4}


def test_labels_are_in_no_order(digits):
    train = digits.dataset()[0]
    after_a_three = train[1][1:][train[1][:-1] == 3]
    assert np.bincount(after_a_three, minlength=10)[[0, 1, 2, 4, 5, 6, 7, 8, 9]].min() > 100


def test_factors_are_uniform_over_their_ranges(digits):
    train = digits.dataset()[0]
    for name, (unit, low, high, meaning) in digits.FACTORS.items():
        values = train[2][name]
        assert unit and meaning
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        share = np.histogram(values, bins=10, range=(low, high))[0] / len(values)
        assert np.abs(share - 0.1).max() < 0.01, name


def test_factors_are_independent_of_each_other_and_of_the_label(digits):
    train = digits.dataset()[0]
    table = np.stack([train[1] == d for d in range(1, 10)] + [train[2][n] for n in digits.FACTORS])
    correlations = np.corrcoef(table.astype(float))
    np.fill_diagonal(correlations, 0)
    assert np.abs(correlations[9:]).max() < 0.03


def test_every_style_occurs(digits):
    train = digits.dataset()[0]
    for digit, n_styles in digits.HAND.n_styles.items():
        counts = np.bincount(train[2]["style"][train[1] == digit], minlength=n_styles)
        assert len(counts) == n_styles and counts.min() > 150
    assert sum(n > 1 for n in digits.HAND.n_styles.values()) >= 6


# ---------------------------------------------------------------------------- effects of factors


def redraw(n=200, seed=11, **changes):
    """The same digits again with some factors set to a number (or by a function of the factors)."""
    labels, factors, noise = strokes.HAND.describe(n, seed)
    for name, value in changes.items():
        factors[name] = np.full_like(factors[name], value)
    return strokes.HAND.draw(labels, factors, noise).astype(float) / 255


def moments(images):
    """Mass, centre (x, y) and second moments (xx, xy, yy) of each image."""
    y, x = np.mgrid[:28, :28] - 13.5
    mass = images.sum((1, 2))
    cx, cy = ((images * c).sum((1, 2)) / mass for c in (x, y))
    dx, dy = x - cx[:, None, None], y - cy[:, None, None]
    return mass, (cx, cy), [(images * m).sum((1, 2)) / mass for m in (dx * dx, dx * dy, dy * dy)]


def test_shift_moves_the_ink():
    for axis, name in enumerate(("shift_x", "shift_y")):  # of digits that stay clear of the edge
        before, after = (moments(redraw(scale=16, **{name: s}))[1] for s in (-0.7, 0.8))
        assert np.allclose(after[axis] - before[axis], 1.5, atol=0.2)
        assert np.allclose(after[1 - axis] - before[1 - axis], 0, atol=0.2)


def test_digits_are_centred_by_mass(train):
    images, _, factors = train
    _, (x, y), _ = moments(images[:2000] / 255)
    for found, name in ((x, "shift_x"), (y, "shift_y")):
        error = found - factors[name][:2000]
        assert np.abs(error).mean() < 0.3  # the line's centre against the ink's: crossings
        assert np.abs(error).max() < 1.5


def test_thickness_adds_ink_in_proportion():
    thin, thick = (moments(redraw(thickness=t, scale=19))[0] for t in (1.7, 3.4))
    assert 1.6 < np.median(thick / thin) < 2.05
    assert np.all(thick > 1.3 * thin)


def test_thickness_is_a_width_in_pixels(train):
    # Ink across the upright stem of a plain 1, in the middle rows.
    labels, factors, noise = strokes.HAND.describe(400, 11)
    for name in ("slant", "rotation", "wobble"):
        factors[name][:] = 0
    ones = (labels == 1) & (factors["style"] == 0)
    across = (strokes.HAND.draw(labels, factors, noise)[ones] / 255)[:, 13].sum(1)
    assert np.allclose(across, factors["thickness"][ones], atol=0.1)


def test_slant_shears_to_the_right():
    # Shearing by s px per px up takes the moment xy to xy − s·yy.
    for before, after in ((0.0, 0.3), (0.1, 0.5)):
        a, b = (moments(redraw(rotation=0, slant=s, thickness=1.5))[2] for s in (before, after))
        measured = -(b[1] / b[2] - a[1] / a[2]) / (after - before)
        assert np.allclose(measured, 1, atol=0.3)  # not quite 1: the pen itself is not sheared
        assert abs(np.median(measured) - 1) < 0.08


def test_slant_and_thickness_show_in_the_images_as_they_are(train):
    images, labels, factors = (train[0][:2000], train[1][:2000], train[2])
    _, _, (_, xy, yy) = moments(images / 255)
    for digit in range(10):
        mine = np.flatnonzero(labels == digit)
        assert np.corrcoef(-xy[mine] / yy[mine], factors["slant"][mine])[0, 1] > 0.5, digit
        ink, thickness = images[mine].mean((1, 2)), factors["thickness"][mine]
        assert np.corrcoef(ink, thickness)[0, 1] > 0.7, digit


def test_rotation_turns_clockwise():
    labels, _, _ = strokes.HAND.describe(200, 11)
    ones = labels == 1
    for degrees in (-10, 6):
        a, b = (moments(redraw(rotation=r, slant=0, wobble=0)[ones])[2] for r in (0, degrees))
        # y grows downwards: the angle of the long axis from the vertical, clockwise.
        turns = [np.rad2deg(0.5 * np.arctan2(-2 * xy, yy - xx)) for xx, xy, yy in (a, b)]
        assert np.allclose(turns[1] - turns[0], degrees, atol=1.0)
        assert abs(np.median(turns[1] - turns[0]) - degrees) < 0.2


def test_scale_is_the_longer_side_of_the_ink():
    images = redraw(shift_x=0, shift_y=0)
    labels, factors, _ = strokes.HAND.describe(200, 11)
    for image, scale in zip(images, factors["scale"], strict=True):
        # Where the ink falls to one half, to a fraction of a pixel, along each side.
        sides = []
        for profile in (image.max(0), image.max(1)):
            inside = np.flatnonzero(profile >= 0.5)
            sides.append(inside[-1] - inside[0] + 1)
        assert abs(max(sides) - scale) < 1.2


def test_aspect_stretches_the_width():
    neutral = dict(slant=0, rotation=0, wobble=0, thickness=2)
    narrow, wide = (moments(redraw(aspect=a, **neutral))[2] for a in (0.85, 1.2))
    ratio = np.sqrt((wide[0] / wide[2]) / (narrow[0] / narrow[2]))
    zeros = strokes.HAND.describe(200, 11)[0] == 0
    assert np.allclose(ratio[zeros], 1.2 / 0.85, rtol=0.1)
    assert np.all(ratio > 1)


def test_wobble_is_all_that_is_left_between_two_writings_of_a_digit():
    labels, factors, _ = strokes.HAND.describe(300, 2)
    fixed = {name: (f.low + f.high) / 2 for name, f in strokes.FACTORS.items() if name != "wobble"}
    still = redraw(300, 2, wobble=0, **fixed)
    little, much = (redraw(300, 2, wobble=w, **fixed) for w in (0.02, 0.06))
    for digit, n_styles in strokes.HAND.n_styles.items():
        for style in range(n_styles):
            mine = (labels == digit) & (factors["style"] == style)
            assert mine.sum() > 1 and np.ptp(still[mine], axis=0).max() == 0
    distance = [np.sqrt(((x - still) ** 2).mean((1, 2))) for x in (little, much)]
    assert distance[0].min() > 0 and np.median(distance[1] / distance[0]) > 1.5


def test_styles_of_a_digit_differ(digits):
    fixed = {name: (f.low + f.high) / 2 for name, f in digits.FACTORS.items()} | {"wobble": 0}
    labels = np.concatenate([[d] * k for d, k in digits.HAND.n_styles.items()])
    style = np.concatenate([np.arange(k) for k in digits.HAND.n_styles.values()])
    factors = {name: np.full(len(labels), float(value)) for name, value in fixed.items()}
    noise = np.full((len(labels), digits.HAND.describe(1, 0)[2].shape[1]), 0.5)
    images = digits.HAND.draw(labels, factors | {"style": style}, noise) / 255
    distance = np.sqrt(((images[:, None] - images) ** 2).mean((2, 3)))
    np.fill_diagonal(distance, 1)
    assert distance.min() > 0.05


# ---------------------------------------------------------------------------- looks, difficulty


def test_the_pen_is_soft_and_the_ink_like_mnists(train):
    images, labels, _ = train
    assert images.min() == 0 and images.max() == 255
    assert 0.11 < images.mean() / 255 < 0.15  # MNIST 0.131
    assert 0.08 < ((images > 0) & (images < 250)).mean() < 0.16  # 0.118: soft edges, no more
    assert (images == 0).mean() > 0.7
    edges = np.concatenate([images[:, [0, -1]].reshape(-1), images[:, :, [0, -1]].reshape(-1)])
    assert (edges > 0).mean() < 0.003
    by_digit = [images[labels == d].mean() for d in range(10)]
    assert np.argmin(by_digit) == 1


def test_a_small_cnn_reads_them_and_a_linear_classifier_does_not_quite(train, test):
    images, labels, _ = test
    logits = digit_classifier()(torch.tensor(images[:1000, None]) / 255)
    assert (logits.argmax(dim=1).numpy() == labels[:1000]).mean() > 0.97

    def rows(images):
        return np.insert(images.reshape(len(images), -1) / 255, 0, 1.0, axis=1)

    x, y = rows(train[0][:4000]), np.eye(10)[train[1][:4000]]
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(785), x.T @ y)  # ridge regression
    assert 0.8 < ((rows(images) @ weights).argmax(axis=1) == labels).mean() < 0.95


# ---------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "n, seed, error, message",
    [
        (0, 0, ValueError, "n: expected an integer of at least 1, got 0"),
        (-3, 0, ValueError, "n: expected an integer of at least 1, got -3"),
        (2.0, 0, TypeError, "n: expected an integer, got 2.0"),
        (True, 0, TypeError, "n: expected an integer, got True"),
        (10, -1, ValueError, "seed: expected an integer of at least 0, got -1"),
        (10, None, TypeError, "seed: expected an integer, got None"),
    ],
)
def test_bad_input(digits, n, seed, error, message):
    with pytest.raises(error) as caught:
        digits.HAND.render(n, seed)
    assert str(caught.value) == message
