"""Black-and-white images drawn from grey ones: the right chances, and drawn once where once is
meant."""

import pytest
import torch

from vae_core import ImageData, Split, binarise


def every_level(n: int) -> torch.Tensor:
    """n images of 256 pixels, in which pixel i has the grey level i."""
    return torch.arange(256).to(torch.uint8).repeat(n, 1)


def split(n: int, first_label: int = 0) -> Split:
    """n images with all grey levels, labels, and one factor."""
    labels = torch.arange(first_label, first_label + n)
    images = torch.arange(784).remainder(256).to(torch.uint8).reshape(28, 28).repeat(n, 1, 1)
    return Split(images, labels, {"slant": labels / 10})


@pytest.fixture
def data() -> ImageData:
    return ImageData("levels", split(30), split(20, 100), split(20, 200))


def black_and_white(images: torch.Tensor) -> bool:
    return images.dtype == torch.uint8 and set(images.unique().tolist()) <= {0, 255}


@pytest.mark.parametrize("as_floats", [False, True])
def test_a_pixel_is_ink_with_its_grey_value_as_the_probability(as_floats):
    n, p = 20_000, torch.arange(256).double() / 255
    images = every_level(n)
    images = images.float() / 255 if as_floats else images
    drawn = binarise(images, torch.Generator().manual_seed(0))
    assert drawn.dtype == images.dtype and drawn.shape == images.shape
    ink = drawn.double().mean(dim=0) / (1 if as_floats else 255)
    assert ((ink - p).abs() <= 5 * (p * (1 - p) / n).sqrt()).all()
    assert ink[0] == 0 and ink[-1] == 1  # never, and always


def test_pixels_are_drawn_independently_of_each_other():
    images = torch.full((20_000, 4), 128, dtype=torch.uint8)
    drawn = binarise(images, torch.Generator().manual_seed(0)).double() / 255
    correlations = torch.corrcoef(drawn.T) - torch.eye(4)
    assert correlations.abs().max() < 5 / 20_000**0.5


def test_black_and_white_images_stay_as_they_are():
    images = torch.tensor([[0, 255, 0, 255]], dtype=torch.uint8).repeat(500, 1)
    assert torch.equal(binarise(images), images)
    assert torch.equal(binarise(images.float() / 255), images.float() / 255)


def test_fixed_draws_every_part_once(data):
    fixed = data.binarised("fixed")
    assert fixed.binarisation == "fixed" and data.binarisation == "grey"
    assert all(black_and_white(part.images) for part in (fixed.train, fixed.val, fixed.test))


def test_redrawn_leaves_the_training_images_grey_and_draws_the_others_once(data):
    redrawn = data.binarised("redrawn")
    assert redrawn.binarisation == "redrawn"
    assert torch.equal(redrawn.train.images, data.train.images)
    assert black_and_white(redrawn.val.images) and black_and_white(redrawn.test.images)


@pytest.mark.parametrize("how", ["fixed", "redrawn"])
def test_each_part_keeps_its_own_labels_and_factors(data, how):
    drawn = data.binarised(how)
    for part in ("train", "val", "test"):
        before, after = getattr(data, part), getattr(drawn, part)
        assert after.images.shape == before.images.shape
        assert torch.equal(after.labels, before.labels)
        assert torch.equal(after.factors["slant"], before.factors["slant"])


def test_each_image_is_drawn_from_itself():
    """Every image has a white row of its own; after the draw it still has it."""
    images = torch.zeros(28, 28, 28, dtype=torch.uint8)
    images[torch.arange(28), torch.arange(28)] = 255
    parts = [Split(images.roll(shift, 0), torch.arange(28)) for shift in (0, 1, 2)]
    drawn = ImageData("rows", *parts).binarised("fixed")
    for before, after in zip(parts, (drawn.train, drawn.val, drawn.test), strict=True):
        assert torch.equal(after.images, before.images)


@pytest.mark.parametrize("how", ["fixed", "redrawn"])
def test_the_test_images_are_the_same_at_each_call_whatever_else_draws_numbers(data, how):
    first = data.binarised(how)
    torch.rand(3)
    state = torch.get_rng_state()
    again = data.binarised(how)
    assert torch.equal(torch.get_rng_state(), state)
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(first, part).images, getattr(again, part).images)


def test_fixed_and_redrawn_have_the_same_test_images(data):
    """So that two models, one of each kind, can be compared on them."""
    fixed, redrawn = data.binarised("fixed"), data.binarised("redrawn")
    assert torch.equal(fixed.test.images, redrawn.test.images)


def test_another_seed_is_another_draw_and_so_is_another_part(data):
    drawn = [data.binarised("fixed", seed=seed) for seed in range(4)]
    draws = [getattr(d, part).images[:20] for d in drawn for part in ("train", "val", "test")]
    for i, one in enumerate(draws):
        assert not any(torch.equal(one, other) for other in draws[:i])


@pytest.mark.parametrize("how", ["dynamic", "grey", "", None])
def test_an_unknown_way_to_binarise(data, how):
    with pytest.raises(ValueError, match="how: expected 'fixed' or 'redrawn', got"):
        data.binarised(how)


@pytest.mark.parametrize("how", ["fixed", "redrawn"])
def test_nothing_is_binarised_twice(data, how):
    with pytest.raises(ValueError, match=f"how: expected grey images to binarise, got {how}"):
        data.binarised(how).binarised("fixed")


def test_parts_that_are_one_object_are_told_apart_by_their_position():
    part = split(30)
    redrawn = ImageData("one", part, part, part).binarised("redrawn")
    assert torch.equal(redrawn.train.images, part.images)
    assert black_and_white(redrawn.val.images) and black_and_white(redrawn.test.images)
    assert not torch.equal(redrawn.val.images, redrawn.test.images)


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        ([[0.0, 0.5]], TypeError, "images: expected a tensor of images"),
        (torch.zeros(2, 4, dtype=torch.int64), TypeError, "images: expected uint8 values"),
        (torch.zeros(2, 4, dtype=torch.bool), TypeError, "images: expected uint8 values"),
        (torch.full((2, 4), 200.0), ValueError, r"images: expected float values in \[0, 1\].*255"),
        (torch.full((2, 4), -0.1), ValueError, r"images: expected float values in \[0, 1\]"),
        (torch.full((2, 4), torch.nan), ValueError, "images: expected finite values"),
    ],
)
def test_only_pixel_values_can_be_drawn(images, error, words):
    with pytest.raises(error, match=words):
        binarise(images)


@pytest.mark.parametrize(
    ("seed", "error"),
    [(-1, ValueError), (2**63, ValueError), (1.0, TypeError), (True, TypeError), ("1", TypeError)],
)
def test_bad_seeds(data, seed, error):
    with pytest.raises(error, match="seed: expected an integer"):
        data.binarised("fixed", seed=seed)


def test_the_largest_seed(data):
    fixed = data.binarised("fixed", seed=2**63 - 1)
    assert black_and_white(fixed.test.images)
    assert not torch.equal(fixed.test.images, data.binarised("fixed").test.images)
