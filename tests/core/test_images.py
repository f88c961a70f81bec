"""Images become pixel values in one place: what is taken, what is refused, and what is drawn."""

import warnings

import numpy as np
import pytest
import torch

from small import small_images
from vae_core import as_pixels, binarise
from vae_core.images import check_images, draw_binary, is_binary

LEVELS = torch.arange(256, dtype=torch.uint8)


def test_bytes_are_divided_by_255():
    pixels = as_pixels(LEVELS.reshape(4, 8, 8))
    assert pixels.shape == (4, 64) and pixels.dtype == torch.float32
    assert torch.equal(pixels.flatten(), LEVELS.float() / 255)
    assert pixels.min() == 0 and pixels.max() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_accepted_form_gives_the_same_pixels(dtype):
    grey = small_images(5, binary=False, shape=(3, 4, 2))
    floats = grey.double() / 255
    expected = floats.reshape(5, 24).to(dtype)
    fortran = np.asfortranarray(grey.numpy())
    forms = [grey, grey.flatten(1), grey.numpy(), fortran, fortran[::-1][::-1]]
    forms += [floats, floats.numpy(), floats.numpy().astype(">f8").astype("f8")]
    for form in forms:
        got = as_pixels(form, dtype=dtype, n_pixels=24)
        assert got.dtype == dtype and got.shape == (5, 24)
        torch.testing.assert_close(got, expected, rtol=0, atol=torch.finfo(dtype).eps)


def test_floats_stay_as_they_are_to_the_last_bit():
    values = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(as_pixels(values), values)
    assert torch.equal(as_pixels(values.double(), dtype=torch.float64), values.double())


def test_the_type_is_that_of_the_default_unless_it_is_said(monkeypatch):
    torch.set_default_dtype(torch.float64)
    try:
        assert as_pixels(small_images(2)).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert as_pixels(small_images(2)).dtype == torch.float32


def test_checked_images_are_the_images():
    """Not a copy, for they may fill the memory; NumPy's are looked at where they are."""
    images = small_images()
    assert check_images(images) is images
    array = images.numpy()
    assert check_images(array).data_ptr() == images.data_ptr()


def test_no_images_are_images_too():
    assert as_pixels(torch.zeros(0, 4, 4)).shape == (0, 16)


def test_images_that_may_not_be_written_are_read_without_a_warning():
    """np.frombuffer gives such arrays, and np.load with mmap_mode="r"."""
    array = np.frombuffer(bytes(range(256)), np.uint8).reshape(16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(as_pixels(array), LEVELS.reshape(16, 16) / 255)


@pytest.mark.parametrize("off", [-1e-7, 1e-7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rounding_of_an_average_is_no_error(off, dtype):
    images = torch.tensor([[0.0, 1.0]], dtype=dtype) + off
    assert torch.equal(as_pixels(images, dtype=dtype), images)
    assert check_images(images.numpy()).dtype == dtype


def test_an_average_of_grey_images_in_float32_is_taken():
    """Its brightest pixel comes out above 1."""
    thirds = torch.ones(2, 4) / 3 + torch.ones(2, 4) / 3 * 1.0000003 + torch.ones(2, 4) / 3
    assert thirds.max() > 1
    assert as_pixels(thirds).shape == (2, 4)


NUMBERS = "expected images as uint8 values 0 to 255 or float values"


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        ([[7.25, 7.5]], TypeError, f"{NUMBERS}.*, got a list of length 1$"),
        ([], TypeError, "got a list of length 0$"),
        (None, TypeError, r"got None \(NoneType\)$"),
        (np.array([[7.25], ["x"]], dtype=object), TypeError, r"object array of shape \(2, 1\)$"),
        (np.array([["7.25"]]), TypeError, r"<U4 array of shape \(1, 1\)$"),
        (np.full((2, 3), 7), TypeError, rf"{NUMBERS}.*, got an int64 .* of shape \(2, 3\)$"),
        (np.full((2, 3), 7.25, ">f4"), TypeError, r"got a >f4 array of shape \(2, 3\)$"),
        (np.full((2, 3), 7, np.uint16), TypeError, r"got a uint16 .* of shape \(2, 3\)$"),
        (np.full((2, 3), 7.25j), TypeError, r"got a complex128 .* of shape \(2, 3\)$"),
        (torch.full((2, 3), 7), TypeError, r"got an int64 tensor of shape \(2, 3\)$"),
        (torch.ones(2, 3, dtype=torch.bool), TypeError, r"got a bool tensor of shape \(2, 3\)$"),
        (torch.tensor(0.725), ValueError, r"expected shape \[N, …\], .* of shape \(\)$"),
        (torch.full((3,), 0.725), ValueError, r"expected shape \[N, …\], .* of shape \(3,\)$"),
        (np.full(3, 0.725), ValueError, r"expected shape \[N, …\], .* of shape \(3,\)$"),
        (torch.full((2, 3), torch.nan), ValueError, "expected finite values, got NaN or infinity$"),
        (torch.full((2, 3), torch.inf), ValueError, "expected finite values, got NaN or infinity$"),
        (np.full((2, 3), -np.inf), ValueError, "expected finite values, got NaN or infinity$"),
        (LEVELS[None].float(), ValueError, r"from 0 to 255 \(divide by 255\?\)$"),
        (LEVELS[None, :3].double().numpy(), ValueError, r"from 0 to 2 \(divide by 255\?\)$"),
        (torch.full((2, 3), 256.0), ValueError, r"\[0, 1\], got values from 256 to 256$"),
        (torch.tensor([[-1.0, 1.0]]), ValueError, r"\[0, 1\], got values from -1 to 1$"),
        (torch.tensor([[0, 1 + 1e-5]]), ValueError, r"\[0, 1\], got values from 0 to 1.00001 "),
        (torch.tensor([[0, -1e-5]]), ValueError, r"\[0, 1\], got values from -1e-05 to 0$"),
    ],
)
@pytest.mark.parametrize("use", [check_images, as_pixels, binarise])
def test_what_is_refused_is_told_by_its_type_and_shape_and_never_by_its_contents(
    use, images, error, words
):
    with pytest.raises(error, match=f"^images: .*{words}") as caught:
        use(images)
    assert "7.25" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -0.1, 1.1])
