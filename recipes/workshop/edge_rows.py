"""The rows of devices that learn together: those of the text's Table 1, and ours beside them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

EdgeRow = Literal[
    "walk",
    "style + walk",
    "walk + clustering",
    "style + walk + clustering",
    "federated averaging",
    "walk + clustering, statistics of each camera",
    "walk + clustering, average of the last lap",
    "clustering without a walk",
    "walk + one label a camera",
    "walk + components, alpha 0",
    "walk + components, alpha 1",
    "walk + components, alpha 2",
    "walk + components, alpha 3",
]


@dataclass(frozen=True)
class RowOptions:
    """What a row does beside the options of the run.

    Attributes:
        style: Devices learn on pictures in the style of camera 1.
        walks: It begins with the walk by local tracklets.
        labels: It learns labels across cameras.
        average: Federated averaging as long as the walk, in its place.
        of: The row whose network it scores.
        own_statistics: Each camera's test images are embedded with that camera's running statistics.
        edge: Arguments of ``EdgeOptions`` that differ.
    """

    style: bool = False
    walks: bool = True
    labels: bool = False
    average: bool = False
    of: EdgeRow | None = None
    own_statistics: bool = False
    edge: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """By name, for the file that says whose a folder is."""
        return asdict(self)


ROWS: dict[EdgeRow, RowOptions] = {
    "walk": RowOptions(),
    "style + walk": RowOptions(style=True),
    "walk + clustering": RowOptions(labels=True),
    "style + walk + clustering": RowOptions(style=True, labels=True),
    "federated averaging": RowOptions(average=True),
    "walk + clustering, statistics of each camera": RowOptions(of="walk + clustering", own_statistics=True),
    "walk + clustering, average of the last lap": RowOptions(labels=True, edge={"unify": "average"}),
    "clustering without a walk": RowOptions(labels=True, walks=False),
    "walk + one label a camera": RowOptions(labels=True, edge={"method": "one_per_camera", "alpha": 0}),
    "walk + components, alpha 0": RowOptions(labels=True, edge={"method": "components", "alpha": 0}),
    "walk + components, alpha 1": RowOptions(labels=True, edge={"method": "components", "alpha": 1}),
    "walk + components, alpha 2": RowOptions(labels=True, edge={"method": "components", "alpha": 2}),
    "walk + components, alpha 3": RowOptions(labels=True, edge={"method": "components", "alpha": 3}),
}
"""The first four are the text's; those with ``alpha`` are the points of its Fig. 3."""
