"""How long each chapter is as its reader meets it: words, cells and figures that are in sight."""

import re
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from nbformat import NotebookNode

from .pages import code_cells, notebook, pages, read_notebook, texts_of

UNSEEN = re.compile(r"<details\b.*?</details>|<!--.*?-->|^```.*?^```$", re.DOTALL | re.MULTILINE)
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL)
TOKEN = re.compile(r"\\[A-Za-z]+|[A-Za-z]+|\d+(?:[.,]\d+)*|[-+*/=<>|:!~∈]")
LAYOUT = re.compile(r"\\(?:tag|label)\{[^}]*\}|\\(?:begin|end)\{[^}]*\}|\\(?:left|right|big|Big)\b")
NOT_READ = re.compile(  # pictures, targets of links, tags, fences of boxes
    r"!\[[^\]]*\]\([^)]*\)|(?<=\])\([^)]*\)|</?[a-z][^>]*>|^:{3,}(?:\{\w+\})?", re.MULTILINE
)
WORD = re.compile(r"\w+(?:[-’'.,]\w+)*")
FOLDED = {"hide-input", "hide-cell"}


@dataclass(frozen=True)
class Form:
    """The measures of one page; the fields' names are the table's head."""

    page: str
    words: int
    cells: int
    lines: int
    longest: int
    figures: int
    diagrams: int
    folded: int


def form_of(name: str, nb: NotebookNode) -> Form:
    """The measures of a notebook with its outputs.

    words: see `visible_words`. cells, lines, longest: the code cells in sight (the set-up cell
    too), their lines that aren't blank, and those of the longest. figures: cells that show an
    image. diagrams: those of them that show an SVG. folded: code cells whose code is folded.
    """
    cells = code_cells(nb)
    in_sight = [cell for cell in cells if not FOLDED & set(cell.metadata.get("tags", []))]
    lines = [sum(bool(line.strip()) for line in c.source.splitlines()) for c in in_sight]
    kinds = [{kind for kind, _ in texts_of(cell)} for cell in cells]
    return Form(
        page=name,
        words=visible_words(nb),
        cells=len(in_sight),
        lines=sum(lines),
        longest=max(lines, default=0),
        figures=sum(any(kind.startswith("image/") for kind in of) for of in kinds),
        diagrams=sum("image/svg+xml" in of for of in kinds),
        folded=len(cells) - len(in_sight),
    )


def visible_words(nb: NotebookNode) -> int:
    """The words of the Markdown outside <details>, comments and fenced code, headings included.

    In a formula each command, run of letters, number and operator is one word.
    """
    text = "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    text = UNSEEN.sub("", text)
    tokens = sum(len(TOKEN.findall(LAYOUT.sub("", f))) for f in FORMULA.findall(text))
    plain = NOT_READ.sub("", FORMULA.sub(" ", text))
    return tokens + len(WORD.findall(plain))


def form(root: Path) -> str:
    """The table of all pages, ready to print."""
    rows = [[field.name for field in fields(Form)]]
    for page in pages(root):
        stored = read_notebook(page.ipynb) if page.ipynb.exists() else None
        measures = form_of(page.name, notebook(page.text, stored))
        rows.append([str(measure) for measure in astuple(measures)])
    width = max(len(row[0]) for row in rows)
    return "\n".join(
        f"{row[0]:<{width}}" + "".join(f"{measure:>10}" for measure in row[1:]) for row in rows
    )
