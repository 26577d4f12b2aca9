"""The options of verbs that embed pictures, and the network and the pass that they ask for."""

from __future__ import annotations

from typing import NamedTuple

from jsonargparse import ArgumentParser, Namespace

from lightning_reid.arguments import height_and_width
from lightning_reid.inference import EmbeddingPass, OnnxEmbedder, load_network, name_with_size
from lightning_reid.networks import EmbeddingNetwork
from lightning_reid.networks.shipped import DEFAULT, MODEL_HELP


class Embedder(NamedTuple):
    """A network, how it is passed over pictures, and how embeddings that can be compared with its own are named.

    Attributes:
        network: Of crops.
        how: The pass, with its image size.
        name: Of the network's weights and the image size.
        image_size: (height, width) in pixels.
    """

    network: EmbeddingNetwork | OnnxEmbedder
    how: EmbeddingPass
    name: str
    image_size: tuple[int, int]


def add_embedding_options(parser: ArgumentParser) -> None:
    """Add the network, and what a pass of it over pictures can be told."""
    parser.add_argument("--model", type=str, default=DEFAULT, help=MODEL_HELP)
    size = "HEIGHTxWIDTH in pixels that pictures are resized to; default what the network was trained on, 256x128 where it does not say"
    parser.add_argument("--image_size", type=height_and_width, help=size)
    parser.add_class_arguments(EmbeddingPass, None, skip={"quiet", "image_size", "flip"})
    parser.add_argument("--flip", action="store_true", help="average each picture's embedding with that of its mirror image")
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")


def embedder_of(cfg: Namespace) -> Embedder:
    """The network and the pass that options ask for; with ``--json`` no bar is shown.

    Raises:
        FileNotFoundError: There is no such network.
        ModuleNotFoundError: It needs an extra that is not installed.
        ValueError: It is none of crops, or an option is out of range.
    """
    network = load_network(cfg.model, cfg.image_size)
    told = {name: cfg[name] for name in ("batch_size", "device", "precision", "unreadable", "num_workers", "flip")}
    how = EmbeddingPass(**told, image_size=cfg.image_size, quiet=cfg.quiet or cfg.json)
    size = how.size_for(network)
    name = name_with_size(network, size)
    return Embedder(network, how, f"{name}, with mirror images" if how.flip else name, size)
