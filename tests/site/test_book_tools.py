"""The book's tools on little books of their own, in a temporary folder."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

from book import __main__ as cli
from book import (
    checks,
    claims,
    equations,
    execute,
    form,
    kernel,
    pages,
    reproduce,
    run_times,
    sync,
)

ROOT = Path(__file__).resolve().parents[2]
URL = "https://github.com/YOUR_ACCOUNT/vae-book"
SETUP = f"""import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("vae_core") is None:
    %pip install --quiet git+{URL}"""


def markdown(*cells: str) -> str:
    """A page whose code cells are these, after the set-up cell."""
    head = "---\njupytext:\n  text_representation: {extension: .md, format_name: myst}\n"
    head += "kernelspec: {display_name: Python 3, language: python, name: python3}\n---\n"
    text = head + "\n# Try this\n\nIt takes <!-- time --><!-- /time --> to run.\n"
    for source in (SETUP, *cells):
        text += f"\n```{{code-cell}} ipython3\n{source}\n```\n\nWhat to see.\n"
    return text


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A book of one page; its "MNIST" is a claim made by the probe."""
    (tmp_path / "book/pages").mkdir(parents=True)
    shutil.copy(ROOT / "conftest.py", tmp_path)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tools/book", tmp_path / "tools/book", ignore=skip)
    shutil.copy(ROOT / "tools/nbval_masks.cfg", tmp_path / "tools")
    (tmp_path / "_config.yml").write_text(f"repository:\n  url: {URL}\n")
    (tmp_path / "pyproject.toml").write_text(
        f'[project.urls]\nRepository = "{URL}"\n\n[tool.pytest.ini_options]\n'
    )
    (tmp_path / "README.md").write_text(
        f"[source]({URL}), `pip install git+{URL}.git`,\n"
        "[Colab](https://colab.research.google.com/github/YOUR_ACCOUNT/vae-book/blob/main/x.ipynb),"
        "\n[site](https://YOUR_ACCOUNT.github.io/vae-book/), [other](https://github.com/a/b)\n"
    )
    (tmp_path / "CITATION.cff").write_text(f'repository-code: "{URL}"\n')
    (tmp_path / "book/pages/run_times.md").write_text("# Times\n\n<!-- time --><!-- /time -->\n")
    (tmp_path / "book/01_try.md").write_text(markdown('print("a: ⟨1.00⟩")', 'print("b")'))
    monkeypatch.setattr(kernel, "PROBE", "print('mnist')")
    return tmp_path


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return tmp_path_factory.mktemp("executed") / "book"


@pytest.fixture
def executed(root, template):
    """The same little book after `make execute` (run once, then copied)."""
    if template.exists():
        shutil.copytree(template, root / "book", dirs_exist_ok=True)
    else:
        assert cli.main(["execute"], root) == 0
        shutil.copytree(root / "book", template)
    return root


def write_page(root: Path, *cells: str) -> None:
    (root / "book/01_try.md").write_text(markdown(*cells), encoding="utf-8")


def stored(root: Path) -> nbformat.NotebookNode:
    return nbformat.read(root / "book/01_try.ipynb", as_version=4)


def outputs(root: Path) -> list[str]:
    cells = pages.code_cells(stored(root))
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]


def edit_stored(root: Path, old: str, new: str) -> None:
    path = root / "book/01_try.ipynb"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def everything(root: Path) -> dict[str, bytes]:
    skip = ("__pycache__", ".pytest_cache")
    files = [p for p in root.rglob("*") if p.is_file() and not set(skip) & set(p.parts)]
    return {str(path): path.read_bytes() for path in files}


def problems(root: Path) -> list[str]:
    return [message for check in checks.CHECKS for message in check(root)]


# ------------------------------------------------------------------------------------ sync


def test_sync_keeps_the_outputs_of_unchanged_cells_only(executed):
    assert outputs(executed) == ["", "a: ⟨1.00⟩\n", "b\n"]
    write_page(executed, 'print("new")', 'print("a: ⟨1.00⟩")', 'print("b, changed")')
    sync.sync(executed)
    assert outputs(executed) == ["", "", "a: ⟨1.00⟩\n", ""]


def test_sync_is_idempotent_and_cell_ids_stay_when_a_cell_is_inserted(root):
    sync.sync(root)
    before = everything(root)
    assert sync.sync(root) == [] and everything(root) == before
    ids = {cell.source: cell.id for cell in pages.code_cells(stored(root))}
    write_page(root, 'print("a: ⟨1.00⟩")', "x = 1", 'print("b")')
    sync.sync(root)
    after = {cell.source: cell.id for cell in pages.code_cells(stored(root))}
    assert all(after[source] == ids[source] for source in ids)
    all_ids = [cell.id for cell in stored(root).cells]
    assert len(set(all_ids)) == len(all_ids)


def test_jupyters_checkpoints_are_no_pages(executed):
    folder = executed / "book/.ipynb_checkpoints"
    folder.mkdir()
    for suffix in ("md", "ipynb"):
        shutil.copy(executed / f"book/01_try.{suffix}", folder / f"01_try-checkpoint.{suffix}")
    assert [page.name for page in pages.pages(executed)] == ["01_try"]
    assert problems(executed) == []


