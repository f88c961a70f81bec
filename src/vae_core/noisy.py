"""From the autoencoder to the VAE: noise in the code (chapter 2), then the KL (chapter 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_core._checks import tuple_of
from vae_core.elbo import kl, reparameterise
from vae_core.likelihoods import GaussianLikelihood
from vae_core.models import Autoencoder, mlp, squared_error
from vae_core.vae import VAE, diagonal_gaussian

__all__ = ["NoisyAutoencoder", "SquaredErrorVAE"]


class NoisyAutoencoder(Autoencoder):
    """An autoencoder whose encoder gives each image a small cloud of codes instead of a point.

    The cloud is a Gaussian with a mean μ and a standard deviation σ for each code number. The
    decoder gets one draw from it, z = μ + σ ε. The loss is the squared error alone.

    Sizes and errors as in ``Autoencoder``; the encoder has 2 d outputs, μ and then log σ².
    """

    def __init__(self, latent_dim: int, hidden: Sequence[int] = (256,), n_pixels: int = 784):
        hidden = tuple_of(hidden, "hidden")  # it is read twice
        super().__init__(latent_dim, hidden, n_pixels)
        self.encoder = mlp(self.n_pixels, *hidden, 2 * self.latent_dim)

    def encode(self, x: Tensor) -> Distribution:
        """The cloud of codes of each image, a distribution of event shape ``[latent_dim]``.

        Shapes and errors as in ``Autoencoder.encode``.
        """
        return diagonal_gaussian(super().encode(x))

    def reconstruct(self, x: Tensor) -> Tensor:
        """The images that the decoder draws from one draw of each cloud.

        Shapes: ``x`` as in ``encode``; the result ``[B, n_pixels]``.
        """
        return self.decode(self.encode(x).sample())

    def loss_terms(self, x: Tensor) -> dict[str, Tensor]:
        """The squared error at one draw of the code.

        Shapes: ``x`` ``[B, n_pixels]``, pixel values that ``as_pixels`` has checked; ``[B]``.
        """
        cloud = diagonal_gaussian(self.encoder(x))
        z = reparameterise(cloud, torch.randn_like(cloud.mean)[None])[0]
        return {"squared error": squared_error(x, self.decoder(z))}


class SquaredErrorVAE(VAE):
    """The VAE that most tutorials train: squared error plus w times the KL.

    ``fit(…, weights={"KL": w})`` sets the weight. The squared error is −log p(x|z) of a Gaussian
    of variance ½ less its constant, so w = 1 maximises the ELBO for that variance (chapter 4 says
    which VAE another weight stands for).

    Sizes and errors as in ``VAE``.
    """

    def __init__(self, latent_dim: int, hidden: Sequence[int] = (256,), n_pixels: int = 784):
        super().__init__(latent_dim, hidden, n_pixels, GaussianLikelihood(math.sqrt(0.5)))

    def loss_terms(self, x: Tensor) -> dict[str, Tensor]:
        """The squared error at one draw of the code, and the KL in nats.

        Shapes: ``x`` ``[B, n_pixels]``, pixel values that ``as_pixels`` has checked; each ``[B]``.
        """
        q = self.q(x)
        z = reparameterise(q, torch.randn_like(q.mean)[None])[0]
        return {"squared error": squared_error(x, self.p(z).mean), "KL": kl(q, self.prior)}
