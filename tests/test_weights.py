"""Files of weights: what is read is what was written, or an error that says why not."""

import errno
import os
import pickle
import stat
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vae_core import (
    VAE,
    Autoencoder,
    GaussianLikelihood,
    WeightsError,
    load_weights,
    save_weights,
    seed_everything,
    weights,
)


def small_vae(seed: int = 0, latent_dim: int = 2, likelihood=None) -> VAE:
    seed_everything(seed)
    return VAE(latent_dim, hidden=(8,), n_pixels=16, likelihood=likelihood)


def state(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "vae.safetensors"


class WithBuffers(torch.nn.Module):
    """Running statistics, a count of type int64, and one weight that isn't contiguous."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(5)
        self.turned = torch.nn.Parameter(torch.randn(3, 4).T)


@pytest.mark.parametrize(
    "make",
    [
        small_vae,
        lambda seed: Autoencoder(2, hidden=(8,), n_pixels=16),
        lambda seed: small_vae(seed).double(),
        lambda seed: small_vae(seed).bfloat16(),
        lambda seed: WithBuffers(),
    ],
    ids=["VAE", "Autoencoder", "float64", "bfloat16", "buffers"],
)
def test_what_is_loaded_is_what_was_saved_to_the_last_bit(make, path):
    there, here = make(0), make(1)
    if isinstance(there, WithBuffers):
        there.norm(torch.randn(20, 5))
    before = state(there)
    save_weights(there, path)
    load_weights(here, path)
    assert same(state(here), before) and same(state(there), before)
    assert all(here.state_dict()[name].dtype == before[name].dtype for name in before)
    assert os.listdir(path.parent) == [path.name]


class Tied(torch.nn.Module):
    """A decoder that is its encoder turned round, and one tensor under two names."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.decoder.weight = self.encoder.weight
        self.register_buffer("part", self.encoder.bias.detach()[:2])


def test_layers_that_share_a_tensor_can_be_saved(path):
    there, here = Tied(), Tied()
    before = state(there)
    save_weights(there, path)
    load_weights(here, path)
    assert same(state(here), before) and same(state(there), before)
    assert here.decoder.weight is here.encoder.weight


def test_loading_keeps_the_parameters_that_an_optimiser_holds(path):
    save_weights(small_vae(0), path)
    model = small_vae(1)
    before = [parameter.data_ptr() for parameter in model.parameters()]
    load_weights(model, str(path))
    assert [parameter.data_ptr() for parameter in model.parameters()] == before


@pytest.mark.parametrize("learned", [False, True])
def test_sigma_x_travels_with_the_weights(path, learned):
    there = small_vae(0, likelihood=GaussianLikelihood(0.3, learned=learned))
    here = small_vae(1, likelihood=GaussianLikelihood(0.7, learned=learned))
    save_weights(there, path)
    load_weights(here, path)
    assert torch.equal(here.likelihood.sigma_x, there.likelihood.sigma_x)
    assert here.likelihood.sigma_x.item() == pytest.approx(0.3)
    with pytest.raises(WeightsError, match="likelihood"):
        load_weights(small_vae(1, likelihood=GaussianLikelihood(0.3, learned=not learned)), path)


def test_the_file_is_safetensors_and_says_what_it_is(path):
    model = small_vae()
    save_weights(model, path)
    assert same(load_file(path), state(model))
    assert weights.read_tensors(path)[1] == {"content": "weights"}


def test_the_type_of_the_model_stays(path):
    """float32 fits into float64 exactly; float64 is rounded to the nearest float32."""
    single, double = small_vae(0), small_vae(1).double()
    save_weights(single, path)
    load_weights(double, path)
    assert same(state(double), {name: t.double() for name, t in single.state_dict().items()})
    double = small_vae(2).double()
    next(double.parameters()).data.div_(3)
    save_weights(double, path)
    load_weights(single, path)
    assert same(state(single), {name: t.float() for name, t in double.state_dict().items()})


def change_file(path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("decoder.0.bias"), "decoder.0.bias is missing"),
        (lambda t: t.update(surplus=torch.zeros(1)), "surplus isn't the model's"),
        (
            lambda t: t.update({"encoder.0.bias": torch.zeros(9)}),
            r"encoder.0.bias has shape \(9,\), the model's has \(8,\)",
        ),
        (  # as many numbers, and a shape that would broadcast
            lambda t: t.update({"encoder.0.bias": torch.zeros(1)}),
            r"encoder.0.bias has shape \(1,\)",
        ),
        (lambda t: t.clear(), "encoder.0.weight is missing"),
        (
            lambda t: t.update({"decoder.2.bias": torch.full((16,), torch.nan)}),
            "decoder.2.bias has NaN or infinite values",
        ),
        (lambda t: t["decoder.2.bias"][3].fill_(torch.inf), "decoder.2.bias has NaN or infinite"),
    ],
)
def test_a_file_of_another_model_changes_nothing(path, change, words):
    save_weights(small_vae(0), path)
    change_file(path, change)
    model = small_vae(1)
    before = state(model)
    with pytest.raises(WeightsError, match=words) as caught:
        load_weights(model, path)
    assert str(path) in str(caught.value) and same(state(model), before)


def test_every_difference_is_named(path):
    save_weights(Autoencoder(2, hidden=(7,), n_pixels=16), path)
    model = small_vae()
    with pytest.raises(WeightsError) as caught:
        load_weights(model, path)
    for name in ("encoder.0.weight", "encoder.0.bias", "encoder.2.weight", "decoder.2.weight"):
        assert name in str(caught.value)


def test_a_device_that_is_not_there_changes_nothing(path):
    save_weights(small_vae(0), path)
    model = small_vae(1)
    before = state(model)
    with pytest.raises(ValueError, match="device: expected"):
        load_weights(model, path, device="gpu")
    assert same(state(model), before)


