"""``History``: what it notes of a run, what it says of it in a line, and what it draws."""

import copy
import sys

import matplotlib
import numpy as np
import pytest
import torch

from small import same_history, small_images, small_vae
from vae_core import History, fit
from vae_core.history import running_mean, without_the_first_steps

matplotlib.use("Agg")


def falling(n: int, **changes) -> History:
    """A loss that falls from 1 to 1/n, in float32 as ``fit`` records it."""
    return History({"loss": (1 / np.arange(1, n + 1)).astype(np.float32)}, **changes)


def test_recent_is_the_mean_of_the_last_steps():
    history = History({"a": np.array([9.0, 5.0, 1.0, 3.0]), "b": np.arange(4.0)})
    assert history.recent("a", 1) == 3 and history.recent("a", 2) == 2
    assert history.recent("a", 4) == history.recent("a") == 4.5  # fewer if there were fewer
    assert history.recent("b", 2) == 2.5 and isinstance(history.recent("a"), float)
    assert History({"a": np.arange(1000.0)}).recent("a") == pytest.approx(949.5)  # of 100 steps


# What is noted


def noted(n: int, dtype=torch.float32) -> History:
    """A history of n steps, as a loop notes them: a = 1, 2, 3, … and b = −a."""
    history = History()
    for step in range(1, n + 1):
        value = torch.tensor(float(step), dtype=dtype, requires_grad=True)
        history.note({"a": value * 1, "b": -value})
    return history


@pytest.mark.parametrize("n", [0, 1, 2, 999, 1000, 1001, 2500])
def test_what_is_noted_is_what_is_read(n):
    history, expected = noted(n), np.arange(1, n + 1, dtype=np.float32)
    assert history.steps == n and list(history.train) == (["a", "b"] if n else [])
    for term, values in history.train.items():
        assert isinstance(values, np.ndarray) and values.dtype == np.float32
        np.testing.assert_array_equal(values, expected if term == "a" else -expected)


def test_what_was_read_before_stays_while_more_is_noted():
    history = noted(3)
    before = history.train
    history.note({"a": torch.tensor(9.0), "b": torch.tensor(8.0)})
    assert before["a"].tolist() == [1, 2, 3] and history.train["a"].tolist() == [1, 2, 3, 9]
    assert history.train["b"].tolist() == [-1, -2, -3, 8] and history.steps == 4


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(torch.bfloat16, np.float32), (torch.float32, np.float32), (torch.float64, np.float64)],
)
def test_numbers_are_kept_with_24_bits_or_more(dtype, kept):
    """bfloat16 is a type that NumPy doesn't have."""
    assert {values.dtype for values in noted(5, dtype).train.values()} == {np.dtype(kept)}


