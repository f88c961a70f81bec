"""Run a notebook in a kernel in which everything that could change its outputs is fixed."""

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from .pages import ROOT, WIDGET, Refused, code_cells, errors

DATA, SEED, THREADS = "mnist", 0, 2
# Says what load() gives. It runs before a notebook (would it get MNIST?) and after (did it?).
PROBE = "from vae_book.data import load; print(load(quiet=True).name)"


def environment(
    data: str = DATA, seed: int = SEED, stored: str = "", claims: str = "", live: str = ""
) -> dict[str, str]:
    """What a notebook's kernel runs in: everything that could change its outputs is fixed."""
    env = os.environ | {
        "VAE_CORE_DATA": data,
        "VAE_CORE_SEED": str(seed),
        "VAE_CORE_PROGRESS": "0",
        "VAE_CORE_WIDGETS": "0",
        "VAE_CORE_STORED": stored,
        "VAE_CORE_CLAIMS": claims,
        "VAE_CORE_LIVE": live,
        "OMP_NUM_THREADS": str(THREADS),
        "MKL_NUM_THREADS": str(THREADS),
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait leave the processor to others
        "GOMP_SPINCOUNT": "0",
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


def run(
    nb: NotebookNode,
    folder: Path,
    data: str = DATA,
    seed: int = SEED,
    *,
    stored: str = "",
    claims: str = "",
    live: str = "",
) -> NotebookNode:
    """A copy of the notebook, executed in its folder; no cell failed, and it had this data.

    ``stored`` is what to do about results that are stored with the book, as in
    ``vae_book.stored``: use them (empty), "ignore" or "write" them. ``claims`` is "collect" to run
    on after a claim that fails, as in ``vae_book.claims``. ``live`` is the folder that the data of
    live figures are written to, if they are, as in ``vae_book.live``.
    """
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
        client.execute(env=environment(data, seed, stored, claims, live))
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
