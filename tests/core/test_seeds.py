"""Random numbers: what a seed decides, and that nobody else's numbers change."""

import random
import threading

import numpy as np
import pytest
import torch

from small import OneNumber, same_history, same_weights, small_images, small_vae
from vae_core import TrainingDiverged, fit, mean_terms, seed_everything
from vae_core.seeds import new_seed, noise_at, own_random_numbers, philox


def next_numbers() -> list[float]:
    """The next random numbers that anybody would get: PyTorch's, NumPy's, Python's."""
    return [torch.rand(()).item(), float(np.random.rand()), random.random()]


def numbers_of(seed: int) -> list[float]:
    seed_everything(seed)
    return next_numbers()


def test_a_seed_gives_all_three_kinds_of_numbers():
    once, again, other = numbers_of(3), numbers_of(3), numbers_of(4)
    assert once == again
    assert all(one != another for one, another in zip(once, other, strict=True))


@pytest.mark.parametrize("seed", [0, np.int64(3), 2**32, 2**63 - 1])
def test_large_seeds_and_those_of_numpy(seed):
    assert seed_everything(seed) == seed
    first = next_numbers()
    assert numbers_of(seed) == first
    fit(small_vae(), small_images(), steps=1, batch_size=10, seed=seed)


def test_without_a_seed_it_is_the_one_of_the_environment_or_0(monkeypatch):
    monkeypatch.setenv("VAE_CORE_SEED", "12")
    assert seed_everything() == 12
    assert next_numbers() == numbers_of(12)
    monkeypatch.delenv("VAE_CORE_SEED")
    assert seed_everything() == 0
    assert next_numbers() == numbers_of(0)


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "", str(2**63)])
def test_bad_seed_in_the_environment(monkeypatch, value):
    monkeypatch.setenv("VAE_CORE_SEED", value)
    with pytest.raises(ValueError, match="^VAE_CORE_SEED: expected an integer"):
        seed_everything()


@pytest.mark.parametrize(
    ("seed", "error"),
    [(-1, ValueError), (2**63, ValueError), (1.0, TypeError), (True, TypeError), ("1", TypeError)],
)
def test_bad_seeds(seed, error):
    model, expected = OneNumber(), numbers_of(11)
    seed_everything(11)
    with pytest.raises(error, match="^seed: expected an integer"):
        seed_everything(seed)
    with pytest.raises(error, match="^seed: expected an integer"):
        fit(model, small_images(), steps=1, batch_size=10, seed=seed)
    assert next_numbers() == expected and model.calls == 0  # nothing was seeded by halves


def test_a_new_seed_is_given_by_the_numbers_before():
    seed_everything(1)
    first, second = new_seed(), new_seed()
    assert first != second and min(first, second) >= 0
    seed_everything(1)
    assert (new_seed(), new_seed()) == (first, second)


def test_own_numbers_start_from_their_seed_and_go_unnoticed():
    expected = numbers_of(11)
    seed_everything(11)
    own = []
    for _ in range(2):
        with pytest.raises(ArithmeticError), own_random_numbers(5, torch.device("cpu")):
            own.append(torch.rand(3).tolist())
            raise ArithmeticError  # put back after an error too
    assert next_numbers() == expected and own[0] == own[1]
    torch.manual_seed(5)
    assert torch.rand(3).tolist() == own[0]


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_the_seed_reaches_the_device_and_its_random_numbers_are_put_back(monkeypatch, device):
    """A GPU has random numbers of its own; here a stand-in, so that it is tested everywhere."""
    theirs = {"state": torch.tensor([99])}
    module = getattr(torch, device)

    def put(state, device=None):
        theirs["state"] = state

    monkeypatch.setattr(module, "get_rng_state", lambda device=None: theirs["state"])
    monkeypatch.setattr(module, "set_rng_state", put)
    monkeypatch.setattr(module, "manual_seed", lambda seed: put(torch.tensor([seed])))
    monkeypatch.setattr(torch.cuda, "device", lambda device: threading.Lock())  # any context
    with own_random_numbers(5, torch.device(device)):
        assert theirs["state"].item() == 5
    assert theirs["state"].item() == 99


# What that means for fit


def run(*, seed: int | None = None, redraw: bool = False, disturb: int = 0):
    """A model and its history, from weights that are always the same."""
    model = small_vae()
    if seed is None:
        seed_everything(disturb)
    else:  # nothing else may matter
        torch.manual_seed(disturb), torch.rand(disturb), np.random.rand(disturb)
    images = small_images(binary=not redraw)
    return model, fit(model, images, steps=9, batch_size=32, redraw=redraw, seed=seed)


@pytest.mark.parametrize("redraw", [False, True])
def test_the_same_seed_is_the_same_run_whatever_else_draws_numbers(redraw):
    (model, history), *others = (run(seed=3, redraw=redraw, disturb=n) for n in range(3))
    for other_model, other_history in others:
        assert same_history(history, other_history) and same_weights(model, other_model)
    assert not same_history(history, run(seed=4, redraw=redraw)[1])


def test_without_a_seed_the_numbers_before_decide():
    (model, history), (again, its_history) = run(disturb=1), run(disturb=1)
    assert same_history(history, its_history) and same_weights(model, again)
    assert not same_history(history, run(disturb=2)[1])


class Watching(OneNumber):
    """Notes the images of each batch, and the noise that it draws for it."""

    def __init__(self):
        super().__init__()
        self.batches, self.drawn = [], []

    def loss_terms(self, x):
        self.batches.append(x.clone())
        self.drawn.append(torch.rand(5, dtype=torch.float64).tolist())  # no two alike by chance
        return super().loss_terms(x)


