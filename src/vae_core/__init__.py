"""Variational autoencoders, small, fast and exact: the package behind the book.

Quantities are in nats and **unreduced** unless a name says otherwise; the one place that takes
a mean over images is the training loop, ``fit``.
"""

from vae_core.claims import ClaimFailed, claim
from vae_core.data import ImageData, Split, load
from vae_core.devices import pick_device
from vae_core.frechet import (
    DigitClassifier,
    SampleRuler,
    digit_classifier,
    digit_features,
    frechet_distance,
)
from vae_core.linear import PCA, pca, principal_angles
from vae_core.models import Autoencoder, LinearAutoencoder, mlp, squared_error
from vae_core.pixels import as_pixels
from vae_core.training import (
    History,
    Trainable,
    TrainingDiverged,
    default_seed,
    fit,
    mean_terms,
    seed_everything,
)

__all__ = [
    "Autoencoder",
    "ClaimFailed",
    "DigitClassifier",
    "History",
    "ImageData",
    "LinearAutoencoder",
    "PCA",
    "SampleRuler",
    "Split",
    "Trainable",
    "TrainingDiverged",
    "as_pixels",
    "claim",
    "default_seed",
    "digit_classifier",
    "digit_features",
    "fit",
    "frechet_distance",
    "load",
    "mean_terms",
    "mlp",
    "pca",
    "pick_device",
    "principal_angles",
    "seed_everything",
    "squared_error",
]

__version__ = "0.1.0"
