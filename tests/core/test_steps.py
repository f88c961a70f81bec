"""Steps that a GPU replays: recorded here on a CPU, where a recording can be watched."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from small import small_images, small_vae
from vae_core import (
    GaussianLikelihood,
    conv_decoder,
    conv_encoder,
    fit,
    one_cycle,
    seed_everything,
    training,
    warm_up,
)
from vae_core.steps import Recorded, Schedules, Step

READS = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "item")


class Tape(TorchDispatchMode):
    """What a CUDA graph does, on a CPU: notes every operation with the memory it reads and writes,
    and ``replay`` runs them again on that memory, without any Python of the step.

    Like a CUDA graph it refuses to read a number, and unlike one it runs what it records: the
    state that the step found is put back by ``RecordedOnCPU``.
    """

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        assert function.__name__.split(".")[0] not in READS, f"{function} waits for the device"
        results = function(*arguments, **(options or {}))
        self.operations.append((function, arguments, options or {}, results))
        return results

    def replay(self):
        with torch._C._AutoDispatchBelowAutograd():  # memory only, as a GPU sees it
            self._replay()

    def _replay(self):
        for function, arguments, options, results in self.operations:
            again = function(*arguments, **options)
            for new, old in zip(tree_leaves(again), tree_leaves(results), strict=True):
                if isinstance(new, torch.Tensor) and new.data_ptr() != old.data_ptr():
                    old.copy_(new)


class RecordedOnCPU(Recorded):
    """With a ``Tape`` in place of the CUDA graph, and what it ran undone."""

    def __init__(self, step, numbers):
        self.numbers, self.graph = numbers.clone(), Tape()
        moments = [t for state in step.optimiser.state.values() for t in state.values()]
        changes = [*step.model.state_dict().values(), *moments]
        before, noise = [tensor.clone() for tensor in changes], torch.get_rng_state()
        with self.graph:
            self.means = step.backward(self.numbers)
            step.update()
        for tensor, value in zip(changes, before, strict=True):
            tensor.data.copy_(value)
        torch.set_rng_state(noise)


def convolutional():
    seed_everything(0)
    network = conv_encoder(4, (1, 4, 4), (3,)), conv_decoder(2, (1, 4, 4), (3,))
    return small_vae(encoder=network[0], decoder=network[1])


def to_memory(schedules, device, dtype):
    """As on a GPU: the rate stands in memory, where a recorded step reads it."""
    moved(schedules, device, dtype)
    schedules.on_gpu, schedules.rates = True, torch.tensor(schedules.rates)
    schedules.rate = torch.zeros(())


moved = Schedules.to
MODELS = {
    "by hand": small_vae,
    "Gaussian pixels": lambda: small_vae(likelihood=GaussianLikelihood(0.5, learned=True)),
    "convolutions": convolutional,
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_recorded_step_is_the_step(monkeypatch, make):
    """Numbers, rate, weights and noise of every step, though its Python ran only once."""
    options = {
        "steps": 30, "batch_size": 10, "seed": 3, "device": "cpu", "redraw": True,
        "lr": one_cycle(30, 1e-2), "weights": {"KL": warm_up(20)},
        "optimiser": lambda weights: torch.optim.Adam(weights, lr=torch.tensor(0.0), fused=True),
    }  # fmt: skip
    expected = make()
    history = fit(expected, small_images(40, binary=False), **options)

    made = []
    monkeypatch.setattr("vae_core.steps.Step.can_be_recorded", lambda step: True)
    monkeypatch.setattr("vae_core.steps.Schedules.to", to_memory)
    monkeypatch.setattr(
        training, "Recorded", lambda *given: made.append(RecordedOnCPU(*given)) or made[-1]
    )
    model = make()
    recorded = fit(model, small_images(40, binary=False), **options)
    assert len(made) == 1 and len(made[0].graph.operations) > 30
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    for term, values in history.train.items():
        assert recorded.train[term] == pytest.approx(values, rel=1e-4)


def test_a_recording_that_reads_a_number_would_be_seen():
    with pytest.raises(AssertionError, match="waits for the device"), Tape():
        torch.ones(1).item()


class Own(torch.nn.Module):
    def forward(self, z):
        return z.repeat(1, 8)


@pytest.mark.parametrize(
    ("make", "settings", "expected"),
    [
        (small_vae, {}, True),
        (convolutional, {}, True),
        (lambda: small_vae(decoder=Own()), {}, False),
        (small_vae, {"loss": lambda model, x: model.loss_terms(x)}, False),
        (small_vae, {"optimiser": lambda weights: torch.optim.Adam(weights)}, False),
    ],
    ids=["by hand", "convolutions", "own module", "own loss", "Adam that reads its rate"],
)
def test_what_is_recorded(monkeypatch, make, settings, expected):
    """Only what is the same launches at every step."""
    asked = []

    def can_be_recorded(step):
        asked.append(really(step))
        return False

    really = Step.can_be_recorded
    monkeypatch.setattr(Step, "can_be_recorded", can_be_recorded)
    capturable = {
        "optimiser": lambda weights: torch.optim.Adam(weights, fused=True, capturable=True)
    }
    fit(make(), small_images(20), steps=4, batch_size=5, device="cpu", **capturable | settings)
    assert asked == [expected]


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@gpu
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_a_cuda_graph_is_the_steps_one_by_one(monkeypatch, make, precision):
    options = {
        "steps": 40, "batch_size": 10, "seed": 3, "device": "cuda", "redraw": True,
        "lr": one_cycle(40, 1e-2), "weights": {"KL": warm_up(20)}, "precision": precision,
    }  # fmt: skip
    recordings = []
    with monkeypatch.context() as patch:
        patch.setattr(
            training, "Recorded", lambda *given: recordings.append(given) or Recorded(*given)
        )
        model = make()
        recorded = fit(model, small_images(40, binary=False), **options)
    assert len(recordings) == 1
    monkeypatch.setattr(Step, "can_be_recorded", lambda step: False)
    other = make()
    expected = fit(other, small_images(40, binary=False), **options)
    close = 1e-5 if precision == "float32" else 2e-2
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=close, atol=close)
    for term, values in expected.train.items():
        assert recorded.train[term] == pytest.approx(values, rel=max(close, 1e-4))


@gpu
def test_every_replay_draws_new_noise():
    """One image again and again, at a rate of nearly 0: only noise can change its loss."""
    history = fit(
        small_vae(), small_images(1), steps=50, batch_size=1, lr=1e-12, device="cuda", seed=0
    )
    assert len(set(history.train["reconstruction"])) > 45
