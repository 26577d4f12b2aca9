"""The folder that a trained network is given away in: its weights, how it is built, and a card that tells where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from lightning_reid.files import write_atomically, write_json
from lightning_reid.networks import EmbeddingNetwork
from lightning_reid.networks.pooling import GeneralizedMeanPooling
from lightning_reid.networks.weights import MODEL_CONFIG, MODEL_WEIGHTS
from lightning_reid.recipes.workshop.report import ResultRow


def round_weights(network: EmbeddingNetwork) -> None:
    """Round the weights to half precision, in place; vectors (biases, batch statistics) stay as they are.

    Raises:
        ValueError: A weight is beyond the range of half precision.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim > 1:
            rounded = tensor.half().to(tensor.dtype)
            if not bool(rounded.isfinite().all()):
                raise ValueError(f"{name} has a weight of {float(tensor.abs().max()):g}, which half precision has not: keep full precision")
            tensor.copy_(rounded)


def write_model_folder(
    folder: Path,
    network: EmbeddingNetwork,
    built: Mapping[str, Any],
    image_size: Sequence[int],
    trained: Mapping[str, Any],
    card: str,
    *,
    half: bool = False,
) -> None:
    """Write ``model.safetensors``, ``config.json`` and ``README.md``; ``load_embedding_network`` reads the folder.

    Args:
        folder: Made where missing; files of an earlier run are replaced.
        network: Trained.
        built: ``backbone`` and ``backbone_options``.
        image_size: (height, width) in pixels.
        trained: What else a reader may want to know, as plain values.
        card: The text of ``README.md``.
        half: Whether the weights, which ``round_weights`` has rounded, are stored in half precision.

    Raises:
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if half:
        tensors = {name: tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor for name, tensor in tensors.items()}
    content = save(tensors)
    write_atomically(folder / MODEL_WEIGHTS, lambda file: file.write_bytes(content))
    write_atomically(folder / "README.md", lambda file: file.write_text(card, encoding="utf-8"))
    neck = "none" if isinstance(network.neck, nn.Identity) else "bnneck"
    built = {**built, "pooling": "gem" if isinstance(network.pooling, GeneralizedMeanPooling) else "avg", "neck": neck}
    config = {**built, "image_size": list(image_size), "embedding": network.num_features, "normalization": "ImageNet", **trained}
    write_json(folder / MODEL_CONFIG, {**json.loads(json.dumps(config)), "lightning-reid": version("lightning-reid")})


def card_of_generated_people(
    network: EmbeddingNetwork, built: Mapping[str, Any], image_size: Sequence[int], data: str, weights: str, scores: Mapping[str, ResultRow]
) -> str:
    """The card of a network that was trained on generated people.

    Args:
        network: Trained.
        built: ``backbone`` and ``backbone_options``.
        image_size: (height, width) in pixels.
        data: Name of the generated data.
        weights: Where its first weights came from, in words.
        scores: A row under the stamp of its protocol, each.
    """
    parameters = sum(parameter.numel() for parameter in network.parameters())
    options = f" with {json.dumps(built['backbone_options'])}" if built["backbone_options"] else ""
    lines = [f"- mAP {row.scores['mAP']:.3f}, R1 {row.scores['R1']:.3f}: {stamp.replace(' | ', '; ')}" for stamp, row in scores.items()]
    return f"""# Person re-identification, trained on generated people

{built["backbone"]}{options}: {parameters:,} parameters, images of {image_size[0]}x{image_size[1]} pixels with ImageNet's normalization,
embeddings of {network.num_features} numbers, compared by cosine.

## What it was trained on

`{data}`: crops of people who never were, drawn by lightning-reid {version("lightning-reid")} while it trained. No picture of a real person
was used to train it, beyond what its first weights saw. Its first weights: {weights}.

## Scores

{chr(10).join(lines)}

Scores on generated people say little about real ones: measure it on people of your own cameras before you rely on it.

## What it must not be used for

It finds people again by their looks, for minutes or hours and within one set of cameras; it does not know who somebody is. It must not
decide about anybody by itself: no identification, no evidence, no watch list, no surveillance of people without a legal ground and their
knowledge. Strangers in similar clothes look alike to it, and how its errors fall on people of different skin, age, dress or disability was
not measured.

## Use

    python -m lightning_reid.recipes.embed --crops crops/ --checkpoint this_folder --query somebody.jpg
"""
