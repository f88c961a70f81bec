"""What every pytest run of this repository needs, from whatever folder it is started.

A bare ``pytest --nbval book/`` runs the notebooks on the embedded data set, with a fixed number of
threads, and compares their text strictly with the stored outputs: only what a notebook prints
between ⟨ and ⟩ may differ (``make reproduce`` compares that). After the cells of a notebook, and in
the same kernel, it runs the code of the folded solutions.
"""

import os
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent
MASKS = ROOT / "tools" / "nbval_masks.cfg"
sys.path.insert(0, str(ROOT / "tools"))
# Threads that wait leave the processor to others. OpenMP reads this once, when torch is loaded.
os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


def pytest_configure(config):
    env = os.environ
    env.setdefault("VAE_CORE_DATA", "strokes")
    env.setdefault("VAE_CORE_SEED", "0")
    env["VAE_CORE_PROGRESS"] = "0"
    env["VAE_CORE_WIDGETS"] = "0"
    env["VAE_CORE_STORED"] = ""  # long computations are `make reproduce`'s
    env["VAE_CORE_CLAIMS"] = ""
    env["OMP_NUM_THREADS"] = env["MKL_NUM_THREADS"] = "1"  # the least processor time in all
    # Kernels run in their notebook's folder, so a relative path would miss there.
    if env.get("VAE_CORE_DATA_DIR"):
        env["VAE_CORE_DATA_DIR"] = str(Path(env["VAE_CORE_DATA_DIR"]).expanduser().resolve())
    # Kernels and subprocesses find the package even where it isn't installed.
    paths = [str(ROOT / "src"), *filter(None, [env.get("PYTHONPATH")])]
    env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    if getattr(config.option, "nbval", False):  # absent without the nbval plugin
        if config.option.nbval_sanitize_with is None:
            config.option.nbval_sanitize_with = str(MASKS)
        env.pop("MPLBACKEND", None)  # a kernel shows figures by its own
        # The Python that runs pytest, not whatever kernel the user has registered.
        if config.option.nbval_kernel_name is None:
            config.option.nbval_current_env = True


def pytest_collection_modifyitems(items):
    """Put a notebook's solutions after its last cell, as cells that store no outputs."""
    last_items = {item.parent: item for item in items if type(item).__name__ == "IPyNbCell"}
    if last_items:
        import nbformat

        from book import pages, solutions
    for notebook, last in last_items.items():
        if last.cell is not pages.code_cells(notebook.nb)[-1]:
            continue  # only some cells were asked for
        sources = ["\n".join(fences) for fences in solutions.solutions(notebook.nb)]
        items[items.index(last) + 1 : items.index(last) + 1] = [
            type(last).from_parent(
                notebook,
                name=f"Solution {number}",
                cell_num=last.cell_num + number,
                cell=nbformat.v4.new_code_cell(source),
                options=defaultdict(bool),
            )
            for number, source in enumerate(sources, start=1)
        ]


def pytest_report_header():
    return f"vae-book: data {os.environ['VAE_CORE_DATA']}, Python {sys.executable}"
