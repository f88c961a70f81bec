"""Schedules: where they start, where they end, and that nothing jumps in between."""

import itertools
import math

import pytest
import torch

from vae_core import one_cycle, warm_up


def test_warm_up_rises_evenly_to_one_and_stays():
    weight = warm_up(4)
    assert [weight(step) for step in range(7)] == [0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert weight(10**9) == 1


def test_warm_up_over_one_step():
    assert [warm_up(1)(step) for step in range(3)] == [0, 1, 1]


@pytest.mark.parametrize(("steps", "peak"), [(1000, 3e-3), (10, 1.0), (123, 1e-5)])
def test_one_cycle_starts_low_peaks_at_30_percent_and_ends_at_almost_0(steps, peak):
    rates = [one_cycle(steps, peak)(step) for step in range(steps)]
    top = rates.index(max(rates))
    assert rates[0] == pytest.approx(peak / 25)
    assert top / steps == pytest.approx(0.3, abs=0.5 / steps)
    assert peak * 0.999 < rates[top] <= peak
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < peak * 6 / steps**2 + peak / 250_000  # one step before the end


def test_one_cycle_reaches_the_peak_exactly_where_a_step_falls_on_it():
    assert one_cycle(1000, 3e-3)(300) == 3e-3


def test_one_cycle_does_not_jump():
    """Half a cosine of height h over n steps never rises by more than h π / (2n) in one."""
    steps, peak = 1000, 3e-3
    rates = [one_cycle(steps, peak)(step) for step in range(steps + 1)]
    jumps = [abs(after - before) for before, after in itertools.pairwise(rates)]
    assert max(jumps) <= peak * math.pi / 2 / (0.3 * steps)


@pytest.mark.parametrize("steps", [2, 10, 100, 977])
def test_one_cycle_is_the_schedule_of_pytorch(steps):
    """PyTorch counts the end as a step, and so puts the peak where step 0.3 T − 1 is."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))])
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 2e-3, total_steps=steps + 1, pct_start=(0.3 * steps + 1) / (steps + 1)
    )
    ours = one_cycle(steps, 2e-3)
    for step in range(steps):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9, abs=1e-15)
        optimiser.step()
        theirs.step()
    assert ours(steps) == pytest.approx(2e-3 / 250_000)


def test_one_cycle_of_one_step():
    assert one_cycle(1, 1e-3)(0) == pytest.approx(1e-3 / 25)


def test_one_cycle_stays_down_after_its_end():
    rate = one_cycle(10, 1.0)
    assert rate(10) == rate(11) == rate(1000) == pytest.approx(1 / 250_000)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: warm_up(0), ValueError, "steps: expected an integer of at least 1, got 0"),
        (lambda: warm_up(1.5), TypeError, "steps: expected an integer"),
        (lambda: warm_up(True), TypeError, "steps: expected an integer"),
        (lambda: one_cycle(0, 1e-3), ValueError, "steps: expected an integer"),
        (lambda: one_cycle("10", 1e-3), TypeError, "steps: expected an integer"),
        (lambda: one_cycle(10, 0.0), ValueError, "peak: expected a finite number above 0"),
        (lambda: one_cycle(10, -1e-3), ValueError, "peak: expected a finite number above 0"),
        (lambda: one_cycle(10, math.nan), ValueError, "peak: expected a finite number above 0"),
        (lambda: one_cycle(10, "fast"), TypeError, "peak: expected a number above 0"),
    ],
)
def test_bad_arguments(make, error, words):
    with pytest.raises(error, match=words):
        make()
