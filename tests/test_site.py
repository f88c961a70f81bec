"""The built site, looked at in headless Chromium and, without a browser, in its files.

`make book` builds it; these tests build it themselves where it is missing or older than its
sources. A check is a function from a page to a list of problems. It is run on every page, and, at
the end of this file, on a page with a defect planted in it, which it has to find.

``VAE_BOOK_SITE=/some/html`` tests a site that was built elsewhere, as it is.
"""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urljoin, urlsplit

import pytest

yaml = pytest.importorskip("yaml", reason="site tests skipped: PyYAML comes with jupyter-book")

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
CHAPTERS = [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
SOURCES = [TOC["root"], *CHAPTERS]
NOTEBOOKS = [source for source in SOURCES if source.endswith(".ipynb")]
PAGES = [re.sub(r"\.(md|ipynb)$", ".html", source) for source in SOURCES] + ["search.html"]
FIRST = re.sub(r"\.ipynb$", ".html", NOTEBOOKS[0])
SHORT = "book/pages/run_times.html"
WIDTHS, MODES = (1280, 390), ("light", "dark")
SITE_FILES = ("_config.yml", "_toc.yml", "index.md", "book", "sitekit", "src/vae_core")


# --- building and serving -------------------------------------------------------------------------


def newest_source() -> float:
    paths = [ROOT / name for name in SITE_FILES]
    files = [f for p in paths for f in ([p] if p.is_file() else p.rglob("*"))]
    keep = (".md", ".ipynb", ".json", ".yml", ".py", ".css", ".js", ".html", ".svg", ".png")
    return max(f.stat().st_mtime for f in files if f.suffix in keep and ".ipynb_ch" not in str(f))


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build as `make book` does, with warnings as errors."""
    tool = Path(sys.executable).with_name("jupyter-book")
    command = [str(tool if tool.exists() else shutil.which("jupyter-book")), "build", str(source)]
    command += ["--path-output", str(out), "-W", "--keep-going"]
    return subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=600)


def skip(reason: str) -> None:
    """Skip, unless this is a run (`.ci/run`) in which these tests must not be skipped."""
    if os.environ.get("VAE_BOOK_REQUIRE_BROWSER") == "1":
        pytest.fail(f"VAE_BOOK_REQUIRE_BROWSER=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built site, up to date."""
    if given := os.environ.get("VAE_BOOK_SITE"):
        return Path(given).resolve()
    if importlib.util.find_spec("jupyter_book") is None:
        skip("site tests skipped: jupyter-book is not installed (requirements-site.txt)")
    index = ROOT / "_build" / "html" / "index.html"
    if not index.exists() or index.stat().st_mtime < newest_source():
        result = build(ROOT, ROOT)
        assert result.returncode == 0, f"the site does not build:\n{result.stderr[-4000:]}"
        os.utime(index)
    return index.parent


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def address(html: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(html))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        skip("browser tests skipped: no Chromium (apt-get install chromium, or set CHROMIUM)")
    try:
        import playwright.sync_api as api
    except ImportError:
        skip("browser tests skipped: playwright is not installed (requirements.txt)")
    flags = "no-sandbox disable-gpu no-first-run disable-background-networking disable-quic "
    flags += "disable-component-update disable-sync disable-dev-shm-usage"
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium, args=[f"--{flag}" for flag in flags.split()]
        )
        yield started
        started.close()


class Visit:
    """One page in a context of its own, and everything it asked for or complained about."""

    def __init__(self, browser, address: str, width: int, mode: str):
        self.address = address
        self.context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=mode
        )
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("request", self._request)
        self.page.on("requestfailed", lambda r: self.complaints.append(f"failed: {r.url}"))
        self.page.on("response", self._response)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda e: self.complaints.append(f"script error: {e}"))
        self.page.route("**/*", self._route)  # what isn't ours is noted, and not sent

    def ours(self, url: str) -> bool:
        return url.startswith((self.address, "data:", "blob:", "about:"))

    def _route(self, route) -> None:
        route.continue_() if self.ours(route.request.url) else route.abort()

    def _request(self, request) -> None:
        if not self.ours(request.url):
            self.complaints.append(f"request to another host: {request.url}")

    def _response(self, response) -> None:
        if response.status >= 400:
            self.complaints.append(f"status {response.status}: {response.url}")

    def _console(self, message) -> None:
        if message.type == "error":
            self.complaints.append(f"console error: {message.text}")

    def open(self, path: str, change: Callable[[str], str] | None = None):
        """Open a page of the site, or what ``change`` makes of it."""
        if change is not None:

            def altered(route) -> None:
                response = route.fetch()
                body = response.text()
                new = change(body)
                assert new != body, "the defect was not planted"
                route.fulfill(response=response, body=new)

            self.page.route(self.address + path, altered)
        self.page.goto(self.address + path, wait_until="load")
        self.page.wait_for_timeout(60)  # scripts that run on load
        self.page.evaluate("document.fonts.ready")
        return self.page