def test_an_executed_book_has_nothing_to_complain_of(executed):
    assert problems(executed) == []
    assert cli.main(["check"], executed) == 0
    made = stored(executed).metadata["vae_book"]
    assert (made["data"], made["seed"], made["threads"]) == ("mnist", 0, 2)
    assert made["versions"]["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_a_markdown_file_edited_without_its_notebook_is_found(executed):
    path = executed / "book/01_try.md"
    path.write_text(path.read_text().replace("What to see.", "What not to see.", 1))
    assert any("01_try.ipynb: differs" in message for message in checks.check_pairs(executed))
    assert checks.check_stamps(executed) == []  # the code is the same, so the outputs are right
    assert cli.main(["check"], executed) == 1


def test_a_stale_stamp_is_found_even_where_outputs_were_kept(executed):
    path = executed / "book/01_try.md"
    path.write_text(path.read_text().replace('print("b")', 'print("b")  # and more'))
    sync.sync(executed)
    assert checks.check_pairs(executed) == []
    assert any("not of this code" in message for message in checks.check_stamps(executed))


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ('"data": "mnist"', '"data": "strokes"', "data: expected mnist, got strokes"),
        ('"torch":', '"torch_":', "versions of ['torch']"),
        ('"execution_count": 3', '"execution_count": null', "was not run"),
        ("b\\n", "/home/somebody/b\\n", "of this machine only"),
        ('print(\\"b\\")', '# NBVAL_SKIP\\nprint(\\"b\\")', "opts out"),
        ('"language_info"', '"widgets": {}, "language_info"', "widget state"),
    ],
)
def test_check_finds_what_is_wrong_in_a_stored_notebook(executed, old, new, found):
    edit_stored(executed, old, new)
    assert any(found in message for message in problems(executed))


def test_check_finds_a_picture_without_alt_text(root):
    figure = "from IPython.display import display\n"
    figure += "display({'image/png': 'iVBORw0KGgo='}, raw=True)"
    write_page(root, figure)
    assert cli.main(["execute"], root) == 0
    assert any("picture without alt text" in message for message in checks.check_alt_text(root))
    alt = "---\nmystnb: {image: {alt: A line that rises from one to two.}}\n---\n"
    write_page(root, alt + figure)
    assert cli.main(["execute"], root) == 0
    assert problems(root) == []


def test_check_finds_an_orphan_and_different_setup_cells(executed):
    text = (executed / "book/01_try.md").read_text()
    (executed / "book/02_more.md").write_text(text.replace("--quiet", "--pre"))
    sync.sync(executed)
    assert any("differ" in message for message in checks.check_setup_cells(executed))
    (executed / "book/02_more.md").unlink()
    assert any("02_more.ipynb: has no .md" in message for message in checks.check_pairs(executed))


# ------------------------------------------------------------------------------------ addresses


def test_the_address_is_put_into_every_place_and_back(executed):
    before = everything(executed)
    assert cli.main(["address", "https://github.com/Ada-L/my.vae"], executed) == 0
    texts = {path: text.decode() for path, text in everything(executed).items()}
    assert not any(
        "YOUR_ACCOUNT" in text or "vae-book" in text.replace("/vae-book/", "")
        for path, text in texts.items()
        if "conftest" not in path
    )
    readme = (executed / "README.md").read_text()
    assert "[source](https://github.com/Ada-L/my.vae)," in readme
    assert "git+https://github.com/Ada-L/my.vae.git`" in readme
    assert "/github/Ada-L/my.vae/blob/main/" in readme
    assert "(https://Ada-L.github.io/my.vae/)" in readme
    assert "https://github.com/a/b" in readme
    assert "git+https://github.com/Ada-L/my.vae" in stored(executed).cells[1].source
    assert problems(executed) == []  # no output was lost, no stamp went stale
    assert cli.main(["address", URL], executed) == 0
    assert everything(executed) == before


def test_check_finds_an_address_that_disagrees(executed):
    (executed / "CITATION.cff").write_text("repository-code: https://github.com/x/vae-book\n")
    assert any("CITATION.cff" in message for message in checks.check_pairs(executed))
    assert any("CITATION.cff" in message for message in checks.check_addresses(executed))


@pytest.mark.parametrize(
    "url", ["github.com/a/b", "https://gitlab.com/a/b", "https://github.com/a"]
)
def test_an_address_that_is_none_is_refused(root, url, capsys):
    before = everything(root)
    assert cli.main(["address", url], root) == 2
    assert "expected https://github.com/OWNER/NAME" in capsys.readouterr().err
    assert everything(root) == before


# ------------------------------------------------------------------------------------ execute


