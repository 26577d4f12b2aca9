"""CPO: which share of each layer's filters goes, found layer by layer from measured drops of a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lightning_reid.pruning.sensitivity import performance_sensitivity

PROBE = 0.5
"""The reducing factor that every layer is probed with (section 5.3.5)."""

Verdict = Literal["keep", "undo"]


@dataclass(frozen=True)
class PrunableLayer:
    """A layer, or a group of coupled ones, as the search sees it.

    Attributes:
        name: Of the layer.
        filters: N, at least 1.
        filter_size: ``W H C`` of a filter, summed over coupled layers.
        feeds: Layers that read its channels, and how many weights of a filter of theirs (``W H``) hang on each channel.
    """

    name: str
    filters: int
    filter_size: int
    feeds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """What is to be tried next: prune ``layer`` to the reducing factor ``factor``, retrain, measure the drop."""

    layer: str
    factor: float


def filters_removed(filters: int, factor: float) -> int:
    """Filters of a layer that a factor removes: ``N r`` rounded down, one of them always stays."""
    return min(int(filters * factor), filters - 1)


class CPOSearch:
    """Algorithm 2 of the thesis as a state machine: it says what to try, and is told the drop that came of it.

    First every layer is probed at r = 0.5, alone. Then, least sensitive layer first, r grows along 0.5, 0.75, 0.875... until the drop is
    intolerable, or the layer's sensitivity passes the runner-up's, or no further filter would go. In the first two cases r goes back,
    half way to the last one that was kept and again until the drop is tolerable; where half way is less than a filter, to that one.

    Whoever tries starts each trial from the weights of the last one whose verdict was ``"keep"``.

    Args:
        layers: In the network's order.
        expected_drop: Largest tolerable drop, in units of the metric, at least 0.

    Attributes:
        trial: What is to be tried; ``None`` when the search is over.
        factors: Reducing factor of every layer that was pruned, as kept.
        sensitivities: PS of every layer that is still to be pruned.

    Source: thesis, section 5.3.5, algorithm 2.

    Raises:
        ValueError: No layers, or a negative drop.
    """

    def __init__(self, layers: Sequence[PrunableLayer], expected_drop: float) -> None:
        if not layers or not expected_drop >= 0:
            raise ValueError(f"need at least one layer to prune and expected_drop of at least 0, got {len(layers)} and {expected_drop}")
        self.layers = {layer.name: layer for layer in layers}
        self.expected_drop = expected_drop
        self.filter_sizes = {layer.name: layer.filter_size for layer in layers}
        self.sensitivities: dict[str, float] = {}
        self.factors: dict[str, float] = {}
        self.drop = 0.0  # of what is kept
        self._to_probe = list(self.layers)
        self._stepping_back = False
        self.trial: Trial | None = Trial(self._to_probe[0], PROBE)

    @property
    def probing(self) -> bool:
        """Whether the trial only tells a sensitivity."""
        return bool(self._to_probe)

    def removed(self, layer: str, factor: float) -> int:
        """Filters of a layer that a factor removes."""
        return filters_removed(self.layers[layer].filters, factor)

    @property
    def removals(self) -> dict[str, int]:
        """Filters of the layer that are gone in the trial; empty when the search is over."""
        return {} if self.trial is None else {self.trial.layer: self.removed(self.trial.layer, self.trial.factor)}

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
            raise ValueError(f"the drop after pruning {self.trial.layer} is NaN: the metric was not computed, or the network diverged")
        return self._probe(drop) if self.probing else self._prune(drop)

    def _probe(self, drop: float) -> Verdict:
        layer = self._to_probe.pop(0)
        self.sensitivities[layer] = performance_sensitivity(drop, PROBE, self.filter_sizes[layer])
        if self._to_probe:
            self.trial = Trial(self._to_probe[0], PROBE)
        else:
            self._next_layer()
        return "undo"

    def _prune(self, drop: float) -> Verdict:
        assert self.trial is not None
        layer, factor, kept = self.trial.layer, self.trial.factor, self.factors.get(self.trial.layer, 0.0)
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

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain values."""
        return {
            "filter_sizes": dict(self.filter_sizes),
            "sensitivities": dict(self.sensitivities),
            "factors": dict(self.factors),
            "drop": self.drop,
            "to_probe": list(self._to_probe),
            "stepping_back": self._stepping_back,
            "trial": None if self.trial is None else asdict(self.trial),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The way back."""
        self.filter_sizes, self.sensitivities = dict(state["filter_sizes"]), dict(state["sensitivities"])
        self.factors, self.drop = dict(state["factors"]), float(state["drop"])
        self._to_probe, self._stepping_back = list(state["to_probe"]), bool(state["stepping_back"])
        self.trial = None if state["trial"] is None else Trial(**state["trial"])
