"""Which image stands where: pictures aren't compared by nbval, so their arrays are."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.path import Path

from vae_book.figures import (
    DIGIT_COLOURS,
    decoded_plane,
    draw_ellipses,
    draw_plane,
    ellipse_outlines,
    scatter_codes,
    show_grids,
    show_rows,
    spread_apart,
    tile,
)
from vae_book.models import LinearAutoencoder

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
            image = canvas[top : top + 28, left : left + 28]
            assert image[0, 27] == 1 and max(image[27, 0], image[0, 0], image[27, 27]) < 1


def test_gap_is_paper():
    canvas = tile(torch.ones(4, 784), columns=2, gap=3)
    assert canvas.shape == (59, 59) and canvas[28:31].sum() == 0 and canvas[:, 28:31].sum() == 0
    colours = tile(torch.zeros(3, 3, 5, 4), columns=2, gap=1)  # dark: the paper between is white
    assert colours.shape == (11, 9, 3) and not colours[:5, :4].any()
    assert (colours[5] == 1).all() and (colours[:, 4] == 1).all() and (colours[6:, 5:] == 1).all()


GREY = torch.rand(5, 6, 4, generator=torch.Generator().manual_seed(0))
COLOUR = torch.rand(5, 6, 4, 3, generator=torch.Generator().manual_seed(0))
FIRST = COLOUR.movedim(3, 1)  # channels first
SQUARE = torch.rand(5, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("images", "shape", "expected"),
    [
        (GREY, None, GREY),
        (GREY[:, None], None, GREY),
        (GREY[..., None], None, GREY),
        (GREY.flatten(1), (6, 4), GREY),
        (GREY.flatten(1), (1, 6, 4), GREY),
        (GREY.flatten(1), [6, 4, 1], GREY),
        (GREY.numpy(), None, GREY),
        ((255 * GREY).to(torch.uint8), None, (255 * GREY).floor() / 255),
        (SQUARE.flatten(1), None, SQUARE),
        (COLOUR, None, COLOUR),
        (COLOUR.double().numpy(), None, COLOUR),
        (FIRST, None, COLOUR),
        (COLOUR.flatten(1), (6, 4, 3), COLOUR),
        (FIRST.flatten(1), (3, 6, 4), COLOUR),
        (FIRST.flatten(1), torch.Size([3, 6, 4]), COLOUR),
        (GREY - 0.5, None, (GREY - 0.5).clamp(min=0)),  # as a linear decoder gives them
        (3 * COLOUR, None, (3 * COLOUR).clamp(max=1)),
        (GREY.clone().requires_grad_(), None, GREY),
    ],
)
def test_images_of_any_size_and_form(images, shape, expected):
    canvas = tile(images, columns=2, shape=shape, gap=1)
    height, width, *channels = expected.shape[1:]
    assert canvas.shape == (3 * height + 2, 2 * width + 1, *channels)
    for i, image in enumerate(expected):
        top, left = i // 2 * (height + 1), i % 2 * (width + 1)
        found = canvas[top : top + height, left : left + width]
        np.testing.assert_allclose(found, image, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "shape", "message"),
    [
        (
            torch.rand(2, 15),
            None,
            r"shape of one image, such as \(28, 28\) or \(3, 32, 32\).* 15\)",
        ),
        (torch.rand(2, 27), None, "shape of one image, such as"),
        (torch.rand(2, 15), (4, 4), r"shape: expected one of 15 pixels, got \(4, 4\)"),
        (torch.rand(2, 2, 3, 4), None, r"shape: expected \(H, W\), .* got \(2, 3, 4\)"),
        (torch.rand(2, 24), (24,), r"shape: expected \(H, W\), .* got \(24,\)"),
        (torch.full((2, 4, 4), torch.nan), None, "images: expected finite values"),
        (torch.rand(16), None, "images: expected shape"),
    ],
)
def test_what_cannot_be_shown_is_told_how(images, shape, message):
    with pytest.raises(ValueError, match=message):
        tile(images, columns=2, shape=shape)


def test_what_a_linear_autoencoder_puts_out_is_shown_cut_off_at_black_and_white():
    model = LinearAutoencoder(2, n_pixels=16).double()
    with torch.no_grad():
        model.decoder[0].bias.copy_(torch.linspace(-2, 3, 16))
        copies = model.reconstruct(torch.rand(3, 16))
    assert copies.min() < 0 and copies.max() > 1
    figure = show_rows({"original": torch.rand(3, 16), "copy": copies})
    shown = figure.axes[1].images[0].get_array()
    np.testing.assert_allclose(shown[:, :4].ravel(), copies[0].clamp(0, 1), atol=1e-6)


def test_the_figure_shows_the_array_with_row_zero_on_top():
    pictures = {"left": numbered(4), "right": FIRST}
    figure = show_grids(pictures, columns=2)
    assert [ax.get_title() for ax in figure.axes] == ["left", "right"]
    for ax, images in zip(figure.axes, pictures.values(), strict=True):
        (shown,) = ax.images
        np.testing.assert_array_equal(shown.get_array(), tile(images, columns=2))
        assert shown.origin == "upper" and (shown.norm.vmin, shown.norm.vmax) == (0, 1)
    assert figure.axes[0].images[0].get_cmap().name == "gray_r"  # 1 is ink
    flat = show_grids({"flat": FIRST.flatten(1)}, columns=2, shape=(3, 6, 4))
    np.testing.assert_array_equal(flat.axes[0].images[0].get_array(), tile(FIRST, columns=2))


def test_rows_are_named_in_their_order():
    rows = {"original": GREY.flatten(1), "copy": 1 - GREY.flatten(1)}
    figure = show_rows(rows, shape=(6, 4))
    assert [ax.get_ylabel() for ax in figure.axes] == ["original", "copy"]
    for ax, images in zip(figure.axes, rows.values(), strict=True):
        np.testing.assert_array_equal(
            ax.images[0].get_array(), tile(images, columns=5, shape=(6, 4))
        )
    with pytest.raises(ValueError, match="rows: expected the same number"):
        show_rows({"a": numbered(3), "b": numbered(2)})


def test_spread_apart_moves_only_what_is_too_near():
    points = np.array([[0.0, 0.0], [0.0, 0.0], [0.5, 0.0], [9.0, 9.0]])
    places = spread_apart(points, distance=1.0)
    gaps = [np.linalg.norm(places[i] - places[j]) for i in range(4) for j in range(i)]
    assert min(gaps) > 0.99 and np.allclose(places[3], [9, 9], atol=1e-4)
    assert np.abs(places - points).max() < 1.2


def test_scatter_puts_each_digit_at_the_median_of_its_codes():
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


# --------------------------------------------------------------------------- the plane of codes


def place_decoder(z: torch.Tensor) -> torch.Tensor:
    """Images of 2 × 2 pixels: z₁ and z₂ in the upper row, ink and paper in the lower one."""
    return torch.stack([z[:, 0], z[:, 1], torch.ones(len(z)), torch.zeros(len(z))], dim=1)


def test_decoded_plane_has_z1_to_the_right_and_z2_upwards():
    array = decoded_plane(place_decoder, (0.0, 0.4), (0.2, 1.0), n=4)
    assert array.shape == (8, 8)
    z1, z2 = array[::2, ::2], array[::2, 1::2]  # where the upper pixels of the images stand
    np.testing.assert_allclose(z1, np.tile([0.05, 0.15, 0.25, 0.35], (4, 1)), atol=1e-6)
    np.testing.assert_allclose(z2, np.tile([[0.9], [0.7], [0.5], [0.3]], (1, 4)), atol=1e-6)
    assert (array[1::2, ::2] == 1).all() and (array[1::2, 1::2] == 0).all()  # not turned


def test_decoded_plane_leaves_no_gradient_behind():
    weight = torch.ones((), requires_grad=True)
    array = decoded_plane(lambda z: weight * place_decoder(z).abs(), (0, 1), (0, 1), n=2)
    assert isinstance(array, np.ndarray)


@pytest.mark.parametrize("n", [0, 2.5])
def test_decoded_plane_refuses_a_number_of_images_that_is_none(n):
    with pytest.raises((TypeError, ValueError), match="n: expected"):
        decoded_plane(place_decoder, (0, 1), (0, 1), n=n)


def test_draw_plane_puts_each_image_at_its_code():
    """Somewhere in the axes, the picture shows the ink of the code at this very place."""
    across, up = (-1.0, 3.0), (0.0, 4.0)

    def one_dark_cell(z):  # only the cell around (2.5, 0.5), on the lower right
        near = (z - torch.tensor([2.5, 0.5])).abs().amax(dim=1) < 0.1
        return near.float()[:, None].expand(-1, 4)

    ax = Figure().add_subplot()
    draw_plane(ax, one_dark_cell, across, up, n=4)
    (image,) = ax.images
    left, right, bottom, top = image.get_extent()
    assert (left, right, bottom, top) == (*across, *up) and image.origin == "upper"
    rows, columns = np.nonzero(np.asarray(image.get_array()))
    height, width = image.get_array().shape
    x = left + (columns + 0.5) / width * (right - left)
    y = top - (rows + 0.5) / height * (top - bottom)
    assert x.mean() == pytest.approx(2.5) and y.mean() == pytest.approx(0.5)
    assert image.get_clim() == (0, 1) and image.get_cmap().name == "gray_r"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_1$", "$z_2$")
