"""The live figures of the site: their scripts, their data, and a directive for a page of words.

A notebook names its figures itself (see ``vae_book.live``). A page without code does it so::

    ```{live} explorer
    :name: digits_of_two_numbers
    :picture: book/images/cover.png
    :alt: What is to be seen on the picture
    :small:
    ```
"""

from __future__ import annotations

import html
import shutil
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

SCRIPTS, DATA = Path("src/vae_book/live"), Path("book/live")
logger = logging.getLogger(__name__)


class Live(SphinxDirective):
    """``{live} FIGURE``: a live figure, with a picture for where nothing can be moved."""

    required_arguments = 1
    option_spec = {
        "name": directives.unchanged_required,
        "picture": directives.path,
        "alt": directives.unchanged_required,
        "small": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        figure, name = self.arguments[0], self.options.get("name")
        wanted = [SCRIPTS / f"{figure}.js", *([DATA / f"{name}.js"] if name else [])]
        for path in wanted:
            if not Path(self.env.srcdir, path).exists():
                logger.warning("live figure: no file %s", path, location=self.get_location())
        attributes = f'data-figure="{html.escape(figure)}"'
        if name:
            attributes += f' data-name="{html.escape(name)}"'
        if "small" in self.options:
            attributes += ' data-size="small"'
        element = f'<div class="live" {attributes}><div></div></div>'
        uri, alt = "/" + self.options["picture"], self.options["alt"]
        picture = nodes.container(classes=["live-picture"])
        picture += nodes.image(uri=uri, alt=alt, loading="lazy")  # only where it is shown
        return [nodes.raw("", element, format="html"), picture]


def _load(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if 'class="live"' in context.get("body", ""):
        app.add_js_file("live/load.js", loading_method="defer")


def _copy(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir, "_static/live")
    shutil.rmtree(out, ignore_errors=True)
    (out / "data").mkdir(parents=True)
    for suffix in ("js", "css"):
        for path in Path(app.srcdir, SCRIPTS).glob(f"*.{suffix}"):
            shutil.copy(path, out)
    for path in Path(app.srcdir, DATA).glob("*.js"):
        shutil.copy(path, out / "data")


def setup(app: Sphinx) -> None:
    app.add_directive("live", Live)
    app.connect("html-page-context", _load)
    app.connect("build-finished", _copy)
    app.add_css_file("live/live.css", priority=901)
