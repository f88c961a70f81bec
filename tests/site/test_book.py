"""The book as it stands: pairs, stamps, stored outputs, Markdown, links, solutions, README."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
import yaml
from markdown_it import MarkdownIt

from book import checks, equations, pages, solutions

ROOT = Path(__file__).resolve().parents[2]
PAGES = pages.pages(ROOT)
CHAPTERS = [page for page in PAGES if page.number.isdigit()]
COMMONMARK = MarkdownIt("commonmark").enable("table")  # GitHub, Jupyter and Colab have tables too
ADMONITION = r":::(\{(note|tip|hint|important|warning|caution|seealso)\}|\{admonition\} .+)?"
DISPLAY = re.compile(r"\$\$(.*?)\$\$", re.DOTALL)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def documents() -> list[tuple[Path, str]]:
    """What is rendered in one piece: the plain pages, and each Markdown cell of a notebook."""
    found = []
    for path in [*pages.files(ROOT, "*.md"), *pages.files(ROOT, "book/**/*.md")]:
        if pages.is_notebook(path):
            cells = jupytext.reads(read(path), fmt="md:myst").cells
            found += [(path, cell.source) for cell in cells if cell.cell_type == "markdown"]
        else:
            found.append((path, re.sub(r"\A---\n.*?\n---\n", "", read(path), flags=re.DOTALL)))
    return found


DOCUMENTS = documents()


# ------------------------------------------------------------------------- pairs and outputs


def test_there_is_a_chapter_to_test():
    assert CHAPTERS and DOCUMENTS


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_notebooks_are_in_order(check):
    wrong = check(ROOT)
    assert not wrong, "\n".join(wrong)


# ------------------------------------------------------------------------- Markdown, read raw


def raw_problems(text: str) -> list[str]:
    """What a plain CommonMark reader would see of this text as mark-up, not as content."""
    wrong, tokens = [], COMMONMARK.parse(text)
    for token in tokens:
        if token.type == "fence" and token.info.startswith("{"):
            wrong.append(f"a directive: {token.info}")
        elif token.type == "html_block" and "details" in token.content:
            opening = r"<details>\s*<summary>[^\n]+</summary>"
            if not re.fullmatch(rf"({opening}|</details>)\n?", token.content):
                wrong.append(f"no blank line around {token.content[:40]!r}")
        elif token.type == "inline":
            wrong += inline_problems(token)
    html = "".join(token.content for token in tokens if token.type == "html_block")
    if html.count("<details>") != html.count("</details>"):
        wrong.append("<details> opens and closes in different cells")
    if len(re.findall(r"^:::\{", text, re.M)) != len(re.findall(r"^:::\s*$", text, re.M)):
        wrong.append("an admonition opens and closes in different cells")
    return wrong


def inline_problems(token) -> list[str]:
    wrong, children = [], token.children
    for child in children:
        if child.type == "image" and len(child.content.split()) < 4:
            wrong.append(f"a picture without alt text: {child.attrs['src']}")
    for child, after in itertools.pairwise(children):
        if after.type == "code_inline" and re.search(r"\{[\w:+-]+\}$", child.content):
            wrong.append(f"a role: {child.content[-20:]}`{after.content}`")
    plain = "".join(child.content for child in children if child.type == "text")
    wrong += [f"raw mark-up: {mark}" for mark in ("```", "{{", "[^", "+++") if mark in plain]
    for line in token.content.splitlines():
        if line.startswith(":::"):
            if not re.fullmatch(ADMONITION, line):
                wrong.append(f"not an admonition that reads well raw: {line}")
            elif line != token.content:
                wrong.append(f"no blank line around {line}")
        elif re.match(r":[\w-]+:|\([\w-]+\)=\s*$|% ", line):
            wrong.append(f"raw mark-up: {line}")
    return wrong


def maths_problems(text: str) -> list[str]:
    """Equations in a form that the site, Jupyter, Colab and GitHub don't all show."""
    for token in reversed(COMMONMARK.parse(text)):
        if token.type in ("fence", "code_block"):
            lines = text.split("\n")
            text = "\n".join(lines[: token.map[0]] + lines[token.map[1] :])
    text = re.sub(r"`[^`]*`", "", text)
    wrong = ["an odd number of $$"] if text.count("$$") % 2 else []
    for match in DISPLAY.finditer(text):
        equation, shown = match[1], match[0][:40]
        if text[: match.start()].rpartition("\n")[2].strip(" >"):
            wrong.append(f"text before {shown}")
        if text[match.end() :].partition("\n")[0].strip(" .,;"):
            wrong.append(f"text after {shown}")
        if "aligned" in equation and r"\tag" in equation:
            wrong.append(rf"\tag with aligned: {shown}")
        lines = equation.strip("\n").split("\n")
        align = re.fullmatch(r"\\begin\{(align\*?)\}.*\\end\{\1\}", equation.strip(), re.DOTALL)
        if (len(lines) > 1 or "\n" in equation) and not align:
            wrong.append(f"on several lines, but not an align: {shown}")
        if r"\begin{align" in equation.replace("aligned", "") and not align:
            wrong.append(f"an align inside something else: {shown}")
        if not align and equation.count(r"\tag") > 1:
            wrong.append(f"two tags: {shown}")
        if not all(line.strip() for line in lines):
            wrong.append(f"an empty line: {shown}")
    rest = DISPLAY.sub("", text)
    commands = [r"\begin{", r"\tag", r"\label", r"\eqref", r"\newcommand", r"\def", r"\require"]
    wrong += [f"{name} outside $$" for name in commands[:2] if name in rest]
    wrong += [f"{name} is not for every renderer" for name in commands[2:] if name in text]
    for paragraph in rest.split("\n\n"):
        if paragraph.replace(r"\$", "").count("$") % 2:
            wrong.append(f"an odd number of $: {paragraph[:60]!r}")
    return wrong


