"""The pages of the built site, looked at in headless Chromium.

A check is a function from a page to a list of problems; what it asks the browser is a script in
``checks/``. It is run on every page, and, at the end of this file, on a page with a defect planted
in it, which it has to find. ``VAE_BOOK_SITE=/some/html`` tests a site that was built elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from served import CONFIG, NOTEBOOKS, PAGES, ROOT, Visit, accessible

FIRST = re.sub(r"\.ipynb$", ".html", NOTEBOOKS[0])
SHORT = "book/pages/run_times.html"
WIDTHS, MODES = (1280, 390), ("light", "dark")
Check = Callable[[Visit], list[str]]


def quiet(visit: Visit) -> list[str]:
    """No request to another host, none that failed, no error in the console."""
    return list(visit.complaints)


RAW = re.compile(
    r"\$\$|\\begin\{|\\end\{|\\tag\b|\\[a-zA-Z]{3,}\b|(?<![\w$\\])\$[^\s$][^$\n]*\$(?!\w)"
)


def no_raw_mathematics(visit: Visit) -> list[str]:
    text = visit.ask("no_raw_mathematics")
    return [f"raw mathematics: {found[0]!r}" for found in RAW.finditer(text)]


def no_red_mathematics(visit: Visit) -> list[str]:
    found = visit.ask("no_red_mathematics")
    return [f"red mathematics: {e!r}" for e in found["red"]] + [
        f"mathematics not set: {e!r}" for e in found["unset"]
    ]


def no_clipped_equation(visit: Visit) -> list[str]:
    """The left end shows unscrolled, the right end and the number after scrolling, all apart."""
    return visit.ask("no_clipped_equation")


def no_equation_to_scroll(visit: Visit) -> list[str]:
    """From 390 px on, each displayed equation shows whole, with its number, where it stands."""
    return visit.ask("no_equation_to_scroll")


def no_page_scroll(visit: Visit) -> list[str]:
    """The page as a whole does not scroll sideways, and nothing is cut off so that it doesn't."""
    return visit.ask("no_page_scroll")


def images_have_words(visit: Visit) -> list[str]:
    """Every picture is there and has an alternative text that is text."""
    images = visit.ask("images_have_words")
    problems = []
    for image in images:
        alt = (image["alt"] or "").strip()
        name = image["src"][-60:]
        if not image["there"]:
            problems.append(f"image not there: {name}")
        if len(alt) <= 20 or " " not in alt:
            problems.append(f"alternative text is no sentence: {alt!r} ({name})")
        if re.search(
            r"\.(png|svg|jpe?g|gif|webp)\b|[0-9a-f]{20,}|<Figure|_build/|_images/", alt, re.I
        ):
            problems.append(f"alternative text is a file name: {alt!r}")
    return problems


def images_keep_their_shape(visit: Visit) -> list[str]:
    """No picture is stretched: digits on a phone are as tall as they are on paper."""
    return visit.ask("images_keep_their_shape")


def figures_fit_the_mode(visit: Visit) -> list[str]:
    """Figures drawn on white are turned over in the dark, and only there."""
    found = visit.ask("figures_fit_the_mode")
    problems = []
    for src, keep, css_filter, theme in found:
        if ("invert(0.9)" in css_filter) != (theme == "dark" and not keep):
            problems.append(f"{src}: filter {css_filter} in {theme} mode")
    return problems


def colours_follow_the_mode(visit: Visit) -> list[str]:
    dark = visit.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    theme = visit.page.evaluate("document.documentElement.dataset.theme")
    return [] if theme == ("dark" if dark else "light") else [f"{theme} theme where dark is {dark}"]


def notebook_links(visit: Visit) -> list[str]:
    """The Colab link names this notebook in this repository; the download is the stored file."""
    page = urlsplit(visit.page.url).path.lstrip("/")
    source = next((s for s in NOTEBOOKS if re.sub(r"\.ipynb$", ".html", s) == page), None)
    links = visit.page.evaluate(
        "() => [...document.querySelectorAll('header a, main a')].map(a => a.href)"
    )
    colab = [link for link in links if "colab.research" in link]
    downloads = visit.page.evaluate(
        "() => [...document.querySelectorAll('a[download]')].map(a => a.href)"
    )
    if source is None:
        strays = [f"not a notebook, but there is a link to {link}" for link in downloads]
        return strays + [f"Colab opens no such file: {link}" for link in colab if not known(link)]
    problems = [] if colab_address(source) in colab else [f"Colab link: {colab}"]
    problems += [f"Colab opens no such file: {link}" for link in colab if not known(link)]
    wanted = visit.address + "_sources/" + source
    if downloads != [wanted]:
        return [*problems, f"download link: {downloads}, expected {wanted}"]
    sent = visit.context.request.get(wanted)
    if sent.status != 200 or sent.body() != (ROOT / source).read_bytes():
        problems.append(f"the download is not {source}")
    return problems


