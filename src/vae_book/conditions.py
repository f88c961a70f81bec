"""Chapter 12's experiments: models that are told a label or not, what is left of it in their codes,
how a digit is written, and a hundred labels for everybody."""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vae_book.data import ImageData
from vae_book.live.packing import hex_images
from vae_book.stored import stored
from vae_core.elbo import elbo_terms
from vae_core.evaluation import estimate_elbo
from vae_core.images import as_pixels, binarise
from vae_core.networks import OneHotCondition, evaluating, mlp
from vae_core.schedules import one_cycle
from vae_core.seeds import own_random_numbers, seed_everything
from vae_core.training import fit
from vae_core.vae import VAE

__all__ = [
    "FewLabels",
    "NotTold",
    "SemiSupervised",
    "codes_for_probe",
    "few_labels",
    "longer",
    "probe",
    "slant",
    "stroke_width",
    "within",
]

HIDDEN, LATENT_DIM, PEAK = 200, 5, 7e-3  # of the chapter's models, trained for 2,500 steps
LONGER = 10_000
FEW, FEW_STEPS, FEW_HIDDEN, ALPHA = 100, 2000, 128, 50
METHODS = {"labels alone": None, "M2, α = 0": 0, f"M2, α = {ALPHA}": ALPHA}
PROBED = 16_000  # codes that a probe is trained on


class NotTold(nn.Module):
    """A network that is called with rows and labels, and gets the rows alone."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the network puts out for ``rows`` ``[N, D]``."""
        return self.network(rows)


# ------------------------------------------------------------------------ what is left of the label


def codes_for_probe(model: VAE, data: ImageData, seed: int) -> tuple[Tensor, ...]:
    """One draw of the code of each of 16,000 training images, their labels, and the same of all
    test images: what ``probe`` takes. The model is called with images and labels."""
    images, labels = data.train.images[:PROBED], data.train.labels[:PROBED]
    tests = data.test.images, data.test.labels
    with evaluating(model), own_random_numbers(seed, torch.device("cpu")):
        seen = binarise(images) if data.binarisation == "redrawn" else images
        codes = model.encode(seen, labels).sample()
        return codes, labels, model.encode(*tests).sample(), tests[1]


