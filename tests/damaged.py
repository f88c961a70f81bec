"""Files that went wrong: one list for everything that reads or writes files."""

import os
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Bomb:
    """Unpickling one leaves a file behind."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def damaged_copies(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each way in which the file could be damaged, or another file."""
    whole = path.read_bytes()
    yield "empty", b""
    for eighths in (1, 4, 7):
        yield f"{eighths}/8 of it", whole[: len(whole) * eighths // 8]
    yield "without its last byte", whole[:-1]
    yield "random bytes", random.Random(0).randbytes(len(whole))
    yield "a text", b"not what was expected"
    yield "a pickle", pickle.dumps({"weights": [1.0]})


def bomb(path: Path) -> bytes:
    """A pickle that leaves the file ``path`` behind where somebody unpickles it."""
    return pickle.dumps(Bomb(path))


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, whatever is written through pathlib stops half-way: no space is left."""
    write = Path.write_bytes

    def fill_up(self: Path, content: bytes) -> int:
        write(self, content[: len(content) // 2])
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill_up)
        yield
