"""``explore``: what the sliders show, who gets sliders, and what a page without a kernel shows."""

import base64
import io
import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch import nn

from vae_core import VAE, SquaredErrorVAE, seed_everything
from vae_core.explore import (
    as_png,
    code_at,
    dots,
    explore,
    follower,
    has_live_front_end,
    picture,
    units_to_move,
    with_cross,
)
from vae_core.latent import quantile_grid
from vae_core.plots import tile

matplotlib.use("Agg")
VIEW = "application/vnd.jupyter.widget-view+json"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def images():
    return torch.rand(20, 784, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def no_switch(monkeypatch):
    monkeypatch.delenv("VAE_CORE_WIDGETS", raising=False)


def model(d: int, kind: type[VAE] = VAE) -> VAE:
    seed_everything(0)
    return kind(d, hidden=(16,))


@pytest.mark.parametrize(
    ("environ", "modules", "live"),
    [
        ({}, [], False),
        ({}, ["ipykernel"], False),  # nbclient, nbconvert, nbval: a kernel and nobody there
        ({"JPY_PARENT_PID": "7"}, ["ipykernel"], False),  # every kernel has that
        ({"JPY_SESSION_NAME": "x.ipynb"}, ["ipykernel"], True),
        ({"JPY_SESSION_NAME": "x.ipynb"}, [], False),  # a script started from a notebook
        ({}, ["ipykernel", "google.colab"], True),
        ({"VSCODE_PID": "7"}, ["ipykernel"], True),
        ({"VSCODE_CWD": "/"}, ["ipykernel"], True),  # VS Code, the kernel on a remote machine
        ({"VSCODE_PID": "7", "VAE_CORE_WIDGETS": "0"}, ["ipykernel"], False),
        ({"VAE_CORE_WIDGETS": "1"}, [], True),
    ],
)
def test_sliders_only_with_evidence_that_somebody_is_there(environ, modules, live):
    assert has_live_front_end(environ, dict.fromkeys(modules)) is live


def test_a_switch_that_is_neither():
    with pytest.raises(ValueError, match="VAE_CORE_WIDGETS: expected 0 or 1, got 'yes'"):
        has_live_front_end({"VAE_CORE_WIDGETS": "yes"}, {})


def test_the_most_active_units_get_sliders():
    means = torch.randn(50, 5) * torch.tensor([0.1, 2.0, 0.0, 1.0, 3.0])
    means[:, 2] += 9  # far from 0 all the time isn't active
    assert units_to_move(means, 3) == [4, 1, 3]
    assert units_to_move(means[:, [0, 1]], 8) == [0, 1]  # both, in the order of the axes


def test_a_code_takes_the_values_and_the_start_stays():
    start = torch.arange(4.0)
    assert code_at(start, [3, 1], [9.0, -1.0]).tolist() == [0, -1, 2, 9]
    assert start.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="values: expected 2"):
        code_at(start, [0, 1], [1.0])


def test_the_map_lies_as_a_scatter_plot_does():
    upper_right = dots(torch.tensor([[2.9, 2.9]]), size=10)
    assert upper_right[0, 9] > 0 and (upper_right > 0).sum() == 1
    lower_right = dots(torch.tensor([[2.9, -2.9]]), size=10)
    assert lower_right[9, 9] > 0
    assert not dots(torch.tensor([[3.1, 0.0], [-1e30, 0.0]]), size=10).any()


def test_the_cross_is_where_the_code_is_and_the_map_stays():
    canvas = np.zeros((60, 60), dtype=np.float32)
    marked = with_cross(canvas, torch.tensor([1.5, 1.5]))
    rows, columns = np.nonzero(marked)
    assert (rows.mean(), columns.mean()) == pytest.approx((15, 45), abs=1)
    assert not canvas.any()
    far = with_cross(canvas, torch.tensor([99.0, 0.0]))
    assert far[30, 59] == 1


@pytest.mark.parametrize("d", [2, 5])
def test_the_picture_is_the_decoders_mean_image(d, images):
    vae = model(d)
    code = torch.randn(d)
    shown = picture(vae, code, dots(torch.zeros(1, 2)) if d == 2 else None)
    assert shown.shape == ((168, 348) if d == 2 else (168, 168))
    expected = vae.decode(code[None]).mean.detach().reshape(28, 28).numpy()
    np.testing.assert_allclose(shown[3::6, -168:][:, 3::6], expected, atol=1e-6)


