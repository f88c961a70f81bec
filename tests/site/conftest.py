"""One site, one server and one browser for all tests."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from served import ROOT, Visit, build, skip, up_to_date


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built site, up to date."""
    if given := os.environ.get("VAE_BOOK_SITE"):
        return Path(given).resolve()
    if importlib.util.find_spec("jupyter_book") is None:
        skip("site tests skipped: jupyter-book is not installed (requirements-site.txt)")
    index = ROOT / "_build" / "html" / "index.html"
    if not up_to_date():
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
    flags += "disable-component-update disable-sync disable-dev-shm-usage "
    # What isn't ours is noted, and not found: no test needs the network.
    flags += "host-resolver-rules=MAP+*+~NOTFOUND+,+EXCLUDE+127.0.0.1"
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium, args=[f"--{flag.replace('+', ' ')}" for flag in flags.split()]
        )
        yield started
        started.close()


@pytest.fixture(scope="session")
def tab(browser, address) -> Iterator[Visit]:
    """The tab in which page after page is opened."""
    visit = Visit(browser, address)
    yield visit
    visit.context.close()


@pytest.fixture(scope="session")
def sitekit():
    pytest.importorskip("py_mini_racer", reason="site tests skipped: mini-racer is not installed")
    pytest.importorskip("sphinx", reason="site tests skipped: Sphinx is not installed")
    sys.path.insert(0, str(ROOT))
    try:
        from sitekit import api, mathematics, theme
    finally:
        sys.path.remove(str(ROOT))
    return SimpleNamespace(api=api, mathematics=mathematics, theme=theme)