def test_executing_twice_leaves_the_same_bytes(root):
    figure = "---\nmystnb: {image: {alt: A line that rises from one to two.}}\n---\n"
    figure += (
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nprint('x', flush=True)\nprint('y')"
    )
    write_page(root, figure, "import random\nrandom.seed(0)\nprint(random.random())")
    assert cli.main(["execute"], root) == 0
    before = everything(root)
    assert cli.main(["execute", "01"], root) == 0
    assert everything(root) == before
    streams = [output for output in stored(root).cells[3].outputs if output.output_type == "stream"]
    assert [output.text for output in streams] == ["x\ny\n"]


# A stand-in for vae_book.live: it displays the element and writes the data, where it is asked to.
LIVE = """
import os, pathlib
from IPython.display import HTML, display

def live(name, data):
    folder = os.environ.get("VAE_CORE_LIVE")
    if folder:
        (pathlib.Path(folder) / f"{name}.js").write_text(data)
    display(HTML(f'<div class="live" data-figure="kl" data-name="{name}"><div></div></div>'))
"""


def test_pages_with_stored_results_are_found_by_what_they_import(root):
    modules = root / "src/vae_book"
    modules.mkdir(parents=True)
    (modules / "slow.py").write_text('@stored("slow", "mnist")\ndef result():\n    ...\n')
    (modules / "quick.py").write_text("from vae_book.stored import SWITCH\n")
    for source, stored in {
        "from vae_book.slow import result": True,
        "from vae_book import slow": True,
        "import vae_book.slow as s": True,
        "from vae_book.quick import result": False,
        "from slow import result": False,
    }.items():
        write_page(root, source)
        (page,) = pages.pages(root, None)
        assert execute.stores(root, pages.notebook(page.text, None)) is stored, source


def test_the_data_of_live_figures_are_written_by_execute_alone(root):
    write_page(root, LIVE + "live('one', '1')\nlive('two', '2')")
    folder = root / "book/live"
    assert cli.main(["execute"], root) == 0
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "one.js": "1", "two.js": "2",
    }  # fmt: skip
    assert problems(root) == []
    (folder / "one.js").write_text("measured otherwise")
    assert cli.main(["reproduce"], root) == 0
    assert (folder / "one.js").read_text() == "measured otherwise"
    assert problems(root) == ["book/live/one.js: isn't what the page made (run `make execute`)"]

    write_page(root, LIVE + "live('one', '1')\n1 / 0")
    assert cli.main(["execute"], root) == 1  # nothing is stored
    assert (folder / "one.js").read_text() == "measured otherwise" and (folder / "two.js").exists()

    write_page(root, LIVE + "live('one', '3')")
    assert cli.main(["execute"], root) == 0
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"one.js": "3"}
    assert problems(root) == []


def test_check_finds_live_data_that_nobody_made_or_that_are_gone(root):
    write_page(root, LIVE + "live('one', '1')")
    assert cli.main(["execute"], root) == 0
    (root / "book/live/stray.js").write_text("")
    assert problems(root) == ["book/live/stray.js: no page has made it"]
    (root / "book/live/stray.js").unlink()
    (root / "book/live/one.js").unlink()
    assert problems(root) == ["book/live/one.js: isn't what the page made (run `make execute`)"]
    edit_stored(root, 'data-name=\\"one\\"', 'data-name=\\"other\\"')
    assert any("shows live figures ['other'], made ['one']" in each for each in problems(root))


def test_a_failing_cell_stores_nothing(executed, capsys):
    write_page(executed, 'print("a: ⟨1.00⟩")', "1 / 0")
    before = everything(executed)
    assert cli.main(["execute"], executed) == 1
    assert everything(executed) == before
    out = capsys.readouterr().out
    assert "code cell 3 failed" in out and "ZeroDivisionError" in out


def test_nothing_is_executed_or_compared_without_mnist(root, monkeypatch, capsys):
    monkeypatch.setattr(kernel, "PROBE", "raise OSError('mnist: no such folder')")
    before = everything(root)
    for command in ("execute", "reproduce"):
        assert cli.main([command], root) == 2
        assert "OSError: mnist: no such folder" in capsys.readouterr().err
    monkeypatch.setattr(kernel, "PROBE", "print('strokes')")
    assert cli.main(["execute"], root) == 2
    assert everything(root) == before


def test_outputs_are_not_stored_if_the_notebook_changed_the_data(root, monkeypatch, capsys):
    monkeypatch.setattr(kernel, "PROBE", "import os; print(os.environ['VAE_CORE_DATA'])")
    write_page(root, "import os\nos.environ['VAE_CORE_DATA'] = 'strokes'")
    before = everything(root)
    assert cli.main(["execute"], root) == 1
    assert "expected 'mnist' at the end of the notebook, got 'strokes'" in capsys.readouterr().out
    assert everything(root) == before


def test_a_chapter_is_named_by_number_or_name(root, capsys):
    for chapter in ("01", "1", "01_try"):
        assert [page.name for page in pages.pages(root, chapter)] == ["01_try"]
    assert cli.main(["execute", "07"], root) == 2
    assert "expected one of ['01_try'], got '07'" in capsys.readouterr().err


# ------------------------------------------------------------------------------------ run times


