"""The networks of the thesis' tables on supervised video re-ID (chapter 2), row by row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from jsonargparse import Namespace

from lightning_reid.metrics import ProtocolStamp
from lightning_reid.networks.backbones import Backbone
from lightning_reid.networks.video.by_name import VIDEO_NETWORKS, VideoNetworkName
from lightning_reid.networks.video.network import VideoNetwork

TABLES_HEIGHT = 256
"""Image height that the numbers of stripes in the text's tables are for."""
ORIGINAL, ALIGNED = "tracklets as they are", "re-detected and linked"


@dataclass(frozen=True)
class VideoTableRow:
    """One row of a table: a network, its clips, and the tracklets it is trained on.

    Attributes:
        name: What the row is called.
        network: Its network, by the name in ``VIDEO_NETWORKS``.
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
        return VIDEO_NETWORKS[self.network](backbone=backbone, **self.options)

    @property
    def folder(self) -> str:
        """What the stage that trains it is called: the same for rows of one network, in whatever tables they stand."""
        said = [f"{name} {value}" for name, value in self.options.items() if name != "clip_length"]
        told = [f"{self.network}{' aligned' * self.redetected} T{self.clip_length}", *said]
        return re.sub(r"[^\w.-]+", " ", " ".join(told)).strip()

    def fitted(self, asked: Mapping[str, Any], image_size: Sequence[int]) -> dict[str, Any]:
        """The row's options on the backbone that is asked for, fitted to the images: relative positions and stripes depend on their size.

        Args:
            asked: Arguments of the network for all rows; stripes that are asked for stay.
            image_size: (height, width) in pixels.
        """
        options = {**asked, **self.options}
        if self.network == "cfaan":
            options["image_size"] = tuple(image_size)
        stripes = self.options.get("stripes", 16)
        if self.network == "stenvan" and stripes is not None and "stripes" not in asked:
            options["stripes"] = scaled_stripes(stripes, image_size[0])
        return options


def scaled_stripes(stripes: int, height: int) -> int:
    """The number of stripes that have as many rows of pixels as in the text, for images of ``height`` rows."""
    return max(1, stripes * height // TABLES_HEIGHT)


def stamp_of_table(stamp: ProtocolStamp, rows: Sequence[VideoTableRow], scoring: Namespace) -> ProtocolStamp:
    """What the scores of a table must be read with.

    Args:
        stamp: Of the data of the first row.
        rows: Of the table.
        scoring: Arguments of ``VideoReID``.
    """
    if len({row.clip_length for row in rows}) > 1:
        stamp = replace(stamp, transform=stamp.transform.replace(f"T={rows[0].clip_length}", "T as each row says"))
    return replace(stamp, protocol=scoring.protocol, ap=scoring.ap, metric=scoring.metric, reranked=scoring.rerank)


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


def asked_rows(cfg: Namespace) -> dict[str, list[VideoTableRow]]:
    """Title of each table that the arguments of ``video_mars.py`` ask for, to its rows."""
    if cfg.ablation:
        return {f"table {number}": list(VIDEO_TABLES[number]) for number in cfg.ablation}
    length, redetected = cfg.data.clip_length, cfg.redetect
    rows = [VideoTableRow(f"{cfg.network}, {ALIGNED if redetected else ORIGINAL}", cfg.network, length, redetected=redetected)]
    if redetected and cfg.redetection.checkpoint is None:  # it is trained in any case
        rows.insert(0, VideoTableRow(f"baseline, {ORIGINAL}", "baseline", length))
    return {cfg.network: rows}
