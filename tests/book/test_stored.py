"""Results that ship with the book: used where the same code made them, and never otherwise."""

import json

import pytest

from vae_book import stored as module
from vae_book.stored import stored


class Model:
    def width(self):
        return 8


class OtherModel:
    def width(self):
        return 9


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FOLDER", tmp_path / "results")
    monkeypatch.delenv("VAE_CORE_STORED", raising=False)
    return tmp_path / "results"


def long_run(data="mnist", uses=Model):
    """A function that notes each time it is really run."""
    runs = []

    @stored("runs", data, uses)
    def train(seed, epochs=1):
        runs.append(seed)
        return {"loss": [0.1 + seed], "epochs": epochs}

    return train, runs


def test_written_once_then_read(folder, monkeypatch):
    train, runs = long_run()
    assert train(3) == {"loss": [3.1], "epochs": 1} and not folder.exists()
    monkeypatch.setenv("VAE_CORE_STORED", "write")
    train, runs = long_run()
    for seed in (3, 4):
        train(seed)
    assert runs == [3, 4]
    monkeypatch.delenv("VAE_CORE_STORED")
    train, runs = long_run()
    assert train(seed=3, epochs=1) == train(3) == {"loss": [3.1], "epochs": 1} and runs == []
    assert [file.name for file in folder.iterdir()] == ["runs.json"]


def test_other_arguments_other_data_and_other_code_are_run(folder, monkeypatch):
    monkeypatch.setenv("VAE_CORE_STORED", "write")
    long_run()[0](3)
    monkeypatch.delenv("VAE_CORE_STORED")
    for (train, runs), arguments in (
        (long_run(), (3, 2)),
        (long_run(data="strokes"), (3,)),
        (long_run(uses=OtherModel), (3,)),  # the function is the same, what it builds on isn't
    ):
        train(*arguments)
        assert runs == [3]


def test_ignore_runs_and_stores_nothing(folder, monkeypatch):
    monkeypatch.setenv("VAE_CORE_STORED", "write")
    long_run()[0](3)
    before = (folder / "runs.json").read_bytes()
    monkeypatch.setenv("VAE_CORE_STORED", "ignore")
    train, runs = long_run()
    train(3)
    train(5)
    assert runs == [3, 5] and (folder / "runs.json").read_bytes() == before


def test_a_later_run_replaces_an_entry_and_keeps_the_others(folder, monkeypatch):
    monkeypatch.setenv("VAE_CORE_STORED", "write")
    long_run()[0](3)
    long_run(data="strokes")[0](3)
    long_run(uses=OtherModel)[0](3)
    entries = json.loads((folder / "runs.json").read_text(encoding="utf-8"))
    assert list(entries) == ["mnist: seed=3, epochs=1", "strokes: seed=3, epochs=1"]
    assert len({entry["code"] for entry in entries.values()}) == 2


def test_a_switch_that_is_neither(monkeypatch):
    monkeypatch.setenv("VAE_CORE_STORED", "yes")
    expected = "VAE_CORE_STORED: expected ignore, write or an absolute path, got 'yes'"
    with pytest.raises(ValueError, match=expected):
        stored("runs", "mnist")


def helper():
    return 8


def other_helper():
    return 9


def test_functions_that_a_result_builds_on_count_as_its_code(folder, monkeypatch):
    monkeypatch.setenv("VAE_CORE_STORED", "write")
    long_run(uses=helper)[0](3)
    monkeypatch.delenv("VAE_CORE_STORED")
    train, runs = long_run(uses=helper)
    train(3)
    assert runs == []
    train, runs = long_run(uses=other_helper)
    train(3)
    assert runs == [3]


def test_several_things_that_a_result_builds_on(folder, monkeypatch):
    def run(*uses):
        runs = []

        @stored("runs", "mnist", *uses)
        def train(seed):
            runs.append(seed)
            return seed

        train(3)
        return runs

    monkeypatch.setenv("VAE_CORE_STORED", "write")
    run(helper, Model)
    monkeypatch.delenv("VAE_CORE_STORED")
    assert run(helper, Model) == []
    for uses in ((helper,), (Model,), (other_helper, Model), (helper, OtherModel)):
        assert run(*uses) == [3]


def test_a_folder_keeps_what_the_book_does_not_have(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_CORE_STORED", "write")
    long_run()[0](3)
    before = (folder / "runs.json").read_bytes()
    monkeypatch.setenv("VAE_CORE_STORED", str(tmp_path / "a" / "kept"))
    train, runs = long_run()
    assert [train(seed)["loss"] for seed in (3, 5, 5)] == [[3.1], [5.1], [5.1]]
    assert runs == [5] and (folder / "runs.json").read_bytes() == before
    train, runs = long_run(uses=OtherModel)
    train(5)
    assert runs == [5]  # by other code
    monkeypatch.setenv("VAE_CORE_STORED", "a/kept")
    with pytest.raises(ValueError, match="expected ignore, write or an absolute path"):
        long_run()