def test_weights_are_no_window_on_the_file(path):
    """Somebody overwrites the file after it was read: what was read stays what it was."""
    save_weights(small_vae(0), path)
    tensors, _ = weights.read_tensors(path)
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert same(tensors, state(small_vae(0)))


def test_no_file_is_not_a_damaged_file(path):
    for missing in (path, path.parent):
        with pytest.raises(FileNotFoundError, match="no such file"):
            load_weights(small_vae(), missing)


@pytest.mark.parametrize("eighths", range(8))
def test_a_truncated_file(path, eighths):
    save_weights(small_vae(0), path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * eighths // 8])
    model = small_vae(1)
    before = state(model)
    with pytest.raises(WeightsError, match="damaged, or no safetensors file") as caught:
        load_weights(model, path)
    assert str(path) in str(caught.value) and same(state(model), before)


def test_the_last_byte_is_missed_too_and_one_too_many_is_noticed(path):
    save_weights(small_vae(0), path)
    content = path.read_bytes()
    for wrong in (content[:-1], content + b"\0"):
        path.write_bytes(wrong)
        with pytest.raises(WeightsError, match="damaged"):
            load_weights(small_vae(), path)


@pytest.mark.parametrize("content", [b"\0" * 1000, b"\xff" * 1000, b"{}", b"PK\x03\x04" * 50])
def test_a_foreign_file(path, content):
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged, or no safetensors file"):
        load_weights(small_vae(), path)


def test_random_bytes(path):
    noise = torch.Generator().manual_seed(0)
    for size in (1, 7, 8, 9, 100, 10_000):
        path.write_bytes(bytes(torch.randint(0, 256, (size,), generator=noise).tolist()))
        with pytest.raises(WeightsError, match="damaged"):
            load_weights(small_vae(), path)


class SideEffect:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("write", [torch.save, lambda what, path: path.write_bytes(what)])
def test_nothing_is_unpickled(path, write):
    path = path.with_suffix(".pt")  # torch.load looks at the name
    planted = path.parent / "planted"
    pickle.loads(pickle.dumps(SideEffect(planted)))
    assert planted.is_dir()  # the trap works
    planted.rmdir()
    bomb = SideEffect(planted)
    write(bomb if write is torch.save else pickle.dumps(bomb), path)
    with pytest.raises(WeightsError, match="no safetensors file"):
        load_weights(small_vae(), path)
    assert not planted.exists()


def test_a_pickle_of_the_right_weights_is_refused_too(path):
    path = path.with_suffix(".pt")
    torch.save(small_vae(0).state_dict(), path)
    with pytest.raises(WeightsError, match="no safetensors file"):
        load_weights(small_vae(1), path)


# A full disk


@contextmanager
def no_room_beyond(n_bytes: int):
    """No file may grow beyond ``n_bytes``: a write really fails half-way, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_leaves_the_file_before_as_it_was(path):
    save_weights(small_vae(0), path)
    before = path.read_bytes()
    with no_room_beyond(len(before) // 2), pytest.raises(OSError) as caught:
        save_weights(small_vae(1), path)
    assert caught.value.errno == errno.EFBIG and f"could not write {path}" in str(caught.value)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]
    load_weights(small_vae(2), path)


def test_a_disk_that_fills_up_leaves_no_half_file(path):
    with no_room_beyond(100), pytest.raises(OSError):
        save_weights(small_vae(0), path)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "os.chmod", "tempfile.mkstemp"])
def test_whatever_call_fails_the_file_before_stays(path, monkeypatch, call):
    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    save_weights(small_vae(0), path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(call, fail)
        with pytest.raises(OSError, match=f"could not write {path}: No space left") as caught:
            save_weights(small_vae(1), path)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_the_file_takes_its_name_only_when_it_is_on_the_disk(path, monkeypatch):
    happened = []
    for call in (os.fsync, os.replace):

        def note(*args, call=call):
            happened.append(call.__name__)
            return call(*args)

        monkeypatch.setattr(os, call.__name__, note)
    save_weights(small_vae(), path)
    assert happened == ["fsync", "replace"]


def test_the_file_is_whole_at_any_moment(path):
    """Read between any two calls that a save makes: it is the old one, and then the new one."""
    contents, seen = [], []
    for seed in (0, 1):
        save_weights(small_vae(seed), path.with_name("other"))
        contents.append(path.with_name("other").read_bytes())
    path.write_bytes(contents[0])
    model = small_vae(1)

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


def test_a_folder_that_is_not_there(path):
    with pytest.raises(FileNotFoundError, match=r"could not write .*gone.*vae.safetensors"):
        save_weights(small_vae(), path.parent / "gone" / path.name)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o000])
def test_permissions_are_those_of_any_new_file(path, mask):
    before = os.umask(mask)
    try:
        save_weights(small_vae(), path)
        (path.parent / "another").touch()
        assert os.umask(mask) == mask  # it was put back
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(file.stat().st_mode) for file in (path, path.parent / "another")]
    assert modes == [0o666 & ~mask] * 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_weights_cross_devices(path):
    there, here = small_vae(0).to("cuda"), small_vae(1)
    save_weights(there, path)
    load_weights(here, path)
    assert next(here.parameters()).device.type == "cpu"
    assert same(state(here), {name: tensor.cpu() for name, tensor in state(there).items()})
    load_weights(here, path, device="cuda")
    assert next(here.parameters()).device.type == "cuda"


def test_the_model_moves_where_it_is_asked_to(path):
    save_weights(small_vae(0), path)
    model = small_vae(1)
    load_weights(model, path, device="cpu")
    assert next(model.parameters()).device.type == "cpu" and same(state(model), state(small_vae(0)))
