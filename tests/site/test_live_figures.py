"""The live figures of the built site, from file:// and with nothing but files: in headless Chromium
each is scrolled to, dragged, moved by keys and by touch, and what it then shows is compared.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from book.pages import read_notebook, texts_of
from served import NOTEBOOKS, ROOT, Files, accessible, look_of
from v8 import unpacked
from vae_core.latent import spherical_path, straight_path

ELEMENT = re.compile(r'<div class="live" data-figure="(\w+)"')
FRONT = "index.html"
PICTURES = ".cell_output > :has(+ .output > .live), .live + .live-picture"
KIB = 1024


def figures_of(source: str) -> list[str]:
    cells = read_notebook(ROOT / source).cells
    texts = [text for cell in cells if cell.cell_type == "code" for _, text in texts_of(cell)]
    return [figure for text in texts for figure in ELEMENT.findall(text)]


LIVE_PAGES = {
    FRONT: ["explorer"],
    **{re.sub(r"\.ipynb$", ".html", s): figures_of(s) for s in NOTEBOOKS if figures_of(s)},
}
FIGURES = [(page, k) for page, figures in LIVE_PAGES.items() for k in range(len(figures))]
NAMES = [f"{Path(page).stem}-{LIVE_PAGES[page][k]}-{k}" for page, k in FIGURES]


@pytest.fixture(scope="module")
def tab(browser, html) -> Iterator[Files]:
    visit = Files(browser, html)
    yield visit
    visit.context.close()


# What of the article has jumped up or down since its fonts were there: a font that comes late may
# break a line elsewhere, and moves words within their line.
JUMPS = """since => new Promise(done => {
  const jumped = [];
  const ours = ({ node, previousRect, currentRect }) => previousRect.y !== currentRect.y &&
    (node?.parentElement ?? node)?.closest("article");
  new PerformanceObserver(list => {
    for (const { startTime, sources } of list.getEntries().filter(e => e.startTime > since)) {
      for (const { node, previousRect, currentRect } of sources.filter(ours)) {
        const name = `${node.nodeName} ${node.className ?? ""} ${node.textContent.slice(0, 40)}`;
        jumped.push(`${name}: ${previousRect.y} to ${currentRect.y} at ${startTime} ms`);
      }
    }
  }).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done(jumped), 100);
})"""


def seen(tab: Files, what: str) -> list[bool]:
    """Which of some elements are shown."""
    ask = "what => [...document.querySelectorAll(what)].map(e => e.checkVisibility())"
    return tab.page.evaluate(ask, what)


ROOM = """box => {
  const inside = box.firstElementChild;
  const room = parseFloat(getComputedStyle(inside).minHeight);
  return [room, inside.getBoundingClientRect().height, box.clientWidth, inside.scrollWidth];
}"""


def scroll_through(tab: Files) -> None:
    page = tab.page
    height = page.evaluate("document.documentElement.scrollHeight")
    for top in range(0, height, 600):
        page.evaluate("top => scrollTo({ top, behavior: 'instant' })", top)
        page.wait_for_timeout(15)
    page.wait_for_function(
        "[...document.querySelectorAll('.live')].every(f => f.matches('.ready, .failed'))"
    )


# ---------------------------------------------------------------------------- reading only


@pytest.mark.parametrize("width", [1280, 768, 390, 360])
@pytest.mark.parametrize("page", LIVE_PAGES)
def test_scrolling_through_brings_every_figure_up_in_its_room(tab, page, width):
    """Without a jump, in its picture's place, and nothing moves unasked."""
    n = len(LIVE_PAGES[page])
    tab.page.set_viewport_size({"width": width, "height": 844})
    tab.page.emulate_media(reduced_motion="no-preference")
    tab.go(page)
    fonts = tab.page.evaluate("document.fonts.ready.then(() => performance.now())")
    scroll_through(tab)
    assert tab.page.locator(".live").count() == tab.page.locator(".live.ready").count() == n
    assert tab.page.evaluate(JUMPS, fonts) == []
    looks = [look_of(box) for box in tab.page.locator(".live").all()]
    for box in tab.page.locator(".live").all():
        room, needs, wide, inner = box.evaluate(ROOM)
        assert needs == pytest.approx(room, abs=0.1), f"needs {needs}, has {room}"
        assert inner <= wide
    assert seen(tab, PICTURES) == [False] * n
    assert tab.ask("no_page_scroll") == []
    assert looks == [look_of(box) for box in tab.page.locator(".live").all()]
    assert tab.complaints == []


