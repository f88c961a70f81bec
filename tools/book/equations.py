"""Every numbered equation, with the statements that compute it."""

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from .pages import TITLE, code_cells, notebook, pages
from .solutions import solutions

EQUATIONS = re.compile(r"(?<=<!-- equations -->).*?(?=<!-- /equations -->)", re.DOTALL)
DISPLAY = re.compile(r"\$\$(.*?)\$\$", re.DOTALL)
TAG = re.compile(r"\\tag\{(.*?)\}")
NUMBER = re.compile(r"(?<!\w)\(\w+\.\d+\w*\)")  # (1.2), (A.3), (4.16b)
MAGIC = re.compile(r"^(\s*)[%!].*$", re.MULTILINE)
CHECK = re.compile(r"\s*with check\(")
COMPUTES = re.compile(r"def |return |assert |[\w, ()\[\].]+ = |.*\bclaim\(", re.DOTALL)
BLOCKS = ("body", "handlers", "orelse", "finalbody")
MOST = 3  # statements listed for a formula, if its numbers don't need more
SHORT = 8  # lines of a function or loop that is listed whole


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
def sources_of(text: str) -> list[str]:
    """A page's code cells, and the code of its solutions."""
    nb = notebook(text)
    return [cell.source for cell in code_cells(nb)] + [each for of in solutions(nb) for each in of]


def code_of(text: str) -> list[str]:
    """The lines of a page's code cells and of its solutions."""
    return [line for source in sources_of(text) for line in source.splitlines()]


@functools.lru_cache(maxsize=64)
def statements(text: str) -> list[str]:
    """The statements of a page that name an equation, in order."""
    found = []
    for source in sources_of(text):
        try:
            tree = ast.parse(source)
        except SyntaxError:
            tree = ast.parse(MAGIC.sub(r"\1pass", source))
        found += naming(tree, source.splitlines())
    return list(dict.fromkeys(map(dedent, found)))


def naming(block: ast.AST, lines: list[str], above: int = 0) -> Iterator[str]:
    """The statements of a block that name an equation, or have a comment above that does.

    Each is whole. Of a statement with a block of its own which is long, or a list of claims, only
    the head is listed, if it names one, and then what names one inside. ``above`` is the index of
    the first line that can be such a comment.
    """
    for inner in (each for field in BLOCKS for each in getattr(block, field, [])):
        first = min(part.lineno for part in [inner, *getattr(inner, "decorator_list", [])]) - 1
        end, blocks = inner.end_lineno, getattr(inner, "body", [])
        comments = (n for n in range(above, first) if NUMBER.search(TITLE.sub("", lines[n])))
        start, body = next(comments, first), end
        if blocks and start == first and (end - first > SHORT or CHECK.match(lines[first])):
            body = blocks[0].lineno - 1
            while lines[body - 1].strip()[:1] in ("", "#", "@"):
                body -= 1
        if any(map(NUMBER.search, lines[start:body])):
            indent = " " * (inner.col_offset + 4)
            yield "\n".join([*lines[start:body], *[f"{indent}..."] * (body < end)])
        if body < end:
            yield from naming(inner, lines, body)
        above = end


def rank(code: str, number: str) -> int:
    """How well a statement shows how an equation is computed: 0 is best, from 2 on not at all."""
    if re.search(rf"#.*\({re.escape(number)}\)", code):
        return 0
    return 1 if COMPUTES.match(code) else 2


def chosen(display: Display, code: list[str]) -> list[str]:
    """The best statement for each number of a formula, and others until there are ``MOST``."""
    ranked = [
        [(rank(each, number), n) for n, each in enumerate(code) if f"({number})" in each]
        for number in display.numbers
    ]
    best = {min(of)[1] for of in ranked if of}
    for how, n in sorted(found for of in ranked for found in of):
        if how < 2 and len(best) < MOST:
            best.add(n)
    return [code[n] for n in sorted(best)]


def listed(code: list[str]) -> Iterator[str]:
    """The statements, with an empty line around each that has several lines.

    In those of one line, the comment moves to the code.
    """
    for n, each in enumerate(code):
        if n > 0 and "\n" in each + code[n - 1]:
            yield ""
        yield each if "\n" in each else re.sub(r"\s+(#[^'\"]*)$", r"  \1", each)


def with_equations(root: Path, text: str) -> str:
    filled = f"\n\n{equations_in_words(root)}\n\n"
    return EQUATIONS.sub(lambda _: filled, text)


def equations_in_words(root: Path) -> str:
    """Each numbered formula, and the statements of its own page that name its numbers."""
    lines = []
    for page in pages(root):
        displays, code = numbered_displays(page.text), statements(page.text)
        if displays:
            lines += [f"## {page.title}", ""]
        link = page.link(root / "book/pages")
        heading = None
        for display in displays:
            if display.heading != heading:
                heading = display.heading
                lines += [f"### [{heading}]({link}#{anchor(heading)})", ""]
            lines += [display.markdown, "", "```python", *listed(chosen(display, code)), "```", ""]
    return "\n".join(lines).strip()
