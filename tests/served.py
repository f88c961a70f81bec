"""The site, as it is built, and one page of it after the other, as a browser shows it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

yaml = pytest.importorskip("yaml", reason="site tests skipped: PyYAML comes with jupyter-book")

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
CHAPTERS = [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
SOURCES = [TOC["root"], *CHAPTERS]
NOTEBOOKS = [source for source in SOURCES if source.endswith(".ipynb")]
PAGES = [re.sub(r"\.(md|ipynb)$", ".html", source) for source in SOURCES] + ["search.html"]
SCRIPTS = {path.stem: path.read_text() for path in (ROOT / "tests/site/checks").glob("*.js")}


def up_to_date() -> bool:
    """Whether ``make book`` would build nothing."""
    if shutil.which("make") is None:
        return False
    # Whatever the state of make's own environment: this one may be another.
    command = ["make", "--question", "--old-file=.venv/.site-level", "_build/html/index.html"]
    return subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0


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


class Visit:
    """A tab of the browser, and everything that its page asked for or complained about."""

    def __init__(self, browser, address: str):
        self.address = address
        self.context = browser.new_context(reduced_motion="reduce")
        self.context.add_init_script("localStorage.clear()")  # each page as on a first visit
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("request", self._request)
        self.page.on("requestfailed", lambda r: self.complaints.append(f"failed: {r.url}"))
        self.page.on("response", self._response)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda e: self.complaints.append(f"script error: {e}"))

    def _request(self, request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:", "about:")):
            self.complaints.append(f"request to another host: {request.url}")

    def _response(self, response) -> None:
        if response.status >= 400:
            self.complaints.append(f"status {response.status}: {response.url}")

    def _console(self, message) -> None:
        if message.type == "error":
            self.complaints.append(f"console error: {message.text}")

    def show(self, width: int, mode: str) -> None:
        self.page.set_viewport_size({"width": width, "height": 844})
        self.page.emulate_media(color_scheme=mode, reduced_motion="reduce")
        self.ask("settle")

    def open(self, path: str, change: Callable[[str], str] | None = None):
        """Open a page of the site, or what ``change`` makes of it."""
        self.page.goto("about:blank")
        self.complaints.clear()
        if change is not None:
            self.page.route(self.address + path, lambda route: alter(route, change), times=1)
        self.page.goto(self.address + path, wait_until="load")
        # Colours on their way from one mode to the other are nobody's colours.
        still = "* { transition: none !important; animation: none !important }"
        self.page.add_style_tag(content=still)
        self.ask("settle")
        return self.page

    def ask(self, script: str):
        """The answer of a script in ``tests/site/checks``."""
        return self.page.evaluate(SCRIPTS[script])


class Files(Visit):
    """A tab on the site's files, without a server."""

    def __init__(self, browser, html: Path, **options) -> None:
        super().__init__(browser, html.as_uri() + "/")
        self.html = html
        if options:
            self.context.close()
            self.context = browser.new_context(**options)
            self.page = self.context.new_page()
            self.page.on("console", self._console)
            self.page.on("pageerror", lambda e: self.complaints.append(f"script error: {e}"))
        self.files: list[Path] = []
        self.page.on("request", self._file)

    def _file(self, request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme == "file":
            self.files.append(Path(unquote(parts.path)))

    def go(self, path: str):
        self.files.clear()
        self.complaints.clear()
        self.page.goto(self.address + path, wait_until="load")
        return self.page

    def figure(self, path: str, k: int):
        """The k-th live figure of a page, scrolled to and ready."""
        self.go(path)
        box = self.page.locator(".live").nth(k)
        self.page.evaluate(
            "k => document.querySelectorAll('.live')[k]"
            ".scrollIntoView({ block: 'center', behavior: 'instant' })",
            k,
        )
        self.page.wait_for_function(
            "k => document.querySelectorAll('.live')[k].matches('.ready, .failed')", arg=k
        )
        return box


def accessible(visit: Visit) -> list[str]:
    """axe-core finds nothing serious, its experimental rule on labels included."""
    if visit.page.evaluate("typeof axe") == "undefined":
        spec = importlib.util.find_spec("axe_playwright_python")
        if spec is None or spec.origin is None:
            skip("browser tests skipped: axe-playwright-python is not installed")
        script = (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")
        visit.page.evaluate(script)
    return visit.ask("accessible")


def alter(route, change: Callable[[str], str]) -> None:
    response = route.fetch()
    body = response.text()
    new = change(body)
    assert new != body, "the defect was not planted"
    route.fulfill(response=response, body=new)


def look_of(box) -> str:
    """All that a figure draws, as text."""
    return box.evaluate(
        "e => [...e.querySelectorAll('canvas')].map(c => c.toDataURL()).join() + "
        "[...e.querySelectorAll('svg')].map(s => s.outerHTML).join() + "
        "[...e.querySelectorAll('.handle')].map(h => h.style.cssText).join()"
    )