def test_arrays_that_were_given_can_be_continued():
    history = History({"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0])})
    history.note({"a": torch.tensor(5.0), "b": torch.tensor(6.0)})
    assert {term: values.tolist() for term, values in history.train.items()} == {
        "a": [1, 2, 5],
        "b": [3, 4, 6],
    }


@pytest.mark.parametrize("terms", [["a"], ["a", "c"], ["a", "b", "c"], ["b", "a"]])
def test_the_terms_of_a_step_are_those_of_the_steps_before(terms):
    history = noted(2)
    words = rf"^means: expected the terms of the steps before \(a, b\), got {', '.join(terms)}$"
    with pytest.raises(ValueError, match=words):
        history.note({term: torch.tensor(1.0) for term in terms})
    assert history.steps == 2 and history.train["b"].tolist() == [-1, -2]


def test_validation_is_noted_after_the_step_just_done():
    history = noted(2)
    history.note_validation({"a": 0.5})
    history.note({"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
    history.note_validation({"a": 0.25})
    assert history.val == {"a": [0.5, 0.25]} and history.val_steps == [2, 3]


@pytest.mark.parametrize("n", [0, 1, 1500])
def test_the_state_of_a_history_makes_it_again(n):
    history, again = noted(n), noted(7)
    history.note_validation({"a": 1.5})
    again.load_state_dict(copy.deepcopy(history.state_dict()))
    assert same_history(again, history) and again.steps == n
    for each in (history, again):
        each.note({"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
        each.note_validation({"a": 2.5})
    assert same_history(again, history) and again.steps == n + 1


@pytest.mark.parametrize("step", [1, 2, 1000, 1001, 1200])
@pytest.mark.parametrize(
    ("values", "term", "value"),
    [
        ((torch.nan, 1.0), "a", torch.nan),
        ((1.0, torch.inf), "b", torch.inf),
        ((-torch.inf, torch.nan), "a", -torch.inf),
    ],
)
def test_the_first_number_that_is_not_finite_is_found(step, values, term, value):
    """The first step, and in it the first term."""
    history = noted(step - 1)
    assert history.first_not_finite() is None
    for pair in (values, (torch.nan, torch.nan), (1.0, 1.0)):
        history.note(dict(zip("ab", map(torch.tensor, pair), strict=True)))
    at, name, found = history.first_not_finite()
    assert (at, name) == (step, term) and isinstance(found, float)
    assert found == value or np.isnan(found) and np.isnan(value)


# What it says and draws


@pytest.mark.parametrize(
    ("history", "line"),
    [
        (History(), "0 steps"),
        (History(interrupted=True), "0 steps, stopped by hand"),
        (History({"KL": np.empty(0)}, {"KL": []}), "0 steps"),
        (History({"KL": np.array([3.0, 1.0])}), "2 steps; KL ⟨2⟩"),
        (
            History(
                {"reconstruction": np.full(1234, 98.76543), "KL": np.full(1234, 1e-6)},
                {"reconstruction": [7.0, 101.5], "KL": [2.0, 2.25]},
                [617, 1234],
                interrupted=True,
            ),
            "1,234 steps, stopped by hand; reconstruction ⟨98.77⟩, KL ⟨1e-06⟩, "
            "validation reconstruction ⟨101.5⟩, validation KL ⟨2.25⟩",
        ),
    ],
)
def test_the_line(history, line):
    assert repr(history) == line


def test_the_line_of_a_long_run_is_short():
    line = repr(falling(10_000, val={"loss": [0.1] * 39}, val_steps=list(range(39))))
    assert line.startswith("10,000 steps; loss ⟨") and "\n" not in line and len(line) < 80


@pytest.mark.parametrize("n", [1, 2, 10_000])
def test_a_notebook_shows_a_png(n):
    assert falling(n)._repr_png_().startswith(b"\x89PNG\r\n")


def test_a_history_of_nothing_can_be_shown_and_drawn():
    (ax,) = History().plot().axes
    assert (
        ax.get_ylabel() == "loss per image"
        and not np.concatenate([line.get_ydata() for line in ax.lines]).size
    )
    empty = History({"a": np.empty(0), "b": np.empty(0)}, interrupted=True)
    assert [ax.get_ylabel() for ax in empty.plot().axes] == ["a per image", "b per image"]
    assert all(history._repr_png_().startswith(b"\x89PNG") for history in (History(), empty))


def test_without_matplotlib_a_notebook_shows_the_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # an import of it fails
    shown = falling(5)._repr_png_()
    assert shown is None and repr(falling(5)).startswith("5 steps; loss")


def test_a_panel_for_each_term_with_every_step_their_mean_and_validation():
    images = small_images()
    history = fit(small_vae(), images, val=images[:9], steps=80, batch_size=10)
    figure = history.plot()
    assert [ax.get_ylabel() for ax in figure.axes] == ["reconstruction per image", "KL per image"]
    for ax, term in zip(figure.axes, ("reconstruction", "KL"), strict=True):
        steps, smooth, validation = ax.lines
        assert ax.get_xlabel() == "step"
        np.testing.assert_array_equal(steps.get_xdata(), np.arange(1, 81))
        np.testing.assert_array_equal(steps.get_ydata(), history.train[term])
        values = history.train[term]
        np.testing.assert_allclose(smooth.get_ydata(), (values[:-1] + values[1:]) / 2, rtol=1e-5)
        np.testing.assert_array_equal(validation.get_xdata(), range(4, 81, 4))
        np.testing.assert_array_equal(validation.get_ydata(), history.val[term])
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["training, mean of 2 steps", "validation"]


def test_a_term_that_is_not_validated_has_no_points():
    history = History({"a": np.ones(9), "b": np.ones(9)}, {"a": [1.0]}, [9])
    assert [len(ax.lines) for ax in history.plot().axes] == [3, 2]


@pytest.mark.parametrize(("n", "window"), [(1, 1), (10, 1), (10, 3), (10, 4), (10, 10), (0, 1)])
def test_a_running_mean_stands_in_the_middle_of_its_steps(n, window):
    """Of a straight line it is the line itself (half a step aside for an even window)."""
    middle, smooth = running_mean(np.arange(1.0, n + 1), window)
    assert len(middle) == len(smooth) == max(0, n - window + 1)
    np.testing.assert_allclose(middle - smooth, 0.5 if window % 2 == 0 else 0, atol=1e-9)


def test_the_steep_beginning_does_not_flatten_the_rest():
    values = np.concatenate([np.full(5, 1e6), np.linspace(20, 10, 95)])
    low, high = without_the_first_steps(values)
    assert (low, high) == pytest.approx((9, 21))
    low, high = without_the_first_steps(np.full(10, 3.0))
    assert low < 3 < high  # room for a constant too
