"""What ``load`` gives, from whatever disk and network there is.

The network is a server on this machine that stalls, cuts off, sends wrong bytes, or does its job;
the data sets it serves are small stand-ins with the real ones' format.
"""

import gzip
import hashlib
import http.server
import os
import re
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch

from damaged import damaged_copies
from vae_book import brush, data, strokes

FILES = {
    "train-images-idx3-ubyte": 60,
    "train-labels-idx1-ubyte": 60,
    "t10k-images-idx3-ubyte": 20,
    "t10k-labels-idx1-ubyte": 20,
}
N_VAL = dict.fromkeys(data.NAMES, 10) | {"strokes": 2_000, "brush": 2_000}
LINE = "⟨{}: 50 training, 10 validation and 20 test images, grey⟩\n"
DRAWN = "{}: 18,000 training, 2,000 validation and 4,000 test images, grey"
STROKES = DRAWN.format("strokes")
REAL_FOLDER = os.environ.get("VAE_CORE_DATA_DIR")  # as it is before a test changes it


def make_file(file: str) -> bytes:
    n, numbers = FILES[file], np.random.default_rng(len(file) + FILES[file])
    if "images" in file:
        pixels = numbers.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        return struct.pack(">IIII", 2051, n, 28, 28) + pixels.tobytes()
    return struct.pack(">II", 2049, n) + numbers.integers(0, 10, n, dtype=np.uint8).tobytes()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


CONTENT = {file: make_file(file) for file in FILES}
PACKED = {file: gzip.compress(content, mtime=0) for file, content in CONTENT.items()}
SUMS = {file: md5(packed) for file, packed in PACKED.items()}


