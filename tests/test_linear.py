"""Principal component analysis against independent computations."""

import numpy as np
import pytest
import torch

from vae_core import pca, principal_angles

NOISE = torch.Generator().manual_seed(0)
IMAGES = torch.rand(200, 30, generator=NOISE, dtype=torch.float64)


def test_pca_against_the_singular_values_of_the_data():
    found = pca(IMAGES)
    centred = (IMAGES - IMAGES.mean(dim=0)).numpy()
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.variances.numpy(), singular**2 / 200, rtol=1e-10)
    overlap = np.abs(np.sum(found.components.numpy() * right.T, axis=0))
    np.testing.assert_allclose(overlap, 1, rtol=1e-8)


def test_smallest_error_is_that_of_the_projection():
    found = pca(IMAGES)
    top = found.components[:, :4]
    projected = found.mean + (IMAGES - found.mean) @ top @ top.T
    error = (IMAGES - projected).square().sum(dim=1).mean().item()
    assert found.smallest_error(4) == pytest.approx(error, rel=1e-10)


def test_no_random_subspace_does_better():
    found = pca(IMAGES)
    for _ in range(20):
        q = torch.linalg.qr(torch.randn(30, 4, generator=NOISE, dtype=torch.float64)).Q
        projected = found.mean + (IMAGES - found.mean) @ q @ q.T
        assert (IMAGES - projected).square().sum(dim=1).mean() > found.smallest_error(4)


def test_principal_angles():
    a = torch.eye(5, dtype=torch.float64)[:, :2]
    turn = torch.deg2rad(torch.tensor(1e-4, dtype=torch.float64))
    b = a.clone()
    b[0, 0], b[2, 0] = turn.cos(), turn.sin()
    torch.testing.assert_close(principal_angles(a, b).tolist(), [0.0, 1e-4], rtol=1e-6, atol=1e-12)
    mixed = b @ torch.tensor([[1.0, 2.0], [0.5, -3.0]], dtype=torch.float64)
    torch.testing.assert_close(principal_angles(a, mixed), principal_angles(a, b), rtol=1e-6,
                               atol=1e-9)  # fmt: skip
    assert principal_angles(a, torch.eye(5)[:, 3:])[-1].item() == pytest.approx(90)


def test_bad_input():
    with pytest.raises(ValueError, match="at least 2 images"):
        pca(IMAGES[:1])
    with pytest.raises(ValueError, match="latent_dim"):
        pca(IMAGES).smallest_error(0)
    with pytest.raises(ValueError, match="b: expected the shape of a"):
        principal_angles(torch.eye(3), torch.eye(4))
