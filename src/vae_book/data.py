"""Images to train on: MNIST and two relatives of it, or digits drawn on the spot.

`load()` gives MNIST where it can be had and StrokeDigits (`vae_book.strokes`) where it can't, and
always says which. `load("mnist")`, or the environment variable VAE_CORE_DATA=mnist, insists.

Pixels are **grey** values, uint8 from 0 (background) to 255 (ink).
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vae_book import brush, strokes
from vae_core._checks import checked_seed
from vae_core.devices import pick_device
from vae_core.images import binarise

__all__ = ["NAMES", "DataError", "ImageData", "Split", "data_dir", "last_loaded", "load"]

NAMES = ("mnist", "fashion_mnist", "kmnist", "strokes", "brush")
_last_loaded: str | None = None
TIMEOUT = 5.0  # seconds to wait for a connection, and for each further piece of an answer

_N_VAL = dict.fromkeys(NAMES, 5_000) | {"strokes": 2_000, "brush": 2_000}
_DRAWN = {"strokes": strokes.dataset, "brush": brush.dataset}
_FILES = {  # name and number of items
    "train-images-idx3-ubyte": 60_000,
    "train-labels-idx1-ubyte": 60_000,
    "t10k-images-idx3-ubyte": 10_000,
    "t10k-labels-idx1-ubyte": 10_000,
}


class Source(NamedTuple):
    """Where the packed files of a data set are, their md5 sums, and torchvision's folder."""

    folder: str
    mirrors: tuple[str, ...]
    md5: dict[str, str]


