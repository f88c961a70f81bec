"""Networks, fully connected or convolutional, labels for them, and the mode of every layer."""

import pytest
import torch
from torch import nn

from small import N_PIXELS, OneNumber, small_images, small_vae
from vae_core import (
    VAE,
    GaussianLikelihood,
    OneHotCondition,
    conv_decoder,
    conv_encoder,
    elbo_terms,
    estimate_elbo,
    estimate_information,
    estimate_log_likelihood,
    fit,
    mean_terms,
    mlp,
    seed_everything,
)
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


def test_a_label_is_a_one_behind_each_row():
    """Against a table written by hand, whatever the order of rows and labels."""
    network = OneHotCondition(nn.Identity(), 3)
    rows = torch.tensor([[0.5, -1.0], [2.0, 0.0], [0.0, 4.0]])
    wanted = [[0.5, -1, 0, 0, 1], [2, 0, 1, 0, 0], [0, 4, 0, 0, 1]]
    for kind in (torch.int64, torch.uint8, torch.int32):
        assert network(rows, torch.tensor([2, 0, 2], dtype=kind)).tolist() == wanted
    assert network(rows.double(), torch.tensor([2, 0, 2])).dtype == torch.float64
    assert network(rows[:0], torch.tensor([], dtype=torch.int64)).shape == (0, 5)


def test_a_label_adds_its_own_column_of_the_first_layer():
    seed_everything(0)
    network = OneHotCondition(mlp(4 + 3, 5), 3).double()
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])
    weight, bias = network.network[0].weight, network.network[0].bias
    torch.testing.assert_close(network(x, y), x @ weight[:, :4].T + weight.T[4 + y] + bias)


LABELS = torch.arange(100) % 3


def told(n_classes: int = 3) -> VAE:
    return small_vae(n_classes=n_classes)


def test_n_classes_puts_the_label_into_both_networks():
    """Each label gives another posterior and another image, for the same image and code."""
    model = told()
    sizes = [[layer.in_features for layer in part.network[::2]]
             for part in (model.encoder, model.decoder)]  # fmt: skip
    assert sizes == [[N_PIXELS + 3, 8], [2 + 3, 8]]
    x, z = small_images(1).expand(3, 4, 4), torch.zeros(3, 2)
    y = torch.arange(3)
    with torch.no_grad():
        assert len(model.encode(x, y).mean.unique(dim=0)) == 3
        assert len(model.decode(z, y).mean.unique(dim=0)) == 3
        samples = model.decode(torch.zeros(4, 3, 2), y).mean  # four samples of each image
        assert torch.equal(samples, samples[:1].expand(4, 3, N_PIXELS))
        torch.testing.assert_close(samples[0], model.decode(z, y).mean)


