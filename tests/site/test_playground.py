"""The VAE playground on its page and alone: it trains, its settings act, and one can draw into it
with mouse, finger and keys.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from served import Files, accessible, look_of

PAGE = "book/pages/playground.html"
ALONE = "_static/playground.html"


@pytest.fixture
def tab(browser, html) -> Iterator[Files]:
    visit = Files(browser, html)
    visit.page.set_viewport_size({"width": 1280, "height": 900})
    yield visit
    assert visit.complaints == []
    visit.context.close()


def caption(box, panel: str) -> str:
    return box.locator(f".of-{panel} .caption").inner_text()


def steps(box) -> int:
    return int(re.search(r"([\d,]+) steps", caption(box, "curves"))[1].replace(",", ""))


def press(box, name: str) -> None:
    box.get_by_role("button", name=name, exact=True).click()


def at_rest(box) -> None:
    box.get_by_role("button", name="▶ Train").wait_for(timeout=90_000)


def points(box) -> int:
    return int(box.locator(".of-data .plane").get_attribute("aria-label").split()[0])


def test_it_starts_at_rest_on_a_trained_model(tab):
    box = tab.figure(PAGE, 0)
    chosen = box.locator(".presets button[aria-pressed=true]")
    assert chosen.all_inner_texts() == ["The KL keeps it"]
    assert steps(box) == 2000 and "clouds stay open" in box.locator(".note").inner_text()
    missing = int(re.search(r"(\d+) % miss", caption(box, "model"))[1])
    assert missing < 30
    assert "#" not in tab.page.url  # and the page's address is as it was
    assert urlsplit(box.locator("a.alone").get_attribute("href")).path.endswith(ALONE)


def test_an_experiment_trains_to_its_end_and_links_to_its_chapter(tab):
    box = tab.figure(PAGE, 0)
    press(box, "Posterior collapse")
    box.get_by_role("button", name="■ Pause").wait_for()
    at_rest(box)
    assert steps(box) == 2000
    assert box.locator(".units span").all_inner_texts().count("0.00 nats, silent") == 2
    assert "weight=100" in tab.page.url
    words = box.locator(".note")
    assert "every cloud becomes the prior" in words.inner_text()
    chapter = urlsplit(words.locator("a").evaluate("a => a.href")).path
    assert chapter == urlsplit((tab.html / "book/08_codes.html").as_uri()).path
    for key in ("Plain autoencoder", "Noise that dies", "Loose bound", "Decoder too strong"):
        press(box, key)
        path = urlsplit(words.locator("a").evaluate("a => a.href")).path
        assert (tab.html / "book" / path.rsplit("/", 1)[1]).exists()
        press(box, "■ Pause")


def test_step_restart_and_seed(tab):
    box = tab.figure(PAGE, 0)
    press(box, "Step")
    assert steps(box) == 2001
    press(box, "Restart")
    assert steps(box) == 0
    before = look_of(box)
    press(box, "Step")
    first = look_of(box)
    assert steps(box) == 1 and first != before
    press(box, "Restart")
    press(box, "Step")
    assert look_of(box) == first  # seeded
    press(box, "New seed")
    assert steps(box) == 0 and caption(box, "curves").endswith("seed 2")
    press(box, "Step")
    assert look_of(box) != first and "seed=2" in tab.page.url


def test_a_setting_acts_while_it_trains(tab):
    """Of the same start, one step with another weight, rate or noise is another one."""
    box = tab.figure(PAGE, 0)
    looks = set()
    for name, value in (("weight of the KL", "1"), ("weight of the KL", "100"), ("σₓ", "1"),
                        ("noise", "off"), ("learning rate", "0.02")):  # fmt: skip
        press(box, "Restart")
        press(box, "Step")
        box.get_by_label(name, exact=True).select_option(value)
        assert steps(box) == 1  # it goes on from where it was
        press(box, "Step")
        looks.add(look_of(box))
    assert len(looks) == 5
    assert box.locator(".presets button[aria-pressed=true]").count() == 0
    for name, value in (("data", "ring"), ("latent units", "1"), ("network width", "8"),
                        ("decoder sees", "x")):  # fmt: skip
        press(box, "Step")
        box.get_by_label(name, exact=True).select_option(value)
        assert steps(box) == 0  # another model, or other data


def test_a_link_opens_what_it_says(tab):
    wanted = {"data": "moons", "latent": "1", "width": "8", "weight": "0.05", "sigma": "learned",
              "noise": "on", "decoder": "x", "rate": "0.01", "seed": "7"}  # fmt: skip
    link = "#" + "&".join(f"{key}={value}" for key, value in wanted.items())
    box = tab.figure(PAGE + link, 0)
    chosen = [each.input_value() for each in box.locator("select").all()]
    assert chosen == list(wanted.values())[:-1]
    assert caption(box, "curves").endswith("seed 7") and steps(box) == 0
    press(box, "Copy link")
    assert tab.page.url.endswith(link)
    tab.page.locator("a", has_text="A ring, and one unit of code.").click()  # on the same page
    assert [each.input_value() for each in box.locator("select").all()][:2] == ["ring", "1"]
    bad = tab.figure(PAGE + "#data=moons&width=99", 0)
    assert "width: expected 8, 16, 32, got 99" in bad.locator(".note").inner_text()


def test_a_link_on_the_page_shows_the_figure_and_keeps_the_reader_s_points(tab):
    box = tab.figure(PAGE, 0)
    box.get_by_label("data", exact=True).select_option("own")
    plane = box.locator(".of-data .plane")
    plane.press("Enter")
    tab.page.locator("a", has_text="The same, with σₓ learned.").click()
    top = box.evaluate("e => e.getBoundingClientRect().top")
    assert -50 < top < 300
    assert "sigma=learned" in box.locator("a.alone").get_attribute("href")
    box.get_by_label("data", exact=True).select_option("own")
    assert points(box) == 5


def test_an_experiment_is_named_only_if_it_was_one_from_the_start(tab):
    box = tab.figure(PAGE, 0)
    weight = box.get_by_label("weight of the KL", exact=True)
    weight.select_option("100")
    pressed = box.locator(".presets button[aria-pressed=true]")
    assert pressed.count() == 0 and "Your own settings" in box.locator(".note").inner_text()
    press(box, "Restart")
    assert pressed.all_inner_texts() == ["Posterior collapse"]
    texts = weight.locator("option").all_inner_texts()
    assert texts == ["0", "0.05", "0.2", "0.5", "1", "2", "5", "20", "100"]


def test_what_was_seen_goes_with_the_points(tab):
    box = tab.figure(PAGE + "#data=own", 0)
    for panel in (".curves", ".units"):
        assert not any(e.is_visible() for e in box.locator(f"{panel} *").all())


def test_a_link_to_an_experiment_says_which(tab):
    box = tab.figure(PAGE + "#data=ring&sigma=0.1", 0)
    chosen = box.locator(".presets button[aria-pressed=true]")
    assert chosen.all_inner_texts() == ["Loose bound"]


def test_where_codes_lie_beyond_the_grid_nothing_is_said_of_p_of_x(tab):
    box = tab.figure(PAGE, 0)
    curves = box.locator(".curves")
    assert "−log p(x)" in curves.get_attribute("aria-label")
    press(box, "Noise that dies")
    at_rest(box)
    assert caption(box, "codes").endswith("median σ 0.003")
    assert "−ELBO" in curves.get_attribute("aria-label")
    assert "−log p(x)" not in curves.get_attribute("aria-label")


def test_without_noise_the_kl_has_no_weight(tab):
    box = tab.figure(PAGE, 0)
    weight = box.get_by_label("weight of the KL")
    assert weight.is_enabled()
    box.get_by_label("noise").select_option("off")
    assert weight.is_disabled() and "σ" not in caption(box, "codes")
    box.get_by_label("noise").select_option("on")
    assert weight.is_enabled()


@pytest.mark.parametrize("size", [(390, 844), (1280, 600)])
def test_an_experiment_brings_its_pictures_into_sight(tab, size):
    tab.page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    tab.page.emulate_media(reduced_motion="reduce")
    box = tab.figure(PAGE, 0)
    button = box.get_by_role("button", name="Hole in the prior", exact=True)
    button.evaluate("button => button.scrollIntoView({ block: 'end' })")
    button.click()
    panels = box.locator(".panels").bounding_box()
    assert panels["y"] >= 0 and panels["y"] + panels["height"] <= size[1] + 1


@pytest.mark.parametrize("width", [1280, 768, 360])
def test_no_experiment_moves_what_stands_below_the_figure(tab, width):
    tab.page.set_viewport_size({"width": width, "height": 900})
    box = tab.figure(PAGE, 0)
    heights = {}
    for button in box.locator(".presets button").all():
        button.click()
        title = button.inner_text()
        assert box.locator(".note strong").inner_text().strip() == f"{title}."
        heights[title] = box.bounding_box()["height"]
    assert len(heights) == 7 and len(set(heights.values())) == 1, heights


def test_points_drawn_with_the_mouse_are_learned_and_travel_in_the_link(tab):
    box = tab.figure(PAGE, 0)
    box.get_by_label("data", exact=True).select_option("own")
    assert points(box) == 0
    press(box, "▶ Train")
    assert "at least ten points" in box.locator(".note").inner_text() and steps(box) == 0
    plane = box.locator(".of-data .plane").bounding_box()
    mouse = tab.page.mouse
    mouse.move(plane["x"] + 40, plane["y"] + 40)
    mouse.down()
    mouse.move(plane["x"] + 160, plane["y"] + 120, steps=12)
    mouse.up()
    drawn = points(box)
    assert drawn > 30
    press(box, "▶ Train")
    press(box, "■ Pause")
    assert steps(box) > 0 and "points=" in tab.page.url
    again = tab.figure(PAGE + "#" + urlsplit(tab.page.url).fragment, 0)
    assert points(again) == drawn
    press(again, "Clear points")
    assert points(again) == 0


def test_points_drawn_with_keys(tab):
    box = tab.figure(PAGE + "#data=own", 0)
    plane = box.locator(".of-data .plane")
    plane.focus()
    for key in ("Enter", "ArrowRight", "ArrowRight", "Enter", "ArrowUp", "Enter"):
        plane.press(key)
    note = box.locator(".note").inner_text()
    assert note == "15 points; the pen is at (0.4, 0.2). Draw more, or train."
    press(box, "▶ Train")
    for key in ("ArrowUp", "Enter", "ArrowUp", "Enter"):  # while it trains
        plane.press(key)
    press(box, "■ Pause")
    assert points(box) == 25 and "−log p(x)" in box.locator(".curves").inner_text()
    press(box, "Clear points")
    for key in ("Enter", "Enter", "Enter"):
        plane.press(key)
    assert accessible(tab) == []
    assert points(box) == 15


def test_points_drawn_with_a_finger(browser, html):
    phone = Files(browser, html, has_touch=True, viewport={"width": 390, "height": 844})
    box = phone.figure(PAGE + "#data=own", 0)
    plane = box.locator(".of-data .plane")
    plane.scroll_into_view_if_needed()
    place = plane.bounding_box()
    touch = phone.context.new_cdp_session(phone.page)
    for kind, share in (("Start", 0.3), ("Move", 0.5), ("Move", 0.7)):
        point = {"x": place["x"] + share * place["width"],
                 "y": place["y"] + share * place["height"]}  # fmt: skip
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert points(box) >= 10 and phone.complaints == []
    phone.context.close()


def test_a_click_watches_the_nearest_point(tab):
    box = tab.figure(PAGE, 0)
    slider = box.locator("input[type=range]")
    before = look_of(box)
    plane = box.locator(".of-data .plane").bounding_box()
    share = (1.43 + 2.6) / 5.2, (2.6 - 0.46) / 5.2  # the middle of the blob on the right
    across, down = share[0] * plane["width"], share[1] * plane["height"]
    tab.page.mouse.click(plane["x"] + across, plane["y"] + down)
    said = slider.get_attribute("aria-valuetext")
    x, y = map(float, re.search(r"at (\S+), (\S+)$", said).groups())
    assert abs(x - 1.43) < 0.1 and abs(y - 0.46) < 0.1
    assert look_of(box) != before


def test_with_reduced_motion_it_shows_few_pictures(browser, html):
    looks = {}
    for motion in ("reduce", "no-preference"):
        visit = Files(browser, html, reduced_motion=motion)
        box = visit.figure(PAGE, 0)
        visit.page.evaluate("""() => {
          window.seen = 0;
          new MutationObserver(() => window.seen++)
            .observe(document.querySelector(".of-curves .caption"), { childList: true });
        }""")
        press(box, "Noise that dies")
        at_rest(box)
        looks[motion] = visit.page.evaluate("window.seen")
        visit.context.close()
    assert looks["reduce"] < 40 and looks["no-preference"] > 3 * looks["reduce"]


@pytest.mark.parametrize(("width", "mode"), [(1600, "light"), (1280, "dark"), (390, "light")])
def test_alone_it_is_all_there_is(tab, width, mode):
    tab.page.set_viewport_size({"width": width, "height": 800})
    tab.page.emulate_media(color_scheme=mode, reduced_motion="reduce")
    box = tab.figure(ALONE, 0)
    assert tab.page.evaluate("document.documentElement.dataset.theme") == mode
    height = tab.page.evaluate("document.documentElement.scrollHeight")
    assert width == 390 or height <= 800  # all of it fits on a projector
    press(box, "Step")
    assert accessible(tab) == []
    path = urlsplit(box.locator(".note a").evaluate("a => a.href")).path
    assert path == urlsplit((tab.html / "book/03_kl_term.html").as_uri()).path
    assert tab.ask("no_page_scroll") == []


def test_alone_it_is_small(tab):
    tab.figure(ALONE, 0)
    sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in set(tab.files)}
    assert {"vae.js", "playground.js", "vae_playground.js"} <= set(sizes)
    assert sum(sizes.values()) < 150_000, sizes
