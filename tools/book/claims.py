"""What the chapters claim, tried with several seeds on three data sets."""

import html
import json
import math
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from nbformat import NotebookNode

from .kernel import refuse_without_mnist, run
from .pages import (
    Page,
    Refused,
    code_cells,
    code_hash,
    notebook,
    pages,
    read_notebook,
    texts_of,
    write,
)

CLAIM_DATA = {  # where each claim is tried, and what the table calls it
    "mnist": "MNIST",
    "strokes": "StrokeDigits",
    "brush": "BrushDigits",
}
# The third set is there to show what is true of the other two only: one seed does.
CLAIM_SEEDS = {"mnist": range(5), "strokes": range(5), "brush": range(1)}
# A mark between brackets: the claim is about one data set only, and judged only there.
CLAIM = re.compile(
    r"^⟨?(?P<mark>[✓✗–])⟩? (?P<claim>.*): ⟨(?P<value>[^⟩]*)⟩, (?P<bound>.*)$", re.MULTILINE
)
CHECK = re.compile(r"<summary>Check: (.*): ⟨\d+⟩ of ⟨\d+⟩ hold</summary>")
SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # of tracebacks
CLAIMS = re.compile(r"(?<=<!-- claims -->).*?(?=<!-- /claims -->)", re.DOTALL)


class Claim(NamedTuple):
    """A claim as a notebook's output states it; the mark is ✓, ✗, or – where it isn't judged."""

    mark: str
    claim: str
    bound: str
    value: float

    def __str__(self) -> str:
        return f"{self.claim}: {self.value:g}, {self.bound}"


def claims_of(nb: NotebookNode) -> list[Claim]:
    """Every claim that a notebook's outputs state, in order."""
    texts = (text for cell in code_cells(nb) for _, text in texts_of(cell))
    return [
        Claim(found["mark"], found["claim"], found["bound"], float(found["value"]))
        for text in texts
        for found in CLAIM.finditer(text)
    ]


def read_claims(root: Path) -> dict[str, list[dict]]:
    path = root / "book/claims.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def try_claims(root: Path, chapter: str | None) -> int:
    """Run notebooks with every seed on every data set of the claims; store the ranges measured.

    Of a page with a run that fails nothing is stored; the number of such runs, and a list of what
    failed in them. Each run without a failure is kept in ``_build/claims`` and not repeated while
    the page's code is the same: delete that folder to try everything anew.
    """
    refuse_without_mnist()
    failures, failed_runs = [], 0
    for page in pages(root, chapter):
        nb = notebook(page.text)
        if not any("claim(" in cell.source for cell in code_cells(nb)):
            continue
        runs, wrong = {}, 0
        for data in CLAIM_DATA:
            for seed in CLAIM_SEEDS[data]:
                print(f"{page.name}: {data}, seed {seed}", flush=True)
                found = _tried(root, page, nb, data, seed)
                runs[data, seed] = found if isinstance(found, list) else []
                failed = [found] if isinstance(found, str) else [c for c in found if c.mark == "✗"]
                failures += [f"{page.name}, {data}, seed {seed}: {what}" for what in failed]
                wrong += bool(failed)
        sentences = {tuple((c.claim, c.bound) for c in found) for found in runs.values()}
        if not wrong and len(sentences) > 1:
            failures.append(f"{page.name}: not the same claims on every data set with every seed")
            wrong = 1
        if not wrong:
            _store(root, page, runs)
        failed_runs += wrong
    print("\n".join(["failed:", *failures] if failures else ["every claim holds"]))
    return failed_runs


def _tried(root: Path, page: Page, nb: NotebookNode, data: str, seed: int) -> list[Claim] | str:
    """The claims of one run, or of the run kept from before; or why there are none."""
    kept, code = root / f"_build/claims/{page.name}-{data}-{seed}.json", code_hash(nb)
    if kept.exists() and (before := json.loads(kept.read_text(encoding="utf-8")))["code"] == code:
        return [Claim(*claim) for claim in before["claims"]]
    try:
        # Pages that ask for the same long computation, such as the ladder, share its result.
        results = str((root / "_build/claims/stored").resolve())
        found = claims_of(run(nb, page.md.parent, data, seed, stored=results, claims="collect"))
    except Refused as error:
        print(f"{page.name}: {error}", flush=True)
        return COLOUR.sub("", str(error)).strip().splitlines()[-1]
    for claim in found:
        if claim.mark == "✗":
            print(f"{page.name}: ✗ {claim}", flush=True)
    if not any(claim.mark == "✗" for claim in found):
        write(kept, json.dumps({"code": code, "claims": found}, ensure_ascii=False))
    return found


