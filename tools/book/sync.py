"""Bring the pairs up to date, and put addresses, times, claims and equations in their places."""

import base64
import re
from pathlib import Path

import yaml

from .claims import with_claims
from .equations import with_equations
from .pages import (
    Refused,
    as_text,
    code_cells,
    files,
    notebook,
    notebooks,
    pages,
    read_notebook,
    write,
)
from .run_times import TIME, in_words, read_times

# Files, besides the notebooks, that may name the repository.
MAY_NAME = ["*.md", "*.cff", "pyproject.toml", "_config.yml", "book/**/*.md", "src/**/*.py"]
COVER = "book/images/cover.png"  # the picture that README.md and index.md show


def address(root: Path) -> tuple[str, str]:
    """The repository's owner and name, from _config.yml, the one source."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    return parse_address(config["repository"]["url"])


def parse_address(url: str) -> tuple[str, str]:
    match = re.fullmatch(r"https://github\.com/([\w-]+)/([\w.-]+?)(?:\.git)?/?", url)
    if match is None:
        raise Refused(f"url: expected https://github.com/OWNER/NAME, got {url!r}")
    return match[1], match[2]


def set_address(root: Path, url: str) -> None:
    owner, name = parse_address(url)
    old_owner, old_name = address(root)
    config = root / "_config.yml"
    text = config.read_text(encoding="utf-8")
    write(config, text.replace(f"github.com/{old_owner}/{old_name}", f"github.com/{owner}/{name}"))


def with_address(text: str, old_name: str, owner: str, name: str) -> str:
    """Put the address where any owner's repository of the old name is named.

    On github.com, in links that hold such an address (Colab's), and as the name of the site.
    """
    end = r"(?![\w-])"
    old = rf"[\w-]+/{re.escape(old_name)}{end}"
    text = re.sub(rf"(?<=github\.com/){old}|(?<=/github/){old}", f"{owner}/{name}", text)
    site = rf"(?<=https://)[\w-]+\.github\.io/{re.escape(old_name)}{end}"
    return re.sub(site, f"{owner}.github.io/{name}", text)


def synced(root: Path) -> dict[Path, str]:
    """The text that each file which sync looks after should have."""
    owner, name = address(root)
    # The address put in last time is the one in pyproject.toml.
    pyproject = (root / "pyproject.toml").read_text(encoding="utf-8")
    old_name = parse_address(re.search(r'^Repository = "(.*)"', pyproject, re.MULTILINE)[1])[1]
    texts = {}
    for path in sorted({path for glob in MAY_NAME for path in files(root, glob)}):
        text = path.read_text(encoding="utf-8")
        texts[path] = with_address(text, old_name, owner, name)

    times, tables = read_times(root), root / "book/pages"
    rows = ["| Page | Time to run |", "| --- | --- |"]
    for page in pages(root):
        words = in_words(times.get(page.name))
        rows.append(f"| [{page.title}]({page.link(tables)}) | {words} |")
        texts[page.md] = TIME.sub(words, texts[page.md])
        stored = read_notebook(page.ipynb) if page.ipynb.exists() else None
        texts[page.ipynb] = as_text(notebook(texts[page.md], stored))
    for name, filled in (
        ("run_times.md", lambda text: TIME.sub("\n\n" + "\n".join(rows) + "\n\n", text)),
        ("claims.md", lambda text: with_claims(root, text)),
        ("equations.md", lambda text: with_equations(root, text)),
    ):
        if tables / name in texts:
            texts[tables / name] = filled(texts[tables / name])
    return texts


def sync(root: Path, only: set[Path] | None = None) -> list[Path]:
    """Write what has changed (among ``only``); return which files that was."""
    wanted = {p: text for p, text in synced(root).items() if only is None or p in only}
    written = [path for path, text in wanted.items() if write(path, text)]
    picture = cover(root)
    if picture and write(root / COVER, picture):
        written.append(root / COVER)
    return written


def cover(root: Path) -> bytes | None:
    """The picture on the front pages: the stored output of the cell that is tagged so, if any."""
    for _, nb in notebooks(root):
        for cell in code_cells(nb):
            if "cover" in cell.metadata.get("tags", []):
                for output in cell.outputs:
                    if "image/png" in output.get("data", {}):
                        return base64.b64decode(output.data["image/png"])
    return None
