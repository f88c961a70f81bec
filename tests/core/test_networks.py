"""Fully connected networks, and the mode that every layer is in."""

import pytest
import torch
from torch import nn

from small import N_PIXELS, OneNumber, small_images
from vae_core import fit, mean_terms, mlp, seed_everything
from vae_core.networks import evaluating, training


def test_layers_are_matrix_products_with_a_relu_between_any_two():
    seed_everything(0)
    network = mlp(3, 5, 4, 2).double()
    assert [type(layer) for layer in network] == [nn.Linear, nn.ReLU] * 2 + [nn.Linear]
    x = torch.randn(50, 3, dtype=torch.float64)
    (w1, b1), (w2, b2), (w3, b3) = ((layer.weight, layer.bias) for layer in network[::2])
    inner = torch.clamp(torch.clamp(x @ w1.T + b1, min=0) @ w2.T + b2, min=0)
    torch.testing.assert_close(network(x), inner @ w3.T + b3)
    assert (network(x) < 0).any()  # the last layer may give any value


def test_two_sizes_are_one_linear_layer():
    assert [type(layer) for layer in mlp(3, 2)] == [nn.Linear]


class WithModes(OneNumber):
    """A part of dropout, and the modes in which its layers compute."""

    def __init__(self, *, whole: bool, frozen: bool, fails: bool = False):
        super().__init__(self.note)
        self.frozen, self.free = nn.Sequential(nn.Dropout()), nn.Dropout()
        self.train(whole)
        self.frozen.train(frozen)
        self.fails, self.seen = fails, {True: set(), False: set()}

    def modes(self) -> tuple[bool, ...]:
        return tuple(module.training for module in self.modules())  # self, frozen, in it, free

    def note(self, call, terms):
        self.seen[torch.is_grad_enabled()].add(self.modes())
        if self.fails:
            raise ArithmeticError("planted")
        return terms


ALL, NONE = {(True,) * 4}, {(False,) * 4}
MODES = pytest.mark.parametrize(
    ("whole", "frozen", "in_training"),
    [
        (True, True, ALL),
        (True, False, {(True, False, False, True)}),  # what somebody froze stays frozen
        (False, False, ALL),  # a model that was loaded and looked at trains as a whole
        (False, True, ALL),
    ],
)


@MODES
@pytest.mark.parametrize("fails", [False, True])
def test_fit_trains_layers_in_their_mode_and_puts_it_back(whole, frozen, in_training, fails):
    model = WithModes(whole=whole, frozen=frozen, fails=fails)
    before = model.modes()
    images = small_images()
    try:
        fit(model, images, val=images, steps=4, batch_size=10)
    except ArithmeticError:
        assert fails
    assert model.seen == {True: in_training, False: set() if fails else NONE}
    assert model.modes() == before


@MODES
@pytest.mark.parametrize("fails", [False, True])
def test_mean_terms_evaluates_every_layer_and_puts_its_mode_back(whole, frozen, in_training, fails):
    model = WithModes(whole=whole, frozen=frozen, fails=fails)
    before, numbers = model.modes(), torch.get_rng_state()
    try:
        mean_terms(model, small_images())
    except ArithmeticError:
        assert fails
    assert model.seen == {True: set(), False: NONE} and model.modes() == before
    assert torch.is_grad_enabled() and torch.equal(torch.get_rng_state(), numbers)


def test_statistics_of_a_frozen_layer_do_not_move_and_those_of_others_do():
    class Normalised(OneNumber):
        def __init__(self):
            super().__init__()
            self.frozen, self.free = nn.BatchNorm1d(N_PIXELS), nn.BatchNorm1d(N_PIXELS)
            self.frozen.eval()

        def loss_terms(self, x):
            return super().loss_terms(self.free(self.frozen(x)))

    model = Normalised()
    fit(model, small_images(), steps=3, batch_size=10)
    assert torch.equal(model.frozen.running_mean, torch.zeros(N_PIXELS))
    assert (model.free.running_mean != 0).all()


def test_one_within_the_other():
    """As in a validation: each puts back what it found."""
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    model[0].eval()
    with training(model):
        with evaluating(model):
            assert [module.training for module in model.modules()] == [False] * 3
            with training(model):
                assert [module.training for module in model.modules()] == [True] * 3
            assert [module.training for module in model.modules()] == [False] * 3
        assert [module.training for module in model.modules()] == [True, False, True]
    assert [module.training for module in model.modules()] == [True, False, True]


def test_evaluating_needs_no_gradient():
    network = mlp(3, 2)
    with evaluating(network):
        assert not network(torch.ones(1, 3)).requires_grad
    assert network(torch.ones(1, 3)).requires_grad
