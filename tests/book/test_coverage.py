"""Precision and coverage by hand, against what they should come to, and what they must notice."""

import pytest
import torch

from vae_book.coverage import Coverage, overlap
from vae_book.strokes import HAND

NOISE = torch.Generator().manual_seed(0)


def test_by_hand():
    """On a line, with balls to the nearest neighbour: radii 1, 1 and 3 around 0, 1 and 4."""
    real = torch.tensor([[0.0], [1.0], [4.0]])
    found = overlap(real, torch.tensor([[-0.5], [1.5], [9.0], [-3.0]]), k=1)
    assert found.precision == 2 / 4  # -0.5 in the first, 1.5 in the second and third
    assert found.coverage == 1
    assert overlap(real, torch.tensor([[6.5]]), k=1) == (1, 1 / 3)


def test_the_same_distribution_comes_to_one_minus_a_power_of_two():
    a, b = torch.randn(2, 1500, 8, generator=NOISE)
    for k in (1, 3, 5):
        assert overlap(a, b, k).coverage == pytest.approx(1 - 2**-k, abs=0.04)


def test_one_mode_is_precise_and_covers_half():
    modes = 20 * torch.arange(2.0)[:, None]
    real = torch.randn(400, 3, generator=NOISE) + modes.repeat(200, 1)
    samples = torch.randn(400, 3, generator=NOISE)
    found = overlap(real, samples)
    assert found.precision > 0.9 and found.coverage == pytest.approx(0.5, abs=0.05)


def test_far_away_nothing_is_precise_or_covered():
    real = torch.randn(50, 3, generator=NOISE)
    assert overlap(real, real + 100) == (0, 0)
    assert overlap(real, real) == (1, 1)


@pytest.mark.parametrize(
    ("real", "samples", "k", "words"),
    [
        (torch.zeros(5, 3), torch.zeros(5, 3), 5, "real: expected features .* N ≥ 6"),
        (torch.zeros(5, 3), torch.zeros(5), 2, "samples: expected features"),
        (torch.zeros(5, 3), torch.zeros(5, 4), 2, "samples: expected 3 features"),
        (torch.zeros(5, 3), torch.full((5, 3), torch.nan), 2, "samples: expected finite"),
        (torch.zeros(5, 3), torch.zeros(5, 3), 0, "k: expected an integer of at least 1"),
    ],
)
def test_bad_features(real, samples, k, words):
    with pytest.raises(ValueError, match=words):
        overlap(real, samples, k)


def test_the_ruler_notices_missing_digits_and_broken_ones():
    images, labels, _ = HAND.render(1200, 5)
    images, labels = torch.as_tensor(images), torch.as_tensor(labels)
    others, _, _ = HAND.render(1200, 6)
    ruler = Coverage(images, others)
    assert ruler.n == 1200 and ruler.real.coverage > 0.9 and ruler.real.precision > 0.85
    ones = images[labels == 1].repeat(12, 1, 1)[:1200]
    assert ruler(ones).precision > 0.95 and ruler(ones).coverage < 0.3
    broken = torch.as_tensor(others).clone()
    broken[:, 8:18] = 0
    assert ruler(broken).precision < ruler.real.precision - 0.2
    assert "coverage ⟨" in repr(ruler)
    with pytest.raises(ValueError, match="images: expected at least 1200, got 10"):
        ruler(images[:10])