def test_a_run_time_changes_only_if_it_changed_much(root):
    for seconds, expected in ((41, 40), (52, 40), (28, 40), (63, 65), (45, 65), (22, 20)):
        run_times.store_time(root, "01_try", seconds)
        assert run_times.read_times(root) == {"01_try": expected}
    assert json.loads((root / "book/run_times.json").read_text()) == {"01_try": {"seconds": 20}}
    sync.sync(root)
    assert "<!-- time -->about 20 seconds<!-- /time -->" in (root / "book/01_try.md").read_text()
    table = (root / "book/pages/run_times.md").read_text()
    assert "| [Try this](../01_try.ipynb) | about 20 seconds |" in table


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "not measured yet"),
        (5, "a few seconds"),
        (40, "about 40 seconds"),
        (90, "about 1.5 minutes"),
        (130, "about 2 minutes"),
    ],
)
def test_run_times_in_words(seconds, words):
    assert run_times.in_words(seconds) == words


# ------------------------------------------------------------------------------------ comparing


@pytest.mark.parametrize(
    ("stored", "got", "same"),
    [
        ("1.00", "1.09", True),
        ("1.00", "1.20", False),
        ("-1.00", "1.00", False),
        ("−1.00", "-1.05", True),
        ("0.01", "0.02", True),  # one unit of the last digit
        ("0.010", "0.020", False),
        ("1.2e-03", "1.3e-03", True),
        ("1.2e-03", "1.2e-04", False),
        ("55,000 training", "55,100 training", True),
        ("55,000 training", "20,000 training", False),
        ("mnist: 10", "strokes: 10", False),
        (" 9.9 of 12", "10.1 of 12", True),
        ("1, 2", "1, 2, 3", False),
        ("z1 = 5", "z2 = 5", False),
        ("nan", "1.0", False),
        ("nan", "inf", False),
        ("weights stored with the book", "trained now", True),
        ("trained now", "stopped after 3 steps", False),
    ],
)
def test_measured_values_agree_within_the_tolerance(stored, got, same):
    assert reproduce.agree(stored, got) is same


def test_text_outside_the_brackets_must_be_equal():
    assert reproduce.compare("a ⟨1.0⟩ b", "a ⟨1.0⟩ c") == [("a ⟨1.0⟩ b", "a ⟨1.0⟩ c")]
    assert reproduce.compare("a ⟨1.0⟩\nb 2\n", "a ⟨1.0⟩\nb 3\n") == [("b 2", "b 3")]
    assert reproduce.compare("a ⟨1.0⟩ ⟨x⟩", "a ⟨2.0⟩ ⟨y⟩") == [("⟨1.0⟩", "⟨2.0⟩"), ("⟨x⟩", "⟨y⟩")]
    assert reproduce.compare("a\n", "a\nb\n") == [("a\n", "a\nb\n")]
    # A value claimed to lie below a bound is compared on the bound's scale; no other value is.
    assert reproduce.compare("⟨1e-07⟩, below 1e-05", "⟨9e-07⟩, below 1e-05") == []
    assert (
        reproduce.compare("⟨1e-7⟩, above 0 and below 1e-5", "⟨9e-7⟩, above 0 and below 1e-5") == []
    )
    assert reproduce.compare("⟨1e-07⟩, below 1e-05", "⟨2e-06⟩, below 1e-05") != []
    assert reproduce.compare("⟨1e-07⟩, above 1e-08", "⟨9e-07⟩, above 1e-08") != []


def test_reproduce_finds_a_value_that_moved_and_lets_pass_one_that_did_not(executed, capsys):
    assert cli.main(["reproduce"], executed) == 0
    edit_stored(executed, "⟨1.00⟩\\n", "⟨1.01⟩\\n")
    assert cli.main(["reproduce", "01"], executed) == 0
    edit_stored(executed, "⟨1.01⟩\\n", "⟨1.20⟩\\n")
    before = everything(executed)
    capsys.readouterr()
    assert cli.main(["reproduce"], executed) == 1
    out = capsys.readouterr().out
    assert "01_try.ipynb, code cell 2\n  stored: ⟨1.20⟩\n  got:    ⟨1.00⟩" in out
    assert everything(executed) == before


# ------------------------------------------------------------------------------------ nbval


def run_pytest(root: Path, folder: str = ".", target: str = "book") -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("VAE_CORE", "PYTEST"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no"]
    return subprocess.run(
        [*command, "--nbval", target], cwd=root / folder, env=env, capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "target"), [(".", "book"), ("book", "."), ("..", "{root}/book")]
)
def test_bare_nbval_masks_measured_values_only(executed, folder, target):
    """From the executed, from inside the book and from elsewhere."""
    target = target.format(root=executed)
    edit_stored(executed, "⟨1.00⟩\\n", "⟨on strokes 7.31⟩\\n")
    passed = run_pytest(executed, folder, target)
    assert passed.returncode == 0 and "3 passed" in passed.stdout, passed.stdout
    edit_stored(executed, '"b\\n"', '"c\\n"')
    failed = run_pytest(executed, folder, target)
    assert failed.returncode == 1 and "1 failed, 2 passed" in failed.stdout, failed.stdout


