"""The files of the built site, without a browser."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from served import NOTEBOOKS, PAGES, ROOT, SOURCES


class Tags(HTMLParser):
    """The tags of a page, each with its attributes; also its inline styles."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.inline = ""
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        self._in = tag

    def handle_data(self, data: str) -> None:
        if self._in == "style":
            self.inline += data


@functools.lru_cache(maxsize=64)
def anchors(text: str) -> frozenset[str]:
    names = {a.get(key, "") for _, a in Tags(text).tags for key in ("id", "name")}
    return frozenset(names - {""})


def elsewhere(url: str) -> bool:
    return bool(re.match(r"\s*(?:[a-z]+:)?//", url, re.I))


def foreign_in_css(css: str) -> list[str]:
    urls = re.findall(r"url\(\s*['\"]?([^'\")]+)", css) + re.findall(
        r"@import\s+['\"]([^'\"]+)", css
    )
    return [f"style from another host: {url}" for url in urls if elsewhere(url)]


def foreign_resources(text: str) -> list[str]:
    """What a page would load from another host by itself; links to click on are no such thing."""
    parsed = Tags(text)
    found = foreign_in_css(parsed.inline)
    for tag, attributes in parsed.tags:
        loads = [attributes.get(name, "") for name in ("src", "poster", "data")]
        loads += [
            part.split()[0] for part in attributes.get("srcset", "").split(",") if part.split()
        ]
        if tag in ("link", "use", "image"):
            loads.append(attributes.get("href", ""))
        found += [f"<{tag}> loads {url}" for url in loads if elsewhere(url)]
        found += foreign_in_css(attributes.get("style", ""))
    return found


def broken_links(page: str, text: str, read: Callable[[str], str | None]) -> list[str]:
    """Links and resources of a page within the site that lead nowhere, anchors included (those with
    a "=" are settings of the playground).

    ``read`` gives the content of a file of the site, or None where there is none.
    """
    problems = []
    for tag, attributes in Tags(text).tags:
        url = attributes.get("src") or attributes.get("href") or ""
        if not url or elsewhere(url) or re.match(r"[a-z]+:", url):
            continue
        target = urlsplit(urljoin(page, url))
        path, anchor = unquote(target.path) or page, unquote(target.fragment)
        content = read(path)
        if content is None:
            problems.append(f"{page}: <{tag}> to {url}, which is not there")
        elif anchor and "=" not in anchor and path.endswith(".html") and tag == "a":
            if anchor not in anchors(content):
                problems.append(f"{page}: no anchor {anchor} in {path}")
    return problems


@pytest.fixture(scope="session")
def read(html: Path) -> Callable[[str], str | None]:
    @functools.cache
    def content(path: str) -> str | None:
        file = html / path
        if not file.is_file():
            return None
        text = path.endswith((".html", ".css", ".js", ".svg"))
        return file.read_text(encoding="utf-8") if text else ""

    return content


def test_all_pages_are_there(html: Path):
    built = {str(path.relative_to(html)) for path in html.rglob("*.html")}
    assert built == {*PAGES, "_static/playground.html"}, (
        "pages built and pages of _toc.yml differ (`make clean`?)"
    )


def test_no_resource_from_another_host(html: Path):
    problems = []
    for path in html.rglob("*.html"):
        problems += [
            f"{path.name}: {p}" for p in foreign_resources(path.read_text(encoding="utf-8"))
        ]
    for path in html.rglob("*.css"):
        problems += [f"{path.name}: {p}" for p in foreign_in_css(path.read_text(encoding="utf-8"))]
    assert not problems


def test_links_and_anchors_resolve(read):
    problems = [problem for page in PAGES for problem in broken_links(page, read(page), read)]
    assert not problems


def test_head_of_each_page(read):
    for page in PAGES:
        tags = Tags(read(page)).tags
        assert dict(tags)["html"].get("lang") == "en", page
        assert sum(tag == "h1" for tag, _ in tags) == 1, f"{page}: expected one <h1>"
        assert any(tag == "link" and a.get("rel") == "icon" for tag, a in tags), page


def test_equations_have_anchors(read):
    for source in NOTEBOOKS:
        wanted = set(re.findall(r"\\tag\{([\d.]+)\}", (ROOT / source).read_text(encoding="utf-8")))
        text = read(re.sub(r"\.ipynb$", ".html", source))
        missing = {n for n in wanted if f'id="eq-{n.replace(".", "-")}"' not in text}
        assert not missing, f"{source}: equations without an anchor: {sorted(missing)}"


def test_first_screen_is_light(html: Path, read):
    """What an almost empty page makes a browser fetch: a budget, in bytes before compression."""
    page = PAGES[SOURCES.index("book/pages/how_to_read.md")]
    size = len(read(page).encode())
    loaded = {
        unquote(urlsplit(urljoin(page, a.get("src") or a.get("href", ""))).path)
        for tag, a in Tags(read(page)).tags
        if tag == "script" or (tag == "link" and a.get("rel") == "stylesheet")
    } - {page}
    size += sum((html / path).stat().st_size for path in loaded if (html / path).is_file())
    assert size < 750_000, f"{size:,} bytes: {sorted(loaded)}"


def test_api_page_has_every_public_module(read):
    text = read("book/pages/api.html")
    paths = [p for name in ("vae_core", "vae_book") for p in (ROOT / "src" / name).glob("[!_]*.py")]
    assert len({path.parent for path in paths}) == 2
    modules = [f"{path.parent.name}.{path.stem}" for path in paths]
    missing = [name for name in modules if f'id="module-{name}"' not in text]
    assert not missing, f"not on book/pages/api.md: {missing}"


# --- every check can fail -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "<script src='https://cdn.example.org/a.js'></script>",
        "<link rel='stylesheet' href='//cdn.example.org/a.css'>",
        "<img src='HTTP://example.org/a.png'>",
        "<img srcset='a.png 1x, https://example.org/b.png 2x'>",
        "<style>@import 'https://example.org/a.css';</style>",
        "<p style='background: url(https://example.org/a.png)'>x</p>",
        "<iframe src='https://example.org'></iframe>",
    ],
)
def test_foreign_resource_is_found(text: str):
    assert foreign_resources(text)
    assert not foreign_resources("<a href='https://example.org'>a link</a><img src='a.png'>")


@pytest.mark.parametrize("href", ["gone.html", "b.html#gone", "#gone", "../b.html"])
def test_broken_link_is_found(href: str):
    site = {
        "p/a.html": f"<h1 id='top'>a</h1><a href='{href}'>x</a>",
        "p/b.html": "<p id='here'>b</p>",
    }
    assert broken_links("p/a.html", site["p/a.html"], site.get)
    good = "<h1 id='top'>a</h1><a href='b.html#here'>x</a><a href='#top'>y</a>"
    assert not broken_links("p/a.html", good, {**site, "p/a.html": good}.get)