class Server:
    """Serves the files as the folder in the address says (``…/stall/file.gz``), and counts."""

    def __init__(self):
        self.asked: list[str] = []
        self.release = threading.Event()  # lets stalled answers go on
        self.together = None  # a barrier that answers wait at
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                mode, file = self.path.strip("/").split("/")
                outer.asked.append(file)
                try:
                    outer.answer(self, PACKED[file.removesuffix(".gz")], mode)
                except OSError:  # the other side has gone
                    pass

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def url(self, mode: str) -> str:
        if mode != "refuse":
            return f"http://127.0.0.1:{self.server.server_port}/{mode}/"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return f"http://127.0.0.1:{free.getsockname()[1]}/"

    def answer(self, request, content: bytes, mode: str) -> None:
        half = len(content) // 2
        if self.together:
            self.together.wait(50)
        if mode == "missing":
            return request.send_error(404)
        if mode == "silent":
            self.release.wait(20)  # then goes on: who waits that long gets the file, and fails
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if mode == "wrong":
            content = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        request.wfile.write(content[:half])
        if mode == "stall":
            request.wfile.flush()
            self.release.wait(20)
        if mode != "truncate":
            request.wfile.write(content[half:])

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Small data sets from a server here, an empty data folder, and no other network."""
    for name in ("VAE_CORE_DATA", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VAE_CORE_DATA_DIR", str(tmp_path / "data"))
    connect = socket.socket.connect

    def connect_here(self, address):
        assert address[0] == "127.0.0.1", f"test tried to reach {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    server = Server()
    monkeypatch.setattr(data, "_FILES", FILES)
    monkeypatch.setattr(data, "_N_VAL", N_VAL)
    monkeypatch.setattr(
        data, "UNPACKED_MD5", {"mnist": {file: md5(content) for file, content in CONTENT.items()}}
    )
    use_mirrors(monkeypatch, server, "good")
    yield server
    server.close()


def use_mirrors(monkeypatch, server, *modes: str) -> None:
    mirrors = tuple(server.url(mode) for mode in modes)
    small = {name: data.Source(s.folder, mirrors, SUMS) for name, s in data.SOURCES.items()}
    monkeypatch.setattr(data, "SOURCES", small)
    if modes[0] in ("silent", "stall"):
        monkeypatch.setattr(data, "TIMEOUT", 1.0)


def folder(name: str = "mnist") -> Path:
    return data.data_dir() / data.SOURCES[name].folder / "raw"


def put_unpacked(name: str = "mnist") -> None:
    """The files as torchvision leaves them, or a person."""
    folder(name).mkdir(parents=True)
    for file, content in CONTENT.items():
        (folder(name) / file).write_bytes(content)


def files_below(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def check_is_small(loaded: data.ImageData, name: str = "mnist") -> None:
    assert (loaded.name, loaded.binarisation) == (name, "grey")
    for split, part, rows in (
        (loaded.train, "train", slice(0, 50)),
        (loaded.val, "train", slice(50, 60)),
        (loaded.test, "t10k", slice(0, 20)),
    ):
        images = np.frombuffer(CONTENT[f"{part}-images-idx3-ubyte"][16:], np.uint8)
        labels = np.frombuffer(CONTENT[f"{part}-labels-idx1-ubyte"][8:], np.uint8)
        assert split.images.dtype == torch.uint8 and split.labels.dtype == torch.int64
        assert np.array_equal(split.images.numpy(), images.reshape(-1, 28, 28)[rows])
        assert np.array_equal(split.labels.numpy(), labels[rows])
        assert split.factors is None


# ---------------------------------------------------------------------------- what is given


@pytest.mark.parametrize("name", data.SOURCES)
def test_what_is_fetched_once_is_read_from_disk(server, name, capsys):
    for _ in range(2):
        check_is_small(data.load(name), name)
        assert capsys.readouterr() == (LINE.format(name), "")
    assert server.asked == [f"{file}.gz" for file in FILES]
    assert files_below(folder(name)) == sorted(server.asked)
    modes = {(folder(name) / file).stat().st_mode & 0o777 for file in server.asked}
    assert modes == {0o644} or sys.platform == "win32"  # others may share the folder


@pytest.mark.parametrize(("name", "module"), [("strokes", strokes), ("brush", brush)])
def test_drawn_digits(name, module, capsys, monkeypatch, tmp_path):
    (tmp_path / "data").write_text("a file")  # drawn digits need no folder
    monkeypatch.setenv("VAE_CORE_DATA_DIR", str(tmp_path / "data"))
    loaded = data.load(name)
    assert capsys.readouterr() == (f"⟨{DRAWN.format(name)}⟩\n", "")
    assert (loaded.name, loaded.binarisation) == (name, "grey")
    train, test = module.dataset()
    for split, (images, labels, factors), rows in (
        (loaded.train, train, slice(0, 18_000)),
        (loaded.val, train, slice(18_000, None)),
        (loaded.test, test, slice(None)),
    ):
        assert np.array_equal(split.images.numpy(), images[rows])
        assert np.array_equal(split.labels.numpy(), labels[rows])
        assert list(split.factors) == list(factors)
        for factor, values in split.factors.items():
            assert values.dtype == (torch.int64 if factor == "style" else torch.float32)
            assert np.allclose(values.numpy(), factors[factor][rows], rtol=1e-6)
    loaded.train.images.zero_()  # ours to change: the next one gets its own
    assert data.load(name, quiet=True).train.images.any()


def test_the_argument_goes_before_the_environment_and_quiet_is_quiet(server, monkeypatch, capsys):
    monkeypatch.setenv("VAE_CORE_DATA", "kmnist")
    assert data.load(quiet=True).name == "kmnist"
    assert data.load("fashion_mnist", quiet=True).name == "fashion_mnist"
    monkeypatch.setenv("VAE_CORE_DATA", "")  # as good as unset
    assert data.load(quiet=True).name == "mnist"
    assert capsys.readouterr() == ("", "")


def test_device_and_splits(server, monkeypatch):
    loaded = data.load("mnist", device=torch.device("cpu"), quiet=True)
    assert repr(loaded.val) == "Split(10 images on cpu)"
    # A second device that every machine has; pick_device would refuse it.
    monkeypatch.setattr(data, "pick_device", torch.device)
    on_meta = data.load("strokes", device="meta", quiet=True)
    assert (on_meta.name, on_meta.binarisation) == ("strokes", "grey")
    for part in (on_meta.train, on_meta.val, on_meta.test):
        values = [part.images, part.labels, *part.factors.values()]
        assert {v.device.type for v in values} == {"meta"}
    few = on_meta.train[5:8]
    assert len(few) == len(few.labels) == len(few.factors["slant"]) == 3
    with pytest.raises(TypeError, match="index: expected a slice, got 3"):
        few[3]


@pytest.mark.parametrize(
    ("name", "error"),
    [("MNIST", ValueError), ("mnist ", ValueError), ("", ValueError), (3, TypeError),
     (["mnist"], TypeError)],
)  # fmt: skip
def test_a_name_that_is_none_is_an_error(server, monkeypatch, name, error):
    known = re.escape(f"expected one of mnist, fashion_mnist, kmnist, strokes, brush, got {name!r}")
    with pytest.raises(error, match=f"^name: {known}$"):
        data.load(name)
    if isinstance(name, str) and name:
        monkeypatch.setenv("VAE_CORE_DATA", name)
        with pytest.raises(error, match=f"^VAE_CORE_DATA: {known}$"):
            data.load()
    assert server.asked == []


def test_an_unknown_device_is_an_error_before_any_work(server):
    with pytest.raises(ValueError, match="^device: expected one that is here, got 'gpu'"):
        data.load("mnist", device="gpu")
    assert server.asked == []


def test_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("VAE_CORE_DATA_DIR", "~/somewhere")
    assert data.data_dir() == tmp_path / "somewhere"
    monkeypatch.setenv("VAE_CORE_DATA_DIR", "")
    assert data.data_dir() == pooch.os_cache("vae_core")


# ---------------------------------------------------------------------------- network trouble

TROUBLE = {
    "refuse": "refused",
    "missing": "404",
    "silent": "timed out",
    "stall": "timed out",
    "truncate": "IncompleteRead",
    "wrong": "does not match",
}


@pytest.mark.parametrize("mode", TROUBLE)
def test_what_cannot_be_had_is_an_error_if_named_else_strokes(server, monkeypatch, mode, capsys):
    use_mirrors(monkeypatch, server, mode, "missing")
    with pytest.raises(data.DataError, match=TROUBLE[mode]) as caught:
        data.load("mnist")
    message = str(caught.value)
    assert message.startswith("mnist: could not fetch train-images-idx3-ubyte.gz from http://")
    assert all(source in message for source in data.SOURCES["mnist"].mirrors)
    assert str(folder()) in message and len(message) < 800
    assert files_below(data.data_dir()) == []
    monkeypatch.setenv("VAE_CORE_DATA", "mnist")  # is named, too
    use_mirrors(monkeypatch, server, "missing")
    with pytest.raises(data.DataError):
        data.load()
    assert capsys.readouterr() == ("", "")

    use_mirrors(monkeypatch, server, mode)
    monkeypatch.delenv("VAE_CORE_DATA")
    assert data.load().name == "strokes"
    out, err = capsys.readouterr()
    assert out.startswith(f"⟨{STROKES}; instead of MNIST: mnist: could not fetch train-images")
    assert re.search(TROUBLE[mode], out) and 'run vae_book.data.load("mnist") once' in out
    assert out.endswith("⟩\n") and out.count("\n") == 1 and err == ""
    assert files_below(data.data_dir()) == []


@pytest.mark.parametrize("mode", TROUBLE)
def test_the_next_mirror_is_tried(server, monkeypatch, mode):
    put_unpacked()
    (folder() / "t10k-images-idx3-ubyte").unlink()
    use_mirrors(monkeypatch, server, mode, "good")
    check_is_small(data.load(quiet=True))
    wanted = "t10k-images-idx3-ubyte.gz"
    assert server.asked == [wanted] * (1 if mode == "refuse" else 2)
    assert files_below(folder()) == sorted([wanted, *FILES.keys() - {"t10k-images-idx3-ubyte"}])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_nothing_half_written_stays_after_ctrl_c_or_on_a_full_disk(server, monkeypatch, error):
    def stop_half_way(self, url, path, _):
        Path(path).write_bytes(PACKED["train-images-idx3-ubyte"][:1000])
        raise error

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", stop_half_way)
    expected = data.DataError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match=getattr(error, "strerror", None)):
        data.load("mnist")
    assert files_below(data.data_dir()) == []


def test_two_processes_at_once_and_not_a_word_from_the_downloader(server, tmp_path, capsys):
    server.together = threading.Barrier(2)  # both ask for each file before either gets it
    script = f"""
        from vae_book import data
        data._FILES, data._N_VAL, data.TIMEOUT = {FILES!r}, {N_VAL!r}, 60.0
        data.SOURCES["kmnist"] = data.Source("KMNIST", {(server.url("good"),)!r}, {SUMS!r})
        print(data.load("kmnist").train.images.sum().item())
    """
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], env=env, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        data.TIMEOUT, before = 60.0, data.TIMEOUT
        loaded = data.load("kmnist", quiet=True)
        out, err = other.communicate(timeout=120)
    finally:
        data.TIMEOUT = before
        other.kill()
    check_is_small(loaded, "kmnist")
    assert (out, err) == (f"{LINE.format('kmnist')}{loaded.train.images.sum().item()}\n", "")
    assert sorted(server.asked) == sorted(2 * [f"{file}.gz" for file in FILES])
    assert files_below(folder("kmnist")) == sorted(f"{file}.gz" for file in FILES)


# ---------------------------------------------------------------------------- what is on disk


def damage(path: Path):
    """Damage the file in one way after another; one is a single bit of a pixel."""
    whole = path.read_bytes()
    flipped = whole[:9000] + bytes([whole[9000] ^ 64]) + whole[9001:]
    for how, content in [*damaged_copies(path), ("one bit", flipped), ("longer", whole + b"\0")]:
        path.write_bytes(content)
        yield how


@pytest.mark.parametrize(
    ("name", "suffix"), [("mnist", ".gz"), ("kmnist", ".gz"), ("mnist", ""), ("kmnist", "")]
)
def test_a_damaged_file_is_named_and_fetched_again(server, monkeypatch, name, suffix):
    if suffix:
        data.load(name, quiet=True)
    else:
        put_unpacked(name)
    path = folder(name) / f"train-images-idx3-ubyte{suffix}"
    packed = path.with_name("train-images-idx3-ubyte.gz")
    for how in damage(path):
        if name == "kmnist" and suffix == "" and how == "one bit":
            continue  # sums of the unpacked files are known for MNIST alone
        server.asked = []
        with pytest.warns(UserWarning, match=f"^{re.escape(str(path))}: damaged") as warned:
            check_is_small(data.load(name, quiet=True), name)
        (warning,) = [w for w in warned if w.category is UserWarning]
        assert warning.filename == __file__
        assert server.asked == [packed.name], how
        assert packed.read_bytes() == PACKED["train-images-idx3-ubyte"]
        packed.write_bytes(b"") if suffix else packed.unlink()

    path.write_bytes(b"")  # never used, not even where there is nothing else
    use_mirrors(monkeypatch, server, "missing")
    with pytest.warns(UserWarning, match=path.name), pytest.raises(data.DataError, match="404"):
        data.load(name)


def test_a_data_folder_that_is_a_file_or_in_one(server, monkeypatch, tmp_path, capsys):
    (tmp_path / "data").write_text("a file")
    for place in (tmp_path / "data", tmp_path / "data" / "below"):
        monkeypatch.setenv("VAE_CORE_DATA_DIR", str(place))
        expected = f"VAE_CORE_DATA_DIR: expected a folder that can be written, got {place}: "
        with pytest.raises(data.DataError, match=re.escape(expected)):
            data.load("mnist")
        assert data.load().name == "strokes"
        assert f"instead of MNIST: {expected}" in capsys.readouterr().out
    assert server.asked == [] and (tmp_path / "data").read_text() == "a file"


def test_good_files_packed_or_not_need_no_network_and_no_folder_to_write_in(server, monkeypatch):
    data.load("kmnist", quiet=True)
    put_unpacked("mnist")
    put_unpacked("fashion_mnist")
    before, server.asked = files_below(data.data_dir()), []

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    for name in ("mkdir", "open", "replace", "rename", "remove", "chmod"):  # open: to write
        monkeypatch.setattr(os, name, refuse)
    for name in data.SOURCES:
        check_is_small(data.load(name, quiet=True), name)
    assert files_below(data.data_dir()) == before and server.asked == []
    monkeypatch.setattr(data, "data_dir", lambda: Path(__file__).parent)  # has no data
    with pytest.raises(data.DataError, match="VAE_CORE_DATA_DIR: .*Permission denied"):
        data.load("mnist")


def test_real_mnist(monkeypatch, capsys):
    given = Path(REAL_FOLDER or "/nowhere").expanduser() / "MNIST" / "raw"
    if not all((given / file).is_file() for file in data._FILES):
        pytest.skip("no MNIST in $VAE_CORE_DATA_DIR")
    monkeypatch.delenv("VAE_CORE_DATA", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the sums of the unpacked files are the right ones
        loaded = data.load()
    assert capsys.readouterr().out == (
        "⟨mnist: 55,000 training, 5,000 validation and 10,000 test images, grey⟩\n"
    )
    assert loaded.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert loaded.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    pixels = torch.cat([loaded.train.images, loaded.val.images]).float() / 255
    assert pixels.mean().item() == pytest.approx(0.1307, abs=1e-4)


# ---------------------------------------------------------------------------- black and white


def split(n: int, first_label: int = 0) -> data.Split:
    """n images with all grey levels, labels, and one factor."""
    labels = torch.arange(first_label, first_label + n)
    images = torch.arange(784).remainder(256).to(torch.uint8).reshape(28, 28).repeat(n, 1, 1)
    return data.Split(images, labels, {"slant": labels / 10})


GREY = data.ImageData("levels", split(30), split(20, 100), split(20, 200))
PARTS = ("train", "val", "test")


@pytest.mark.parametrize("how", ["fixed", "redrawn"])
def test_the_parts_that_are_drawn_are_drawn_once_and_keep_what_else_they_have(how):
    drawn = GREY.binarised(how)
    assert (drawn.binarisation, GREY.binarisation) == (how, "grey")
    torch.rand(3)
    state = torch.get_rng_state()
    again = GREY.binarised(how)
    assert torch.equal(torch.get_rng_state(), state)
    for part in PARTS:
        before, after = getattr(GREY, part), getattr(drawn, part)
        if how == "redrawn" and part == "train":
            assert torch.equal(after.images, before.images)
        else:
            assert after.images.unique().tolist() == [0, 255]
            assert (after.images <= 255 * before.images.bool()).all()  # white stays white
        assert after.images.dtype == torch.uint8 and after.images.shape == before.images.shape
        assert torch.equal(after.images, getattr(again, part).images)
        assert torch.equal(after.labels, before.labels)
        assert torch.equal(after.factors["slant"], before.factors["slant"])
    # So that two models, one of each kind, can be compared.
    assert torch.equal(drawn.test.images, GREY.binarised("fixed").test.images)


def test_another_seed_is_another_draw_and_so_is_another_part():
    drawn = [GREY.binarised("fixed", seed=seed) for seed in (0, 1, 2, 2**63 - 1)]
    draws = [getattr(d, part).images[:20] for d in drawn for part in PARTS]
    for i, one in enumerate(draws):
        assert not any(torch.equal(one, other) for other in draws[:i])


def test_what_cannot_be_drawn():
    for how in ("dynamic", "grey", None):
        with pytest.raises(ValueError, match="how: expected 'fixed' or 'redrawn', got"):
            GREY.binarised(how)
    for how in ("fixed", "redrawn"):
        with pytest.raises(ValueError, match=f"how: expected grey images to binarise, got {how}"):
            GREY.binarised(how).binarised("fixed")
    for seed, error in ((-1, ValueError), (2**63, ValueError), (1.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="seed: expected an integer"):
            GREY.binarised("fixed", seed=seed)
