"""Live figures: what the page is given, its arithmetic, the widget, and the picture otherwise."""

import json

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from v8 import scripts, unpacked
from vae_book.live import LiveFigure, explore, has_live_front_end
from vae_book.live.decoders import Decoder, rounded, run, shipped
from vae_book.live.packing import hex_images, packed
from vae_book.live.playground import NEEDS
from vae_book.live.widget import LiveWidget
from vae_book.models import Autoencoder, NoisyAutoencoder, SquaredErrorVAE
from vae_core import VAE, GaussianLikelihood, seed_everything
from vae_core.latent import spherical_path, traversal

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def nobody_there(monkeypatch):
    monkeypatch.delenv("VAE_CORE_WIDGETS", raising=False)
    monkeypatch.delenv("VAE_CORE_LIVE", raising=False)


@pytest.fixture
def shown(monkeypatch) -> list:
    """What was displayed so far."""
    things = []
    monkeypatch.setattr("IPython.display.display", lambda thing, **_: things.append(thing))
    return things


def model(d: int, n_pixels: int = 784, **changes) -> VAE:
    """An untrained model, whose decoder depends on the code more than untrained ones do."""
    seed_everything(0)
    vae = VAE(d, hidden=(16,), n_pixels=n_pixels, **changes)
    with torch.no_grad():
        for layer in (vae.decoder[0], vae.decoder[-1]):
            layer.weight *= 4
    return vae


class Convolutional(VAE):
    def __init__(self, d: int = 2) -> None:
        decoder = nn.Sequential(
            nn.Linear(d, 49), nn.ReLU(), nn.Unflatten(1, (1, 7, 7)), nn.Upsample(scale_factor=4),
            nn.Conv2d(1, 1, 3, padding=1), nn.Flatten(),
        )  # fmt: skip
        super().__init__(d, hidden=(16,), decoder=decoder)


