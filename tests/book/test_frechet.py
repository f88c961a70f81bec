"""The Fréchet distance against closed forms, and the ruler against what it must notice."""

import numpy as np
import pytest
import torch

from vae_book.frechet import FrechetDistance, digit_classifier, digit_features, frechet_distance
from vae_book.strokes import HAND

NOISE = torch.Generator().manual_seed(0)


def gaussian(mean, covariance, n=60):
    """n points whose sample mean and covariance are exactly the given ones."""
    mean = torch.as_tensor(mean, dtype=torch.float64)
    covariance = torch.as_tensor(covariance, dtype=torch.float64)
    raw = torch.randn(n, len(mean), generator=NOISE, dtype=torch.float64)
    raw = raw - raw.mean(dim=0)
    white = raw @ torch.linalg.inv(torch.linalg.cholesky(torch.atleast_2d(torch.cov(raw.T)))).T
    return white @ torch.linalg.cholesky(covariance).T + mean


# ---------------------------------------------------------------------------- the distance


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


# ---------------------------------------------------------------------------- the features


def digits(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Drawn digits and their labels."""
    images, labels, _ = HAND.render(n, seed)
    return torch.tensor(images), torch.tensor(labels)


REAL, _ = digits(1100, seed=100)
OTHERS, LABELS = digits(2000, seed=101)


def test_the_shipped_classifier_knows_its_digits():
    network = digit_classifier()
    accuracy = (network((OTHERS.float() / 255)[:, None]).argmax(dim=1) == LABELS).float().mean()
    assert accuracy > 0.97
    assert not network.training and not any(w.requires_grad for w in network.parameters())


def test_features_are_those_of_the_classifier():
    x = (REAL[:20].float() / 255)[:, None]
    features = digit_features(REAL[:20])
    assert features.shape == (20, 64) and features.dtype == torch.float64
    torch.testing.assert_close(features.float(), digit_classifier().features(x))
    assert features.min() < 0  # before the last ReLU: a Gaussian may be fitted to them


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network.double(),
        lambda network: network.to("meta"),
        lambda network: [weights.data.mul_(2) for weights in network.parameters()],
        lambda network: setattr(network, "features", torch.nn.Flatten()),
    ],
    ids=["type", "device", "weights", "layers"],
)
def test_who_gets_the_classifier_cannot_bend_the_ruler(change):
    """Neither that of this process nor what somebody else gets."""
    before, x = digit_features(REAL[:5]), (REAL[:5].float() / 255)[:, None]
    logits = digit_classifier()(x)
    change(digit_classifier())
    assert torch.equal(digit_features(REAL[:5]), before)
    assert torch.equal(digit_classifier()(x), logits)


def test_features_do_not_depend_on_the_batch_or_the_form():
    whole = digit_features(REAL)  # more than one piece
    assert whole.shape == (1100, 64)
    unit = (REAL[700:] / 255).requires_grad_()
    parts = torch.cat([digit_features(REAL[:700].numpy()), digit_features(unit)])
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-4)
    flat = digit_features(REAL[-5:].reshape(5, 784))
    torch.testing.assert_close(flat, whole[-5:], rtol=1e-4, atol=1e-4)
    assert not parts.requires_grad


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (torch.zeros(5, 16, 16), ValueError, r"images: expected shape \[N, …\] with 784 pixels"),
        (torch.full((5, 784), 255.0), ValueError, r"images: expected float values in \[0, 1\]"),
        (torch.zeros(5, 784, dtype=torch.int64), TypeError, "images: expected images as uint8"),
    ],
)
def test_what_the_classifier_cannot_see(images, error, words):
    for measure in (digit_features, lambda x: FrechetDistance(x, REAL)):
        with pytest.raises(error, match=words):
            measure(images)


# ---------------------------------------------------------------------------- the ruler


@pytest.fixture(scope="module")
def ruler() -> FrechetDistance:
    return FrechetDistance(REAL, OTHERS[:1000])


def test_it_is_the_distance_of_the_features_of_the_first_n(ruler):
    assert ruler.n == 1000
    expected = frechet_distance(digit_features(REAL[:1000]), digit_features(OTHERS[1000:]))
    assert ruler(OTHERS[1000:]) == pytest.approx(expected)
    more = torch.cat([OTHERS[1000:], torch.zeros(50, 28, 28, dtype=torch.uint8)])
    assert ruler(more) == ruler(OTHERS[1000:])
    assert FrechetDistance(REAL[:500], OTHERS).n == FrechetDistance(REAL, OTHERS[:500]).n == 500


def test_the_ruler_orders_what_is_worse(ruler):
    """Real < a little noise < more noise; and one digit only is far from all ten."""
    images = OTHERS[1000:].float() / 255
    noise = torch.rand(images.shape, generator=NOISE)
    little, more = ((1 - w) * images + w * noise for w in (0.1, 0.3))
    assert 0 < ruler.floor < ruler(little) < ruler(more)
    sevens = OTHERS[LABELS == 7]
    assert ruler(sevens.repeat(10, 1, 1)) > 10 * ruler.floor
    assert ruler(OTHERS.transpose(1, 2)) > 10 * ruler.floor


def test_the_floor_is_that_of_images_at_random(ruler):
    """Data sets come sorted, by digit or by writer: the first n are no sample of all."""
    sorted_others = OTHERS[LABELS.argsort()]
    first = FrechetDistance(REAL[:400], sorted_others)
    at_random = [
        first(OTHERS[torch.randperm(len(OTHERS), generator=NOISE)[:400]]) for _ in range(8)
    ]
    assert 0.8 * min(at_random) < first.floor < 1.25 * max(at_random)
    assert first(sorted_others) > 3 * max(at_random)
    # The same at each call, whatever else draws random numbers, and for NumPy arrays.
    torch.rand(3)
    again = FrechetDistance(REAL[:400].numpy(), sorted_others.numpy())
    assert again.floor == pytest.approx(first.floor)


def test_the_floor_is_printed_with_the_ruler(ruler):
    assert repr(ruler) == f"FrechetDistance(n=⟨1000⟩, floor=⟨{ruler.floor:.2f}⟩)"


def test_too_few_images(ruler):
    with pytest.raises(ValueError, match="images: expected at least 1000, got 10"):
        ruler(torch.zeros(10, 784))
