"""The importance-weighted log-likelihood: its time against two others, side by side.

One VAE (784-400-20, Bernoulli), trained briefly, and k = 5,000 samples for each image.

1. Against the bare matrix products that it can't do without: for each image the encoder's two,
   and the decoder's two for k codes, in chunks of the same size, into memory that is there already.
   No random numbers, no biases, no activations, no likelihood.
2. Against ``get_nll`` of pythae with the same weights, on test images drawn black and white once.
   (Its result is the mean of log p(x), with no minus, whatever its name.) Once as it comes, which
   is with batches of 100 and with a graph for gradients that nobody needs; once without that
   graph; and once without it and in the batch size that is fastest for it.

All take turns, so that a noisy machine is as unfair to one as to the other; what counts is the
ratio. Both must give the same number within Monte Carlo error, or this script fails.
"""

import math
import statistics
from collections.abc import Callable
from importlib.metadata import version

import torch
from pythae.models import VAE as PythaeVAE
from pythae.models import VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder

from turns import in_turns, ratio, store
from vae_book.data import load
from vae_core import VAE, estimate_log_likelihood, fit, seed_everything
from vae_core.evaluation import ROWS

K, IMAGES, ROUNDS, TRAINING = 5_000, 10, 9, 400
BATCHES = (250, 500, 1000, 2500, 5000)  # each divides K, for get_nll drops the rest


class Encoder(BaseEncoder):
    """Our encoder's layers, as pythae asks for them."""

    def __init__(self, layers: torch.nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> ModelOutput:
        mean, log_var = self.layers(x.flatten(start_dim=1)).chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_var)


class Decoder(BaseDecoder):
    """Our decoder's layers, as pythae asks for them: probabilities, not logits."""

    def __init__(self, layers: torch.nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, z: torch.Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=torch.sigmoid(self.layers(z)).unflatten(1, (1, 28, 28)))


def as_pythae(model: VAE) -> PythaeVAE:
    """The same weights in pythae's model."""
    config = VAEConfig(
        input_dim=(1, 28, 28), latent_dim=model.latent_dim, reconstruction_loss="bce"
    )
    return PythaeVAE(config, encoder=Encoder(model.encoder), decoder=Decoder(model.decoder)).eval()


def bare_products(model: VAE, n_images: int) -> Callable[[], None]:
    """A function that does nothing but the matrix products for ``n_images``."""
    weights = [layer.weight.detach() for layer in model.modules() if hasattr(layer, "weight")]
    encoder, decoder = weights[:2], weights[2:]

    def operands(rows: int, layers: list[torch.Tensor]) -> list[tuple[torch.Tensor, ...]]:
        return [(torch.rand(rows, w.shape[1]), w.T, torch.empty(rows, len(w))) for w in layers]

    once, chunk = operands(1, encoder), operands(ROWS, decoder)

    def multiply() -> None:
        for _ in range(n_images):
            for x, w, out in once:
                torch.mm(x, w, out=out)
            for _ in range(K // ROWS):
                for x, w, out in chunk:
                    torch.mm(x, w, out=out)

    return multiply


def main() -> None:
    seed_everything(0)
    data = load().binarised("redrawn")
    model = VAE(20)
    fit(model, data.train.images, steps=TRAINING, redraw=True, device="cpu", precision="float32")
    images = data.test.images[:IMAGES]
    theirs, x = as_pythae(model), (images.float() / 255)[:, None]

    def ours() -> float:
        return estimate_log_likelihood(model, images, k=K, binarisation=data.binarisation)

    def as_it_comes() -> float:
        return theirs.get_nll(x, n_samples=K)

    def get_nll(batch_size: int) -> float:
        with torch.no_grad():
            return theirs.get_nll(x, n_samples=K, batch_size=batch_size)

    tries = {n: in_turns({"": lambda n=n: get_nll(n)}, 2)[""] for n in BATCHES}
    best = min(tries, key=lambda n: min(tries[n]))
    functions = {
        "bare matrix products": bare_products(model, IMAGES),
        "`estimate_log_likelihood`": ours,
        "pythae as it comes": as_it_comes,
        "pythae without gradients": torch.no_grad()(as_it_comes),
        f"pythae without gradients, batches of {best:,}": lambda: get_nll(best),
    }
    times = in_turns(functions, ROUNDS)
    bare, own, plain, _, fastest = functions
    medians = {name: 1000 * statistics.median(t) / IMAGES for name, t in times.items()}

    # The same number? pythae reports no error: its draws are as many as ours, so it has ours.
    estimate, other = ours(), get_nll(best)
    error = math.sqrt(2) * estimate.error
    difference = other - estimate.value
    if abs(difference) > 5 * error:
        raise SystemExit(f"pythae says {other:.3f}, we say {estimate}: not the same number")

    store(
        "likelihood",
        {
            "data": data.name, "k": K, "images": IMAGES, "rounds": ROUNDS,
            "pythae": version("pythae"), "threads": torch.get_num_threads(),
            "ms an image": medians,
            "ours against bare products": ratio(times, own, bare),
            "pythae as it comes against ours": ratio(times, plain, own),
            "pythae at its best against ours": ratio(times, fastest, own),
            "nats": {"ours": estimate.value, "pythae": other, "Monte Carlo error": error},
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
