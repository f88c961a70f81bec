"""Chapter 12's measures against images and codes where the answer is known, and its objective
against a sum by hand."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, kl_divergence
from torch.nn.functional import cross_entropy

from vae_book import strokes
from vae_book.conditions import NotTold, SemiSupervised, probe, slant, stroke_width, within
from vae_core import as_pixels, elbo_terms, mlp, seed_everything


def bar(width: int, lean: float = 0.0) -> torch.Tensor:
    """A bar of some pixels' width and 20 pixels' height, leaning to the right, [1, 28, 28]."""
    image = torch.zeros(28, 28)
    for row in range(4, 24):
        left = round(14 - width / 2 + lean * (13.5 - row))
        image[row, left : left + width] = 1
    return image[None]


@pytest.mark.parametrize("lean", [-0.5, 0.0, 0.25, 0.5])
def test_slant_is_how_far_a_bar_leans(lean):
    assert slant(bar(4, lean)).item() == pytest.approx(lean, abs=0.02)
    moved = bar(4, lean).roll((2, 3), dims=(1, 2))
    assert slant(moved).item() == pytest.approx(slant(bar(4, lean)).item(), abs=1e-9)
    assert slant(0.3 * bar(4, lean)).item() == pytest.approx(slant(bar(4, lean)).item(), abs=1e-9)


def test_stroke_width_grows_with_the_width_and_not_with_the_ink():
    widths = [stroke_width(bar(w)).item() for w in (2, 4, 6)]
    assert widths == sorted(widths)
    assert widths == pytest.approx([20 * w / (2 * 20 + 2 * w) for w in (2, 4, 6)])
    two = torch.maximum(bar(3).roll(-6, dims=2), bar(3).roll(6, dims=2))
    assert stroke_width(two).item() == pytest.approx(stroke_width(bar(3)).item())


def test_both_find_the_factors_of_strokes():
    (images, labels, factors), _ = strokes.dataset()
    images, labels = torch.tensor(images[:1000]), torch.tensor(labels[:1000])
    for measure, factor in ((slant, "slant"), (stroke_width, "thickness")):
        pair = within(measure(images), labels), within(torch.tensor(factors[factor][:1000]), labels)
        assert torch.corrcoef(torch.stack(pair))[0, 1] > 0.75


def test_within_takes_off_the_mean_of_each_group():
    values, groups = torch.tensor([1.0, 5.0, 3.0, 7.0]), torch.tensor([0, 2, 0, 2])
    assert within(values, groups).tolist() == [-1, -1, 1, 1]


def test_not_told_is_the_network_alone():
    network = mlp(3, 2)
    x = torch.randn(5, 3)
    for labels in (None, torch.zeros(5, dtype=torch.int64), torch.full((5,), 99)):
        assert torch.equal(NotTold(network)(x, labels), network(x))


def test_a_probe_finds_what_is_there_and_nothing_where_nothing_is():
    """Codes at ten places with noise: Bayes' rule's own cross-entropy is the floor."""
    seed_everything(0)
    places = 2 * torch.randn(10, 3)
    labels = torch.randint(10, (12_000,))
    codes = places[labels] + torch.randn(12_000, 3)
    train, test = slice(0, 8000), slice(8000, None)
    log_r = probe(codes[train], labels[train], codes[test], seed=0)
    torch.testing.assert_close(log_r.exp().sum(dim=1), torch.ones(4000))
    distance = (codes[test, None] - places).square().sum(dim=2)
    floor = cross_entropy(-distance / 2, labels[test])
    found = cross_entropy(log_r, labels[test])
    assert floor - 0.02 < found < floor + 0.08 and floor < 1.3
    nothing = probe(codes[train], labels[train][torch.randperm(8000)], codes[test], seed=0)
    assert cross_entropy(nothing, labels[test]) > math.log(10) - 0.01


def test_the_objective_of_m2_is_the_sum_over_ten_labels():
    """U(x) by hand, label by label, with the same draws; and as KL(q(y|x) ‖ p(y)) and a mean."""
    seed_everything(0)
    model = SemiSupervised()
    x = as_pixels((torch.rand(3, 784) < 0.2).float())
    torch.manual_seed(1)
    got = model.without_label(x)
    torch.manual_seed(1)
    noise = torch.randn(1, 30, 2)
    q = Categorical(logits=model.classifier(x))
    wanted = kl_divergence(q, Categorical(logits=torch.zeros(3, 10)))
    for y in range(10):
        terms = elbo_terms(model.vae, x, torch.full((3,), y), noise=noise[:, 3 * y : 3 * y + 3])
        wanted = wanted - q.probs[:, y] * terms.elbo
    torch.testing.assert_close(got, wanted)
    labels = torch.tensor([3, 0, 9])
    torch.testing.assert_close(model.log_q(x, labels), q.log_prob(labels))


def test_the_classifier_is_not_in_the_loss_of_labelled_images():
    """Which is why it needs a term of its own."""
    model = SemiSupervised()
    x, y = as_pixels((torch.rand(4, 784) < 0.2).float()), torch.arange(4)
    model.with_label(x, y).sum().backward()
    assert all(p.grad is None for p in model.classifier.parameters())
    assert isinstance(model.classifier, nn.Sequential)
    model.without_label(x).sum().backward()
    assert all(p.grad is not None for p in model.classifier.parameters())
