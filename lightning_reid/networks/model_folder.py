"""The folder that a trained network is given away in: weights, how it is built, a card, and what its cosines mean."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import Tensor

from lightning_reid.arguments import checked_image_size, require_count, require_switch, shown
from lightning_reid.files import folder_replaced_whole, read_json
from lightning_reid.metrics.calibration import Calibration
from lightning_reid.metrics.calibration_content import LIBRARY, calibration_content
from lightning_reid.networks.evaluating import evaluating
from lightning_reid.networks.model_card import described, model_card
from lightning_reid.networks.model_config import FACTS, MOST_FRAMES, model_config, told_plan
from lightning_reid.networks.model_facts import ModelFacts
from lightning_reid.networks.model_folder_place import MODEL_CALIBRATION, MODEL_CARD, place_of_folder
from lightning_reid.networks.network_name import network_name
from lightning_reid.networks.pretrained import model_of_folder
from lightning_reid.networks.sharding import is_sharded
from lightning_reid.networks.told_architecture import check_told_module
from lightning_reid.networks.weights import MODEL_CONFIG, MODEL_WEIGHTS

if TYPE_CHECKING:
    from lightning_reid.networks.embedding_network import EmbeddingNetwork

_TRIED_FRAMES = 8
"""Of the clip that a network is tried with which does not say of how many: what can be halved three times."""
_USE = {
    False: """from lightning_reid import EmbeddingPass, from_pretrained
from lightning_reid.inference import find_crops

network = from_pretrained("FOLDER")  # or "org/name" on the hub
images = EmbeddingPass().run(network, find_crops(["my_crops/"]))  # images.embeddings [N, D], of length 1""",
    True: """from lightning_reid import from_pretrained

network = from_pretrained("FOLDER")  # or "org/name" on the hub
embeddings = network(clips).embedding  # clips [B, T, 3, H, W] uint8""",
}


def round_weights(network: EmbeddingNetwork) -> None:
    """Round the weights to half precision, in place; vectors (biases, batch statistics) stay as they are.

    Raises:
        ValueError: A weight is beyond the range of half precision.
    """
    for name, tensor in network.state_dict().items():
        if _is_halved(tensor):
            rounded = tensor.half().to(tensor.dtype)
            if not bool(rounded.isfinite().all()):
                raise ValueError(f"{name} has a weight of {float(tensor.abs().max()):g}, which half precision has not: keep full precision")
            tensor.copy_(rounded)


def write_model_folder(
    folder: Path,
    network: EmbeddingNetwork,
    *,
    facts: ModelFacts | None = None,
    image_size: Sequence[int] | None = None,
    clip_length: int | None = None,
    half: bool = False,
) -> None:
    """Write a model folder, all of it or nothing; arguments and errors as ``SavedNetwork.save_pretrained``."""
    if facts is not None and not isinstance(facts, ModelFacts):
        raise ValueError(f"facts must be ModelFacts, or None, got {shown(facts)}")
    require_switch("half", half)
    size = checked_image_size("image_size", _known_size(network, image_size))
    length = getattr(network, "clip_length", None) if clip_length is None else clip_length
    require_count("clip_length", length, high=MOST_FRAMES, optional=True)
    place, network = place_of_folder(folder), _in_float32(network)
    weights, model = save(_stored(network, half)), f"{network_name(network)} at {size[0]}x{size[1]}"
    calibration = _own_calibration(model, facts)
    config, card = _config_and_card(network, size, length, facts or ModelFacts())
    if facts is None and _is_there(place, weights, config):  # what was told of it then is still true
        card = (place / MODEL_CARD).read_text(encoding="utf-8")
        config |= {name: told for name, told in read_json(place / MODEL_CONFIG, way_on="remove it").items() if name in FACTS}
    with folder_replaced_whole(place) as draft:
        (draft / MODEL_WEIGHTS).write_bytes(weights)
        (draft / MODEL_CONFIG).write_text(_as_json(config), encoding="utf-8")
        (draft / MODEL_CARD).write_text(card, encoding="utf-8")
        if calibration is not None:
            (draft / MODEL_CALIBRATION).write_text(_as_json(calibration_content(calibration)), encoding="utf-8")
        _require_same(draft, network, size, length)
        if calibration is None:
            _keep_calibration(place, draft, model)


