"""``fit`` against a textbook loop in plain PyTorch, side by side.

The same VAE (784-400-20, Bernoulli pixels), the same images in memory as bytes, drawn anew in each
batch, the same fused Adam in float32. The textbook loop does what a careful reader of a tutorial
would write: one closed-form KL, one cross-entropy, no checks. Building the model, loading the data
and a few steps to warm up are not timed. The two take turns, so that a noisy machine is as unfair
to one as to the other; what counts is the ratio.

Prints the result and writes it to ``benchmarks/fit_speed.md``.
"""

import contextlib
import io
import os
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from vae_book.data import load
from vae_core import VAE, fit, pick_device, seed_everything

STEPS, ROUNDS = 500, 7
BATCHES, THREADS = (128, 256), (1, 2)


def textbook_loop(encoder: nn.Module, decoder: nn.Module, images, steps: int, batch_size: int):
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    done = 0
    while True:
        order = torch.randperm(len(images), device=images.device)
        for batch in order.split(batch_size):
            if done == steps:
                return
            x = torch.bernoulli(images[batch].flatten(1).float() / 255)
            mean, log_var = encoder(x).chunk(2, dim=1)
            z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
            cross_entropy = binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
            kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum()
            loss = (cross_entropy + kl) / len(x)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done += 1


def seconds(function, *arguments, **options) -> float:
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        function(*arguments, **options)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(images: torch.Tensor, device: torch.device, batch_size: int) -> str:
    """One row of the table: ms a step of both, and the ratio."""
    seed_everything(0)
    ours, theirs = VAE(20).to(device), VAE(20).to(device)
    fit_options = {"steps": STEPS, "batch_size": batch_size, "redraw": True, "device": device}
    loop_arguments = (theirs.encoder, theirs.decoder, images, STEPS, batch_size)
    times: dict[str, list[float]] = {"fit": [], "loop": []}
    for _ in range(1 + ROUNDS):  # the first round warms up
        times["fit"].append(seconds(fit, ours, images, **fit_options))
        times["loop"].append(seconds(textbook_loop, *loop_arguments))
    ratios = sorted(t / f for f, t in zip(times["fit"][1:], times["loop"][1:], strict=True))
    fit_ms, loop_ms = (1000 * statistics.median(t[1:]) / STEPS for t in times.values())
    where = device.type if device.type != "cpu" else f"{torch.get_num_threads()} CPU thread(s)"
    return (
        f"| {where} | {batch_size} | {loop_ms:.2f} | {fit_ms:.2f} | "
        f"**{statistics.median(ratios):.2f}** ({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
    )


def main() -> None:
    os.environ["VAE_CORE_PROGRESS"] = "0"
    data, device = load(), pick_device()
    images, rows = data.train.images.to(device), []
    for threads in THREADS if device.type == "cpu" else (None,):
        if threads is not None:
            torch.set_num_threads(threads)
        rows += [measure(images, device, batch_size) for batch_size in BATCHES]
    text = (
        "# `fit` against a textbook loop in plain PyTorch\n\n"
        f"{data.name}, VAE 784-400-20, float32, data in memory, fused Adam, torch "
        f"{torch.__version__.split('+')[0]}; ms a step, medians of {ROUNDS} rounds of {STEPS} "
        "steps. The speed of `fit` is the loop's time over its own, with the rounds' range.\n\n"
        "| | batch | textbook loop | `fit` | speed of `fit` |\n"
        "| --- | --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"
    )
    print(text)
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