def test_n_classes_is_for_the_networks_that_are_not_passed_in():
    model = small_vae(n_classes=3, decoder=mlp(2, N_PIXELS))
    assert isinstance(model.encoder, OneHotCondition) and isinstance(model.decoder, nn.Sequential)
    with pytest.raises(ValueError, match="^n_classes: expected None where encoder and decoder"):
        small_vae(n_classes=3, encoder=mlp(N_PIXELS, 4), decoder=mlp(2, N_PIXELS))
    for wrong, error in ((0, ValueError), (2.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="^n_classes: expected an integer of at least 1, got"):
            small_vae(n_classes=wrong)


def test_training_with_labels_learns_what_depends_on_them():
    """Images that are their label: −ELBO given it falls far below what a wrong one gives."""
    images = torch.zeros(99, 16, dtype=torch.uint8)
    labels = torch.arange(99) % 3
    images[torch.arange(99), labels] = 255
    model = told()
    fit(model, images, labels, steps=300, batch_size=33, lr=1e-2, seed=0)
    right = mean_terms(model, images, labels)["reconstruction"]
    wrong = mean_terms(model, images, (labels + 1) % 3)["reconstruction"]
    assert right < 1 and wrong > right + 3


NO_LABELS = [
    (torch.full((100,), 3), ValueError, "expected labels from 0 to 2, got labels from 3 to 3"),
    (LABELS - 1, ValueError, "expected labels from 0 to 2, got labels from -1 to 1"),
    (LABELS.float(), TypeError, "expected labels, integers from 0 to 2, got a float32 tensor"),
    (
        LABELS[:, None],
        ValueError,
        r"expected labels of shape \[N\], no one-hot codes, got an int64",
    ),
    (None, TypeError, r"expected labels, integers from 0 to 2, got None"),
]


@pytest.mark.parametrize(("labels", "error", "words"), NO_LABELS)
def test_what_is_no_label_is_an_error_before_any_step(labels, error, words):
    model, images, how = told(), small_images(), {"binarisation": "fixed"}
    before = model.encoder.network[0].weight.clone()
    for use in (
        lambda: fit(model, images, labels, steps=1, batch_size=10),
        lambda: mean_terms(model, images, labels),
        lambda: estimate_elbo(model, images, labels, **how),
        lambda: estimate_log_likelihood(model, images, labels, k=2, **how),
        lambda: estimate_information(model, images, labels, **how),
        lambda: OneHotCondition(nn.Identity(), 3)(torch.zeros(100, 2), labels),
    ):
        with pytest.raises(error, match=f"^condition: {words}"):
            use()
    assert torch.equal(model.encoder.network[0].weight, before)


def test_one_bad_label_among_the_last_is_found_before_anything_is_computed():
    """Also in the labels of the validation images, and by the estimates."""
    images, labels = small_images(300), torch.arange(300) % 3
    bad = labels.clone()
    bad[-1] = 7
    model, calls, how = told(), [], {"binarisation": "fixed"}
    model.encoder.network.register_forward_hook(lambda *_: calls.append(1))
    for use in (
        lambda: fit(model, images, bad, steps=1, batch_size=10),
        lambda: fit(model, images, labels, val=(images, bad), steps=1, batch_size=10),
        lambda: mean_terms(model, images, bad, batch_size=10),
        lambda: estimate_elbo(model, images, bad, **how),
        lambda: estimate_log_likelihood(model, images, bad, k=50, **how),
    ):
        with pytest.raises(ValueError, match="^condition: expected labels from 0 to 2, got"):
            use()
    assert not calls


def test_a_loss_of_ones_own_may_mean_something_else_by_its_condition():
    """−1 for "no label", say: with another loss the labels are that one's matter."""
    model, images = told(), small_images()

    def loss(model, x, condition):
        return {"loss": -elbo_terms(model, x, condition.clamp(min=0)).elbo}

    fit(model, images, LABELS - 1, loss=loss, steps=1, batch_size=10)
    assert mean_terms(model, images, LABELS - 1, loss=loss)["loss"] > 0


SIZES = pytest.mark.parametrize(
    ("image_shape", "channels"),
    [
        ((1, 28, 28), (32, 64)),
        ((3, 32, 32), (4, 5, 6)),
        ((1, 7, 9), (3, 2)),  # odd at every step in width and height
        ((2, 13, 6), (4, 3)),  # odd in one of them, even in the other
        ((1, 5, 4), (3,)),
        ((1, 4, 4), (2, 3)),  # down to a single pixel
    ],
)


@SIZES
def test_a_convolutional_vae_of_any_size_uses_every_pixel_and_every_weight(image_shape, channels):
    seed_everything(0)
    n_pixels = image_shape[0] * image_shape[1] * image_shape[2]
    encoder = conv_encoder(10, image_shape, channels)
    decoder = conv_decoder(5, image_shape, channels)
    x = torch.rand(40, n_pixels, requires_grad=True)
    assert encoder(x).shape == (40, 10) and decoder(torch.randn(7, 5)).shape == (7, n_pixels)
    gaussian = GaussianLikelihood(0.3, activation=nn.Identity())
    model = VAE(5, n_pixels=n_pixels, encoder=encoder, decoder=decoder, likelihood=gaussian)
    encoder(x).square().sum().backward()
    assert (x.grad.abs().sum(dim=0) > 0).all()  # nothing of the margin is left out
    model.zero_grad()
    (-elbo_terms(model, x.detach()).elbo).sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and (weight.grad != 0).any(), name
    drawn = decoder(torch.randn(50, 5)).reshape(50, *image_shape)
    assert (drawn.std(dim=0) > 0).all()  # every pixel hears of the code


def test_channels_count_from_the_pixels_inwards():
    encoder, decoder = conv_encoder(40, channels=(16, 32)), conv_decoder(20, channels=(16, 32))
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    maps = [[(m.in_channels, m.out_channels) for m in net if isinstance(m, kinds)]
            for net in (encoder, decoder)]  # fmt: skip
    assert maps == [[(1, 16), (16, 32)], [(32, 16), (16, 1)]]
    assert encoder[-1].in_features == decoder[0].out_features == 32 * 7 * 7
    for net in (encoder, decoder):  # a ReLU between any two layers with weights
        weighted = [k for k, layer in enumerate(net) if hasattr(layer, "weight")]
        followed = [any(isinstance(x, nn.ReLU) for x in net[a:b])
                    for a, b in zip(weighted, [*weighted[1:], len(net)], strict=True)]  # fmt: skip
        assert followed == [True, True, False]
    # the last layer of either has no activation: a code and a logit can be any number
    assert isinstance(encoder[-1], nn.Linear) and isinstance(decoder[-2], nn.ConvTranspose2d)


def test_a_shift_by_the_stride_moves_the_maps_by_one():
    """Of two convolutions, so the image moves by 4; away from the margin, where zeros are."""
    seed_everything(0)
    maps = conv_encoder(6, (2, 32, 24), (5, 7))[:-2].double()  # without the last linear layer
    x = torch.randn(3, 2, 32, 24, dtype=torch.float64)
    moved = x.roll((4, 8), dims=(2, 3))
    before, after = maps(x.flatten(1)), maps(moved.flatten(1))
    assert before.shape == (3, 7, 8, 6) and before.std() > 0.01
    torch.testing.assert_close(
        after[..., 2:-1, 3:-1], before.roll((1, 2), dims=(2, 3))[..., 2:-1, 3:-1]
    )
    assert not torch.allclose(after, before)


def test_rows_are_images_in_the_order_of_flatten():
    encoder = conv_encoder(1, (2, 4, 6), (1,))
    image = torch.arange(48.0).reshape(1, 2, 4, 6)
    assert torch.equal(encoder[0](image.flatten(1)), image)


def test_the_decoder_is_the_encoders_layers_transposed():
    """Of an odd size too: with the encoder's weights a layer is the transposed matrix."""
    for side in (7, 8):
        down = conv_encoder(1, (2, side, side), (3,))[1].double()
        up = conv_decoder(1, (2, side, side), (3,))[-2].double()
        with torch.no_grad():
            up.weight.copy_(down.weight)
            up.bias.zero_()
            down.bias.zero_()
        x = torch.randn(1, 2, side, side, dtype=torch.float64)
        y = torch.randn(1, 3, side // 2, side // 2, dtype=torch.float64)
        torch.testing.assert_close((down(x) * y).sum(), (x * up(y)).sum())


def test_weights_start_with_one_over_the_number_of_products_as_their_variance():
    """So linear layers keep the size of what passes through: no output of a layer fades."""
    seed_everything(0)
    for network, n_in in (
        (conv_encoder(50, (3, 64, 64), (32, 64, 64)), 3 * 64 * 64),
        (conv_decoder(50, (3, 64, 64), (32, 64, 64)), 50),
    ):
        x = torch.randn(30, n_in)
        for layer in network:
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                assert not layer.bias.any()
                x = torch.randn_like(x)
                inner = layer(x)[..., 2:-2, 2:-2] if x.ndim == 4 and x.shape[2] > 6 else layer(x)
                if x.ndim == 2 or x.shape[2] > 6:  # away from the zeros around an image
                    assert 0.8 < inner.square().mean() < 1.2, layer
            x = layer(x)


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ({"image_shape": (28, 28)}, ValueError, r"^image_shape: .*channels, height and width"),
        ({"image_shape": 28}, TypeError, r"^image_shape: .*sequence"),
        ({"image_shape": (1, 0, 28)}, ValueError, r"^image_shape: .*at least 1, got 0"),
        ({"image_shape": (1, 28.0, 28)}, TypeError, r"^image_shape: .*28.0"),
        ({"channels": 32}, TypeError, r"^channels: .*sequence"),
        ({"channels": ()}, ValueError, r"^channels: .*each convolution"),
        ({"channels": (8, -1)}, ValueError, r"^channels: .*got -1"),
        ({"channels": (8, 8, 8)}, ValueError, r"^channels: .*halved 3 times.*8 × 8.*\(1, 7, 28\)"),
    ],
)
def test_sizes_that_cannot_be(sizes, error, message):
    if "halved" in message:
        sizes = sizes | {"image_shape": (1, 7, 28)}
    for network in (conv_encoder, conv_decoder):
        with pytest.raises(error, match=message):
            network(10, **sizes)


def test_a_number_of_outputs_that_cannot_be():
    with pytest.raises(ValueError, match=r"^n_outputs: .*got 0"):
        conv_encoder(0)
    with pytest.raises(TypeError, match=r"^latent_dim: .*got 2.5"):
        conv_decoder(2.5)


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
