"""p(x|z): what the decoder's outputs say about the pixels. The one place where it is chosen.

A likelihood is a module that turns the outputs of a decoder into a distribution over images.
Each pixel is independent of the others once z is known, so log p(x|z) is a **sum** over pixels,
in nats, with every constant.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal
from torch.nn.functional import softplus

from vae_core._checks import positive_float

__all__ = ["BernoulliImages", "BernoulliLikelihood", "GaussianImages", "GaussianLikelihood"]

GREY_LEVEL = 1 / 255  # the step between two neighbouring pixel values


class BernoulliImages(Independent):
    """Black-and-white images: each pixel is 1 with probability sigmoid(logit), else 0.

    ``log_prob`` also takes **grey** values x in [0, 1]. It is then no log-likelihood of the grey
    image, which a Bernoulli variable can't be, but the mean log-likelihood of the black-and-white
    images that x stands for, each pixel drawn as 1 with probability x.

    Shapes: ``logits`` ``[…, D]``; ``log_prob(x)`` ``[…]`` in nats.
    """

    def __init__(self, logits: Tensor):
        super().__init__(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x|z) in nats, summed over pixels: minus the cross-entropy, from the logits."""
        logits = self.base_dist.logits
        # log(1 + eᵃ) = max(a, 0) − log sigmoid(|a|): a CPU takes eight times as long for log1p.
        softplus = torch.maximum(logits, logits.new_zeros(())) - logits.abs().sigmoid().log()
        return (value.to(logits.dtype) * logits - softplus).sum(dim=-1)

    def log_prob_table(self, x: Tensor) -> Tensor:
        """log p(x|z) of **every** image under every distribution, by one matrix product.

        Shapes: for logits ``[G, D]`` and ``x`` ``[N, D]`` the result is ``[G, N]``, float64.
        """
        logits = _float64(self.base_dist.logits)
        return logits @ _float64(x).T - softplus(logits).sum(dim=-1, keepdim=True)


class GaussianImages(Independent):
    """Images with Gaussian pixels, all of the same standard deviation σₓ.

    Shapes: ``mean`` ``[…, D]``, ``sigma_x`` a scalar; ``log_prob(x)`` ``[…]`` in nats, with the
    constant −D log(σₓ √(2π)).
    """

    def __init__(self, mean: Tensor, sigma_x: Tensor):
        super().__init__(Normal(mean, sigma_x, validate_args=False), 1, validate_args=False)
        self.sigma_x = sigma_x

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x|z) in nats, summed over pixels: −‖x − mean‖²/(2σₓ²) and the constant."""
        squared_error = (value - self.base_dist.loc).square().sum(dim=-1)
        return self._constant() - squared_error / (2 * self.sigma_x.square())

    def log_prob_table(self, x: Tensor) -> Tensor:
        """log p(x|z) of **every** image under every distribution, by one matrix product.

        Shapes: for means ``[G, D]`` and ``x`` ``[N, D]`` the result is ``[G, N]``, float64.
        """
        mean, x = _float64(self.base_dist.loc), _float64(x)
        sizes = mean.square().sum(dim=-1, keepdim=True) + x.square().sum(dim=-1)
        squared_error = (sizes - 2 * mean @ x.T).clamp(min=0)
        return _float64(self._constant()) - squared_error / (2 * _float64(self.sigma_x).square())

    def _constant(self) -> Tensor:
        n_pixels = self.event_shape[0]
        return -n_pixels * (self.sigma_x.log() + 0.5 * math.log(2 * math.pi))


class BernoulliLikelihood(nn.Module):
    """p(x|z) of black-and-white pixels; the decoder's outputs are the logits.

    Its negative logarithm is the binary cross-entropy, summed over pixels.
    """

    def forward(self, outputs: Tensor) -> BernoulliImages:
        """Shapes: ``outputs`` ``[…, D]``."""
        return BernoulliImages(outputs)


class GaussianLikelihood(nn.Module):
    """p(x|z) of grey pixels: a Gaussian around the decoder's image, with one σₓ for all pixels.

    Its negative logarithm is the squared error divided by 2σₓ², and a constant that counts as
    soon as σₓ changes. With ``learned`` σₓ is a parameter that training fits; then σₓ stays
    above ``min_sigma``, because pixels that are always the same (the margin of MNIST) could be
    "predicted" with an ever narrower Gaussian. The default is one grey level, 1/255: below it, a
    density measures how pixels were rounded. Without ``learned`` it counts for nothing.

    ``activation`` takes the decoder's outputs to means: a sigmoid, because pixel values lie
    between 0 and 1, or ``nn.Identity()`` for a model of any values (standardised images, say).

    Raises: TypeError or ValueError for a σₓ or a ``min_sigma`` that isn't a finite number above 0,
    or, if σₓ is learned, a σₓ that isn't above ``min_sigma``.
    """

    def __init__(
        self,
        sigma_x: float,
        *,
        learned: bool = False,
        min_sigma: float = GREY_LEVEL,
        activation: nn.Module | None = None,
    ):
        super().__init__()
        sigma_x = positive_float(sigma_x, "sigma_x")
        self.learned = learned
        self.min_sigma = positive_float(min_sigma, "min_sigma")
        self.activation = nn.Sigmoid() if activation is None else activation
        if learned:
            if sigma_x <= min_sigma:
                raise ValueError(
                    f"sigma_x: expected more than min_sigma {min_sigma:g}, to learn it from there, "
                    f"got {sigma_x:g}"
                )
            start = math.log(sigma_x**2 - self.min_sigma**2)
            self.log_excess = nn.Parameter(torch.tensor(start))  # of σₓ² over min_sigma²
        else:
            self.register_buffer("fixed_sigma", torch.tensor(sigma_x))

    @property
    def sigma_x(self) -> Tensor:
        """The standard deviation of a pixel around its mean, a scalar."""
        if not self.learned:
            return self.fixed_sigma
        return (self.min_sigma**2 + self.log_excess.exp()).sqrt()

    def forward(self, outputs: Tensor) -> GaussianImages:
        """Shapes: ``outputs`` ``[…, D]``."""
        return GaussianImages(self.activation(outputs), self.sigma_x)


def _float64(x: Tensor) -> Tensor:
    return (x.cpu() if x.device.type == "mps" else x).double()  # Apple's GPUs have no float64