def test_markdown_survives_a_plain_renderer():
    wrong = [
        f"{path.name}: {problem}"
        for path, text in DOCUMENTS
        if path.name != "api.md"  # a frame for pages that only the site has
        for problem in raw_problems(text)
        if (path.name, problem) != ("index.md", "a directive: {live} explorer")  # read on the site
    ]
    assert not wrong, "\n".join(wrong)


def test_equations_survive_every_renderer():
    wrong = [
        f"{path.name}: {problem}" for path, text in DOCUMENTS for problem in maths_problems(text)
    ]
    assert not wrong, "\n".join(wrong)


GOOD = r"""
Text with $a$ and `{code}`, and a table:

| a | b |
| --- | --- |
| 1 | $x_1$ |

$$ a = b \tag{1.1}$$

$$\begin{align}
a &= b \tag{1.2}\\
  &= c \tag{1.3}
\end{align}$$

:::{admonition} A title

Content, with ![a picture of two digits](x.png).

:::

<details><summary>Solution</summary>

```python
print("{{")
```

</details>
"""


def test_the_allowed_forms_pass():
    assert raw_problems(GOOD) == [] and maths_problems(GOOD) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```{note}\nx\n```", "directive"),
        ("See {eq}`x`.", "role"),
        ("See {cite:p}`kingma`.", "role"),
        (":::{figure} x.png\n\n:::", "not an admonition"),
        (":::{note}\nx\n:::", "no blank line"),
        (":::{note}\n:class: dropdown\n\nx\n\n:::", "no blank line"),
        (":::{note}\n\nx", "different cells"),
        ("(target)=\n# Title", "raw mark-up"),
        ("A note[^1].", "raw mark-up"),
        ("![](x.png)", "alt text"),
        ("<details><summary>Solution</summary>\n```python\n1\n```\n</details>", "no blank line"),
        ("<details><summary>Solution</summary>\n\nx", "different cells"),
    ],
)
def test_mark_up_that_shows_raw_is_found(text, found):
    assert any(found in problem for problem in raw_problems(text))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\\begin{align}\na &= b\n\\end{align}", "outside $$"),
        ("$$\na = b\n$$", "several lines"),
        (r"$$\begin{aligned} a &= b \end{aligned} \tag{1.1}$$", "with aligned"),
        ("$$\\begin{aligned}\na &= b\n\\end{aligned}$$", "several lines"),
        (r"so $$ a = b $$", "text before"),
        (r"$$ a = b $$ \tag{1.1}", "outside $$"),
        ("$$\\begin{align}\na &= b\n\n\\end{align}$$", "empty line"),
        (r"$$ a = b \label{x}$$", "not for every renderer"),
        ("$$ a = b", "odd number"),
        ("a $b and c", "odd number"),
    ],
)
def test_an_equation_that_some_renderer_spoils_is_found(text, found):
    assert any(found in problem for problem in maths_problems(text))


def test_equations_are_numbered_by_chapter_in_order_without_gaps():
    for page in CHAPTERS:
        text = "\n".join(text for path, text in DOCUMENTS if path == page.md)
        tags = re.findall(r"\\tag\{(.*?)\}", text)
        assert tags == [f"{int(page.number)}.{k}" for k in range(1, len(tags) + 1)], page.name


