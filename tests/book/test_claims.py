"""A claim prints one sentence, or stops."""

import pytest
import torch

from vae_book.claims import ClaimFailed, claim


def test_sentence(capsys):
    claim("error of d = 2 over d = 8", torch.tensor(2.3456), above=1.5)
    claim("angle in degrees", 0.00012, above=0, below=0.5)
    assert capsys.readouterr().out.splitlines() == [
        "✓ error of d = 2 over d = 8: ⟨2.346⟩, above 1.5",
        "✓ angle in degrees: ⟨0.00012⟩, above 0 and below 0.5",
    ]


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (1.0, {"above": 1.0}),
        (1.0, {"below": 1.0}),
        (2.0, {"above": 0.0, "below": 1.0}),
        (float("nan"), {"above": 0.0}),
        (float("nan"), {"below": 0.0}),
    ],
)
def test_what_is_not_true_stops(capsys, value, bounds):
    with pytest.raises(ClaimFailed, match="not true here: the ratio"):
        claim("the ratio", value, **bounds)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("value", [torch.zeros(2), "many", None])
def test_one_number_is_wanted(value):
    with pytest.raises(TypeError, match="value: expected one number"):
        claim("the ratio", value, above=1)


def test_bounds_are_wanted():
    with pytest.raises(ValueError, match="expected at least one bound"):
        claim("the ratio", 1.0)
    with pytest.raises(ValueError, match="above: expected less than below"):
        claim("the ratio", 1.0, above=2, below=1)