@pytest.mark.slow
def test_solutions_run_after_the_cells_of_their_notebook(root):
    solution = "\n<details>\n<summary>Solution</summary>\n\n```python\n{}\n```\n\n</details>\n"
    page = markdown("x = 1") + solution.format("assert x == 1\ny = 2")
    (root / "book/01_try.md").write_text(page + solution.format("assert y == 2"))
    cli.main(["execute"], root)
    passed = run_pytest(root)
    assert passed.returncode == 0 and "4 passed" in passed.stdout, passed.stdout
    (root / "book/01_try.md").write_text(page + solution.format("assert y == 3"))
    sync.sync(root)
    failed = run_pytest(root)
    assert "1 failed, 3 passed" in failed.stdout and "Cell 3" in failed.stdout, failed.stdout


@pytest.mark.slow
def test_under_pytest_a_notebook_gets_strokes_and_no_progress_bars(root):
    names = ["VAE_CORE_DATA", "VAE_CORE_PROGRESS", "OMP_WAIT_POLICY"]
    names += ["GOMP_SPINCOUNT"]
    write_page(root, f"import os\nprint([os.environ[name] for name in {names}])")
    cli.main(["execute"], root)
    edit_stored(root, "['mnist'", "['strokes'")
    passed = run_pytest(root)
    assert passed.returncode == 0, passed.stdout


def test_the_tests_run_without_nbval(root):
    (root / "test_one.py").write_text(
        "def test_one():\n    import os\n    assert os.environ['VAE_CORE_DATA'] == 'strokes'\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:nbval", "test_one.py"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("VAE_CORE")}
    got = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    assert got.returncode == 0, got.stdout + got.stderr


def test_the_cover_is_the_output_of_the_tagged_cell(executed):
    picture = base64.b64encode(b"a picture").decode()
    notebook = pages.read_notebook(executed / "book/01_try.ipynb")
    cell = pages.code_cells(notebook)[-1]
    cell.metadata["tags"] = ["cover"]
    cell.outputs = [nbformat.v4.new_output("display_data", {"image/png": picture})]
    (executed / "book/01_try.ipynb").write_text(pages.as_text(notebook))
    assert sync.cover(executed) == b"a picture"
    assert any("cover.png" in message for message in checks.check_cover(executed))
    pages.write(executed / sync.COVER, sync.cover(executed))
    assert checks.check_cover(executed) == []


# ------------------------------------------------------------------------------------ claims


CLAIMING = """import os
from vae_book import data
from vae_book.claims import check, claim
name, seed = os.environ['VAE_CORE_DATA'], int(os.environ['VAE_CORE_SEED'])
data._last_loaded = name
x = seed + 10 * (name == 'strokes') + 20 * (name == 'brush')
claim('one line', x, above=-1)
with check('a list'):
    claim('seed and data', x, above=-1)
    claim('only here', x, below=5, only='mnist')"""


@pytest.fixture
def claiming(executed, monkeypatch):
    """A little book with claims in both forms, to be tried with two seeds."""
    monkeypatch.setattr(claims, "CLAIM_SEEDS", dict.fromkeys(claims.CLAIM_DATA, range(2)))
    monkeypatch.setattr(kernel, "PROBE", "import os; print(os.environ['VAE_CORE_DATA'])")
    page = executed / "book/pages/claims.md"
    page.write_text("# Claims\n\n<!-- claims --><!-- /claims -->\n")
    write_page(executed, CLAIMING)
    return executed


