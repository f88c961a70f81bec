"""Keep the book's notebooks: pair, execute, compare and check them.

A page of the book is a notebook if the front matter of its ``.md`` has a ``jupytext`` block. The
``.md`` is the source; the ``.ipynb`` next to it holds the same cells and the outputs that
``execute`` stored, with a stamp in its metadata that says of which code and data they are.
"""

import argparse
import base64
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
import yaml
from markdown_it import MarkdownIt
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
DATA, SEED, THREADS = "mnist", 0, 2
CLAIM_DATA, CLAIM_SEEDS = ("mnist", "strokes"), range(5)  # where each claim must hold
# Says what load() gives. It runs before a notebook (would it get MNIST?) and after (did it?).
PROBE = "from vae_core.data import load; print(load(quiet=True).name)"
# Files, besides the notebooks, that may name the repository, and those that must.
MAY_NAME = ["*.md", "*.cff", "pyproject.toml", "_config.yml", "book/**/*.md", "src/**/*.py"]
MUST_NAME = ["README.md", "CITATION.cff", "pyproject.toml"]
WIDGET = "application/vnd.jupyter.widget-view+json"
TIME = re.compile(r"(?<=<!-- time -->).*?(?=<!-- /time -->)", re.DOTALL)
CLAIMS = re.compile(r"(?<=<!-- claims -->).*?(?=<!-- /claims -->)", re.DOTALL)
EQUATIONS = re.compile(r"(?<=<!-- equations -->).*?(?=<!-- /equations -->)", re.DOTALL)
DISPLAY = re.compile(r"\$\$(.*?)\$\$", re.DOTALL)
TAG = re.compile(r"\\tag\{(.*?)\}")
CLAIM = re.compile(r"^✓ (?P<claim>.*): ⟨(?P<value>[^⟩]*)⟩, (?P<bound>.*)$", re.MULTILINE)
MEASURED = re.compile(r"⟨([^⟩]*)⟩")
NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?")
BELOW = re.compile(r", (?:above \S+ and )?below (\S+)")
# A path of the machine that ran a notebook, or an address in its memory.
MACHINE = re.compile(
    rf"{re.escape(str(ROOT))}|/home/|/root/|/Users/|/tmp/|/var/|site-packages|[A-Z]:\\|\bat 0x"
)
TOLERANCE = 0.1
COVER = "book/images/cover.png"  # the picture that README.md and index.md show


class Refused(Exception):
    """The command can't be carried out, and nothing was changed."""


# ---------------------------------------------------------------------------------- pages


@dataclass(frozen=True)
class Page:
    """A notebook of the book, as two files."""

    md: Path

    @property
    def ipynb(self) -> Path:
        return self.md.with_suffix(".ipynb")

    @property
    def name(self) -> str:
        return self.md.stem

    @property
    def number(self) -> str:
        return self.name.split("_")[0]


def pages(root: Path, chapter: str | None = None) -> list[Page]:
    """Every notebook of the book, or the one with this name or number (``01``, ``1``)."""
    found = [Page(md) for md in files(root, "book/**/*.md") if is_notebook(md)]
    if chapter is None:
        return found
    chosen = [p for p in found if chapter in (p.name, p.number, p.number.lstrip("0"))]
    if not chosen:
        raise Refused(f"chapter: expected one of {[p.name for p in found]}, got {chapter!r}")
    return chosen


