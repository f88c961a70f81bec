"""The race: seconds of training until a VAE's test −ELBO passes a target.

(a) 105.56 nats on grey MNIST, one sample of noise an image, with a VAE 784-400-20: what ten epochs
    of the PyTorch examples' VAE reach. That example runs unchanged, from the checkout that
    ``$EXAMPLE`` names (github.com/pytorch/examples; its folder ``vae`` is used).
(b) 105, 100 and 95 nats on MNIST whose pixels are drawn anew in each batch, with any VAE. The test
    images are drawn once.

The clock runs from the first look at the images to the last weight. Building a model from random
numbers, loading images into memory and one warm-up before the first round are set-up. All 60,000
training images may be used, in any way; recipes were chosen on 5,000 of them, held out, and never
on test images. Ten seeds must all pass. Everything takes turns, in five rounds.

    make bench EXAMPLE=/path/to/examples
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from any_model import RECIPES, any_model
from record import Racer
from turns import store
from vae_book.data import data_dir, load
from vae_core import VAE, estimate_elbo, fit, one_cycle, pick_device, seed_everything

TARGET, ROUNDS, SEEDS_A_ROUND = 105.56, 5, 2
FIT_STEPS = 950


def with_fit(images: Tensor, seed: int, device: torch.device, precision: str) -> VAE:
    """What a reader can do: ``fit``, one-cycle, a shorter memory for Adam, the mean image."""
    vae, steps = VAE(20).to(device), FIT_STEPS
    with torch.no_grad():
        mean = images[:10_000].float().mean(dim=0) / 255
        vae.decoder[-1].bias.copy_(torch.logit(mean.clamp(1e-3, 1 - 1e-3)))
    fit(
        vae, images, steps=steps, batch_size=256, seed=seed, device=device, precision=precision,
        lr=one_cycle(steps, peak=1.4e-2), optimiser=partial(_adam, device=device),
    )  # fmt: skip
    return vae


def _adam(weights, device: torch.device) -> torch.optim.Optimizer:
    on_gpu = device.type == "cuda"
    return torch.optim.Adam(weights, betas=(0.9, 0.95), fused=True, capturable=on_gpu)


def timed(train: Callable[[], VAE]) -> tuple[VAE, float]:
    torch.set_flush_denormal(True)
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        vae = train()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return vae, time.perf_counter() - start


def entries(images: Tensor, device: torch.device) -> dict[str, Callable]:
    """Of race (a): functions of a seed that set up, and give what is timed."""
    precisions = ["float32", *(["bfloat16"] if _has_bfloat16() else [])]
    found = {}
    for name in precisions:
        found[f"fit, {name}"] = lambda seed, name=name: partial(
            with_fit, images, seed, device, name
        )
        if device.type == "cpu":
            found[f"record, {name}"] = lambda seed, name=name: partial(
                Racer(seed, getattr(torch, name)).train, images
            )
    return found


def _has_bfloat16() -> bool:
    """Without its own instructions a CPU computes with it forty times more slowly."""
    if torch.cuda.is_available():
        return True
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and "avx512_bf16" in _cpu_flags()


def _cpu_flags() -> str:
    cpu = Path("/proc/cpuinfo")
    return cpu.read_text() if cpu.exists() else ""


def nats(vae: VAE, test: Tensor, binarisation: str) -> float:
    """−ELBO of the test images, with one sample of noise an image."""
    return -estimate_elbo(vae, test, binarisation=binarisation, n_samples=1).elbo.value


def run_example(checkout: Path, seed: int) -> dict[str, list[float]]:
    """The example's ten epochs: seconds of training up to each, and its own test loss."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "vae"
        shutil.copytree(checkout / "vae", place)
        (place / "results").mkdir(exist_ok=True)
        (Path(folder) / "data").symlink_to(data_dir().absolute())
        command = [sys.executable, "-u", "main.py", "--seed", str(seed)]
        run = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True)
        trained, seconds, losses, start = 0.0, [], [], None
        for line in run.stdout:
            now = time.perf_counter()
            if start is None and line.startswith("Train Epoch"):
                start = now  # the first batch is for free
            elif "Average loss" in line:
                trained, start = trained + now - start, None
                seconds.append(trained)
            elif found := re.search(r"Test set loss: ([\d.]+)", line):
                losses.append(float(found[1]))
        if run.wait():
            raise SystemExit("EXAMPLE: the example failed; its messages are above")
    return {"seconds": seconds, "test": losses}


def main() -> None:
    device, data = pick_device(), load("mnist")
    images = torch.cat([data.train.images, data.val.images]).flatten(1).to(device)
    checkout = os.environ.get("EXAMPLE")
    results = {"target": TARGET, "rounds": ROUNDS, "threads": torch.get_num_threads()}
    grey = data.test.images.flatten(1)
    drawn = load("mnist").binarised("redrawn").test.images.flatten(1)
    racers, example = entries(images, device), []
    found = {name: {"seconds": [], "nats": []} for name in [*racers, *map(str, RECIPES)]}
    for make in racers.values():  # warm up
        timed(make(0))
    for target in RECIPES:
        timed(any_model(target, images, 0, device))
    for round_ in range(ROUNDS):
        if checkout:
            example.append(run_example(Path(checkout), seed=1 + round_))
        for seed in range(SEEDS_A_ROUND * round_ + 1, SEEDS_A_ROUND * (round_ + 1) + 1):
            for name, make in racers.items():
                seed_everything(seed)
                vae, took = timed(make(seed))
                found[name]["seconds"].append(took)
                found[name]["nats"].append(nats(vae, grey, "grey"))
            for target in RECIPES:
                seed_everything(seed)
                vae, took = timed(any_model(target, images, seed, device))
                found[str(target)]["seconds"].append(took)
                found[str(target)]["nats"].append(nats(vae, drawn, "redrawn"))
            print(
                {name: [f"{v[-1]:.2f}" for v in of.values()] for name, of in found.items()},
                flush=True,
            )
    results["a"] = {name: found[name] for name in racers}
    results["b"] = {str(target): found[str(target)] for target in RECIPES}
    if checkout is None:
        raise SystemExit("nothing stored: EXAMPLE=… names the checkout to race against")
    store("race", results | {"example": example})


if __name__ == "__main__":
    main()