@pytest.mark.parametrize("page", LIVE_PAGES)
def test_printed_and_without_scripts_it_is_the_picture(browser, html, tab, page):
    n = len(LIVE_PAGES[page])
    tab.go(page)
    tab.page.emulate_media(media="print")
    assert (seen(tab, ".live"), seen(tab, PICTURES)) == ([False] * n, [True] * n)
    tab.page.emulate_media(media="screen")
    plain = Files(browser, html, java_script_enabled=False)
    plain.go(page)
    assert (seen(plain, ".live"), seen(plain, PICTURES)) == ([False] * n, [True] * n)
    plain.context.close()


def test_where_the_data_are_missing_the_picture_stays(browser, html):
    visit = Files(browser, html)
    visit.context.route("**/live/data/*.js", lambda route: route.abort())
    visit.go(FRONT)
    visit.page.wait_for_selector(".live.failed", state="attached")
    assert (seen(visit, ".live"), seen(visit, PICTURES)) == ([False], [True])
    assert any("could not be loaded" in complaint for complaint in visit.complaints)
    visit.context.close()


@pytest.mark.parametrize("page", LIVE_PAGES)
def test_what_is_loaded_before_the_first_touch_is_small(tab, page):
    """Gzipped: all of the front page, and what the figures of any other page add to it."""
    tab.page.set_viewport_size({"width": 1280, "height": 844})
    tab.go(page)
    scroll_through(tab)
    files = set(tab.files)
    live = [path for path in files if "/_static/live/" in str(path)]
    assert len(live) > 3
    counted, limit = (files, 400) if page == FRONT else (live, 600)
    size = sum(len(gzip.compress(path.read_bytes())) for path in counted) / KIB
    assert size < limit, {path.name: len(gzip.compress(path.read_bytes())) for path in counted}


# ---------------------------------------------------------------------------- in use


@pytest.mark.parametrize(("page", "k"), FIGURES, ids=NAMES)
@pytest.mark.parametrize(("width", "mode"), [(1280, "dark"), (390, "light")])
def test_axe_finds_nothing_while_a_figure_is_in_use(tab, page, k, width, mode):
    tab.page.set_viewport_size({"width": width, "height": 844})
    tab.page.emulate_media(color_scheme=mode, reduced_motion="reduce")
    box = tab.figure(page, k)
    for control in box.locator("input").all():
        control.press("ArrowRight")
    for button in box.locator("button").all():
        button.click()
    box.locator(".draggable").first.click() if box.locator(".draggable").count() else None
    assert accessible(tab) == []
    assert tab.complaints == []


@pytest.mark.parametrize(("page", "k"), FIGURES, ids=NAMES)
def test_the_keyboard_alone_reaches_and_changes_everything(tab, page, k):
    tab.page.set_viewport_size({"width": 1280, "height": 844})
    box = tab.figure(page, k)
    inputs = box.locator("input")
    assert inputs.count() > 0
    for each in inputs.all():
        assert each.get_attribute("aria-label")
        each.focus()
        assert each.evaluate("e => e === document.activeElement && e.matches(':focus-visible')")
        said, looked = each.get_attribute("aria-valuetext"), look_of(box)
        at_end = each.evaluate("e => Number(e.value) >= Number(e.max)")
        for _ in range(3):
            each.press("ArrowLeft" if at_end else "ArrowRight")
        assert said and each.get_attribute("aria-valuetext") != said
        assert look_of(box) != looked, f"{each.get_attribute('aria-label')} changes nothing"
    for button in box.locator("button").all():
        button.focus()
        assert button.evaluate("e => e === document.activeElement")


SWEEP = """box => {
  const inside = box.firstElementChild, heights = new Set();
  let widest = 0;
  for (let round = 0; round < 3; round++) {
    for (const input of box.querySelectorAll("input")) {
      for (let i = 0; i < 13; i++) {
        const share = (5 * i + 3 * round) % 13 / 12;
        input.value = Number(input.min) + (input.max - input.min) * share;
        input.dispatchEvent(new Event("input"));
        heights.add(Math.round(inside.getBoundingClientRect().height));
        widest = Math.max(widest, inside.scrollWidth);
      }
    }
  }
  return [heights.size, widest - box.clientWidth];
}"""


