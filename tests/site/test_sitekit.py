"""The site's own Sphinx extension: mathematics, marks, API page, and the mistakes that it names."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

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


def test_docstring_labels_and_public_names(sitekit):
    lines = ["Mean.", "", "Shapes: x [B].", "and Raises: no.", "", "Raises: ``ValueError``."]
    sitekit.api.label_paragraphs(lines)
    assert lines[2] == "**Shapes.** x [B]." and lines[3] == "and Raises: no."
    assert lines[5] == "**Raises.** ``ValueError``."
    code = "__all__ = ['f', 'C', 'N']\nN = 1\ndef f(): ...\nclass C: ...\ndef g(): ...\n"
    assert sitekit.api.public_names(code) == [("f", "function"), ("C", "class"), ("N", "data")]
    code = "def f(): ...\ndef _g(): ...\n"
    assert sitekit.api.public_names(code) == [("f", "function")]


def test_a_wrong_equation_or_link_fails_the_build(sitekit, tmp_path: Path):
    """A book of two pages, one with three mistakes: each is named, with its file, and no other."""
    shutil.copytree(ROOT / "sitekit", tmp_path / "sitekit", ignore=shutil.ignore_patterns("__py*"))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "nothing.py").write_text('"""Nothing."""\n')
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: index.md\nchapters:\n  - file: wrong.md\n"
    )
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