def test_moving_one_slider_changes_one_unit_and_nothing_of_the_model(images):
    vae = model(5).train()
    it = explore(vae, images, static=True, max_units=3)
    before = it.move(it.values)
    after = it.move([it.values[0] + 2, *it.values[1:]])
    assert len(it.units) == 3 and not np.allclose(before, after)
    code = it.start.clone()
    code[it.units[0]] += 2
    np.testing.assert_allclose(after, picture(vae, code), atol=0.02)  # values are rounded to 0.01
    assert vae.training


def test_dropout_is_off_while_one_looks(images):
    vae = model(2)
    start = vae.encode(images).mean[0]
    vae.encoder.append(nn.Dropout(0.9))
    vae.decoder.append(nn.Dropout(0.9))
    it = explore(vae, images, static=True)
    assert torch.equal(it.start, start)
    drawn = [it.figure().axes[0].images[0].get_array() for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
    np.testing.assert_array_equal(it.move([0.0, 1.0]), it.move([0.0, 1.0]))


def test_the_callback_is_a_plain_function():
    moved = []
    fake = SimpleNamespace(move=lambda values: moved.append(values) or np.zeros((4, 4)))
    shown = SimpleNamespace(value=None)
    follow = follower(fake, [SimpleNamespace(value=1.0), SimpleNamespace(value=-2.0)], shown)
    follow({"new": 1.0})
    assert moved == [[1.0, -2.0]] and shown.value == as_png(np.zeros((4, 4)))


@pytest.mark.parametrize("kind", [VAE, SquaredErrorVAE])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_without_a_kernel_there_is_a_picture_and_no_slider(d, kind, images):
    it = explore(model(d, kind), images)  # no front end here
    with pytest.raises(NotImplementedError):  # so IPython asks for the bundle
        it._ipython_display_()
    data, metadata = it._repr_mimebundle_()
    assert it.static and it.box is None and VIEW not in data
    assert base64.b64decode(data["image/png"]).startswith(PNG)
    # Half the size of the file, which is drawn twice as fine.
    rows, columns = imread(io.BytesIO(base64.b64decode(data["image/png"]))).shape[:2]
    assert metadata["image/png"] == {"width": columns // 2, "height": rows // 2}
    units = "1 latent unit" if d == 1 else f"{d} latent units"
    assert data["text/plain"] == f"explore: a static picture of {units}"


def test_the_static_picture_of_the_plane_is_the_quantile_grid(images):
    vae = model(2)
    (ax,) = explore(vae, images, static=True).figure().axes
    expected = tile(vae.decode(quantile_grid(9)).mean, columns=9)
    np.testing.assert_allclose(ax.images[0].get_array(), expected, atol=1e-6)


def test_with_a_front_end_there_are_sliders_that_move_the_picture(images, monkeypatch):
    pytest.importorskip("ipywidgets")
    monkeypatch.setenv("VAE_CORE_WIDGETS", "1")
    it = explore(model(5), images, max_units=4)
    assert [slider.description for slider in it.sliders] == [f"unit {unit}" for unit in it.units]
    assert it.shown.value == as_png(it.move(it.values))
    before = it.shown.value
    it.sliders[2].value = 3.0 if it.values[2] < 0 else -3.0
    assert it.shown.value != before and it.values[2] == it.sliders[2].value
    assert it.shown.value == as_png(it.move([slider.value for slider in it.sliders]))


def test_the_sliders_die_and_the_picture_below_them_stays(images, monkeypatch):
    pytest.importorskip("ipywidgets")
    outputs = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: outputs.append(data))
    it = explore(model(2), images, static=False)
    it._ipython_display_()
    sliders, picture = outputs
    assert sliders[VIEW] == it.box._repr_mimebundle_()[VIEW] and len(sliders["text/plain"]) < 80
    assert VIEW not in picture and base64.b64decode(picture["image/png"]).startswith(PNG)
    assert it.box.layout.align_items == "flex-start"  # the digit isn't drawn out
    # What hides the picture is a part of the sliders, and finds it behind them.
    rule = it.box.children[-1].value
    assert any(f"has(.{name}) + *" in rule for name in it.box._dom_classes)


def test_the_sliders_of_the_plane_have_the_names_of_its_axes(images):
    pytest.importorskip("ipywidgets")
    it = explore(model(2), images, static=False)
    assert [slider.description for slider in it.sliders] == ["z₁", "z₂"]
    it.sliders[0].value, it.sliders[1].value = 2.0, 1.0
    np.testing.assert_array_equal(
        it.move([2.0, 1.0]), picture(it.vae, torch.tensor([2.0, 1.0]), it.map)
    )
    assert it.shown.value == as_png(it.move([2.0, 1.0]))


def test_the_start_is_the_first_image_as_far_as_the_sliders_reach(images):
    vae = model(4)
    with torch.no_grad():
        vae.encoder[-1].bias[:4] = torch.tensor([9.0, -9.0, 0.0, 1.0])
    it = explore(vae, images, static=True)
    torch.testing.assert_close(it.start, vae.encode(images[:1]).mean[0].detach())
    reached = it.start[it.units].clamp(-3, 3)
    torch.testing.assert_close(torch.tensor(it.values), reached, atol=0.0251, rtol=0)
    assert {3.0, -3.0} <= set(it.values)
    assert all(abs(value * 20 - round(value * 20)) < 1e-9 for value in it.values)


def test_the_map_holds_the_codes_of_all_images_in_a_frame(images):
    vae = model(2)
    it = explore(vae, images, static=True)
    np.testing.assert_array_equal(it.map, dots(vae.encode(images).mean))
    shown = it.move([0.0, 0.0])[:, :168]
    assert min(edge.min() for edge in (shown[0], shown[-1], shown[:, 0], shown[:, -1])) > 0
    assert not it.map[0, 0]  # the frame is drawn on a copy


def test_the_rows_of_the_static_picture_are_traversals_from_the_first_image(images):
    vae = model(5)
    it = explore(vae, images, static=True, max_units=2)
    axes = it.figure().axes
    assert [ax.get_ylabel() for ax in axes] == [f"unit {unit}" for unit in it.units]
    for ax, unit in zip(axes, it.units, strict=True):
        codes = it.start.repeat(11, 1)
        codes[:, unit] = torch.linspace(-2.5, 2.5, 11)
        expected = tile(vae.decode(codes).mean, columns=11)
        np.testing.assert_allclose(ax.images[0].get_array(), expected, atol=1e-6)


def test_two_thousand_images_and_another_float_type(images):
    many = images.repeat(60, 1)  # encoded in more than one chunk
    it = explore(model(3).double(), many, static=True)
    assert it.start.dtype == torch.float64 and it.move(it.values).shape == (168, 168)
    assert it.units == explore(model(3), many, static=True).units


def test_a_png_keeps_ink_dark():
    read = imread(io.BytesIO(as_png(np.array([[0.2, 0.5], [0.6, 0.6]]))))
    np.testing.assert_allclose(read[..., 0], [[0.8, 0.5], [0.4, 0.4]], atol=0.01)


def test_no_ipywidgets(images, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match="pip install ipywidgets"):
        explore(model(2), images, static=False)
    monkeypatch.setattr("vae_core.explore.has_live_front_end", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert explore(model(2), images).static
    assert "pip install ipywidgets" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vae": nn.Linear(2, 2)}, "vae: expected a VAE"),
        ({"vae": VAE(2, n_pixels=100)}, "vae: expected one of images of 784 pixels, got 100"),
        ({"images": torch.rand(1, 784)}, "at least 2 images"),
        ({"images": torch.rand(3, 10)}, "images: expected"),
        ({"max_units": 0}, "max_units: expected an integer"),
    ],
)
def test_what_cannot_be_explored(change, message, images):
    arguments = {"vae": model(2), "images": images, "static": True} | change
    with pytest.raises((TypeError, ValueError), match=message):
        explore(arguments.pop("vae"), arguments.pop("images"), **arguments)


def test_importing_needs_neither_ipywidgets_nor_matplotlib():
    code = (
        "import sys; import vae_core.explore; "
        "sys.exit(bool({'ipywidgets', 'matplotlib'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