def edit_page(root: Path, old: str, new: str) -> None:
    page = root / "book/01_try.md"
    assert old in page.read_text(encoding="utf-8")
    page.write_text(page.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def test_claims_are_tried_on_three_data_sets_and_their_ranges_stored(claiming):
    assert cli.main(["execute"], claiming) == 0
    assert checks.check_claims(claiming) == [
        "01_try: its claims aren't those of claims.json (run `make claims`)"
    ]
    assert cli.main(["claims"], claiming) == 0
    ranges = {"mnist": [0, 1], "strokes": [10, 11], "brush": [20, 21]}
    assert json.loads((claiming / "book/claims.json").read_text())["01_try"] == [
        {"claim": "one line", "bound": "above -1"} | ranges,
        {"claim": "seed and data", "bound": "above -1"} | ranges,
        {"claim": "only here", "bound": "below 5 (on MNIST)"} | ranges,
    ]
    assert cli.main(["sync"], claiming) == 0
    table = (claiming / "book/pages/claims.md").read_text()
    check, others = table.split("### Check: a list\n")[1].split("### Other claims\n")
    assert "| only here | below 5 (on MNIST) | 0 to 1 | (10 to 11) | (20 to 21) |" in check
    assert "| seed and data | above −1 | 0 to 1 | 10 to 11 | 20 to 21 |" in check
    assert "| one line | above −1 |" in others and "one line" not in check
    assert "## [Try this](../01_try.ipynb)\n" in table
    assert checks.check_claims(claiming) == []
    edit_stored(claiming, "✓ seed and data: ⟨0⟩, above -1\\n", "✓ seed and data: ⟨5⟩, above -1\\n")
    assert checks.check_claims(claiming) == ["01_try: seed and data: 5 isn't from 0 to 1"]


def test_a_range_of_before_the_third_data_set_is_a_dash(claiming):
    row = {"claim": "a", "bound": "above 1", "mnist": [2, 3], "strokes": [4, 5]}
    (claiming / "book/claims.json").write_text(json.dumps({"01_try": [row]}))
    table = claims.claims_in_words(claiming)
    assert "| a | above 1 | 2 to 3 | 4 to 5 | – |" in table
    assert "###" not in table  # a page without a check needs no heading for the others


def test_the_claims_of_a_cell_that_was_edited_stand_in_no_check_until_it_is_run(claiming):
    assert cli.main(["execute"], claiming) == 0
    page = pages.pages(claiming)[0]
    assert claims.labels_of(page)["seed and data", "above -1"] == ["a list"]
    edit_page(claiming, "'a list'", "'one list'")
    assert claims.labels_of(page) == {}
    sync.sync(claiming)
    assert claims.labels_of(page) == {}


def test_two_checks_may_have_the_same_claim(executed):
    row = {"claim": "same", "bound": "above 1", "mnist": [2, 2]}
    (executed / "book/claims.json").write_text(json.dumps({"01_try": [row, row, row]}))
    shown = '<details class="claims"><summary>Check: {}: ⟨1⟩ of ⟨1⟩ hold</summary></details>'
    data = {"text/plain": "✓ same: ⟨2⟩, above 1"}
    nb = stored(executed)
    pages.code_cells(nb)[1].outputs = [
        nbformat.v4.new_output("display_data", data | {"text/html": shown.format(label)})
        for label in ("it&#x27;s q(z|x)", "the other")
    ]
    pages.write(executed / "book/01_try.ipynb", pages.as_text(nb))
    table = claims.claims_in_words(executed).split("\n### ")[1:]
    assert [part.splitlines()[0] for part in table] == [
        "Check: it's q(z\\|x)", "Check: the other", "Other claims",
    ]  # fmt: skip
    assert all(part.count("| same |") == 1 for part in table)


def test_a_row_of_claims_reads_well():
    row = {"claim": "KL of q(z|x) in $", "bound": "above -1 and below 1e-05"}
    row |= {"mnist": [-0.5, 2.22e-16], "strokes": [1e-6, 1e-6]}
    expected = (
        "| KL of q(z\\|x) in \\$ | above −1 and below 10⁻⁵ | −0.5 to 2.2 × 10⁻¹⁶ | 10⁻⁶ | – |"
    )
    assert claims.table_row(row) == expected
    near = {"claim": "a", "bound": "above 1 (on MNIST)", "mnist": [1.003, 1.234], "strokes": [1, 2]}
    assert claims.table_row(near) == "| a | above 1 (on MNIST) | 1.003 to 1.23 | (1 to 2) | – |"
    two = near | {"bound": "above 0 (on MNIST and StrokeDigits)", "brush": [3, 3]}
    assert claims.table_row(two).endswith("StrokeDigits) | 1 to 1.23 | 1 to 2 | (3) |")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.01234, "−0.0123"),
        (9020.4, "9020"),
        (1.5e6, "1.5 × 10⁶"),
        (-1e-9, "−10⁻⁹"),
        (float("-inf"), "−∞"),
    ],
)
def test_a_number_is_written_as_one_reads_it(value, text):
    assert claims.in_digits(value, 4 if value > 1 else 3) == text


def test_every_run_is_tried_and_every_failure_listed(claiming, capsys):
    edit_page(claiming, "above=-1", "below=10.5")
    before = everything(claiming / "book")
    assert cli.main(["claims"], claiming) == 1
    said = capsys.readouterr().out.split("failed:\n")[1].splitlines()
    claim = ["one line: {}, below 10.5", "seed and data: {}, below 10.5"]
    assert said == [
        f"01_try, {data}, seed {seed}: {sentence.format(value)}"
        for data, seed, value in (("strokes", 1, 11), ("brush", 0, 20), ("brush", 1, 21))
        for sentence in claim
    ]
    assert everything(claiming / "book") == before
    kept = {file.stem for file in (claiming / "_build/claims").iterdir()}
    assert kept == {"01_try-mnist-0", "01_try-mnist-1", "01_try-strokes-0"}


def test_a_cell_that_fails_is_named_and_the_other_runs_go_on(claiming, capsys):
    edit_page(claiming, "data._last", "assert (name, seed) != ('mnist', 1)\ndata._last")
    assert cli.main(["claims"], claiming) == 1
    out = capsys.readouterr().out
    assert "01_try: brush, seed 1\n" in out
    assert out.split("failed:\n")[1] == "01_try, mnist, seed 1: AssertionError:\n"