@pytest.mark.parametrize(("page", "k"), FIGURES, ids=NAMES)
def test_no_state_needs_more_room_than_another(tab, page, k):
    for width in (1280, 390, 360):
        tab.page.set_viewport_size({"width": width, "height": 844})
        heights, over = tab.figure(page, k).evaluate(SWEEP)
        assert heights == 1 and over <= 0
    assert tab.complaints == []


# ---------------------------------------------------------------------------- what PyTorch says


def data_of(name: str) -> dict:
    text = (ROOT / f"book/live/{name}.js").read_text(encoding="utf-8")
    return json.loads(text.partition(" = ")[2].removesuffix(";\n"))


def shipped_image(data: dict, code: list[float]) -> np.ndarray:
    """What PyTorch draws with the weights that the page has, as ink."""
    values = torch.tensor(code, dtype=torch.float64)
    for layer in data["decoder"]["layers"]:
        bias = torch.tensor(unpacked(layer["bias"]).copy())
        whole = torch.tensor(unpacked(layer["weight"], "i1").copy()).reshape(len(bias), -1)
        scale = torch.tensor(unpacked(layer["scale"]).copy())
        values = whole.double() @ values * scale + bias
        if layer["activation"] != "identity":
            values = getattr(torch, layer["activation"])(values)
    return values.clamp(0, 1).numpy()


INK = """canvas => {
  const { width, height } = canvas;
  const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  return Array.from({ length: width * height }, (_, p) => 1 - pixels[4 * p] / 255);
}"""


def ink(locator) -> np.ndarray:
    return np.array(locator.evaluate(INK))


PLANES = {
    FRONT: "plane_of_the_vae",
    "book/01_autoencoder.html": "plane_of_the_autoencoder",
    "book/06_manifold.html": "plane_of_the_vae",
}


def code_at(data: dict, share: tuple[float, float]) -> list[float]:
    """The code at a place of the plane, in shares of its width from the left and of its height
    from the top."""
    low, high = np.array(data["plane"]["low"]), np.array(data["plane"]["high"])
    return (low + (high - low) * np.array([share[0], 1 - share[1]])).tolist()


def agrees(box, data: dict, share: tuple[float, float]) -> None:
    """The big image is PyTorch's at that place, as far as a pointer can tell places apart."""
    drawn = ink(box.locator(".drawn canvas"))
    said = [float(each.input_value()) for each in box.locator(".sliders input").all()]
    assert said == pytest.approx(code_at(data, share), abs=0.05)
    assert np.abs(drawn - shipped_image(data, said)).max() < 1 / 255


@pytest.mark.parametrize("page", PLANES)
@pytest.mark.parametrize("width", [1280, 390])
def test_a_drag_draws_what_pytorch_draws(tab, page, width):
    data = data_of(PLANES[page])
    tab.page.set_viewport_size({"width": width, "height": 844})
    box = tab.figure(page, 0)
    agrees(box, data, share_of(data, data["start"]))
    plane = box.locator(".plane").bounding_box()
    mouse = tab.page.mouse
    ways = [(0.5, 0.5), (0.2, 0.7), (0.85, 0.3)]
    mouse.move(plane["x"] + 0.5 * plane["width"], plane["y"] + 0.5 * plane["height"])
    mouse.down()
    for share in ways:
        mouse.move(plane["x"] + share[0] * plane["width"], plane["y"] + share[1] * plane["height"])
        agrees(box, data, share)
    mouse.move(plane["x"] + 9 * plane["width"], plane["y"] - 9 * plane["height"])
    agrees(box, data, (1, 0))  # it stops at the border
    mouse.up()
    mouse.move(plane["x"] + 0.5 * plane["width"], plane["y"] + 0.5 * plane["height"])
    agrees(box, data, (1, 0))  # let go
    assert tab.complaints == []


def share_of(data: dict, code: list[float]) -> tuple[float, float]:
    low, high = np.array(data["plane"]["low"]), np.array(data["plane"]["high"])
    across, up = (np.array(code) - low) / (high - low)
    return across, 1 - up