def _store(root: Path, page: Page, runs: dict[tuple[str, int], list[Claim]]) -> None:
    rows = []
    for number, first in enumerate(next(iter(runs.values()))):
        row = {"claim": first.claim, "bound": first.bound}
        for data in CLAIM_DATA:
            values = [runs[data, seed][number].value for seed in CLAIM_SEEDS[data]]
            row[data] = [min(values), max(values)]
        rows.append(row)
    stored = read_claims(root) | {page.name: rows}  # read now: another chapter may be run as well
    write(root / "book/claims.json", json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
    table = root / "book/pages/claims.md"
    if table.exists():
        write(table, with_claims(root, table.read_text(encoding="utf-8")))


def with_claims(root: Path, text: str) -> str:
    listed = f"\n\n{claims_in_words(root)}\n\n"
    return CLAIMS.sub(lambda _: listed, text)


def claims_in_words(root: Path) -> str:
    """The page of claims: under each page's title a table for each of its checks."""
    stored, lines = read_claims(root), []
    head = " | ".join(["measured", "the claim", *CLAIM_DATA.values()])
    for page in pages(root):
        checks, labels = defaultdict(list), labels_of(page)
        for row in stored.get(page.name, []):
            found = labels[row["claim"], row["bound"]]
            checks[found.pop(0) if found else ""].append(row)
        if not checks:
            continue
        lines += [f"## [{page.title}]({page.link(root / 'book/pages')})", ""]
        for label, rows in sorted(checks.items(), key=lambda check: check[0] == ""):
            if label or len(checks) > 1:
                lines += [f"### Check: {plain(label)}" if label else "### Other claims", ""]
            lines += [f"| {head} |", "| ---" * (2 + len(CLAIM_DATA)) + " |"]
            lines += [*map(table_row, rows), ""]
    return "\n".join(lines).strip()


def labels_of(page: Page) -> dict[tuple[str, str], list[str]]:
    """By claim and bound: the labels of the checks that have it in a page's stored outputs."""
    labels = defaultdict(list)
    stored = read_notebook(page.ipynb) if page.ipynb.exists() else None
    for cell in code_cells(notebook(page.text, stored)):
        for output in cell.outputs:
            data = output.get("data", {})
            if label := CHECK.search(data.get("text/html", "")):
                for found in CLAIM.finditer(data["text/plain"]):
                    labels[found["claim"], found["bound"]].append(html.unescape(label[1]))
    return labels


def table_row(row: dict) -> str:
    """A claim's row; in brackets what was measured on data that the claim isn't about."""
    bound = re.sub(r"-?\d\S*", lambda found: in_digits(float(found[0]), 6), row["bound"])
    bounds = [float(found) for found in re.findall(r"-?\d\S*", row["bound"])]
    cells = [plain(row["claim"]), bound]
    for data, title in CLAIM_DATA.items():
        # One more digit where three would hide on which side of its bound the value is.
        ends = [in_digits(end, 3 + (float(f"{end:.3g}") in bounds)) for end in row.get(data, [])]
        measured = " to ".join(dict.fromkeys(ends)) or "–"
        about = bound.rstrip(")").partition("(on ")[2]
        judged = not (ends and about) or title in about.split(" and ")
        cells.append(measured if judged else f"({measured})")
    return f"| {' | '.join(cells)} |"


def in_digits(value: float, digits: int = 3) -> str:
    """A number as one reads it: 0.0123, 12300, −2.5, 10⁻⁹, 2.2 × 10⁻¹⁶, −∞."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    mantissa, power = f"{value:.{min(digits, 2) - 1}e}".split("e")
    if value == 0 or 1e-4 <= abs(value) < 1e5:
        text = f"{float(f'{value:.{digits}g}'):g}"
    else:
        text = f"{float(mantissa):g} × 10{str(int(power)).translate(SUPERSCRIPT)}"
        text = re.sub(r"^(-?)1 × ", r"\1", text)
    return text.replace("-", "−")


def plain(text: str) -> str:
    """Text in which Markdown finds nothing to mark up."""
    return re.sub(r"([\\|*_<$`])", r"\\\1", text)
