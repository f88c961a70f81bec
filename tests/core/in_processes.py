"""What ``test_processes.py`` runs in one process, or in several, and keeps in a file."""

import sys

import torch
from torch import distributed, nn

from small import small_images, small_vae
from vae_core import (
    elbo_terms,
    estimate_elbo,
    estimate_information,
    estimate_log_likelihood,
    fit,
    mean_terms,
    seed_everything,
    warm_up,
)

VAL = small_images(11, seed=2)
OPTIONS = {
    "images": small_images(40, binary=False), "steps": 10, "batch_size": 10, "lr": 1e-2,
    "redraw": True, "seed": 3, "weights": {"KL": warm_up(5)}, "device": "cpu",
}  # fmt: skip


def importance_weighted(model, x):
    terms = elbo_terms(model, x, n_samples=4)
    return {"bound": -terms.log_weights.logsumexp(dim=0)}


def case(rank: int, *, hooked: bool = False, **options) -> dict:
    model = small_vae(seed=rank, hidden=(8, 6)).double()  # each starts with weights of its own
    if hooked:
        model.encoder.register_forward_hook(lambda *_: None)
    seed_everything(rank)
    history = fit(model, **OPTIONS | options)
    return {
        "weights": {name: weights.detach() for name, weights in model.named_parameters()},
        "train": {term: values.tolist() for term, values in history.train.items()},
        "val": history.val,
    }


def resumed(rank: int, file: str) -> dict:
    """Four steps, and then the rest, from whatever weights the second run finds."""
    case(rank, val=VAL, checkpoint=file, steps=4)
    return case(rank, val=VAL, checkpoint=file, resume=True)


def own_draws(count: int) -> list[float]:
    """A random number of the loss's own, from each process."""
    drawn = []

    def loss(model, x):
        drawn.append(torch.rand(()).item())
        return model.loss_terms(x)

    fit(small_vae(), **OPTIONS | {"steps": 1, "loss": loss})
    together = [None] * count
    if count == 1:
        return drawn
    distributed.all_gather_object(together, drawn[0])
    return together


def estimates() -> dict[str, torch.Tensor]:
    model, about = small_vae().double(), {"binarisation": "fixed"}
    elbo = estimate_elbo(model, VAL, **about)
    likelihood = estimate_log_likelihood(model, VAL, k=7, **about)
    information = estimate_information(model, VAL, **about)
    return {
        "ELBO": elbo.elbo.per_image,
        "error": torch.tensor(elbo.elbo.error),
        "KL": elbo.kl.per_image,
        "of one image": estimate_elbo(model, VAL[:1], **about).elbo.per_image,
        "likelihood": likelihood.per_image,
        "its error": torch.tensor(likelihood.error),
        "information": information.mutual_information.per_image,
        "terms": torch.tensor(list(mean_terms(model, VAL, batch_size=4).values())),
    }


def main(task: str, *given: str) -> None:
    torch.set_num_threads(1)
    rank = count = 0
    if task != "no group" and distributed.is_torchelastic_launched():
        distributed.init_process_group("gloo")
        rank, count = distributed.get_rank(), distributed.get_world_size()
    if task == "everything":
        file, checkpoint = given
        found = {
            "by hand": case(rank, val=VAL),
            "autograd": case(rank, hooked=True, val=VAL),
            "importance-weighted": case(rank, loss=importance_weighted, weights=None),
            "short validation": case(rank, val=VAL[:1]),
            "resumed": resumed(rank, checkpoint),
            "own draws": own_draws(count or 1),
            "estimates": estimates(),
        }
        if rank == 0:
            torch.save(found, file)
    else:
        model = small_vae()
        if task == "batch norm":
            model.encoder.insert(1, nn.BatchNorm1d(8))
        fit(model, **OPTIONS | ({"batch_size": 2} if task == "small batch" else {}))
    if count:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
