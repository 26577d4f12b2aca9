"""The OSNets that torchreid released: which one a state dict is of, and where its tensors belong here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lightning_reid.networks.osnet import GENERALIZING, WIDTHS

STEM = "conv1.conv.weight"
STREAMS, GENERALIZING_STREAMS = "conv2.0.conv2a.", "conv2.0.conv2.0.layers."
"""How the names of the first block's first stream begin, of OSNet and OSNet-AIN."""
CLASSIFIER = "classifier."


def is_osnet(state: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the names of an OSNet of torchreid, whichever it is."""
    return STEM in state and any(name.startswith((STREAMS, GENERALIZING_STREAMS)) for name in state)


def osnet_name(state: Mapping[str, Tensor], path: str | Path) -> str:
    """The name by which ``build_backbone`` knows the OSNet of a state dict.

    Args:
        state: As ``is_osnet`` knows it.
        path: The file, for messages.

    Raises:
        ValueError: It is an ``osnet_ibn``, or one of other widths than those that are known.
    """
    generalizing = any(name.startswith(GENERALIZING_STREAMS) for name in state)
    by_image = [name for name in state if name.endswith(".IN.weight")]
    if by_image and not generalizing:
        raise ValueError(
            f"{path} is torchreid's osnet_ibn, with instance normalization behind the sum of each block of conv2; its tensors are "
            f"{by_image[0]} and {len(by_image) - 1} more like it: use osnet_x1_0 or osnet_ain_x1_0"
        )
    width = len(state[STEM])
    found = [name for name, channels in WIDTHS.items() if channels[0] == width and (name in GENERALIZING) == generalizing]
    if not found:
        kind = "OSNet-AIN" if generalizing else "OSNet"
        raise ValueError(f"{path} holds an {kind} of {width} channels behind its first convolution, known are {', '.join(WIDTHS)}")
    return found[0]


def renamed_osnet(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the names of a ``ReducedEmbeddingNetwork``; a classifier is left out."""
    renamed = {name: tensor for name, tensor in state.items() if not name.startswith(CLASSIFIER)}
    return {f"{'pooling.' if name.startswith('fc.') else 'backbone.trunk.'}{name}": tensor for name, tensor in renamed.items()}
