"""Where to compute, and with how many digits: rules, not measurements."""

import pytest
import torch

from small import OneNumber, small_images
from vae_core import fit, mean_terms, pick_device
from vae_core.devices import float32_products, pick_precision
from vae_core.networks import evaluating

CPU = torch.device("cpu")


@pytest.mark.parametrize("asked", ["cpu", CPU])
def test_a_device_that_is_asked_for_is_taken(monkeypatch, asked):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device(asked) == CPU


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_without_a_name_it_is_the_fastest_that_is_here(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device().type == expected


@pytest.mark.parametrize(
    ("device", "error", "words"),
    [
        (0, TypeError, r"expected a name or a torch.device, got 0 \(int\)"),
        (torch.ones(2), TypeError, "expected a name .*, got a float32 tensor of shape"),
        ("gpu", ValueError, "expected one that is here, got 'gpu'"),
        ("", ValueError, "expected one that is here, got ''"),
        ("meta", ValueError, "expected one that can compute, got 'meta'"),
    ],
)
def test_a_device_that_cannot_be(device, error, words):
    with pytest.raises(error, match=f"^device: {words}"):
        pick_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match="^device: expected one that is here, got 'cuda'") as error:
        pick_device("cuda")
    assert "\n" not in str(error.value)


CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_precisions_are_taken_at_their_word():
    assert pick_precision("float32", CPU) is torch.float32
    assert pick_precision("bfloat16", CPU) is torch.bfloat16
    assert pick_precision("tf32", GPU) is torch.float32


@pytest.mark.parametrize("name", ["auto", "float16", "", None, torch.bfloat16])
def test_an_unknown_precision_is_an_error(name):
    words = "^precision: expected one of 'float32', 'tf32', 'bfloat16', got"
    with pytest.raises(ValueError, match=words):
        pick_precision(name, CPU)


def test_a_cpu_has_no_tf32():
    with pytest.raises(ValueError, match="^precision: expected 'tf32' only on a CUDA device"):
        pick_precision("tf32", CPU)


@pytest.fixture(params=["cudnn", "cuda.matmul"])
def switch(request):
    """PyTorch's switches for TF32."""
    of = {"cudnn": torch.backends.cudnn, "cuda.matmul": torch.backends.cuda.matmul}[request.param]
    before = of.allow_tf32
    yield of
    of.allow_tf32 = before


@pytest.mark.parametrize("before", [True, False])
def test_tf32_is_off_where_it_counts_and_put_back(switch, before):
    """Whatever computes a term, and after an error as well."""
    switch.allow_tf32 = before
    seen, fails = [], [False]

    def look(call, terms):
        seen.append(switch.allow_tf32)
        return {"error": terms["error"] * torch.nan} if fails[0] else terms

    def in_a_model(use):
        model = OneNumber(look)
        use(model)
        assert switch.allow_tf32 is before and seen and not any(seen)
        seen.clear()

    def in_evaluation(model):
        with evaluating(model):
            model.loss_terms(small_images().flatten(1) / 255)

    images = small_images()
    in_a_model(lambda model: fit(model, images, val=images, steps=2, batch_size=10, device="cpu"))
    in_a_model(lambda model: mean_terms(model, images))
    in_a_model(in_evaluation)
    fails[0] = True
    with pytest.raises(RuntimeError, match="became nan"):
        fit(OneNumber(look), images, steps=2, batch_size=10, device="cpu")
    # Two steps, and the first again, which is the one that is reported.
    assert switch.allow_tf32 is before and seen == [False] * 3
    with pytest.raises(ArithmeticError), float32_products():
        raise ArithmeticError
    assert switch.allow_tf32 is before
    with float32_products(tf32=True):
        assert switch.allow_tf32 is True
    assert switch.allow_tf32 is before


def tiny_is_zero() -> bool:
    return bool(torch.tensor(1e-39) * 1 == 0)


@pytest.mark.parametrize("before", [True, False])
def test_tiny_numbers_are_zero_while_fit_trains_and_as_before_afterwards(before):
    if not torch.set_flush_denormal(before):
        pytest.skip("this processor can't do it")
    try:
        seen = []

        def look(call, terms):
            seen.append(tiny_is_zero())
            if len(seen) == 3:
                raise ArithmeticError
            return terms

        fit(OneNumber(look), small_images(), steps=2, batch_size=10, device="cpu")
        assert seen == [True, True] and tiny_is_zero() is before
        with pytest.raises(ArithmeticError):
            fit(OneNumber(look), small_images(), steps=2, batch_size=10, device="cpu")
        assert tiny_is_zero() is before
    finally:
        torch.set_flush_denormal(False)
