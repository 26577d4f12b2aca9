"""A network that tells people apart, from whatever kind of file it is in."""

from __future__ import annotations

from pathlib import Path

from lightning_reid.inference.onnx_embedding import OnnxEmbedder
from lightning_reid.networks import EmbeddingNetwork, load_embedding_network
from lightning_reid.networks.network_name import network_name
from lightning_reid.networks.shipped import DEFAULT
from lightning_reid.networks.weights import read_checkpoint


def load_network(source: str | Path = DEFAULT, image_size: tuple[int, int] | None = None) -> EmbeddingNetwork | OnnxEmbedder:
    """The network of crops that a file, a model folder or a name stands for.

    Args:
        source: As ``load_embedding_network`` takes it, or an ``.onnx`` file as ``OnnxEmbedder`` takes it.
        image_size: (height, width) in pixels, for an ``.onnx`` file that takes any.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: It is an ``.onnx`` file, and the extra ``onnx`` is not installed.
        ValueError: It is no such network, or one of clips.

    Example:
        >>> from lightning_reid.inference import load_network, model_name
        >>> network = load_network("generated-people-small")
        >>> network.num_features, model_name(network).startswith("weights ")
        (192, True)
    """
    if Path(source).suffix.lower() == ".onnx":
        network = OnnxEmbedder(source, image_size=image_size)
        if network.takes_clips:
            raise ValueError(f"{source} takes clips, and crops are to be embedded one by one: give a network of images")
        return network
    clips = read_checkpoint(source).get("hyper_parameters", {}).get("network")
    if clips is not None:
        raise ValueError(f"{source} is of a network of clips ({clips}), and crops are to be embedded one by one: give one of images")
    return load_embedding_network(source)


def model_name(network: EmbeddingNetwork | OnnxEmbedder) -> str:
    """A name that two networks share only if they give the same embeddings: of their weights, not of their files.

    Example:
        >>> from lightning_reid.inference import load_network, model_name
        >>> model_name(load_network("generated-people-small")) == model_name(load_network())  # the one that is taken by default
        True
    """
    return network.model if isinstance(network, OnnxEmbedder) else network_name(network)
