"""Every numbered equation, with the lines of code that compute it."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from .pages import code_cells, notebook, pages
from .solutions import solutions

EQUATIONS = re.compile(r"(?<=<!-- equations -->).*?(?=<!-- /equations -->)", re.DOTALL)
DISPLAY = re.compile(r"\$\$(.*?)\$\$", re.DOTALL)
TAG = re.compile(r"\\tag\{(.*?)\}")


@dataclass(frozen=True)
class Display:
    """A displayed formula with one or more numbers: its Markdown, and the heading above it."""

    markdown: str
    numbers: list[str]
    heading: str


def numbered_displays(text: str) -> list[Display]:
    """Every displayed formula of a page's Markdown that has a number, in order."""
    text, found = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), []
    for match in DISPLAY.finditer(text):
        if numbers := TAG.findall(match[0]):
            heading = re.findall(r"^#+ (.*)$", text[: match.start()], re.MULTILINE)[-1]
            found.append(Display(match[0], numbers, heading))
    return found


def anchor(heading: str) -> str:
    """GitHub's anchor of a heading, which the site uses too."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@functools.lru_cache(maxsize=64)
def code_of(text: str) -> list[str]:
    """The lines of a page's code cells and of its solutions."""
    nb = notebook(text)
    sources = [cell.source for cell in code_cells(nb)]
    sources += [fence for fences in solutions(nb) for fence in fences]
    return [line for source in sources for line in source.splitlines()]


def with_equations(root: Path, text: str) -> str:
    listed = f"\n\n{equations_in_words(root)}\n\n"
    return EQUATIONS.sub(lambda _: listed, text)


def equations_in_words(root: Path) -> str:
    """Each numbered formula, and the lines of code of its own page that name its numbers."""
    lines = []
    for page in pages(root):
        text, code = page.text, code_of(page.text)
        displays = numbered_displays(text)
        if displays:
            lines += [f"## {page.title}", ""]
        link = page.link(root / "book/pages")
        heading = None
        for display in displays:
            if display.heading != heading:
                heading = display.heading
                lines += [f"### [{heading}]({link}#{anchor(heading)})", ""]
            marks = [f"({number})" for number in display.numbers]
            named = [line.strip() for line in code if any(mark in line for mark in marks)]
            lines += [display.markdown, "", "```python", *dict.fromkeys(named), "```", ""]
    return "\n".join(lines).strip()
