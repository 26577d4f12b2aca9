"""The video networks by the names that recipes and checkpoints call them."""

from __future__ import annotations

from typing import Any, Literal, get_args

from lightning_reid.networks.cfaan import CFAAN
from lightning_reid.networks.video_network import VideoNetwork
from lightning_reid.networks.video_resnet import NVAN, STENVAN, VideoResNet50

VideoNetworkName = Literal["baseline", "nvan", "stenvan", "cfaan"]


def build_video_network(name: VideoNetworkName, **options: Any) -> VideoNetwork:
    """Build ``VideoResNet50`` (``"baseline"``), ``NVAN``, ``STENVAN`` or ``CFAAN``.

    Args:
        name: Which.
        **options: Arguments of that class.

    Raises:
        ValueError: The name is unknown, or an argument is wrong.
        TypeError: The class has no argument of that name.
    """
    match name:
        case "baseline":
            return VideoResNet50(**options)
        case "nvan":
            return NVAN(**options)
        case "stenvan":
            return STENVAN(**options)
        case "cfaan":
            return CFAAN(**options)
    raise ValueError(f"there is no video network {name!r}; known are {', '.join(get_args(VideoNetworkName))}")