@pytest.mark.parametrize("place", [0, 57, 99])
def test_one_bad_pixel_is_enough(bad, place):
    images = torch.full((10, 10), 0.5)
    images.view(-1)[place] = bad
    with pytest.raises(ValueError, match="^x: expected"):
        check_images(images, name="x")


@pytest.mark.parametrize("shape", [(5, 15), (5, 17), (5, 4, 5), (16, 5)])
def test_the_number_of_pixels_is_checked_and_the_argument_named(shape):
    with pytest.raises(ValueError, match=r"^val: expected shape \[N, …\] with 16 pixels an image"):
        check_images(torch.zeros(shape), n_pixels=16, name="val")
    check_images(torch.zeros(5, 2, 4, 2), n_pixels=16)


def test_standardised_images_may_have_any_finite_values():
    images = torch.tensor([[-3.0, 300.0]])
    assert torch.equal(as_pixels(images, unit_interval=False), images)
    with pytest.raises(ValueError, match="expected finite values"):
        as_pixels(images / 0, unit_interval=False)


# Black and white from grey


@pytest.mark.parametrize("as_floats", [False, True])
def test_a_pixel_is_ink_with_its_grey_value_as_the_probability(as_floats):
    n, p = 5000, LEVELS.double() / 255
    images = LEVELS.repeat(n, 1)
    images = images.float() / 255 if as_floats else images
    drawn = binarise(images, torch.Generator().manual_seed(0))
    assert drawn.dtype == images.dtype and drawn.shape == images.shape and is_binary(drawn)
    ink = drawn.double().mean(dim=0) / (1 if as_floats else 255)
    assert ((ink - p).abs() <= 5 * (p * (1 - p) / n).sqrt()).all()
    assert ink[0] == 0 and ink[-1] == 1  # never, and always


def test_bytes_are_drawn_with_their_255th_part_as_the_probability():
    """Each grey value by itself, and all at once: a 256th part would be seen there."""
    n, p = 40_000, LEVELS.double() / 255
    ink = draw_binary(LEVELS.repeat(n, 1), torch.Generator().manual_seed(0))
    assert ink.dtype == torch.uint8 and ink.shape == (n, 256) and ink.max() == 1
    error = (ink.double().mean(dim=0) - p) / (p * (1 - p) / n).sqrt()
    assert ink[:, 0].max() == 0 and ink[:, -1].min() == 1  # never, and always
    assert error[1:-1].abs().max() < 5
    total = ink.double().mean() - p.mean()
    assert total.abs() < 5 * ((p * (1 - p)).sum() / n).sqrt() / 256 < 0.001 < (p / 256).mean()


