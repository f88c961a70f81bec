"""GitHub's workflows: valid by GitHub's schema, and calling only what is there."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


BROKEN = [
    ("runs-on:", "run-on:"),
    ("timeout-minutes: 20", "timeout-minutes: soon"),
    ("contents: read", "contents: all"),
    ("needs: build", "neds: build"),
]


@pytest.fixture(scope="module")
def refused(tmp_path_factory) -> set[str]:
    """Which workflows, and which of BROKEN, the schema that check-jsonschema ships refuses."""
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("workflow tests skipped: check-jsonschema is not installed (requirements.txt)")
    folder = tmp_path_factory.mktemp("workflows")
    text = (ROOT / ".github/workflows/publish.yml").read_text(encoding="utf-8")
    for number, (old, new) in enumerate(BROKEN):
        assert old in text
        (folder / f"broken{number}.yml").write_text(text.replace(old, new), encoding="utf-8")
    files = [str(path) for path in (*WORKFLOWS, *folder.iterdir())]
    command = [sys.executable, "-m", "check_jsonschema", "--output-format", "json"]
    command += ["--builtin-schema", "vendor.github-workflows", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = json.loads(done.stdout)
    assert not said.get("parse_errors"), said
    return {Path(error["filename"]).stem for error in said["errors"]}


def missing_commands(text: str) -> list[str]:
    """Make targets and files of the repository that a workflow names and that aren't there."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):", makefile, re.MULTILINE)
    problems = [f"make {t}" for t in re.findall(r"\bmake ([a-z]+)", text) if t not in targets]
    paths = re.findall(r"(?<![\w./-])((?:tests|tools|\.ci|book)/[\w./-]*[\w/])", text)
    return problems + [path for path in paths if not (ROOT / path).exists()]


def without_comments(text: str) -> str:
    return re.sub(r"^\s*#.*$|\s# .*$", "", text, flags=re.MULTILINE)


def test_there_are_three():
    assert [path.stem for path in WORKFLOWS] == ["publish", "test", "weekly"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_valid_by_the_schema(refused: set[str], path: Path):
    assert path.stem not in refused


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_invalid_workflow_is_found(refused: set[str], number: int):
    assert f"broken{number}" in refused


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_calls_only_what_is_there(path: Path):
    assert missing_commands(without_comments(path.read_text(encoding="utf-8"))) == []


def test_publishing_puts_in_the_real_address():
    text = (ROOT / ".github/workflows/publish.yml").read_text(encoding="utf-8")
    address, book = text.find("make address URL="), text.find("run: make book")
    assert 0 < address < book and "$GITHUB_REPOSITORY" in text


def test_missing_command_is_found():
    assert missing_commands("make nonsense") == ["make nonsense"]
    assert missing_commands("pytest tests/test_nothing.py") == ["tests/test_nothing.py"]
