"""How long each page takes to run, from runs."""

import json
import re
from pathlib import Path

from .pages import write

TIME = re.compile(r"(?<=<!-- time -->).*?(?=<!-- /time -->)", re.DOTALL)


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
