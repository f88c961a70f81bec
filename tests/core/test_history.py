"""``History``: what it says of a run in a line, and what it draws."""

import sys

import matplotlib
import numpy as np
import pytest

from small import small_images, small_vae
from vae_core import History, fit
from vae_core.history import running_mean, without_the_first_steps

matplotlib.use("Agg")


def falling(n: int, **changes) -> History:
    """A loss that falls from 1 to 1/n, in float32 as ``fit`` records it."""
    return History({"loss": (1 / np.arange(1, n + 1)).astype(np.float32)}, **changes)


def test_recent_is_the_mean_of_the_last_steps():
    history = History({"a": np.array([9.0, 5.0, 1.0, 3.0]), "b": np.arange(1000.0)})
    assert history.recent("a", 1) == 3 and history.recent("a", 2) == 2
    assert history.recent("a", 4) == history.recent("a") == 4.5  # fewer if there were fewer
    assert history.recent("b") == pytest.approx(949.5)  # of 100 steps
    assert isinstance(history.recent("a"), float)


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
