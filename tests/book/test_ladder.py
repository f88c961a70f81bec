"""The ladder of chapter 3 on a few images: its rungs, what they measure, and what is stored."""

import math

import pytest
import torch

from vae_book import ladder, stored
from vae_book.data import ImageData, Split, load
from vae_book.ladder import LATENT_DIM, N_SHOWN, WEIGHTS, climb, images_of, price_of_noise
from vae_book.models import Autoencoder, LinearAutoencoder, NoisyAutoencoder, SquaredErrorVAE
from vae_core import as_pixels, seed_everything

N = 200
NAMES = ["AE", "w = 0", "w = 0.03", "w = 0.1", "w = 0.3", "w = 1", "w = 3", "w = 10"]


@pytest.fixture(scope="module")
def few() -> ImageData:
    """The first StrokeDigits, as many for the training as for the test."""
    whole = load("strokes", quiet=True)
    parts = [Split(part.images[:N], part.labels[:N]) for part in (whole.train, whole.val)]
    test = Split(whole.test.images[:N], whole.test.labels[:N])
    return ImageData("strokes", *parts, test)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "FOLDER", tmp_path / "results")
    monkeypatch.delenv("VAE_CORE_STORED", raising=False)
    return tmp_path / "results"


def model_of(kind=SquaredErrorVAE, **sizes):
    seed_everything(0)
    return kind(LATENT_DIM, **sizes)


# --------------------------------------------------------------------------------- price of noise


def test_price_of_noise_is_the_squared_slope_by_finite_differences():
    model, step = model_of(hidden=(16,)).double(), 1e-5
    z = torch.randn(7, LATENT_DIM, dtype=torch.float64)
    torch.set_default_dtype(torch.float64)  # so that the directions have the codes' type
    try:
        price = price_of_noise(model, z)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for i, direction in enumerate(torch.eye(LATENT_DIM, dtype=torch.float64)):
            there, back = (images_of(model, z + sign * step * direction) for sign in (1, -1))
            slope = (there - back) / (2 * step)
            by_differences = slope.square().sum(dim=1).mean()
            assert price[i].item() == pytest.approx(by_differences.item(), rel=1e-6)
    assert price.std() > 0.01 * price.mean()  # each coordinate has its own


def test_price_of_noise_of_a_linear_decoder_is_the_squared_length_of_its_columns():
    model = model_of(LinearAutoencoder)
    columns = model.decoder[-1].weight.square().sum(dim=0)
    price = price_of_noise(model, torch.randn(5, LATENT_DIM))
    torch.testing.assert_close(price, columns.detach())
    assert not price.requires_grad


# --------------------------------------------------------------------------------- drawing, packing


def test_images_of_a_vae_are_its_mean_images():
    z = torch.randn(3, LATENT_DIM)
    vae, ae = model_of(hidden=(4,)), model_of(Autoencoder, hidden=(4,))
    torch.testing.assert_close(images_of(vae, z), vae.decode(z).mean)
    torch.testing.assert_close(images_of(ae, z), ae.decode(z))


