"""Networks that are simply there: by the name of one that comes with the library, from a model folder, or from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_reid.arguments import require_path
from lightning_reid.files import replaced_folder
from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.networks.foreign import load_embedding_network
from lightning_reid.networks.hub_folders import folder_from_hub, is_hub_name
from lightning_reid.networks.model_config import read_model_config
from lightning_reid.networks.shipped import DEFAULT, located, shipped_names
from lightning_reid.networks.video.by_name import load_clip_network
from lightning_reid.networks.weights import MODEL_CONFIG


def from_pretrained(
    source: str | Path = DEFAULT,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> EmbeddingNetwork:
    """A trained network of images or of clips, in evaluation mode. What comes with the library, or lies in a folder, asks no network.

    The card of a network, ``README.md`` in its folder, says what it was trained on, what it scores, and what it must not be used for.

    Args:
        source: Name of a network that comes with the library (``shipped_names``); a model folder, as ``save_pretrained`` and
            ``lightning-reid export last.ckpt folder/`` leave it; or, where there is no such folder, ``"org/name"`` on the Hugging Face hub.
            A name is the shipped network's whatever lies in the working directory: a folder there is ``"./generated-people-small"``.
        revision: Branch, tag or commit on the hub.
        token: Of the hub, for networks that are not public; ``None`` for the one that ``hf auth login`` left.
        cache_dir: Of the hub; ``None`` for the usual one.
        force_download: Fetch anew from the hub what is cached.
        local_files_only: Ask no hub, and take what is cached.

    Returns:
        The network; its ``image_size``, and the ``clip_length`` of one of clips, are those that it was trained on.

    Raises:
        OSError: A download broke off, or a file cannot be read.
        RuntimeError: It is to come from the hub, which cannot be reached, and is not cached.
        ValueError: Neither a shipped network, nor a folder, nor a name on the hub; the message lists those that exist. Or the folder is no
            model folder, asks for what no file may ask for, or its files are damaged.

    Example:
        >>> import torch
        >>> from lightning_reid import from_pretrained
        >>> network = from_pretrained("generated-people-small")
        >>> images = torch.randint(256, (2, 3, *network.image_size), dtype=torch.uint8)  # RGB crops; floats are normalized as ImageNet's
        >>> network(images).embedding.shape, network.image_size
        (torch.Size([2, 192]), (128, 64))
    """
    require_path("source", source)
    place = located(source)
    if place.is_dir() and str(source):
        return model_of_folder(source)
    if place.exists() or not is_hub_name(str(source)):
        raise ValueError(
            f"there is no network {str(source)!r}: give a model folder, the name of one on the Hugging Face hub (org/name), or one that"
            f" comes with the library: {', '.join(shipped_names())}{_previous(place)}"
        )
    places: dict[str, Any] = {"revision": revision, "token": token, "cache_dir": cache_dir}
    try:
        return model_of_folder(folder_from_hub(str(source), **places, force_download=force_download, local_files_only=local_files_only))
    except (ValueError, RuntimeError) as error:
        if not _previous(place):
            raise
        raise type(error)(f"{error}{_previous(place)}") from error


def model_of_folder(source: str | Path) -> EmbeddingNetwork:
    """The network of a model folder, of images or of clips.

    Raises:
        ValueError: It is no model folder; see ``from_pretrained``.
    """
    config = located(source) / MODEL_CONFIG
    if not config.is_file():
        raise ValueError(f"{source} is no model folder, it lacks {MODEL_CONFIG}: save_pretrained makes one, and lightning-reid export")
    if "network" in read_model_config(config)["hyper_parameters"]:
        return load_clip_network(source)
    return load_embedding_network(source)


def _previous(place: Path) -> str:
    before = replaced_folder(place) if place.name else place
    if not (before / MODEL_CONFIG).is_file():
        return ""
    return f". There is {before}, which was to be replaced when its process was stopped: give that, or rename it"
