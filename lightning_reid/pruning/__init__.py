"""Filter pruning as pure functions: criteria of filters and layers, constraint-aware importance, the layer-by-layer search."""

from lightning_reid.pruning.channel_selection import constraint_aware_importance, least_important, protected_channels
from lightning_reid.pruning.cpo_search import CPOSearch
from lightning_reid.pruning.filter_criteria import filter_l1_norm, filter_sparsity, sparsest_first
from lightning_reid.pruning.filter_search import FilterSearch, PrunableLayer, Trial, Verdict
from lightning_reid.pruning.loss_impact import CoupledImpact, RunningImpact, batch_norm_score, filter_score, loss_impact
from lightning_reid.pruning.resource_impact import effective_resource_impact, pruning_objective, resource_impact
from lightning_reid.pruning.sensitivity import performance_sensitivity
from lightning_reid.pruning.uniform_search import UniformSearch

__all__ = [
    "CPOSearch",
    "CoupledImpact",
    "FilterSearch",
    "PrunableLayer",
    "RunningImpact",
    "Trial",
    "UniformSearch",
    "Verdict",
    "batch_norm_score",
    "constraint_aware_importance",
    "effective_resource_impact",
    "filter_l1_norm",
    "filter_score",
    "filter_sparsity",
    "least_important",
    "loss_impact",
    "performance_sensitivity",
    "protected_channels",
    "pruning_objective",
    "resource_impact",
    "sparsest_first",
]
