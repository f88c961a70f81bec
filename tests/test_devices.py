"""Where to compute, and with how many digits: rules, not measurements."""

import pytest
import torch

from vae_core import devices, pick_device
from vae_core.devices import BFLOAT16_PAYS_FROM, pick_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(params=[True, False], ids=["fast bfloat16", "slow bfloat16"])
def hardware(request, monkeypatch):
    """A processor that multiplies bfloat16 in hardware, and one that doesn't."""
    monkeypatch.setattr(devices, "_cpu_multiplies_bfloat16", lambda: request.param)
    return request.param


def pick(precision="auto", device=CPU, n_weights=1_000_000, batch_size=128):
    return pick_precision(precision, device=device, n_weights=n_weights, batch_size=batch_size)


def test_a_named_precision_is_taken_at_its_word(hardware):
    for device in (CPU, GPU):
        for n_weights in (1, 10**9):
            assert pick("float32", device, n_weights) is torch.float32
            assert pick("bfloat16", device, n_weights) is torch.bfloat16


def test_auto_is_bfloat16_only_where_the_processor_has_it_and_the_work_is_large(hardware):
    expected = torch.bfloat16 if hardware else torch.float32
    just_enough = int(BFLOAT16_PAYS_FROM) // (6 * 100)
    assert pick(n_weights=just_enough + 1, batch_size=100) is expected
    assert pick(n_weights=just_enough - 1, batch_size=100) is torch.float32
    assert pick(n_weights=100, batch_size=just_enough + 1) is expected
    assert pick(n_weights=1, batch_size=1) is torch.float32


def test_auto_on_a_gpu_is_float32(hardware):
    assert pick(device=GPU, n_weights=10**9) is torch.float32
    assert pick(device=torch.device("mps"), n_weights=10**9) is torch.float32


def test_auto_is_float32_where_pytorch_cannot_say_what_the_processor_can(monkeypatch):
    for question in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, question, raising=False)
    assert pick(n_weights=10**9) is torch.float32


@pytest.mark.parametrize("question", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_either_kind_of_instruction_will_do(monkeypatch, question):
    for each in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, each, lambda each=each: each == question, raising=False)
    assert pick(n_weights=10**9) is torch.bfloat16


@pytest.mark.parametrize("name", ["float16", "bf16", "", None, torch.bfloat16])
def test_an_unknown_precision_is_an_error(name):
    with pytest.raises(ValueError, match="precision: expected 'auto', 'float32' or 'bfloat16'"):
        pick(name)


def test_a_device_that_is_asked_for_is_taken():
    assert pick_device("cpu") == pick_device(torch.device("cpu")) == CPU


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_without_a_name_it_is_the_fastest_that_is_here(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device().type == expected


@pytest.mark.parametrize(
    ("device", "error"), [(3, TypeError), ("gpu", ValueError), ("meta", ValueError)]
)
def test_a_device_that_cannot_be(device, error):
    with pytest.raises(error, match="device: expected"):
        pick_device(device)
