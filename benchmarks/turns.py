"""Side by side: functions that take turns, and where their times are kept.

A noisy machine is then as unfair to one as to the other; what counts are the ratios of a round.
"""

import contextlib
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

RESULTS = Path(__file__).parents[1] / "src" / "vae_book" / "results" / "speed.json"
os.environ["VAE_CORE_PROGRESS"] = "0"


def seconds(function: Callable) -> float:
    """Wall-clock time of a call, which prints nothing, with everything a GPU was given to do."""
    _wait()
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        function()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_turns(functions: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Seconds of each function in each round, after a round that isn't counted."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(rounds + 1):
        for name, function in functions.items():
            took = seconds(function)
            if i:
                times[name].append(took)
    return times


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> list[float]:
    """Median, smallest and largest of the rounds' ratios."""
    ratios = sorted(s / f for s, f in zip(times[slow], times[fast], strict=True))
    return [statistics.median(ratios), ratios[0], ratios[-1]]


def hardware() -> dict[str, object]:
    """What a time means nothing without."""
    lines = (
        Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    )
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "CPU": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "bfloat16 instructions": "avx512_bf16" in flags or "amx_bf16" in flags,
        "GPU": gpu,
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def store(name: str, results: dict) -> None:
    """Keep a benchmark's results beside the others, in the file that the book draws from."""
    if torch.cuda.is_available():
        name += ", GPU"
    everything = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    everything[name] = {"hardware": hardware()} | results
    part = RESULTS.with_suffix(".part")
    part.write_text(
        json.dumps(dict(sorted(everything.items())), indent=1, ensure_ascii=False) + "\n"
    )
    os.replace(part, RESULTS)
    print(json.dumps({name: everything[name]}, indent=1))
