"""The networks of a live run: of clips or of crops for re-ID, and of crops for the appearance repair."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lightning_reid.inference import OnnxEmbedder, clip_embedder, crop_embedder
from lightning_reid.modules.video import load_video_network
from lightning_reid.networks import load_embedding_network
from lightning_reid.networks.network_name import network_name
from lightning_reid.networks.shipped import DEFAULT
from lightning_reid.networks.video.by_name import VIDEO_NETWORKS
from lightning_reid.networks.weights import read_checkpoint
from lightning_reid.tracking import ClipCollector
from lightning_reid.tracking.track_features import EmbedClip, EmbedCrops, Look

THRESHOLD = 0.6
"""Cosine of a match by the shipped network, chosen on generated worlds 100 and 101 (benchmarks/README.md)."""

NETWORK_HELP = "network that tells people apart: as embed.py takes it, a video network's checkpoint, or an .onnx file"


class LiveNetworks(NamedTuple):
    """What tells people apart.

    Attributes:
        embed: Of crops: for the repair, and for features where ``embed_clip`` is ``None``.
        embed_clip: Of clips, for features.
        num_features: Numbers of a feature.
        model: Name of what makes features, by its weights.
        repaired_by: Name of the network of crops.
    """

    embed: EmbedCrops
    embed_clip: EmbedClip | None
    num_features: int
    model: str
    repaired_by: str


def load_networks(checkpoint: str) -> LiveNetworks:
    """The networks of a checkpoint: an image network does both; beside a video network the shipped one does the repair.

    Args:
        checkpoint: As ``load_embedding_network`` takes it; of ``VideoReID`` with a network that is named, pruned or not; or an ``.onnx``
            file as ``OnnxEmbedder`` takes it, of images, or of clips of as many frames as a feature has.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: It is an ``.onnx`` file, and the extra ``onnx`` is not installed.
        ValueError: It is no checkpoint of such a network.
    """
    if Path(checkpoint).suffix.lower() == ".onnx":
        return _onnx_networks(checkpoint)
    if read_checkpoint(checkpoint).get("hyper_parameters", {}).get("network") not in VIDEO_NETWORKS:
        network = load_embedding_network(checkpoint)
        model = network_name(network)
        return LiveNetworks(crop_embedder(network), None, network.num_features, model, Path(checkpoint).name)
    video = load_video_network(checkpoint)
    return LiveNetworks(_shipped(), clip_embedder(video), video.num_features, network_name(video), DEFAULT)


def _onnx_networks(path: str) -> LiveNetworks:
    network = OnnxEmbedder(path, num_threads=1)
    model = network.model
    if not network.takes_clips:
        return LiveNetworks(network.embed_crops, None, network.num_features, model, Path(path).name)
    wanted = ClipCollector[Look]().num_frames
    if network.num_frames not in (None, wanted):
        raise ValueError(f"{path} takes clips of {network.num_frames} frames, and a feature is made of {wanted}: export it for {wanted}")
    return LiveNetworks(_shipped(), network.embed_clip, network.num_features, model, DEFAULT)


def _shipped() -> EmbedCrops:
    return crop_embedder(load_embedding_network(DEFAULT))


def threshold_of(told: float | None, checkpoint: str) -> float:
    """The cosine of a match: what was told, or what was chosen for the shipped network.

    Raises:
        ValueError: None was told for another network.
    """
    if told is None and checkpoint != DEFAULT:
        raise ValueError(f"--threshold belongs to a network: tell the one of {checkpoint}, as track_cameras.py evaluate chooses it")
    return THRESHOLD if told is None else told
