"""The set-up cell as Colab runs it: both packages come in, and nothing that was there is touched.

In an environment of its own that has another torch than the book's already, with the repository's
address redirected by git to a copy of this working tree.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from book import pages, sync

ROOT = Path(__file__).resolve().parents[2]
OTHER_TORCH = os.environ.get("VAE_BOOK_OTHER_TORCH", "2.13.0")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(
        os.environ.get("VAE_BOOK_NETWORK") != "1",
        reason="needs the network: set VAE_BOOK_NETWORK=1",
    ),
]


def run(*command: str | Path, **options) -> str:
    got = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert got.returncode == 0, f"{command}\n{got.stdout}\n{got.stderr}"
    return got.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A repository with one commit: the working tree as it is."""
    folder = tmp_path_factory.mktemp("clone")
    files = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT)
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    run("git", "init", "--quiet", cwd=folder)
    run("git", "add", "--all", cwd=folder)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run("git", *identity, "commit", "--quiet", "--no-gpg-sign", "-m", "all", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def colab(tmp_path_factory, clone) -> tuple[Path, dict[str, str]]:
    """Python of a fresh environment with another torch, and what it runs in."""
    folder = tmp_path_factory.mktemp("colab")
    run(sys.executable, "-m", "venv", folder / "env")
    python = folder / "env/bin/python"
    (folder / "fake/google/colab").mkdir(parents=True)
    (folder / "fake/google/colab/__init__.py").touch()
    hidden = ("VAE_CORE", "PYTEST", "GIT_", "PYTHONPATH", "VIRTUAL_ENV")
    env = {name: text for name, text in os.environ.items() if not name.startswith(hidden)}
    env |= {
        "PYTHONPATH": str(folder / "fake"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{clone.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/{}/{}".format(*sync.address(ROOT)),
    }
    run(python, "-m", "pip", "install", "--quiet", f"torch=={OTHER_TORCH}", "ipython", env=env)
    return python, env


def freeze(python: Path, env: dict[str, str]) -> set[str]:
    return set(run(python, "-m", "pip", "freeze", env=env).splitlines())


def run_cell(folder: Path, python: Path, env: dict[str, str], before: str, after: str) -> str:
    """Run the first chapter's first code cell in IPython, between two pieces of code."""
    chapter = next(page for page in pages.pages(ROOT) if page.number.isdigit())
    cell = pages.code_cells(pages.notebook(chapter.md.read_text(encoding="utf-8")))[0].source
    script = folder / "cell.ipy"
    script.write_text(f"{before}\n{cell}\n{after}\n")
    return run(python, "-m", "IPython", "--no-banner", script, cwd=folder, env=env)


def test_the_set_up_cell_adds_both_packages_and_touches_nothing(colab, tmp_path):
    python, env = colab
    before = freeze(python, env)
    assert any(line.startswith("torch==") for line in before)

    run_cell(tmp_path, python, env, before="", after="")  # a laptop
    assert freeze(python, env) == before

    shown = "import torch, vae_core, vae_book.data\nprint('from', vae_core.__file__)"
    out = run_cell(tmp_path, python, env, before="import google.colab", after=shown)
    assert re.search(rf"from {re.escape(str(python.parents[1]))}\S+site-packages/vae_core", out), (
        out
    )
    after = freeze(python, env)
    assert before <= after, f"changed: {sorted(before - after)}"
    added = {re.split("==| @ ", line)[0].lower().replace("_", "-") for line in after - before}
    assert "vae-core" in added and not added & {"torch", "torchvision", "triton"}, added

    run_cell(tmp_path, python, env, before="import google.colab", after="")  # once more
    assert freeze(python, env) == after


def test_the_installed_packages_run_the_readme_and_have_the_ruler(colab, tmp_path):
    """A built wheel has all it needs: weights and stored results, nothing of the repository."""
    python, env = colab
    run_cell(tmp_path, python, env, before="import google.colab", after="")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    code += "\nfrom vae_book import frechet, live, stored\nfrechet.digit_classifier()\n"
    code += "print(*sorted(path.name for path in stored.FOLDER.iterdir()))\n"
    code += "import pathlib\nfolder = pathlib.Path(live.__file__).parent\n"
    code += "print(*sorted(path.name for path in folder.iterdir() if path.suffix != '.py'))\n"
    out = run(python, "-c", code, cwd=tmp_path, env=env | {"VAE_CORE_DATA": "strokes"})
    assert "importance-weighted log p(x), k = 500" in out
    stored = sorted(p.name for p in (ROOT / "src/vae_book/results").iterdir())
    assert stored and out.splitlines()[-2].split() == stored
    scripts = [
        p.name for p in (ROOT / "src/vae_book/live").iterdir() if p.suffix in (".js", ".css")
    ]
    assert set(scripts) == set(out.splitlines()[-1].split()) - {"__pycache__"}


@pytest.mark.parametrize("name", os.environ.get("VAE_BOOK_COLAB", "03_kl_term").split())
def test_a_whole_chapter_runs_with_what_was_installed(colab, tmp_path, name):
    """Alone in an empty folder, with the weights and results that ship: nothing is trained that a
    reader shouldn't wait for. (One chapter; $VAE_BOOK_COLAB names others.)"""
    python, env = colab
    (page,) = (page for page in pages.pages(ROOT) if page.name == name)
    cells = pages.code_cells(pages.notebook(page.md.read_text(encoding="utf-8")))
    script = tmp_path / "chapter.ipy"
    sources = ["import google.colab", *(cell.source for cell in cells), "print('to the end')"]
    script.write_text("\n".join(sources))
    env = env | {"VAE_CORE_DATA": "strokes", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    out = run(python, "-m", "IPython", "--no-banner", script, cwd=tmp_path, env=env)
    assert out.endswith("to the end\n") and out.count("✓") > 10
    assert "stored with the book" in out or "ladder.climb" not in script.read_text()
    assert os.listdir(tmp_path) == ["chapter.ipy"]
