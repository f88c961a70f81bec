"""A claim prints one sentence, or stops; a check gathers several in one list."""

import re

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from vae_book import claims, data
from vae_book.claims import ClaimFailed, check, claim


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(data, "_last_loaded", None)
    monkeypatch.delenv("VAE_CORE_CLAIMS", raising=False)


@pytest.fixture
def notebook():
    """As in a kernel: IPython is there, and what is displayed is returned as mime bundles."""
    InteractiveShell.instance()
    yield lambda: capture_output(stdout=True, stderr=False, display=True)
    InteractiveShell.clear_instance()


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


# ------------------------------------------------------------------------------------ only


def test_a_claim_about_one_data_set_is_judged_there_only(capsys, monkeypatch):
    claim("the ratio", 3, below=1, only="mnist")  # nothing was loaded
    data.load("strokes", quiet=True)
    claim("the ratio", 3, below=1, only="mnist")
    claim("the ratio", 0.5, below=1, only="strokes")
    with pytest.raises(ClaimFailed, match=re.escape("the ratio: ⟨3⟩, below 1 (on StrokeDigits)")):
        claim("the ratio", 3, below=1, only="strokes")
    monkeypatch.setattr(data, "_last_loaded", "mnist")
    claim("the ratio", 0.5, below=1, only="mnist")
    assert capsys.readouterr().out.splitlines() == [
        "⟨–⟩ the ratio: ⟨3⟩, below 1 (on MNIST)",
        "⟨–⟩ the ratio: ⟨3⟩, below 1 (on MNIST)",
        "⟨✓⟩ the ratio: ⟨0.5⟩, below 1 (on StrokeDigits)",
        "⟨✓⟩ the ratio: ⟨0.5⟩, below 1 (on MNIST)",
    ]


def test_a_claim_about_two_data_sets_is_judged_on_both(capsys, monkeypatch):
    for name in ("mnist", "strokes", "brush"):
        monkeypatch.setattr(data, "_last_loaded", name)
        claim("the ratio", 0.5, below=1, only=("mnist", "strokes"))
    monkeypatch.setattr(data, "_last_loaded", "strokes")
    with pytest.raises(ClaimFailed, match="the ratio"):
        claim("the ratio", 3, below=1, only=("mnist", "strokes"))
    where = "the ratio: ⟨0.5⟩, below 1 (on MNIST and StrokeDigits)"
    assert capsys.readouterr().out.splitlines() == [f"⟨{mark}⟩ {where}" for mark in "✓✓–"]


@pytest.mark.parametrize("only", ["MNIST", ("mnist", "MNIST")])
def test_only_is_one_or_more_data_sets(only):
    with pytest.raises(
        ValueError, match="only: expected one of mnist, .*, or several, got .*MNIST"
    ):
        claim("the ratio", 0.5, below=1, only=only)


def test_every_data_set_has_a_title():
    assert claims.TITLES.keys() == set(data.NAMES)


# ------------------------------------------------------------------------------------ check


def test_in_plain_python_a_check_prints_the_sentences(capsys):
    with check("two things"):
        claim("a", 2, above=1)
        claim("b", 0, below=1, only="mnist")
        assert capsys.readouterr().out == ""
    expected = "✓ a: ⟨2⟩, above 1\n⟨–⟩ b: ⟨0⟩, below 1 (on MNIST)\n"
    assert capsys.readouterr().out == expected


def test_in_a_notebook_a_check_is_one_folded_list(notebook):
    with notebook() as seen, check("a < b & c"):
        claim("a <b>", 2, above=1)
        claim("b", 0, below=1, only="mnist")
    assert seen.stdout == ""
    (shown,) = [output.data for output in seen.outputs]
    assert shown["text/plain"] == "✓ a <b>: ⟨2⟩, above 1\n⟨–⟩ b: ⟨0⟩, below 1 (on MNIST)"
    assert shown["text/html"] == (
        '<details class="claims"><summary>Check: a &lt; b &amp; c: ⟨1⟩ of ⟨1⟩ hold</summary><ul>'
        "<li>✓ a &lt;b&gt;: ⟨2⟩, above 1</li>"
        "<li>⟨–⟩ b: ⟨0⟩, below 1 (on MNIST)</li></ul></details>"
    )


def test_outside_the_brackets_a_list_is_the_same_on_every_data_set(notebook, monkeypatch):
    """Strictly, since nbval compares the HTML of MNIST with that of strokes."""
    texts = []
    for name, value in (("mnist", 2), ("strokes", 3.5)):
        monkeypatch.setattr(data, "_last_loaded", name)
        with notebook() as seen, check("things"):
            claim("a", value, above=1)
            claim("b", value, below=3, only="mnist")
        texts.append({k: re.sub("⟨[^⟩]*⟩", "", v) for k, v in seen.outputs[0].data.items()})
    assert texts[0] == texts[1]


def test_a_failed_check_shows_the_whole_list_and_names_every_failure(notebook):
    with notebook() as seen, pytest.raises(ClaimFailed) as failed:
        with check("things"):
            claim("a", 0, above=1)
            claim("b", 2, above=1)
            claim("c", float("nan"), above=1)
    assert str(failed.value) == "not true here: a: ⟨0⟩, above 1; c: ⟨nan⟩, above 1"
    plain = seen.outputs[0].data["text/plain"]
    assert plain.splitlines() == [
        "✗ a: ⟨0⟩, above 1",
        "✓ b: ⟨2⟩, above 1",
        "✗ c: ⟨nan⟩, above 1",
    ]
    assert "things: ⟨1⟩ of ⟨3⟩ hold" in seen.outputs[0].data["text/html"]


def test_another_error_passes_through_and_leaves_no_check_open(capsys):
    with pytest.raises(ZeroDivisionError):
        with check("things"):
            claim("a", 0, above=1)
            claim("b", 1 / 0, above=1)
    assert capsys.readouterr().out == ""
    claim("c", 2, above=1)
    assert capsys.readouterr().out == "✓ c: ⟨2⟩, above 1\n"


def test_an_empty_check_and_one_inside_another_are_errors():
    with pytest.raises(ValueError, match=r"check\('things'\): expected at least one claim"):
        with check("things"):
            pass
    with pytest.raises(RuntimeError, match="to stand outside any other check"):
        with check("things"):
            claim("a", 2, above=1)
            with check("more"):
                claim("b", 2, above=1)


def test_collecting_marks_failures_and_goes_on(capsys, monkeypatch):
    monkeypatch.setenv("VAE_CORE_CLAIMS", "collect")
    claim("a", 0, above=1)
    with check("things"):
        claim("b", 0, above=1)
    assert capsys.readouterr().out == "✗ a: ⟨0⟩, above 1\n✗ b: ⟨0⟩, above 1\n"
    monkeypatch.setenv("VAE_CORE_CLAIMS", "yes")
    with pytest.raises(ValueError, match="VAE_CORE_CLAIMS: expected collect or nothing, got 'yes'"):
        claim("a", 2, above=1)


def test_a_value_with_a_gradient_is_a_number_like_any_other(capsys, recwarn):
    claim("weight", torch.tensor(2.0, requires_grad=True), above=1)
    assert capsys.readouterr().out == "✓ weight: ⟨2⟩, above 1\n"
    assert not recwarn.list
