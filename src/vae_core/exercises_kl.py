"""The checker of chapter 3's exercise: it says what went wrong, not only that it did."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["check_kl"]


def check_kl(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check a reader's KL(q(z|x) ‖ p(z)) of each image (chapter 3, exercise 1).

    Prints that it is right, or what it computes instead.

    Shapes: ``answer(mean, log_var)`` is called with two tensors [5, 3] and should return [5].
    """
    noise = torch.Generator().manual_seed(0)
    mean, log_var = torch.randn(2, 5, 3, generator=noise, dtype=torch.float64)
    got = answer(mean.clone(), log_var.clone())  # an answer that works in place harms nothing
    if not isinstance(got, Tensor):
        print(f"✗ you returned {type(got).__name__}; a tensor with one KL an image is wanted")
        return
    var, square = log_var.exp(), mean.square()
    per_unit = 0.5 * (square + var - 1 - log_var)  # (3.10)
    right = per_unit.sum(dim=1)  # (3.11)
    if _same(got, right):
        print("✓ right: one KL an image, summed over its coordinates, in nats")
        return

    def total(terms: Tensor) -> Tensor:
        return 0.5 * terms.sum(dim=1)

    sigma = (0.5 * log_var).exp()
    mistakes = {
        "the sign is wrong: a KL is never negative, and it is added to the loss": -right,
        "the factor ½ is missing": 2 * right,
        "you averaged over the coordinates; equation (3.11) sums over them": right / 3,
        "nothing is summed yet; sum over the coordinates, the last dimension": per_unit,
        "you summed over the images and kept the coordinates": per_unit.sum(dim=0),
        "you averaged over the images and kept the coordinates": per_unit.mean(dim=0),
        "you added up the whole batch; each image has a KL of its own": right.sum(),
        "you took the mean over the images already; the loss does that later": right.mean(),
        "you took the mean over everything, images and coordinates": per_unit.mean(),
        "you used σ where σ² belongs: exp(log_var) is σ² already, exp(log_var / 2) is σ": total(
            square + sigma - 1 - log_var
        ),
        "you squared exp(log_var), which is σ² already": total(square + var**2 - 1 - log_var),
        "you used log σ where log σ² belongs: log_var is the one, half of it the other": total(
            square + var - 1 - 0.5 * log_var
        ),
        "you doubled log σ²: log_var is log σ² already, not log σ": total(
            square + var - 1 - 2 * log_var
        ),
        "you took log_var for log σ in both places, σ² and log σ²": total(
            square + var**2 - 1 - 2 * log_var
        ),
        "you used μ where μ² belongs": total(mean + var - 1 - log_var),
        "the −1 is missing; without it the smallest KL is not 0": total(square + var - log_var),
        "the sign of log σ² is wrong: a narrow cloud must cost more, not less": total(
            square + var - 1 + log_var
        ),
        "you used log_var itself where σ² belongs; take exp(log_var)": total(square - 1),
        "μ² is missing: the cloud's place counts too": total(var - 1 - log_var),
        "that is the naive penalty (3.13)": (square / 2 + log_var.square() / 4).sum(dim=1),
        "that is the other direction, KL(p ‖ q)": total((1 + square) / var - 1 + log_var),
    }
    for diagnosis, wrong in mistakes.items():
        if _same(got, wrong):
            print(f"✗ {diagnosis}")
            return
    for diagnosis, wrong in mistakes.items():
        if _same(got, -wrong):
            print(f"✗ the sign is wrong, and {diagnosis}")
            return
    if got.shape != right.shape:
        print(f"✗ the shape is {list(got.shape)}; for 5 images [5] is wanted")
        return
    print("✗ the shape is right and the values aren't; compare with equation (3.11) term by term")


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double())
