"""``scrubber``: what a watch notes, that it changes nothing, and what the page makes of it."""

import json

import matplotlib
import numpy as np
import pytest
import torch

from small import N_PIXELS, same_weights, small_images
from v8 import scripts, unpacked
from vae_book.live.scrubber import Look, Watch, drawings, looks_at, scrubber, square
from vae_book.models import Autoencoder, NoisyAutoencoder, SquaredErrorVAE
from vae_core import as_pixels, fit, seed_everything

matplotlib.use("Agg")
STEPS = 40
IMAGES = small_images(30, binary=False)
Z = torch.randn(12, 2, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(30) % 10
MODELS = {"noise": (NoisyAutoencoder, None), "KL": (SquaredErrorVAE, {"KL": 2.0})}


def trained(which: str = "noise", steps: int = STEPS, watch: Watch | None = None, **changes):
    """A small model, trained for some steps by a schedule that doesn't know how many."""
    kind, weights = MODELS[which]
    seed_everything(0)
    model = kind(2, hidden=(8,), n_pixels=N_PIXELS)
    arguments = {"lr": 1e-2, "batch_size": 10, "seed": 0, "weights": weights} | changes
    fit(model, small_images(200, binary=False, seed=5), steps=steps, loss=watch, **arguments)
    return model


def watched(which: str = "noise", steps: int = STEPS, **changes) -> Watch:
    watch = Watch(**{"images": IMAGES, "z": Z, "steps": steps} | changes)
    trained(which, steps, watch)
    return watch


@pytest.fixture(scope="module")
def watches() -> dict[str, Watch]:
    return {"without": watched("noise"), "with": watched("KL")}


# ---------------------------------------------------------------------------- the watch


@pytest.mark.parametrize("which", MODELS)
@pytest.mark.parametrize("step", [0, 1, 10, STEPS])
def test_a_look_is_what_the_model_of_that_step_says(which, step, watches):
    look = watches["with" if which == "KL" else "without"].looks()[step]
    if step == 0:
        seed_everything(0)
        model = MODELS[which][0](2, hidden=(8,), n_pixels=N_PIXELS)
    else:
        model = trained(which, step)
    with torch.no_grad():
        cloud, drawn = model.encode(IMAGES), model.decode(Z)
    drawn = drawn if which == "noise" else drawn.mean
    for noted, wanted in zip(look, (cloud.mean, cloud.stddev, drawn), strict=True):
        torch.testing.assert_close(noted, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("which", MODELS)
def test_looking_changes_nothing(which):
    val = {"val": small_images(20, binary=False, seed=6)}
    watch = Watch(IMAGES, Z, steps=STEPS)
    before = torch.get_rng_state()
    model = trained(which, watch=watch, **val)
    watch.looks()
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    assert same_weights(model, trained(which, **val))
    assert torch.equal(after, torch.get_rng_state())
    assert model.training


def test_validation_images_are_no_step():
    watch = Watch(IMAGES, Z, steps=STEPS)
    trained(watch=watch, val=small_images(20, binary=False, seed=6))
    noted, plain = watch.looks(), watched().looks()
    assert all(torch.equal(noted[step].mean, plain[step].mean) for step in plain)


@pytest.mark.parametrize("steps", [1, 2, 9, 40, 1500, 3000, 10_000])
def test_looks_are_dense_at_the_start_and_the_last_step_is_one(steps):
    at = looks_at(steps)
    assert at == sorted(set(at)) and at[0] == 0 and at[-1] == steps
    assert at[: min(7, steps)] == list(range(min(7, steps)))
    assert steps > 3000 or len(at) <= 34  # each look costs a reader 3 kB a network
    assert all(b <= 1.4 * a for a, b in zip(at, at[1:], strict=False) if a >= 5)


def test_a_training_that_is_not_complete():
    watch = Watch(IMAGES, Z, steps=STEPS)
    trained(steps=STEPS - 1, watch=watch)
    with pytest.raises(ValueError, match="expected a training of 40 steps.*got 39"):
        scrubber({"one": watch}, LABELS)


def test_a_model_is_watched_once():
    watch = watched()
    trained(watch=watch)
    with pytest.raises(ValueError, match="expected a training of 40 steps.*got 80"):
        watch.looks()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": Z[:11]}, r"z: expected 12 codes, \[12, 2\], got a float32 tensor"),
        ({"z": "twelve"}, "z: expected 12 codes"),
        ({"steps": 0}, "steps: expected an integer of at least 1"),
        ({"images": IMAGES.float()}, "images: expected float values"),
    ],
)
def test_what_cannot_be_watched(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Watch(**{"images": IMAGES, "z": Z, "steps": STEPS} | change)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Autoencoder(2, (8,), N_PIXELS), "model: expected one that gives clouds"),
        (NoisyAutoencoder(3, (8,), N_PIXELS), "model: expected 2 code numbers, got 3"),
    ],
)
def test_a_model_without_clouds_in_the_plane(model, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Watch(IMAGES, Z, steps=1)(model.train(), as_pixels(IMAGES))


# ---------------------------------------------------------------------------- the square


def corners(means: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    low, side = square(means)
    return low, low + side


def test_one_network_gets_a_square_with_its_codes_and_the_circle():
    means = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) + torch.tensor([9.0, 0])
    low, high = corners([means])
    assert (low < -2).all() and (high > 2).all()
    assert ((means > low) & (means < high)).all(dim=1).float().mean() > 0.95


def test_two_networks_of_like_size_share_a_square_with_all():
    means = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    low, high = corners([means, 1.2 * means])
    assert ((1.2 * means > low) & (1.2 * means < high)).all(dim=1).float().mean() > 0.9


def test_codes_that_went_far_do_not_make_the_others_tiny():
    means = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    far = 9 * means + torch.tensor([20.0, -20.0])
    low, high = corners([far, means])
    alone, side = square([means])
    assert (high - low)[0] == pytest.approx(1.75 * side)
    assert (low < -2).all() and (high > 2).all()
    assert ((means > low) & (means < high)).all(dim=1).float().mean() > 0.95
    assert low[0] > alone[0] - 0.2 * side  # it reaches as far as it can towards the others
    assert high[1] < alone[1] + 1.2 * side


# ---------------------------------------------------------------------------- on the page


def on_the_page(data: dict, network: int, expression: str):
    """The value of an expression about ``looks``, the unpacked clouds of a network."""
    with scripts("scrubber") as v8:
        v8.eval(f"const data = {json.dumps(data)}")
        v8.eval("const { unpack, measure, rough, grouped } "
                "= vaeLive.figures.scrubber.arithmetic")  # fmt: skip
        v8.eval(f"const looks = unpack(data.networks[{network}].clouds, data.unit, "
                "data.steps.length)")  # fmt: skip
        return json.loads(v8.eval(f"JSON.stringify({expression})"))


@pytest.mark.parametrize("network", [0, 1])
def test_the_page_has_the_clouds(network, watches):
    data = scrubber(watches, LABELS).data
    got = np.array(on_the_page(data, network, "looks.map(look => [...look])"))
    got = got.reshape(len(data["steps"]), len(IMAGES), 4)
    looks = list(watches.values())[network].looks()
    assert list(looks) == data["steps"]
    for look, clouds in zip(looks.values(), got, strict=True):
        np.testing.assert_allclose(clouds[:, :2], look.mean, atol=0.51 * data["unit"][0])
        np.testing.assert_allclose(clouds[:, 2:], look.std, atol=0.51 * data["unit"][2])
    assert data["unit"][0] < 1e-3 and data["unit"][2] < 1e-3


def test_the_page_has_the_drawings(watches):
    data = scrubber(watches, LABELS).data
    np.testing.assert_array_equal(unpacked(data["z"]).reshape(12, 2), Z)
    with scripts("scrubber") as v8:
        v8.eval(f"const data = {json.dumps(data)}")
        images = "vaeLive.parts.hexImages(data.networks[1].drawn, 16).map(image => [...image])"
        got = np.array(json.loads(v8.eval(f"JSON.stringify({images})")))
    got = got.reshape(len(data["steps"]), 12, N_PIXELS)
    for look, drawn in zip(watches["with"].looks().values(), got, strict=True):
        inked = look.drawn.numpy() >= 1 / 15
        assert np.abs(drawn - look.drawn.numpy())[inked].max() < 0.51 / 15
        assert (drawn[~inked] == 0).all()


def test_ink_below_one_shade_is_none():
    drawn = torch.tensor([[0.04, 0.06, 0.07, 1.0]])
    assert drawings({0: Look(Z, Z.abs(), drawn), 1: Look(Z, Z.abs(), drawn)}) == "001f001f"


def test_the_page_measures_what_pytorch_measures(watches):
    data = scrubber(watches, LABELS).data
    data["square"] = {"left": -0.5, "bottom": -0.1, "side": 0.9}  # so that some lie outside
    got = on_the_page(data, 0, "looks.map(look => measure(look, data.square))")
    for facts, (mean, std, _) in zip(got, watches["without"].looks().values(), strict=True):
        assert facts["sigma"] == pytest.approx(std.mean().item(), abs=data["unit"][2])
        assert facts["spread"] == pytest.approx(
            mean.std(dim=0).mean().item(), rel=1e-3, abs=data["unit"][0]
        )
        inside = (mean[:, 0] > -0.5) & (mean[:, 0] < 0.4)
        inside &= (mean[:, 1] > -0.1) & (mean[:, 1] < 0.8)
        assert facts["outside"] == (~inside).sum()
    assert 0 < got[-1]["outside"] < len(IMAGES)


def test_numbers_in_the_sentence(watches):
    data = scrubber(watches, LABELS).data
    numbers = "[0.0312, 0.96, 4.93, 10.4, 464, 12345].map(rough)"
    assert on_the_page(data, 0, numbers) == ["0.031", "0.96", "4.9", "10", "460", "12,000"]
    assert on_the_page(data, 0, "[0, 999, 1500, 10000].map(grouped)") == [
        "0", "999", "1,500", "10,000",
    ]  # fmt: skip


# ---------------------------------------------------------------------------- the figure


def test_the_figure_in_its_forms(watches, tmp_path):
    figure = scrubber(watches, LABELS, name="training")
    assert [each["name"] for each in figure.data["networks"]] == ["without", "with"]
    assert figure.data["labels"] == "012345678901234567890123456789"
    assert 'data-figure="scrubber"' in figure.html() and "--networks: 2" in figure.html()
    figure.publish(tmp_path)
    assert (tmp_path / "training.js").exists()
    panels = [ax.get_title() for ax in figure.picture.axes[:4]]
    assert panels == ["step 0", "step 16", "step 40", "random codes"]
    assert len(figure.picture.axes) == 8
    assert "--networks: 1" in scrubber({"one": watches["with"]}, LABELS).html()


def test_a_picture_of_ones_own(watches):
    picture = matplotlib.figure.Figure()
    assert scrubber(watches, LABELS, picture).picture is picture


def test_no_picture_is_left_open(watches):
    import matplotlib.pyplot as plt

    plt.close("all")
    scrubber(watches, LABELS)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"watches": {}}, "watches: expected one watch or two by name, got a dict of length 0"),
        ({"watches": None}, "watches: expected one watch or two by name"),
        ({"watches": {"model": NoisyAutoencoder(2)}}, "watches: expected a Watch as 'model'"),
        ({"labels": LABELS[:-1]}, "labels: expected 30 digits from 0 to 9"),
        ({"labels": LABELS + 1}, "labels: expected 30 digits from 0 to 9"),
        ({"labels": LABELS.float()}, "labels: expected 30 digits from 0 to 9"),
        ({"name": "No Name"}, "name: expected small letters"),
    ],
)
def test_what_cannot_be_scrubbed(change, message, watches):
    with pytest.raises((TypeError, ValueError), match=message):
        scrubber(**{"watches": watches, "labels": LABELS} | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 30}, "watches: expected the same number of steps, got 40 and 30"),
        ({"z": -Z}, "watches: expected the same images and the same z"),
        ({"images": IMAGES.flip(0)}, "watches: expected the same images and the same z"),
    ],
)
def test_watches_that_do_not_belong_together(change, message, watches):
    with pytest.raises(ValueError, match=message):
        scrubber({"one": watches["with"], "other": watched(**change)}, LABELS)
