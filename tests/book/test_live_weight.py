"""The weight slider: what it is given of the ladder, its words, the band over seeds, and where its
script puts things."""

import gzip
import json
import math

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from v8 import scripts
from vae_book import ladder, stored
from vae_book.data import ImageData, Split, load
from vae_book.ladder import STEPS, WEIGHTS, Rung, over_seeds
from vae_book.live.packing import hex_images
from vae_book.live.weight import weight_slider

matplotlib.use("Agg")

# Names, rates, errors, active coordinates, Fréchet distances, mean squares; much as measured.
MEASURED = [
    ("AE", math.inf, 14, 8, 800, 29),
    ("w = 0", 230, 14, 8, 880, 43),
    ("w = 0.03", 33, 15, 8, 465, 3.6),
    ("w = 0.3", 16, 16, 8, 168, 1.3),
    ("w = 1", 10, 21, 8, 160, 1.1),
    ("w = 3", 4, 32, 6, 241, 1.0),
    ("w = 10", 0.005, 53, 0, 790, 1.0),
]


def rung(name, rate, distortion, active=8, fd=100.0, mean_square=1.0) -> Rung:
    random = torch.Generator().manual_seed(len(name))
    per_unit = torch.full((8,), float(mean_square))
    pictures = [torch.rand(n, 784, generator=random) for n in (8, 16, 16)]
    clouds = torch.rand(10, 2, generator=random)
    return Rung(name, rate, distortion, active, {"N(0, I)": fd}, per_unit, per_unit, per_unit,
                clouds, *pictures)  # fmt: skip


def rungs_of(measured=MEASURED) -> dict[str, Rung]:
    return {each[0]: rung(*each) for each in measured}


def slider(rungs=None, **more):
    return weight_slider(rungs_of() if rungs is None else rungs, plt.figure(), **more)


# ---------------------------------------------------------------------------- what is packed


def test_what_is_packed_equals_the_rungs():
    rungs = rungs_of()
    packed = slider(rungs).data["rungs"]
    assert [each["name"] for each in packed] == [name for name in rungs if name != "AE"]
    assert [each["weight"] for each in packed] == [0, 0.03, 0.3, 1, 3, 10]
    for each in packed:
        whole = rungs[each["name"]]
        assert each["rate"] == whole.rate and each["distortion"] == whole.distortion
        assert each["fd"] == whole.fd["N(0, I)"]
        assert each["clouds"] == whole.clouds.tolist()
        assert each["copies"] == hex_images(whole.copies)
        assert each["drawn"] == hex_images(whole.drawn)


def test_rungs_stand_in_the_order_of_their_weights_and_the_best_drawings_come_first():
    shuffled = slider(rungs_of(MEASURED[::-1]))
    assert [each["weight"] for each in shuffled.data["rungs"]] == [0, 0.03, 0.3, 1, 3, 10]
    assert shuffled.data["start"] == 3
    other = slider({"w = 3": rung("w = 3", 4, 30, fd=90), "w = 1": rung("w = 1", 9, 20, fd=95)})
    assert other.data["start"] == 1


def test_words_follow_from_what_was_measured():
    said = {each["name"]: (each["title"], each["words"]) for each in slider().data["rungs"]}
    assert said["w = 0"][0] == "the noise is dead" and "codes is 43" in said["w = 0"][1]
    assert "codes is 3.6" in said["w = 0.03"][1] and "miss many" in said["w = 0.03"][1]
    assert "nearly as well as at w = 1" in said["w = 0.3"][1]
    assert said["w = 1"][0] == "alive" and "draw best" in said["w = 1"][1]
    assert said["w = 3"][1].startswith("6 of 8 coordinates")
    assert said["w = 10"][0] == "the code is dead"
    lively = [(*each[:3], 8, *each[4:]) for each in MEASURED]  # nothing collapses
    titles = [each["title"] for each in slider(rungs_of(lively)).data["rungs"]]
    assert "the code is dead" not in titles


def test_the_picture_is_closed():
    figure = plt.figure()
    assert weight_slider(rungs_of(), figure).picture is figure
    assert not plt.fignum_exists(figure.number)


