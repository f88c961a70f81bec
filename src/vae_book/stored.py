"""Results of long computations that ship with the book, so that a page opens in seconds."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["stored"]

FOLDER = Path(__file__).parent / "results"
SWITCH = "VAE_CORE_STORED"


def stored(name: str, data: str, *uses: type | Callable) -> Callable[[Callable], Callable]:
    """A decorator: the function's results for a data set come from the file ``name`` where they
    are there, made by the same code; otherwise they are computed.

    "The same code" are the sources of the function and of the classes and functions ``uses`` that
    it builds on.
    ``$VAE_CORE_STORED`` is "ignore" to compute everything (``make reproduce`` does), "write" to
    store what had to be computed (``make execute`` does), or the path of a folder to keep it there
    for the next run (``make claims`` does).

    The function's arguments must have a repr of their own, and its result must be plain numbers,
    strings, lists and dictionaries.

    Raises: ValueError where the variable holds something else.
    """
    how = os.environ.get(SWITCH, "")
    keep = Path(how) if os.path.isabs(how) else None
    if keep is None and how not in ("", "ignore", "write"):
        raise ValueError(f"{SWITCH}: expected ignore, write or an absolute path, got {how!r}")
    file = FOLDER / f"{name}.json"

    def decorate(function: Callable) -> Callable:
        code = _hash_of(function, *uses)

        @functools.wraps(function)
        def remembered(*args: object, **kwargs: object) -> object:
            call = inspect.signature(function).bind(*args, **kwargs)
            call.apply_defaults()
            key = f"{data}: {', '.join(f'{k}={v!r}' for k, v in call.arguments.items())}"
            entry = {} if how == "ignore" else _read(file).get(key, {})
            if entry.get("code") == code:
                return entry["result"]
            # One file for each result, so that two runs can keep theirs at once.
            kept = keep and keep / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
            entry = _read(kept).get(key, {}) if kept else {}
            if entry.get("code") == code:
                return entry["result"]
            result = function(*args, **kwargs)
            new = {key: {"code": code, "result": result}}
            if how == "write":
                _write(file, dict(sorted((_read(file) | new).items())))
            elif kept:
                _write(kept, new)
            return result

        return remembered

    return decorate


def _hash_of(*uses: type | Callable) -> str:
    # A class of a notebook has no source that Python could find, but its functions do.
    parts = []
    for use in uses:
        own = vars(use).values() if isinstance(use, type) else [use]
        parts += [part for part in own if inspect.isfunction(part)]
    source = "\n".join(inspect.getsource(part) for part in parts)
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def _read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _write(file: Path, entries: dict) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in entries.items()]
    part = file.with_suffix(".part")
    part.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    os.replace(part, file)