@pytest.fixture
def visit(browser, address):
    visits: list[Visit] = []

    def start(width: int = 1280, mode: str = "light") -> Visit:
        visits.append(Visit(browser, address, width, mode))
        return visits[-1]

    yield start
    for each in visits:
        each.context.close()


# --- checks in the browser: page -> problems ------------------------------------------------------

Check = Callable[[Visit], list[str]]


def quiet(visit: Visit) -> list[str]:
    """No request to another host, none that failed, no error in the console."""
    return list(visit.complaints)


RAW = re.compile(
    r"\$\$|\\begin\{|\\end\{|\\tag\b|\\[a-zA-Z]{3,}\b|(?<![\w$\\])\$[^\s$][^$\n]*\$(?!\w)"
)


def no_raw_mathematics(visit: Visit) -> list[str]:
    text = visit.page.evaluate(
        """() => {
            const copy = document.body.cloneNode(true);
            const drop = "script, style, template, pre, code, .katex, .katex-error, kbd";
            for (const e of copy.querySelectorAll(drop)) e.remove();
            return document.title + "\\n" + copy.textContent;
        }"""
    )
    return [f"raw mathematics: {found[0]!r}" for found in RAW.finditer(text)]


def no_red_mathematics(visit: Visit) -> list[str]:
    found = visit.page.evaluate(
        """() => [...document.querySelectorAll(
            ".katex-error, mjx-merror, .merror, .katex [style*='color:#cc0000']")]
            .map(e => e.textContent.slice(0, 80))"""
    )
    unset = visit.page.evaluate(
        "() => [...document.querySelectorAll('.math:not(.katex *)')].map(e => e.textContent)"
    )
    return [f"red mathematics: {e!r}" for e in found] + [
        f"mathematics not set: {e!r}" for e in unset
    ]


def no_clipped_equation(visit: Visit) -> list[str]:
    """The left end shows unscrolled, the right end and the number after scrolling, all apart."""
    return visit.page.evaluate(
        """() => {
          const problems = [];
          // Folded parts are opened: what is in them must be readable too.
          for (const d of document.querySelectorAll("article details")) d.open = true;
          const ink = (root, keep) => {
            const rects = [];
            const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
            for (let node; (node = walk.nextNode());) {
              if (!node.data.replace(/[\\s\\u200b]/g, "") || !keep(node.parentElement)) continue;
              const range = document.createRange();
              range.selectNode(node);
              rects.push(...[...range.getClientRects()].filter(r => r.width));
            }
            return rects;
          };
          const extent = rects => [
            Math.min(...rects.map(r => r.left)), Math.max(...rects.map(r => r.right)) ];
          const box = element => {
            for (let e = element.parentElement; e && e !== document.body; e = e.parentElement)
              if (getComputedStyle(e).overflowX !== "visible") return e;
            return null;
          };
          for (const html of document.querySelectorAll("article .katex-html")) {
            const name = (html.parentElement.querySelector("annotation")?.textContent || "?")
              .slice(0, 60);
            const all = ink(html, () => true);
            if (!all.length) { problems.push(`equation without ink: ${name}`); continue; }
            const holder = box(html);
            const frame = () => {
              if (!holder) return [0, innerWidth];
              const r = holder.getBoundingClientRect();
              return [r.left + holder.clientLeft, r.left + holder.clientLeft + holder.clientWidth];
            };
            if (holder) holder.scrollLeft = 0;
            let [left] = extent(ink(html, () => true));
            if (left < Math.max(frame()[0], 0) - 1)
              problems.push(`left end cut off by ${Math.round(frame()[0] - left)} px: ${name}`);
            const over = holder && getComputedStyle(holder).overflowX;
            const scrolls = ["auto", "scroll"].includes(over);
            if (scrolls) holder.scrollLeft = 1e6;
            let [, right] = extent(ink(html, () => true));
            if (right > Math.min(frame()[1], innerWidth) + 1)
              problems.push(`right end cut off by ${Math.round(right - frame()[1])} px: ${name}`);
            if (holder) {
              const r = holder.getBoundingClientRect();
              const inner = html.getBoundingClientRect();
              if (inner.top < r.top - 1 || inner.bottom > r.bottom + 1)
                problems.push(`top or bottom cut off: ${name}`);
            }
            const inTag = e => !!e.closest(".tag");
            const numbers = ink(html, inTag), formula = ink(html, e => !inTag(e));
            for (const n of numbers)
              if (formula.some(f => f.left < n.right - 1 && f.right > n.left + 1
                  && f.top < n.bottom - 1 && f.bottom > n.top + 1)) {
                problems.push(`number on top of the formula: ${name}`);
                break;
              }
            if (scrolls) holder.scrollLeft = 0;
          }
          return problems;
        }"""
    )


