"""Files of weights: what is read is what was written, or an error that says why not."""

import errno
import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from damaged import bomb, damaged_copies, full_disk
from small import OneNumber, small_vae
from vae_core import GaussianLikelihood, WeightsError, load_weights, save_weights


def state(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "vae.safetensors"


@pytest.fixture
def saved(path) -> Path:
    save_weights(small_vae(seed=0), path)
    return path


def refuses(path: Path, words: str, model=None) -> None:
    """An error that names the file, and not a weight is changed."""
    model = small_vae(seed=1) if model is None else model
    before = state(model)
    with pytest.raises(WeightsError, match=words) as caught:
        load_weights(model, path)
    assert str(caught.value).startswith(f"{path}: ") and same(state(model), before)


class WithBuffers(torch.nn.Module):
    """Running statistics, a count of type int64, and one weight that isn't contiguous."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(5)
        self.norm(torch.randn(20, 5))
        self.turned = torch.nn.Parameter(torch.randn(3, 4).T)


class Tied(torch.nn.Module):
    """A decoder that is its encoder turned round, and one tensor under two names."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.decoder.weight = self.encoder.weight
        self.register_buffer("part", self.encoder.bias.detach()[:2])


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: small_vae(seed=seed),
        lambda seed: small_vae(seed=seed).double(),
        lambda seed: small_vae(seed=seed).bfloat16(),
        lambda seed: small_vae(seed=seed, likelihood=GaussianLikelihood(0.3 + seed)),
        lambda seed: small_vae(seed=seed, likelihood=GaussianLikelihood(0.3 + seed, learned=True)),
        lambda seed: WithBuffers(),
        lambda seed: Tied(),
    ],
    ids=["float32", "float64", "bfloat16", "sigma_x", "learned sigma_x", "buffers", "tied"],
)
def test_what_is_loaded_is_what_was_saved_to_the_last_bit(make, path):
    there, here = make(0), make(1)
    before = state(there)
    assert not same(state(here), before)
    held = [parameter.data_ptr() for parameter in here.parameters()]  # by an optimiser, say
    save_weights(there, path)
    load_weights(here, str(path))
    assert same(state(here), before) and same(state(there), before)
    assert all(here.state_dict()[name].dtype == before[name].dtype for name in before)
    assert [parameter.data_ptr() for parameter in here.parameters()] == held
    assert os.listdir(path.parent) == [path.name]


def test_layers_that_share_a_tensor_share_it_still(path):
    save_weights(Tied(), path)
    here = Tied()
    load_weights(here, path)
    assert here.decoder.weight is here.encoder.weight


def test_the_file_is_safetensors_with_the_names_of_the_model(saved):
    assert same(load_file(saved), state(small_vae(seed=0)))


def test_the_type_of_the_model_stays(saved):
    """float32 fits into float64 exactly; float64 is rounded to the nearest float32."""
    double = small_vae(seed=1).double()
    load_weights(double, saved)
    assert same(state(double), {k: t.double() for k, t in state(small_vae(seed=0)).items()})
    next(double.parameters()).data.div_(3)
    single = small_vae(seed=1)
    save_weights(double, saved)
    load_weights(single, saved)
    assert same(state(single), {name: t.float() for name, t in state(double).items()})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("decoder.0.bias"), "decoder.0.bias is missing"),
        (lambda t: t.update(surplus=torch.zeros(1)), "surplus isn't the model's"),
        (
            lambda t: t.update({"encoder.0.bias": torch.zeros(9)}),
            r"encoder.0.bias has shape \(9,\), the model's has \(8,\)",
        ),
        (  # a shape that would broadcast
            lambda t: t.update({"encoder.0.bias": torch.zeros(1)}),
            r"encoder.0.bias has shape \(1,\)",
        ),
        (  # as many numbers
            lambda t: t.update({"encoder.0.weight": torch.zeros(16, 8)}),
            r"encoder.0.weight has shape \(16, 8\)",
        ),
        (lambda t: t.clear(), "encoder.0.weight is missing"),
        (lambda t: t["decoder.2.bias"].fill_(torch.nan), "decoder.2.bias has NaN or infinite"),
        (lambda t: t["decoder.2.bias"][3].fill_(torch.inf), "decoder.2.bias has NaN or infinite"),
    ],
)
def test_a_file_of_another_model_changes_nothing(saved, change, words):
    tensors = load_file(saved)
    change(tensors)
    save_file(tensors, saved)
    refuses(saved, words)


