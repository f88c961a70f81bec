"""ColourDigits: the same bytes everywhere, every digit whole, somewhere, in its colours."""

import numpy as np
import pytest

from vae_book import colours
from vae_book.handwriting import sha256


@pytest.fixture(scope="module")
def drawn():
    return colours.render(300, 7)


def test_the_published_bytes():
    train, test = colours.dataset()
    assert sha256(train, test) == colours.SHA256
    assert train[0].shape == (12_000, 3, 32, 32) and test[0].shape == (1_000, 3, 32, 32)
    assert not train[0].flags.writeable
    assert not np.array_equal(train[0][:1000], test[0])


def test_the_first_pictures_do_not_depend_on_how_many_are_drawn(drawn):
    images, labels, factors = colours.render(70, 7)
    assert np.array_equal(images, drawn[0][:70]) and np.array_equal(labels, drawn[1][:70])
    for name, values in factors.items():
        assert np.array_equal(values, drawn[2][name][:70]), name
    assert not np.array_equal(images, colours.render(70, 8)[0])


def test_every_pixel_is_paper_ink_or_between(drawn):
    """The picture, taken apart again by its factors, is one image of ink in all three colours."""
    images, _, factors = drawn
    corners = images[:, :, [0, 0, -1, -1], [0, -1, 0, -1]] / 255
    low = np.minimum(factors["paper"], factors["other paper"])[..., None]
    high = np.maximum(factors["paper"], factors["other paper"])[..., None]
    assert ((corners > low - 0.003) & (corners < high + 0.003)).mean() > 0.95  # few have ink there
    brightest = images.max(axis=(2, 3)) / 255
    assert np.allclose(brightest, factors["ink"], atol=0.06)  # of a thin line perhaps not quite
    assert factors["ink"].min() >= 0.5 and high.max() <= 0.5


def test_the_background_goes_from_one_colour_to_the_other(drawn):
    images, _, factors = drawn
    far = np.abs(factors["paper"] - factors["other paper"]) > 0.3  # (n, 3), well apart
    reach = np.ptp(images[:, :, [0, 0, -1, -1], [0, -1, 0, -1]] / 255.0, axis=2)
    apart = np.abs(factors["paper"] - factors["other paper"])
    assert np.median(np.abs(reach - apart)[far]) < 0.01


def test_digits_are_whole_and_stand_everywhere(drawn):
    images, _, factors = drawn
    digits, _, _ = colours._HAND.render(300, 7)
    firsts = {"x": [], "y": []}
    for k, digit in enumerate(digits):
        for name, axis in (("x", 0), ("y", 1)):
            inked = np.flatnonzero((digit > 0).any(axis=axis)) + factors[name][k]
            assert inked.min() >= 0 and inked.max() < 32
            firsts[name].append((inked.min(), 31 - inked.max()))
    for name, ends in firsts.items():
        ends = np.array(ends)
        assert (ends == 0).any(axis=0).all(), name  # some touch either edge
        share = ends[:, 0] / ends.sum(axis=1).clip(1)
        assert abs(share.mean() - 0.5) < 0.06 and share.std() > 0.25
    # The ink is where the factors say: brighter than paper can be.
    k = int(np.argmin(np.abs(factors["ink"].min(axis=1) - 1)))
    bright = (images[k] > 160).all(axis=0)
    for ink, inside in ((60, True), (230, False)):
        placed = np.zeros((32, 32), dtype=bool)
        y, x = np.nonzero(digits[k] > ink)
        placed[y + factors["y"][k], x + factors["x"][k]] = True
        assert placed[bright].all() if inside else bright[placed].all()


@pytest.mark.parametrize(("n", "seed", "error"), [(0, 1, ValueError), (2.0, 1, TypeError)])
def test_what_cannot_be_drawn(n, seed, error):
    with pytest.raises(error, match="^n: "):
        colours.render(n, seed)
