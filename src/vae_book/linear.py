"""What is known exactly: principal component analysis, and the linear VAE.

Both have closed forms for what other models can only estimate, so tests and chapters measure
their estimates against these.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal

from vae_core._checks import describe, positive_float, positive_int
from vae_core.images import as_pixels, check_images
from vae_core.likelihoods import GaussianLikelihood
from vae_core.vae import VAE

__all__ = ["PCA", "LinearVAE", "optimal_kl_per_unit", "pca", "principal_angles"]


@dataclass(frozen=True)
class PCA:
    """Mean, directions and variances of the data, the largest variance first.

    Shapes: ``mean`` ``[D]``; ``components`` ``[D, D]``, one orthonormal direction in each
    **column**; ``variances`` ``[D]``, the eigenvalues λ₁ ≥ λ₂ ≥ … of the covariance matrix. All
    of them float64.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor

    def smallest_error(self, latent_dim: int) -> float:
        """The smallest mean squared error of any linear autoencoder with this code size.

        It is the variance that the first ``latent_dim`` directions leave over (equation L.7).

        Source: Eckart and Young (1936); Baldi and Hornik (1989).
        """
        return self.variances[positive_int(latent_dim, "latent_dim") :].sum().item()


def pca(images: Tensor) -> PCA:
    """Principal component analysis of the images, by the eigenvectors of their covariance.

    Shapes: ``images`` as ``as_pixels`` takes them, at least two of them.
    """
    if len(images) < 2:
        raise ValueError(f"images: expected at least 2 images, got {len(images)}")
    pixels = as_pixels(check_images(images).cpu(), dtype=torch.float64)
    mean = pixels.mean(dim=0)
    # Division by N, not N − 1: the training loss is a mean over N images too.
    covariance = (pixels - mean).T @ (pixels - mean) / len(pixels)
    variances, components = torch.linalg.eigh(covariance)  # ascending
    return PCA(mean, components.flip(dims=[1]), variances.flip(dims=[0]).clamp(min=0))


def principal_angles(a: Tensor, b: Tensor) -> Tensor:
    """Angles in degrees between the spaces that the columns of ``a`` and of ``b`` span.

    The largest one is 0 only where the two spaces are the same.

    Shapes: ``a`` and ``b`` ``[D, d]``; the result ``[d]``, ascending.

    Source: Björck and Golub (1973).
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"b: expected the shape of a {tuple(a.shape)}, got {describe(b)}")
    q_a, q_b = (torch.linalg.qr(m.double()).Q for m in (a, b))
    # The sine is accurate for small angles, where the cosine is flat.
    residual = q_b - q_a @ (q_a.T @ q_b)
    sines = torch.linalg.svdvals(residual).clamp(max=1)
    return torch.rad2deg(torch.arcsin(sines)).flip(dims=[0])


def optimal_kl_per_unit(variances: Tensor, sigma_x: float) -> Tensor:
    """Average KL of each unit of the best linear VAE, in nats: ½ log(λᵢ/σₓ²), or 0.

    A direction whose variance λᵢ is not above the noise σₓ² isn't worth its price: the unit dies.

    Shapes: ``variances`` ``[d]``, eigenvalues of the data's covariance; the result ``[d]``.

    Source: Tipping and Bishop (1999); Lucas et al. (2019).
    """
    noise = positive_float(sigma_x, "sigma_x") ** 2
    return 0.5 * (variances / noise).clamp(min=1).log()


class LinearVAE(VAE):
    """A VAE with one linear layer on either side and Gaussian pixels: x = W z + b + σₓ ε.

    Its evidence and its true posterior are Gaussians that can be written down (probabilistic
    PCA), so for this model the ELBO can be compared with what it bounds.

    Images may have any finite values here, for the model itself draws such images.

    Raises: TypeError or ValueError as ``VAE`` and ``GaussianLikelihood`` do.

    Source: Tipping and Bishop (1999); Dai et al. (2018).
    """

    def __init__(
        self, latent_dim: int, n_pixels: int = 784, *, sigma_x: float = 1.0, learned: bool = False
    ):
        likelihood = GaussianLikelihood(sigma_x, learned=learned, activation=nn.Identity())
        super().__init__(latent_dim, hidden=(), n_pixels=n_pixels, likelihood=likelihood)

    @property
    def evidence(self) -> LowRankMultivariateNormal:
        """p(x) = N(b, W Wᵀ + σₓ² I), exactly; event shape ``[n_pixels]``, float64."""
        W, b, noise = self._decoder_parts()
        return LowRankMultivariateNormal(b, W, noise.expand(self.n_pixels))

    def true_posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z|x) = N(M⁻¹Wᵀ(x − b), σₓ² M⁻¹) with M = WᵀW + σₓ² I, exactly.

        Shapes: ``x`` ``[B, n_pixels]``; the result of batch shape ``[B]`` and event shape
        ``[d]``, float64.
        """
        W, b, noise = self._decoder_parts()
        M = W.T @ W + noise * torch.eye(self.latent_dim, dtype=W.dtype, device=W.device)
        mean = torch.linalg.solve(M, W.T @ (self.as_input(x).double() - b).T).T
        return MultivariateNormal(mean, precision_matrix=M / noise)

    @classmethod
    def at_optimum(cls, data: PCA, latent_dim: int, *, sigma_x: float) -> LinearVAE:
        """The linear VAE with the highest mean ELBO for data of this mean and covariance.

        Column i of W is vᵢ √(λᵢ − σₓ²), 0 where λᵢ is below σₓ². WᵀW is then diagonal, the true
        posterior too, and the encoder equals it: the bound is tight, for any image. Float64.
        """
        model = cls(latent_dim, len(data.mean), sigma_x=sigma_x).double()
        if model.latent_dim > model.n_pixels:
            raise ValueError(
                f"latent_dim: expected at most {model.n_pixels} (pixels), got {latent_dim}"
            )
        noise, variances = sigma_x**2, data.variances[:latent_dim]
        W = data.components[:, :latent_dim] * (variances - noise).clamp(min=0).sqrt()
        to_mean = W.T / variances.clamp(min=noise)[:, None]
        log_var = (noise / variances.clamp(min=noise)).log()
        with torch.no_grad():
            model.likelihood.fixed_sigma.fill_(sigma_x)  # it was rounded to single precision
            model.decoder[0].weight.copy_(W)
            model.decoder[0].bias.copy_(data.mean)
            model.encoder[0].weight.copy_(torch.cat([to_mean, torch.zeros_like(to_mean)]))
            model.encoder[0].bias.copy_(torch.cat([-to_mean @ data.mean, log_var]))
        return model

    def _decoder_parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """W ``[n_pixels, d]``, b ``[n_pixels]`` and σₓ², float64."""
        layer = self.decoder[0]
        noise = self.likelihood.sigma_x.double().square()
        return layer.weight.double(), layer.bias.double(), noise
