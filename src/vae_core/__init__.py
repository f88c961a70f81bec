"""Variational autoencoders, small, fast and exact: the package behind the book.

Quantities are in nats and **unreduced** unless a name says otherwise; the one place that takes
a mean over images is the training loop, ``fit``.
"""

from vae_core.claims import ClaimFailed, claim
from vae_core.data import ImageData, Split, load
from vae_core.devices import pick_device
from vae_core.elbo import ElboTerms, effective_beta, elbo_terms, kl, kl_per_unit, reparameterise
from vae_core.evaluation import (
    ActiveUnits,
    ElboEstimate,
    Estimate,
    Information,
    active_units,
    estimate_elbo,
    estimate_information,
    estimate_log_likelihood,
    log_evidence_2d,
)
from vae_core.frechet import (
    DigitClassifier,
    SampleRuler,
    digit_classifier,
    digit_features,
    frechet_distance,
)
from vae_core.likelihoods import BernoulliLikelihood, GaussianLikelihood
from vae_core.linear import PCA, LinearVAE, optimal_kl_per_unit, pca, principal_angles
from vae_core.models import Autoencoder, LinearAutoencoder, mlp, squared_error
from vae_core.noisy import NoisyAutoencoder, SquaredErrorVAE
from vae_core.pixels import as_pixels, binarise
from vae_core.schedules import one_cycle, warm_up
from vae_core.training import (
    History,
    Trainable,
    TrainingDiverged,
    default_seed,
    fit,
    mean_terms,
    seed_everything,
)
from vae_core.vae import VAE
from vae_core.weights import WeightsError, load_weights, save_weights

__all__ = [
    "ActiveUnits",
    "Autoencoder",
    "BernoulliLikelihood",
    "ClaimFailed",
    "DigitClassifier",
    "ElboEstimate",
    "ElboTerms",
    "Estimate",
    "GaussianLikelihood",
    "History",
    "ImageData",
    "Information",
    "LinearAutoencoder",
    "LinearVAE",
    "NoisyAutoencoder",
    "PCA",
    "SampleRuler",
    "Split",
    "SquaredErrorVAE",
    "Trainable",
    "TrainingDiverged",
    "VAE",
    "WeightsError",
    "active_units",
    "as_pixels",
    "binarise",
    "claim",
    "default_seed",
    "digit_classifier",
    "digit_features",
    "effective_beta",
    "elbo_terms",
    "estimate_elbo",
    "estimate_information",
    "estimate_log_likelihood",
    "fit",
    "frechet_distance",
    "kl",
    "kl_per_unit",
    "load",
    "load_weights",
    "log_evidence_2d",
    "mean_terms",
    "mlp",
    "one_cycle",
    "optimal_kl_per_unit",
    "pca",
    "pick_device",
    "principal_angles",
    "reparameterise",
    "save_weights",
    "seed_everything",
    "squared_error",
    "warm_up",
]

__version__ = "0.1.0"
