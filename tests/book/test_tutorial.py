"""The tutorial's network: what the ReLU is put on, and in which units its loss is told."""

import numpy as np
import pytest
import torch
from torch import nn

from small import small_images
from vae_book import stored, tutorial
from vae_book.data import ImageData, Split
from vae_book.tutorial import BATCH, PUBLISHED, TutorialVAE, train_tutorial
from vae_core import History, seed_everything

STEPS = 3  # batches in an epoch


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "FOLDER", tmp_path / "results")
    monkeypatch.delenv("VAE_CORE_STORED", raising=False)


def some_data() -> ImageData:
    n = STEPS * BATCH + 5  # five images are left over in each epoch
    split = Split(small_images(n, binary=False, shape=(28, 28)), torch.zeros(n, dtype=torch.int64))
    return ImageData("mnist", split, split, split)


def test_ten_published_losses_a_weight_that_fall():
    assert set(PUBLISHED) == {0, 3}
    for losses in PUBLISHED.values():
        assert len(losses) == 10 and losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("width", [2, 8])
def test_shared_numbers_have_the_width_and_only_the_relu_keeps_them_from_below_zero(width):
    x = small_images(40, binary=False, shape=(28, 28))
    seed_everything(0)
    plain = TutorialVAE(relu=False, width=width)
    with_relu = TutorialVAE(relu=True, width=width)
    with_relu.load_state_dict(plain.state_dict())  # the ReLU has no weights
    with torch.no_grad():
        one, other = plain.shared(x), with_relu.shared(x)
        assert one.shape == (40, width) and one.min() < 0
        torch.testing.assert_close(other, one.clamp(min=0))
        q = with_relu.encode(x)
        mean, log_var = with_relu.encoder[-1](other).chunk(2, dim=1)
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.variance, log_var.exp())
    assert q.mean.shape == (40, 8)


def test_without_the_relu_it_is_one_layer_written_as_two():
    kinds = [type(layer) for layer in TutorialVAE(relu=False).encoder[0]]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear]
    assert isinstance(TutorialVAE(relu=False).encoder[1], nn.Identity)
    assert isinstance(TutorialVAE(relu=True).encoder[1], nn.ReLU)


@pytest.mark.parametrize("weight", [0, 3])
def test_the_loss_is_a_batch_s_sum_with_the_weighted_kl_averaged_over_each_epoch(
    weight, monkeypatch
):
    asked = {}

    def fit(model, images, **how):
        asked.update(how)
        errors = np.array([50.0, 40.0, 30.0, 20.0, 20.0, 14.0])  # of two epochs
        return History({"squared error": errors, "KL": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])})

    monkeypatch.setattr(tutorial, "fit", fit)
    run = train_tutorial(some_data(), weight=weight, relu=True, seed=3, epochs=2)
    assert run["loss"] == [32 * (40 + 2 * weight), 32 * (18 + 5 * weight)]
    assert asked == {"steps": 6, "batch_size": 32, "weights": {"KL": weight}, "seed": 3}


def test_what_comes_back(capsys):
    run = train_tutorial(some_data(), weight=0, relu=True, seed=0, epochs=2, width=5)
    assert capsys.readouterr().out == ""
    assert {name: len(values) for name, values in run.items()} == {
        "loss": 2, "on": 5, "sigma": 8, "spread": 8}  # fmt: skip
    assert all(0 <= share <= 1 for share in run["on"])
    assert min(run["sigma"]) > 0 and min(run["spread"]) > 0


def test_arguments_reach_the_training():
    data = some_data()
    how = {"weight": 0, "relu": False, "seed": 0}
    run = train_tutorial(data, **how)
    assert train_tutorial(data, **how) == run
    for change in ({"seed": 1}, {"relu": True}, {"weight": 3}, {"width": 4}):
        assert train_tutorial(data, **how | change)["loss"] != run["loss"]
    longer = train_tutorial(data, **how, epochs=2)["loss"]
    assert len(longer) == 2 and longer[0] == pytest.approx(run["loss"][0], rel=1e-5)


def test_a_unit_that_is_never_on_counts_as_dead():
    data = some_data()
    seed_everything(0)
    model = TutorialVAE(relu=True)
    with torch.no_grad():
        on = (model.shared(data.train.images) > 0).double().mean(dim=0)
    assert on.min() < 0.5 < on.max()


def test_an_entry_is_stored_and_used(monkeypatch, tmp_path):
    monkeypatch.setenv("VAE_CORE_STORED", "write")
    run = train_tutorial(some_data(), weight=0, relu=True, seed=0)
    monkeypatch.delenv("VAE_CORE_STORED")
    file = tmp_path / "results" / "tutorial_experiment.json"
    assert file.exists()
    file.write_text(file.read_text(encoding="utf-8").replace('"spread": [', '"spread": [-1.0, '))
    assert train_tutorial(some_data(), weight=0, relu=True, seed=0)["spread"][0] == -1
    assert run["spread"][0] != -1