def some(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def decoded(vae: nn.Module, codes: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        answer = vae.eval().decode(codes)
    return answer if isinstance(answer, torch.Tensor) else answer.mean


def on_the_page(data: dict, codes: torch.Tensor) -> np.ndarray:
    """What the page draws at some codes."""
    with scripts() as v8:
        v8.eval(f"const data = {json.dumps(data)}")
        v8.eval("const decode = vaeLive.parts.decoder(data.decoder)")
        ask = "codes => { let got; decode(codes, s => { got = s.map(i => [...i]); }); return got; }"
        return np.array(v8.call(f"({ask})", codes.tolist()))


def shipped_network(decoder: dict):
    """The network of a figure's data in PyTorch, in float64, from the numbers that are shipped."""

    def network(codes: torch.Tensor) -> torch.Tensor:
        values = codes.double()
        for layer in decoder["layers"]:
            bias = torch.tensor(unpacked(layer["bias"])).double()
            scale = torch.tensor(unpacked(layer["scale"])).double()
            whole = torch.tensor(unpacked(layer["weight"], "i1")).double().reshape(len(bias), -1)
            values = values @ (scale[:, None] * whole).T + bias
            if layer["activation"] != "identity":
                values = getattr(torch, layer["activation"])(values)
        return values.clamp(0, 1)

    return network


# ---------------------------------------------------------------------------- who is there


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
def test_live_only_with_evidence_that_somebody_is_there(environ, modules, live):
    assert has_live_front_end(environ, dict.fromkeys(modules)) is live


def test_a_switch_that_is_neither():
    with pytest.raises(ValueError, match="VAE_CORE_WIDGETS: expected 0 or 1, got 'yes'"):
        has_live_front_end({"VAE_CORE_WIDGETS": "yes"}, {})


# ---------------------------------------------------------------------------- a figure's forms


def test_the_element_names_the_figure_and_holds_nothing_measured():
    texts = {explore(model(2), some(n, 784), name="a_plane").html() for n in (5, 9)}
    element = '<div class="live" data-figure="explorer" data-name="a_plane"><div></div></div>'
    assert texts == {element}
    assert 'style="--units: 8"' in explore(model(20), some(5, 784), name="units").html()


def test_a_picture_then_the_element_and_the_data_only_where_asked(shown, monkeypatch, tmp_path):
    live = explore(model(2), some(5, 784), name="a_plane")
    live._ipython_display_()
    assert shown[0] is live.picture and shown[1].data == live.html() and len(shown) == 2
    monkeypatch.setenv("VAE_CORE_LIVE", str(tmp_path))
    live._ipython_display_()
    (file,) = tmp_path.iterdir()
    head, _, data = file.read_text().partition(" = ")
    assert (file.name, head) == ("a_plane.js", 'vaeLive.data["a_plane"]')
    assert json.loads(data.removesuffix(";\n")) == json.loads(json.dumps(live.data))


def test_a_figure_without_a_name_is_a_picture(shown, monkeypatch, tmp_path):
    monkeypatch.setenv("VAE_CORE_LIVE", str(tmp_path))
    live = explore(model(2), some(5, 784))
    live._ipython_display_()
    assert shown == [live.picture] and list(tmp_path.iterdir()) == []


def test_slow_data_are_made_only_to_be_published(shown, tmp_path):
    calls = []
    live = LiveFigure("kl", {"a": 1}, Figure(), name="x", slow=lambda: calls.append(1) or {"b": 2})
    live._ipython_display_()
    assert not calls
    live.publish(tmp_path)
    assert '{"a": 1, "b": 2}' in (tmp_path / "x.js").read_text()


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    live = explore(model(2), some(5, 784), name="a_plane")
    live.publish(tmp_path)
    before = (tmp_path / "a_plane.js").read_bytes()
    live.data["start"] = [float("nan")]
    with pytest.raises(ValueError):
        live.publish(tmp_path)
    assert (tmp_path / "a_plane.js").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["", "a b", "../a", "A", "1st"])
def test_a_name_that_is_no_files(name):
    with pytest.raises(ValueError, match="name: expected small letters"):
        LiveFigure("kl", {}, Figure(), name=name)


def test_data_that_are_not_finite():
    with pytest.raises(ValueError, match="not JSON compliant"):
        LiveFigure("kl", {"mu": float("nan")}, Figure())


# ---------------------------------------------------------------------------- arithmetic


def of_any_values() -> VAE:
    """Images that aren't squeezed into [0, 1]: a rounding error counts as it is."""
    vae = model(2, likelihood=GaussianLikelihood(0.1, activation=nn.Identity()))
    with torch.no_grad():
        vae.decoder[-1].weight /= 8
    return vae


MODELS = {
    "Bernoulli": lambda: model(2),
    "Gaussian": lambda: model(2, likelihood=GaussianLikelihood(0.1)),
    "any values": of_any_values,
    "squared error": lambda: SquaredErrorVAE(2, hidden=(16,)),
    "autoencoder": lambda: Autoencoder(2, hidden=(16, 12)),
    "noisy autoencoder": lambda: NoisyAutoencoder(2),
    "float64": lambda: model(2).double(),
    "1 unit": lambda: model(1),
    "3 units": lambda: model(3),
    "20 units": lambda: model(20),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_page_draws_what_pytorch_draws(name):
    """Within 1/255 of PyTorch with the shipped weights, within 16/255 with the original ones."""
    vae = MODELS[name]()
    live = explore(vae, some(300, 784), labels=torch.arange(300) % 10)
    assert live.data["decoder"]["kind"] == "mlp"
    d = vae.latent_dim
    codes = 1.5 * torch.randn(100, d, generator=torch.Generator().manual_seed(1))
    drawn = on_the_page(live.data, codes)
    with_shipped = shipped_network(live.data["decoder"])(codes)
    assert np.abs(drawn - with_shipped.numpy()).max() < 1 / 255
    off = np.abs(drawn - decoded(vae, codes.to(next(vae.parameters()))).clamp(0, 1).numpy()).max()
    assert 0 < off < 16 / 255


def test_columns_that_make_up_for_each_other_lose_less_than_nearest_numbers():
    seed_everything(0)
    layers = [
        (torch.randn(64, 2), torch.randn(64), "relu"),
        (torch.randn(50, 64), torch.zeros(50), "identity"),
    ]
    codes = torch.randn(1000, 2)
    nearest = []
    for weight, bias, activation in layers:
        scale = weight.abs().amax(dim=1) / 127
        nearest.append(((weight / scale[:, None]).round(), scale, bias, activation))
    wanted = run(layers, codes)
    ours, theirs = (
        (run(shipped(kind), codes) - wanted).square().mean().sqrt().item()
        for kind in (rounded(layers, codes), nearest)
    )
    assert ours < theirs / 2


def test_a_row_of_zeros_is_shipped_as_zeros():
    layers = [(torch.tensor([[0.0, 0.0], [1.0, -0.5]]), torch.tensor([0.3, 0.1]), "identity")]
    ((weight, bias, _),) = shipped(rounded(layers, torch.randn(50, 2)))
    assert weight[0].tolist() == [0, 0] and torch.equal(bias, layers[0][1])
    torch.testing.assert_close(weight[1], layers[0][0][1], atol=0.01, rtol=0)


def test_ways_are_those_of_vae_core():
    t = torch.linspace(0, 1, 7, dtype=torch.float64)
    seed_everything(0)
    a, b = torch.randn(2, 5, dtype=torch.float64)
    with scripts() as v8:
        way = "(a, b, t) => t.map(u => vaeLive.parts.arc(a, b, u))"
        got = v8.call(f"({way})", a.tolist(), b.tolist(), t.tolist())
        torch.testing.assert_close(torch.tensor(got).double(), spherical_path(a, b, t))
        for end in (2 * a, -a, 0 * a):  # no arc, or none that is the shorter one: straight
            got = torch.tensor(v8.call(f"({way})", a.tolist(), end.tolist(), t.tolist())).double()
            torch.testing.assert_close(got, a + t[:, None] * (end - a))


def test_hexadecimal_images_are_read_back():
    images = some(3, 784)
    with scripts() as v8:
        read = "(text, size) => vaeLive.parts.hexImages(text, size).map(image => [...image])"
        got = np.array(v8.call(f"({read})", hex_images(images), 784))
    assert np.abs(got - images.numpy()).max() <= 0.5 / 15 + 1e-6


def test_packed_numbers_are_little_endian():
    assert unpacked(packed(torch.tensor([1.5, -2.0]))).tolist() == [1.5, -2.0]
    assert unpacked(packed(torch.tensor([-3.0, 127.0]), "int8"), "i1").tolist() == [-3, 127]


# ---------------------------------------------------------------------------- what it is given


def test_the_plane_has_all_it_shows():
    vae, images, labels = model(2), some(50, 784), torch.arange(50) % 10
    data = explore(vae, images, labels=labels).data
    means = vae.encode(images).mean.detach()
    np.testing.assert_allclose(unpacked(data["points"]).reshape(-1, 2), means, atol=1e-6)
    assert data["labels"] == "".join(map(str, labels.tolist()))
    assert data["start"] == pytest.approx(means[0].tolist())
    assert data["image"] == {"height": 28, "width": 28, "channels": 1}
    farthest = means[(means - means[0]).norm(dim=1).argmax()]
    assert data["pinned"] == pytest.approx(farthest.tolist())
    assert [unit["name"] for unit in data["units"]] == ["z₁", "z₂"]
    low, high = data["plane"]["low"], data["plane"]["high"]
    assert max(low) < -2 and min(high) > 2  # the circle is in it
    assert high[0] - low[0] == pytest.approx(high[1] - low[1])
    assert [digit for digit, _ in data["names"]] == list(range(10))


def test_sliders_of_the_active_units_the_most_active_first():
    vae = VAE(5, hidden=(16,))
    with torch.no_grad():
        vae.encoder[-1].weight[:5] *= torch.tensor([5.0, 0.0, 3.0, 0.0, 9.0])[:, None]
    units = explore(vae, some(200, 784)).data["units"]
    means = vae.encode(some(200, 784)).mean.detach()
    order = means.var(dim=0).argsort(descending=True)
    active = [unit for unit in order.tolist() if means[:, unit].var(correction=0) > 0.01]
    assert [unit["unit"] for unit in units] == active and len(active) < 5
    assert len(explore(vae, some(200, 784), max_units=1).data["units"]) == 1


def test_where_no_unit_is_active_all_are_as_good_as_any():
    vae = model(3)
    with torch.no_grad():
        vae.encoder[-1].weight.zero_()
    assert len(explore(vae, some(9, 784)).data["units"]) == 3


def test_sliders_reach_three_standard_deviations_and_never_short_of_the_start():
    vae, images = model(3), some(200, 784)
    start = torch.tensor([0.0, 0.0, 50.0])
    units = {unit["unit"]: unit for unit in explore(vae, images, start=start).data["units"]}
    with torch.no_grad():
        q = vae.encode(images)
        spread = (q.mean.var(dim=0, correction=0) + q.variance.mean(dim=0)).sqrt()
    reach = (units[0]["high"] - units[0]["low"]) / 2
    assert reach == pytest.approx(3 * spread[0].item(), rel=1e-4)
    assert units[2]["high"] == 50


def test_a_decoder_that_is_no_such_network_has_a_table_on_the_page():
    vae = Convolutional()
    data = explore(vae, some(40, 784), name="conv").data
    assert data["decoder"]["kind"] == "table"
    low, high = torch.tensor(data["plane"]["low"]), torch.tensor(data["plane"]["high"])
    for share in (0, 0.4, 1):
        at = torch.full((1, 2), share)
        at[0, 1] = 1 - share
        code = low + (high - low) * at
        off = np.abs(on_the_page(data, code) - decoded(vae, code).numpy()).max()
        assert off < 0.5 / 15 + 1e-5


def test_a_table_is_read_at_the_nearest_code():
    data = explore(Convolutional(), some(40, 784)).data
    low, high = torch.tensor(data["plane"]["low"]), torch.tensor(data["plane"]["high"])
    step = (high - low) / 20
    grid = low + 3 * step
    nearby = torch.stack([grid, grid + 0.45 * step, grid + 0.55 * step, low - 9, low])
    same, near, far, outside, corner = on_the_page(data, nearby)
    assert (same == near).all() and (same != far).any() and (outside == corner).all()


@pytest.mark.parametrize("vae", [Convolutional(3), model(2, 768)], ids=["3 units", "colour"])
def test_what_no_page_can_decode_is_a_picture(vae, shown):
    if vae.n_pixels == 768:  # a last layer that no network of the page has
        vae.decoder.append(nn.Softplus())
    live = explore(
        vae, some(20, vae.n_pixels), name="x", shape=None if vae.n_pixels == 784 else (16, 16, 3)
    )
    live._ipython_display_()
    assert live.data is None and shown == [live.picture]


def test_rounding_that_shows_is_not_shipped():
    vae = model(2)
    with torch.no_grad():
        vae.decoder[-1].weight *= 300
    assert explore(vae, some(40, 784)).data["decoder"]["kind"] == "table"


def test_a_decode_that_does_more_than_its_network_is_not_taken_for_it():
    class Inverted(Autoencoder):
        def decode(self, z):
            return 1 - super().decode(z)

    assert explore(Inverted(2), some(40, 784)).data["decoder"]["kind"] == "table"


# ---------------------------------------------------------------------------- told a label


def told_a_label() -> VAE:
    seed_everything(0)
    vae = VAE(2, hidden=(16,), n_classes=10)
    with torch.no_grad():
        for layer in (vae.decoder.network[0], vae.decoder.network[-1]):
            layer.weight *= 4
    return vae


def test_a_digit_is_picked_and_its_code_dragged():
    """The page gets the code with ten numbers behind it, and draws that digit."""
    vae, images, labels = told_a_label(), some(300, 784), torch.arange(300) % 10
    live = explore(vae, images, labels=labels, name="told")
    data = live.data
    assert (data["digits"], data["digit"], data["decoder"]["kind"]) == (10, 7, "mlp")
    assert 'style="--digits: 1"' in live.html() and "pinned" not in data
    means = vae.encode(images, labels).mean.detach()
    np.testing.assert_allclose(unpacked(data["points"]).reshape(-1, 2), means, atol=1e-6)
    code = torch.tensor([[0.4, -1.1]])
    for y in (0, 4, 9):
        ten = torch.nn.functional.one_hot(torch.tensor([y]), 10)
        (drawn,) = on_the_page(data, torch.cat([code, ten], dim=1))
        with torch.no_grad():
            wanted = vae.decode(code, torch.tensor([y])).mean[0].numpy()
        assert np.abs(drawn - wanted).max() < 16 / 255
    with pytest.raises(
        ValueError, match="^labels: expected those that the model is told, got None"
    ):
        explore(vae, images)
    with pytest.raises(ValueError, match="^model: expected 2 latent units and at most 10 labels"):
        explore(VAE(3, hidden=(16,), n_classes=10), images, labels=labels)


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
def test_images_of_any_form(form, d):
    images, shape, image_shape = FORMS[form]
    vae = model(d, int(np.prod(image_shape)))
    live = explore(vae, images, shape=shape)
    codes = torch.randn(5, d, generator=torch.Generator().manual_seed(1))
    wanted = decoded(vae, codes).reshape(5, *image_shape)
    if image_shape[0] == 3:
        wanted = wanted.movedim(1, 3)
    assert np.abs(on_the_page(live.data, codes) - wanted.flatten(1).numpy()).max() < 16 / 255
    said = live.data["image"]
    assert [said["height"], said["width"]] == list(wanted.shape[1:3])
    assert said["channels"] == (3 if 3 in image_shape else 1)


def test_dropout_is_off_while_one_looks_and_every_mode_comes_back():
    images, plain, vae = some(20, 784), model(2), model(2)
    vae.encoder.append(nn.Dropout(0.9))
    vae.decoder.append(nn.Dropout(0.9))
    vae.train()
    vae.encoder[0].eval()
    modes = [module.training for module in vae.modules()]
    assert explore(vae, images).data == explore(plain, images).data
    assert [module.training for module in vae.modules()] == modes
    assert all(p.grad is None for p in vae.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_on_a_gpu():
    vae = model(2).cuda()
    assert explore(vae, some(20, 784)).data["decoder"]["kind"] == "mlp"


def with_nan(part: str) -> VAE:
    vae = model(2)
    with torch.no_grad():
        getattr(vae, part)[-1].bias[0] = torch.nan
    return vae


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": nn.Linear(2, 2)}, "model: expected a VAE, or a module with encode and decode"),
        ({"model": VAE(2, hidden=(4,), n_pixels=100)}, "images: expected .* with 100 pixels"),
        ({"model": with_nan("encoder")}, "model: expected finite codes of the images"),
        ({"model": with_nan("decoder")}, "model: expected finite images of its codes"),
        ({"images": some(1, 784)}, "images: expected at least 2 images"),
        ({"images": 255 * some(3, 784)}, r"images: expected float values in \[0, 1\]"),
        ({"max_units": 0}, "max_units: expected an integer"),
        ({"shape": (27, 28)}, r"shape: expected .* images of 784 values, got \(27, 28"),
        ({"labels": torch.zeros(3).long()}, "labels: expected 5 digits from 0 to 9"),
        ({"labels": np.zeros(5, int)}, "labels: expected 5 digits from 0 to 9, got"),
        ({"labels": torch.full((5,), 10)}, "labels: expected 5 digits from 0 to 9"),
        ({"start": torch.zeros(3)}, r"start: expected a code of shape \(2,\)"),
        ({"start": torch.tensor([0.0, torch.inf])}, "start: expected finite"),
    ],
)
def test_what_cannot_be_explored(change, message):
    arguments = {"model": model(2), "images": some(5, 784)} | change
    with pytest.raises((TypeError, ValueError), match=message):
        explore(**arguments)


# ---------------------------------------------------------------------------- pictures


def test_the_picture_of_a_plane_is_the_figure_at_rest():
    vae, images = model(2), some(20, 784)
    live = explore(vae, images, labels=torch.arange(20) % 10)
    start, pinned = torch.tensor(live.data["start"]), torch.tensor(live.data["pinned"])
    axes = {ax.get_label(): ax for ax in live.picture.axes}
    big = axes["image"].images[0].get_array()
    np.testing.assert_allclose(big.flatten(), decoded(vae, start[None])[0], atol=1e-6)
    way = axes["way"].images[0].get_array()
    np.testing.assert_allclose(way[:, :28].flatten(), decoded(vae, pinned[None])[0], atol=1e-6)
    np.testing.assert_allclose(way[:, -28:].flatten(), decoded(vae, start[None])[0], atol=1e-6)


@pytest.mark.parametrize("d", [1, 3, 20])
def test_the_rows_of_the_picture_are_traversals_from_the_first_image(d):
    vae, images = model(d), some(20, 784)
    live = explore(vae, images, max_units=2)
    means = vae.encode(images).mean.detach()
    units = live.data["units"]
    assert [ax.get_ylabel() for ax in live.picture.axes] == [unit["name"] for unit in units]
    for ax, unit in zip(live.picture.axes, units, strict=True):
        codes = traversal(means[0], unit["unit"], torch.linspace(unit["low"], unit["high"], 11))
        row = ax.images[0].get_array()
        np.testing.assert_allclose(row[:, :28].flatten(), decoded(vae, codes)[0], atol=1e-6)
        np.testing.assert_allclose(row[:, -28:].flatten(), decoded(vae, codes)[-1], atol=1e-6)


def test_a_figure_is_not_shown_twice():
    """A notebook shows a cell's last value, and every figure that pyplot holds open."""
    import matplotlib.pyplot as plt

    plt.close("all")
    for d in (2, 3):
        explore(model(d), some(5, 784))
    assert plt.get_fignums() == []


# ---------------------------------------------------------------------------- in a notebook


@pytest.fixture
def somebody_there(monkeypatch):
    monkeypatch.setenv("VAE_CORE_WIDGETS", "1")


def test_where_somebody_is_there_it_is_a_widget(somebody_there, shown):
    live = explore(model(2), some(5, 784))  # a name is for the site
    live._ipython_display_()
    (data,) = shown
    assert {"application/vnd.jupyter.widget-view+json", "image/png"} < data.keys()
    widget = live.widget()
    assert widget.figure == "explorer" and widget.data == live.data
    for text in ("vaeLive.figures.explorer", "live.parts = {", "export default { render }"):
        assert text in widget._esm
    assert ".live" in widget._css


def test_the_playground_s_widget_has_all_scripts_it_needs():
    esm = LiveWidget("playground", {}, needs=NEEDS)._esm
    order = [esm.index(text) for text in ("live.parts = {", "live.vae = {", "vaeLive.training = {",
                                          "vaeLive.pictures = {", "vaeLive.figures.playground =",
                                          "export default { render }")]  # fmt: skip
    assert order == sorted(order)


def test_a_kernel_answers_for_decoders_that_the_page_cannot_compute(somebody_there):
    vae = Convolutional(3)
    live = explore(vae, some(20, 784))
    assert live.data["decoder"] == {"kind": "kernel"}
    widget, sent = live.widget(), []
    widget.send = sent.append
    codes = torch.randn(4, 3)
    widget.answer(widget, {"id": 7, "codes": codes.tolist()}, [])
    (answer,) = sent
    got = unpacked(answer["images"], "u1").reshape(4, 784) / 255
    assert answer["id"] == 7
    assert np.abs(got - decoded(vae, codes).numpy()).max() <= 0.5 / 255 + 1e-6
    widget.answer(widget, {"id": 8, "codes": [[1.0]]}, [])
    assert sent[1]["id"] == 8 and "ValueError: z: expected shape" in sent[1]["error"]


def test_a_question_waits_while_another_is_answered_and_only_the_newest_does():
    with scripts() as v8:
        v8.eval("""
          const asked = [], shown = [], answers = [];
          const ask = codes => {
            asked.push(codes[0][0]);
            return new Promise(done => answers.push(done));
          };
          const decode = vaeLive.parts.decoder({ kind: "kernel" }, ask);
          for (const z of [1, 2, 3]) decode([[z]], images => shown.push(images));
        """)
        assert json.loads(v8.eval("JSON.stringify(asked)")) == [1]
        v8.eval("answers[0]('first')")
        assert json.loads(v8.eval("JSON.stringify([asked, shown])")) == [[1, 3], ["first"]]
        v8.eval("answers[1]('third')")
        assert json.loads(v8.eval("JSON.stringify(shown)")) == ["first", "third"]


def test_after_an_error_the_newest_question_is_asked_all_the_same():
    with scripts() as v8:
        v8.eval("""
          const asked = [], shown = [], answers = [];
          const ask = codes => {
            asked.push(codes[0][0]);
            return new Promise((done, failed) => answers.push({ done, failed }));
          };
          const decode = vaeLive.parts.decoder({ kind: "kernel" }, ask);
          for (const z of [1, 2]) decode([[z]], images => shown.push(images));
          answers[0].failed(new Error("no"));
        """)
        v8.eval("answers[1].done('second')")
        assert json.loads(v8.eval("JSON.stringify([asked, shown])")) == [[1, 2], ["second"]]


def test_a_decoder_needs_a_shape_with_all_its_values():
    with pytest.raises(ValueError, match="shape: expected"):
        Decoder(model(2), torch.zeros(3, 2), (28, 28, 2))
