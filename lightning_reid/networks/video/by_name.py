"""Networks of clips by the names that recipes and files give them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_reid.arguments import require_choice, require_text, shown
from lightning_reid.networks.channels.plan import ChannelPlan, materialize
from lightning_reid.networks.network_name import require_named
from lightning_reid.networks.told_architecture import check_told_options
from lightning_reid.networks.told_building import built_from
from lightning_reid.networks.video.cfaan import CFAAN
from lightning_reid.networks.video.network import VideoNetwork, VideoResNet50
from lightning_reid.networks.video.non_local import NVAN, STENVAN
from lightning_reid.networks.weights import load_all, read_checkpoint, state_dict_of

VideoNetworkName = Literal["baseline", "nvan", "stenvan", "cfaan"]
VIDEO_NETWORKS: Mapping[VideoNetworkName, Callable[..., VideoNetwork]] = MappingProxyType(
    {"baseline": VideoResNet50, "nvan": NVAN, "stenvan": STENVAN, "cfaan": CFAAN}
)


def load_clip_network(folder: str | Path) -> VideoNetwork:
    """The network of clips of a model folder, in evaluation mode.

    Raises:
        FileNotFoundError: There is no such folder, or it lacks its weights.
        ValueError: It is of a network of images, asks for what no file may ask for, or its weights are of another network.
    """
    content = read_checkpoint(folder)
    state: dict[str, Tensor] = state_dict_of(content, folder)
    with built_from(folder, content):
        network = clip_network_of_config(content, folder)
        load_all(network, state, source=str(folder))
    require_named(network, content["model_name"], folder)
    size, length = content["image_size"], content["clip_length"] or network.clip_length
    if length is not None:
        _check_clips(network, (length, 3, *size), folder)
    if content["model_parts"].get("embedding", network.num_features) != network.num_features:
        told_width = shown(content["model_parts"]["embedding"])
        raise ValueError(f"{folder} is a network with embedding {told_width}, and it gives {network.num_features} numbers: fetch it again")
    network.image_size, network.clip_length = size, length
    return network.eval()


def clip_network_of_config(content: Mapping[str, Any], folder: str | Path) -> VideoNetwork:
    """The network of clips that the config of a model folder tells, with new weights.

    Args:
        content: Of ``read_model_config``.
        folder: For messages.

    Raises:
        ValueError: There is no such network, or it has options that no file may give.
    """
    told = content["hyper_parameters"]
    require_choice(f"network in {folder}", told.get("network"), VIDEO_NETWORKS)
    make, options = VIDEO_NETWORKS[told["network"]], dict(told["network_options"])
    _check_options(make, options, folder)
    network = make(**options)
    return materialize(network, ChannelPlan.from_tensors(content["channel_plan"])) if "channel_plan" in content else network


def _check_options(make: Callable[..., VideoNetwork], options: Mapping[str, Any], folder: str | Path) -> None:
    """Options of the network itself are checked where it is built; all others are timm's, of which a file may give few."""
    require_text(f"backbone in {folder}", options.get("backbone", "resnet50"))
    own = {name for name, one in inspect.signature(make).parameters.items() if one.kind is not inspect.Parameter.VAR_KEYWORD}
    check_told_options({name: value for name, value in options.items() if name not in own}, folder)


def _check_clips(network: VideoNetwork, shape: tuple[int, ...], folder: str | Path) -> None:
    try:
        network.check_clips(torch.empty(1, *shape, device="meta"))
    except ValueError as error:
        raise ValueError(
            f"{folder} is told to be for clips {list(shape)}, which its network does not take, {error}: fetch it again"
        ) from error