def watched(seed: int | None = None) -> Watching:
    model = Watching()
    fit(model, small_images(binary=False), steps=5, batch_size=10, seed=seed)
    return model


def test_without_a_seed_another_run_has_other_batches_and_other_noise():
    """After another ``seed_everything``, and when the cell is run a second time."""
    runs = []
    for seed in (1, 2):
        seed_everything(seed)
        runs += [watched(), watched()]
    for i, one in enumerate(runs):
        for other in runs[:i]:
            assert not torch.equal(torch.cat(one.batches), torch.cat(other.batches))
            assert not set(map(tuple, one.drawn)) & set(map(tuple, other.drawn))
    seed_everything(2)
    again = [watched(), watched()]
    assert [run.drawn for run in again] == [run.drawn for run in runs[2:]]
    assert all(map(torch.equal, again[1].batches, runs[3].batches))


def test_noise_is_new_in_every_step_and_not_the_numbers_of_the_order():
    """Were both made from the same numbers, an image's noise would depend on its place."""
    drawn = []
    for seed in (0, 1, 2):
        drawn += watched(seed).drawn
        order = torch.Generator().manual_seed(seed)
        drawn.append(torch.rand(5, dtype=torch.float64, generator=order).tolist())
    assert len(np.unique(drawn)) == 3 * (5 + 1) * 5


def test_validation_does_not_touch_the_noise_of_training():
    with_val, without = small_vae(), small_vae()
    one = fit(with_val, small_images(), val=small_images(9), steps=40, batch_size=32, seed=0)
    other = fit(without, small_images(), steps=40, batch_size=32, seed=0)
    assert same_weights(with_val, without)
    assert all(np.array_equal(one.train[term], other.train[term]) for term in other.train)


def test_mean_terms_draws_the_same_noise_at_each_call_and_other_noise_for_each_batch():
    """One noise for all batches would have the error of a much smaller sample."""
    model, images = Watching(), small_images(30)
    for _ in range(2):
        mean_terms(model, images, batch_size=10)
    assert model.drawn[:3] == model.drawn[3:] and len(np.unique(model.drawn)) == 3 * 5


def diverge(model, grey, binary):
    model = OneNumber(lambda call, terms: {"error": terms["error"] * torch.rand(()) * torch.nan})
    with pytest.raises(TrainingDiverged):
        fit(model, grey, steps=4, batch_size=10, seed=0)


@pytest.mark.parametrize(
    "use",
    [
        lambda model, grey, binary: fit(
            model, grey, val=binary, steps=4, batch_size=9, redraw=True, seed=0
        ),
        lambda model, grey, binary: mean_terms(model, grey),
        diverge,
    ],
    ids=["fit", "mean_terms", "an error"],
)
def test_nobody_elses_random_numbers_change(use):
    model, grey, binary = small_vae(), small_images(binary=False), small_images(7)
    expected = numbers_of(11)
    seed_everything(11)
    use(model, grey, binary)
    assert next_numbers() == expected


# Noise that depends on seed and position alone


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(
    ("counter", "key", "bits"),
    [
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_has_the_bits_of_its_authors(counter, key, bits):
    """The known answers of Random123, for philox4x32 with 10 rounds."""
    got = philox([torch.tensor(word) for word in words(counter)], tuple(words(key)))
    assert [word.item() for word in got] == words(bits)


def test_noise_of_a_position_is_the_same_in_any_company():
    all_of_it = noise_at(5, torch.arange(40), 0, 90)
    assert all_of_it.shape == (40, 90) and all_of_it.dtype == torch.float32
    for positions, first, last in (([7], 0, 90), ([3, 39, 0], 5, 6), (range(10, 20), 41, 88)):
        positions = torch.tensor(positions)
        got = noise_at(5, positions, first, last)
        assert torch.equal(got, all_of_it[positions, first:last])
    assert len(all_of_it.unique()) > 40 * 90 - 5  # no two streams share their numbers


@pytest.mark.parametrize("bit", [0, 31, 32, 62])
@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 - 1])
def test_another_seed_is_other_noise(seed, bit):
    here, there = (noise_at(s, torch.arange(4), 0, 50) for s in (seed, seed ^ 1 << bit))
    assert (here != there).all() and torch.isfinite(here).all()


def test_positions_beyond_32_bits_have_noise_of_their_own():
    near, far = (noise_at(0, torch.tensor([3 + at]), 0, 50) for at in (0, 2**32))
    assert (near != far).all()


def test_noise_is_standard_normal_and_independent():
    """Two million numbers: moments, quantiles, and products with their neighbours."""
    x = noise_at(3, torch.arange(2000), 0, 1000).double()
    n = x.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        error = (variance / n) ** 0.5
        assert abs((x**power).mean() - moment) < 4 * error, power
    for quantile in (-3.0, -1.0, 0.0, 0.5, 2.0):
        share = torch.special.ndtr(torch.tensor(quantile)).item()
        assert abs((x < quantile).double().mean() - share) < 4 * (share * (1 - share) / n) ** 0.5
    for other in (x.roll(1, 0), x.roll(1, 1), x.roll(2, 1), x.roll(4, 1), x.roll(13, 0)):
        assert abs((x * other).mean()) < 4 * n**-0.5
        assert abs((x.square() * other.square()).mean() - 1) < 4 * (8 / n) ** 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_same_noise():
    there = noise_at(5, torch.arange(40, device="cuda"), 3, 90)
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), noise_at(5, torch.arange(40), 3, 90))