def _config_and_card(network: EmbeddingNetwork, size: tuple[int, int], length: int | None, facts: ModelFacts) -> tuple[dict[str, Any], str]:
    architecture = network.architecture
    check_told_module(architecture, "the network")
    if network.channel_plan is not None:
        architecture["channel_plan"] = told_plan(network.channel_plan.as_tensors())
    told = {name: getattr(facts, name) for name in FACTS}
    if facts.first_weights is not None:
        told["first_weights"] = facts.first_weights.replace("`", "")  # which are of the card
    known = {name: value for name, value in told.items() if value is not None}
    parameters = sum(parameter.numel() for parameter in network.parameters())
    card = model_card(described(architecture, parameters, size, length), facts, _USE["network" in architecture])
    return model_config(network_name(network), architecture, size, length, known), card


def _own_calibration(model: str, facts: ModelFacts | None) -> Calibration | None:
    """The calibration that was told, which is of this model or of none."""
    calibration = None if facts is None else facts.calibration
    if calibration is not None and calibration.model != model:
        told = shown(calibration.model)
        raise ValueError(f"the calibration is of another network, {told}, and this is {model}: make it anew by lightning-reid calibrate")
    return calibration


def _is_there(place: Path, weights: bytes, config: Mapping[str, Any]) -> bool:
    """Whether the folder is of the same network already, card and all."""
    if not all((place / name).is_file() for name in (MODEL_WEIGHTS, MODEL_CONFIG, MODEL_CARD)):
        return False
    if (place / MODEL_WEIGHTS).stat().st_size != len(weights):
        return False
    before = read_json(place / MODEL_CONFIG, way_on="remove it")
    return (place / MODEL_WEIGHTS).read_bytes() == weights and all(
        before.get(name) == told for name, told in config.items() if name != LIBRARY
    )


def _known_size(network: EmbeddingNetwork, told: Sequence[int] | None) -> Sequence[int]:
    size = network.image_size if told is None else told
    if size is None:
        raise ValueError("image_size must be told, (height, width) in pixels that the network was trained on: it does not know")
    return size


def _in_float32(network: EmbeddingNetwork) -> EmbeddingNetwork:
    """The network on the CPU, whose float32 holds what half precision holds; itself where it is so already."""
    if is_sharded(network):
        raise ValueError("the network is divided over processes: load_from_checkpoint gives one that can be saved")
    floats = {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    tensors, infinite = floats.values(), [name for name, tensor in floats.items() if not bool(tensor.isfinite().all())]
    if infinite:
        raise ValueError(f"{infinite[0]} has numbers that are not finite, of a training that diverged: there is nothing to save")
    if any(tensor.dtype == torch.float64 for tensor in tensors):
        raise ValueError("the network is of float64, and a model folder of float32: save network.float(), and look at what it scores")
    if all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in tensors):
        return network
    return copy.deepcopy(network).cpu().float()


def _stored(network: EmbeddingNetwork, half: bool) -> dict[str, Tensor]:
    tensors = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    halved = {name: tensor.half() if half and _is_halved(tensor) else tensor for name, tensor in tensors.items()}
    changed = [name for name, tensor in halved.items() if not torch.equal(tensor.to(tensors[name].dtype), tensors[name])]
    if changed:
        raise ValueError(f"{changed[0]} has weights that half precision has not: call round_weights(network) before half=True")
    return {name: tensor.clone() for name, tensor in halved.items()}  # which share no memory: the format knows no views


def _is_halved(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim > 1


def _require_same(folder: Path, network: EmbeddingNetwork, size: tuple[int, int], length: int | None) -> None:
    """Load what was written, and refuse it where the weights, or an embedding, are others to the last bit."""
    try:
        loaded = model_of_folder(folder)
    except ValueError as error:
        told = str(error).replace(f"{folder}/", "").replace(str(folder), "the folder")
        raise ValueError(f"the network cannot be saved, as it was changed since it was built: {told}") from error
    state = network.state_dict()
    others = [name for name, tensor in loaded.state_dict().items() if not torch.equal(tensor, state[name])]
    if others:
        raise ValueError(f"the network cannot be saved: {others[0]} does not come back from a file as it was")
    loaded.load_state_dict(state, assign=True)  # the same numbers, in the same order in memory: of others the bits may differ
    shape = (1, length or _TRIED_FRAMES, 3, *size) if "network" in network.architecture else (2, 3, *size)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), evaluating(network):
        expected, found = network(pixels).embedding, loaded(pixels).embedding
    if not torch.equal(expected, found):
        raise ValueError(
            "the network cannot be saved, as it was changed since it was built: the folder would give other embeddings. Leave out hooks,"
            " and layers that were replaced"
        )


def _keep_calibration(place: Path, draft: Path, model: str) -> None:
    """The calibration that was there, where it is of the same network at the same size."""
    file = place / MODEL_CALIBRATION
    if file.is_file() and read_json(file, way_on="remove it").get("model") == model:
        shutil.copy(file, draft / MODEL_CALIBRATION)


def _as_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