@pytest.mark.parametrize(
    ("measured", "match"),
    [
        ([], r"rungs: expected at least two .* got \[\]"),
        (MEASURED[:2], r"rungs: expected at least two .* got \['AE', 'w = 0'\]"),
        ([*MEASURED[1:], ("w = much", 1, 1)], "rungs: expected names .* got 'w = much'"),
        ([*MEASURED[1:], ("w = -1", 1, 1)], "rungs: expected names .* got 'w = -1'"),
        ([*MEASURED[1:], ("w = 2", math.inf, 1)], "rungs: expected a finite rate of 'w = 2', got"),
        ([*MEASURED[1:], ("w = 2", 1, math.nan)], "finite distortion of 'w = 2', got nan"),
        ([*MEASURED[1:], ("w = 2", 1, 1, 8, math.nan)], "finite fd of 'w = 2', got nan"),
    ],
)
def test_rungs_that_make_no_slider(measured, match):
    with pytest.raises(ValueError, match=match):
        slider(rungs_of(measured))


def test_a_picture_that_is_none():
    with pytest.raises(TypeError, match="picture: expected a matplotlib figure"):
        weight_slider(rungs_of(), None)


# ---------------------------------------------------------------------------- the band over seeds


def test_the_band_is_made_only_for_the_site(tmp_path):
    asked = []
    points = torch.tensor([[10.0, 21.0], [11.0, 20.0]])
    live = slider(name="weight", band=lambda: asked.append(1) or {"w = 1": points, "w = 7": points})
    assert not asked and "seeds" not in live.data
    live.publish(tmp_path)
    assert asked == [1]
    text = (tmp_path / "weight.js").read_text().partition(" = ")[2]
    assert json.loads(text.rstrip(";\n"))["seeds"] == {"w = 1": points.tolist()}


@pytest.mark.parametrize("bad", [torch.ones(2), torch.ones(2, 3), torch.tensor([[math.nan, 1]])])
def test_a_band_that_is_none(bad, tmp_path):
    live = slider(name="weight", band=lambda: {"w = 1": bad})
    with pytest.raises(ValueError, match="band: expected finite rates and errors .* of 'w = 1'"):
        live.publish(tmp_path)


def test_over_seeds_has_the_rungs_first_and_then_what_was_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "FOLDER", tmp_path)
    monkeypatch.delenv("VAE_CORE_STORED", raising=False)
    monkeypatch.setattr(ladder, "WEIGHTS", (1, 10))
    whole = load("strokes", quiet=True)
    few = Split(whole.train.images[:200], whole.train.labels[:200])
    data = ImageData("strokes", few, few, few)
    rungs = ladder.climb(data, seed=0, steps=3)
    points = over_seeds(data, rungs, others=(0, 1), steps=3)
    assert list(points) == ["w = 1", "w = 10"]
    for name, values in points.items():
        assert values.shape == (3, 2)
        own = [rungs[name].rate, rungs[name].distortion]
        assert values[0].tolist() == pytest.approx(own)
        assert values[1].tolist() == pytest.approx(own, rel=1e-4)  # the same seed once more
        assert values[2].tolist() != pytest.approx(own, rel=1e-4)
    with pytest.raises(ValueError, match=r"rungs: expected one for every weight.*\['w = 10'\]"):
        over_seeds(data, {"w = 1": rungs["w = 1"]})