def colab_address(source: str) -> str:
    repository = urlsplit(CONFIG["repository"]["url"]).path.strip("/")
    launch = CONFIG["launch_buttons"]["colab_url"]
    return f"{launch}/github/{repository}/blob/{CONFIG['repository']['branch']}/{source}"


def known(colab: str) -> bool:
    return any(colab == colab_address(source) for source in NOTEBOOKS)


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        no_raw_mathematics,
        no_red_mathematics,
        no_clipped_equation,
        no_equation_to_scroll,
        no_page_scroll,
        images_have_words,
        images_keep_their_shape,
        figures_fit_the_mode,
        colours_follow_the_mode,
        notebook_links,
        accessible,
        quiet,  # last: it also hears what the others made the page do
    )
}
# What a page says, and where its links lead, is the same at every width and in every mode.
ONCE = (no_raw_mathematics, no_red_mathematics, images_have_words, notebook_links, quiet)
# How a page is laid out is the same in both modes. Accessibility, the slowest check, by far, gets
# each width and each mode once.
LAYOUT = (no_clipped_equation, no_equation_to_scroll, no_page_scroll, images_keep_their_shape)
EACH_WIDTH = {(1280, "dark"), (390, "light")}


@pytest.mark.parametrize("page", PAGES)
def test_page(tab, page: str):
    """Opened once, in one mode or the other, then shown at each width in each mode."""
    views = [(1280, "dark"), (390, "dark"), (390, "light"), (1280, "light")]
    if PAGES.index(page) % 2:
        views.reverse()
    tab.show(*views[0])
    tab.open(page)
    problems = {}
    for view in views:
        tab.show(*view)
        for name, check in CHECKS.items():
            if check in ONCE and view is not views[-1]:
                continue
            if check in (*LAYOUT, accessible) and view not in EACH_WIDTH:
                continue
            if found := check(tab):
                problems[name, view] = found
    assert not problems


@pytest.mark.parametrize("mode", MODES)
def test_a_first_visit_is_in_the_mode_of_the_system(tab, mode: str):
    tab.show(390, mode)
    page = tab.open(SHORT)
    assert page.evaluate("document.documentElement.dataset.theme") == mode


def test_reader_can_search_switch_and_navigate(tab):
    tab.show(390, "light")
    page = tab.open(FIRST)
    page.locator(".theme-switch-button:visible").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.locator("button.primary-toggle:visible").click()
    page.locator(".bd-sidebar-primary a", has_text="").first.wait_for(state="visible")
    assert not quiet(tab)
    page = tab.open("search.html?q=autoencoder")
    page.locator("#search-results ul.search li a").first.wait_for(timeout=10_000)
    assert not quiet(tab)


def test_link_into_a_folded_part_opens_it(tab):
    page = tab.open(
        SHORT, lambda html: plant(html, "<details><summary>s</summary><p id='deep'>d</p></details>")
    )
    page.evaluate("location.hash = '#deep'")
    page.locator("#deep").wait_for(state="visible", timeout=5_000)


# --- every check can fail: defects, each planted in a page ----------------------------------------

WIDE = " + ".join(rf"\sum_{{i={k}}}^D \lambda_i^{k}" for k in range(12)) + r" \tag{9.9}"
OK_ALT = "Ten digits in a row, each beside its reconstruction."


def plant(html: str, what: str) -> str:
    """The page with something added at the end of its article."""
    return html.replace("</article>", f"{what}</article>", 1)


def wide_equation(css: str) -> str:
    from sitekit import mathematics

    formula = mathematics.set_formula(WIDE, True)
    return f"<style>{css}</style><div class='equation numbered'>{formula}</div>"


SVG = "%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 width=%229%22 height=%229%22/%3E"
IMAGE = f"data:image/svg+xml,{SVG}"
ARTICLE = re.compile(r"<article .*</article>", re.DOTALL)
KATEX_HTML = ".equation.numbered .katex-display > .katex > .katex-html"


def image(alt: str) -> str:
    return f"<img src='{IMAGE}' alt='{alt}'>"