def no_equation_to_scroll(visit: Visit) -> list[str]:
    """From 390 px on, each displayed equation shows whole, with its number, where it stands."""
    return visit.page.evaluate(
        """() => innerWidth < 390 ? [] :
          [...document.querySelectorAll("article .katex-display")]
            .filter(e => e.scrollWidth > e.clientWidth + 4)
            .map(e => `${e.scrollWidth - e.clientWidth} px too wide: `
              + (e.querySelector("annotation")?.textContent || "?").slice(0, 60))"""
    )


def no_page_scroll(visit: Visit) -> list[str]:
    """The page as a whole does not scroll sideways, and nothing is cut off so that it doesn't."""
    return visit.page.evaluate(
        """() => {
          const problems = [];
          for (const d of document.querySelectorAll("article details")) d.open = true;
          const root = document.documentElement;
          if (root.scrollWidth > innerWidth + 1) {
            const wide = [...document.querySelectorAll("main *")].find(e => {
              const r = e.getBoundingClientRect();
              return r.right > innerWidth + 1 && r.left >= 0
                && getComputedStyle(e).visibility !== "hidden";
            });
            problems.push(`page scrolls sideways: ${root.scrollWidth} px wide in ${innerWidth} px `
              + `(${wide?.tagName}: ${wide?.textContent.trim().slice(0, 50)})`);
          }
          for (const e of document.querySelectorAll("article, article *")) {
            if (e.closest(".katex") || !e.textContent.trim()) continue;
            const hides = ["hidden", "clip"].includes(getComputedStyle(e).overflowX);
            if (hides && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1)
              problems.push(`cut off: ${e.tagName} ${e.textContent.trim().slice(0, 50)}`);
          }
          return problems;
        }"""
    )


def images_have_words(visit: Visit) -> list[str]:
    """Every picture is there and has an alternative text that is text."""
    images = visit.page.evaluate(
        """async () => {
          const images = [...document.querySelectorAll("article img, article svg[role=img]")];
          for (const i of images) {
            i.loading = "eager";
            await i.decode?.().catch(() => 0);
          }
          return images.map(i => ({ src: i.getAttribute("src") || "svg", alt: i.getAttribute("alt")
            ?? i.getAttribute("aria-label"), there: i.tagName !== "IMG" || i.naturalWidth > 0 }));
        }"""
    )
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
    return visit.page.evaluate(
        """() => [...document.querySelectorAll("article img")]
          .filter(i => i.naturalHeight && i.clientHeight && Math.abs(Math.log(
            i.clientWidth / i.clientHeight * i.naturalHeight / i.naturalWidth)) > 0.05)
          .map(i => `stretched: ${i.getAttribute("src")} ${i.naturalWidth} x ${i.naturalHeight} `
            + `shown as ${i.clientWidth} x ${i.clientHeight}`)"""
    )


def figures_fit_the_mode(visit: Visit) -> list[str]:
    """Figures drawn on white are turned over in the dark, and only there."""
    found = visit.page.evaluate(
        """() => [...document.querySelectorAll("article img")].map(i => [
          i.getAttribute("src"), i.classList.contains("keep-colours"),
          getComputedStyle(i).filter, document.documentElement.dataset.theme])"""
    )
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


