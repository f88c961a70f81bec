"""The theme, mended: no foreign host, no FontAwesome, plain buttons, measured values marked,
folded cells named."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

HERE = Path(__file__).parent
STREAM = re.compile(r'(<div class="output stream [^"]*">.*?</div>)', re.DOTALL)
MEASURED = re.compile(r"⟨[^⟩\n]*⟩")
CLAIM = re.compile(r"^((?:<[^>]*>)*)(✓ )", re.MULTILINE)
CLAIMS = re.compile(r'<details class="claims">.*?</details>', re.DOTALL)
COUNTS = re.compile(r"⟨(\d+)⟩ of ⟨(\d+)⟩ hold</summary>")
MARK = re.compile(r"<li>⟨?([✓✗])⟩? ")
# The fold of a cell's code: its accessible name is the label in sight, not one text for all.
FOLD = re.compile(r'<summary aria-label="Toggle hidden content">')
TITLE = re.compile(r'(<pre><span></span>)<span class="c1"># @title [^\n]*</span>\n')
SIGNATURE = re.compile(r'<dt class="sig .*?</dt>', re.DOTALL)

# Shipped by the theme and its extensions, used by no page of ours.
UNUSED = (
    "_static/vendor",
    "_static/locales",
    "_static/images",
    "_static/styles/theme.css",
    "_static/scripts/bootstrap.js",
    "_static/scripts/bootstrap.js.LICENSE.txt",
    "_static/webpack-macros.html",
    "_static/sbt-webpack-macros.html",
    "_static/katex/katex.min.js",
)


def _configure(app: Sphinx, config: Config) -> None:
    config.templates_path.insert(0, str(HERE / "templates"))
    config.html_static_path.append(str(HERE / "static"))
    config.html_context.setdefault("default_mode", "auto")


def mark_measured(body: str) -> str:
    """Mark claims (✓) and measured values (⟨...⟩) in printed outputs and lists of claims."""

    def mark(stream: re.Match[str]) -> str:
        text = MEASURED.sub(r'<span class="measured">\g<0></span>', stream[1])
        return CLAIM.sub(r'\1<span class="claim">✓</span> ', text)

    return CLAIMS.sub(_mark_claims, STREAM.sub(mark, body))


def _mark_claims(claims: re.Match[str]) -> str:
    """Counts and marks without brackets, which are there for the tests; values marked."""
    text = COUNTS.sub(r"\1 of \2 hold</summary>", claims[0])
    text = text.replace("<li>⟨–⟩ ", '<li><span class="sign">–</span> ')
    text = MARK.sub(r'<li><span class="sign claim">\1</span> ', text)
    return MEASURED.sub(r'<span class="measured">\g<0></span>', text)


def name_folds(body: str) -> str:
    """A folded cell goes by its label, and its code doesn't begin with the label once more."""
    return TITLE.sub(r"\1", FOLD.sub("<summary>", body))


def plain_signatures(body: str) -> str:
    """Parameters on lines of their own as spans: Sphinx makes a <dl> without a <dt> of them."""

    def mend(signature: re.Match[str]) -> str:
        text = signature[0].replace("<dl>", '<span class="sig-lines">').replace("</dl>", "</span>")
        return text.replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")

    return SIGNATURE.sub(mend, body)


def _page(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if "body" in context:
        context["body"] = name_folds(plain_signatures(mark_measured(context["body"])))
    unused = "graphviz.css"  # of an extension that autoapi brings along
    context["css_files"] = [
        css
        for css in context.get("css_files", ())
        if unused not in str(getattr(css, "filename", css))
    ]
    # The theme hides both links behind icons; `book-buttons.html` shows them as words.
    context["colab_link"] = context["download_link"] = None
    if context.get("page_source_suffix") == ".ipynb":
        source = context["pathto"]("_sources/" + context["sourcename"], resource=True)
        context["download_link"] = source
    for group in context.get("header_buttons", ()):
        for button in group.get("buttons", ()):
            if button.get("text") == "Colab":
                context["colab_link"] = button["url"]


def _tidy(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    for name in UNUSED:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path in out.rglob("*.map"):
        path.unlink()
    for path in [*out.glob("_static/**/*.js"), *out.glob("_static/**/*.css")]:
        text = path.read_text(encoding="utf-8")
        # A source map that isn't there is a failed request in a browser's developer tools.
        mended = re.sub(r"\n?(?://|/\*)# sourceMappingURL=\S+(?: \*/)?", "", text)
        if mended != text:
            path.write_text(mended, encoding="utf-8")


def setup(app: Sphinx) -> None:
    # Jupyter Book hands this on even where its owner, sphinx-comments, is left out.
    app.add_config_value("comments_config", {}, "html")
    app.connect("config-inited", _configure)
    app.connect("html-page-context", _page, priority=900)
    app.connect("build-finished", _tidy, priority=900)
    app.add_css_file("book.css", priority=900)
    app.add_js_file("book.js", loading_method="defer")
