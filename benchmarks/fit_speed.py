"""``fit`` against the training loop that most tutorials write, side by side.

The same autoencoder (784-256-8), batch size, optimiser and number of steps. The tutorial's loop
takes each image through PIL, ``ToTensor`` and a ``DataLoader``, as torchvision's MNIST does;
``fit`` keeps the bytes of all images on the device. Building the model, loading the data and a few
steps to warm up are not timed. The two take turns, so that a noisy machine is as unfair to one as
to the other; what counts is the ratio.

Prints the result and writes it to ``benchmarks/fit_speed.md``.
"""

import statistics
import time
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_tensor

from vae_core import Autoencoder, fit, load, pick_device, seed_everything

STEPS, BATCH, ROUNDS = 400, 128, 5


class AsTorchvision(Dataset):
    """Images one by one, as torchvision gives them."""

    def __init__(self, images: torch.Tensor):
        self.images = images.cpu().numpy()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> torch.Tensor:
        return to_tensor(Image.fromarray(self.images[i]))


def tutorial_loop(model: Autoencoder, loader: DataLoader, steps: int, device: torch.device):
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    done, total = 0, 0.0
    while True:
        for batch in loader:
            if done == steps:
                return total / done
            x = batch.to(device).reshape(len(batch), -1)
            loss = (x - model.decoder(model.encoder(x))).square().sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
            done += 1


def seconds(function, *arguments, **options) -> float:
    start = time.perf_counter()
    function(*arguments, **options)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    seed_everything(0)
    data, device = load(), pick_device()
    images = data.train.images
    loader = DataLoader(AsTorchvision(images), batch_size=BATCH, shuffle=True, drop_last=True)
    one, other = Autoencoder(8).to(device), Autoencoder(8).to(device)
    fit(one, images, steps=20, batch_size=BATCH, device=device)
    tutorial_loop(other, loader, 20, device)
    times: dict[str, list[float]] = {"fit": [], "tutorial": []}
    for _ in range(ROUNDS):
        times["fit"].append(seconds(fit, one, images, steps=STEPS, batch_size=BATCH, device=device))
        times["tutorial"].append(seconds(tutorial_loop, other, loader, STEPS, device))
    ratios = sorted(t / f for f, t in zip(times["fit"], times["tutorial"], strict=True))
    name = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads"
    )
    text = (
        "# `fit` against a tutorial's loop\n\n"
        f"{data.name}, {name}, torch {torch.__version__.split('+')[0]}; "
        f"autoencoder 784-256-8, batch {BATCH}, {STEPS} steps, {ROUNDS} rounds.\n\n"
        "| | ms a step (median) |\n| --- | --- |\n"
        f"| tutorial's loop | {1000 * statistics.median(times['tutorial']) / STEPS:.2f} |\n"
        f"| `fit` | {1000 * statistics.median(times['fit']) / STEPS:.2f} |\n\n"
        f"`fit` is **{statistics.median(ratios):.1f} times** as fast "
        f"(rounds: {ratios[0]:.1f} to {ratios[-1]:.1f}).\n"
    )
    print(text)
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
