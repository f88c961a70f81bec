"""What the chapters claim, tried with several seeds on both data sets."""

import json
import re
from collections import defaultdict
from pathlib import Path

from nbformat import NotebookNode

from .kernel import refuse_without_mnist, run
from .pages import Refused, code_cells, notebook, pages, texts_of, write

CLAIM_DATA, CLAIM_SEEDS = ("mnist", "strokes"), range(5)  # where each claim must hold
CLAIM = re.compile(r"^✓ (?P<claim>.*): ⟨(?P<value>[^⟩]*)⟩, (?P<bound>.*)$", re.MULTILINE)
CLAIMS = re.compile(r"(?<=<!-- claims -->).*?(?=<!-- /claims -->)", re.DOTALL)


def claims_of(nb: NotebookNode) -> list[tuple[str, str, float]]:
    """Every claim that a notebook's outputs state: what, its bound, and the measured value."""
    texts = (text for cell in code_cells(nb) for _, text in texts_of(cell))
    return [
        (found["claim"], found["bound"], float(found["value"]))
        for text in texts
        for found in CLAIM.finditer(text)
    ]


def read_claims(root: Path) -> dict[str, list[dict]]:
    path = root / "book/claims.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def try_claims(root: Path, chapter: str | None) -> int:
    """Run notebooks with every seed on every data set of the claims; store the ranges measured."""
    refuse_without_mnist()
    stored, failed = read_claims(root), 0
    for page in pages(root, chapter):
        nb = notebook(page.text)
        if not any("claim(" in cell.source for cell in code_cells(nb)):
            continue
        values = defaultdict(lambda: defaultdict(list))
        try:
            for data in CLAIM_DATA:
                for seed in CLAIM_SEEDS:
                    print(f"{page.name}: {data}, seed {seed}", flush=True)
                    for claim, limits, value in claims_of(run(nb, page.md.parent, data, seed)):
                        values[claim, limits][data].append(value)
        except Refused as error:
            print(f"{page.name}: nothing stored, for on {data} with seed {seed} {error}")
            failed += 1
            continue
        stored[page.name] = [
            {"claim": claim, "bound": limits}
            | {data: [min(of[data]), max(of[data])] for data in CLAIM_DATA}
            for (claim, limits), of in values.items()
        ]
        write(root / "book/claims.json", json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
        table = root / "book/pages/claims.md"
        if table.exists():
            write(table, with_claims(root, table.read_text(encoding="utf-8")))
    return failed


def with_claims(root: Path, text: str) -> str:
    listed = f"\n\n{claims_in_words(root)}\n\n"
    return CLAIMS.sub(lambda _: listed, text)


def claims_in_words(root: Path) -> str:
    """The tables of the page of claims."""
    stored, lines = read_claims(root), []
    for page in pages(root):
        if page.name in stored:
            lines += [f"## {page.title}", "", "| claim | bound | on MNIST | on StrokeDigits |"]
            lines += ["| --- | --- | --- | --- |"]
            for row in stored[page.name]:
                ranges = [" to ".join(f"{end:.4g}" for end in row[data]) for data in CLAIM_DATA]
                lines.append(f"| {row['claim']} | {row['bound']} | {' | '.join(ranges)} |")
            lines.append("")
    return "\n".join(lines).strip()
