"""Print which module of the packages imports which, and fail where they go round in a circle.

python tools/imports.py
"""

from __future__ import annotations

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SRC = Path(__file__).resolve().parents[1] / "src"


def imported(path: Path, known: set[str]) -> set[str]:
    """The modules of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known


def graph(src: Path = SRC) -> dict[str, set[str]]:
    """Each module, and the modules of ours that it imports; a package's own page is left out."""
    paths = {
        ".".join(path.relative_to(src).with_suffix("").parts): path
        for path in sorted(src.glob("vae_*/**/*.py"))
        if path.stem != "__init__"
    }
    return {name: imported(path, paths.keys() - {name}) for name, path in paths.items()}


def main() -> int:
    modules = graph()
    try:
        order = list(TopologicalSorter(modules).static_order())
    except CycleError as error:
        print("in a circle:", " -> ".join(error.args[1]))
        return 1
    for name in order:
        print(f"{name:28} {' '.join(sorted(modules[name])) or '-'}")
    upwards = [m for m, uses in modules.items() if m.startswith("vae_core.")
               for use in uses if use.startswith("vae_book")]  # fmt: skip
    if upwards:
        print("vae_core imports vae_book in", *upwards)
    return 1 if upwards else 0


if __name__ == "__main__":
    sys.exit(main())
