"""GitHub's workflows: valid by GitHub's schema, and calling only what is there."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def schema_errors(path: Path) -> str:
    """What the workflow schema that check-jsonschema ships (no network) says against a file."""
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("workflow tests skipped: check-jsonschema is not installed (requirements.txt)")
    command = [sys.executable, "-m", "check_jsonschema"]
    command += ["--builtin-schema", "vendor.github-workflows", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return "" if done.returncode == 0 else done.stdout + done.stderr or "failed"


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
def test_valid_by_the_schema(path: Path):
    assert schema_errors(path) == ""


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_calls_only_what_is_there(path: Path):
    assert missing_commands(without_comments(path.read_text(encoding="utf-8"))) == []


def test_publishing_puts_in_the_real_address():
    text = (ROOT / ".github/workflows/publish.yml").read_text(encoding="utf-8")
    address, book = text.find("make address URL="), text.find("run: make book")
    assert 0 < address < book and "$GITHUB_REPOSITORY" in text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("runs-on:", "run-on:"),
        ("timeout-minutes: 20", "timeout-minutes: soon"),
        ("contents: read", "contents: all"),
        ("needs: build", "neds: build"),
    ],
)
def test_invalid_workflow_is_found(tmp_path: Path, old: str, new: str):
    text = (ROOT / ".github/workflows/publish.yml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "publish.yml").write_text(text.replace(old, new), encoding="utf-8")
    assert schema_errors(tmp_path / "publish.yml")


def test_missing_command_is_found():
    assert missing_commands("make nonsense") == ["make nonsense"]
    assert missing_commands("pytest tests/test_nothing.py") == ["tests/test_nothing.py"]
