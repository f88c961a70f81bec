"""The models of chapters 1 to 3, from the autoencoder to the VAE: first a code, then noise in the
code, then the KL. From there on the chapters use ``vae_core.VAE``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vae_core._checks import describe, positive_int
from vae_core.elbo import kl
from vae_core.images import as_pixels
from vae_core.likelihoods import GaussianLikelihood
from vae_core.networks import mlp
from vae_core.posteriors import diagonal_gaussian
from vae_core.vae import VAE

__all__ = [
    "Autoencoder",
    "LinearAutoencoder",
    "NoisyAutoencoder",
    "SquaredErrorVAE",
    "squared_error",
]


def squared_error(x: Tensor, x_hat: Tensor) -> Tensor:
    """Squared error of each image, **summed** over its pixels (equation 1.2).

    A mean over the pixels would be 784 times smaller; alone that changes nothing but the step
    size, next to a second term in the loss (chapter 3) it changes the model.

    Shapes: ``x`` and ``x_hat`` ``[B, D]``; the result ``[B]``.
    """
    if x.shape != x_hat.shape:
        raise ValueError(f"x_hat: expected the shape of x {tuple(x.shape)}, got {describe(x_hat)}")
    return (x - x_hat).square().sum(dim=-1)


class Autoencoder(nn.Module):
    """An encoder from pixels to a code z, and a decoder from z back to pixels (equation 1.1).

    ``latent_dim`` is the number d of code coordinates, ``hidden`` the widths of the hidden layers
    from the pixels inwards (the decoder mirrors them). The last layer is a sigmoid, because
    pixel values lie between 0 and 1.

    Raises: TypeError or ValueError when a size is not an integer of at least 1.
    """

    def __init__(self, latent_dim: int, hidden: Sequence[int] = (256,), n_pixels: int = 784):
        super().__init__()
        self.latent_dim = positive_int(latent_dim, "latent_dim")
        self.n_pixels = positive_int(n_pixels, "n_pixels")
        widths = [positive_int(width, "hidden") for width in hidden]
        self.encoder = mlp(self.n_pixels, *widths, self.latent_dim)
        self.decoder = nn.Sequential(
            *mlp(self.latent_dim, *reversed(widths), self.n_pixels), nn.Sigmoid()
        )

    def encode(self, x: Tensor) -> Tensor:
        """The codes z = e(x).

        Shapes: ``x`` images as ``as_pixels`` takes them; the result ``[B, latent_dim]``.

        Raises: TypeError or ValueError where ``x`` isn't images, as in ``as_pixels``.
        """
        weights = next(self.parameters())
        pixels = as_pixels(x, n_pixels=self.n_pixels, dtype=weights.dtype, name="x")
        return self.encoder(pixels.to(weights.device))

    def decode(self, z: Tensor) -> Tensor:
        """The images g(z) that the codes stand for, as pixel values.

        Shapes: ``z`` ``[B, latent_dim]``; the result ``[B, n_pixels]``.

        Raises: TypeError or ValueError for another shape or type, or for NaN.
        """
        if not isinstance(z, Tensor) or not z.is_floating_point():
            raise TypeError(f"z: expected a float tensor, got {describe(z)}")
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"z: expected shape [B, {self.latent_dim}], got {describe(z)}")
        if not torch.isfinite(z).all():
            raise ValueError("z: expected finite values, got NaN or infinity")
        return self.decoder(z.to(next(self.parameters())))

    def reconstruct(self, x: Tensor) -> Tensor:
        """What is left of the images after the code: g(e(x)).

        Shapes: ``x`` as in ``encode``; the result ``[B, n_pixels]``.
        """
        return self.decode(self.encode(x))

    def loss_terms(self, x: Tensor) -> dict[str, Tensor]:
        """The training loss of each image, by name; ``fit`` takes the mean over the batch.

        Shapes: ``x`` ``[B, n_pixels]``, pixel values that ``as_pixels`` has checked; each term
        ``[B]``.
        """
        return {"squared error": squared_error(x, self.decoder(self.encoder(x)))}


class LinearAutoencoder(Autoencoder):
    """The autoencoder with one linear layer on either side and nothing between them.

    Its best solution is known in closed form (principal component analysis, see
    ``vae_book.linear.pca``), so what training finds can be compared with it.
    """

    def __init__(self, latent_dim: int, n_pixels: int = 784):
        super().__init__(latent_dim, hidden=(), n_pixels=n_pixels)
        self.decoder = mlp(self.latent_dim, self.n_pixels)  # no sigmoid: linear to the end


class NoisyAutoencoder(Autoencoder):
    """An autoencoder whose encoder gives each image a small cloud of codes instead of a point.

    The cloud is a Gaussian with a mean μ and a standard deviation σ for each code number. The
    decoder gets one draw from it, z = μ + σ ε. The loss is the squared error alone.

    Sizes and errors as in ``Autoencoder``; the encoder has 2 d outputs, μ and then log σ².
    """

    def __init__(self, latent_dim: int, hidden: Sequence[int] = (256,), n_pixels: int = 784):
        hidden = tuple(hidden)  # an iterator could be read only once
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
        z = cloud.rsample()
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
        q = self.encode(x)
        z = q.rsample()
        return {"squared error": squared_error(x, self.decode(z).mean), "KL": kl(q, self.prior())}
