"""Losses of person re-identification as pure functions: tensors in, a scalar out; and what defers them to the whole batch of a pipeline."""

from lightning_reid.losses.augmented_triplet import augmented_triplet_loss
from lightning_reid.losses.classification import label_smoothed_cross_entropy
from lightning_reid.losses.deferred import DeferredLoss
from lightning_reid.losses.distillation import distillation_loss, embedding_cosine_loss, relational_distance_loss
from lightning_reid.losses.identity import identity_losses
from lightning_reid.losses.least_squares import least_squares_gan
from lightning_reid.losses.margin_softmax import cosface_loss, one_vs_all_loss
from lightning_reid.losses.model_contrastive import model_contrastive_loss
from lightning_reid.losses.repelled import repelled_loss
from lightning_reid.losses.soft_targets import soft_target_cross_entropy
from lightning_reid.losses.triplet import batch_hard_triplet_loss, masked_weighted_triplet_loss, weighted_triplet_loss

__all__ = [
    "DeferredLoss",
    "augmented_triplet_loss",
    "batch_hard_triplet_loss",
    "cosface_loss",
    "distillation_loss",
    "embedding_cosine_loss",
    "identity_losses",
    "label_smoothed_cross_entropy",
    "least_squares_gan",
    "masked_weighted_triplet_loss",
    "model_contrastive_loss",
    "one_vs_all_loss",
    "relational_distance_loss",
    "repelled_loss",
    "soft_target_cross_entropy",
    "weighted_triplet_loss",
]