def accessible(visit: Visit) -> list[str]:
    """axe-core finds nothing serious, its experimental rule on labels included."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        skip("browser tests skipped: axe-playwright-python is not installed")
    visit.page.evaluate((Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
    violations = visit.page.evaluate(
        """async () => (await axe.run(document, {
             resultTypes: ["violations"], preload: false,
             rules: { "label-content-name-mismatch": { enabled: true } } })).violations
           .filter(v => ["serious", "critical"].includes(v.impact))
           .map(v => `axe ${v.id}: ${v.nodes.length} x ${v.nodes[0].html.slice(0, 140)}`)"""
    )
    return list(violations)


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


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("page", PAGES)
def test_page(visit, page: str, mode: str):
    here = visit(WIDTHS[0], mode)
    here.open(page)
    problems = {}
    for width in WIDTHS:
        here.page.set_viewport_size({"width": width, "height": 844})
        here.page.wait_for_timeout(60)
        for name, check in CHECKS.items():
            if check is accessible and (width, mode) not in {(1280, "dark"), (390, "light")}:
                continue  # the slowest check, by far: each width and each mode once
            if found := check(here):
                problems[name, width] = found
    assert not problems


def test_reader_can_search_switch_and_navigate(visit):
    here = visit(390)
    page = here.open(FIRST)
    page.locator(".theme-switch-button:visible").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.locator("button.primary-toggle:visible").click()
    page.locator(".bd-sidebar-primary a", has_text="").first.wait_for(state="visible")
    page = here.open("search.html?q=autoencoder")
    page.locator("#search-results ul.search li a").first.wait_for(timeout=10_000)
    assert not quiet(here)


def test_link_into_a_folded_part_opens_it(visit):
    page = visit().open(
        SHORT, lambda html: plant(html, "<details><summary>s</summary><p id='deep'>d</p></details>")
    )
    page.evaluate("location.hash = '#deep'")
    page.locator("#deep").wait_for(state="visible", timeout=5_000)


# --- checks of the files, without a browser -------------------------------------------------------


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
    """Links and resources of a page within the site that lead nowhere, anchors included.

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
        elif anchor and path.endswith(".html") and tag == "a":
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
    assert built == set(PAGES), "pages built and pages of _toc.yml differ (`make clean`?)"


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
    modules = [p.stem for p in (ROOT / "src/vae_core").glob("*.py") if not p.stem.startswith("_")]
    missing = [name for name in modules if f'id="module-vae_core.{name}"' not in text]
    assert not missing, f"not on book/pages/api.md: {missing}"


# --- the extension by itself ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def sitekit():
    pytest.importorskip("py_mini_racer", reason="site tests skipped: mini-racer is not installed")
    pytest.importorskip("sphinx", reason="site tests skipped: Sphinx is not installed")
    sys.path.insert(0, str(ROOT))
    try:
        from sitekit import api, mathematics, theme
    finally:
        sys.path.remove(str(ROOT))
    return SimpleNamespace(api=api, mathematics=mathematics, theme=theme)


def test_katex_sets_both_forms(sitekit):
    one = sitekit.mathematics.set_formula(r"x = y \tag{1.2}", True)
    assert "katex-html" in one and "<math" in one and ">1.2<" in one
    rows = r"\begin{align} a &= b \tag{1.1}\\ &= c \tag{1.3}\end{align}"
    many = sitekit.mathematics.set_formula(rows, True)
    assert ">1.1<" in many and ">1.3<" in many
    assert sitekit.mathematics.tags(rows) == ["1.1", "1.3"]
    assert sitekit.mathematics.anchor("1.2") == "eq-1-2"


@pytest.mark.parametrize("wrong", [r"\nonsense", r"\frac{1", r"\begin{aligned} a \end{align}"])
def test_katex_errors_are_errors(sitekit, wrong: str):
    with pytest.raises(ValueError, match="xpected|Mismatch|Undefined"):
        sitekit.mathematics.set_formula(wrong, True)


def test_measured_values_and_claims_are_marked_in_outputs_only(sitekit):
    output = '<div class="output stream x"><pre><span></span>✓ d: ⟨2.5⟩, above 1</pre></div>'
    marked = sitekit.theme.mark_measured(f"<p>✓ ⟨1⟩</p>{output}")
    assert marked.startswith("<p>✓ ⟨1⟩</p>")
    assert '<span class="measured">⟨2.5⟩</span>' in marked
    assert '<span class="claim">✓</span> d' in marked


