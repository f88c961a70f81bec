"""Mathematics set by KaTeX while the site is built: a reader's browser runs no script for it.

KaTeX (``katex/``, MIT) runs inside V8, which comes in the wheel ``mini-racer``. What it cannot set
is a Sphinx warning that names file and equation, and ``-W`` makes that an error.

``\\tag{1.2}`` becomes the anchor ``eq-1-2``: ``[(1.2)](#eq-1-2)`` on the same page and
``[(1.2)](01_autoencoder.ipynb#eq-1-2)`` from another.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from docutils import nodes
from py_mini_racer import JSEvalException, MiniRacer
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

KATEX = Path(__file__).parent / "katex"
TAG = re.compile(r"\\tag\{([^{}]*)\}")
NUMBERED = re.compile(r"\\begin\{(align|gather|equation|alignat)\}(.*?)\\end\{\1\}", re.DOTALL)
logger = logging.getLogger(__name__)

# (TeX, set on its own line) -> HTML, or the error where KaTeX refused.
_set: dict[tuple[str, bool], str | ValueError] = {}


@cache
def _source() -> str:
    return (KATEX / "katex.min.js").read_text(encoding="utf-8")


def set_all(formulas: Iterable[tuple[str, bool]]) -> None:
    """Set the formulas not yet set, in one V8, closed at once: left open it blocks the exit."""
    todo = [formula for formula in dict.fromkeys(formulas) if formula not in _set]
    if not todo:
        return
    with MiniRacer() as v8:
        v8.eval(_source())
        for tex, display in todo:
            options = {
                "displayMode": display,
                "output": "htmlAndMathml",  # MathML is what a screen reader reads
                "throwOnError": True,
                "strict": "error",
            }
            try:
                _set[tex, display] = str(v8.call("katex.renderToString", tex, options))
            except JSEvalException as error:
                message = re.sub(r".*?(KaTeX parse error|Error): ", "", str(error), flags=re.DOTALL)
                # KaTeX underlines the culprit with combining characters: noise in a log.
                message = message.replace("\N{COMBINING LOW LINE}", "").strip().splitlines()[0]
                _set[tex, display] = ValueError(message)


def set_formula(tex: str, display: bool) -> str:
    """HTML of one formula; ValueError, with KaTeX's reason, if it can't be set."""
    set_all([(tex, display)])
    result = _set[tex, display]
    if isinstance(result, ValueError):
        raise ValueError(str(result))
    return result


def anchor(number: str) -> str:
    """Anchor of an equation's number: ``1.2`` -> ``eq-1-2``."""
    return "eq-" + re.sub(r"[^0-9A-Za-z]+", "-", number).strip("-").lower()


def tags(tex: str) -> list[str]:
    return TAG.findall(tex)


def _clean(tex: str) -> str:
    # A blank line inside $$ ends nothing in Markdown, but is a paragraph's end (an error) in TeX.
    return re.sub(r"\n\s*\n", "\n", tex.strip())


def _set_or_warn(tex: str, display: bool, node: nodes.Node) -> str:
    try:
        return set_formula(tex, display)
    except ValueError as error:
        shown = tex if len(tex) <= 120 else tex[:117] + "..."
        logger.warning("KaTeX cannot set %r: %s", shown, error, location=node, type="katex")
        return f'<code class="katex-error">{html.escape(tex)}</code>'


def _visit_inline(self, node: nodes.math) -> None:
    self.body.append(_set_or_warn(_clean(node.astext()), False, node))
    raise nodes.SkipNode


def _visit_block(self, node: nodes.math_block) -> None:
    tex = _clean(node.astext())
    numbers = tags(tex)
    markup = _set_or_warn(tex, True, node)
    for number in numbers:  # each number is its own anchor, on its own row
        text = f'<span class="mord">{html.escape(number)}</span>'
        markup = markup.replace(text, f'<span class="mord" id="{anchor(number)}">{number}</span>')
    name = "Equation " + ", ".join(numbers) if numbers else "Equation"
    kind = " numbered" if numbers else ""
    self.body.append(
        f'<div class="equation{kind}" role="group" aria-label="{name}">{markup}</div>\n'
    )
    raise nodes.SkipNode


class EquationAnchors(SphinxTransform):
    """Make the equations' anchors known, so that links to them are checked like all others."""

    default_priority = 870  # before myst-parser resolves `#...` links, at 879

    def apply(self, **kwargs: object) -> None:
        slugs = getattr(self.document, "myst_slugs", None)
        if slugs is None:
            return
        for node in self.document.findall(nodes.math_block):
            tex = _clean(node.astext())
            for _, body in NUMBERED.findall(tex):
                rows = re.split(r"\\\\(?:\[[^\]]*\])?", body)
                if any(
                    not re.search(r"\\(tag|notag|nonumber)\b", row) for row in rows if row.strip()
                ):
                    logger.warning(
                        "a row without \\tag or \\notag numbers itself: %r",
                        tex[:80],
                        location=node,
                        type="katex",
                    )
            for number in tags(tex):
                if anchor(number) in slugs:
                    logger.warning("equation (%s) is there twice", number, location=node)
                slugs[anchor(number)] = (node.line or 0, anchor(number), f"({number})")
        self.env.metadata[self.env.docname]["myst_slugs"] = slugs


def _set_page(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    if app.builder.format == "html":
        set_all(
            (_clean(node.astext()), isinstance(node, nodes.math_block))
            for node in doctree.findall(lambda n: isinstance(n, nodes.math | nodes.math_block))
        )


def _add_style(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if app.env.get_domain("math").has_equations(page):
        app.add_css_file("katex/katex.css", priority=400)


def _copy_katex(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir) / "_static" / "katex"
    (out / "fonts").mkdir(parents=True, exist_ok=True)
    style = (KATEX / "katex.min.css").read_text(encoding="utf-8")
    # Every browser in use reads woff2; the older formats are not shipped.
    style = re.sub(r',url\([^)]*\.(?:woff|ttf)\) format\("[a-z]+"\)', "", style)
    (out / "katex.css").write_text(style, encoding="utf-8")
    (out / "LICENSE").write_bytes((KATEX / "LICENSE").read_bytes())
    for font in sorted((KATEX / "fonts").glob("*.woff2")):
        (out / "fonts" / font.name).write_bytes(font.read_bytes())


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("katex", (_visit_inline, None), (_visit_block, None))
    app.add_transform(EquationAnchors)
    app.connect("doctree-resolved", _set_page)
    app.connect("html-page-context", _add_style)
    app.connect("build-finished", _copy_katex)