def files(root: Path, glob: str) -> list[Path]:
    """The files that match, without hidden ones such as Jupyter's checkpoints."""
    return sorted(
        path
        for path in root.glob(glob)
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def is_notebook(md: Path) -> bool:
    text = md.read_text(encoding="utf-8")
    if not text.startswith("---\n") or "\n---\n" not in text:
        return False
    return "jupytext" in (yaml.safe_load(text[4:].split("\n---\n")[0]) or {})


def read_notebook(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def write(path: Path, content: str | bytes) -> bool:
    """Write atomically, and only if something changes; say whether it did."""
    if isinstance(content, str):
        content = content.encode()
    if path.exists() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)
    return True


# ---------------------------------------------------------------------------------- sync


def address(root: Path) -> tuple[str, str]:
    """The repository's owner and name, from _config.yml, the one source."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    return parse_address(config["repository"]["url"])


def parse_address(url: str) -> tuple[str, str]:
    match = re.fullmatch(r"https://github\.com/([\w-]+)/([\w.-]+?)(?:\.git)?/?", url)
    if match is None:
        raise Refused(f"url: expected https://github.com/OWNER/NAME, got {url!r}")
    return match[1], match[2]


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

    times, rows = read_times(root), ["| Page | Time to run |", "| --- | --- |"]
    for page in pages(root):
        words = in_words(times.get(page.name))
        texts[page.md] = TIME.sub(words, texts[page.md])
        title = re.search(r"^# (.*)$", texts[page.md], re.MULTILINE)
        link = os.path.relpath(page.ipynb, root / "book/pages").replace(os.sep, "/")
        rows.append(f"| [{title[1] if title else page.name}]({link}) | {words} |")
        stored = read_notebook(page.ipynb) if page.ipynb.exists() else None
        texts[page.ipynb] = as_text(notebook(texts[page.md], stored))
    table = root / "book/pages/run_times.md"
    if table in texts:
        texts[table] = TIME.sub("\n\n" + "\n".join(rows) + "\n\n", texts[table])
    table = root / "book/pages/claims.md"
    if table in texts:
        texts[table] = CLAIMS.sub("\n\n" + claims_in_words(root) + "\n\n", texts[table])
    table = root / "book/pages/equations.md"
    if table in texts:
        listed = f"\n\n{equations_in_words(root)}\n\n"
        texts[table] = EQUATIONS.sub(lambda _: listed, texts[table])
    return texts


def notebook(text: str, stored: NotebookNode | None = None) -> NotebookNode:
    """The notebook of a page's Markdown, with the stored outputs of the cells that are the same."""
    nb = jupytext.reads(text, fmt="md:myst")
    nb.nbformat, nb.nbformat_minor = 4, 5
    outputs = defaultdict(deque)
    for cell in code_cells(stored) if stored else []:
        outputs[neutral(cell.source)].append(cell)
    seen = defaultdict(int)
    for cell in nb.cells:
        digest = sha256(f"{cell.cell_type}:{neutral(cell.source)}")[:12]
        seen[digest] += 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        if cell.cell_type == "code" and outputs[neutral(cell.source)]:
            same = outputs[neutral(cell.source)].popleft()
            cell.outputs, cell.execution_count = same.outputs, same.execution_count
    nb.metadata = nbformat.from_dict(
        {
            "jupytext": {
                "formats": "ipynb,md:myst",
                "text_representation": {"extension": ".md", "format_name": "myst"},
            },
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    if stored and "vae_book" in stored.metadata:
        nb.metadata["vae_book"] = stored.metadata["vae_book"]
    return nb


def neutral(source: str) -> str:
    """A cell's source without the repository's address, which changes nothing it computes."""
    return re.sub(r"git\+https://\S+", "git+https://", source)


def code_hash(nb: NotebookNode) -> str:
    return sha256("\0".join(neutral(cell.source) for cell in code_cells(nb)))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def as_text(nb: NotebookNode) -> str:
    nbformat.validate(nb)
    return nbformat.writes(nb) + "\n"


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


def set_address(root: Path, url: str) -> None:
    owner, name = parse_address(url)
    old_owner, old_name = address(root)
    config = root / "_config.yml"
    text = config.read_text(encoding="utf-8")
    write(config, text.replace(f"github.com/{old_owner}/{old_name}", f"github.com/{owner}/{name}"))


# ---------------------------------------------------------------------------------- run times


def read_times(root: Path) -> dict[str, float]:
    path = root / "book/run_times.json"
    if not path.exists():
        return {}
    return {name: t["seconds"] for name, t in json.loads(path.read_text()).items()}


def store_time(root: Path, name: str, seconds: float) -> None:
    """Store a run time, rounded to 5 s; one much like the stored one leaves that as it is."""
    times = read_times(root)
    old = times.get(name)
    if old is None or not old / 1.5 <= max(seconds, 5) <= old * 1.5:
        times[name] = max(5, 5 * round(seconds / 5))
    stored = {name: {"seconds": times[name]} for name in sorted(times)}
    write(root / "book/run_times.json", json.dumps(stored, indent=2) + "\n")


def in_words(seconds: float | None) -> str:
    if seconds is None:
        return "not measured yet"
    if seconds <= 5:
        return "a few seconds"
    if seconds < 90:
        return f"about {seconds:g} seconds"
    return f"about {round(seconds / 30) / 2:g} minutes"


# ---------------------------------------------------------------------------------- execute


def environment(data: str = DATA, seed: int = SEED) -> dict[str, str]:
    """What a notebook's kernel runs in: everything that could change its outputs is fixed."""
    env = os.environ | {
        "VAE_CORE_DATA": data,
        "VAE_CORE_SEED": str(seed),
        "VAE_CORE_PROGRESS": "0",
        "VAE_CORE_WIDGETS": "0",
        "VAE_CORE_SLOW": "0",
        "OMP_NUM_THREADS": str(THREADS),
        "MKL_NUM_THREADS": str(THREADS),
        "CUDA_VISIBLE_DEVICES": "",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONPATH": os.pathsep.join(
            [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
    }
    if env.get("VAE_CORE_DATA_DIR"):  # a kernel runs in its notebook's folder
        env["VAE_CORE_DATA_DIR"] = str(Path(env["VAE_CORE_DATA_DIR"]).expanduser().resolve())
    return env


def refuse_without_mnist() -> None:
    got = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment(), capture_output=True, text=True
    )
    if got.returncode != 0 or got.stdout.strip() != DATA:
        reason = (got.stderr.strip() or got.stdout.strip() or "nothing").splitlines()[-1]
        raise Refused(
            f"stored outputs are made on MNIST only, and it can't be had here: {reason}\n"
            "Set VAE_CORE_DATA_DIR to the folder that holds (or may hold) MNIST/raw."
        )


def run(nb: NotebookNode, folder: Path, data: str = DATA, seed: int = SEED) -> NotebookNode:
    """A copy of the notebook, executed in its folder; no cell failed, and it had this data."""
    nb = deepcopy(nb)
    nb.cells.append(nbformat.v4.new_code_cell(PROBE))
    client = NotebookClient(
        nb,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # no warning about the transport at each start
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute(env=environment(data, seed))
    except CellExecutionError as error:
        number = [bool(errors(cell)) for cell in code_cells(nb)].index(True) + 1
        raise Refused(f"code cell {number} failed\n{error}") from None
    except DeadKernelError as error:
        raise Refused(f"the kernel died: {error}") from None
    given = "".join(output.get("text", "") for output in nb.cells.pop().outputs).strip()
    if given != data:
        raise Refused(f"data: expected {data!r} at the end of the notebook, got {given!r}")
    for cell in code_cells(nb):
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET, None)  # its model's id is new at every run
    return nb


def errors(cell: NotebookNode) -> list[NotebookNode]:
    return [output for output in cell.outputs if output.output_type == "error"]


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


def execute(root: Path, chapter: str | None) -> int:
    """Run notebooks on MNIST and store their outputs; the number of those that failed."""
    chosen, failed = pages(root, chapter), 0
    refuse_without_mnist()
    for page in chosen:
        print(f"{page.name}: running", flush=True)
        nb = nbformat.reads(synced(root)[page.ipynb], as_version=4)
        started = time.monotonic()
        try:
            ran = run(nb, page.md.parent)
        except Refused as error:
            print(f"{page.name}: nothing stored, for {error}")
            failed += 1
            continue
        seconds = time.monotonic() - started
        for cell, done in zip(code_cells(nb), code_cells(ran), strict=True):
            cell.outputs, cell.execution_count = done.outputs, done.execution_count
        nb.metadata["vae_book"] = stamp(nb)
        write(page.ipynb, as_text(nb))
        store_time(root, page.name, seconds)
        sync(root, only={page.md, page.ipynb, root / "book/pages/run_times.md"})
        print(f"{page.name}: stored, {seconds:.0f} s")
    return failed


# ---------------------------------------------------------------------------------- reproduce


def reproduce(root: Path, chapter: str | None) -> int:
    """Run notebooks on MNIST and compare with what is stored; the number of differences."""
    chosen, count = pages(root, chapter), 0
    refuse_without_mnist()
    for page in chosen:
        print(f"{page.name}: running", flush=True)
        stored = read_notebook(page.ipynb)
        try:
            found = list(differences(stored, run(stored, page.md.parent)))
        except Refused as error:
            found = [str(error)]
        for difference in found:
            print(f"{page.ipynb.relative_to(root)}, {difference}")
        count += len(found)
        measured = sum(
            len(MEASURED.findall(text)) for cell in code_cells(stored) for _, text in texts_of(cell)
        )
        print(f"{page.name}: {measured} measured values compared, {len(found)} differences")
    return count


def differences(stored: NotebookNode, got: NotebookNode) -> Iterator[str]:
    """What differs between the text of two runs: each time, which cell, and both versions."""
    pairs = zip(code_cells(stored), code_cells(got), strict=True)
    for number, (old, new) in enumerate(pairs, start=1):
        old_texts, new_texts = texts_of(old), texts_of(new)
        kinds, new_kinds = [k for k, _ in old_texts], [k for k, _ in new_texts]
        if kinds != new_kinds:
            yield f"code cell {number}\n  stored: {kinds or 'no output'}\n  got:    {new_kinds}"
            continue
        for (_, before), (_, now) in zip(old_texts, new_texts, strict=True):
            for a, b in compare(before, now):
                yield f"code cell {number}\n  stored: {a}\n  got:    {b}"


def texts_of(cell: NotebookNode) -> list[tuple[str, str]]:
    """A cell's outputs as (kind, text); of a picture only that there is one."""
    texts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            texts.append((output.name, output.text))
        for kind, content in sorted(output.get("data", {}).items()):
            if kind != WIDGET:
                texts.append((kind, "" if kind.startswith("image/") else str(content)))
        if output.output_type == "error":
            texts.append(("error", f"{output.ename}: {output.evalue}"))
    return texts


def compare(stored: str, got: str) -> list[tuple[str, str]]:
    """The differing parts: what is between ⟨ and ⟩ within the tolerance, the rest exactly."""
    old, new = MEASURED.split(stored), MEASURED.split(got)
    if old[::2] != new[::2]:
        lines = zip(stored.splitlines(), got.splitlines(), strict=False)
        masked = (pair for pair in lines if MEASURED.sub("", pair[0]) != MEASURED.sub("", pair[1]))
        return [next(masked, (stored, got))]
    pairs = zip(old[1::2], new[1::2], old[2::2], strict=True)
    return [(f"⟨{a}⟩", f"⟨{b}⟩") for a, b, after in pairs if not agree(a, b, bound(after))]


def bound(after: str) -> float:
    """The bound that ``claim`` printed after a value said to lie below it; 0 if there is none."""
    found = BELOW.match(after)
    return float(found[1]) if found else 0.0


def agree(stored: str, got: str, bound: float = 0.0) -> bool:
    """Same words, and numbers within 10 % or one unit of the last printed digit.

    10 % of the value, or of the bound that it was claimed to lie below: how far a rounding error
    of 1e-7 lies below 1e-5 differs from one processor to the next.
    """
    words, new_words = (" ".join(NUMBER.sub(" # ", text).split()) for text in (stored, got))
    if words != new_words:
        return False
    pairs = zip(NUMBER.findall(stored), NUMBER.findall(got), strict=True)
    return all(
        abs(value(a) - value(b))
        <= 1.000001 * max(TOLERANCE * max(abs(value(a)), bound), unit(a), unit(b))
        for a, b in pairs
    )


def value(number: str) -> float:
    return float(number.replace(",", "").replace("−", "-"))


def unit(number: str) -> float:
    """One unit of the last printed digit: 0.01 for 1.25, 100 for 1.2e3."""
    mantissa, _, exponent = number.lower().partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


# ---------------------------------------------------------------------------------- claims


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
        nb = nbformat.reads(synced(root)[page.ipynb], as_version=4)
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
        sync(root, only={root / "book/pages/claims.md"})
    return failed


def claims_in_words(root: Path) -> str:
    """The tables of the page of claims."""
    stored, lines = read_claims(root), []
    for page in pages(root):
        if page.name in stored:
            title = re.search(r"^# (.*)$", page.md.read_text(encoding="utf-8"), re.MULTILINE)
            lines += [f"## {title[1]}", "", "| claim | bound | on MNIST | on StrokeDigits |"]
            lines += ["| --- | --- | --- | --- |"]
            for row in stored[page.name]:
                ranges = [" to ".join(f"{end:.4g}" for end in row[data]) for data in CLAIM_DATA]
                lines.append(f"| {row['claim']} | {row['bound']} | {' | '.join(ranges)} |")
            lines.append("")
    return "\n".join(lines).strip()


# ---------------------------------------------------------------------------------- equations


@dataclass(frozen=True)
class Display:
    """A displayed formula with one or more numbers: its Markdown, and the heading above it."""

    markdown: str
    numbers: list[str]
    heading: str


def numbered_displays(text: str) -> list[Display]:
    """Every displayed formula of a page's Markdown that has a number, in order."""
    text, found = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), []
    for match in DISPLAY.finditer(text):
        if numbers := TAG.findall(match[0]):
            heading = re.findall(r"^#+ (.*)$", text[: match.start()], re.MULTILINE)[-1]
            found.append(Display(match[0], numbers, heading))
    return found


def anchor(heading: str) -> str:
    """GitHub's anchor of a heading, which the site uses too."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def code_of(page: Page) -> list[str]:
    """The lines of a page's code cells and of its solutions."""
    nb = notebook(page.md.read_text(encoding="utf-8"))
    sources = [cell.source for cell in code_cells(nb)]
    sources += [fence for fences in solutions(nb) for fence in fences]
    return [line for source in sources for line in source.splitlines()]


def equations_in_words(root: Path) -> str:
    """Each numbered formula, and the lines of code of its own page that name its numbers."""
    lines = []
    for page in pages(root):
        text, code = page.md.read_text(encoding="utf-8"), code_of(page)
        displays = numbered_displays(text)
        if displays:
            title = re.search(r"^# (.*)$", text, re.MULTILINE)
            lines += [f"## {title[1]}", ""]
        link = os.path.relpath(page.ipynb, root / "book/pages").replace(os.sep, "/")
        heading = None
        for display in displays:
            if display.heading != heading:
                heading = display.heading
                lines += [f"### [{heading}]({link}#{anchor(heading)})", ""]
            marks = [f"({number})" for number in display.numbers]
            named = [line.strip() for line in code if any(mark in line for mark in marks)]
            lines += [display.markdown, "", "```python", *dict.fromkeys(named), "```", ""]
    return "\n".join(lines).strip()


# ---------------------------------------------------------------------------------- solutions


def solutions(nb: NotebookNode) -> list[list[str]]:
    """The Python code of each folded solution (each <details> that has some)."""
    found, inside = [], False
    for cell in nb.cells:
        for token in MarkdownIt().parse(cell.source) if cell.cell_type == "markdown" else []:
            if token.type == "html_block" and "details>" in token.content:
                inside = "</details>" not in token.content
                found += [[]] if inside else []
            elif inside and token.type == "fence" and token.info == "python":
                found[-1].append(token.content)
    return [fences for fences in found if fences]


# ---------------------------------------------------------------------------------- check


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
        source = notebook(page.md.read_text(encoding="utf-8"))
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
        if not TIME.search(page.md.read_text(encoding="utf-8")):
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
    """Every claim of the stored outputs has been tried, and its stored value is in the range."""
    wrong, stored = [], read_claims(root)
    for page, nb in notebooks(root):
        now = claims_of(nb)
        rows = stored.get(page.name, [])
        if [(claim, limits) for claim, limits, _ in now] != [
            (r["claim"], r["bound"]) for r in rows
        ]:
            wrong.append(f"{page.name}: its claims aren't those of claims.json (run `make claims`)")
            continue
        for (claim, _, value), row in zip(now, rows, strict=True):
            low, high = row[DATA]
            if not (low <= value <= high or agree(str(low), str(value))):
                wrong.append(f"{page.name}: {claim}: {value:g} isn't from {low:g} to {high:g}")
    return wrong


def check_equations(root: Path) -> list[str]:
    """Every numbered equation is named by a line of code on its own page."""
    wrong = []
    for page in pages(root):
        code = "\n".join(code_of(page))
        for display in numbered_displays(page.md.read_text(encoding="utf-8")):
            wrong += [
                f"{page.name}: no line of code names equation ({number})"
                for number in display.numbers
                if f"({number})" not in code
            ]
    return wrong


CHECKS: list[Callable[[Path], list[str]]] = [
    check_pairs,
    check_stamps,
    check_outputs,
    check_alt_text,
    check_setup_cells,
    check_addresses,
    check_run_times,
    check_cover,
    check_claims,
    check_equations,
]


def notebooks(root: Path) -> list[tuple[Page, NotebookNode]]:
    return [(page, read_notebook(page.ipynb)) for page in pages(root) if page.ipynb.exists()]


# ---------------------------------------------------------------------------------- command line


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync", help=".md to .ipynb, times, claims and equations to their places")
    commands.add_parser("address", help="change the repository's address").add_argument("url")
    for name, text in (
        ("execute", "run on MNIST and store the outputs"),
        ("reproduce", "run on MNIST and compare with the stored outputs"),
        ("claims", "run with five seeds on MNIST and StrokeDigits; store the claims' ranges"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("chapter", nargs="?", help="a page's number or name (default: all)")
    commands.add_parser("check", help="say what is wrong with the notebooks as they are")
    args = parser.parse_args(argv)

    try:
        if args.command == "address":
            set_address(root, args.url)
        if args.command in ("address", "sync"):
            for path in sync(root):
                print(f"{path.relative_to(root)}: written")
            return 0
        if args.command == "check":
            wrong = [message for check in CHECKS for message in check(root)]
            print("\n".join(wrong) or f"{len(pages(root))} notebooks, nothing wrong")
            return 1 if wrong else 0
        work = {"execute": execute, "reproduce": reproduce, "claims": try_claims}[args.command]
        return 1 if work(root, args.chapter) else 0
    except Refused as error:
        print(f"book.py {args.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
