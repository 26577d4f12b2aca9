"""Uniform removal: the one reducing factor of all layers, found from measured drops of a metric. What CPO is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import override

from lightning_reid.pruning.filter_search import FilterSearch, PrunableLayer, Trial, Verdict, filters_removed

ALL_LAYERS = "all layers"


class UniformSearch(FilterSearch):
    """Bisects the largest factor that, taken off every layer alike, keeps the drop tolerable: r = 0.5, then 0.25 or 0.75, and so on.

    Every trial begins from the weights of the last one that was kept, which have been retrained for longer than those that an earlier
    factor failed with. So where bisection has closed in on such a factor, it is tried again; once it is kept, the search goes on above it.
    The search is over when no factor is left between what is kept and one that failed from these very weights. The kept factor grows
    with each trial that is kept, and between two of them are at most ``log2(1 / resolution) + 1`` others.

    Args:
        layers: In the network's order.
        expected_drop: Largest tolerable drop, in units of the metric, at least 0.
        resolution: To within which the factor is found, in (0, 1].

    Source: the UR rows of thesis, section 5.4, where the factor is given instead of found.

    Raises:
        ValueError: No layers, a negative drop, or a resolution out of its range.
    """

    def __init__(self, layers: Sequence[PrunableLayer], expected_drop: float, resolution: float = 1 / 32) -> None:
        super().__init__(layers, expected_drop, ALL_LAYERS)
        if not 0 < resolution <= 1:
            raise ValueError(f"the resolution of a reducing factor must lie in (0, 1], got {resolution}")
        self.resolution = resolution
        self._kept = 0.0
        self._failed: list[float] = []  # factors above the kept one, the largest first
        self._outdated = False  # whether a trial was kept since the smallest of them failed

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
        again = bool(self._failed) and self._failed[-1] == trial.factor
        if verdict == "keep":
            self._kept, self.drop = trial.factor, drop
            self._failed = self._failed[:-1] if again else self._failed
        elif not again:
            self._failed.append(trial.factor)
        self._outdated = verdict == "keep"
        self.trial = self._next()
        return verdict

    def _next(self) -> Trial | None:
        ceiling = self._failed[-1] if self._failed else 1.0
        if ceiling - self._kept > self.resolution:
            return Trial(ALL_LAYERS, (self._kept + ceiling) / 2)
        return Trial(ALL_LAYERS, ceiling) if self._failed and self._outdated else None

    @override
    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"kept": self._kept, "failed": list(self._failed), "outdated": self._outdated}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        failed = state["failed"]
        if isinstance(failed, float):  # of an older checkpoint, 1 where none had failed: no factor was tried again
            failed = [failed] if failed < 1 else []
        self._kept, self._failed = float(state["kept"]), [float(factor) for factor in failed]
        self._outdated = bool(state.get("outdated", False))
