"""What every pytest run of this repository needs, from whatever folder it is started.

A bare ``pytest --nbval book/`` runs the notebooks on the embedded data set, with a fixed number of
threads, and compares their text strictly with the stored outputs: only what a notebook prints
between ⟨ and ⟩ may differ (``make reproduce`` compares that).
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
MASKS = ROOT / "tools" / "nbval_masks.cfg"


def pytest_configure(config):
    env = os.environ
    env.setdefault("VAE_CORE_DATA", "strokes")
    env.setdefault("VAE_CORE_SEED", "0")
    env["VAE_CORE_PROGRESS"] = "0"
    env["OMP_NUM_THREADS"] = env["MKL_NUM_THREADS"] = "2"
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


def pytest_report_header():
    return f"vae-book: data {os.environ['VAE_CORE_DATA']}, Python {sys.executable}"
