"""What `load` gives, from whatever disk and network there is.

The network is a server on this machine that refuses, stalls, cuts off, sends wrong bytes, or does
its job; the data sets it serves are small stand-ins with the real ones' format.
"""

import gzip
import hashlib
import http.server
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from vae_core import data, strokes

N_TRAIN, N_TEST, N_VAL = 60, 20, 10
FILES = {
    "train-images-idx3-ubyte": N_TRAIN,
    "train-labels-idx1-ubyte": N_TRAIN,
    "t10k-images-idx3-ubyte": N_TEST,
    "t10k-labels-idx1-ubyte": N_TEST,
}
CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
LINE = "⟨{}: 50 training, 10 validation and 20 test images, grey⟩\n"
REAL_FOLDER = os.environ.get("VAE_CORE_DATA_DIR")  # as it is before a test changes it
STROKES = "strokes: 18,000 training, 2,000 validation and 4,000 test images, grey"


def make_file(file):
    n = FILES[file]
    rng = np.random.default_rng(n + len(file))
    if "images" in file:
        content = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8).tobytes()
        return struct.pack(">IIII", 2051, n, 28, 28) + content
    return struct.pack(">II", 2049, n) + rng.integers(0, 10, n, dtype=np.uint8).tobytes()


CONTENT = {file: make_file(file) for file in FILES}
PACKED = {file: gzip.compress(content, mtime=0) for file, content in CONTENT.items()}


def md5(content):
    return hashlib.md5(content).hexdigest()


