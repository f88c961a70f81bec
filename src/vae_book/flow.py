"""Flow matching: learn to carry N(0, I) to a set of codes, along straight paths (chapter 10)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vae_core._checks import positive_int

__all__ = ["Velocity", "carry", "flow_matching", "log_density"]

N_WAVES = 8  # sines and cosines of the time
N_BLOCKS = 3


class Velocity(nn.Module):
    """v(z, t): how fast a point at z moves, and where to, at time t from 0 to 1.

    A fully connected network with three residual blocks; it gets the time as sines and cosines of
    8 frequencies. Smooth, for its divergence gives a density.

    Raises: TypeError or ValueError for sizes that aren't integers of at least 1.
    """

    def __init__(self, latent_dim: int, width: int = 192):
        super().__init__()
        self.latent_dim = positive_int(latent_dim, "latent_dim")
        width = positive_int(width, "width")
        self.register_buffer("frequencies", math.pi * torch.arange(1, N_WAVES + 1))
        self.first = nn.Linear(self.latent_dim + 2 * N_WAVES, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(N_BLOCKS)
        )
        self.last = nn.Sequential(nn.SiLU(), nn.Linear(width, self.latent_dim))

    def forward(self, z: Tensor, t: Tensor | float) -> Tensor:
        """Shapes: ``z`` ``[N, d]``, ``t`` a number or ``[N, 1]``; the result ``[N, d]``."""
        t = torch.as_tensor(t, dtype=z.dtype, device=z.device).expand(len(z), 1)
        angles = t * self.frequencies
        h = self.first(torch.cat([z, angles.sin(), angles.cos()], dim=1))
        for block in self.blocks:
            h = h + block(h)
        return self.last(h)

    def loss_terms(self, z: Tensor) -> dict[str, Tensor]:
        """``flow_matching``, for ``fit``."""
        return flow_matching(self, z)


def flow_matching(velocity: nn.Module, z: Tensor) -> dict[str, Tensor]:
    """The squared error of a velocity at a random time of each code's own straight path (10.4).

    Shapes: ``z`` codes ``[B, d]``; the term ``[B]``.

    Source: Lipman et al. (2023); Liu, Gong and Liu (2023).
    """
    noise, t = torch.randn_like(z), torch.rand_like(z[:, :1])
    z_t = (1 - t) * noise + t * z
    error = velocity(z_t, t) - (z - noise)
    return {"squared error": error.square().sum(dim=1)}


def carry(velocity: nn.Module, z: Tensor, steps: int = 32) -> Tensor:
    """Where points are carried from time 0, at equally spaced times up to 1.

    Each step goes in the direction that the velocity has half a step ahead (the midpoint rule).

    Shapes: ``z`` ``[N, d]``; the result ``[steps + 1, N, d]``, first the points themselves.
    """
    path, h = [z], 1 / positive_int(steps, "steps")
    for k in range(steps):
        ahead = z + h / 2 * velocity(z, k * h)
        z = z + h * velocity(ahead, (k + 0.5) * h)
        path.append(z)
    return torch.stack(path)


def log_density(velocity: nn.Module, z: Tensor, steps: int = 32) -> Tensor:
    """log of the density at time 1, in nats, of what is N(0, I) at time 0 (10.8).

    The points are carried back, and the divergence of the velocity is added up on the way.

    Shapes: ``z`` ``[N, d]``; the result ``[N]``.

    Source: Chen et al. (2018), theorem 1.
    """

    def of_one(z: Tensor, t: Tensor) -> Tensor:
        return velocity(z[None], t).squeeze(0)

    jacobian = torch.func.vmap(torch.func.jacrev(of_one), in_dims=(0, None))
    h, total = 1 / positive_int(steps, "steps"), torch.zeros_like(z[:, 0])
    for k in reversed(range(steps)):
        behind = z - h / 2 * velocity(z, (k + 1) * h)
        at = torch.tensor((k + 0.5) * h, dtype=z.dtype, device=z.device)
        total = total + h * jacobian(behind, at).diagonal(dim1=1, dim2=2).sum(dim=1)
        z = z - h * velocity(behind, at)
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=1) - total