def test_equation_numbers_are_unique_and_the_ones_referred_to_exist():
    texts = {path: read(path) for path, _ in DOCUMENTS if "book" in path.relative_to(ROOT).parts}
    del texts[ROOT / "book/pages/equations.md"]  # made of the others
    tags = [tag for text in texts.values() for tag in re.findall(r"\\tag\{(.*?)\}", text)]
    assert len(tags) == len(set(tags))
    for path, text in texts.items():
        for mention in re.findall(
            r"\b[Ee]q(?:uation|\.)s? ((?:\([A-Z\d.]+\)(?:, | and )?)+)", text
        ):
            for number in re.findall(r"\(([A-Z\d.]+)\)", mention):
                assert number in tags, f"{path.name} mentions equation ({number})"


# ------------------------------------------------------------------------- links


def links(text: str) -> list[str]:
    inline = [token for token in COMMONMARK.parse(text) if token.type == "inline"]
    children = [child for token in inline for child in token.children]
    return [
        str(child.attrs.get("href") or child.attrs["src"])
        for child in children
        if child.type in ("link_open", "image")
    ]


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", read(path.with_suffix(".md")), re.MULTILINE)
    return {equations.anchor(title) for title in titles}


def test_links_lead_somewhere():
    for path, text in DOCUMENTS:
        for link in links(text):
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = link.partition("#")
            file = (path.parent / target).resolve() if target else path
            if file.is_relative_to(ROOT / "api"):  # made when the site is built
                continue
            assert file.exists(), f"{path.name} links to {link}"
            assert not anchor or anchor in anchors(file), f"{path.name} links to {link}"


# ------------------------------------------------------------------------- solutions


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.name)
def test_a_chapter_has_two_to_four_solutions_with_code(page):
    """conftest.py runs them, after the cells of their notebook, under --nbval."""
    assert 2 <= len(solutions.solutions(pages.notebook(read(page.md)))) <= 4


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.name)
def test_the_last_page_lists_the_exercises_of_each_chapter(page):
    titles = re.findall(r"^\*\*(\d)\. (.*?)\.?\*\*", read(page.md), re.MULTILINE)
    assert [int(number) for number, _ in titles] == list(range(1, len(titles) + 1)) != []
    last_page = read(ROOT / "book/pages/what_next.md")
    section = last_page.partition(f"](../{page.ipynb.name}#exercises)")[2].partition("\n[Ch")[0]
    listed = re.findall(r"^(\d)\. (.*)$", section.partition("\n## ")[0], re.MULTILINE)
    assert listed == titles


# ------------------------------------------------------------------------- README and the rest


def readme_blocks(*languages: str) -> list[str]:
    tokens = COMMONMARK.parse(read(ROOT / "README.md"))
    return [t.content for t in tokens if t.type == "fence" and t.info in languages]


def test_readme_python_runs(tmp_path):
    code = "\n".join(readme_blocks("python"))
    assert code
    env = os.environ | {"MPLBACKEND": "Agg"}
    got = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True)
    assert got.returncode == 0, got.stderr.decode()


def test_readme_commands_exist():
    targets = re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), re.MULTILINE)
    lines = [
        line.partition("#")[0].strip()
        for block in readme_blocks("bash", "sh", "console")
        for line in block.splitlines()
    ]
    commands = [part.split() for line in lines for part in line.removeprefix("$ ").split("&&")]
    assert ["make", "book"] in commands and ["make", "test"] in commands
    for words in filter(None, commands):
        words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
        words[:1] = [words[0].removeprefix(".venv/bin/")]
        assert words[0] in {"make", "git", "cd", "pip", "pytest"}, words
        if words[0] == "make":
            assert set(words[1:]) <= set(targets), words
        if words[0] == "pytest":
            assert all((ROOT / word).exists() for word in words[1:] if word[0] != "-"), words


def test_the_citation_file_can_be_read():
    cff = yaml.safe_load(read(ROOT / "CITATION.cff"))
    assert cff.keys() >= {"cff-version", "message", "title", "authors", "repository-code"}
    version = re.search(r'^version = "(.*)"', read(ROOT / "pyproject.toml"), re.MULTILINE)[1]
    assert str(cff.get("version", version)) == version


@pytest.mark.parametrize("name", ["requirements-site.txt", "requirements.txt"])
def test_requirements_are_pinned_and_name_no_index(name):
    lines = [line for line in read(ROOT / name).splitlines() if line and line[0] != "#"]
    pins = [line for line in lines if line != "-r requirements-site.txt"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert not any(re.match("nvidia|cuda|triton", pin) for pin in pins)


def test_the_package_has_lower_bounds_only():
    block = re.search(r"^dependencies = \[(.*?)\]", read(ROOT / "pyproject.toml"), re.M | re.S)[1]
    bounds = re.findall(r'"(.*?)"', block)
    assert bounds and all(re.fullmatch(r"[\w-]+>=[\d.]+", bound) for bound in bounds)
    assert not any(bound.startswith("torchvision") for bound in bounds)
