"""Networks that are simply there: by the name of one that comes with the library, or from a model folder."""

from __future__ import annotations

from pathlib import Path

from lightning_reid.arguments import require_path
from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.networks.foreign import load_embedding_network
from lightning_reid.networks.shipped import DEFAULT, located, shipped_names
from lightning_reid.networks.weights import MODEL_CONFIG


def from_pretrained(source: str | Path = DEFAULT) -> EmbeddingNetwork:
    """A trained network in evaluation mode. No download: what has a name lies in the library.

    The card of a shipped network, ``README.md`` in its folder, says what it was trained on, what it scores on real people, and what it
    must not be used for.

    Args:
        source: Name of a network that comes with the library (``shipped_names``), or a model folder as
            ``recipes/generated_people.py`` leaves it. A name is the shipped network's whatever lies in the working directory: a folder
            there is ``"./generated-people-small"``.

    Returns:
        The network; its ``image_size`` is the one that it was trained on.

    Raises:
        ValueError: Neither a shipped network nor a folder; the message lists those that exist. Or the folder is no model folder, or its
            files are damaged.

    Example:
        >>> import torch
        >>> from lightning_reid import from_pretrained
        >>> network = from_pretrained("generated-people-small")
        >>> images = torch.randint(256, (2, 3, *network.image_size), dtype=torch.uint8)  # RGB crops; floats are normalized as ImageNet's
        >>> network(images).embedding.shape, network.image_size
        (torch.Size([2, 192]), (128, 64))
    """
    require_path("source", source)
    if not str(source) or not located(source).is_dir():
        raise ValueError(f"there is no network {str(source)!r}: give a model folder, or one that comes with the library: {_names()}")
    if not (located(source) / MODEL_CONFIG).is_file():
        raise ValueError(f"{source} is no model folder, it lacks {MODEL_CONFIG}: recipes/generated_people.py makes one")
    return load_embedding_network(source)


def _names() -> str:
    return ", ".join(shipped_names())
