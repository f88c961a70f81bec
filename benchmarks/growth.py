"""How time and memory grow with images, width, latent units and importance samples.

Every point is a process of its own, so that its memory is its own: the most that it ever held,
less what it held once everything was imported and used for the first time.
"""

import json
import resource
import statistics
import subprocess
import sys

import torch

from turns import seconds, store
from vae_core import VAE, estimate_log_likelihood, fit, seed_everything

ROUNDS = 5
POINTS = {
    "training images": [1_000, 3_000, 10_000, 30_000, 100_000, 300_000],
    "width": [50, 100, 200, 400, 800, 1600, 3200],
    "latent units": [2, 8, 32, 128, 512],
    "samples k": [10, 100, 1_000, 10_000, 100_000],
}


def most_memory() -> float:
    """The most that this process held so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(what: str, value: int) -> dict:
    """Seconds and megabytes for one value: of an epoch, of 100 steps, or of one image's log p."""
    seed_everything(0)
    small = VAE(2, hidden=(4,), n_pixels=16)  # so that every library is there
    fit(small, torch.zeros(4, 16), steps=1, batch_size=2, device="cpu")
    before = most_memory()
    images = torch.randint(
        0, 256, (value if what == "training images" else 10_000, 784), dtype=torch.uint8
    )
    width = value if what == "width" else 400
    model = VAE(value if what == "latent units" else 20, hidden=(width,))
    steps = len(images) // 250 if what == "training images" else 100

    def run() -> None:
        if what == "samples k":
            estimate_log_likelihood(model, images[:1], k=value, binarisation="grey")
        else:
            fit(model, images, steps=steps, batch_size=250, device="cpu")

    times = [seconds(run) for _ in range(1 + ROUNDS)][1:]
    return {"seconds": statistics.median(times), "megabytes": most_memory() - before}


def main() -> None:
    points = {
        what: {
            str(value): json.loads(
                subprocess.run(
                    [sys.executable, __file__, what, str(value)],
                    check=True, capture_output=True, text=True,
                ).stdout.splitlines()[-1]
            )
            for value in values
        }
        for what, values in POINTS.items()
    }  # fmt: skip
    store("growth", {"rounds": ROUNDS, "points": points})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(one(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
