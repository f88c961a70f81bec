"""``Batches``: each epoch a new order, and every batch whole."""

import itertools

import pytest
import torch

from vae_core.batches import Batches


def taken(batches: Batches, n: int) -> list[list[int]]:
    return [next(batches).tolist() for _ in range(n)]


@pytest.mark.parametrize(("n_images", "batch_size"), [(100, 32), (100, 25), (7, 7), (5, 1)])
def test_the_order_is_the_one_written_by_hand(n_images, batch_size):
    """Those that are left over at the end of an epoch wait for the next shuffle."""
    order, expected = torch.Generator().manual_seed(5), []
    for _ in range(4):
        epoch = torch.randperm(n_images, generator=order).split(batch_size)
        expected += [batch.tolist() for batch in epoch if len(batch) == batch_size]
    assert taken(Batches(n_images, batch_size, seed=5), len(expected)) == expected
    endless = itertools.islice(Batches(n_images, batch_size, seed=5), len(expected))
    assert [batch.tolist() for batch in endless] == expected


def test_a_batch_can_be_used_as_an_index():
    batches = Batches(100, 32, seed=5)
    assert iter(batches) is batches
    batch = next(batches)
    assert batch.dtype == torch.int64 and batch.shape == (32,) and batch.device.type == "cpu"
    assert torch.equal(torch.arange(100)[batch], batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_order_is_the_same_on_any_device():
    here, there = Batches(100, 32, seed=5), Batches(100, 32, seed=5, device="cuda")
    before, noise = torch.cuda.get_rng_state(), torch.get_rng_state()
    for _ in range(10):
        batch = next(there)
        assert batch.device.type == "cuda" and torch.equal(batch.cpu(), next(here))
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), noise)
    here.load_state_dict(there.state_dict())  # and what one has saved the other can put back
    assert taken(here, 5) == taken(there, 5)


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order():
    batches = Batches(100, 10, seed=0)
    epochs = [list(itertools.chain(*taken(batches, 10))) for _ in range(3)]
    assert all(sorted(epoch) == list(range(100)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs} | {tuple(range(100))}) == 4


def test_the_seed_alone_decides():
    expected = taken(Batches(100, 10, seed=3), 25)
    before = torch.get_rng_state()
    batches = Batches(100, 10, seed=3)
    again = [(torch.manual_seed(step), next(batches).tolist())[1] for step in range(25)]
    torch.set_rng_state(before)
    assert again == expected
    Batches(100, 10, seed=3)
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's numbers are used
    assert taken(Batches(100, 10, seed=4), 25) != expected


@pytest.mark.parametrize("done", [0, 1, 3, 4, 7])
def test_where_it_stands_can_be_saved_and_put_back(done):
    """At the start of an epoch (3 batches), within it, at its end, and from another seed."""
    whole = Batches(100, 30, seed=1)
    taken(whole, done)
    state = whole.state_dict()
    expected = taken(whole, 10)
    resumed = Batches(100, 30, seed=2)
    taken(resumed, 5)
    resumed.load_state_dict(state)
    assert taken(resumed, 10) == expected


def test_no_batch_is_larger_than_all_images():
    with pytest.raises(ValueError, match="batch_size: expected at most .* 9, got 10"):
        Batches(9, 10, seed=0)