def test_a_run_without_a_failure_is_not_repeated(claiming, monkeypatch, capsys):
    edit_page(claiming, "data._last", "assert (name, seed) != ('mnist', 1)\ndata._last")
    assert cli.main(["claims"], claiming) == 1
    ran, run = [], claims.run

    def noted(nb, folder, data, seed, **how):
        ran.append((data, seed))
        return run(nb, folder, data, seed, **how)

    monkeypatch.setattr(claims, "run", noted)
    assert cli.main(["claims"], claiming) == 1
    assert ran == [("mnist", 1)]
    ran.clear()
    edit_page(claiming, "assert (name, seed) != ('mnist', 1)\n", "")
    assert cli.main(["claims"], claiming) == 0
    assert len(ran) == 6


@pytest.mark.slow
def test_under_nbval_lists_of_claims_may_differ_between_the_brackets_only(claiming):
    assert cli.main(["execute"], claiming) == 0
    assert run_pytest(claiming).returncode == 0
    edit_stored(claiming, "<li>✓ seed and data", "<li>✓ seed or data")
    assert run_pytest(claiming).returncode == 1


def test_reproduce_compares_a_list_of_claims_once(claiming, capsys):
    assert cli.main(["execute"], claiming) == 0
    capsys.readouterr()
    assert cli.main(["reproduce"], claiming) == 0
    assert "01_try: 4 measured values compared, 0 differences" in capsys.readouterr().out
    edit_stored(claiming, "✓ seed and data: ⟨0⟩", "✓ seed and data: ⟨3⟩")
    assert cli.main(["reproduce"], claiming) == 1
    assert "1 differences" in capsys.readouterr().out


# ------------------------------------------------------------------------------------ form


FOLDED = """---
tags: [cover]
mystnb:
  image:
    alt: three words here
---
# @title Code of this figure
x = 1"""


def test_a_cell_with_a_title_is_folded_everywhere_and_keeps_what_it_says_of_itself(root):
    write_page(root, FOLDED, "# @title  Check: (1.2)\ny = 2", "# no @title\nz = 3")
    nb = pages.notebook((root / "book/01_try.md").read_text())
    _, figure, check, open_cell = pages.code_cells(nb)
    assert figure.metadata == {
        "tags": ["cover", "hide-input"],
        "jupyter": {"source_hidden": True},
        "cellView": "form",
        "mystnb": {
            "image": {"alt": "three words here"},
            "code_prompt_show": "Code of this figure",
            "code_prompt_hide": "Hide: Code of this figure",
        },
    }
    assert check.metadata["mystnb"]["code_prompt_show"] == "Check: (1.2)"
    assert open_cell.metadata == {}


def test_a_folded_cell_survives_jupytext_both_ways(root):
    write_page(root, FOLDED)
    nb = pages.notebook((root / "book/01_try.md").read_text())
    again = pages.notebook(jupytext.writes(nb, fmt="md:myst"))
    assert [cell.metadata for cell in again.cells] == [cell.metadata for cell in nb.cells]
    sync.sync(root)
    assert checks.check_pairs(root) == []


@pytest.mark.parametrize(
    ("label", "wrong"),
    [
        ("Check: (4.16) and (A.3b)", False),
        ("Code of this figure", False),
        ("Check: (4.16) on 100 digits", True),
        ("Check of 4.16", True),
        ("Three checks (3)", True),
    ],
)
def test_a_label_has_no_number_that_could_go_stale(root, label, wrong):
    write_page(root, f"# @title {label}\nx = 1")
    message = f"01_try: {label!r}: expected a label without numbers, other than an equation's (1.2)"
    assert checks.check_labels(root) == ([message] if wrong else [])


def test_the_form_counts_what_is_in_sight(root, capsys):
    text = markdown("x = 1\n\n# why\ny = 2\nz = 3\nu = 4", FOLDED, "print(1)")
    text += """
## Two words

Five words, one [of them](https://a.b/c-d) linked. <!-- not this -->

$$\\sigma^2 = \\frac{a}{10} \\tag{1.2}$$

<details><summary>Go deeper</summary>

None of these words.

```python
nor = "these"
```

</details>
"""
    (root / "book/01_try.md").write_text(text)
    nb = pages.notebook(text)
    image = {"output_type": "display_data", "metadata": {}, "data": {"image/png": "AA=="}}
    drawing = image | {"data": {"image/png": "AA==", "image/svg+xml": "<svg/>"}}
    pages.code_cells(nb)[2].outputs = [nbformat.from_dict(drawing)]
    pages.code_cells(nb)[3].outputs = [nbformat.from_dict(image)]
    measured = form.form_of("01_try", nb)
    # "Try this", "It takes to run." and four times "What to see." are 18 words; the page's own are
    # 2 and 6, and its formula has σ, 2, =, frac, a and 10.
    assert measured.words == 18 + 2 + 6 + 6
    setup = len(SETUP.splitlines())
    assert (measured.cells, measured.lines, measured.longest) == (3, setup + 5 + 1, 5)
    assert (measured.figures, measured.diagrams, measured.folded) == (2, 1, 1)
    assert cli.main(["form"], root) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["01_try", str(measured.words)]


# ------------------------------------------------------------------------------------ equations


