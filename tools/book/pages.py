"""The notebooks of the book: each a pair of files, ``.md`` (the source) and ``.ipynb``."""

import functools
import hashlib
import os
import re
from collections import defaultdict, deque
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
import yaml
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
TITLE = re.compile(r"# @title (.+)(?:\n|$)")  # Colab's form: the first line of a folded cell
CLAIMS_AS_HTML = '<details class="claims">'
LIVE = re.compile(r'<div class="live" data-figure="\w+" data-name="(\w+)"')
WIDGET = "application/vnd.jupyter.widget-view+json"


class Refused(Exception):
    """The command can't be carried out, and nothing was changed."""


@dataclass(frozen=True)
class Page:
    """A notebook of the book, as two files."""

    md: Path

    @property
    def text(self) -> str:
        return self.md.read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        found = re.search(r"^# (.*)$", self.text, re.MULTILINE)
        return found[1] if found else self.name

    def link(self, folder: Path) -> str:
        """The link to this page from a page in that folder."""
        return os.path.relpath(self.ipynb, folder).replace(os.sep, "/")

    @property
    def ipynb(self) -> Path:
        return self.md.with_suffix(".ipynb")

    @property
    def name(self) -> str:
        return self.md.stem

    @property
    def number(self) -> str:
        return self.name.split("_")[0]


def pages(root: Path, chapter: str | None = None) -> list[Page]:
    """Every notebook of the book, or the one with this name or number (``01``, ``1``)."""
    found = [Page(md) for md in files(root, "book/**/*.md") if is_notebook(md)]
    if chapter is None:
        return found
    chosen = [p for p in found if chapter in (p.name, p.number, p.number.lstrip("0"))]
    if not chosen:
        raise Refused(f"chapter: expected one of {[p.name for p in found]}, got {chapter!r}")
    return chosen


def files(root: Path, glob: str) -> list[Path]:
    """The files that match, without hidden ones such as Jupyter's checkpoints."""
    return sorted(
        path
        for path in root.glob(glob)
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def is_notebook(md: Path) -> bool:
    text = md.read_text(encoding="utf-8")
    if not text.startswith("---\n") or "\n---\n" not in text:
        return False
    return "jupytext" in (yaml.safe_load(text[4:].split("\n---\n")[0]) or {})


def read_notebook(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def notebooks(root: Path) -> list[tuple[Page, NotebookNode]]:
    return [(page, read_notebook(page.ipynb)) for page in pages(root) if page.ipynb.exists()]


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def texts_of(cell: NotebookNode) -> list[tuple[str, str]]:
    """A cell's outputs as (kind, text); of a picture only that there is one.

    The HTML form of a list of claims is left out: its plain text says the same.
    """
    texts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            texts.append((output.name, output.text))
        for kind, content in sorted(output.get("data", {}).items()):
            if kind != WIDGET and CLAIMS_AS_HTML not in content:
                texts.append((kind, "" if kind.startswith("image/") else str(content)))
        if output.output_type == "error":
            texts.append(("error", f"{output.ename}: {output.evalue}"))
    return texts


def live_file(root: Path, name: str) -> Path:
    """Where the data of a live figure are."""
    return root / "book/live" / f"{name}.js"


def live_names(nb: NotebookNode) -> list[str]:
    """The names of the live figures that have data, in order."""
    texts = (text for cell in code_cells(nb) for _, text in texts_of(cell))
    return [name for text in texts for name in LIVE.findall(text)]


def fold_label(cell: NotebookNode) -> str | None:
    """The label of a folded code cell, whose first line is ``# @title LABEL``; None of others."""
    found = TITLE.match(cell.source) if cell.cell_type == "code" else None
    return found[1].strip() if found else None


def fold(cell: NotebookNode, label: str) -> None:
    """Fold a code cell on the site, in JupyterLab and on Colab; what else it says of itself stays.

    Its outputs stay in sight.
    """
    metadata = cell.metadata
    tags = [tag for tag in metadata.get("tags", []) if tag != "hide-input"]
    prompts = {"code_prompt_show": label, "code_prompt_hide": f"Hide: {label}"}
    metadata["tags"] = [*tags, "hide-input"]
    metadata["jupyter"] = {**metadata.get("jupyter", {}), "source_hidden": True}
    metadata["cellView"] = "form"
    metadata["mystnb"] = {**metadata.get("mystnb", {}), **prompts}


def errors(cell: NotebookNode) -> list[NotebookNode]:
    return [output for output in cell.outputs if output.output_type == "error"]


@functools.lru_cache(maxsize=64)  # each page once, not each time that one of them changes
def _parsed(text: str) -> NotebookNode:
    nb = jupytext.reads(text, fmt="md:myst")
    nb.nbformat, nb.nbformat_minor = 4, 5
    return nb


def notebook(text: str, stored: NotebookNode | None = None) -> NotebookNode:
    """The notebook of a page's Markdown, with the stored outputs of the cells that are the same."""
    nb = deepcopy(_parsed(text))
    outputs = defaultdict(deque)
    for cell in code_cells(stored) if stored else []:
        outputs[neutral(cell.source)].append(cell)
    seen = defaultdict(int)
    for cell in nb.cells:
        digest = sha256(f"{cell.cell_type}:{neutral(cell.source)}")[:12]
        seen[digest] += 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        if label := fold_label(cell):
            fold(cell, label)
        if cell.cell_type == "code" and outputs[neutral(cell.source)]:
            same = outputs[neutral(cell.source)].popleft()
            cell.outputs, cell.execution_count = same.outputs, same.execution_count
    nb.metadata = nbformat.from_dict(
        {
            "jupytext": {
                "formats": "ipynb,md:myst",
                "text_representation": {"extension": ".md", "format_name": "myst"},
            },
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    if stored and "vae_book" in stored.metadata:
        nb.metadata["vae_book"] = stored.metadata["vae_book"]
    return nb


def neutral(source: str) -> str:
    """A cell's source without the repository's address, which changes nothing it computes."""
    return re.sub(r"git\+https://\S+", "git+https://", source)


def code_hash(nb: NotebookNode) -> str:
    return sha256("\0".join(neutral(cell.source) for cell in code_cells(nb)))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def as_text(nb: NotebookNode) -> str:
    nbformat.validate(nb)
    return nbformat.writes(nb) + "\n"


def write(path: Path, content: str | bytes) -> bool:
    """Write atomically, and only if something changes; say whether it did."""
    if isinstance(content, str):
        content = content.encode()
    if path.exists() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)
    return True