def test_packed_images_come_back_to_the_nearest_grey_value():
    images = torch.rand(5, 784, generator=torch.Generator().manual_seed(0))
    images[0, :3] = torch.tensor([-0.2, 1.3, 0.5])  # a linear decoder's ink has no bounds
    text = ladder._packed(images)
    assert isinstance(text, str)
    back = ladder._unpacked(text)
    assert back.shape == (5, 784) and back[0, :2].tolist() == [0, 1]
    assert (back - images.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6
    assert ladder._packed(back) == text


# -------------------------------------------------------------------------------- the whole ladder


@pytest.fixture(scope="module")
def rungs(few):
    return climb(few, seed=0, steps=20)


def test_rungs_by_name_in_the_order_of_their_weights(rungs):
    assert list(rungs) == NAMES == ["AE", "w = 0", *[f"w = {w:g}" for w in WEIGHTS]]
    assert all(rung.name == name for name, rung in rungs.items())


def test_what_a_rung_holds(rungs, few):
    for name, rung in rungs.items():
        assert list(rung.fd) == ["own", "fit", "scale", "N(0, I)"]
        assert all(math.isfinite(fd) and fd > 0 for fd in rung.fd.values())
        assert {len(rung.mean_square), len(rung.sigma2), len(rung.price)} == {LATENT_DIM}
        assert rung.clouds.shape == (10, 2) and rung.copies.shape == (8, 784)
        assert rung.drawn.shape == rung.from_fit.shape == (N_SHOWN, 784)
        assert (rung.price > 0).all() and rung.distortion > 0
        assert math.isinf(rung.rate) == (name == "AE")
    assert (rungs["AE"].sigma2 == 0).all() and (rungs["AE"].clouds[:, 1] == 0).all()
    for rung in list(rungs.values())[1:]:
        assert (rung.sigma2 > 0).all() and rung.rate > 0 and 0 <= rung.active <= LATENT_DIM
    copies = rungs["AE"].copies
    assert torch.equal(copies, copies[:1].expand(8, -1))  # no noise, eight times the same
    assert not torch.equal(rungs["w = 1"].copies[0], rungs["w = 1"].copies[1])


class FewImages:
    """A ruler that gives the mean pixel, so that one sees which images it was shown."""

    n = 100

    def __call__(self, images):
        return float(images.mean())


def test_what_is_measured_is_what_the_names_say(few):
    model = model_of(NoisyAutoencoder, hidden=(16,))
    rung = ladder._as_rung("x", ladder._measured(model, few, FewImages()))
    with torch.no_grad():
        clouds = model.encode(few.test.images)
    expected = 1 / clouds.stddev.double().square().reciprocal().mean(dim=0)  # harmonic mean
    torch.testing.assert_close(rung.sigma2.double(), expected)
    kl = (clouds.mean**2 + clouds.variance - 1 - clouds.variance.log()).sum(dim=1) / 2
    assert rung.rate == pytest.approx(kl.mean().item(), rel=1e-5)
    telling = clouds.mean.var(dim=0).argmax()
    torch.testing.assert_close(rung.clouds[:, 0], clouds.mean[:10, telling])
    torch.testing.assert_close(rung.clouds[:, 1], clouds.stddev[:10, telling])

    # A cloud of no width: "own" decodes the codes themselves, and the copies are reconstructions.
    with torch.no_grad():
        model.encoder[-1].weight[LATENT_DIM:] = 0
        model.encoder[-1].bias[LATENT_DIM:] = -60
        z = model.encode(few.train.images).mean
        eight = few.test.images[few.test.labels == 8][2:3]
        copy = model.decode(model.encode(eight).mean)
        own = model.decode(z[:100]).mean().item()
        at_scale = z.mean(dim=0) + z.std(dim=0) * noise_of(few, model)
        fit = z.mean(dim=0) + noise_of(few, model) @ torch.linalg.cholesky(torch.cov(z.T)).T
        fd = {"own": own, "fit": model.decode(fit).mean().item(),
              "scale": model.decode(at_scale).mean().item(),
              "N(0, I)": model.decode(noise_of(few, model)).mean().item()}  # fmt: skip
    rung = ladder._as_rung("x", ladder._measured(model, few, FewImages()))
    assert rung.fd == pytest.approx(fd, rel=1e-5)
    torch.testing.assert_close(rung.mean_square, z.square().mean(dim=0))
    assert (rung.copies - copy).abs().max() < 0.5 / 255 + 1e-4


def noise_of(few, model) -> torch.Tensor:
    """What `_measured` draws first, from the seed it starts at for every rung."""
    state = torch.get_rng_state()
    seed_everything(0)
    epsilon = torch.randn(FewImages.n, LATENT_DIM)
    torch.set_rng_state(state)
    return epsilon


def test_trained_kinds_and_weights(few):
    kinds = {None: Autoencoder, 0: NoisyAutoencoder, 3: SquaredErrorVAE}
    for weight, kind in kinds.items():
        assert type(ladder._trained(few, weight, 0, 1)) is kind
    models = [ladder._trained(few, weight, 0, 30) for weight in (0.03, 10)]
    with torch.no_grad():
        kl = [model.loss_terms(as_pixels(few.train.images))["KL"].mean() for model in models]
    assert kl[1] < 0.5 * kl[0]


def test_one_line_says_what_was_trained_and_what_was_stored(few, own_folder, monkeypatch, capsys):
    monkeypatch.setattr(ladder, "WEIGHTS", (1,))
    climb(few, seed=0, steps=1)
    assert capsys.readouterr().out == "3 models, 1 steps each: ⟨trained now⟩\n"
    assert not own_folder.exists()
    monkeypatch.setenv("VAE_CORE_STORED", "write")
    made = climb(few, seed=0, steps=1)
    monkeypatch.delenv("VAE_CORE_STORED")
    capsys.readouterr()
    again = climb(few, seed=0, steps=1)
    assert capsys.readouterr().out == "3 models, 1 steps each: ⟨stored with the book⟩\n"
    assert list(again) == list(made) == ["AE", "w = 0", "w = 1"]
    for name, rung in again.items():
        assert rung.fd == made[name].fd and torch.equal(rung.drawn, made[name].drawn)
        assert torch.equal(rung.sigma2, made[name].sigma2) and rung.rate == made[name].rate
    climb(few, seed=1, steps=1)  # another seed is another training
    assert "⟨trained now⟩" in capsys.readouterr().out
