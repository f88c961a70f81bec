"""A step of ``fit`` never waits for its device, and an estimate draws its noise there."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from small import OneNumber, small_images, small_vae
from vae_core import estimate_elbo, estimate_log_likelihood, fit, warm_up

WAITS = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "item")


class Waiting(TorchDispatchMode):
    """Notes every operation whose result the CPU reads, which on a GPU would wait for it."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.__name__.split(".")[0]
        if name in WAITS:
            self.found.append(name)
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("redraw", [False, True])
def test_no_number_is_read_between_two_looks(redraw):
    """Watched from the loss of step 3 to that of step 90: through 87 whole steps, three epochs."""
    model, watch, calls = small_vae(), Waiting(), []

    def loss(model, x):
        calls.append(len(x))
        if len(calls) == 3:
            watch.__enter__()
        if len(calls) == 90:
            watch.__exit__(None, None, None)
        return model.loss_terms(x)

    images = small_images(90, binary=not redraw)
    options = {"lr": warm_up(50), "weights": {"KL": warm_up(50)}, "device": "cpu"}
    fit(model, images, loss=loss, redraw=redraw, steps=95, batch_size=3, **options)
    assert watch.found == []


def test_a_read_would_be_seen():
    watch = Waiting()
    with watch:
        OneNumber().w.item()
    assert watch.found == ["_local_scalar_dense"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_finds_no_wait_between_two_looks():
    """By PyTorch's own watch, which sees blocking copies too."""
    model, calls = small_vae(), []

    def loss(model, x):
        calls.append(len(x))
        if len(calls) == 3:
            torch.cuda.set_sync_debug_mode("error")
        if len(calls) == 90:
            torch.cuda.set_sync_debug_mode("default")
        return model.loss_terms(x)

    try:
        options = {"lr": warm_up(50), "weights": {"KL": warm_up(50)}, "device": "cuda"}
        fit(model, small_images(90), loss=loss, steps=95, batch_size=3, redraw=True, **options)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_estimates_on_a_gpu_are_those_of_the_cpu():
    """Up to rounding, since an image's noise is the same on any device."""
    images, about = small_images(70), {"binarisation": "fixed"}
    model = small_vae()
    here = [
        estimate_elbo(model, images, **about).elbo.per_image,
        estimate_log_likelihood(model, images, k=30, **about).per_image,
    ]
    model.cuda()
    there = [
        estimate_elbo(model, images, **about).elbo.per_image,
        estimate_log_likelihood(model, images, k=30, **about).per_image,
    ]
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
