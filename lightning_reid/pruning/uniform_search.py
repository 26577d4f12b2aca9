"""Uniform removal: the one reducing factor of all layers, found from measured drops of a metric. What CPO is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lightning_reid.pruning.cpo_search import PROBE, PrunableLayer, Trial, Verdict, filters_removed

ALL_LAYERS = "all layers"


class UniformSearch:
    """Bisects the largest factor that, taken off every layer alike, keeps the drop tolerable: r = 0.5, then 0.25 or 0.75, and so on.

    Whoever tries starts each trial from the weights of the last one whose verdict was ``"keep"``.

    Args:
        layers: In the network's order.
        expected_drop: Largest tolerable drop, in units of the metric, at least 0.
        resolution: The search is over when the factor is known to within this, in (0, 1].

    Attributes:
        trial: What is to be tried; ``None`` when the search is over.

    Source: the UR rows of thesis, section 5.4, where the factor is given instead of found.

    Raises:
        ValueError: No layers, a negative drop, or a resolution out of its range.
    """

    probing = False

    def __init__(self, layers: Sequence[PrunableLayer], expected_drop: float, resolution: float = 1 / 32) -> None:
        if not layers or not expected_drop >= 0 or not 0 < resolution <= 1:
            raise ValueError(
                "need at least one layer to prune, expected_drop of at least 0 and resolution in (0, 1],"
                f" got {len(layers)}, {expected_drop} and {resolution}"
            )
        self.layers = {layer.name: layer for layer in layers}
        self.expected_drop, self.resolution = expected_drop, resolution
        self.drop = 0.0  # of what is kept
        self._kept, self._failed = 0.0, 1.0
        self.trial: Trial | None = Trial(ALL_LAYERS, PROBE)

    @property
    def factors(self) -> dict[str, float]:
        """Reducing factor of every layer, as kept; empty where nothing was."""
        return dict.fromkeys(self.layers, self._kept) if self._kept > 0 else {}

    @property
    def removals(self) -> dict[str, int]:
        """Filters of each layer that are gone in the trial; empty when the search is over."""
        trial = self.trial
        return {} if trial is None else {name: filters_removed(layer.filters, trial.factor) for name, layer in self.layers.items()}

    def report(self, drop: float) -> Verdict:
        """Take in the drop of the trial and choose the next.

        Args:
            drop: Of the metric against the whole network, in its units; below 0 where the pruned network is better.

        Returns:
            Whether the trial's pruning and weights are kept, or undone.

        Raises:
            ValueError: The drop is NaN.
            RuntimeError: The search is over.
        """
        if self.trial is None:
            raise RuntimeError("the search is over")
        if drop != drop:
            raise ValueError(f"the drop after pruning {ALL_LAYERS} is NaN: the metric was not computed, or the network diverged")
        verdict: Verdict = "keep" if drop <= self.expected_drop else "undo"
        if verdict == "keep":
            self._kept, self.drop = self.trial.factor, drop
        else:
            self._failed = self.trial.factor
        self.trial = Trial(ALL_LAYERS, (self._kept + self._failed) / 2) if self._failed - self._kept > self.resolution else None
        return verdict

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain values."""
        trial = None if self.trial is None else asdict(self.trial)
        return {"drop": self.drop, "kept": self._kept, "failed": self._failed, "trial": trial}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The way back."""
        self.drop, self._kept, self._failed = float(state["drop"]), float(state["kept"]), float(state["failed"])
        self.trial = None if state["trial"] is None else Trial(**state["trial"])
