"""Filter pruning as pure functions: criteria of filters and layers, constraint-aware importance, the layer-by-layer search."""

from lightning_reid.pruning.channel_selection import constraint_aware_importance
from lightning_reid.pruning.filter_criteria import filter_l1_norm
from lightning_reid.pruning.loss_impact import batch_norm_score, loss_impact

__all__ = [
    "batch_norm_score",
    "constraint_aware_importance",
    "filter_l1_norm",
    "loss_impact",
]
