"""The diagrams: the same text at every run, both formats, words for those who can't see them, and
what is drawn to scale is true."""

import base64
import inspect
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch.distributions import MultivariateNormal, kl_divergence

from vae_book import diagrams, figures

matplotlib.use("Agg")

CALLS = [
    "architecture('autoencoder')",
    "architecture('noisy')",
    "architecture('vae')",
    "cloud_on_a_curve()",
    "evidence_bars()",
    "gradient_flow()",
    "graphical_model()",
    "tug_of_war()",
    "two_ways_out()",
]
NUMBERS = {"average_error", "best_code", "error_at", "gaussian_kl"}  # what is drawn, as arrays


def draw(call: str) -> diagrams.Diagram:
    return eval(f"diagrams.{call}")


@pytest.fixture(scope="module")
def drawn() -> dict[str, diagrams.Diagram]:
    return {call: draw(call) for call in CALLS}


def test_every_public_function_is_here():
    functions = {name for name in diagrams.__all__ if name != "Diagram"}
    assert {call.partition("(")[0] for call in CALLS} | NUMBERS == functions
    assert all(inspect.getdoc(getattr(diagrams, name)) for name in functions)


@pytest.mark.parametrize("call", CALLS)
def test_a_notebook_gets_svg_png_and_words(drawn, call):
    diagram = drawn[call]
    data, metadata = diagram._repr_mimebundle_()
    assert data.keys() == {"image/svg+xml", "image/png", "text/plain"}
    assert data["text/plain"] == diagram.alt == repr(diagram)
    assert len(diagram.alt.split()) >= 8 and "\n" not in diagram.alt
    root = ElementTree.fromstring(data["image/svg+xml"])
    assert root.get("aria-label") == diagram.alt and root.get("role") == "img"
    png = base64.b64decode(data["image/png"])
    assert png == diagram.png
    height, width = imread(io.BytesIO(png)).shape[:2]
    size = metadata["image/png"]
    assert (width, height) == pytest.approx((2 * size["width"], 2 * size["height"]), abs=2)
    assert size["width"] <= 6.5 * 96
    assert [float(root.get(side).removesuffix("pt")) * 4 / 3 for side in ("width", "height")] == (
        pytest.approx([size["width"], size["height"]], abs=1)
    )


@pytest.mark.parametrize("call", CALLS)
def test_nothing_in_the_svg_depends_on_the_day_or_the_machine(drawn, call):
    svg = drawn[call].svg
    assert not re.search(r"<!--|metadata|date|matplotlib|<text|<image|https?://(?!www\.w3)", svg)
    assert not re.search(r"/(home|work|usr|tmp)/|\\", svg)
    assert len(svg) < 50_000


@pytest.mark.parametrize("call", CALLS)
def test_nothing_is_cut_off(drawn, call):
    """The paper at the edge is white: no word and no shape reaches over it."""
    pixels = imread(io.BytesIO(drawn[call].png))[..., :3]
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    assert all((edge == 1).all() for edge in edges)
    assert (pixels < 1).any()


def test_the_text_is_the_same_in_a_fresh_process_and_whatever_the_settings_are(drawn):
    code = "from vae_book import diagrams\n" + "".join(
        f"print(len(diagrams.{call}.svg), diagrams.{call}.svg, sep='\\n')\n" for call in CALLS
    )
    env = os.environ | {"PYTHONHASHSEED": "7", "PYTHONIOENCODING": "utf-8"}
    env["PYTHONPATH"] = str(Path(diagrams.__file__).parents[1])
    fresh = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    expected = "".join(f"{len(drawn[call].svg)}\n{drawn[call].svg}\n" for call in CALLS)
    assert fresh.stdout.decode().replace("\r\n", "\n") == expected

    with matplotlib.rc_context():
        figures.use_book_style()
        matplotlib.rcParams.update(
            {"font.size": 20, "mathtext.fontset": "stix", "svg.fonttype": "none",
             "lines.linestyle": "--", "savefig.bbox": "tight", "path.simplify": False}
        )  # fmt: skip
        assert all(draw(call).svg == drawn[call].svg for call in CALLS)


def test_drawing_leaves_no_figure_and_no_setting_behind():
    before = dict(matplotlib.rcParams)
    draw("graphical_model()")
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_the_steps_differ_and_an_unknown_one_is_named(drawn):
    assert len({diagram.svg for diagram in drawn.values()}) == len(CALLS)
    with pytest.raises(
        ValueError, match="step: expected one of autoencoder, noisy, vae, got 'gan'"
    ):
        diagrams.architecture("gan")


def test_the_best_code_has_the_smallest_error():
    best = diagrams.best_code()
    z = np.linspace(-20, 20, 400_001)
    assert diagrams.error_at(z).min() >= diagrams.error_at(best) - 1e-9
    assert diagrams.error_at(z).min() > 0
    slope = diagrams.error_at(best + 1e-4) - diagrams.error_at(best - 1e-4)
    assert abs(slope) / 2e-4 < 1e-3


@pytest.mark.parametrize("std", [0.0, 0.12, 0.45, 0.9])
@pytest.mark.parametrize("mean", [-0.7, 0.5])
def test_the_average_error_is_that_of_the_cloud(mean, std):
    """By a sum over a fine grid, and by the closed form for a parabola and cosines."""
    z = mean + np.linspace(-9, 9, 20_001) * max(std, 1e-9)
    density = np.exp(-(((z - mean) / max(std, 1e-9)) ** 2) / 2)
    summed = (density * diagrams.error_at(z)).sum() / density.sum()
    assert diagrams.average_error(mean, std) == pytest.approx(summed, abs=1e-9)


def test_no_cloud_beats_the_best_point_and_the_average_falls_to_it():
    best = diagrams.best_code()
    averages = [diagrams.average_error(best, std) for std in (0.9, 0.45, 0.12, 0.0)]
    assert averages == sorted(averages, reverse=True)
    assert averages[-1] == pytest.approx(float(diagrams.error_at(best)))
    assert averages[0] > 1.3 * averages[-1]
    for std in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="std: expected a standard deviation of at least 0"):
            diagrams.average_error(best, std)


def test_the_gaps_of_the_bars_are_divergences():
    posterior = MultivariateNormal(*map(torch.tensor, diagrams.POSTERIOR))
    gaps = []
    for _, q in diagrams.GUESSES:
        gaps.append(diagrams.gaussian_kl(*q, *diagrams.POSTERIOR))
        expected = kl_divergence(MultivariateNormal(*map(torch.tensor, q)), posterior).item()
        assert gaps[-1] == pytest.approx(expected, abs=1e-6)
    assert gaps[0] > 2 * gaps[1] > 0 and gaps[2] == pytest.approx(0, abs=1e-12)


def test_the_8_is_one_closed_stroke_upright_in_its_frame():
    stroke = diagrams.eight()
    assert stroke.shape == (41, 2) and np.abs(stroke).max() < 0.5
    np.testing.assert_array_equal(stroke[0], stroke[-1])
    upper, lower = stroke[stroke[:, 1] > 0], stroke[stroke[:, 1] < 0]
    assert np.ptp(lower[:, 0]) > np.ptp(upper[:, 0])  # the lower loop is the larger one
    assert upper[:, 0].mean() > lower[:, 0].mean()  # it leans to the right
