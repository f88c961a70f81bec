"""Images to train on: MNIST and two relatives of it, or digits drawn on the spot.

`load()` gives MNIST where it can be had and StrokeDigits (`vae_core.strokes`) where it can't, and
always says which. `load("mnist")`, or the environment variable VAE_CORE_DATA=mnist, insists.

Pixels are **grey** values, uint8 from 0 (background) to 255 (ink).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import queue
import struct
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vae_core import strokes
from vae_core._checks import checked_seed
from vae_core.devices import pick_device
from vae_core.pixels import binarise

__all__ = ["NAMES", "DataError", "DataFolderError", "ImageData", "Split", "data_dir", "load"]

NAMES = ("mnist", "fashion_mnist", "kmnist", "strokes")

# The classes of torchvision.datasets that know where the files are, and their folders' names.
_CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
_N_VAL = {"mnist": 5_000, "fashion_mnist": 5_000, "kmnist": 5_000, "strokes": 2_000}
_FILES = {  # name and number of items
    "train-images-idx3-ubyte": 60_000,
    "train-labels-idx1-ubyte": 60_000,
    "t10k-images-idx3-ubyte": 10_000,
    "t10k-labels-idx1-ubyte": 10_000,
}
_MD5 = {  # of the unpacked files; torchvision has those of the packed ones
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
}

_SOCKET_S = 5.0  # longest wait for a connection and for each further piece of an answer
_SILENCE_S = 15.0  # longest silence of all: looking up a name has no time limit of its own
_UNNAMED_S, _NAMED_S = 60.0, 900.0  # longest time for all files together


class DataError(OSError):
    """A data set can't be had: not on disk, and not to be fetched."""


class DataFolderError(DataError):
    """The data folder can't be used: it is a file, or can't be written."""


class _Damaged(ValueError):
    """Contents that aren't what they should be; the message says in what."""


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    images: uint8 [N, 28, 28], 0 … 255. labels: int64 [N]. factors: what each image was drawn from,
    where that is known (strokes), each [N], float32 in the units of `strokes.FACTORS`, and
    "style", int64; otherwise None.
    """

    images: Tensor
    labels: Tensor
    factors: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> Split:
        if not isinstance(index, slice):  # also keeps Python from iterating over a split
            raise TypeError(f"index: expected a slice, got {index!r}; index .images or .labels")
        factors = self.factors and {name: values[index] for name, values in self.factors.items()}
        return Split(self.images[index], self.labels[index], factors)

    def to(self, device: str | torch.device) -> Split:
        """The same on another device."""
        factors = self.factors and {name: v.to(device) for name, v in self.factors.items()}
        return Split(self.images.to(device), self.labels.to(device), factors)

    def __repr__(self) -> str:
        factors = f", factors: {', '.join(self.factors)}" if self.factors else ""
        return f"Split({len(self):,} images on {self.images.device}{factors})"


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set in its three parts, and how its pixels are to be read.

    "grey": as they are. "fixed": every image drawn black and white once. "redrawn": the training
    images are grey, and `fit(…, redraw=True)` draws them anew in each batch; the validation and
    test images are drawn once. Numbers from different binarisations can't be compared.
    """

    name: str
    train: Split
    val: Split
    test: Split
    binarisation: str = "grey"

    def binarised(self, how: str, *, seed: int = 0) -> ImageData:
        """The data set in black and white, each pixel ink with its grey value as probability.

        `how` is "fixed" (all parts are drawn now, once) or "redrawn" (only the validation and test
        images are; the training images stay grey, to be drawn anew in each batch by
        `fit(…, redraw=True)`). The draws depend on `seed` alone. The files that the literature
        calls "binarized MNIST" are another draw of the same kind as "fixed".

        Raises ValueError for another `how`, where the images aren't grey any more, and for a seed
        below 0 or from 2**63 on; TypeError for a seed that isn't an integer.
        """
        seed = checked_seed(seed)
        if how not in ("fixed", "redrawn"):
            raise ValueError(f"how: expected 'fixed' or 'redrawn', got {how!r}")
        if self.binarisation != "grey":
            raise ValueError(f"how: expected grey images to binarise, got {self.binarisation} ones")
        parts = []
        for number, part in enumerate((self.train, self.val, self.test)):
            if how == "fixed" or number > 0:  # 0 is the training part
                generator = torch.Generator().manual_seed((3 * seed + number) % 2**64)
                drawn = binarise(part.images.cpu(), generator).to(part.images.device)
                part = Split(drawn, part.labels, part.factors)
            parts.append(part)
        return ImageData(self.name, *parts, how)

    def to(self, device: str | torch.device) -> ImageData:
        """The same on another device."""
        parts = (part.to(device) for part in (self.train, self.val, self.test))
        return ImageData(self.name, *parts, self.binarisation)

    def __repr__(self) -> str:
        return (
            f"{self.name}: {len(self.train):,} training, {len(self.val):,} validation and "
            f"{len(self.test):,} test images, {self.binarisation}"
        )


