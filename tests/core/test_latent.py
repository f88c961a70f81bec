"""Ways through the space of codes: where each code stands, and that paths are what they say."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from small import random_numbers, small_vae
from vae_core.latent import (
    decoder_jacobian,
    normal_quantiles,
    quantile_grid,
    spherical_path,
    straight_path,
    traversal,
)


def test_quantiles_cut_off_the_shares_they_say():
    z = normal_quantiles(15)
    shares = Normal(0.0, 1.0).cdf(z)
    torch.testing.assert_close(shares, torch.linspace(0.05, 0.95, 15))
    torch.testing.assert_close(z, -z.flip(0))
    assert abs(z[0].item() + 1.6448536) < 1e-6 and z[7] == 0


def test_a_linear_range_would_not_pass_for_quantiles():
    gaps = normal_quantiles(15).diff()
    assert gaps[0] > 1.5 * gaps[7]


@pytest.mark.parametrize("shares", [(0.0, 0.9), (0.1, 1.0), (0.9, 0.1), (math.nan, 0.5)])
def test_shares_that_are_none(shares):
    with pytest.raises(ValueError, match="0 < low < high < 1"):
        normal_quantiles(3, *shares)


def test_the_grid_lies_as_a_scatter_plot_does():
    """In the order in which images are read: left to right, and then down."""
    codes, axis = quantile_grid(5), normal_quantiles(5)
    assert codes.shape == (25, 2)
    for row in range(5):
        for column in range(5):
            z_1, z_2 = codes[5 * row + column]
            assert z_1 == axis[column] and z_2 == axis[4 - row]  # to the right, and upwards
    assert quantile_grid(3, 0.2, 0.8)[-1].tolist() == pytest.approx([0.8416212, -0.8416212])


def test_a_traversal_moves_one_unit_and_leaves_the_start_alone():
    code = torch.tensor([1.0, 2.0, 3.0])
    moved = traversal(code, 1, [-1.0, 0.0])
    assert moved.tolist() == [[1, -1, 3], [1, 0, 3]] and code.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="unit: expected one of 0 to 2, got 3"):
        traversal(code, 3, [0.0])
    with pytest.raises(ValueError, match="unit: expected one of 0 to 2, got -1"):
        traversal(code, -1, [0.0])
    for wrong in (code[None], code.long()):  # whole numbers would lose what is put in
        with pytest.raises(ValueError, match=r"code: expected floats of shape \[d\]"):
            traversal(wrong, 0, [0.5])


@pytest.mark.parametrize("path", [straight_path, spherical_path])
def test_paths_reach_both_ends_one_by_one_and_in_batches(path):
    draw = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 4, 6, generator=draw, dtype=torch.float64)
    t = torch.linspace(0, 1, 7, dtype=torch.float64)
    batch = path(start, end, t)
    assert batch.shape == (7, 4, 6)
    torch.testing.assert_close(batch[0], start)
    torch.testing.assert_close(batch[-1], end)
    torch.testing.assert_close(batch[:, 2], path(start[2], end[2], t))


def test_the_spherical_path_turns_evenly_and_its_norm_grows_evenly():
    draw = torch.Generator().manual_seed(1)
    start, end = torch.randn(2, 6, generator=draw, dtype=torch.float64) * torch.tensor([[1], [3]])
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    z = spherical_path(start, end, t)
    torch.testing.assert_close(z.norm(dim=1), (1 - t) * start.norm() + t * end.norm())
    unit = z / z.norm(dim=1, keepdim=True)
    angles = (unit[1:] * unit[:-1]).sum(dim=1).acos()
    torch.testing.assert_close(angles, angles[:1].expand(8))
    whole = torch.dot(unit[0], unit[-1]).acos()
    torch.testing.assert_close(angles.sum(), whole)  # the shorter arc, once


def test_the_straight_middle_of_two_perpendicular_codes_is_shorter():
    start, end, half = torch.tensor([2.0, 0]), torch.tensor([0, 2.0]), torch.tensor([0.5])
    assert straight_path(start, end, half).norm().item() == pytest.approx(math.sqrt(2))
    torch.testing.assert_close(spherical_path(start, end, half), torch.full((1, 2), math.sqrt(2.0)))


def test_nearly_equal_directions_lose_no_digits_and_equal_ones_go_straight():
    t = torch.linspace(0, 1, 5)
    start = torch.tensor([1.0, 1.0])
    for end in (3 * start, start + torch.tensor([1e-6, 0])):
        assert torch.allclose(spherical_path(start, end, t), straight_path(start, end, t))
    for code in (start, torch.stack([start, -start])):
        torch.testing.assert_close(spherical_path(code, code, t), code.expand(5, *code.shape))


def test_a_small_angle_is_an_angle():
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    angle = 5e-4 * t
    z = spherical_path(
        torch.tensor([1.0, 0]).double(), torch.stack([angle.cos(), angle.sin()])[:, -1], t
    )
    torch.testing.assert_close(
        z, torch.stack([angle.cos(), angle.sin()], dim=1), atol=1e-13, rtol=0
    )


@pytest.mark.parametrize("path", [straight_path, spherical_path])
def test_a_path_has_the_type_of_its_codes(path):
    start, end = torch.eye(2)
    assert path(start, end, torch.linspace(0, 1, 3, dtype=torch.float64)).dtype == torch.float32
    with pytest.raises(
        ValueError, match=r"t: expected shapes .* and a float32 tensor of shape \(\)"
    ):
        path(start, end, torch.tensor(0.5))
    with pytest.raises(ValueError, match="start, end, t: expected shapes"):
        path(start, end[None], torch.tensor([0.5]))


def test_directions_that_no_arc_joins():
    start, t = torch.tensor([1.0, 2.0]), torch.tensor([0.5])
    with pytest.raises(ValueError, match="opposite"):
        spherical_path(start, -2 * start, t)
    with pytest.raises(ValueError, match="norm 0"):
        spherical_path(start, 0 * start, t)
    with pytest.raises(ValueError, match="start, end, t: expected shapes"):
        straight_path(start, torch.zeros(3), t)


def test_the_jacobian_is_what_small_steps_find():
    vae = small_vae(3).double()
    z, h = random_numbers(4, 3), 1e-6
    J = decoder_jacobian(vae, z)
    assert J.shape == (4, 16, 3) and not J.requires_grad and vae.training
    with torch.no_grad():
        for unit, step in enumerate(h * torch.eye(3, dtype=torch.float64)):
            slope = (vae.decoder(z + step) - vae.decoder(z - step)) / (2 * h)
            torch.testing.assert_close(J[:, :, unit], slope, atol=1e-7, rtol=1e-6)
    vae.decoder.append(nn.Dropout(0.5))
    torch.testing.assert_close(decoder_jacobian(vae, z), J)  # off, as when one looks