SOURCES = {
    "mnist": Source(
        "MNIST",
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        {
            "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion_mnist": Source(
        "FashionMNIST",
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        {
            "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
    "kmnist": Source(
        "KMNIST",
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        {
            "train-images-idx3-ubyte": "bdb82020997e1d708af4cf47b453dcf7",
            "train-labels-idx1-ubyte": "e144d726b3acfaa3e44228e80efcd344",
            "t10k-images-idx3-ubyte": "5c965bf0a639b31b8f53240b1b52f4d7",
            "t10k-labels-idx1-ubyte": "7320c461ea6c1c855c0b718fb2a4b134",
        },
    ),
}


# Of the unpacked files, which torchvision leaves behind; of the other sets only sizes are known.
UNPACKED_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
}


class DataError(OSError):
    """A data set can't be had: not on disk, and not to be fetched."""


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    images: uint8 [N, 28, 28], 0 … 255. labels: int64 [N]. factors: what each image was drawn from,
    where that is known (strokes, brush), each [N], float32 in the units of `strokes.FACTORS` or
    `brush.FACTORS`, and "style", int64; otherwise None.
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

    The validation part is the end of the training images: 5,000 of 60,000, for strokes and brush
    2,000 of 20,000. Files are looked for, and put, in `data_dir()`; a damaged one is named in a
    warning and fetched again. `quiet` leaves out the line, not the warning.

    Raises ValueError (unknown name or device), TypeError, or DataError (can't be had). Checksums
    are torchvision's.
    """
    asked_by, wanted = "name", name
    if wanted is None:
        asked_by, wanted = "VAE_CORE_DATA", os.environ.get("VAE_CORE_DATA") or None
    if wanted is not None:
        _check_name(asked_by, wanted)
    device = pick_device(device)

    note = ""
    if wanted is not None:
        data = _drawn(wanted) if wanted in _DRAWN else _from_files(wanted)
    else:
        try:
            data = _from_files("mnist")
        except DataError as error:
            data = _drawn("strokes")
            note = (
                f"; instead of MNIST: {' '.join(str(error).split())}. To get MNIST, run "
                f'vae_book.data.load("mnist") once with a connection to the internet'
            )
    if not quiet:
        print(f"⟨{data!r}{note}⟩")
    global _last_loaded
    _last_loaded = data.name
    return data.to(device)


def last_loaded() -> str | None:
    """The name of the data set that `load` gave last in this process; None before the first."""
    return _last_loaded


def data_dir() -> Path:
    """The folder of downloaded data: $VAE_CORE_DATA_DIR, else one in the user's cache folder."""
    import pooch

    given = os.environ.get("VAE_CORE_DATA_DIR")
    return Path(given).expanduser() if given else pooch.os_cache("vae_core")


# ---------------------------------------------------------------------------- checks, drawn digits


def _check_name(asked_by: str, name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{asked_by}: expected one of {', '.join(NAMES)}, got {name!r}")
    if name not in NAMES:
        raise ValueError(f"{asked_by}: expected one of {', '.join(NAMES)}, got {name!r}")


def _drawn(name: str) -> ImageData:
    train, test = (
        Split(
            torch.tensor(images),
            torch.tensor(labels),
            {
                factor: torch.tensor(v, dtype=torch.int64 if factor == "style" else torch.float32)
                for factor, v in factors.items()
            },
        )
        for images, labels, factors in _DRAWN[name]()
    )
    return _divide(name, train, test)


def _divide(name: str, train: Split, test: Split) -> ImageData:
    n = len(train) - _N_VAL[name]
    return ImageData(name, train[:n], train[n:], test)


# ---------------------------------------------------------------------------- files


def _from_files(name: str) -> ImageData:
    """A data set from its four files; those that are missing or damaged are fetched first."""
    parts = {}
    for file in _FILES:
        content = bytearray(_content(name, file))
        values = torch.frombuffer(content, dtype=torch.uint8, offset=len(_header(file)))
        parts[file] = values.view(_shape(file))
    train, test = (
        Split(parts[f"{part}-images-idx3-ubyte"], parts[f"{part}-labels-idx1-ubyte"].long())
        for part in ("train", "t10k")
    )
    return _divide(name, train, test)


def _content(name: str, file: str) -> bytes:
    """What a file holds, unpacked: from disk, as it lies there or packed, or from the network."""
    unpacked = data_dir() / SOURCES[name].folder / "raw" / file
    try:
        content, header = unpacked.read_bytes(), _header(file)
        whole = content.startswith(header) and len(content) == len(header) + math.prod(_shape(file))
        md5 = UNPACKED_MD5.get(name, {}).get(file)
        if whole and md5 in (None, hashlib.md5(content, usedforsecurity=False).hexdigest()):
            return content
        warnings.warn(f"{unpacked}: damaged; taking {file}.gz instead", stacklevel=4)
    except OSError:
        pass  # not there, or not to be read
    return gzip.decompress(_fetched(name, unpacked.with_name(f"{file}.gz")).read_bytes())


def _fetched(name: str, packed: Path) -> Path:
    """The packed file, whole: the one that is there, or a new one from the first good mirror."""
    import pooch
    import requests

    source, failures = SOURCES[name], []
    md5 = source.md5[packed.name.removesuffix(".gz")]
    pooch.get_logger().setLevel("WARNING")  # a notebook's output shouldn't tell that it fetched
    try:
        if packed.is_file() and pooch.file_hash(str(packed), alg="md5") != md5:
            warnings.warn(f"{packed}: damaged; fetching it again", stacklevel=5)
        for mirror in source.mirrors:
            try:
                return Path(
                    pooch.retrieve(
                        mirror + packed.name,
                        known_hash=f"md5:{md5}",
                        fname=packed.name,
                        path=packed.parent,
                        downloader=pooch.HTTPDownloader(timeout=TIMEOUT),
                        processor=_readable_by_all,
                    )
                )
            except (requests.RequestException, ValueError) as error:  # ValueError: the wrong bytes
                inner = error.args[0] if error.args else error
                reason = getattr(inner, "reason", error)  # without what is wrapped around
                failures.append(f"{mirror}: {str(reason).rsplit('): ', 1)[-1]}")
    except OSError as error:
        raise DataError(
            f"VAE_CORE_DATA_DIR: expected a folder that can be written, got {data_dir()}: "
            f"{error.strerror or error}"
        ) from error
    raise DataError(
        f"{name}: could not fetch {packed.name} from {'; from '.join(failures)} "
        f"(fetched by hand, it belongs into {packed.parent})"
    )


def _readable_by_all(path: str, action: str, _: object) -> str:
    """A new file may be read by everybody who gets into its folder; pooch means its owner alone."""
    if action != "fetch":  # pooch's word for a file that was there
        os.chmod(path, 0o644)
    return path


def _header(file: str) -> bytes:
    shape = _shape(file)
    return struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape), *shape)


def _shape(file: str) -> tuple[int, ...]:
    return (_FILES[file], 28, 28) if "images" in file else (_FILES[file],)
