"""Uniform removal: the one reducing factor of all layers, found from measured drops of a metric. What CPO is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import override

from lightning_reid.pruning.filter_search import FilterSearch, PrunableLayer, Trial, Verdict, filters_removed

ALL_LAYERS = "all layers"


class UniformSearch(FilterSearch):
    """Bisects the largest factor that, taken off every layer alike, keeps the drop tolerable: r = 0.5, then 0.25 or 0.75, and so on.

    Args:
        layers: In the network's order.
        expected_drop: Largest tolerable drop, in units of the metric, at least 0.
        resolution: The search is over when the factor is known to within this, in (0, 1].

    Source: the UR rows of thesis, section 5.4, where the factor is given instead of found.

    Raises:
        ValueError: No layers, a negative drop, or a resolution out of its range.
    """

    def __init__(self, layers: Sequence[PrunableLayer], expected_drop: float, resolution: float = 1 / 32) -> None:
        super().__init__(layers, expected_drop, ALL_LAYERS)
        if not 0 < resolution <= 1:
            raise ValueError(f"the resolution of a reducing factor must lie in (0, 1], got {resolution}")
        self.resolution = resolution
        self._kept, self._failed = 0.0, 1.0

    @property
    def factors(self) -> dict[str, float]:
        """Reducing factor of every layer, as kept; empty where nothing was."""
        return dict.fromkeys(self.layers, self._kept) if self._kept > 0 else {}

    @property
    @override
    def removals(self) -> dict[str, int]:
        trial = self.trial
        return {} if trial is None else {name: filters_removed(layer.filters, trial.factor) for name, layer in self.layers.items()}

    @override
    def judge(self, trial: Trial, drop: float) -> Verdict:
        verdict: Verdict = "keep" if drop <= self.expected_drop else "undo"
        if verdict == "keep":
            self._kept, self.drop = trial.factor, drop
        else:
            self._failed = trial.factor
        self.trial = Trial(ALL_LAYERS, (self._kept + self._failed) / 2) if self._failed - self._kept > self.resolution else None
        return verdict

    @override
    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"kept": self._kept, "failed": self._failed}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._kept, self._failed = float(state["kept"]), float(state["failed"])
