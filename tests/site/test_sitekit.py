"""The site's own Sphinx extension: mathematics, marks, API page, and the mistakes that it names."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from book import pages
from served import ROOT, build


def test_katex_sets_both_forms(sitekit):
    one = sitekit.mathematics.set_formula(r"x = y \tag{1.2}", True)
    assert "katex-html" in one and "<math" in one and ">1.2<" in one
    rows = r"\begin{align} a &= b \tag{1.1}\\ &= c \tag{1.3}\end{align}"
    many = sitekit.mathematics.set_formula(rows, True)
    assert ">1.1<" in many and ">1.3<" in many
    assert sitekit.mathematics.tags(rows) == ["1.1", "1.3"]
    assert sitekit.mathematics.anchor("1.2") == "eq-1-2"


@pytest.mark.parametrize("wrong", [r"\nonsense", r"\frac{1", r"\begin{aligned} a \end{align}"])
def test_katex_errors_are_errors(sitekit, wrong: str):
    with pytest.raises(ValueError, match="xpected|Mismatch|Undefined"):
        sitekit.mathematics.set_formula(wrong, True)


def test_measured_values_and_claims_are_marked_in_outputs_only(sitekit):
    output = '<div class="output stream x"><pre><span></span>✓ d: ⟨2.5⟩, above 1</pre></div>'
    marked = sitekit.theme.mark_measured(f"<p>✓ ⟨1⟩</p>{output}")
    assert marked.startswith("<p>✓ ⟨1⟩</p>")
    assert '<span class="measured">⟨2.5⟩</span>' in marked
    assert '<span class="claim">✓</span> d' in marked


def test_a_list_of_claims_is_marked_and_loses_the_brackets_of_its_counts(sitekit):
    listed = '<details class="claims"><summary>Check: a: ⟨1⟩ of ⟨1⟩ hold</summary><ul>'
    listed += "<li>✓ a: ⟨2⟩, above 1</li><li>⟨–⟩ b: ⟨3⟩, below 1 (on MNIST)</li></ul></details>"
    marked = sitekit.theme.mark_measured(f"<p>⟨1⟩ of ⟨1⟩ hold</p>{listed}<p>⟨4⟩</p>")
    assert marked.startswith("<p>⟨1⟩ of ⟨1⟩ hold</p>") and marked.endswith("<p>⟨4⟩</p>")
    assert "<summary>Check: a: 1 of 1 hold</summary>" in marked
    assert '<li><span class="sign claim">✓</span> a: <span class="measured">⟨2⟩</span>' in marked
    assert '<li><span class="sign">–</span> b: <span class="measured">⟨3⟩</span>' in marked


def test_a_folded_cell_goes_by_its_label(sitekit, tmp_path: Path):
    """On a page built from the notebook that the book's tools make."""
    little_book(tmp_path, "folded.ipynb")
    text = "---\njupytext: {text_representation: {extension: .md, format_name: myst}}\n"
    text += "kernelspec: {display_name: Python 3, language: python, name: python3}\n---\n# T\n\n"
    text += "```{code-cell}\n# @title Code of this & that\nx = 1\n```\n"
    (tmp_path / "index.md").write_text("# Title\n\nText.\n")
    (tmp_path / "folded.ipynb").write_text(pages.as_text(pages.notebook(text)))
    result = build(tmp_path, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    html = (tmp_path / "_build/html/folded.html").read_text()
    (fold,) = re.findall(r"<details class=.*?</details>", html, re.DOTALL)
    assert "<summary>" in fold and "aria-label" not in fold
    labels = re.findall(r'<p class="(?:collapsed|expanded) [^"]*">(.*?)</p>', fold)
    assert labels == ["Code of this &amp; that", "Hide: Code of this &amp; that"]
    assert "@title" not in fold and "cell_input" in fold


def test_docstring_labels_and_public_names(sitekit):
    lines = ["Mean.", "", "Shapes: x [B].", "and Raises: no.", "", "Raises: ``ValueError``."]
    sitekit.api.label_paragraphs(lines)
    assert lines[2] == "**Shapes.** x [B]." and lines[3] == "and Raises: no."
    assert lines[5] == "**Raises.** ``ValueError``."
    code = "__all__ = ['f', 'C', 'N']\nN = 1\ndef f(): ...\nclass C: ...\ndef g(): ...\n"
    assert sitekit.api.public_names(code) == [("f", "function"), ("C", "class"), ("N", "data")]
    code = "def f(): ...\ndef _g(): ...\n"
    assert sitekit.api.public_names(code) == [("f", "function")]


def little_book(folder: Path, page: str) -> None:
    """What a book of `index.md` and one page needs besides them."""
    shutil.copytree(ROOT / "sitekit", folder / "sitekit", ignore=shutil.ignore_patterns("__py*"))
    (folder / "src").mkdir()
    (folder / "src" / "nothing.py").write_text('"""Nothing."""\n')
    shutil.copy(ROOT / "_config.yml", folder)
    toc = f"format: jb-book\nroot: index.md\nchapters:\n  - file: {page}\n"
    (folder / "_toc.yml").write_text(toc)


def test_a_page_of_words_names_a_live_figure_and_brings_its_files(sitekit, tmp_path: Path):
    little_book(tmp_path, "live.md")
    shutil.copytree(ROOT / "src/vae_book/live", tmp_path / "src/vae_book/live")
    (tmp_path / "book/live").mkdir(parents=True)
    (tmp_path / "book/live/a_plane.js").write_text("// data\n")
    shutil.copy(ROOT / "book/images/cover.png", tmp_path / "picture.png")
    figure = "# T\n\n```{live} explorer\n:name: a_plane\n:small:\n:picture: picture.png\n"
    figure += ":alt: What is to be seen\n```\n"
    (tmp_path / "index.md").write_text("# Title\n\nText.\n")
    (tmp_path / "live.md").write_text(figure)
    result = build(tmp_path, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    out = tmp_path / "_build/html"
    html = (out / "live.html").read_text()
    element = '<div class="live" data-figure="explorer" data-name="a_plane" data-size="small">'
    assert element in html and re.search(r'live-picture.*\s<img alt="What is', html)
    assert "live/load.js" in html and "live/load.js" not in (out / "index.html").read_text()
    for name in ("load.js", "parts.js", "explorer.js", "live.css", "data/a_plane.js"):
        assert (out / "_static/live" / name).exists()
    (tmp_path / "live.md").write_text(figure.replace("a_plane", "gone").replace("expl", "impl"))
    result = build(tmp_path, tmp_path)
    said = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout + result.stderr)
    assert result.returncode != 0
    for missing in (r"src/vae_book/live/implorer\.js", r"book/live/gone\.js"):
        assert re.search(rf"live\.md:3: WARNING: live figure: no file {missing}", said), said


def test_a_wrong_equation_or_link_fails_the_build(sitekit, tmp_path: Path):
    """A book of two pages, one with three mistakes: each is named, with its file, and no other."""
    little_book(tmp_path, "wrong.md")
    good = "# Title\n\n$$a = b \\tag{1.1}$$\n\nSee [(1.1)](#eq-1-1).\n"
    bad = "\n$$\\nonsense{x}$$\n\nSee [(9.9)](#eq-9-9).\n\n"
    bad += "$$\\begin{align} a &= b \\\\ &= c \\tag{1.2}\\end{align}$$\n"
    (tmp_path / "index.md").write_text(good)
    (tmp_path / "wrong.md").write_text(good.replace("1.1", "2.1").replace("1-1", "2-1") + bad)
    result = build(tmp_path, tmp_path)
    said = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout + result.stderr)
    assert result.returncode != 0
    assert re.search(r"wrong\.md:7: WARNING: KaTeX cannot set .*nonsense", said), said[-3000:]
    assert re.search(r"wrong\.md:9: WARNING: .*eq-9-9", said), said[-3000:]
    assert re.search(r"wrong\.md:11: WARNING: a row without", said), said[-3000:]
    assert len(re.findall("WARNING|ERROR", said)) == 3, said[-3000:]
    assert not re.search("eq-1-1|eq-2-1|eq-1-2", said)
