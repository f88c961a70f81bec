"""The variational autoencoder: encoder, posterior, prior, decoder, likelihood."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vae_core._checks import describe, positive_int
from vae_core.elbo import elbo_terms
from vae_core.images import as_pixels
from vae_core.likelihoods import BernoulliLikelihood
from vae_core.networks import mlp
from vae_core.posteriors import at_least_float32, diagonal_gaussian

__all__ = ["VAE"]


class VAE(nn.Module):
    """A variational autoencoder with fully connected networks and a diagonal Gaussian posterior.

    ``latent_dim`` is the number d of latent units, ``hidden`` the widths of the hidden layers
    from the pixels inwards (the decoder mirrors them), ``likelihood`` a module that turns the
    decoder's outputs into p(x|z): ``BernoulliLikelihood()``, which is also what None means, or
    ``GaussianLikelihood(sigma_x)``.

    A subclass changes one part and keeps the rest: ``encoder`` and ``decoder`` for other networks
    (from ``[B, D]`` to ``[B, 2d]``, from ``[N, d]`` to ``[N, D]``), ``encode`` for another Gaussian
    posterior, ``prior`` for another prior. Where KL(q(z|x) ‖ p(z)) has no closed form (see ``kl``;
    a mixture as the prior, say), ``fit``, ``estimate_elbo`` and ``estimate_information`` raise
    NotImplementedError. Such a model trains with ``loss_terms`` of its own, made from
    ``ElboTerms.sampled_kl``; ``estimate_log_likelihood`` and ``log_evidence_2d`` need no KL.

    Raises: TypeError or ValueError when a size is not an integer of at least 1, or the likelihood
    isn't a module.

    Source: Kingma and Welling (2014); Rezende, Mohamed and Wierstra (2014).
    """

    def __init__(
        self,
        latent_dim: int,
        hidden: Sequence[int] = (400,),
        n_pixels: int = 784,
        likelihood: nn.Module | None = None,
    ):
        super().__init__()
        self.latent_dim = positive_int(latent_dim, "latent_dim")
        self.n_pixels = positive_int(n_pixels, "n_pixels")
        if not isinstance(hidden, Sequence):
            raise TypeError(f"hidden: expected a sequence of widths, got {describe(hidden)}")
        widths = [positive_int(width, "hidden") for width in hidden]
        if likelihood is not None and not isinstance(likelihood, nn.Module):
            raise TypeError(
                "likelihood: expected a module such as BernoulliLikelihood() or "
                f"GaussianLikelihood(sigma_x), got {describe(likelihood)}"
            )
        self.encoder = mlp(self.n_pixels, *widths, 2 * self.latent_dim)
        self.decoder = mlp(self.latent_dim, *reversed(widths), self.n_pixels)
        self.likelihood = BernoulliLikelihood() if likelihood is None else likelihood

    @property
    def prior(self) -> Distribution:
        """p(z), the standard normal distribution of d independent units."""
        zeros = next(self.parameters()).new_zeros(self.latent_dim)
        return Independent(Normal(zeros, torch.ones_like(zeros), validate_args=False), 1)

    @property
    def unit_interval(self) -> bool:
        """True if pixel values must lie in [0, 1]; Gaussian pixels without activation may not."""
        return not isinstance(getattr(self.likelihood, "activation", None), nn.Identity)

    def encode(self, x: Tensor | np.ndarray) -> Distribution:
        """q(z|x), a distribution of batch shape ``[B]`` and event shape ``[d]``.

        Shapes: ``x`` B images as ``as_input`` takes them.

        Raises: TypeError or ValueError where ``x`` isn't images; ValueError for an encoder that
        doesn't put out 2 d numbers.
        """
        outputs = self.encoder(self.as_input(x))
        _check_width("encoder", outputs, 2 * self.latent_dim, "2 for each latent unit")
        return diagonal_gaussian(outputs)

    def decode(self, z: Tensor) -> Distribution:
        """p(x|z), a distribution of batch shape ``[…]`` and event shape ``[D]``.

        Its ``mean`` is the image one usually shows, ``sample()`` an image with every pixel drawn.

        Shapes: ``z`` ``[…, d]`` with at least one dimension before the last.

        Raises: TypeError or ValueError for another type or shape; ValueError for a decoder that
        doesn't put out D numbers.
        """
        if not isinstance(z, Tensor) or not z.is_floating_point():
            raise TypeError(f"z: expected a float tensor, got {describe(z)}")
        if z.ndim < 2 or z.shape[-1] != self.latent_dim:
            raise ValueError(f"z: expected shape [..., {self.latent_dim}], got {describe(z)}")
        rows = z.to(next(self.parameters())).flatten(end_dim=-2)  # (S * B, d), for any network
        outputs = self.decoder(rows)
        _check_width("decoder", outputs, self.n_pixels, "1 for each pixel")
        return self.likelihood(at_least_float32(outputs).unflatten(0, z.shape[:-1]))

    def as_input(self, x: Tensor | np.ndarray) -> Tensor:
        """Images as the encoder takes them, ``[B, D]`` on its device and in its type.

        What is that already is taken as it is: ``fit`` and the estimates have looked at the
        values once. Everything else goes through ``as_pixels``.

        Raises: TypeError or ValueError as ``as_pixels`` does.
        """
        to = next(self.parameters())
        rows = isinstance(x, Tensor) and x.ndim == 2 and x.shape[1] == self.n_pixels
        if rows and x.dtype == to.dtype and x.device == to.device:
            return x
        return as_pixels(
            x, n_pixels=self.n_pixels, dtype=to.dtype, name="x", unit_interval=self.unit_interval
        ).to(to.device)

    def loss_terms(self, x: Tensor) -> dict[str, Tensor]:
        """The two terms of −ELBO of each image, in nats: −log p(x|z) at one sample, and the KL.

        ``fit`` weighs them and takes the mean over the batch.

        Shapes: ``x`` ``[B, D]``, pixel values; each term ``[B]``.

        Raises: NotImplementedError where the KL has no closed form, as ``kl`` does.
        """
        terms = elbo_terms(self, x)
        return {"reconstruction": -terms.log_likelihood[0], "KL": terms.kl}


def _check_width(name: str, outputs: Tensor, width: int, meaning: str) -> None:
    """A network that puts out one number would be broadcast, and give wrong nats in silence."""
    if outputs.ndim != 2 or outputs.shape[1] != width:
        raise ValueError(
            f"{name}: expected outputs of shape [N, {width}] ({meaning}), got {describe(outputs)}"
        )
