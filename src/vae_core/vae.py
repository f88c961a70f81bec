"""The variational autoencoder: encoder, posterior, prior, decoder, likelihood."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vae_core._checks import describe, positive_int
from vae_core.elbo import elbo_terms
from vae_core.images import as_condition, as_pixels
from vae_core.likelihoods import BernoulliLikelihood
from vae_core.networks import OneHotCondition, mlp
from vae_core.posteriors import StandardGaussian, at_least_float32, diagonal_gaussian

__all__ = ["VAE", "StandardNormal"]

Images = Tensor | np.ndarray


class StandardNormal(nn.Module):
    """The prior N(0, I) over d latent units, whatever the condition."""

    def __init__(self, latent_dim: int):
        super().__init__()
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)
        self.p = StandardGaussian(self.zeros)

    def forward(self, condition: Tensor | None = None) -> StandardGaussian:
        """p(z), of event shape ``[d]``."""
        if self.p.loc is not self.zeros:  # it was moved, or got another type
            self.p = StandardGaussian(self.zeros)
        return self.p


class VAE(nn.Module):
    """A variational autoencoder, put together from five parts that can each be passed in.

    ``encoder``: a network from pixels ``[B, D]`` to the parameters of the posterior.
    ``posterior``: from these ``[B, …]`` to q(z|x), as ``posteriors`` describes it; None means
    ``diagonal_gaussian``, of 2 d parameters.
    ``prior``: a module that is called with nothing and returns p(z); None means N(0, I).
    ``decoder``: a network from codes ``[N, d]`` to outputs ``[N, …]``, one for each pixel or more.
    ``likelihood``: a module from outputs ``[…, D]``, or what the decoder has for them, to p(x|z) of
    event shape ``[D]``; None means ``BernoulliLikelihood()``. Pixel values must lie in [0, 1],
    unless it has an attribute ``activation`` that is ``nn.Identity()``.

    ``latent_dim`` is the number d of latent units, ``n_pixels`` the number D of values in an image,
    3 · 32 · 32 for a small one in colour. Networks that aren't passed in are fully connected with
    ``hidden`` the widths of their hidden layers, from the pixels inwards. ``conv_encoder`` and
    ``conv_decoder`` build convolutional ones; in one's own, ``nn.Unflatten`` and ``nn.Flatten``
    lead from rows to images and back.

    A ``condition``, one row for each image (a label, say), is a second input of encoder, decoder
    and prior, which are then called with it, ``encoder(x, y)``. With ``n_classes`` the networks
    that aren't passed in take labels from 0 to ``n_classes`` − 1 (see ``OneHotCondition``): that is
    a conditional VAE. Where KL(q(z|x) ‖ p(z)) has no
    closed form (see ``kl``), training and estimates take it from samples, and say so.

    Raises: TypeError or ValueError when a size is not an integer of at least 1, or the likelihood
    or the prior isn't a module; ValueError for ``n_classes`` where both networks are passed in.

    Source: Kingma and Welling (2014); Rezende, Mohamed and Wierstra (2014); Sohn, Lee and Yan
    (2015), for conditions.
    """

    def __init__(
        self,
        latent_dim: int,
        hidden: Sequence[int] = (400,),
        n_pixels: int = 784,
        likelihood: nn.Module | None = None,
        *,
        n_classes: int | None = None,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        posterior: Callable[[Tensor], Distribution] | None = None,
        prior: nn.Module | None = None,
    ):
        super().__init__()
        self.latent_dim = positive_int(latent_dim, "latent_dim")
        self.n_pixels = positive_int(n_pixels, "n_pixels")
        if not isinstance(hidden, Sequence):
            raise TypeError(f"hidden: expected a sequence of widths, got {describe(hidden)}")
        widths = [positive_int(width, "hidden") for width in hidden]
        for name, part in (("likelihood", likelihood), ("prior", prior)):
            if part is not None and not isinstance(part, nn.Module):
                raise TypeError(
                    f"{name}: expected a module such as BernoulliLikelihood() or "
                    f"StandardNormal(latent_dim), got {describe(part)}"
                )
        if n_classes is not None and encoder is not None and decoder is not None:
            raise ValueError(
                f"n_classes: expected None where encoder and decoder are passed in (see "
                f"OneHotCondition), got {n_classes!r}"
            )
        if encoder is None:
            encoder = _default(n_classes, self.n_pixels, *widths, 2 * self.latent_dim)
        if decoder is None:
            decoder = _default(n_classes, self.latent_dim, *reversed(widths), self.n_pixels)
        self.encoder, self.decoder = encoder, decoder
        self.posterior = diagonal_gaussian if posterior is None else posterior
        self.prior = StandardNormal(self.latent_dim) if prior is None else prior
        self.likelihood = BernoulliLikelihood() if likelihood is None else likelihood

    @property
    def unit_interval(self) -> bool:
        """True if pixel values must lie in [0, 1]; Gaussian pixels without activation may not."""
        return not isinstance(getattr(self.likelihood, "activation", None), nn.Identity)

    def encode(self, x: Images, condition: Images | None = None) -> Distribution:
        """q(z|x), a distribution of batch shape ``[B]`` and event shape ``[d]``.

        Shapes: ``x`` B images as ``as_input`` takes them, ``condition`` ``[B, …]``.

        Raises: TypeError or ValueError where ``x`` isn't images, or the condition doesn't fit;
        ValueError where encoder and posterior don't give each image a distribution of d units.
        """
        x = self.as_input(x)
        outputs = _outputs("encoder", self.encoder, x, condition)
        d = self.latent_dim
        if self.posterior is diagonal_gaussian and outputs.shape != (len(x), 2 * d):
            raise ValueError(
                f"encoder: expected outputs of shape [N, {2 * d}] (2 for each latent unit), "
                f"got {describe(outputs)}"
            )
        q = self.posterior(outputs)
        if q.batch_shape != (len(x),) or q.event_shape != (d,):
            raise ValueError(
                f"posterior: expected batch shape ({len(x)},) and event shape ({d},), "
                f"got {tuple(q.batch_shape)} and {tuple(q.event_shape)}"
            )
        return q

    def decode(self, z: Tensor, condition: Images | None = None) -> Distribution:
        """p(x|z), a distribution of batch shape ``[…]`` and event shape ``[D]``.

        Its ``mean`` is the image one usually shows, ``sample()`` an image with every pixel drawn.

        Shapes: ``z`` ``[…, B, d]`` with at least one dimension before the last, ``condition``
        ``[B, …]``.

        Raises: TypeError or ValueError for another type or shape; ValueError where decoder and
        likelihood don't give each code a distribution of images of D pixels.
        """
        if not isinstance(z, Tensor) or not z.is_floating_point():
            raise TypeError(f"z: expected a float tensor, got {describe(z)}")
        if z.ndim < 2 or z.shape[-1] != self.latent_dim:
            raise ValueError(f"z: expected shape [..., {self.latent_dim}], got {describe(z)}")
        z = z.to(next(self.parameters()))
        if condition is not None:
            condition = as_condition(condition, z.shape[-2], z)
            condition = condition.expand(*z.shape[:-2], *condition.shape)  # for every sample
            condition = condition.flatten(end_dim=z.ndim - 2)
        rows = z.flatten(end_dim=-2)  # (S * B, d), for any network
        outputs = _outputs("decoder", self.decoder, rows, condition)
        p = self.likelihood(at_least_float32(outputs).unflatten(0, z.shape[:-1]))
        if p.batch_shape != z.shape[:-1] or p.event_shape != (self.n_pixels,):
            raise ValueError(
                f"decoder: expected outputs of shape [N, {self.n_pixels}] (1 for each pixel), got "
                f"{describe(outputs)}, of which the likelihood makes images of event shape "
                f"{tuple(p.event_shape)}"
            )
        return p

    def as_input(self, x: Images) -> Tensor:
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

    def loss_terms(self, x: Tensor, condition: Tensor | None = None) -> dict[str, Tensor]:
        """The two terms of −ELBO of each image, in nats: −log p(x|z) at one sample, and the KL.

        ``fit`` weighs them and takes the mean over the batch. The second term is called "KL", or
        "KL from samples" where it has no closed form.

        Shapes: ``x`` ``[B, D]``, pixel values, ``condition`` ``[B, …]``; each term ``[B]``.
        """
        terms = elbo_terms(self, x, condition)
        name = "KL" if terms.closed_kl is not None else "KL from samples"
        return {"reconstruction": -terms.log_likelihood.squeeze(0), name: terms.kl}


def _default(n_classes: int | None, n_in: int, *sizes: int) -> nn.Module:
    """A fully connected network, with a label as its second input if there are classes."""
    if n_classes is None:
        return mlp(n_in, *sizes)
    n_classes = positive_int(n_classes, "n_classes")
    return OneHotCondition(mlp(n_in + n_classes, *sizes), n_classes)


def _outputs(name: str, network: nn.Module, rows: Tensor, condition: Images | None) -> Tensor:
    """What a network puts out for each row, and the row's condition if there is one."""
    if condition is None:
        return network(rows)
    if getattr(type(network), "forward", None) is nn.Sequential.forward:
        raise TypeError(
            f"condition: expected None, for the {name} is an nn.Sequential, which has one input; "
            "pass a network that is called with two"
        )
    return network(rows, as_condition(condition, len(rows), rows))
