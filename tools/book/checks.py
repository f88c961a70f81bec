"""What may be wrong with the notebooks as they are stored: each check gives a list of it."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from .claims import claims_of, read_claims
from .equations import code_of, numbered_displays
from .kernel import DATA, SEED, THREADS
from .pages import (
    ROOT,
    code_cells,
    code_hash,
    errors,
    files,
    fold_label,
    live_names,
    notebook,
    notebooks,
    pages,
    texts_of,
)
from .reproduce import TOLERANCE, bound
from .run_times import TIME, read_times
from .sync import COVER, address, cover, synced

MUST_NAME = ["README.md", "CITATION.cff", "pyproject.toml"]  # the repository's address
EQUATION_NUMBER = re.compile(r"\(\w+\.\d+\w*\)")  # (1.2), (A.3), (4.16b)
# A path of the machine that ran a notebook, or an address in its memory.
MACHINE = re.compile(
    rf"{re.escape(str(ROOT))}|/home/|/root/|/Users/|/tmp/|/var/|site-packages|[A-Z]:\\|\bat 0x"
)


def check_pairs(root: Path) -> list[str]:
    """Each pair holds the same cells, and run times and addresses are filled in."""
    wrong = [
        f"{path.relative_to(root)}: differs from what `make sync` would write"
        for path, text in synced(root).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    known = {page.ipynb for page in pages(root)}
    return wrong + [
        f"{path.relative_to(root)}: has no .md with a jupytext block next to it"
        for path in files(root, "book/**/*.ipynb")
        if path not in known
    ]


def check_stamps(root: Path) -> list[str]:
    """Outputs were made by this very code, on MNIST, with seed and versions recorded."""
    wrong = []
    for page, nb in notebooks(root):
        made = nb.metadata.get("vae_book", {})
        source = notebook(page.text)
        if made.get("code") != code_hash(source):
            wrong.append(f"{page.name}: outputs are not of this code (run `make execute`)")
        for name, expected in (("data", DATA), ("seed", SEED), ("threads", THREADS)):
            if made.get(name) != expected:
                wrong.append(f"{page.name}: {name}: expected {expected}, got {made.get(name)}")
        missing = {"python", "torch", "numpy", "matplotlib"} - set(made.get("versions", {}))
        if missing:
            wrong.append(f"{page.name}: versions of {sorted(missing)} are not recorded")
    return wrong


def check_outputs(root: Path) -> list[str]:
    """Every cell was run, in order, without error, and shows nothing of the machine it ran on."""
    wrong = []
    for page, nb in notebooks(root):
        if "widgets" in nb.metadata:
            wrong.append(f"{page.name}: widget state is stored")
        for number, cell in enumerate(code_cells(nb), start=1):
            here = f"{page.name}, code cell {number}"
            if cell.execution_count != number:
                wrong.append(f"{here}: was not run, or not in order")
            if errors(cell) and "raises-exception" not in cell.metadata.get("tags", []):
                wrong.append(f"{here}: its output is an error")
            if re.search(r"nbval", cell.source + str(cell.metadata), re.IGNORECASE):
                wrong.append(f"{here}: opts out of the comparison of outputs")
            for _, text in texts_of(cell):
                if match := MACHINE.search(text):
                    wrong.append(f"{here}: its output holds {match[0]!r}, of this machine only")
    return wrong


def check_alt_text(root: Path) -> list[str]:
    """A cell that shows a picture says in words what is on it."""
    wrong = []
    for page, nb in notebooks(root):
        for number, cell in enumerate(code_cells(nb), start=1):
            has_image = any(kind.startswith("image/") for kind, _ in texts_of(cell))
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            if has_image and len(alt.split()) < 4:
                wrong.append(f"{page.name}, code cell {number}: a picture without alt text")
    return wrong


def check_labels(root: Path) -> list[str]:
    """The label of a folded cell has no number that could go stale; equations may be named."""
    return [
        f"{page.name}: {label!r}: expected a label without numbers, other than an equation's (1.2)"
        for page in pages(root)
        for label in map(fold_label, code_cells(notebook(page.text)))
        if label and re.search(r"\d", EQUATION_NUMBER.sub("", label))
    ]


def check_setup_cells(root: Path) -> list[str]:
    """The first code cell is the same everywhere, and names the repository."""
    first = {page.name: code_cells(nb)[0].source for page, nb in notebooks(root)}
    url = "git+https://github.com/{}/{}".format(*address(root))
    wrong = [
        f"{name}: the set-up cell doesn't install {url}"
        for name, source in first.items()
        if url not in source.split()
    ]
    if len(set(first.values())) > 1:
        wrong.append(f"{', '.join(first)}: the set-up cells (first code cells) differ")
    return wrong


def check_addresses(root: Path) -> list[str]:
    """README and the package's description name the repository's address."""
    url = "https://github.com/{}/{}".format(*address(root))
    texts = {name: root / name for name in MUST_NAME}
    return [
        f"{name}: doesn't name {url}"
        for name, path in texts.items()
        if not path.exists() or url not in path.read_text(encoding="utf-8")
    ]


def check_run_times(root: Path) -> list[str]:
    """Every page says how long it takes, from a run, and no page that is gone still does."""
    times, names = read_times(root), {page.name for page in pages(root)}
    wrong = [f"run_times.json: no page is called {name}" for name in sorted(times.keys() - names)]
    for page in pages(root):
        if page.name not in times:
            wrong.append(f"{page.name}: its run time isn't known (run `make execute`)")
        if not TIME.search(page.text):
            wrong.append(f"{page.name}: no <!-- time --><!-- /time --> says how long it takes")
    table = root / "book/pages/run_times.md"
    if not table.exists() or not TIME.search(table.read_text(encoding="utf-8")):
        wrong.append("book/pages/run_times.md: no <!-- time --><!-- /time --> for the table")
    return wrong


def check_cover(root: Path) -> list[str]:
    """The picture on the front pages is the one that the notebook made."""
    picture, path = cover(root), root / COVER
    if picture is not None and (not path.exists() or path.read_bytes() != picture):
        return [f"{COVER}: isn't the output of the cell tagged cover (run `make sync`)"]
    return []


def check_claims(root: Path) -> list[str]:
    """Every claim of the stored outputs has been tried, and its stored value is in the range.

    Give or take the range's width: five seeds don't reach as far as the next run may, and in a
    long training the last digit of one sum is enough for another run.
    """
    wrong, stored = [], read_claims(root)
    for page, nb in notebooks(root):
        now = claims_of(nb)
        rows = stored.get(page.name, [])
        if [(c.claim, c.bound) for c in now] != [(r["claim"], r["bound"]) for r in rows]:
            wrong.append(f"{page.name}: its claims aren't those of claims.json (run `make claims`)")
            continue
        for claim, row in zip(now, rows, strict=True):
            low, high = row[DATA]
            if claim.value in (low, high):  # an infinite one has no room around it
                continue
            room = max(high - low, TOLERANCE * max(abs(low), abs(high), bound(f", {claim.bound}")))
            if not low - room <= claim.value <= high + room:
                wrong.append(
                    f"{page.name}: {claim.claim}: {claim.value:g} isn't from {low:g} to {high:g}"
                )
    return wrong


def check_equations(root: Path) -> list[str]:
    """Every numbered equation is named by a line of code on its own page."""
    wrong = []
    for page in pages(root):
        code = "\n".join(code_of(page.text))
        for display in numbered_displays(page.text):
            wrong += [
                f"{page.name}: no line of code names equation ({number})"
                for number in display.numbers
                if f"({number})" not in code
            ]
    return wrong


def check_live(root: Path) -> list[str]:
    """The data of every live figure are there, from the run that made the page, and no others."""
    wrong, stamped = [], {}
    for page, nb in notebooks(root):
        of_page = nb.metadata.get("vae_book", {}).get("live", {})
        names = live_names(nb)
        if sorted(names) != sorted(of_page):
            wrong.append(f"{page.name}: shows live figures {names}, made {sorted(of_page)}")
        wrong += [f"{page.name}: another page has a {name}" for name in of_page.keys() & stamped]
        stamped |= of_page
    there = {path.stem: path for path in files(root, "book/live/*")}
    for name, digest in stamped.items():
        path = there.pop(name, None)
        if path is None or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            wrong.append(f"book/live/{name}.js: isn't what the page made (run `make execute`)")
    return wrong + [f"{path.relative_to(root)}: no page has made it" for path in there.values()]


CHECKS: list[Callable[[Path], list[str]]] = [
    check_pairs,
    check_stamps,
    check_outputs,
    check_alt_text,
    check_labels,
    check_setup_cells,
    check_addresses,
    check_run_times,
    check_cover,
    check_claims,
    check_equations,
    check_live,
]