def test_the_strip_shows_the_way_straight_or_spherical(tab):
    page = "book/06_manifold.html"
    data = data_of(PLANES[page])
    box = tab.figure(page, 0)
    start, pinned = (torch.tensor(data[end], dtype=torch.float64) for end in ("start", "pinned"))
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    cells = box.locator(".sheet canvas").all()
    for name, path in (("straight", straight_path), ("spherical", spherical_path)):
        box.get_by_role("button", name=name).click()
        for cell, code in zip(cells, path(pinned, start, t), strict=True):
            assert np.abs(ink(cell) - shipped_image(data, code.tolist())).max() < 1 / 255
    box.get_by_role("button", name="Pin this code").click()
    for cell in cells:
        assert np.abs(ink(cell) - shipped_image(data, data["start"])).max() < 1 / 255


def test_playing_goes_from_the_pinned_code_to_the_dragged_one_and_stops(tab):
    page = "book/06_manifold.html"
    data = data_of(PLANES[page])
    box = tab.figure(page, 0)
    box.get_by_role("button", name="Play the way").click()
    big = box.locator(".drawn canvas")
    assert np.abs(ink(big) - shipped_image(data, data["pinned"])).max() < 1 / 255
    box.get_by_role("button", name="Stop").wait_for()
    box.get_by_role("button", name="Play the way").wait_for(timeout=10_000)
    assert np.abs(ink(big) - shipped_image(data, data["start"])).max() < 1 / 255
    box.get_by_role("button", name="Play the way").click()
    box.get_by_role("button", name="Stop").click()  # half-way: back to where the words are
    assert np.abs(ink(big) - shipped_image(data, data["start"])).max() < 1 / 255


def test_keys_move_a_code_and_say_where_it_is(tab):
    page = "book/01_autoencoder.html"
    data = data_of(PLANES[page])
    box = tab.figure(page, 0)
    across, up = box.locator(".sliders input").all()
    across.focus()
    before = float(across.input_value())
    for _ in range(5):
        tab.page.keyboard.press("ArrowRight")
    moved = float(across.input_value())
    assert moved > before
    drawn = ink(box.locator(".drawn canvas"))
    assert np.abs(drawn - shipped_image(data, [moved, data["start"][1]])).max() < 1 / 255
    said = across.get_attribute("aria-valuetext")
    assert re.fullmatch(
        r"−?\d+\.\d\d, (among \ds|where .* meet|near a lone code|far from the code of any image)",
        said,
    )
    up.press("End")
    across.press("End")  # a corner of the plane
    assert "far from" in across.get_attribute("aria-valuetext")


def test_each_slider_of_a_wide_model_moves_its_unit(tab):
    page, data = "book/06_manifold.html", data_of("units_of_the_vae")
    box = tab.figure(page, 1)
    code = list(data["start"])
    sliders = box.locator(".sliders input").all()
    assert len(sliders) == len(data["units"]) > 3
    for slider, unit in zip(sliders, data["units"], strict=True):
        slider.press("Home")
        code[unit["unit"]] = unit["low"]
        drawn = ink(box.locator(".drawn canvas"))
        assert np.abs(drawn - shipped_image(data, code)).max() < 1 / 255


@pytest.mark.parametrize("width", [1280, 390])
def test_a_digit_is_picked_and_all_are_drawn_with_its_code(tab, width):
    data = data_of("digit_and_style")
    tab.page.set_viewport_size({"width": width, "height": 844})
    box = tab.figure("book/12_conditions.html", 0)
    dots = look_of(box)
    across, _ = box.locator(".sliders input").all()
    for digit in (data["digit"], 3, 0):
        button = box.get_by_role("button", name=str(digit), exact=True)
        button.press("Enter")
        assert button.get_attribute("aria-pressed") == "true"
        code = [float(each.input_value()) for each in box.locator(".sliders input").all()]
        for y, cell in enumerate(box.locator(".sheet canvas").all()):
            wanted = shipped_image(data, code + [float(k == y) for k in range(10)])
            assert np.abs(ink(cell) - wanted).max() < 1 / 255
            if y == digit:
                assert np.abs(ink(box.locator(".drawn canvas")) - wanted).max() < 1 / 255
        assert f"drawn as a {digit}" in box.locator(".note").inner_text()
        assert across.get_attribute("aria-valuetext").endswith(f"drawn as a {digit}")
        across.press("ArrowRight")
    assert look_of(box) != dots and tab.complaints == []


