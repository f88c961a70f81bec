"""Steps of ``fit`` against a textbook loop, bare matrix products, and pythae's trainer.

The same VAE (784-400-20, Bernoulli pixels) in float32, the same images in memory, the same fused
Adam; ours and the textbook loop draw the images anew in each batch. The textbook loop does what a
careful reader of a tutorial would write: one closed-form KL, one cross-entropy, no checks. The bare
products are the eleven of a step, and nothing else. pythae's trainer gets grey images and can't
redraw. Building models, loading data and a few steps to warm up are not timed.

Then a profile: what a step's time goes to, in the textbook loop, in ``fit`` with autograd, and in
``fit``.
"""

import math
import statistics
import tempfile

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.profiler import ProfilerActivity, profile

from turns import in_turns, ratio, seconds, store
from vae_book.data import load
from vae_core import VAE, fit, pick_device, seed_everything
from vae_core.by_hand import ByHand

STEPS, ROUNDS, PROFILES = 150, 7, 5
BATCHES, THREADS = (128, 256), (1, 2)

GROUPS = {  # of operations in a profile; everything else is "the rest"
    "matrix products": ("aten::mm", "aten::addmm"),
    "Adam": ("aten::_fused_adam_", "Optimizer.step#Adam.step"),
    "images and noise": (
        "aten::index_select", "aten::index", "aten::random_", "aten::bernoulli_", "aten::normal_",
        "aten::lt", "aten::eq", "aten::div",
    ),
    "log p(x|z)": (
        "aten::log_sigmoid_forward", "aten::log_sigmoid_backward", "aten::sigmoid", "aten::log",
        "aten::log_", "aten::prod", "aten::maximum", "aten::dot", "aten::rsub", "aten::sub_",
        "aten::abs", "aten::sgn", "aten::sigmoid_backward", "aten::log_backward",
    ),
}  # fmt: skip


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


def bare_products(steps: int, batch_size: int, device: torch.device) -> None:
    def matrix(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, device=device)

    x, hidden, outputs, z = (matrix(batch_size, n) for n in (784, 400, 40, 20))
    encoder = matrix(400, 784), matrix(40, 400)
    decoder = matrix(400, 20), matrix(784, 400)
    for _ in range(steps):
        x @ encoder[0].T, hidden @ encoder[1].T, z @ decoder[0].T, hidden @ decoder[1].T
        x.T @ hidden, x @ decoder[1], hidden.T @ z, hidden @ decoder[0]
        outputs.T @ hidden, outputs @ encoder[1], hidden.T @ x


def pythae_trainer(images: torch.Tensor, steps: int, batch_size: int):
    """A function that trains pythae's VAE of the same layers with pythae's own trainer."""
    from likelihood import as_pythae
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    some = images[: steps * batch_size].cpu().float()[:, None] / 255
    data = BaseDataset(data=some, labels=torch.zeros(len(some)))

    def train() -> None:
        with tempfile.TemporaryDirectory() as folder:
            config = BaseTrainerConfig(
                output_dir=folder, num_epochs=1, per_device_train_batch_size=batch_size,
                learning_rate=1e-3, no_cuda=not images.is_cuda,
            )  # fmt: skip
            model = as_pythae(VAE(20)).train()
            trainer = BaseTrainer(model=model, train_dataset=data, training_config=config)
            trainer.prepare_training()
            trainer.train_step(epoch=1)

    return train


def measure(images: torch.Tensor, device: torch.device, batch_size: int, others: dict) -> dict:
    """ms a step of ``fit`` and of others beside it, functions of a number of steps."""
    seed_everything(0)
    ours = VAE(20).to(device)
    options = {"steps": STEPS, "batch_size": batch_size, "redraw": True, "device": device}
    times = in_turns({"fit": lambda: fit(ours, images, **options)} | others, ROUNDS)
    return {
        "threads": torch.get_num_threads(),
        "batch size": batch_size,
        "ms a step": {n: 1000 * statistics.median(t) / STEPS for n, t in times.items()},
        "speed of fit": {n: ratio(times, n, "fit") for n in others},
    }


def plain(images: torch.Tensor, device: torch.device, batch_size: int) -> dict:
    theirs = VAE(20).to(device)
    return {
        "textbook loop": lambda: textbook_loop(
            theirs.encoder, theirs.decoder, images, STEPS, batch_size
        ),
        "bare products": lambda: bare_products(STEPS, batch_size, device),
    }


def profiled(images: torch.Tensor, device: torch.device, batch_size: int = 128) -> dict:
    """ms a step by group of operations, in steps after the first hundreds."""
    results, fits = {}, ByHand.fits

    def with_autograd(*arguments, **options) -> None:
        ByHand.fits = staticmethod(lambda *_: False)
        try:
            fit(*arguments, **options)
        finally:
            ByHand.fits = staticmethod(fits)

    model = VAE(20).to(device)
    options = {"steps": STEPS, "batch_size": batch_size, "redraw": True, "device": device}
    functions = {
        "textbook loop": lambda: textbook_loop(
            model.encoder, model.decoder, images, STEPS, batch_size
        ),
        "fit with autograd": lambda: with_autograd(model, images, **options),
        "fit": lambda: fit(model, images, **options),
    }
    for _ in range(PROFILES):
        for name, function in functions.items():
            whole = 1000 * min(seconds(function) for _ in range(3)) / STEPS
            with profile(activities=[ProfilerActivity.CPU]) as watch:
                seconds(function)
            events = {event.key: event.self_cpu_time_total for event in watch.key_averages()}
            groups = {
                group: sum(events.get(key, 0.0) for key in keys) / STEPS / 1000
                for group, keys in GROUPS.items()
            }
            groups["the rest"] = max(0.0, whole - sum(groups.values()))
            if sum(groups.values()) < sum(results.get(name, {"": math.inf}).values()):
                results[name] = groups  # the round that others disturbed least
    return results


def main() -> None:
    data, device = load(), pick_device()
    images = data.train.images.to(device)
    threads = THREADS if device.type == "cpu" else (torch.get_num_threads(),)
    settings = [(n, batch_size) for n in threads for batch_size in BATCHES]
    rows = []
    for n, batch_size in settings:
        torch.set_num_threads(n)
        rows.append(measure(images, device, batch_size, plain(images, device, batch_size)))
    profiles = profiled(images, device) if device.type == "cpu" else None
    # Last, for what pythae brings with it slows down everything in the process.
    for row, (n, batch_size) in zip(rows, settings, strict=True):
        torch.set_num_threads(n)
        trainer = {"pythae's trainer": pythae_trainer(images, STEPS, batch_size)}
        row |= {"beside pythae": measure(images, device, batch_size, trainer)}
    results = {"data": data.name, "rounds": ROUNDS, "steps": STEPS, "rows": rows}
    if profiles:
        results["profile"] = profiles
    store("throughput", results)


if __name__ == "__main__":
    main()
