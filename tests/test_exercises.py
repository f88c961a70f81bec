"""The checkers of the exercises: right answers pass, each wrong one gets its own diagnosis."""

import pytest

from vae_core.exercises import check_squared_error


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (lambda x, y: (x - y).square().sum(dim=1), "✓ right"),
        (lambda x, y: (x - y).square().mean(dim=1), "averaged over the pixels"),
        (lambda x, y: (x - y).square().sum(dim=0), "summed over the images"),
        (lambda x, y: (x - y).square().mean(dim=0), "averaged over the images and kept"),
        (lambda x, y: (x - y).square().sum(), "added up the whole batch"),
        (lambda x, y: (x - y).square().mean(), "mean over everything"),
        (lambda x, y: (x - y).square().sum(dim=1).mean(), "mean over the images already"),
        (lambda x, y: (x - y).abs().sum(dim=1), "absolute differences"),
        (lambda x, y: (x - y).norm(dim=1), "square root"),
        (lambda x, y: (y - x).sum(dim=1), "squared nothing"),
        (lambda x, y: (x - y) ** 2, "nothing is summed yet"),
        (lambda x, y: (x - y)[:2, 0], "the shape is [2]"),
        (lambda x, y: 2 * (x - y).square().sum(dim=1), "the values aren't"),
        (lambda x, y: 3.0, "you returned float"),
    ],
)
def test_check_squared_error(capsys, answer, verdict):
    check_squared_error(answer)
    assert verdict in capsys.readouterr().out
