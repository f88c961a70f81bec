"""The contests of chapter 11: budgets that are equal, and shuffles that lose nothing."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vae_book import neighbours
from vae_book.neighbours import HIDDEN, PublishedModel, network, operations, shuffled, weights_of
from vae_core import VAE, conv_decoder, conv_encoder


def by_pytorch(model):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        codes = model.encoder(torch.zeros(1, model.n_pixels))[:, : model.latent_dim]
        model.decoder(codes)
    return counter.get_total_flops() / 2


def odd():
    shapes = {"image_shape": (3, 13, 22), "channels": (4, 7)}
    parts = {"encoder": conv_encoder(10, **shapes), "decoder": conv_decoder(5, **shapes)}
    return VAE(5, n_pixels=3 * 13 * 22, **parts)


@pytest.mark.parametrize(
    "model", [network(None), network(69), odd(), PublishedModel(16, True)], ids=range(4)
)
def test_operations_are_half_of_what_pytorch_counts(model):
    assert operations(model) == by_pytorch(model)


def test_operations_of_one_layer_by_brute_force():
    """One multiplication after the other, on the padded image."""
    layer = nn.Conv2d(2, 3, 4, stride=2, padding=1)
    count = 0
    for _ in range(3):
        for row in range(0, 10 - 3, 2):  # 8 rows and two of zeros
            for column in range(0, 12 - 3, 2):
                count += sum(1 for m in range(2) for u in range(row, row + 4)
                             for v in range(column, column + 4))  # fmt: skip
    encoder = nn.Sequential(nn.Unflatten(1, (2, 8, 10)), layer, nn.Flatten())
    model = VAE(1, n_pixels=160, encoder=encoder, decoder=nn.Sequential(nn.Linear(1, 160)))
    assert operations(model) == count + 160


def test_budgets_are_equal_to_one_per_cent():
    cnn = network(None)
    assert weights_of(network(HIDDEN["weights"])) == pytest.approx(weights_of(cnn), rel=0.01)
    assert operations(network(HIDDEN["operations"])) == pytest.approx(operations(cnn), rel=0.01)
    pair = [neighbours._colour_network(of) for of in (True, False)]
    assert operations(pair[1]) == pytest.approx(operations(pair[0]), rel=0.01)


def test_operations_of_networks_that_are_not_rows_of_layers():
    model = network(None)
    model.encoder = nn.Identity()
    with pytest.raises(TypeError, match=r"^model: .*Identity"):
        operations(model)


def test_a_shuffle_is_one_order_for_all_images_and_loses_nothing():
    images = torch.randint(256, (5, 28, 28), dtype=torch.uint8)
    mixed = shuffled(images, seed=3)
    assert mixed.shape == images.shape and mixed.dtype == images.dtype
    order = shuffled(torch.arange(784)[None], seed=3)[0]
    assert torch.equal(order.sort().values, torch.arange(784))
    assert torch.equal(mixed.flatten(1), images.flatten(1)[:, order])
    assert torch.equal(mixed.flatten(1)[:, order.argsort()], images.flatten(1))
    assert not torch.equal(order, shuffled(torch.arange(784)[None], seed=4)[0])


def test_pictures_are_kept_to_half_a_byte():
    images = torch.rand(3, 784)
    kept = neighbours._unpacked(neighbours._packed(images))
    assert (kept - images).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(("noise", "names"), [
    (True, ["reconstruction", "KL"]), (False, ["squared error of a pixel"])
])  # fmt: skip
def test_the_published_model_with_noise_and_without(noise, names):
    torch.manual_seed(0)
    model = PublishedModel(16, noise)
    x = torch.rand(4, 784).round()
    terms = [model.loss_terms(x) for _ in range(2)]
    assert list(terms[0]) == names and all(v.shape == (4,) for v in terms[0].values())
    same = torch.equal(terms[0][names[0]], terms[1][names[0]])
    assert same is not noise  # only a VAE draws its code
    if not noise:
        error = (x - model.decode(model.encode(x).mean).mean).square().mean(dim=1)
        torch.testing.assert_close(terms[0][names[0]], error)