def test_a_byte_is_ink_for_257_times_its_value_of_all_draws_of_two_bytes(monkeypatch):
    """Every draw once: 257 x of 65,536 are x/255 of them, and for 255 it is all."""
    draws = torch.arange(65_536)
    both = torch.cat([draws // 256, draws % 256, torch.zeros(8)]).to(torch.uint8)

    def every_draw(bits, *limits, generator):
        assert limits == (-(2**63), None) and bits.dtype == torch.int64
        return bits.copy_(both.view(torch.int64))

    monkeypatch.setattr(torch.Tensor, "random_", every_draw)
    for level in range(256):
        ink = draw_binary(torch.full((65_536, 1), level, dtype=torch.uint8))
        assert ink.sum(dtype=torch.int64) == (65_536 if level == 255 else 257 * level)


@pytest.mark.parametrize("shape", [(0, 4, 4), (1, 1), (1, 3), (3, 5), (2, 3, 4, 5)])
def test_any_number_of_pixels_can_be_drawn(shape):
    """The 64 bits of a draw are for four pixels, and here some are left over."""
    ink = draw_binary(torch.full(shape, 255, dtype=torch.uint8))
    assert ink.shape == shape and ink.all()
    assert not draw_binary(torch.zeros(shape, dtype=torch.uint8)).any()
    across = small_images(6, binary=False, shape=(4, 3)).transpose(1, 2)  # not as in memory
    noise = [torch.Generator().manual_seed(3) for _ in range(2)]
    assert torch.equal(draw_binary(across, noise[0]), draw_binary(across.contiguous(), noise[1]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_bytes_are_drawn_with_the_same_probability_on_the_gpu():
    n, p = 40_000, LEVELS.double() / 255
    noise = torch.Generator("cuda").manual_seed(0)
    ink = draw_binary(LEVELS.repeat(n, 1).cuda(), noise).cpu()
    error = (ink.double().mean(dim=0) - p) / (p * (1 - p) / n).sqrt()
    assert ink.dtype == torch.uint8 and error[1:-1].abs().max() < 5
    assert ink[:, 0].max() == 0 and ink[:, -1].min() == 1
    total = ink.double().mean() - p.mean()
    assert total.abs() < 5 * ((p * (1 - p)).sum() / n).sqrt() / 256


def test_pixels_are_drawn_independently_of_each_other():
    images = torch.full((20_000, 4), 128, dtype=torch.uint8)
    drawn = binarise(images, torch.Generator().manual_seed(0)).double() / 255
    correlations = torch.corrcoef(drawn.T) - torch.eye(4)
    assert correlations.abs().max() < 5 / 20_000**0.5


def test_black_and_white_images_stay_as_they_are():
    images = torch.tensor([[0, 255, 0, 255]], dtype=torch.uint8).repeat(500, 1)
    for each in (images, images / 255):
        before = each.clone()
        assert torch.equal(binarise(each), before) and torch.equal(each, before)


def test_arrays_are_drawn_as_tensors_are_and_stay_as_they_were():
    grey = small_images(binary=False)
    before = grey.clone()
    drawn = [binarise(each, torch.Generator().manual_seed(3)) for each in (grey, grey.numpy())]
    assert torch.equal(*drawn) and torch.equal(grey, before)
    ink = draw_binary(grey, torch.Generator().manual_seed(3))
    assert torch.equal(drawn[0], 255 * ink) and drawn[0].dtype == ink.dtype == torch.uint8


def test_without_a_generator_the_draw_is_that_of_the_global_numbers():
    grey = small_images(binary=False)
    torch.manual_seed(5)
    first, second = binarise(grey), binarise(grey)
    torch.manual_seed(5)
    assert torch.equal(first, binarise(grey)) and not torch.equal(first, second)


@pytest.mark.parametrize("as_floats", [False, True])
def test_one_grey_pixel_makes_images_grey(as_floats):
    images = small_images()
    images = images / 255 if as_floats else images
    assert is_binary(images)
    images[-1, -1, -1] = 0.5 if as_floats else 1
    assert not is_binary(images)