def test_docstring_labels_and_public_names(sitekit):
    lines = ["Mean.", "", "Shapes: x [B].", "and Raises: no.", "", "Raises: ``ValueError``."]
    sitekit.api.label_paragraphs(lines)
    assert lines[2] == "**Shapes.** x [B]." and lines[3] == "and Raises: no."
    assert lines[5] == "**Raises.** ``ValueError``."
    code = "__all__ = ['f', 'C', 'N']\nN = 1\ndef f(): ...\nclass C: ...\ndef g(): ...\n"
    assert sitekit.api.public_names(code) == [("f", "function"), ("C", "class"), ("N", "data")]
    code = "def f(): ...\ndef _g(): ...\n"
    assert sitekit.api.public_names(code) == [("f", "function")]


def test_a_wrong_equation_or_link_fails_the_build(sitekit, tmp_path: Path):
    """A book of one page with three mistakes: each is named, with its file, and the build fails."""
    shutil.copytree(ROOT / "sitekit", tmp_path / "sitekit", ignore=shutil.ignore_patterns("__py*"))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "nothing.py").write_text('"""Nothing."""\n')
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: index.md\n")
    good = "# Title\n\n$$a = b \\tag{1.1}$$\n\nSee [(1.1)](#eq-1-1).\n"
    bad = "\n$$\\nonsense{x}$$\n\nSee [(9.9)](#eq-9-9).\n\n"
    bad += "$$\\begin{align} a &= b \\\\ &= c \\tag{1.2}\\end{align}$$\n"
    (tmp_path / "index.md").write_text(good + bad)
    result = build(tmp_path, tmp_path)
    said = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout + result.stderr)
    assert result.returncode != 0
    assert re.search(r"index\.md:7: WARNING: KaTeX cannot set .*nonsense", said), said[-3000:]
    assert re.search(r"index\.md:9: WARNING: .*eq-9-9", said), said[-3000:]
    assert re.search(r"index\.md:11: WARNING: a row without", said), said[-3000:]
    assert "#eq-1-1" not in said and "eq-1-2" not in said

    (tmp_path / "index.md").write_text(good)
    assert build(tmp_path, tmp_path).returncode == 0


# --- every check can fail: defects, each planted in a page -----------------------------

WIDE = " + ".join(rf"\sum_{{i={k}}}^D \lambda_i^{k}" for k in range(12)) + r" \tag{9.9}"
OK_ALT = "Ten digits in a row, each beside its reconstruction."


def plant(html: str, what: str) -> str:
    """The page with something added at the end of its article."""
    return html.replace("</article>", f"{what}</article>", 1)


def wide_equation(css: str) -> str:
    from sitekit import mathematics

    formula = mathematics.set_formula(WIDE, True)
    style = f"<style>{css}</style><link rel='stylesheet' href='/_static/katex/katex.css'>"
    return f"{style}<div class='equation numbered'>{formula}</div>"


SVG = "%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 width=%229%22 height=%229%22/%3E"
IMAGE = f"data:image/svg+xml,{SVG}"
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


def with_defect(check: str, name: str) -> Callable[[str], str]:
    if check in REPLACED:
        old, new = REPLACED[check][name]
        return lambda html: re.sub(old, new, html)
    what = PLANTED[check][name]
    return lambda html: plant(html, wide_equation(what) if "equation" in check else what)


def test_every_check_has_a_defect():
    assert {check for check, _ in DEFECTS} == set(CHECKS)


@pytest.mark.parametrize(("check", "name"), DEFECTS)
def test_defect_is_found(visit, sitekit, check: str, name: str):
    here = visit(390, "dark")
    here.open(FIRST if check in REPLACED else SHORT, with_defect(check, name))
    assert CHECKS[check](here), f"{check} did not see: {name}"


def test_wide_equation_without_a_defect_passes(visit, sitekit):
    here = visit(390, "dark")
    here.open(SHORT, lambda html: plant(html, wide_equation("") + image(OK_ALT)))
    assert not no_clipped_equation(here) and not no_page_scroll(here)
    assert not images_have_words(here) and not figures_fit_the_mode(here)


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
