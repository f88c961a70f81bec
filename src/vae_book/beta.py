"""Which β a training loss really has, whatever it sums and whatever it averages."""

from __future__ import annotations

from typing import Literal

from vae_core._checks import positive_float, positive_int

__all__ = ["effective_beta"]


def effective_beta(
    weight: float = 1.0,
    *,
    latent_dim: int,
    n_pixels: int = 784,
    batch_size: int = 1,
    over_pixels: Literal["sum", "mean"] = "sum",
    over_units: Literal["sum", "mean"] = "sum",
    over_images: tuple[Literal["sum", "mean"], Literal["sum", "mean"]] = ("mean", "mean"),
    sigma_x: float | None = None,
) -> float:
    """The β that a training loss really has: ELBO_β = E_q[log p(x|z)] − β KL(q(z|x) ‖ p(z)).

    For a loss *reconstruction + weight × KL*, whatever its reductions: ``over_pixels`` is how the
    reconstruction is reduced over the pixels, ``over_units`` how the KL is reduced over the latent
    units, and ``over_images`` how the two are reduced over the batch (which counts only where they
    differ). ``sigma_x`` is None where the reconstruction is −log p(x|z) itself, such as binary
    cross-entropy. Where it is the plain squared error, ``sigma_x`` is the standard deviation of
    the Gaussian decoder that it stands for: −log p(x|z) is the squared error over 2σₓ².

    The ELBO itself has β = 1.

    Raises: TypeError or ValueError for a reduction that isn't "sum" or "mean", sizes below 1, and
    a weight or σₓ that isn't above 0.

    Source: Higgins et al. (2017) for β.
    """
    if not isinstance(over_images, tuple) or len(over_images) != 2:
        raise TypeError(
            "over_images: expected a pair, the reconstruction's reduction and the KL's, "
            f"got {over_images!r}"
        )
    batch_of_reconstruction, batch_of_kl = over_images
    reconstruction = _factor(over_pixels, n_pixels, "over_pixels", "n_pixels")
    reconstruction *= _factor(batch_of_reconstruction, batch_size, "over_images", "batch_size")
    kl = _factor(over_units, latent_dim, "over_units", "latent_dim")
    kl *= _factor(batch_of_kl, batch_size, "over_images", "batch_size")
    if sigma_x is not None:  # squared error = 2σₓ² (−log p(x|z) − constant)
        reconstruction *= 2 * positive_float(sigma_x, "sigma_x") ** 2
    return positive_float(weight, "weight") * kl / reconstruction


def _factor(reduction: str, n: int, name: str, name_of_n: str) -> float:
    """What a reduction over n numbers does to their sum."""
    if reduction not in ("sum", "mean"):
        raise ValueError(f"{name}: expected 'sum' or 'mean', got {reduction!r}")
    n = positive_int(n, name_of_n)
    return 1.0 if reduction == "sum" else 1.0 / n
