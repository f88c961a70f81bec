"""The API page: `vae_core` read by static analysis (sphinx-autoapi), never imported.

A docstring is one line of meaning and short paragraphs such as ``Shapes: ...``, whose label is
set bold here. What a module's ``__all__`` names is shown, in that order, and nothing else.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LABEL = re.compile(
    r"^(Attributes|Examples?|Note|Raises|Ranges|Returns|Shapes?|Source|Units|Warning):(?= |$)"
)
logger = logging.getLogger(__name__)


def label_paragraphs(lines: list[str]) -> None:
    """Set the label that opens a paragraph bold, in place."""
    opens = True
    for at, line in enumerate(lines):
        if opens and (label := LABEL.match(line)):
            lines[at] = f"**{label[1]}.** {line[label.end() :].lstrip()}"
        opens = not line.strip()


def public_names(source: str) -> list[tuple[str, str]]:
    """Name and kind (class, exception, function or data) of what a module makes public.

    That is what its ``__all__`` names, or, as for Python, what has no underscore where it has none.
    """
    names: list[str] | None = None
    kinds: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            kinds[node.name] = "function"
        elif isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            error = any(base.endswith(("Error", "Exception", "Warning")) for base in bases)
            kinds[node.name] = "exception" if error else "class"
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            names = [str(name) for name in ast.literal_eval(node.value)]
    if names is None:
        names = [name for name in kinds if not name.startswith("_")]
    return [(name, kinds.get(name, "data")) for name in names]


class PublicModule(SphinxDirective):
    """``{public-module} vae_core.data``: the module's docstring and all it makes public."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module = self.arguments[0]
        path = Path(self.env.srcdir, "src", *module.split(".")).with_suffix(".py")
        if not path.exists():
            logger.warning("no module %s in src/", module, location=self.get_location())
            return []
        self.env.note_dependency(str(path))
        source = path.read_text(encoding="utf-8")
        intro = (ast.get_docstring(ast.parse(source)) or "").splitlines()
        label_paragraphs(intro)
        lines = [f".. py:module:: {module}", "", *intro, ""]
        public = public_names(source)
        if not public:
            logger.warning("%s makes nothing public", module, location=self.get_location())
        for name, kind in public:
            lines += [f".. autoapi{kind}:: {module}.{name}"]
            lines += ["   :members:", ""] if kind in ("class", "exception") else [""]
        holder = nodes.section()
        holder.document = self.state.document
        self.state.nested_parse(StringList(lines, source=str(path)), 0, holder)
        return holder.children


def _process(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list) -> None:
    label_paragraphs(lines)


def setup(app: Sphinx) -> None:
    app.add_directive("public-module", PublicModule)
    app.connect("autodoc-process-docstring", _process)