def test_every_difference_is_named(path):
    save_weights(small_vae(3, hidden=(7,), likelihood=GaussianLikelihood(0.3)), path)
    names = ("encoder.0.weight", "encoder.0.bias", "encoder.2.bias", "likelihood.fixed_sigma")
    for name in names:
        refuses(path, f"weights of another model: .*{name}")


@pytest.mark.parametrize("learned", [False, True])
def test_a_sigma_x_that_is_learned_is_no_fixed_one(path, learned):
    save_weights(small_vae(likelihood=GaussianLikelihood(0.3, learned=learned)), path)
    refuses(path, "likelihood", small_vae(likelihood=GaussianLikelihood(0.3, learned=not learned)))


def test_the_model_moves_where_it_is_asked_to_and_nowhere_else(saved):
    class Moving(OneNumber):
        def to(self, device):
            self.moved = device
            return super().to(device)

    model = Moving()
    save_weights(model, saved)
    load_weights(model, saved)
    assert not hasattr(model, "moved")
    load_weights(model, saved, device="cpu")
    assert model.moved == torch.device("cpu")


def test_a_device_that_is_not_there_changes_nothing(saved):
    model = small_vae(seed=1)
    before = state(model)
    with pytest.raises(ValueError, match="device: expected"):
        load_weights(model, saved, device="gpu")
    assert same(state(model), before)


def test_no_file_is_not_a_damaged_file(path):
    with pytest.raises(FileNotFoundError, match=path.name):
        load_weights(small_vae(), path)


def test_a_damaged_file_or_another_is_refused(saved):
    copies = list(damaged_copies(saved))
    copies += [("one byte more", saved.read_bytes() + b"\0"), ("JSON", b"{}"), ("0", b"\0" * 999)]
    for _, content in copies:
        saved.write_bytes(content)
        refuses(saved, "damaged, or no safetensors file")


@pytest.mark.parametrize("name", ["vae.safetensors", "vae.pt"])
def test_nothing_is_unpickled(tmp_path, name):
    path, planted = tmp_path / name, tmp_path / "planted"
    pickle.loads(bomb(planted))
    planted.unlink()  # the trap works
    path.write_bytes(bomb(planted))
    refuses(path, "no safetensors file")
    torch.save(small_vae().state_dict(), path)  # the right weights, in the wrong kind of file
    refuses(path, "no safetensors file")
    assert not planted.exists()


# Where it can't be written


def test_a_full_disk_leaves_the_file_before_as_it_was(saved, monkeypatch):
    before = saved.read_bytes()
    with full_disk(monkeypatch), pytest.raises(OSError, match=f"could not write {saved}: No space"):
        save_weights(small_vae(seed=1), saved)
    assert saved.read_bytes() == before and os.listdir(saved.parent) == [saved.name]


def test_a_full_disk_leaves_no_half_file(path, monkeypatch):
    with full_disk(monkeypatch), pytest.raises(OSError) as caught:
        save_weights(small_vae(), path)
    assert caught.value.errno == errno.ENOSPC and os.listdir(path.parent) == []


def test_a_file_that_cannot_take_its_name_leaves_the_one_before(saved, monkeypatch):
    def fail(*names):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    before = saved.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(PermissionError, match=f"could not write {saved}: Permission denied"):
            save_weights(small_vae(seed=1), saved)
    assert saved.read_bytes() == before and os.listdir(saved.parent) == [saved.name]


def test_a_folder_that_is_not_there(path):
    with pytest.raises(FileNotFoundError, match=r"could not write .*gone.*vae.safetensors"):
        save_weights(small_vae(), path.parent / "gone" / path.name)


def test_the_file_is_whole_at_any_moment(path):
    """Read between any two calls that a save makes: it is the old one, and then the new one."""
    contents, seen = [], []
    for seed in (0, 1):
        save_weights(small_vae(seed=seed), path.with_name("other"))
        contents.append(path.with_name("other").read_bytes())
    path.write_bytes(contents[0])
    model = small_vae(seed=1)

    def look(*event):
        try:
            seen.append(path.read_bytes())
        except FileNotFoundError:
            seen.append("gone")

    sys.setprofile(look)
    try:
        save_weights(model, path)
    finally:
        sys.setprofile(None)
    switch = seen.index(contents[1])
    assert seen == [contents[0]] * switch + [contents[1]] * (len(seen) - switch) and switch > 10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_weights_cross_devices(path):
    there, here = small_vae(seed=0).to("cuda"), small_vae(seed=1)
    save_weights(there, path)
    load_weights(here, path)
    assert next(here.parameters()).device.type == "cpu"
    assert same(state(here), {name: tensor.cpu() for name, tensor in state(there).items()})
    load_weights(here, path, device="cuda")
    assert next(here.parameters()).device.type == "cuda"