class Server:
    """Serves the files as `modes[file]` (or `mode`) says, and counts what it was asked for."""

    def __init__(self):
        self.mode, self.modes, self.asked = "good", {}, []
        self.release = threading.Event()  # lets stalled answers go on
        self.reached = threading.Event()  # an answer has begun to stall
        self.together = None  # a barrier that answers wait at
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                file = self.path.rsplit("/", 1)[-1].removesuffix(".gz")
                outer.asked.append(file)
                try:
                    outer.answer(self, PACKED[file], outer.modes.get(file, outer.mode))
                except OSError:  # the other side has gone
                    pass

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def answer(self, request, content, mode):
        if self.together:
            self.together.wait(50)
        if mode == "missing":
            return request.send_error(404)
        if mode == "silent":
            self.stall()
        request.send_response(200)
        if mode != "no length":
            request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        half = len(content) // 2
        if mode == "truncate":
            return request.wfile.write(content[:half])
        if mode == "wrong bytes":
            content = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        if mode == "other page":
            content = b"<html>please log in</html>".ljust(len(content))
        if mode == "stall":
            request.wfile.write(content[:half])
            request.wfile.flush()
            self.stall()
            content = content[half:]
        if mode == "drip":
            for k in range(200):
                request.wfile.write(content[k : k + 1])
                self.release.wait(0.1)
            content = content[200:]
        request.wfile.write(content)

    def stall(self):
        self.reached.set()
        self.release.wait(20)  # then goes on: who waits that long gets the file, and fails the test

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """No data set named, an empty data folder, and no network beyond this machine."""
    for name in ("VAE_CORE_DATA", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VAE_CORE_DATA_DIR", str(tmp_path / "data"))
    connect = socket.socket.connect

    def connect_here(self, address):
        assert address[0] == "127.0.0.1", f"test tried to reach {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)


@pytest.fixture
def small(monkeypatch, server):
    """The three data sets replaced by small ones that come from the server."""
    datasets = pytest.importorskip("torchvision.datasets")
    monkeypatch.setattr(data, "_FILES", FILES)
    monkeypatch.setattr(data, "_N_VAL", dict.fromkeys(CLASSES, N_VAL) | {"strokes": 2_000})
    monkeypatch.setattr(data, "_MD5", {"mnist": {f: md5(c) for f, c in CONTENT.items()}})
    for name in CLASSES.values():
        resources = [(f"{file}.gz", md5(packed)) for file, packed in PACKED.items()]
        monkeypatch.setattr(getattr(datasets, name), "resources", resources)
        monkeypatch.setattr(getattr(datasets, name), "mirrors", [server.url])
    return server


def folder(name="mnist"):
    return Path(os.environ["VAE_CORE_DATA_DIR"]) / CLASSES[name] / "raw"


def put_files(name="mnist"):
    folder(name).mkdir(parents=True)
    for file, content in CONTENT.items():
        (folder(name) / file).write_bytes(content)


def files_below(path):
    return sorted(str(p.relative_to(path)) for p in Path(path).rglob("*") if p.is_file())


def check_is_small(loaded, name="mnist"):
    images = {
        part: np.frombuffer(CONTENT[f"{part}-images-idx3-ubyte"][16:], np.uint8).reshape(-1, 28, 28)
        for part in ("train", "t10k")
    }
    labels = {
        part: np.frombuffer(CONTENT[f"{part}-labels-idx1-ubyte"][8:], np.uint8)
        for part in ("train", "t10k")
    }
    assert (loaded.name, loaded.binarisation) == (name, "grey")
    parts = [
        (loaded.train, "train", slice(0, 50)),
        (loaded.val, "train", slice(50, 60)),
        (loaded.test, "t10k", slice(0, 20)),
    ]
    for split, part, rows in parts:
        assert split.images.dtype == torch.uint8 and split.labels.dtype == torch.int64
        assert np.array_equal(split.images.numpy(), images[part][rows])
        assert np.array_equal(split.labels.numpy(), labels[part][rows])
        assert split.factors is None


# ---------------------------------------------------------------------------- what is given


@pytest.mark.parametrize("name", CLASSES)
def test_fetches_once_then_reads_from_disk(small, name, capsys):
    check_is_small(data.load(name), name)
    assert capsys.readouterr() == (LINE.format(name), "")
    expected = (
        list(FILES) if name == "mnist" else [f for file in FILES for f in (file, f"{file}.md5")]
    )
    assert files_below(os.environ["VAE_CORE_DATA_DIR"]) == sorted(
        f"{CLASSES[name]}/raw/{file}" for file in expected
    )
    assert small.asked == list(FILES)
    check_is_small(data.load(name), name)
    assert small.asked == list(FILES)
    assert [p for p in folder(name).iterdir() if p.is_dir()] == []


def test_a_download_is_readable_by_others_as_the_umask_says(small):
    data.load("mnist", quiet=True)
    umask = os.umask(0)
    os.umask(umask)
    for file in FILES:
        assert (folder() / file).stat().st_mode & 0o777 == 0o666 & ~umask


def test_torchvision_still_knows_the_files():
    datasets = pytest.importorskip("torchvision.datasets")
    for name in CLASSES.values():
        source = getattr(datasets, name)
        assert {file for file, _ in source.resources} == {f"{file}.gz" for file in data._FILES}
        assert all(re.fullmatch("[0-9a-f]{32}", md5) for _, md5 in source.resources)
        assert all(re.fullmatch("https?://.*/", mirror) for mirror in source.mirrors)


def test_torchvision_reads_what_was_fetched(small):
    datasets = pytest.importorskip("torchvision.datasets")
    loaded = data.load("mnist", quiet=True)
    theirs = datasets.MNIST(os.environ["VAE_CORE_DATA_DIR"], train=True)
    assert torch.equal(theirs.data, torch.cat([loaded.train.images, loaded.val.images]))
    assert torch.equal(theirs.targets, torch.cat([loaded.train.labels, loaded.val.labels]))


def test_strokes(capsys):
    loaded = data.load("strokes")
    assert capsys.readouterr() == (f"⟨{STROKES}⟩\n", "")
    (images, labels, factors), (images_test, _, factors_test) = strokes.dataset()
    assert (len(loaded.train), len(loaded.val), len(loaded.test)) == (18_000, 2_000, 4_000)
    assert np.array_equal(loaded.train.images.numpy(), images[:18_000])
    assert np.array_equal(loaded.val.images.numpy(), images[18_000:])
    assert np.array_equal(loaded.val.labels.numpy(), labels[18_000:])
    assert np.array_equal(loaded.test.images.numpy(), images_test)
    assert list(loaded.val.factors) == list(factors)
    for name, values in loaded.val.factors.items():
        assert values.dtype == (torch.int64 if name == "style" else torch.float32)
        assert np.allclose(values.numpy(), factors[name][18_000:], rtol=1e-6)
        assert np.allclose(loaded.test.factors[name].numpy(), factors_test[name], rtol=1e-6)
    loaded.train.images.zero_()  # ours to change: the next one gets its own
    assert data.load("strokes", quiet=True).train.images.any()


def test_strokes_need_no_folder_no_network_no_torchvision(monkeypatch, tmp_path):
    (tmp_path / "data").write_text("a file")
    monkeypatch.setattr(data, "_fetch", None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setenv("VAE_CORE_DATA", "strokes")
    assert data.load(quiet=True).name == "strokes"


def test_quiet_prints_nothing(small, capsys):
    put_files()
    data.load(quiet=True)
    data.load("strokes", quiet=True)
    assert capsys.readouterr() == ("", "")


def test_the_argument_goes_before_the_environment(small, monkeypatch):
    monkeypatch.setenv("VAE_CORE_DATA", "kmnist")
    assert data.load(quiet=True).name == "kmnist"
    assert data.load("fashion_mnist", quiet=True).name == "fashion_mnist"


def test_device_and_splits(small, monkeypatch):
    put_files()
    loaded = data.load(device=torch.device("cpu"), quiet=True)
    assert repr(loaded) == LINE.format("mnist").strip("⟨⟩\n")
    assert repr(loaded.val) == "Split(10 images on cpu)"
    moved = loaded.to("meta")
    assert (moved.name, moved.binarisation) == ("mnist", "grey")
    for part in (moved.train, moved.val, moved.test):
        assert part.images.device.type == part.labels.device.type == "meta"
    # A second device that every machine has; pick_device would refuse it.
    monkeypatch.setattr(data, "pick_device", torch.device)
    on_meta = data.load("strokes", device="meta", quiet=True).train
    assert {v.device.type for v in [on_meta.images, *on_meta.factors.values()]} == {"meta"}
    few = data.load("strokes", quiet=True).train[5:8]
    assert len(few) == len(few.labels) == len(few.factors["slant"]) == 3
    with pytest.raises(TypeError, match="index: expected a slice, got 3"):
        few[3]
    with pytest.raises(AttributeError):
        loaded.name = "other"


def test_data_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("VAE_CORE_DATA_DIR", "~/somewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert data.data_dir() == tmp_path / "somewhere"
    monkeypatch.setenv("VAE_CORE_DATA_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert data.data_dir() == tmp_path / "xdg" / "vae_core"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data.data_dir() == tmp_path / ".cache" / "vae_core"


# ---------------------------------------------------------------------------- network trouble

TROUBLE = {
    "refuse": "refused",
    "missing": "404",
    "silent": "timed out",
    "stall": "timed out after",
    "truncate": r"truncated, got [\d,]+ of [\d,]+ bytes",
    "wrong bytes": r"wrong bytes, expected md5 \w{32}, got \w{32}",
    "other page": "wrong bytes",
}


def make_trouble(small, monkeypatch, mode):
    monkeypatch.setattr(data, "_SOCKET_S", 1.0)
    if mode == "refuse":
        small.server.shutdown()
        small.server.server_close()
        monkeypatch.setattr(small.server, "shutdown", lambda: None)
    else:
        small.modes = {"train-images-idx3-ubyte": mode}


@pytest.mark.parametrize("mode", TROUBLE)
def test_a_named_set_that_cannot_be_had_is_an_error(small, monkeypatch, mode, capsys):
    make_trouble(small, monkeypatch, mode)
    with pytest.raises(data.DataError, match=TROUBLE[mode]) as caught:
        data.load("mnist")
    message = str(caught.value)
    assert message.startswith("mnist: could not fetch train-images-idx3-ubyte.gz from")
    assert small.url in message and str(folder()) in message
    assert capsys.readouterr().out == ""
    assert not Path(os.environ["VAE_CORE_DATA_DIR"]).exists()


@pytest.mark.parametrize("mode", TROUBLE)
def test_without_a_name_strokes_come_instead(small, monkeypatch, mode, capsys):
    make_trouble(small, monkeypatch, mode)
    assert data.load().name == "strokes"
    out, err = capsys.readouterr()
    assert out.startswith(f"⟨{STROKES}; instead of MNIST: ") and out.endswith("⟩\n")
    assert out.count("\n") == 1 and err == ""
    assert re.search(TROUBLE[mode], out) and 'vae_core.load("mnist")' in out
    assert not Path(os.environ["VAE_CORE_DATA_DIR"]).exists()


def test_named_by_the_environment_is_named(small, monkeypatch):
    small.mode = "missing"
    monkeypatch.setenv("VAE_CORE_DATA", "mnist")
    with pytest.raises(data.DataError, match="mnist: could not fetch"):
        data.load()


def test_without_a_name_mnist_is_fetched_or_read(small, capsys):
    check_is_small(data.load())
    small.mode = "missing"
    check_is_small(data.load())
    assert capsys.readouterr().out == 2 * LINE.format("mnist")


@pytest.mark.parametrize("mode", [m for m in TROUBLE if m != "refuse"])
def test_the_next_mirror_is_tried(small, monkeypatch, mode):
    datasets = pytest.importorskip("torchvision.datasets")
    make_trouble(small, monkeypatch, mode)
    good = Server()
    try:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [small.url, good.url])
        check_is_small(data.load("mnist", quiet=True))
        assert good.asked == ["train-images-idx3-ubyte"]
    finally:
        good.close()


def test_an_error_names_every_mirror_and_the_file(small, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    monkeypatch.setattr(datasets.KMNIST, "mirrors", [f"{small.url}a/", f"{small.url}b/"])
    small.modes = {"t10k-images-idx3-ubyte": "truncate"}
    with pytest.raises(data.DataError, match="fetch t10k-images-idx3-ubyte.gz from .*/a/: .*/b/: "):
        data.load("kmnist")
    # What came before is kept, whole, and not asked for again.
    assert not (folder("kmnist") / "t10k-images-idx3-ubyte").exists()
    assert md5((folder("kmnist") / "train-images-idx3-ubyte").read_bytes()) == md5(
        CONTENT["train-images-idx3-ubyte"]
    )
    small.modes, small.asked = {}, []
    check_is_small(data.load("kmnist", quiet=True), "kmnist")
    assert small.asked == ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def test_an_answer_without_a_length(small):
    small.mode = "no length"
    check_is_small(data.load("mnist", quiet=True))


def test_a_server_that_drips_does_not_hold_up_an_unnamed_load(small, monkeypatch):
    small.mode = "drip"  # never silent for long, and in no hurry
    monkeypatch.setattr(data, "_UNNAMED_S", 1.0)
    assert data.load(quiet=True).name == "strokes"
    monkeypatch.setattr(data, "_NAMED_S", 1.0)
    with pytest.raises(data.DataError, match=r"stalled after \d+ bytes"):
        data.load("mnist")


def test_looking_up_a_name_does_not_hold_up_either(small, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://nowhere.invalid/"])
    monkeypatch.setattr(data, "_SILENCE_S", 0.5)
    never = threading.Event()

    def look_up(*_, **__):
        never.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", small.server.server_address)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(data.DataError, match="nowhere.invalid/: stalled after 0 bytes"):
        data.load("mnist")
    never.set()


def test_a_packed_file_with_wrong_content_is_refused(small, monkeypatch):
    # Right sum, wrong inside: not gzip, or not the file that it says.
    datasets = pytest.importorskip("torchvision.datasets")
    for packed, reason in (
        (b"not packed", "[Nn]ot a gzipped file"),
        (gzip.compress(CONTENT["t10k-images-idx3-ubyte"]), "damaged, expected 47,056 bytes"),
        (PACKED["train-images-idx3-ubyte"][:-9], "end-of-stream|CRC|ended"),
    ):
        monkeypatch.setitem(PACKED, "train-images-idx3-ubyte", packed)
        resources = [(f"{file}.gz", md5(content)) for file, content in PACKED.items()]
        monkeypatch.setattr(datasets.MNIST, "resources", resources)
        with pytest.raises(data.DataError, match=reason):
            data.load("mnist")
        assert files_below(folder().parent.parent) == []


# ---------------------------------------------------------------------------- damaged files

DAMAGE = {
    "truncated": (lambda c: c[:-100], r"expected 47,056 bytes, got 46,956"),
    "empty": (lambda c: b"", r"expected 47,056 bytes, got 0"),
    "longer": (lambda c: c + b"\0", r"expected 47,056 bytes, got 47,057"),
    "header": (lambda c: c[:3] + b"\1" + c[4:], r"expected the header 00000803\w+, got 00000801"),
    "a pixel": (lambda c: c[:9000] + bytes([c[9000] ^ 64]) + c[9001:], r"expected md5 \w+, got"),
}


def damage(name, how):
    path = folder(name) / "train-images-idx3-ubyte"
    path.write_bytes(DAMAGE[how][0](path.read_bytes()))
    return path


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_named_and_fetched_again(small, name, how):
    data.load(name, quiet=True)
    path = damage(name, how)
    small.asked = []
    with pytest.warns(UserWarning, match=f"{re.escape(str(path))}: damaged, {DAMAGE[how][1]}"):
        check_is_small(data.load(name, quiet=True), name)
    assert small.asked == [path.name]
    assert path.read_bytes() == CONTENT[path.name]


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_that_cannot_be_fetched_is_never_used(small, how, capsys):
    put_files()
    path = damage("mnist", how)
    small.mode = "missing"
    with pytest.warns(UserWarning, match=path.name), pytest.raises(data.DataError, match=path.name):
        data.load("mnist")
    with pytest.warns(UserWarning, match=path.name):
        assert data.load().name == "strokes"
    assert "instead of MNIST: mnist: could not fetch train-images" in capsys.readouterr().out


@pytest.mark.parametrize("how", [how for how in DAMAGE if how != "a pixel"])
def test_files_from_elsewhere_are_checked_for_their_form(small, how):
    put_files("kmnist")  # as torchvision leaves them: no sums of the unpacked files
    check_is_small(data.load("kmnist", quiet=True), "kmnist")
    path = damage("kmnist", how)
    with pytest.warns(UserWarning, match=path.name):
        check_is_small(data.load("kmnist", quiet=True), "kmnist")


def test_labels_are_checked_too(small):
    put_files()
    path = folder() / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
    with pytest.warns(UserWarning, match=path.name):
        check_is_small(data.load("mnist", quiet=True))


# ---------------------------------------------------------------------------- the data folder


def forbid_writing(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    for module, name in ((os, "mkdir"), (os, "replace"), (os, "rename"), (os, "remove")):
        monkeypatch.setattr(module, name, refuse)


def test_good_files_in_a_read_only_folder(small, monkeypatch):
    for name in CLASSES:
        put_files(name)
    before = files_below(os.environ["VAE_CORE_DATA_DIR"])
    forbid_writing(monkeypatch)
    for path in Path(os.environ["VAE_CORE_DATA_DIR"]).rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for name in CLASSES:
        check_is_small(data.load(name, quiet=True), name)
    assert files_below(os.environ["VAE_CORE_DATA_DIR"]) == before
    assert small.asked == []


@pytest.mark.parametrize("name", ["mnist", None])
def test_a_folder_that_is_a_file(small, tmp_path, name):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(
        data.DataFolderError, match="VAE_CORE_DATA_DIR: expected a folder"
    ) as caught:
        data.load(name)
    assert str(tmp_path / "data") in str(caught.value)
    assert small.asked == []
    assert (tmp_path / "data").read_text() == "a file"


@pytest.mark.parametrize("name", ["mnist", None])
def test_a_folder_that_cannot_be_written(small, monkeypatch, tmp_path, name):
    forbid_writing(monkeypatch)
    with pytest.raises(data.DataFolderError) as caught:
        data.load(name)
    assert str(caught.value) == (
        f"VAE_CORE_DATA_DIR: expected a folder that can be written, got {tmp_path / 'data'}: "
        f"Permission denied; to put there: {', '.join(FILES)}"
    )
    assert small.asked == []


def test_a_damaged_file_in_a_folder_that_cannot_be_written(small, monkeypatch):
    put_files()
    path = damage("mnist", "a pixel")
    forbid_writing(monkeypatch)
    with pytest.warns(UserWarning, match=path.name):
        with pytest.raises(data.DataFolderError, match=f"to put there: {path.name}$"):
            data.load()


def test_a_cache_folder_nobody_chose_that_cannot_be_written(small, monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("VAE_CORE_DATA_DIR")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").write_text("a file")
    assert data.load().name == "strokes"
    assert "VAE_CORE_DATA_DIR: expected a folder" in capsys.readouterr().out
    with pytest.raises(data.DataFolderError, match="VAE_CORE_DATA_DIR"):
        data.load("mnist")
    assert small.asked == []


def test_a_full_disk(small, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(data.DataFolderError, match="No space left.*train-images-idx3-ubyte$"):
        data.load("mnist")
    assert files_below(os.environ["VAE_CORE_DATA_DIR"]) == []


# ---------------------------------------------------------------------------- interruption, company


@pytest.mark.parametrize("call", ["replace", "write"])
def test_interrupted_while_putting_a_file(small, monkeypatch, call):
    if call == "replace":

        def interrupt(source, target):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", interrupt)
    else:
        write = Path.write_bytes

        def interrupt(path, content):
            write(path, content[: len(content) // 2])
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "write_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        data.load()
    assert list(folder().iterdir()) == []


@pytest.fixture
def start(small, tmp_path):
    """Starts `load(…)` in another process that sees the same small data sets."""
    resources = [(f"{file}.gz", md5(packed)) for file, packed in PACKED.items()]
    script = f"""
        import hashlib, signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has none
        from torchvision import datasets
        from vae_core import data
        data._FILES = {FILES!r}
        data._SOCKET_S = data._SILENCE_S = 60.0
        data._N_VAL = dict.fromkeys(data.NAMES, {N_VAL})
        data._MD5 = {data._MD5!r}
        for name in {tuple(CLASSES.values())!r}:
            getattr(datasets, name).resources = {resources!r}
            getattr(datasets, name).mirrors = [{small.url!r}]
        loaded = data.load(sys.argv[1])
        print(hashlib.md5(loaded.train.images.numpy().tobytes()).hexdigest())
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script), encoding="utf-8")
    source = str(Path(data.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": source, "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
    processes = []

    def start(name):
        command = [sys.executable, str(tmp_path / "script.py"), name]
        pipe = subprocess.PIPE
        processes.append(
            subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, encoding="utf-8")
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_two_processes_at_once(small, start, name="kmnist"):
    small.together = threading.Barrier(2)  # both ask for each file before either gets it
    expected = LINE.format(name) + md5(CONTENT["train-images-idx3-ubyte"][16 : 16 + 50 * 784])
    for process in [start(name), start(name)]:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out.strip(), err) == (0, expected, "")
    assert sorted(small.asked) == sorted(2 * list(FILES))
    small.together, small.mode = None, "missing"
    check_is_small(data.load(name, quiet=True), name)
    assert not [p for p in folder(name).iterdir() if p.is_dir()]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a child process")
def test_interrupted_while_fetching(small, start):
    small.modes = {"train-labels-idx1-ubyte": "stall"}
    process = start("mnist")
    assert small.reached.wait(60)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert err.rstrip().endswith("KeyboardInterrupt"), err
    # The file that was whole is there, of the other there is nothing.
    assert [p.name for p in folder().iterdir()] == ["train-images-idx3-ubyte"]
    small.modes = {}
    check_is_small(data.load("mnist", quiet=True))


# ---------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("broken", [None, "raises"])
def test_without_torchvision(small, monkeypatch, tmp_path, capsys, broken):
    if broken is None:
        monkeypatch.setitem(sys.modules, "torchvision", None)
    else:  # as with one that was made for another torch
        (tmp_path / "torchvision").mkdir()
        text = "raise RuntimeError('operator torchvision::nms does not exist')"
        (tmp_path / "torchvision" / "__init__.py").write_text(text)
        for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(data.DataError, match="mnist: fetching it needs torchvision, which fails"):
        data.load("mnist")
    assert data.load().name == "strokes"
    assert "needs torchvision" in capsys.readouterr().out
    put_files()
    check_is_small(data.load())


@pytest.mark.parametrize("name", ["MNIST", "Mnist", "mnist ", "", "cifar10", "fashion-mnist"])
def test_unknown_names(small, name):
    with pytest.raises(ValueError) as caught:
        data.load(name)
    expected = "name: expected one of mnist, fashion_mnist, kmnist, strokes, got "
    assert str(caught.value) == expected + repr(name)
    assert small.asked == []


def test_an_unknown_name_in_the_environment(monkeypatch):
    monkeypatch.setenv("VAE_CORE_DATA", "MNIST")
    with pytest.raises(ValueError, match="^VAE_CORE_DATA: expected one of .*, got 'MNIST'$"):
        data.load()
    monkeypatch.setenv("VAE_CORE_DATA", "")  # as good as unset
    monkeypatch.setattr(data, "_from_files", lambda name, seconds: data._strokes())
    assert data.load(quiet=True).name == "strokes"


@pytest.mark.parametrize("name", [3, b"mnist", Path("mnist"), ["mnist"]])
def test_names_that_are_no_text(name):
    with pytest.raises(TypeError, match="^name: expected one of mnist, .*, got "):
        data.load(name)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "cpu:x"])
def test_unknown_devices(small, device):
    with pytest.raises(ValueError, match=f"^device: expected one that is here, got '{device}'"):
        data.load("mnist", device=device)
    assert small.asked == []  # before any work


def test_devices_that_are_none():
    with pytest.raises(TypeError, match="^device: expected a name or a torch.device, got 3$"):
        data.load("strokes", device=3)


# ---------------------------------------------------------------------------- the real thing


@pytest.fixture
def real(monkeypatch):
    given = REAL_FOLDER and Path(REAL_FOLDER).expanduser()
    if not given or not all((given / "MNIST" / "raw" / file).is_file() for file in data._FILES):
        pytest.skip("no MNIST in $VAE_CORE_DATA_DIR")
    monkeypatch.setenv("VAE_CORE_DATA_DIR", str(given))


@pytest.mark.parametrize("name", ["mnist", None])
def test_real_mnist(real, name, capsys):
    loaded = data.load(name)
    assert capsys.readouterr().out == (
        "⟨mnist: 55,000 training, 5,000 validation and 10,000 test images, grey⟩\n"
    )
    assert loaded.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert loaded.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    pixels = torch.cat([loaded.train.images, loaded.val.images]).float() / 255
    assert pixels.mean().item() == pytest.approx(0.1307, abs=1e-4)
    assert pixels.std().item() == pytest.approx(0.3081, abs=1e-4)
