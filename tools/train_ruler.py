"""Make `src/vae_book/ruler.safetensors`, the fixed classifier behind the Fréchet distance.

    .venv/bin/python tools/train_ruler.py

Trained on MNIST and StrokeDigits together, so that one ruler measures both. The weights are
committed and never change: new weights would make every distance in the book incomparable.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from vae_book.data import load
from vae_book.frechet import DigitClassifier
from vae_core import as_pixels, seed_everything

STEPS, BATCH, LR = 4000, 256, 3e-3
TARGET = Path(__file__).resolve().parents[1] / "src" / "vae_book" / "ruler.safetensors"


def jitter(x: torch.Tensor) -> torch.Tensor:
    """Small random shifts, turns and stretches, so that the features know shapes, not pixels."""
    theta = torch.eye(2, 3).repeat(len(x), 1, 1)
    theta[:, :, :2] += 0.1 * torch.randn(len(x), 2, 2)
    theta[:, :, 2] = 0.1 * torch.randn(len(x), 2)
    return grid_sample(
        x, affine_grid(theta, list(x.shape), align_corners=False), align_corners=False
    )


def main() -> None:
    seed_everything(0)
    sets = [load("mnist"), load("strokes")]
    images = torch.cat([data.train.images for data in sets])
    labels = torch.cat([data.train.labels for data in sets])
    network = DigitClassifier()
    optimiser = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=STEPS)
    for step in range(STEPS):
        batch = torch.randint(len(images), (BATCH,))
        x = as_pixels(images[batch]).reshape(-1, 1, 28, 28)
        loss = cross_entropy(network(jitter(x)), labels[batch], label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % 500 == 0:
            print(f"step {step + 1}: loss {loss.item():.3f}")
    network.eval()
    with torch.no_grad():
        for data in sets:
            logits = network(as_pixels(data.test.images).reshape(-1, 1, 28, 28))
            accuracy = (logits.argmax(dim=1) == data.test.labels).float().mean().item()
            print(f"{data.name}: test accuracy {accuracy:.4f}")
    save_file(network.state_dict(), TARGET)


if __name__ == "__main__":
    main()
