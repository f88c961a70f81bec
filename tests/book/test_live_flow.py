"""The slider through a flow's time: what it is given, and where its script puts things."""

import gzip
import json

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from v8 import scripts
from vae_book.live import flow_slider

matplotlib.use("Agg")


def given(times=7, points=20, images=4):
    random = torch.Generator().manual_seed(0)
    path = torch.randn(times, points, 2, generator=random).cumsum(dim=0)
    drawn = torch.rand(times, images, 784, generator=random)
    return path, drawn, 3 * torch.randn(50, 2, generator=random)


def unpacked(text, dtype):
    import base64

    return np.frombuffer(base64.b64decode(text), dtype=dtype)


def test_what_is_packed_equals_what_was_given():
    path, drawn, codes = given()
    data = flow_slider(path, drawn, codes).data
    assert (data["times"], data["drawings"]) == (7, 4)
    points = unpacked(data["points"], "<i2").reshape(7, 20, 2) * data["unit"]
    assert np.abs(points - path.numpy()).max() <= data["unit"]
    assert np.array_equal(unpacked(data["codes"], "<f4").reshape(50, 2), codes.numpy())
    assert len(data["images"]) == 7 * 4 * 784
    assert data["image"] == {"height": 28, "width": 28}
    everywhere = torch.cat([codes, path[0]]).abs()
    assert (everywhere < data["reach"]).double().mean() > 0.98


def test_the_script_reads_what_was_packed():
    path, drawn, codes = given()
    data = flow_slider(path, drawn, codes).data
    with scripts("flow") as v8:
        v8.eval("const { arithmetic } = vaeLive.figures.flow;")
        places = v8.call("arithmetic.unpack", data["points"], data["unit"], data["times"])
        for k in (0, 3, 6):
            found = np.array([places[k][str(i)] for i in range(40)])
            assert np.abs(found - path[k].flatten().numpy()).max() <= data["unit"]
        assert v8.call("arithmetic.timeOf", 0, 7) == 0 and v8.call("arithmetic.timeOf", 6, 7) == 1
        assert "noise" in v8.call("arithmetic.inWords", 0, 7)
        assert "digits" in v8.call("arithmetic.inWords", 6, 7)


def test_the_picture_is_closed_and_has_five_times():
    figure = flow_slider(*given()).picture
    assert not plt.fignum_exists(figure.number)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles[0] == "t = 0" and titles[-1] == "t = 1" and len(titles) == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, d, c: (p[..., :1], d, c), "path: expected path"),
        (lambda p, d, c: (p[:4], d[:4], c), "path: expected path .* T ≥ 5"),
        (lambda p, d, c: (p, d[:-1], c), "drawn: expected path"),
        (lambda p, d, c: (p[:, :3], d, c), "drawn: expected at most 3 images a time"),
        (lambda p, d, c: (p, d, c[0]), "codes: expected path"),
        (lambda p, d, c: (p * torch.nan, d, c), "path: expected finite values"),
    ],
)
def test_what_makes_no_figure(change, words):
    with pytest.raises(ValueError, match=words):
        flow_slider(*change(*given()))


def test_it_is_small():
    path, drawn, codes = given(17, 400, 12)
    text = json.dumps(flow_slider(path, drawn, codes).data)
    assert len(gzip.compress(text.encode())) < 300_000