# check that has to find it -> name of the defect -> HTML to plant
PLANTED: dict[str, dict[str, str]] = {
    "quiet": {
        "script from a CDN": "<script src='https://cdn.example.org/a.js'></script>",
        "font from a CDN": "<link rel='stylesheet' href='//fonts.example.org/serif.css'>",
        "missing file": "<script src='nowhere.js'></script>",
        "console error": "<script>console.error('no')</script>",
        "script error": "<script>const A = 1; const A = 2;</script>",
    },
    "no_raw_mathematics": {
        "display": "<p>$$ x $$</p>",
        "inline": "<p>so $x^2$ it is</p>",
        "environment": r"<p>\begin{align} a</p>",
        "tag": r"<p>a = b \tag{1.2}</p>",
        "command": r"<p>an \alpha is</p>",
    },
    "no_red_mathematics": {
        "error": "<span class='katex-error'>x</span>",
        "command": r"<span class='katex'><b style='color:#cc0000'>\x</b></span>",
        "not set": "<span class='math'>x</span>",
    },
    "no_clipped_equation": {  # each with an equation wider than the screen
        "left end": KATEX_HTML + "{margin-left: -90px !important}",
        "left end, centred": ".equation{display: flex; justify-content: center}",
        "right end": ".equation{overflow-x: hidden !important}",
        "number on formula": KATEX_HTML + "{padding-right: 0 !important}",
        "top": ".equation{height: 1em}",
    },
    "no_equation_to_scroll": {"wide": ""},
    "no_page_scroll": {
        "wide block": "<div style='width: 900px'>wide</div>",
        "long line": f"<div style='white-space: nowrap'>{'word ' * 60}</div>",
        "text cut off": f"<p style='overflow: hidden; white-space: nowrap'>{'word ' * 60}</p>",
    },
    "images_have_words": {
        "no alt": f"<img src='{IMAGE}'>",
        "empty": image(""),
        "short": image("A figure."),
        "file name": image("../_images/a picture of nine.png"),
        "hash": image("a picture 0123456789abcdef0123456789"),
        "image gone": f"<img alt='{OK_ALT}' src='gone.png'>",
    },
    "images_keep_their_shape": {
        "stretched": image(OK_ALT).replace(
            "<img", "<img style='width: 90px; height: 9px !important'"
        ),
    },
    "figures_fit_the_mode": {
        "not inverted": "<style>img{filter: none !important}</style>" + image(OK_ALT),
    },
    "colours_follow_the_mode": {
        "light in the dark": "<script>addEventListener('load', () => "
        "document.documentElement.dataset.theme = 'light')</script>",
    },
    "accessible": {
        "faint text": "<p style='color: #777; background: #888'>faint</p>",
        "nameless button": "<button></button>",
        "label against content": "<button aria-label='Go'>Search the book</button>",
    },
}
# check -> name of the defect -> what is replaced (a pattern), and by what
REPLACED: dict[str, dict[str, tuple[str, str]]] = {
    "notebook_links": {
        "other notebook on Colab": (r"(colab\.research[^\"]*/)[^/\"]+\.ipynb", r"\1other.ipynb"),
        "other account on Colab": (r"(colab\.research[^\"]*/github/)[^/]+", r"\1someone"),
        "no Colab": (r"colab\.research\.google\.com", "example.org"),
        "other download": (r"(_sources/[^\"]*)\.ipynb", r"\1.md"),
    },
}
DEFECTS = [
    *((check, name) for check, defects in PLANTED.items() for name in defects),
    *((check, name) for check, defects in REPLACED.items() for name in defects),
]
LOADED = ("quiet", "colours_follow_the_mode")  # defects that are there when the page is loaded


def test_every_check_has_a_defect():
    assert {check for check, _ in DEFECTS} == set(CHECKS)


@pytest.fixture(scope="module")
def short(browser, address) -> Iterator[Visit]:
    """A short page that stays open, to plant in."""
    visit = Visit(browser, address)
    visit.show(390, "dark")
    visit.open(SHORT).add_style_tag(url="/_static/katex/katex.css")
    yield visit
    visit.context.close()


def problems_with(visit: Visit, check: str, what: str) -> list[str]:
    """What a check finds while something stands at the end of the article."""
    add = "what => document.querySelector('article').insertAdjacentHTML('beforeend', what)"
    visit.page.evaluate(add, f"<div id='planted'>{what}</div>")
    visit.ask("settle")
    found = CHECKS[check](visit)
    visit.page.evaluate("document.querySelector('#planted').remove()")
    return found


@pytest.mark.parametrize(("check", "name"), DEFECTS)
def test_defect_is_found(tab, short, sitekit, check: str, name: str):
    if check in REPLACED:
        old, new = REPLACED[check][name]
        tab.open(FIRST, lambda html: re.sub(old, new, re.sub(ARTICLE, "", html)))
        found = CHECKS[check](tab)
    elif check in LOADED:
        tab.show(390, "dark")
        tab.open(SHORT, lambda html: plant(html, PLANTED[check][name]))
        found = CHECKS[check](tab)
    else:
        what = PLANTED[check][name]
        found = problems_with(short, check, wide_equation(what) if "equation" in check else what)
    assert found, f"{check} did not see: {name}"


@pytest.mark.parametrize("check", [check for check in CHECKS if check not in ("quiet", *REPLACED)])
def test_page_without_a_defect_passes(short, sitekit, check: str):
    what = wide_equation("") if check in ("no_clipped_equation", "no_page_scroll") else ""
    assert not problems_with(short, check, what + image(OK_ALT))


def test_notebook_without_a_defect_passes(tab):
    tab.open(FIRST, lambda html: re.sub(ARTICLE, "", html))
    assert not notebook_links(tab) and not quiet(tab)
