"""Chapter 3's checker: the right answer passes, each wrong one gets its own diagnosis."""

import pytest
from torch.distributions import Normal, kl_divergence

from vae_core.exercises_kl import check_kl


def by_torch(mean, log_var):
    return kl_divergence(Normal(mean, log_var.mul(0.5).exp()), Normal(0.0, 1.0)).sum(dim=1)


def terms(m, v):
    return m**2 + v.exp() - 1 - v


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (by_torch, "✓ right"),
        (lambda m, v: 0.5 * terms(m, v).sum(dim=1), "✓ right"),
        (lambda m, v: -0.5 * terms(m, v).sum(dim=1), "the sign is wrong: a KL is never"),
        (lambda m, v: terms(m, v).sum(dim=1), "½ is missing"),
        (lambda m, v: 0.5 * terms(m, v).mean(dim=1), "averaged over the coordinates"),
        (lambda m, v: 0.5 * terms(m, v), "nothing is summed yet"),
        (lambda m, v: 0.5 * terms(m, v).sum(dim=0), "summed over the images and kept"),
        (lambda m, v: 0.5 * terms(m, v).mean(dim=0), "averaged over the images and kept"),
        (lambda m, v: 0.5 * terms(m, v).sum(), "added up the whole batch"),
        (lambda m, v: 0.5 * terms(m, v).sum(dim=1).mean(), "mean over the images already"),
        (lambda m, v: 0.5 * terms(m, v).mean(), "mean over everything"),
        (lambda m, v: 0.5 * (m**2 + (v / 2).exp() - 1 - v).sum(dim=1), "you used σ where σ²"),
        (lambda m, v: 0.5 * (m**2 + v.exp() ** 2 - 1 - v).sum(dim=1), "which is σ² already"),
        (lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v / 2).sum(dim=1), "log σ where log σ²"),
        (lambda m, v: 0.5 * (m**2 + v.exp() - 1 - 2 * v).sum(dim=1), "doubled log σ²"),
        (lambda m, v: 0.5 * terms(m, 2 * v).sum(dim=1), "in both places"),
        (lambda m, v: 0.5 * (m + v.exp() - 1 - v).sum(dim=1), "μ where μ²"),
        (lambda m, v: 0.5 * (m**2 + v.exp() - v).sum(dim=1), "−1 is missing"),
        (lambda m, v: 0.5 * (m**2 + v.exp() - 1 + v).sum(dim=1), "the sign of log σ²"),
        (lambda m, v: 0.5 * (m**2 + v - 1 - v).sum(dim=1), "log_var itself"),
        (lambda m, v: 0.5 * (v.exp() - 1 - v).sum(dim=1), "μ² is missing"),
        (lambda m, v: (m**2 / 2 + v**2 / 4).sum(dim=1), "naive penalty"),
        (lambda m, v: kl_divergence(Normal(0.0, 1.0), Normal(m, (v / 2).exp())).sum(dim=1),
         "the other direction"),
        (lambda m, v: -0.5 * terms(m, v).mean(dim=1), "the sign is wrong, and you averaged"),
        (lambda m, v: 0.5 * terms(m, v)[:2, 0], "the shape is [2]"),
        (lambda m, v: terms(m, v).sum(dim=1).sqrt(), "the values aren't"),
        (lambda m, v: 3.0, "you returned float"),
    ],
)  # fmt: skip
def test_check_kl(capsys, answer, verdict):
    check_kl(answer)
    assert verdict in capsys.readouterr().out


def test_an_answer_that_works_in_place_is_judged_by_its_result(capsys):
    check_kl(lambda m, v: 0.5 * (m.pow_(2) + v.exp() - 1 - v).sum(dim=1))
    assert "✓ right" in capsys.readouterr().out


def test_almost_right_is_not_right(capsys):
    check_kl(lambda m, v: 0.5 * terms(m, v).sum(dim=1) + 1e-3)
    assert "the values aren't" in capsys.readouterr().out