@pytest.fixture(scope="module")
def mnist() -> ImageData:
    """No image of MNIST: whatever isn't stored fails to train."""
    none = Split(torch.empty(0, 28, 28, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    return ImageData("mnist", none, none, none)


def test_the_books_results_are_stored_and_the_figure_is_small(mnist, monkeypatch, tmp_path):
    monkeypatch.delenv("VAE_CORE_STORED", raising=False)
    rungs = ladder.climb(mnist, seed=0)
    points = over_seeds(mnist, rungs)
    assert list(points) == [f"w = {weight:g}" for weight in WEIGHTS] and STEPS == 4000
    for name, values in points.items():
        assert values.shape == (5, 2)
        own = torch.tensor([rungs[name].rate, rungs[name].distortion])
        low, high = values.aminmax(dim=0)
        assert (low <= own).all() and (own <= high).all()
        assert ((high - low) <= 0.05 * own + 0.01).all()  # so the figure says that seeds agree
        assert len(set(values[:, 0].tolist())) == 5  # five trainings
    slider(rungs, name="weight", band=lambda: points).publish(tmp_path)
    assert len(gzip.compress((tmp_path / "weight.js").read_bytes())) < 90_000


# ---------------------------------------------------------------------------- the script


@pytest.fixture(scope="module")
def v8():
    with scripts("weight") as v8:
        v8.eval("const { arithmetic } = vaeLive.figures.weight; const { say } = vaeLive.parts;")
        yield v8


def test_bells_have_their_middle_and_their_width(v8):
    bell = np.array(v8.call("arithmetic.bell", 1.5, 0.25, 4))
    z = 8 * bell[:, 0] - 4
    density = torch.distributions.Normal(1.5, 0.25).log_prob(torch.tensor(z)).exp().numpy()
    np.testing.assert_allclose(bell[:, 1] / bell[:, 1].max(), density / density.max(), atol=1e-6)
    assert z[bell[:, 1].argmax()] == pytest.approx(1.5) and bell[:, 1].max() <= 1
    assert bell[0, 1] < 0.01 and bell[-1, 1] < 0.01


def test_the_axis_of_the_clouds_shows_all_of_them(v8):
    assert v8.call("arithmetic.reach", [[0, 1], [-3, 0.4]]) == 4
    assert v8.call("arithmetic.reach", [[0, 1], [-16, 0.5]]) == pytest.approx(1.05 * 17)


def test_where_the_models_stand(v8):
    rungs = slider().data["rungs"]
    points = [[each["rate"], each["distortion"]] for each in rungs if each["weight"]]
    ask = "(rungs, points) => rungs.map(arithmetic.frame(rungs, points).of)"
    places = np.array(v8.call(f"({ask})", rungs, points))
    assert ((places >= 0) & (places <= 1)).all()
    assert (np.diff(places[1:, 0]) < 0).all()  # a larger weight, a smaller rate
    rates, errors = np.array(points).T
    np.testing.assert_allclose(places[1:, 0] / rates, places[1, 0] / rates[0])
    np.testing.assert_allclose(places[1:, 1] / errors, places[0, 1] / 14)
    assert places[0, 0] > 0.87 > places[1, 0]  # no KL: in the strip


def test_the_band_holds_every_seed(v8):
    groups = np.random.default_rng(0).random((3, 5, 2)) + 10 * np.arange(3)[:, None, None]
    band = np.array(v8.call("arithmetic.outline", groups.tolist()))
    np.testing.assert_allclose(band[:3], groups.min(axis=1))
    np.testing.assert_allclose(band[3:], groups.max(axis=1)[::-1])


def test_a_click_goes_to_the_nearest_model_as_seen(v8):
    places = [[0.1, 0.9], [0.5, 0.5], [0.6, 0.2]]
    for at, place in enumerate(places):
        assert v8.call("arithmetic.nearest", places, *place, 300, 200) == at
    there = (0.56, 0.4)
    assert v8.call("arithmetic.nearest", places, *there, 300, 200) == 1
    assert v8.call("arithmetic.nearest", places, *there, 2000, 10) == 2  # a very wide drawing


def test_ticks_are_round_and_inside(v8):
    assert v8.call("arithmetic.ticks", 0, 35, 4) == [0, 10, 20, 30]
    assert v8.call("arithmetic.ticks", 0, 58.2, 3) == [0, 20, 40]
    assert v8.call("arithmetic.ticks", -4, 4, 6) == [-4, -2, 0, 2, 4]
    assert v8.call("arithmetic.ticks", -17.5, 17.5, 6) == [-10, 0, 10]


def test_what_a_screen_reader_hears(v8):
    ask = "(rung => arithmetic.inWords(rung, say))"
    said = v8.call(ask, {"name": "w = 1", "rate": 9.98, "distortion": 20.72})
    assert said == "w = 1, rate 10.0 nats, squared error 20.7"
    said = v8.call(ask, {"name": "w = 0", "rate": 230.7, "distortion": 14.16})
    assert said == "w = 0, rate 231 nats, squared error 14.2"
