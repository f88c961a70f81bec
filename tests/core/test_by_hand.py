"""The written-out step against autograd: the same terms, gradients and training, for any MLP."""

import copy

import pytest
import torch
from torch import nn

from small import small_images, small_vae, with_random_weights
from vae_core import GaussianLikelihood, OneHotCondition, fit, mlp, one_cycle, warm_up
from vae_core.by_hand import ByHand
from vae_core.seeds import own_random_numbers
from vae_core.steps import Autograd, own_loss
from vae_core.vae import VAE

CPU = torch.device("cpu")


def gradients_of(way, model, x, weights) -> tuple[dict, dict]:
    with own_random_numbers(3, CPU):
        means = way((x,), weights)
    return means, {name: w.grad.clone() for name, w in model.named_parameters()}


@pytest.mark.parametrize("weights", [{}, {"KL": 0.3}, {"KL": 0.3, "reconstruction": 2.0}])
@pytest.mark.parametrize("hidden", [(), (8,), (9, 7, 5)])
@pytest.mark.parametrize("n", [1, 5, 32])
def test_terms_and_gradients_are_those_of_autograd(n, hidden, weights):
    """In float64, with grey pixels, weights far from their start, and odd sizes."""
    model = with_random_weights(VAE(3, hidden=hidden, n_pixels=21))
    x = torch.rand(n, 21, dtype=torch.float64)
    weights = {term: torch.tensor(w, dtype=torch.float64) for term, w in weights.items()}
    autograd = Autograd(model, own_loss, n, n, torch.float32)
    expected = gradients_of(autograd, model, x, weights)
    assert ByHand.fits(model, torch.float32)
    found = gradients_of(ByHand(model, n, n, torch.float32), model, x, weights)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-10, atol=1e-10)


def test_extreme_logits_have_their_terms_and_gradients():
    """Products of sixteen sigmoids neither vanish nor lose what a logit of ±100 weighs."""
    model = with_random_weights(VAE(2, hidden=(4,), n_pixels=48), size=30.0)
    x = torch.rand(6, 48, dtype=torch.float64).round()
    autograd = Autograd(model, own_loss, 6, 6, torch.float32)
    with torch.no_grad():
        model.encoder[-1].weight.mul_(1e-3)
        model.encoder[-1].bias.zero_()
    expected = gradients_of(autograd, model, x, {})
    found = gradients_of(ByHand(model, 6, 6, torch.float32), model, x, {})
    assert expected[0]["reconstruction"] > 100
    for one, other in zip(found, expected, strict=True):
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-9, atol=1e-9)


def trained(monkeypatch, *, by_hand: bool, dtype=torch.float32, **settings):
    model = small_vae(hidden=(24, 12)).to(dtype)
    used = []

    def fits(model, products):
        used.append(fits_really(model, products))
        return used[-1] and by_hand

    with monkeypatch.context() as patch:
        fits_really = ByHand.fits
        patch.setattr(ByHand, "fits", staticmethod(fits))
        options = {"steps": 40, "batch_size": 30, "seed": 4, "device": "cpu"}
        history = fit(model, small_images(binary=False), **options | settings)
    assert used == [True]
    return model, history


@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 2e-4)], ids=["64", "32"]
)
def test_fit_is_the_same_either_way(monkeypatch, dtype, close):
    settings = {
        "dtype": dtype, "redraw": True, "lr": one_cycle(40, 1e-2), "weights": {"KL": warm_up(20)},
        "val": small_images(9),
    }  # fmt: skip
    one, history = trained(monkeypatch, by_hand=True, **settings)
    other, expected = trained(monkeypatch, by_hand=False, **settings)
    for found, weights in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found, weights, rtol=close, atol=close)
    for term in ("reconstruction", "KL"):
        torch.testing.assert_close(
            torch.from_numpy(history.train[term]), torch.from_numpy(expected.train[term]),
            rtol=close, atol=close,
        )  # fmt: skip


def test_bfloat16_is_what_autocast_does(monkeypatch):
    """Up to what bfloat16 rounds away: the two differ from each other no more than from float32."""
    ends = [
        trained(monkeypatch, by_hand=by_hand, precision=precision)[1].recent("reconstruction", 10)
        for by_hand, precision in [(True, "bfloat16"), (False, "bfloat16"), (False, "float32")]
    ]
    assert ends[0] == pytest.approx(ends[2], abs=0.05)
    assert ends[1] == pytest.approx(ends[2], abs=0.05)
    assert ends[0] != ends[2]


def hooked(register: str):
    def change(model):
        getattr(model.encoder[0], register)(lambda *_: None)

    return change


def shared_weights(model):
    model.encoder = mlp(16, 16, 16, 4)
    model.encoder[2].weight = model.encoder[0].weight


@pytest.mark.parametrize(
    "change",
    [
        hooked("register_forward_hook"),
        hooked("register_forward_pre_hook"),
        hooked("register_full_backward_hook"),
        lambda model: model.encoder[0].weight.register_hook(lambda slope: 2 * slope),
        lambda model: model.encoder[0].weight.requires_grad_(False),
        lambda model: nn.utils.parametrizations.weight_norm(model.decoder[0]),
        lambda model: model.encoder.insert(1, nn.Dropout(0.5)),
        lambda model: setattr(model, "encoder", nn.Sequential(nn.Linear(16, 4, bias=False))),
        lambda model: setattr(model, "likelihood", GaussianLikelihood(0.5)),
        lambda model: setattr(model, "prior", nn.Identity()),
        lambda model: setattr(model, "posterior", lambda outputs: None),
        lambda model: setattr(model, "loss_terms", lambda x: None),
        lambda model: setattr(model, "encode", lambda x: None),
        shared_weights,
        lambda model: model.half(),
        lambda model: setattr(model, "decoder", mlp(2, 8, 32)),
    ],
)
def test_a_model_that_somebody_changed_trains_with_autograd(change):
    model = small_vae()
    assert ByHand.fits(model, torch.float32)
    change(model)
    assert not ByHand.fits(model, torch.float32)


def test_a_subclass_or_a_condition_trains_with_autograd():
    class Other(VAE):
        pass

    assert not ByHand.fits(small_vae(kind=Other), torch.float32)
    assert not ByHand.fits(small_vae(n_classes=3), torch.float32)
    assert not ByHand.fits(OneHotCondition(mlp(4, 2), 2), torch.float32)


def test_float64_has_no_products_in_bfloat16():
    assert not ByHand.fits(small_vae().double(), torch.bfloat16)


def test_a_weight_of_an_unknown_term_is_an_error():
    with pytest.raises(ValueError, match="^weights: expected terms of the loss"):
        fit(small_vae(), small_images(), steps=1, batch_size=5, weights={"kl": 1.0}, device="cpu")


def test_resumed_is_never_stopped(tmp_path):
    """Bit for bit, as with autograd."""
    options = {"batch_size": 30, "seed": 4, "device": "cpu", "redraw": True}
    whole, parts = small_vae(), small_vae()
    fit(whole, small_images(binary=False), steps=20, **options)
    file = tmp_path / "run.pt"
    fit(parts, small_images(binary=False), steps=7, checkpoint=file, **options)
    parts = copy.deepcopy(small_vae(seed=1))
    fit(parts, small_images(binary=False), steps=20, checkpoint=file, resume=True, **options)
    assert all(map(torch.equal, whole.parameters(), parts.parameters()))
