"""CPO: which share of each layer's filters goes, found layer by layer from measured drops of a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import override

from lightning_reid.pruning.filter_search import PROBE, FilterSearch, PrunableLayer, Trial, Verdict, filters_removed


class CPOSearch(FilterSearch):
    """The search of CPO, layer by layer: algorithm 2 of the thesis.

    First every layer is probed at r = 0.5, alone. Then, least sensitive layer first, r grows along 0.5, 0.75, 0.875... until the drop is
    intolerable, or the layer's sensitivity passes the runner-up's, or no further filter would go. In the first two cases r goes back,
    half way to the last one that was kept and again until the drop is tolerable; where half way is less than a filter, to that one.

    Args:
        layers: In the network's order.
        expected_drop: Largest tolerable drop, in units of the metric, at least 0.

    Attributes:
        factors: Reducing factor of every layer that was pruned, as kept.
        sensitivities: PS of every layer that is still to be pruned.

    Source: thesis, section 5.3.5, algorithm 2.

    Raises:
        ValueError: No layers, or a negative drop.
    """

    def __init__(self, layers: Sequence[PrunableLayer], expected_drop: float) -> None:
        super().__init__(layers, expected_drop, next((layer.name for layer in layers), ""))
        self.filter_sizes = {layer.name: layer.filter_size for layer in layers}
        self.sensitivities: dict[str, float] = {}
        self.factors: dict[str, float] = {}
        self._to_probe = list(self.layers)
        self._stepping_back = False

    @property
    @override
    def probing(self) -> bool:
        return bool(self._to_probe)

    def removed(self, layer: str, factor: float) -> int:
        """Filters of a layer that a factor removes."""
        return filters_removed(self.layers[layer].filters, factor)

    @property
    @override
    def removals(self) -> dict[str, int]:
        return {} if self.trial is None else {self.trial.layer: self.removed(self.trial.layer, self.trial.factor)}

    @override
    def judge(self, trial: Trial, drop: float) -> Verdict:
        return self._probe(drop) if self.probing else self._prune(trial, drop)

    def _probe(self, drop: float) -> Verdict:
        layer = self._to_probe.pop(0)
        self.sensitivities[layer] = performance_sensitivity(drop, PROBE, self.filter_sizes[layer])
        if self._to_probe:
            self.trial = Trial(self._to_probe[0], PROBE)
        else:
            self._next_layer()
        return "undo"

    def _prune(self, trial: Trial, drop: float) -> Verdict:
        layer, factor, kept = trial.layer, trial.factor, self.factors.get(trial.layer, 0.0)
        tolerable = drop <= self.expected_drop
        if self._stepping_back:
            if tolerable:
                self._keep(layer, factor, drop)
                self._finish(layer)
                return "keep"
            self._step_back(layer, factor, kept)
            return "undo"
        sensitivity = performance_sensitivity(drop - self.drop, factor - kept, self.filter_sizes[layer])
        others = [value for name, value in self.sensitivities.items() if name != layer]
        if not tolerable or (others and sensitivity > min(others)):
            self._step_back(layer, factor, kept)
            return "undo"
        self.sensitivities[layer] = sensitivity
        self._keep(layer, factor, drop)
        further = (1 + factor) / 2
        if self.removed(layer, further) > self.removed(layer, factor):
            self.trial = Trial(layer, further)
        else:
            self._finish(layer)
        return "keep"

    def _keep(self, layer: str, factor: float, drop: float) -> None:
        self.factors[layer], self.drop = factor, drop

    def _step_back(self, layer: str, factor: float, kept: float) -> None:
        middle = (factor + kept) / 2
        if self.removed(layer, middle) in (self.removed(layer, factor), self.removed(layer, kept)):
            self._finish(layer)
            return
        self._stepping_back = True
        self.trial = Trial(layer, middle)

    def _finish(self, layer: str) -> None:
        """The layers behind have fewer input channels now, so that each unit of their computation weighs more (eq. 5.6)."""
        self._stepping_back = False
        del self.sensitivities[layer]
        gone = self.removed(layer, self.factors.get(layer, 0.0))
        for name, weights in self.layers[layer].feeds.items():
            if name in self.filter_sizes:
                before = self.filter_sizes[name]
                self.filter_sizes[name] = max(1, before - weights * gone)
                if name in self.sensitivities:
                    self.sensitivities[name] *= before / self.filter_sizes[name]
        self._next_layer()

    def _next_layer(self) -> None:
        for layer in sorted(self.sensitivities, key=lambda name: self.sensitivities[name]):
            if self.removed(layer, PROBE) > 0:
                self.trial = Trial(layer, PROBE)
                return
            del self.sensitivities[layer]  # a single filter
        self.trial = None

    @override
    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "filter_sizes": dict(self.filter_sizes),
            "sensitivities": dict(self.sensitivities),
            "factors": dict(self.factors),
            "to_probe": list(self._to_probe),
            "stepping_back": self._stepping_back,
        }

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.filter_sizes, self.sensitivities = dict(state["filter_sizes"]), dict(state["sensitivities"])
        self.factors = dict(state["factors"])
        self._to_probe, self._stepping_back = list(state["to_probe"]), bool(state["stepping_back"])


def performance_sensitivity(drop_change: float, factor_change: float, filter_size: int) -> float:
    """``PS = dD / (dr W H C)``: drop of the metric for a unit of removed computation. Layers of small PS are pruned first.

    Source: thesis, eq. 5.6. The denominator is what the text uses for the computation change; the number of filters and the size of the
    map are not in it.

    Args:
        drop_change: dD, change of the drop between two steps, in units of the metric; below 0 where pruning helped.
        factor_change: dr, change of the reducing factor, above 0.
        filter_size: ``W H C``, weights of a filter over the input channels that are left, at least 1.

    Raises:
        ValueError: The factor did not grow, or a filter has no weights.
    """
    if not factor_change > 0 or filter_size < 1:
        raise ValueError(f"need factor_change > 0 and filter_size of at least 1, got {factor_change} and {filter_size}")
    return drop_change / (factor_change * filter_size)
