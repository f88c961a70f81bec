"""Run the notebooks on MNIST and store their outputs, with a stamp that says what made them."""

import hashlib
import importlib.metadata
import re
import sys
import tempfile
import time
from pathlib import Path

from nbformat import NotebookNode

from .kernel import DATA, SEED, THREADS, refuse_without_mnist, run
from .pages import (
    Refused,
    as_text,
    code_cells,
    code_hash,
    live_file,
    notebook,
    pages,
    read_notebook,
    write,
)
from .run_times import store_time
from .sync import sync

# A page that uses a module with stored results: of MNIST, and of StrokeDigits for the tests.
MODULE = re.compile(r"vae_book(?:\.| import )(\w+)")


def execute(root: Path, chapter: str | None) -> int:
    """Run notebooks on MNIST and store their outputs; the number of those that failed."""
    chosen, failed = pages(root, chapter), 0
    refuse_without_mnist()
    for page in chosen:
        print(f"{page.name}: running", flush=True)
        stored = read_notebook(page.ipynb) if page.ipynb.exists() else None
        nb = notebook(page.text, stored)
        try:
            with tempfile.TemporaryDirectory() as live:
                started = time.monotonic()
                ran = run(nb, page.md.parent, stored="write", live=live)
                if stores(root, nb):
                    run(nb, page.md.parent, "strokes", stored="write")  # what the tests will use
                    started = time.monotonic()  # what a reader gets, and waits for
                    ran = run(nb, page.md.parent)
                seconds = time.monotonic() - started
                figures = {path.stem: path.read_bytes() for path in Path(live).glob("*.js")}
        except Refused as error:
            print(f"{page.name}: nothing stored, for {error}")
            failed += 1
            continue
        for cell, done in zip(code_cells(nb), code_cells(ran), strict=True):
            cell.outputs, cell.execution_count = done.outputs, done.execution_count
        nb.metadata["vae_book"] = stamp(nb) | {"live": store_live(root, stored, figures)}
        write(page.ipynb, as_text(nb))
        store_time(root, page.name, seconds)
        tables = {root / f"book/pages/{name}.md" for name in ("run_times", "claims")}
        sync(root, only={page.md, page.ipynb} | tables)
        print(f"{page.name}: stored, {seconds:.0f} s")
    return failed


def store_live(
    root: Path, before: NotebookNode | None, figures: dict[str, bytes]
) -> dict[str, str]:
    """Put the data of a page's live figures in their place, in that of those it had before.

    Returns the hash of each, by name.
    """
    had = before.metadata.get("vae_book", {}).get("live", {}) if before else {}
    for name in had.keys() - figures.keys():
        live_file(root, name).unlink(missing_ok=True)
    for name, content in figures.items():
        write(live_file(root, name), content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in figures.items()}


def stamp(nb: NotebookNode) -> dict:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "matplotlib")}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {
        "code": code_hash(nb),
        "data": DATA,
        "seed": SEED,
        "threads": THREADS,
        "versions": {"python": python, **versions},
    }


def stores(root: Path, nb: NotebookNode) -> bool:
    """Whether a page uses a module of ``vae_book`` with a function whose results are stored."""
    used = {name for cell in code_cells(nb) for name in MODULE.findall(cell.source)}
    files = [root / f"src/vae_book/{name}.py" for name in used]
    return any("@stored(" in file.read_text("utf-8") for file in files if file.exists())
