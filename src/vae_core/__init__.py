"""Variational autoencoders for one's own images, small, fast and exact.

Quantities are in nats and **unreduced** unless a name says otherwise; the one place that takes
a mean over images is the training loop, ``fit``.
"""

from vae_core.batches import Batches
from vae_core.checkpoints import Checkpoint, TrainingState
from vae_core.devices import pick_device
from vae_core.divergence import Guard, TrainingDiverged
from vae_core.elbo import ElboTerms, elbo_terms, kl, kl_per_unit
from vae_core.evaluation import (
    active_units,
    estimate_elbo,
    estimate_information,
    estimate_log_likelihood,
    log_evidence_2d,
)
from vae_core.history import History
from vae_core.images import as_pixels, binarise
from vae_core.likelihoods import BernoulliLikelihood, GaussianLikelihood
from vae_core.networks import OneHotCondition, conv_decoder, conv_encoder, mlp
from vae_core.posteriors import DiagonalGaussian
from vae_core.schedules import one_cycle, warm_up
from vae_core.seeds import seed_everything
from vae_core.training import fit, mean_terms
from vae_core.vae import VAE
from vae_core.weights import WeightsError, load_weights, save_weights

__all__ = [
    "Batches",
    "BernoulliLikelihood",
    "Checkpoint",
    "DiagonalGaussian",
    "ElboTerms",
    "GaussianLikelihood",
    "Guard",
    "History",
    "OneHotCondition",
    "TrainingDiverged",
    "TrainingState",
    "VAE",
    "WeightsError",
    "active_units",
    "as_pixels",
    "binarise",
    "conv_decoder",
    "conv_encoder",
    "elbo_terms",
    "estimate_elbo",
    "estimate_information",
    "estimate_log_likelihood",
    "fit",
    "kl",
    "kl_per_unit",
    "load_weights",
    "log_evidence_2d",
    "mean_terms",
    "mlp",
    "one_cycle",
    "pick_device",
    "save_weights",
    "seed_everything",
    "warm_up",
]

__version__ = "0.2.0"
