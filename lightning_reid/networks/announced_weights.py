"""What the header of a model folder's weights announces: compared with the network of its config before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.networks.foreign import network_of_config
from lightning_reid.networks.told_building import built_from
from lightning_reid.networks.video.by_name import clip_network_of_config
from lightning_reid.networks.weights import require_fitting, unwrapped

MOST_HEADER_BYTES = 4_000_000
"""Of a ``.safetensors`` file: a network of a thousand layers has some hundred thousand."""
_KINDS = {
    **{"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64},
    **{"BOOL": torch.bool, "U8": torch.uint8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64},
}
_WAY_ON = "fetch it again"


def require_announced(file: Path, content: Mapping[str, Any]) -> None:
    """Check that the weights of a model folder are those of the network that its config tells, by names, kinds and shapes alone.

    The file is then as large as these tensors need, which the format makes sure of; and no more memory is taken than for its header.

    Args:
        file: Its ``model.safetensors``.
        content: Of ``read_model_config``.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no such file, its header is larger than any, or its tensors are not the network's.
    """
    names, folder = unwrapped(announced_tensors(file)), file.parent
    with built_from(folder, {**content, "state_dict": names}):
        network = _without_numbers(content, names, folder)
        require_fitting(network.state_dict(), names, source=str(folder))


def announced_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file on the device meta: their names, kinds and shapes, and none of their numbers.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no such file, or its header is larger than any of a network.
    """
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
    if size > MOST_HEADER_BYTES:
        raise ValueError(f"{file} cannot be read as weights, its header is told to have {size:,} bytes, expected {MOST_HEADER_BYTES:,}")
    try:
        with safe_open(file, framework="numpy") as weights:  # "pt" makes a storage of the size of the file
            slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118  (it is no dictionary)
    except SafetensorError as error:
        raise ValueError(f"{file} cannot be read as weights, is it complete? {error}") from error
    tensors = {}
    for name, announced in slices.items():
        kind = _KINDS.get(announced.get_dtype())
        if kind is None:
            raise ValueError(f"{file} holds {name!r} in numbers of the kind {announced.get_dtype()}, which is no weight: {_WAY_ON}")
        tensors[name] = torch.empty(announced.get_shape(), dtype=kind, device="meta")
    return tensors


def _without_numbers(content: Mapping[str, Any], names: Mapping[str, Tensor], folder: Path) -> EmbeddingNetwork:
    def built() -> EmbeddingNetwork:
        if "network" in content["hyper_parameters"]:
            return clip_network_of_config(content, folder)
        return network_of_config(content, names, folder)

    try:
        with torch.device("meta"):
            return built()
    except (NotImplementedError, RuntimeError, ValueError) as error:  # the last is what build_backbone makes of timm's
        if "meta" not in str(error):
            raise
        return built()  # some of timm's networks look at numbers while they are built; the room that is given bounds its size
