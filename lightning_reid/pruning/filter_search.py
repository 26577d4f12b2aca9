"""What searches for the filters that may go share: layers, trials, and the drop that is tolerable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

PROBE = 0.5
"""The reducing factor that is tried first (section 5.3.5)."""

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


class FilterSearch(ABC):
    """A state machine that says what to try, and is told the drop that came of it.

    Whoever tries starts each trial from the weights of the last one whose verdict was ``"keep"``.

    Args:
        layers: In the network's order.
        expected_drop: Largest tolerable drop, in units of the metric, at least 0.
        first: What is tried first: a layer's name, or what stands for several.

    Attributes:
        trial: What is to be tried; ``None`` when the search is over.
        drop: Of what is kept.

    Raises:
        ValueError: No layers, or a negative drop.
    """

    def __init__(self, layers: Sequence[PrunableLayer], expected_drop: float, first: str) -> None:
        if not layers or not expected_drop >= 0:
            raise ValueError(f"need at least one layer to prune and expected_drop of at least 0, got {len(layers)} and {expected_drop}")
        self.layers = {layer.name: layer for layer in layers}
        self.expected_drop = expected_drop
        self.drop = 0.0
        self.trial: Trial | None = Trial(first, PROBE)

    @property
    def probing(self) -> bool:
        """Whether the trial only measures how sensitive a layer is, and will be undone."""
        return False

    @property
    @abstractmethod
    def removals(self) -> dict[str, int]:
        """Filters that are gone in the trial, of each layer it is about; empty when the search is over."""

    @abstractmethod
    def judge(self, trial: Trial, drop: float) -> Verdict:
        """Choose the next trial, and say whether this one's pruning is kept or undone."""

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
        return self.judge(self.trial, drop)

    def state_dict(self) -> dict[str, Any]:
        """All that changes, as plain values."""
        return {"drop": self.drop, "trial": None if self.trial is None else asdict(self.trial)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        self.drop = float(state["drop"])
        self.trial = None if state["trial"] is None else Trial(**state["trial"])