def load(
    name: str | None = None, *, device: str | torch.device = "cpu", quiet: bool = False
) -> ImageData:
    """Load a data set of grey 28 × 28 images, and print one line that says which.

    `name`, else the environment variable VAE_CORE_DATA, is one of `NAMES`. With neither it is
    MNIST if that is on disk or can be fetched promptly, else strokes; the line then says why, and
    how to get MNIST. A data set that was named is never replaced by another.

    The validation part is the end of the training images: 5,000 of 60,000, for strokes 2,000 of
    20,000. Files are looked for, and put, in `data_dir()`; a damaged one is named in a warning
    and fetched again. `quiet` leaves out the line, not the warning.

    Raises ValueError (unknown name or device), TypeError, DataError (can't be had) or its subclass
    DataFolderError (the folder is a file, or can't be written). Files and checksums: torchvision.
    """
    asked_by, wanted = "name", name
    if wanted is None:
        asked_by, wanted = "VAE_CORE_DATA", os.environ.get("VAE_CORE_DATA") or None
    if wanted is not None:
        _check_name(asked_by, wanted)
    device = pick_device(device)

    note = ""
    if wanted is not None:
        data = _strokes() if wanted == "strokes" else _from_files(wanted, _NAMED_S)
    else:
        try:
            data = _from_files("mnist", _UNNAMED_S)
        except DataError as error:
            if isinstance(error, DataFolderError) and os.environ.get("VAE_CORE_DATA_DIR"):
                raise  # somebody meant that folder to be used
            data = _strokes()
            note = (
                f"; instead of MNIST: {' '.join(str(error).split())}. To get MNIST, run "
                f'vae_core.load("mnist") once with a connection to the internet'
            )
    if not quiet:
        print(f"⟨{data!r}{note}⟩")
    return data.to(device)


def data_dir() -> Path:
    """The folder of downloaded data: $VAE_CORE_DATA_DIR, else one in the user's cache folder."""
    if given := os.environ.get("VAE_CORE_DATA_DIR"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        cache = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vae_core"


# ---------------------------------------------------------------------------- checks, drawn digits


def _check_name(asked_by: str, name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{asked_by}: expected one of {', '.join(NAMES)}, got {name!r}")
    if name not in NAMES:
        raise ValueError(f"{asked_by}: expected one of {', '.join(NAMES)}, got {name!r}")


def _strokes() -> ImageData:
    train, test = (
        Split(
            torch.tensor(images),
            torch.tensor(labels),
            {
                name: torch.tensor(v, dtype=torch.int64 if name == "style" else torch.float32)
                for name, v in factors.items()
            },
        )
        for images, labels, factors in strokes.dataset()
    )
    return _divide("strokes", train, test)


def _divide(name: str, train: Split, test: Split) -> ImageData:
    n = len(train) - _N_VAL[name]
    return ImageData(name, train[:n], train[n:], test)


# ---------------------------------------------------------------------------- files


def _from_files(name: str, seconds: float) -> ImageData:
    """A data set from its four files; those that are missing or damaged are fetched first."""
    raw = data_dir() / _CLASSES[name] / "raw"
    found, missing = {}, []
    for file in _FILES:
        try:
            found[file] = _parse(file, (raw / file).read_bytes(), _expected_md5(name, raw, file))
            continue
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (_Damaged, OSError) as error:
            warnings.warn(f"{raw / file}: {error}; fetching it again", stacklevel=3)
        missing.append(file)
    if missing:
        found |= _fetch_files(name, raw, missing, time.monotonic() + seconds)
    train, test = (
        Split(found[f"{part}-images-idx3-ubyte"], found[f"{part}-labels-idx1-ubyte"].long())
        for part in ("train", "t10k")
    )
    return _divide(name, train, test)


def _expected_md5(name: str, raw: Path, file: str) -> str | None:
    """The sum an unpacked file must have: known for MNIST, else noted when it was fetched."""
    if name in _MD5:
        return _MD5[name][file]
    try:
        return (raw / f"{file}.md5").read_text(encoding="ascii", errors="replace")[:32]
    except FileNotFoundError:
        return None


def _parse(file: str, content: bytes, md5: str | None) -> Tensor:
    """The tensor in an IDX file [N, 28, 28] or [N]; raises _Damaged if it isn't what it must be."""
    n = _FILES[file]
    shape = (n, 28, 28) if "images" in file else (n,)
    header = struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape), *shape)
    size = len(header) + torch.Size(shape).numel()
    if len(content) != size:
        raise _Damaged(f"damaged, expected {size:,} bytes, got {len(content):,}")
    if not content.startswith(header):
        raise _Damaged(f"damaged, expected the header {header.hex()}, got {content[:16].hex()}")
    if md5 is not None and (got := _md5(content)) != md5:
        raise _Damaged(f"damaged, expected md5 {md5}, got {got}")
    tensor = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=len(header))
    return tensor.view(shape)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _fetch_files(name: str, raw: Path, files: list[str], deadline: float) -> dict[str, Tensor]:
    """Fetches, verifies and unpacks files into the folder `raw`; each is there whole or not."""
    try:  # is the folder, or where it is going to be, one that can be written?
        there = next((f for f in (raw, *raw.parents) if f.exists()), raw)
        tempfile.TemporaryDirectory(prefix=".download-", dir=there).cleanup()
    except OSError as error:
        raise _folder_error(error, files) from error
    try:
        from torchvision import datasets
    except Exception as error:  # missing, or not made for this torch: that shows in many ways
        raise DataError(f"{name}: fetching it needs torchvision, which fails: {error}") from error
    source = getattr(datasets, _CLASSES[name])
    packed_md5 = dict(source.resources)

    tensors = {}
    for file in files:
        failures = []
        for mirror in source.mirrors:
            try:
                packed = _fetch(f"{mirror}{file}.gz", packed_md5[f"{file}.gz"], deadline)
                content = gzip.decompress(packed)
                tensors[file] = _parse(file, content, _MD5.get(name, {}).get(file))
                break
            except (_Damaged, OSError, EOFError, zlib.error) as error:
                failures.append(f"{mirror}: {error}")
        else:
            raise DataError(
                f"{name}: could not fetch {file}.gz from {'; from '.join(failures)} "
                f"(unpacked by hand, it belongs into {raw})"
            )
        # The other files of this folder are whole at any moment, also for another process.
        try:
            raw.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download-", dir=raw) as folder:
                if name not in _MD5:
                    (Path(folder) / "md5").write_text(f"{_md5(content)}  {file}\n")
                    os.replace(Path(folder) / "md5", raw / f"{file}.md5")
                (Path(folder) / file).write_bytes(content)
                os.replace(Path(folder) / file, raw / file)
        except OSError as error:
            raise _folder_error(error, [file]) from error
    return tensors


