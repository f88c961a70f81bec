"""Stored weights are used for exactly the recipe that they were trained by, and only then."""

import pytest
import torch

import train_weights
from small import small_images
from vae_book import weights
from vae_book.data import ImageData, Split
from vae_book.models import Autoencoder, SquaredErrorVAE
from vae_book.weights import trained
from vae_core import seed_everything

HOW = {"steps": 5, "seed": 0}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "weights")
    monkeypatch.delenv("VAE_CORE_STORED", raising=False)


def some_data(name: str = "mnist", n: int = 200) -> ImageData:
    images = small_images(n, binary=False, shape=(28, 28))
    split = Split(images, torch.zeros(n, dtype=torch.int64))
    return ImageData(name, split, split, split)


def small_model(kind=SquaredErrorVAE, latent_dim: int = 3):
    seed_everything(0)
    return kind(latent_dim, hidden=(4,))


def store(model, data, **how) -> None:
    training = HOW | {"peak": 3e-3, "weights": {}} | how
    train_weights.save_half(model, weights.recipe_of(model, data, training))


def with_ones(model):
    """A model that no training gives: all its weights are 1.0001, which half precision rounds."""
    for weight in model.parameters():
        torch.nn.init.constant_(weight, 1.0001)
    return model


def is_stored(model) -> bool:
    return all((weight == 1).all() for weight in model.parameters())


def test_without_a_file_it_trains_and_says_so_in_one_line(capsys):
    model = small_model()
    before = model.encoder[0].weight.clone()
    assert trained(model, some_data(), steps=2, seed=0) is model
    assert not torch.equal(model.encoder[0].weight, before)
    assert capsys.readouterr().out == "SquaredErrorVAE, d = 3, 2 steps: ⟨trained now⟩\n"


def test_stored_weights_are_loaded_in_float32(capsys):
    data = some_data()
    store(with_ones(small_model()), data)
    model = trained(small_model(), data, **HOW)
    assert is_stored(model)
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.float32}
    assert model.likelihood.sigma_x == small_model().likelihood.sigma_x  # not rounded
    line = "SquaredErrorVAE, d = 3, 5 steps: ⟨weights stored with the book⟩\n"
    assert capsys.readouterr().out == line


@pytest.mark.parametrize(
    "other",
    [
        {"steps": 6},
        {"seed": 1},
        {"peak": 1e-3},
        {"weights": {"KL": 2}},
        {"data": some_data("strokes")},
        {"data": some_data(n=150)},
        {"model": small_model(latent_dim=2)},
        {"model": SquaredErrorVAE(3, hidden=(5,))},
        {"model": small_model(Autoencoder)},
    ],
)
def test_another_recipe_is_trained(other, capsys):
    store(with_ones(small_model()), some_data())
    recipe = HOW | {"model": small_model(), "data": some_data()} | other
    assert not is_stored(trained(recipe.pop("model"), recipe.pop("data"), **recipe))
    assert "⟨trained now⟩" in capsys.readouterr().out


def test_a_renamed_file_is_not_believed(capsys):
    data = some_data()
    store(with_ones(small_model()), data, steps=6)
    (file,) = weights.FOLDER.iterdir()
    file.rename(file.with_name(file.name.replace("-6-", "-5-")))
    assert not is_stored(trained(small_model(), data, **HOW))


def test_a_weight_of_one_is_no_weight(capsys):
    store(with_ones(small_model()), some_data())
    assert is_stored(trained(small_model(), some_data(), weights={"KL": 1}, **HOW))
    store(with_ones(small_model()), some_data(), weights={"KL": 0.5})
    assert is_stored(trained(small_model(), some_data(), weights={"KL": 0.5}, **HOW))
    assert "SquaredErrorVAE, d = 3, KL × 0.5, 5 steps: ⟨" in capsys.readouterr().out


def test_ignore_trains_and_writes_nothing(monkeypatch):
    store(with_ones(small_model()), some_data())
    (file,) = weights.FOLDER.iterdir()
    before = file.read_bytes()
    monkeypatch.setenv("VAE_CORE_STORED", "ignore")
    assert not is_stored(trained(small_model(), some_data(), **HOW))
    assert [file] == list(weights.FOLDER.iterdir()) and file.read_bytes() == before


def test_training_is_fit_with_one_cycle():
    from vae_core import fit, one_cycle

    data, other = some_data(), small_model()
    model = trained(small_model(), data, steps=7, seed=3, peak=1e-2, weights={"KL": 2})
    fit(other, data.train.images, steps=7, lr=one_cycle(7, 1e-2), weights={"KL": 2}, seed=3)
    assert all(map(torch.equal, model.parameters(), other.parameters()))


def test_a_schedule_is_no_weight():
    with pytest.raises(TypeError, match=r"weights\['KL'\]: expected a number"):
        trained(small_model(), some_data(), weights={"KL": lambda step: 1.0}, **HOW)


def test_the_tool_stores_compares_and_finds_a_difference(monkeypatch, capsys):
    kind = type("Small", (SquaredErrorVAE,), {"__init__": lambda self, d: _small_init(self, d)})
    monkeypatch.setattr(train_weights, "RECIPES", [train_weights.Recipe(kind, 2, 20)])
    monkeypatch.setattr(train_weights, "load", some_data)
    assert train_weights.main([]) == 1
    assert "no stored weights of this recipe" in capsys.readouterr().out
    assert train_weights.main(["--store"]) == 0
    assert len(list(weights.FOLDER.iterdir())) == 2
    assert train_weights.main([]) == 0
    out = capsys.readouterr().out
    assert "squared error    stored" in out and "active units     stored" in out
    monkeypatch.setattr(train_weights, "measures", lambda model, data: {"KL": next(numbers)})
    numbers = iter([1.0, 1.02, 1.0, 1.05])  # stored, new; stored, new
    assert train_weights.main([]) == 1
    assert "1.05   differs" in capsys.readouterr().out
    assert not train_weights.agree("active units", 8, 7)


def _small_init(model, latent_dim: int) -> None:
    SquaredErrorVAE.__init__(model, latent_dim, hidden=(4,))


def test_what_ships_is_small_and_of_the_recipes(monkeypatch):
    monkeypatch.undo()  # the book's own folder
    files = sorted(weights.FOLDER.glob("*"))
    assert sum(file.stat().st_size for file in files) <= 5e6
    wanted = []
    for recipe in train_weights.RECIPES:
        for name in train_weights.DATA:
            header = weights.recipe_of(recipe.model(), some_data(name), recipe.training())
            wanted.append(weights.file_of(header))
    assert len(set(wanted)) == len(wanted)
    assert set(files) == set(wanted)
