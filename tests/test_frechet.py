"""The Fréchet distance against closed forms, and the ruler against what it must notice."""

import numpy as np
import pytest
import torch

from vae_core import SampleRuler, digit_classifier, digit_features, frechet_distance, load

NOISE = torch.Generator().manual_seed(0)


def gaussian(mean, covariance, n=60):
    """n points whose sample mean and covariance are exactly the given ones."""
    mean = torch.as_tensor(mean, dtype=torch.float64)
    covariance = torch.as_tensor(covariance, dtype=torch.float64)
    raw = torch.randn(n, len(mean), generator=NOISE, dtype=torch.float64)
    raw = raw - raw.mean(dim=0)
    white = raw @ torch.linalg.inv(torch.linalg.cholesky(torch.atleast_2d(torch.cov(raw.T)))).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def test_one_dimension_in_closed_form():
    """(m − m')² + (s − s')²."""
    a, b = gaussian([1.0], [[4.0]]), gaussian([4.0], [[9.0]])
    assert frechet_distance(a, b) == pytest.approx(9 + 1)


def test_covariances_that_do_not_commute_against_an_independent_square_root():
    cov_a = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.7]])
    cov_b = np.array([[1.0, -0.4, 0.2], [-0.4, 3.0, 0.0], [0.2, 0.0, 0.5]])
    # The eigenvalues of C_a C_b are those of a positive matrix: the trace of its square root
    # is the sum of their roots.
    trace_root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real).sum()
    expected = 0.25 * 3 + np.trace(cov_a) + np.trace(cov_b) - 2 * trace_root
    a, b = gaussian([0.0, 0, 0], cov_a), gaussian([0.5, 0.5, 0.5], cov_b)
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(b, a) == pytest.approx(expected)


def test_the_same_set_is_at_distance_zero():
    a = torch.randn(100, 5, generator=NOISE)
    assert frechet_distance(a, a.flip(dims=[0])) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (torch.zeros(1, 3), torch.zeros(5, 3), "a: expected features"),
        (torch.zeros(5, 3), torch.zeros(5), "b: expected features"),
        (torch.zeros(5, 3), torch.zeros(5, 4), "b: expected 3 features"),
        (torch.full((5, 3), torch.nan), torch.zeros(5, 3), "a: expected finite"),
    ],
)
def test_bad_features(a, b, words):
    with pytest.raises(ValueError, match=words):
        frechet_distance(a, b)


@pytest.fixture(scope="module")
def strokes():
    return load("strokes", quiet=True)


@pytest.fixture(scope="module")
def ruler(strokes):
    return SampleRuler(strokes)


def test_the_shipped_classifier_knows_its_digits(strokes):
    network = digit_classifier()
    x = (strokes.test.images.float() / 255)[:, None]
    accuracy = (network(x).argmax(dim=1) == strokes.test.labels).float().mean().item()
    assert accuracy > 0.97


def test_features_do_not_depend_on_the_batch_or_the_form(strokes):
    images = strokes.test.images[:1500]
    whole = digit_features(images)
    parts = torch.cat([digit_features(images[:700]), digit_features(images[700:] / 255)])
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-4)


def test_the_ruler_orders_what_is_worse(strokes, ruler):
    """Real < a little noise < more noise; and one digit only is far from all ten."""
    images = strokes.val.images.float() / 255
    images = torch.cat([images, images.flip(dims=[0])])[: ruler.n]
    assert len(images) == ruler.n
    noise = torch.rand(images.shape, generator=NOISE)
    little, more = ((1 - w) * images + w * noise for w in (0.1, 0.3))
    assert ruler.floor < ruler(little) < ruler(more)
    sevens = strokes.train.images[strokes.train.labels == 7]
    assert ruler(sevens.repeat(4, 1, 1)) > 10 * ruler.floor
    transposed = strokes.test.images.transpose(1, 2)
    assert ruler(transposed) > 10 * ruler.floor


def test_the_floor_is_printed_with_the_ruler(ruler):
    assert f"floor=⟨{ruler.floor:.2f}⟩" in repr(ruler) and ruler.floor > 0


def test_too_few_images(ruler):
    with pytest.raises(ValueError, match="images: expected at least 4000, got 10"):
        ruler(torch.zeros(10, 784))