def _folder_error(error: OSError, files: list[str]) -> DataFolderError:
    return DataFolderError(
        f"VAE_CORE_DATA_DIR: expected a folder that can be written, got {data_dir()}: "
        f"{error.strerror or error}; to put there: {', '.join(files)}"
    )


def _fetch(url: str, md5: str, deadline: float) -> bytes:
    """The content of a URL, held to a sum and a deadline (of `time.monotonic`).

    Raises OSError (refused, stalled, …) or _Damaged. A thread does the reading, for neither the
    look-up of a name nor a server that sends a byte at a time would keep to a deadline.
    """
    pieces: queue.SimpleQueue[bytes | int | Exception] = queue.SimpleQueue()
    given_up = threading.Event()

    def read() -> None:
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "vae_core"})
            with urllib.request.urlopen(request, timeout=_SOCKET_S) as answer:
                while not given_up.is_set() and (piece := answer.read1(1 << 16)):
                    pieces.put(piece)
                pieces.put(int(answer.headers.get("Content-Length", -1)))
        except Exception as error:
            pieces.put(error)

    if sys.stderr.isatty():  # a notebook's outputs should not tell whether it had to fetch
        print(f"fetching {url}", file=sys.stderr)
    threading.Thread(target=read, daemon=True).start()
    content = bytearray()
    try:
        while True:
            patience = min(_SILENCE_S, deadline - time.monotonic())
            try:
                piece = pieces.get(timeout=max(patience, 0.0))
            except queue.Empty:
                raise TimeoutError(f"stalled after {len(content):,} bytes") from None
            if isinstance(piece, Exception):
                reason = piece.reason if type(piece) is urllib.error.URLError else piece
                after = f" after {len(content):,} bytes" if content else ""
                raise OSError(f"{reason}{after}") from piece
            if isinstance(piece, int):
                if 0 <= len(content) < piece:
                    raise _Damaged(f"truncated, got {len(content):,} of {piece:,} bytes")
                break
            content += piece
    finally:
        given_up.set()
    if (got := _md5(content)) != md5:
        raise _Damaged(f"wrong bytes, expected md5 {md5}, got {got}")
    return bytes(content)