def probe(codes: Tensor, labels: Tensor, tests: Tensor, *, seed: int, hidden: int = 64) -> Tensor:
    """log of a probe's probabilities of the ten labels for ``tests``: a small network that has
    learned to tell labels from codes.

    Its cross-entropy bounds H(y|z) from above, if it never saw the tests.

    Shapes: ``codes`` ``[N, d]``, ``labels`` ``[N]``, ``tests`` ``[M, d]``; the result ``[M, 10]``.
    """
    middle, scale = codes.mean(dim=0), codes.std(dim=0)
    with own_random_numbers(seed, torch.device("cpu")):
        network = mlp(codes.shape[1], hidden, 10)
        optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
        steps = 800
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = 5e-3 * (1 - step / steps)
            batch = torch.randint(len(codes), (500,))
            loss = cross_entropy(network((codes[batch] - middle) / scale), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        return network((tests - middle) / scale).log_softmax(dim=1)


def longer(data: ImageData, *, seed: int) -> dict[str, float]:
    """The conditional VAE of the chapter, trained four times as long: its −ELBO on test images and
    the cross-entropy of a probe of its codes, in nats; from the stored results where they have
    them."""
    trained_now = False

    @stored("conditions_longer", data.name, VAE, OneHotCondition, codes_for_probe, probe)
    def measured(seed, steps):
        nonlocal trained_now
        trained_now = True
        seed_everything(seed)
        model = VAE(LATENT_DIM, hidden=(HIDDEN,), n_classes=10)
        with contextlib.redirect_stdout(io.StringIO()):
            fit(model, data.train.images, data.train.labels, steps=steps, redraw=True,
                lr=one_cycle(steps, peak=PEAK), seed=seed)  # fmt: skip
        codes, labels, tests, truth = codes_for_probe(model, data, seed)
        elbo = estimate_elbo(
            model, data.test.images, data.test.labels, binarisation="redrawn", n_samples=2
        ).elbo
        left = cross_entropy(probe(codes, labels, tests, seed=seed), truth)
        return {"minus ELBO": -elbo.value, "cross-entropy": left.item()}

    result = measured(seed, LONGER)
    how = "trained now" if trained_now else "stored with the book"
    print(f"a conditional VAE, {LONGER:,} steps: ⟨{how}⟩")
    return result


# ------------------------------------------------------------------------ how a digit is written


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Variance of the ink's height and its covariance with the ink's place to the right."""
    ink = as_pixels(images, dtype=torch.float64).unflatten(1, (28, 28))
    axis = torch.arange(28, dtype=torch.float64)
    total = ink.sum(dim=(1, 2))
    x = axis - (ink.sum(dim=1) @ axis / total)[:, None]  # [N, 28], from the ink's middle
    y = (ink.sum(dim=2) @ axis / total)[:, None] - axis  # upwards
    variance = (ink.sum(dim=2) * y.square()).sum(dim=1) / total
    return variance, torch.einsum("nij,ni,nj->n", ink, y, x) / total


def slant(images: Tensor) -> Tensor:
    """How far to the right the ink moves for each pixel upwards: the slope of a regression.

    Shapes: ``images`` of 28 × 28 pixels as ``as_pixels`` takes them; the result ``[N]``.
    """
    variance, covariance = _moments(images)
    return covariance / variance


def stroke_width(images: Tensor) -> Tensor:
    """Ink divided by the length of its edges (the sum of all steps between neighbouring pixels).

    A wide bar of w pixels has two edges a row, so it is about w/2.

    Shapes: as in ``slant``.
    """
    ink = as_pixels(images, dtype=torch.float64).unflatten(1, (28, 28))
    edges = ink.diff(dim=1).abs().sum(dim=(1, 2)) + ink.diff(dim=2).abs().sum(dim=(1, 2))
    return ink.sum(dim=(1, 2)) / edges


def within(values: Tensor, groups: Tensor) -> Tensor:
    """Values less the mean of their group: what isn't explained by which group it is.

    Shapes: ``values`` and ``groups`` (integers from 0) ``[N]``; the result ``[N]``, float64.
    """
    sums = torch.zeros(int(groups.max()) + 1, dtype=torch.float64)
    sums.index_add_(0, groups, values.double())
    return values.double() - (sums / groups.bincount().clamp(min=1))[groups]


# ------------------------------------------------------------------------ a hundred labels


class SemiSupervised(nn.Module):
    """A conditional VAE of two units, and a network q(y|x) for images without a label: M2.

    Source: Kingma, Mohamed, Rezende and Welling (2014), section 3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_pixels = 784
        self.vae = VAE(2, hidden=(FEW_HIDDEN,), n_classes=10)
        self.classifier = mlp(784, FEW_HIDDEN, 10)

    def with_label(self, x: Tensor, y: Tensor) -> Tensor:
        """L(x, y) = −ELBO(x|y) − log p(y), for ten labels that are equally probable."""
        return math.log(10) - elbo_terms(self.vae, x, y).elbo

    def without_label(self, x: Tensor) -> Tensor:
        """U(x): the mean of L(x, y) over q(y|x), less the entropy of q(y|x)."""
        log_q = self.classifier(x).log_softmax(dim=1)  # [B, 10]
        every_y = torch.arange(10).repeat_interleave(len(x))  # 0 … 0 1 … 1 …
        each = self.with_label(x.repeat(10, 1), every_y).unflatten(0, (10, -1)).T
        return (log_q.exp() * (each + log_q)).sum(dim=1)

    def log_q(self, x: Tensor, y: Tensor) -> Tensor:
        """log q(y|x) of given labels."""
        return -cross_entropy(self.classifier(x), y, reduction="none")


@dataclass(frozen=True)
class FewLabels:
    """What came of a hundred labels, for each of five draws of which images have one.

    ``accuracy``: the share of test images told right, for each method by name, ``[5]``. ``drawn``:
    what the first of the last method's models draws, ``[40, 784]``, a row of ten labels for each
    of four codes.
    """

    accuracy: dict[str, Tensor]
    drawn: Tensor


def few_labels(data: ImageData) -> FewLabels:
    """A classifier and M2 without and with its auxiliary term, from ten labelled images of each
    digit, for five seeds; from the stored results where they have them."""
    trained_now = False

    @stored("conditions_few_labels", data.name, VAE, OneHotCondition, SemiSupervised)
    def measured(alpha, seed, steps, drawn):
        nonlocal trained_now
        trained_now = True
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
        labels = data.train.labels[order]
        chosen = torch.cat([order[labels == y][: FEW // 10] for y in range(10)])
        few, their_labels = data.train.images[chosen], data.train.labels[chosen]

        def loss(model, x):
            some = torch.randperm(FEW)[: len(x)]
            x_l, y_l = as_pixels(binarise(few[some])), their_labels[some]
            terms = {"labels": -model.log_q(x_l, y_l)}
            if alpha is not None:
                terms["labelled"] = model.with_label(x_l, y_l)
                terms["unlabelled"] = model.without_label(x)
            return terms

        seed_everything(seed)
        model = SemiSupervised()
        with contextlib.redirect_stdout(io.StringIO()):
            fit(model, data.train.images, loss=loss, steps=steps, batch_size=50, redraw=True,
                lr=one_cycle(steps, peak=3e-3), weights={"labels": 1 if alpha is None else alpha},
                seed=seed)  # fmt: skip
        with evaluating(model):
            told = model.classifier(as_pixels(data.test.images)).argmax(dim=1)
            result = {"right": (told == data.test.labels).double().mean().item()}
            if drawn:
                z = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
                every_y = torch.arange(10).repeat(4)
                images = model.vae.decode(z.repeat_interleave(10, dim=0), every_y).mean
                result["drawn"] = hex_images(images)
        return result

    accuracy = {}
    for name, alpha in METHODS.items():
        results = [measured(alpha, s, FEW_STEPS, alpha == ALPHA and s == 0) for s in range(5)]
        accuracy[name] = torch.tensor([result["right"] for result in results])
        first = results[0]
    how = "trained now" if trained_now else "stored with the book"
    print(f"{len(METHODS)} methods, five times {FEW} labels, {FEW_STEPS:,} steps: ⟨{how}⟩")
    shades = torch.tensor([int(digit, 16) / 15 for digit in first["drawn"]])
    return FewLabels(accuracy, shades.reshape(40, 784))
