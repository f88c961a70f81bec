"""The code of the exercises' folded solutions."""

from markdown_it import MarkdownIt
from nbformat import NotebookNode


def solutions(nb: NotebookNode) -> list[list[str]]:
    """The Python code of each folded solution (each <details> that has some)."""
    found, inside = [], False
    for cell in nb.cells:
        for token in MarkdownIt().parse(cell.source) if cell.cell_type == "markdown" else []:
            if token.type == "html_block" and "details>" in token.content:
                inside = "</details>" not in token.content
                found += [[]] if inside else []
            elif inside and token.type == "fence" and token.info == "python":
                found[-1].append(token.content)
    return [fences for fences in found if fences]
