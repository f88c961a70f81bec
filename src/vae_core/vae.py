"""The variational autoencoder: encoder, posterior, prior, decoder, likelihood."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vae_core._checks import describe, positive_int, tuple_of
from vae_core.elbo import terms_from_noise
from vae_core.likelihoods import BernoulliLikelihood
from vae_core.models import mlp
from vae_core.pixels import check_pixels, to_unit_interval

__all__ = ["VAE", "diagonal_gaussian", "soft_limit"]

LOG_VAR_LIMIT = 20.0  # exp(20) and exp(−20) are harmless in float32; no trained model comes near


def soft_limit(log_var: Tensor) -> Tensor:
    """log σ² as it is between −20 and 20, and growing only logarithmically beyond.

    An untrained or badly trained encoder can put out a log-variance of ±100, and exp(100)
    overflows in float32. A hard limit would cut the gradient off, and the unit could never come
    back; here its slope is 1/(s − 19) where log σ² = ±s, never 0.
    """
    excess = (log_var.abs() - LOG_VAR_LIMIT).relu()
    beyond = log_var.sign() * (LOG_VAR_LIMIT + excess.log1p())
    return torch.where(excess > 0, beyond, log_var)


def diagonal_gaussian(outputs: Tensor) -> Independent:
    """q(z|x) from the encoder's outputs: first the d means, then the d values of log σ².

    Shapes: ``outputs`` ``[B, 2d]``; the result a distribution of batch shape ``[B]`` and event
    shape ``[d]``. Its standard deviation is σ = exp(½ log σ²), with ``soft_limit`` around log σ².
    """
    mean, log_var = _at_least_float32(outputs).chunk(2, dim=-1)
    sigma = torch.exp(0.5 * soft_limit(log_var))
    return Independent(Normal(mean, sigma, validate_args=False), 1, validate_args=False)


class VAE(nn.Module):
    """A variational autoencoder with fully connected networks and a diagonal Gaussian posterior.

    ``latent_dim`` is the number d of latent units, ``hidden`` the widths of the hidden layers
    from the pixels inwards (the decoder mirrors them), ``likelihood`` a module that turns the
    decoder's outputs into p(x|z): ``BernoulliLikelihood()``, which is also what None means, or
    ``GaussianLikelihood(sigma_x)``.

    A subclass changes one part and keeps the rest: ``encoder`` and ``decoder`` for other networks
    (from ``[B, D]`` to ``[B, 2d]``, from ``[N, d]`` to ``[N, D]``), ``q`` for another Gaussian
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
        widths = [positive_int(width, "hidden") for width in tuple_of(hidden, "hidden")]
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

    def q(self, x: Tensor) -> Distribution:
        """q(z|x) for pixel values that are known to fit, ``[B, D]``: ``encode`` without checks."""
        return diagonal_gaussian(self.encoder(x))

    def p(self, z: Tensor) -> Distribution:
        """p(x|z) for codes that are known to fit, ``[…, d]``: ``decode`` without checks."""
        outputs = self.decoder(z.flatten(end_dim=-2))  # (S * B, D): what any network takes
        return self.likelihood(_at_least_float32(outputs).unflatten(0, z.shape[:-1]))

    def encode(self, x: Tensor) -> Distribution:
        """q(z|x), a distribution of batch shape ``[B]`` and event shape ``[d]``.

        Shapes: ``x`` B images as ``as_pixels`` takes them.

        Raises: TypeError or ValueError where ``x`` isn't images; ValueError where the result is
        NaN or infinite, because then the weights are.
        """
        q = self.q(self.as_input(x))
        with torch.no_grad():
            finite = torch.isfinite(q.log_prob(q.mean)).all()  # it isn't where σ is 0, either
        if not finite:
            raise ValueError("encode: q(z|x) is not finite; are the model's weights?")
        return q

    def decode(self, z: Tensor) -> Distribution:
        """p(x|z), a distribution of batch shape ``[…]`` and event shape ``[D]``.

        Its ``mean`` is the image one usually shows, ``sample()`` an image with every pixel drawn.

        Shapes: ``z`` ``[…, d]`` with at least one dimension before the last.

        Raises: TypeError or ValueError for another shape or type, or for NaN; ValueError where
        the result is NaN or infinite, because then the weights are.
        """
        if not isinstance(z, Tensor) or not z.is_floating_point():
            raise TypeError(f"z: expected a float tensor, got {describe(z)}")
        if z.ndim < 2 or z.shape[-1] != self.latent_dim:
            raise ValueError(f"z: expected shape [..., {self.latent_dim}], got {describe(z)}")
        if not torch.isfinite(z).all():
            raise ValueError("z: expected finite values, got NaN or infinity")
        p = self.p(z.to(next(self.parameters())))
        # The mean alone would not tell: sigmoid(∞) is 1, and σₓ isn't in it.
        with torch.no_grad():
            image = p.mean.round() if p.support.is_discrete else p.mean
            finite = torch.isfinite(p.log_prob(image)).all()
        if not finite:
            raise ValueError("decode: p(x|z) is not finite; are the model's weights?")
        return p

    def as_input(self, x: Tensor) -> Tensor:
        """Images as the encoder takes them: checked, ``[B, D]``, on the model's device.

        Raises: TypeError or ValueError as ``check_input`` does.
        """
        self.check_input(x)
        weights = next(self.parameters())
        return to_unit_interval(x, weights.dtype).to(weights)

    def check_input(self, x: Tensor, *, name: str = "x") -> None:
        """The checks of ``as_input`` alone; ``name`` is what their messages call the images.

        Raises: TypeError or ValueError where ``x`` isn't images, as in ``as_pixels``.
        """
        check_pixels(x, n_pixels=self.n_pixels, name=name)

    def loss_terms(self, x: Tensor) -> dict[str, Tensor]:
        """The two terms of −ELBO of each image, in nats: −log p(x|z) at one sample, and the KL.

        ``fit`` weighs them and takes the mean over the batch.

        Shapes: ``x`` ``[B, D]``, pixel values that ``as_pixels`` has checked; each term ``[B]``.

        Raises: NotImplementedError where the KL has no closed form, as ``kl`` does.
        """
        noise = x.new_empty(1, len(x), self.latent_dim).normal_()
        terms = terms_from_noise(self, x, noise)
        return {"reconstruction": -terms.log_likelihood[0], "KL": terms.kl}


def _at_least_float32(x: Tensor) -> Tensor:
    """Densities need more digits than the 8 bits that bfloat16 layers put out."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
