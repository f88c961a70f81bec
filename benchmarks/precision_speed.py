"""bfloat16 against float32 in training, by the size of a step: where ``precision="auto"`` draws
its line.

VAEs of several sizes on MNIST, each trained for some steps in either precision, in turns; what
counts is the ratio of the times. A step's size is its number of operations, 6 for each weight and
image: 2 forward and 4 backward. ``vae_core.devices.pick_precision`` takes bfloat16 above
``BFLOAT16_PAYS_FROM`` operations, on processors that multiply it in hardware. A GPU is measured
too, where there is one.

Prints the result and writes it to ``benchmarks/precision_speed.md``.
"""

import contextlib
import io
import os
import statistics
import time
from pathlib import Path

import torch

from vae_core import VAE, fit, load, seed_everything
from vae_core.devices import BFLOAT16_PAYS_FROM, _cpu_multiplies_bfloat16, pick_precision

SIZES = (  # hidden units, latent units, batch size
    (64, 2, 64),
    (256, 8, 128),
    (400, 20, 128),
    (400, 20, 256),
    (1000, 20, 256),
)
ROUNDS, SECONDS = 7, 0.5  # a round of training in one precision takes about that long
PRECISIONS = ("float32", "bfloat16")


def seconds(model: VAE, images: torch.Tensor, steps: int, **options) -> float:
    """Time of a training run, without the line it prints."""
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        fit(model, images, steps=steps, **options)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(images: torch.Tensor, hidden: int, latent_dim: int, batch: int, device: str) -> str:
    """One row of the table."""
    seed_everything(0)
    models = {name: VAE(latent_dim, hidden=(hidden,)).to(device) for name in PRECISIONS}
    options = {"batch_size": batch, "device": device}
    for name, model in models.items():
        seconds(model, images, 20, precision=name, **options)
    step = seconds(models["float32"], images, 20, precision="float32", **options) / 20
    steps = max(20, int(SECONDS / step))
    times: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for _ in range(ROUNDS):
        for name, model in models.items():
            took = seconds(model, images, steps, precision=name, **options)
            times[name].append(1000 * took / steps)
    ratios = sorted(a / b for a, b in zip(times["float32"], times["bfloat16"], strict=True))
    n_weights = sum(parameter.numel() for parameter in models["float32"].parameters())
    chosen = pick_precision(
        "auto", device=torch.device(device), n_weights=n_weights, batch_size=batch
    )
    float32, bfloat16 = (statistics.median(times[name]) for name in PRECISIONS)
    return (
        f"| {device} | 784-{hidden}-{latent_dim} | {batch} | {6e-9 * n_weights * batch:.2f} | "
        f"{float32:.2f} | {bfloat16:.2f} | **{statistics.median(ratios):.2f}** "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}) | {str(chosen).removeprefix('torch.')} |"
    )


def main() -> None:
    os.environ["VAE_CORE_PROGRESS"] = "0"
    data = load()
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows = []
    for device in devices:
        images = data.train.images.to(device)
        for size in SIZES:
            rows.append(measure(images, *size, device))
            print(rows[-1], flush=True)
    hardware = "with" if _cpu_multiplies_bfloat16() else "without"
    gpu = f", {torch.cuda.get_device_name()}" if "cuda" in devices else ""
    text = (
        "# bfloat16 against float32 in training\n\n"
        f"{data.name}, {torch.get_num_threads()} CPU threads {hardware} instructions for bfloat16"
        f"{gpu}, torch {torch.__version__.split('+')[0]}; ms a step of `fit`, medians of {ROUNDS} "
        "rounds. The speed-up is the median of the rounds' ratios, with their range.\n\n"
        "| device | VAE | batch | 10⁹ operations | float32 | bfloat16 | speed-up | `auto` |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n" + "\n".join(rows) + "\n\n"
        f"`auto` takes bfloat16 from {BFLOAT16_PAYS_FROM / 1e9:g} · 10⁹ operations a step, on a "
        "CPU with instructions for it; elsewhere float32.\n"
    )
    print(text)
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