def test_a_finger_drags(browser, html):
    phone = Files(browser, html, has_touch=True, viewport={"width": 390, "height": 844})
    data = data_of(PLANES[FRONT])
    box = phone.figure(FRONT, 0)
    plane = box.locator(".plane").bounding_box()
    touch = phone.context.new_cdp_session(phone.page)
    for kind, share in (("Start", (0.4, 0.4)), ("Move", (0.7, 0.6))):
        point = {"x": plane["x"] + share[0] * plane["width"],
                 "y": plane["y"] + share[1] * plane["height"]}  # fmt: skip
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": [point]})
        agrees(box, data, share)
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert phone.complaints == []
    phone.context.close()


# ---------------------------------------------------------------------------- the other figures


def place_of(figure: str) -> tuple[str, int]:
    """The page with a figure, and which of its live figures that is."""
    page = next(page for page, figures in LIVE_PAGES.items() if figure in figures)
    return page, LIVE_PAGES[page].index(figure)


def number(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


def test_the_kl_of_the_cloud_that_the_sliders_say(tab):
    box = tab.figure(*place_of("kl"))
    place, width = box.locator("input").all()
    for key, times in (("ArrowRight", 30), ("ArrowLeft", 90)):
        for each in (place, width):
            for _ in range(times):
                each.press(key)
        q = Normal(float(place.input_value()), math.exp(float(width.input_value())))
        kl = kl_divergence(q, Normal(0.0, 1.0)).item()
        assert number(box.locator(".cost.kl .sum").inner_text().split()[-2]) == pytest.approx(
            kl, abs=0.006
        )
        said = number(re.search(r"KL (\S+) nats", place.get_attribute("aria-valuetext"))[1])
        assert said == pytest.approx(kl, abs=0.006)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_cloud_of_the_kl_playground_is_dragged(tab, width):
    tab.page.set_viewport_size({"width": width, "height": 844})
    box = tab.figure(*place_of("kl"))
    place, spread = box.locator("input").all()
    before = float(place.input_value()), float(spread.input_value())
    for handle, moved in ((".handle.middle", place), (".handle.shoulder", spread)):
        dot = box.locator(handle).first.bounding_box()
        x, y = dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2
        tab.page.mouse.move(x, y)
        tab.page.mouse.down()
        tab.page.mouse.move(x - 40, y)
        tab.page.mouse.up()
        assert float(moved.input_value()) != pytest.approx(before[moved is spread], abs=0.05)
    assert float(place.input_value()) < before[0] and float(spread.input_value()) > before[1]


@pytest.mark.parametrize("name", ["clouds_that_die", "clouds_that_live"])
def test_the_scrubber_shows_the_clouds_and_drawings_of_its_step(tab, name):
    data = data_of(name)
    page = next(p for p in LIVE_PAGES if p != FRONT and name in (tab.html / p).read_text("utf-8"))
    box = tab.figure(page, LIVE_PAGES[page].index("scrubber"))
    (scrub,) = box.locator("input").all()
    last = len(data["steps"]) - 1
    for look, keys in ((last, ["End"]), (0, ["Home"]), (2, ["ArrowRight", "ArrowRight"])):
        for key in keys:
            scrub.press(key)
        said = scrub.get_attribute("aria-valuetext")
        assert said.startswith(f"step {data['steps'][look]:,} of {data['steps'][-1]:,}: ")
        for network, shown in zip(data["networks"], box.locator(".network").all(), strict=True):
            clouds = unpacked(network["clouds"], "<i2").reshape(last + 1, -1, 4)[look]
            clouds = clouds * np.array(data["unit"])
            ellipses = shown.locator("ellipse").evaluate_all(
                "all => all.map(e => ['cx', 'cy', 'rx', 'ry'].map(a => Number(e.getAttribute(a))))"
            )
            assert np.allclose(np.array(ellipses) * [1, -1, 1, 1], clouds, atol=1e-4)
            first = ink(shown.locator(".sheet canvas").first)
            digits = network["drawn"][look * 12 * 784 : look * 12 * 784 + 784]
            assert np.abs(first - np.array([int(d, 16) / 15 for d in digits])).max() < 1 / 255


def test_the_weight_slider_shows_trained_models_and_nothing_between(tab):
    data = data_of("weight_of_the_kl")
    box = tab.figure(*place_of("weight"))
    (knob,) = box.locator("input").all()
    knob.press("Home")
    for k, rung in enumerate(data["rungs"]):
        assert knob.get_attribute("aria-valuetext").startswith(f"w = {rung['weight']:g}, ")
        shown = [ink(cell) for cell in box.locator(".sheet canvas").all()]
        packed = rung["copies"] + rung["drawn"]
        wanted = np.array([int(d, 16) / 15 for d in packed]).reshape(-1, 784)
        assert np.abs(np.array(shown) - wanted).max() < 1 / 255
        if k < len(data["rungs"]) - 1:
            knob.press("ArrowRight")


def test_the_band_of_the_weight_slider_holds_the_stored_model():
    data = data_of("weight_of_the_kl")
    stored = json.loads((ROOT / "src/vae_book/results/ladder_seeds.json").read_text("utf-8"))
    assert {key.split(":")[0] for key in stored} == {"mnist"}
    assert len(stored) == 4 * sum(rung["weight"] > 0 for rung in data["rungs"])
    assert len(data["seeds"]) == sum(rung["weight"] > 0 for rung in data["rungs"])


def test_the_flow_slider_shows_what_the_points_decode_to_at_its_time(tab):
    data = data_of("noise_to_codes")
    box = tab.figure(*place_of("flow"))
    (knob,) = box.locator("input").all()
    packed = np.array([int(d, 16) / 15 for d in data["images"]])
    packed = packed.reshape(data["times"], data["drawings"], -1)
    last = data["times"] - 1
    for key, look, words in (("End", last, "digits"), ("Home", 0, "noise"),
                             ("ArrowRight", 1, "way")):  # fmt: skip
        knob.press(key)
        shown = np.array([ink(cell) for cell in box.locator(".sheet canvas").all()])
        assert np.abs(shown - packed[look]).max() < 1 / 255
        assert words in knob.get_attribute("aria-valuetext")
        assert f"t = {look / last:.2f}" in box.locator(".note").inner_text()


def test_elbo_and_gap_make_the_same_sum_wherever_the_cloud_is(tab):
    box = tab.figure(*place_of("bound"))
    note = box.locator(".note")

    def parts() -> list[float]:
        text = re.search(r"gap: (\S+) = (\S+) \+ (\S+) nats", note.inner_text())
        return [number(part) for part in text.groups()]

    evidence, first, gap = parts()
    assert evidence == pytest.approx(first + gap, abs=0.011) and gap > 3
    steps, *numbers = box.locator("input").all()
    steps.press("End")
    same, refined, left = parts()
    assert same == evidence and refined == pytest.approx(evidence - left, abs=0.011)
    assert left < 0.2 * gap
    for each in numbers:
        for _ in range(5):
            each.press("ArrowRight")
        same, elbo, gap = parts()
        assert same == evidence and elbo < refined
        assert evidence == pytest.approx(elbo + gap, abs=0.011)
    plane = box.locator(".plane").bounding_box()
    tab.page.mouse.click(plane["x"] + 0.9 * plane["width"], plane["y"] + 0.9 * plane["height"])
    same, elbo, gap = parts()
    assert same == evidence and evidence == pytest.approx(elbo + gap, abs=0.011)
    box.get_by_role("button", name="Encoder's cloud").click()
    assert parts() == pytest.approx([evidence, first, evidence - first], abs=0.011)
    tab.page.mouse.click(plane["x"] + 0.9 * plane["width"], plane["y"] + 0.9 * plane["height"])
    steps.press("Home")  # it is there already, and takes the cloud back all the same
    assert parts() == pytest.approx([evidence, first, evidence - first], abs=0.011)


def test_with_reduced_motion_playing_is_a_few_pictures(browser, html):
    """Eight steps instead of a film; and without it, many."""
    looks = {}
    for motion in ("reduce", "no-preference"):
        visit = Files(browser, html, reduced_motion=motion)
        box = visit.figure("book/06_manifold.html", 0)
        visit.page.evaluate("""() => {
          window.seen = 0;
          const walker = document.querySelector('.walker');
          new MutationObserver(() => window.seen++).observe(walker, { attributeFilter: ['style'] });
        }""")
        box.get_by_role("button", name="Play the way").click()
        box.get_by_role("button", name="Play the way").wait_for(timeout=20_000)
        looks[motion] = visit.page.evaluate("window.seen")
        visit.context.close()
    assert looks["reduce"] <= 9 < 40 < looks["no-preference"]
