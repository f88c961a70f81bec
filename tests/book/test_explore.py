"""``explore``: what the sliders draw, who gets sliders, and the picture where nobody is there."""

import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from vae_book.explore import explore, figure_at, has_live_front_end, units_to_move
from vae_book.figures import tile
from vae_book.models import SquaredErrorVAE
from vae_core import VAE, GaussianLikelihood, seed_everything
from vae_core.latent import quantile_grid

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def no_switch(monkeypatch):
    monkeypatch.delenv("VAE_CORE_WIDGETS", raising=False)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that the sliders have drawn so far."""
    pytest.importorskip("ipywidgets")
    figures = []
    monkeypatch.setattr("IPython.display.display", figures.append)
    monkeypatch.setattr("IPython.display.clear_output", lambda *_, **__: None)
    return figures


def model(d: int, n_pixels: int = 784, **changes) -> VAE:
    """An untrained model, whose decoder depends on the code more than untrained ones do."""
    seed_everything(0)
    vae = VAE(d, hidden=(16,), n_pixels=n_pixels, **changes)
    with torch.no_grad():
        for layer in (vae.decoder[0], vae.decoder[-1]):
            layer.weight *= 4
    return vae


def some(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def decoded(vae: VAE, codes: torch.Tensor, image_shape=(28, 28)) -> torch.Tensor:
    with torch.no_grad():
        return vae.eval().decode(codes).mean.reshape(-1, *image_shape)


def shown(figure: Figure) -> np.ndarray:
    """The picture in a figure, the last one if there is a plane beside it."""
    return figure.axes[-1].images[0].get_array()


# ---------------------------------------------------------------------------- who gets sliders


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


def test_explore_asks_whether_somebody_is_there(drawn, monkeypatch):
    assert isinstance(explore(model(2), some(5, 784)), Figure) and drawn == []
    monkeypatch.setenv("VAE_CORE_WIDGETS", "1")
    assert not isinstance(explore(model(2), some(5, 784)), Figure) and len(drawn) == 1
    assert isinstance(explore(model(2), some(5, 784), static=True), Figure)


def test_without_ipywidgets_there_is_a_picture_and_a_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match="pip install ipywidgets"):
        explore(model(2), some(5, 784), static=False)
    monkeypatch.setenv("VAE_CORE_WIDGETS", "1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert isinstance(explore(model(2), some(5, 784)), Figure)
    assert "pip install ipywidgets" in capsys.readouterr().out


def test_the_most_active_units_get_sliders():
    means = torch.randn(50, 5) * torch.tensor([0.1, 2.0, 0.0, 1.0, 3.0])
    means[:, 2] += 9  # far from 0 all the time isn't active
    assert units_to_move(means, 3) == [4, 1, 3]
    assert units_to_move(means[:, [0, 1]], 8) == [0, 1]  # both, in the order of the axes
    assert units_to_move(means[:, :1], 8) == [0]


# ---------------------------------------------------------------------------- sliders


@pytest.mark.parametrize("d", [1, 2, 3, 20])
def test_every_slider_moves_its_unit_and_the_others_keep_their_values(d, drawn):
    vae, images = model(d), some(20, 784)
    *sliders, _ = explore(vae, images, static=False, max_units=4).children
    means = vae.encode(images).mean.detach()
    units = units_to_move(means, 4)
    assert [slider.description for slider in sliders] == [f"unit {unit}" for unit in units]
    assert len(sliders) == min(d, 4) and len(drawn) == 1
    code = means[0].clone()
    np.testing.assert_allclose(shown(drawn[0]), decoded(vae, code[None])[0], atol=1e-6)
    for slider, unit in zip(sliders, units, strict=True):
        assert (slider.min, slider.max, slider.value) == (-3, 3, pytest.approx(code[unit].item()))
        slider.value = code[unit] = 2.0 if code[unit] < 0 else -1.5
        np.testing.assert_allclose(shown(drawn[-1]), decoded(vae, code[None])[0], atol=1e-6)
        assert np.abs(shown(drawn[-1]) - shown(drawn[-2])).max() > 1e-3
    assert len(drawn) == 1 + len(sliders)


def test_the_plane_shows_all_mean_codes_and_a_cross_where_the_sliders_are(drawn):
    vae, images = model(2), some(20, 784)
    first, second, _ = explore(vae, images, static=False).children
    first.value, second.value = 2.0, -1.0
    (plane, _) = drawn[-1].axes
    codes, cross = (line.get_xydata() for line in plane.lines)
    np.testing.assert_allclose(codes, vae.encode(images).mean.detach(), atol=1e-6)
    np.testing.assert_allclose(cross, [[2.0, -1.0]])
    assert plane.get_xlim() == plane.get_ylim() == (-3, 3)


def test_the_start_is_the_first_image_as_far_as_the_sliders_reach(drawn):
    vae, images = model(4), some(20, 784)
    with torch.no_grad():
        vae.encoder[-1].bias[:4] = torch.tensor([9.0, -9.0, 0.0, 1.0])
    *sliders, _ = explore(vae, images, static=False).children
    start = vae.encode(images[:1]).mean[0].detach()
    for slider in sliders:
        unit = int(slider.description.removeprefix("unit "))
        assert slider.value == pytest.approx(start[unit].clamp(-3, 3).item(), abs=1e-6)
    assert {slider.value for slider in sliders} > {3.0, -3.0}
    np.testing.assert_allclose(
        shown(drawn[0]), decoded(vae, start.clamp(-3, 3)[None])[0], atol=1e-6
    )


# ---------------------------------------------------------------------------- picture


def test_the_picture_of_the_plane_is_the_quantile_grid():
    vae = model(2)
    figure = explore(vae, some(5, 784), static=True)
    expected = tile(decoded(vae, quantile_grid(9)), columns=9)
    np.testing.assert_allclose(shown(figure), expected, atol=1e-6)


@pytest.mark.parametrize("d", [1, 3, 20])
def test_the_rows_of_the_picture_are_traversals_from_the_first_image(d):
    vae, images = model(d), some(20, 784)
    figure = explore(vae, images, static=True, max_units=2)
    means = vae.encode(images).mean.detach()
    units = units_to_move(means, 2)
    assert [ax.get_ylabel() for ax in figure.axes] == [f"unit {unit}" for unit in units]
    for ax, unit in zip(figure.axes, units, strict=True):
        codes = means[0].repeat(11, 1)
        codes[:, unit] = torch.linspace(-2.5, 2.5, 11)
        expected = tile(decoded(vae, codes), columns=11)
        np.testing.assert_allclose(ax.images[0].get_array(), expected, atol=1e-6)


# ---------------------------------------------------------------------------- models and images

COLOUR = some(6, 16, 16, 3)
FORMS = {
    "grey": (some(6, 28, 28), None, (28, 28)),
    "grey, flat": (some(6, 784), None, (28, 28)),
    "grey, bytes": ((255 * some(6, 28, 28)).to(torch.uint8), None, (28, 28)),
    "grey, NumPy": (some(6, 28, 28).numpy(), None, (28, 28)),
    "colour, channels first": (COLOUR.movedim(3, 1), None, (3, 16, 16)),
    "colour, channels last": (COLOUR, None, (16, 16, 3)),
    "colour, NumPy": (COLOUR.numpy(), None, (16, 16, 3)),
    "colour, flat": (COLOUR.movedim(3, 1).flatten(1), (3, 16, 16), (3, 16, 16)),
    "not square": (some(6, 96), (8, 12), (8, 12)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("d", [2, 3])
def test_images_of_any_form(form, d, drawn):
    images, shape, image_shape = FORMS[form]
    vae = model(d, int(np.prod(image_shape)))
    slider, *_ = explore(vae, images, static=False, shape=shape).children
    slider.value = 1.5
    code = vae.encode(images).mean[0].detach()
    code[int(slider.description.removeprefix("unit "))] = 1.5
    np.testing.assert_allclose(
        shown(drawn[-1]), tile(decoded(vae, code[None], image_shape), columns=1), atol=1e-6
    )
    figure = explore(vae, images, static=True, shape=shape)
    if d == 2:
        expected = tile(decoded(vae, quantile_grid(9), image_shape), columns=9)
        np.testing.assert_allclose(shown(figure), expected, atol=1e-6)
    else:
        assert len(figure.axes) == 3 and shown(figure).shape[2:] == (3,) * (3 in image_shape)


@pytest.mark.parametrize(
    "vae",
    [
        model(3, likelihood=GaussianLikelihood(0.1)),
        model(2, likelihood=GaussianLikelihood(0.1, learned=True)),
        model(2, likelihood=GaussianLikelihood(0.1, activation=nn.Identity())),
        SquaredErrorVAE(2, hidden=(16,)),
        model(3).double(),
    ],
    ids=["Gaussian", "learned", "any values", "squared error", "float64"],
)
def test_models_of_any_kind(vae, drawn):
    images = some(1100, 784)  # encoded in more than one chunk
    if not vae.unit_interval:
        images = images * 9 - 4
    slider, *_ = explore(vae, images, static=False).children
    slider.value = -2.5
    code = vae.encode(images[:1]).mean[0].detach()
    code[int(slider.description.removeprefix("unit "))] = -2.5
    expected = decoded(vae, code[None])[0].clamp(0, 1)
    np.testing.assert_allclose(shown(drawn[-1]), expected, atol=1e-6)
    assert isinstance(explore(vae, images, static=True), Figure)


@pytest.mark.parametrize("d", [2, 3])
def test_dropout_is_off_while_one_looks_and_every_mode_comes_back(d, drawn):
    images, plain, vae = some(20, 784), model(d), model(d)
    vae.encoder.append(nn.Dropout(0.9))
    vae.decoder.append(nn.Dropout(0.9))
    vae.train()
    vae.encoder[0].eval()
    modes = [module.training for module in vae.modules()]
    for static in (True, False):
        figures = []
        for each in (vae, plain):
            looked = explore(each, images, static=static)
            if not static:
                looked.children[0].value = 1.25
            figures.append(looked if static else drawn[-1])
        np.testing.assert_array_equal(*(shown(figure) for figure in figures))
        assert [module.training for module in vae.modules()] == modes
    assert all(p.grad is None for p in vae.parameters())


def test_a_figure_is_not_shown_twice():
    """A notebook shows a cell's last value, and every figure that pyplot holds open."""
    import matplotlib.pyplot as plt

    plt.close("all")
    figure_at(model(2), torch.zeros(2), torch.zeros(3, 2))
    explore(model(3), some(5, 784), static=True)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vae": nn.Linear(2, 2)}, "vae: expected a VAE"),
        ({"vae": VAE(2, hidden=(4,), n_pixels=100)}, "images: expected .* with 100 pixels"),
        ({"images": some(1, 784)}, "images: expected at least 2 images"),
        ({"images": 255 * some(3, 784)}, r"images: expected float values in \[0, 1\]"),
        ({"max_units": 0}, "max_units: expected an integer"),
        ({"shape": (27, 28)}, r"shape: expected one of 784 pixels, got \(27, 28\)"),
    ],
)
def test_what_cannot_be_explored(change, message):
    arguments = {"vae": model(2), "images": some(5, 784), "static": True} | change
    with pytest.raises((TypeError, ValueError), match=message):
        explore(**arguments)