def test_every_numbered_equation_is_listed_with_the_code_that_names_it(root):
    page = root / "book/pages/equations.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("# Equations\n\n<!-- equations --><!-- /equations -->\n")
    md = root / "book/01_try.md"
    text = md.read_text() + (
        "\n## Two halves\n\n$$ a = b $$\n\n$$ 1 = 2h \\tag{1.1} $$\n\n"
        "$$\\begin{align} h &= 1 / 2 \\tag{1.2}\\\\ &= 0.5 \\tag{1.3} \\end{align}$$\n\n"
        "```{code-cell} ipython3\n# no heading, no equation: $$ \\tag{1.9} $$\n"
        "h = 1 / 2  # (1.2)\nassert 1 == 2 * h  # (1.1)\n```\n"
    )
    md.write_text(text)
    assert checks.check_equations(root) == ["01_try: no line of code names equation (1.3)"]
    text += (
        "\n<details>\n<summary>Solution</summary>\n\n"
        "```python\nassert h == 0.5  # (1.3)\n```\n\n</details>\n"
    )
    md.write_text(text)
    assert checks.check_equations(root) == []
    sync.sync(root)
    listed = page.read_text()
    assert listed.count("### [Two halves](../01_try.ipynb#two-halves)") == 1
    assert "$$ 1 = 2h \\tag{1.1} $$\n\n```python\nassert 1 == 2 * h  # (1.1)\n```" in listed
    assert "```python\nh = 1 / 2  # (1.2)\nassert h == 0.5  # (1.3)\n```" in listed
    assert "a = b" not in listed and "1.9" not in listed
    before = listed.replace("0.5", "0.6")
    page.write_text(before)
    assert any("equations.md: differs" in message for message in checks.check_pairs(root))


SPREAD = """# @title Check: (1.9)
%pip install nothing
elbo = -(h *
         x)                      # (1.1)
class Model:
    a = (1,
         2)

    def loss(self, x):
        # the loss of (1.2)

        y = (x +
             1)
        return [y,
                0]

    # (1.3), and
    # more
    @staticmethod
    def long(x):
        a = 1
        b = 2
        c = 3
        d = 4
        e = 5
        if x:  # (1.4)
            f = 6  # (1.5)
            g = 7
            h = 8
            i = 9
            j = 10
            k = 11
            l = 12
            return "("
        else:
            f(1.5)
        return {"(1.6)": 1,
                "b": 2}
with check("(1.7) holds"):
    # (1.8)
    claim("one", 1,
          above=0)
    for x in (1, 2):
        claim(f"(1.7) for {x}", x, above=0)"""


@pytest.mark.parametrize(
    ("number", "listed"),
    [
        ("1.1", ["elbo = -(h *\n         x)                      # (1.1)"]),
        (
            "1.2",
            [
                "def loss(self, x):\n    # the loss of (1.2)\n\n    y = (x +\n         1)\n"
                "    return [y,\n            0]"
            ],
        ),
        ("1.7", ['with check("(1.7) holds"):\n    ...',
                 'for x in (1, 2):\n    claim(f"(1.7) for {x}", x, above=0)']),
        ("1.8", ['# (1.8)\nclaim("one", 1,\n      above=0)']),
        ("1.9", []),
    ],
)  # fmt: skip
def test_a_number_finds_whole_statements(number, listed):
    found = equations.statements(markdown(SPREAD))
    assert [code for code in found if f"({number})" in code] == listed


def test_a_comment_above_names_the_whole_statement_and_a_long_block_gives_its_head():
    noted = next(code for code in equations.statements(markdown(SPREAD)) if "(1.3)" in code)
    assert noted.startswith("# (1.3), and\n# more\n@staticmethod\ndef long(x):\n    a = 1\n")
    assert noted.endswith('            "b": 2}')
    found = equations.statements(markdown(SPREAD.replace("# (1.3), and", "#")))
    assert found[2:5] == [
        "if x:  # (1.4)\n    ...",
        "f = 6  # (1.5)",
        'return {"(1.6)": 1,\n        "b": 2}',
    ]


def test_each_number_has_its_best_statement_and_a_formula_not_many():
    display = equations.Display("", ["1.1", "1.2"], "")
    code = [
        'ax.set_title("(1.1)")',
        'claim("(1.1), first", 1, above=0)',
        "a = 1  # (1.1)",
        "b = 2  # (1.1)",
        'print("(1.2)")',
        'lines = {"(1.1)": 3}',
        "c = 3  # (3.1)",
    ]
    assert equations.chosen(display, code) == [code[2], code[3], code[4]]
    several = equations.Display("", [f"2.{n}" for n in range(5)], "")
    code = [f"x = {n}  # (2.{n})" for n in range(5)]
    assert equations.chosen(several, code) == code
    assert equations.chosen(several, []) == []


def test_one_line_follows_another_and_longer_ones_stand_apart():
    code = ["a = 1      # (1.1)", "b = '  # no'", "c = (1 +\n     2)      # (1.2)", "d = 4"]
    joined = "a = 1  # (1.1)\nb = '  # no'\n\nc = (1 +\n     2)      # (1.2)\n\nd = 4"
    assert "\n".join(equations.listed(code)) == joined
