"""The networks of the thesis' tables on supervised video re-ID (chapter 2), row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from lightning_reid.networks.backbones import Backbone
from lightning_reid.networks.video_by_name import VideoNetworkName, build_video_network
from lightning_reid.networks.video_network import VideoNetwork


@dataclass(frozen=True)
class VideoTableRow:
    """One row.

    Attributes:
        name: What the row is called.
        network: Its network, see ``build_video_network``.
        clip_length: T, frames a clip.
        options: Arguments of the network, for images of 256 x 128.
        redetected: Whether its tracklets were re-detected and linked before.
    """

    name: str
    network: VideoNetworkName
    clip_length: int
    options: Mapping[str, Any] = field(default_factory=dict)
    redetected: bool = False

    def __post_init__(self) -> None:
        bound = {"clip_length": self.clip_length} if self.network == "cfaan" else {}
        object.__setattr__(self, "options", MappingProxyType({**bound, **self.options}))

    def build(self, backbone: str | Backbone = "resnet50") -> VideoNetwork:
        """The network, on a backbone of one's own."""
        return build_video_network(self.network, backbone=backbone, **self.options)


_NVAN = VideoTableRow("NVAN", "nvan", 8)
_SPATIAL = {"temporal_reduction": False}
_TEMPORAL = {"stripes": None}


def _aligned(name: str, network: VideoNetworkName, **options: Any) -> VideoTableRow:
    return VideoTableRow(name, network, 6, options, redetected=True)


VIDEO_TABLES: Mapping[str, tuple[VideoTableRow, ...]] = MappingProxyType(
    {
        "2.1": (
            VideoTableRow("ResNet-50, FPL", "baseline", 8),
            VideoTableRow("ResNet-50, max-FPL", "baseline", 8, {"pooling": "max"}),
            _NVAN,
            VideoTableRow("NVAN + spatial reduction", "stenvan", 8, _SPATIAL),
            VideoTableRow("NVAN + temporal reduction", "stenvan", 8, _TEMPORAL),
            VideoTableRow("STE-NVAN, all current frames (text)", "stenvan", 8),
            VideoTableRow("STE-NVAN, pairwise (released)", "stenvan", 8, {"pairwise": True}),
        ),
        "2.2": tuple(VideoTableRow(f"T = {length}", "nvan", length) for length in (4, 6, 8)),
        "2.3": (
            VideoTableRow("1 block", "nvan", 8, {"non_local_blocks": (0, 0, 1, 0)}),
            VideoTableRow("3 blocks", "nvan", 8, {"non_local_blocks": (0, 1, 2, 0)}),
            VideoTableRow("5 blocks", "nvan", 8),
        ),
        "2.4": tuple(VideoTableRow(f"S = {stripes}", "stenvan", 8, {"stripes": stripes, **_SPATIAL}) for stripes in (4, 8, 16)),
        "2.5": (
            VideoTableRow("in 3DAP", "nvan", 8),
            VideoTableRow("+ stage 4", "stenvan", 8, {"stripes": None, "temporal_reduction": (3,)}),
            VideoTableRow("+ stage 3", "stenvan", 8, _TEMPORAL),
        ),
        "2.8": (
            VideoTableRow("ResNet-50, tracklets as they are", "baseline", 6),
            _aligned("ResNet-50", "baseline"),
            _aligned("non-local", "nvan"),
            _aligned("axial, 1 head", "cfaan", scales=1, heads=1, position=None),
            _aligned("axial, 8 heads", "cfaan", scales=1, position=None),
            _aligned("axial, sinusoidal", "cfaan", scales=1, position="sinusoidal"),
            _aligned("axial, relative, 1 scale", "cfaan", scales=1),
            _aligned("axial, relative, 2 scales", "cfaan", scales=2),
            _aligned("CF-AAN: axial, relative, 4 scales", "cfaan"),
            _aligned("CF-AAN, channels reduced by 8", "cfaan", channel_reduction=8),
        ),
    }
)
"""By the number of the table. The last row of 2.8 is not in the text; nor are attention over all current frames and in pairs told apart."""
