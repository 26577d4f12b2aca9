"""Networks trained elsewhere: checkpoints of torchreid, fast-reid and lightning-reid itself as an ``EmbeddingNetwork``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_reid.arguments import shown
from lightning_reid.networks.backbones import Backbone, build_backbone
from lightning_reid.networks.channels.plan import ChannelPlan, materialize
from lightning_reid.networks.embedding_network import EmbeddingNetwork, PoolingName
from lightning_reid.networks.model_config import PARTS
from lightning_reid.networks.network_name import require_named
from lightning_reid.networks.pooling import GeneralizedMeanPooling
from lightning_reid.networks.reduced_embedding import ReducedEmbeddingNetwork
from lightning_reid.networks.released_osnet import is_osnet, osnet_name, renamed_osnet
from lightning_reid.networks.told_architecture import check_told_module, check_told_options, check_told_size
from lightning_reid.networks.told_building import built_from
from lightning_reid.networks.weights import guess_architecture, load_all, read_checkpoint, state_dict_of
from lightning_reid.normalization import IMAGENET_MEAN, IMAGENET_STD

logger = logging.getLogger(__name__)

Kind = Literal["lightning-reid", "torchreid", "fast-reid"]

RESNETS: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}
"""By bottleneck blocks or not, and blocks per stage."""

FAST_REID_NAMES = {
    "backbone.": "backbone.trunk.",
    "heads.bottleneck.0.": "neck.",
    "heads.bnneck.": "neck.",
    "heads.pool_layer.p": "pooling.p",
}
"""``heads.bnneck`` until the release 1.0, ``heads.bottleneck.0`` since."""

LEAST_EXPONENT, LARGEST_EXPONENT = 0.01, 1000.0
"""Of generalized mean pooling: 1 is the average, and training starts with 3."""
CLASSIFIERS = ("classifier.", "fc.weight", "fc.bias", "heads.classifier.", "heads.weight", "heads.cls_layer.", "pixel_mean", "pixel_std")
"""What an embedding does not need: identity classifiers, and the normalization, which is checked."""


def load_foreign_state_dict(path: str | Path) -> tuple[Kind, dict[str, Tensor]]:
    """Read a checkpoint and rename its tensors to those of ``EmbeddingNetwork``; classifiers are left out.

    Known are torchreid's and torchvision's ResNets (``conv1.weight`` ... ``layer4``), torchreid's OSNets (``conv1.conv.weight`` ...
    ``fc``), fast-reid's ``Baseline`` with a ResNet (``backbone.*``, ``heads.*``), and lightning-reid's own checkpoints (``network.*``).

    Args:
        path: ``torch.save`` file or ``.safetensors``; the state dict alone, or under ``"state_dict"`` or ``"model"``. Or a model folder,
            as ``recipes/generated_people.py`` leaves it.

    Returns:
        Whose checkpoint it is, and the tensors by new name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read, or its network is one that cannot be rebuilt here (IBN, non-local blocks, a ResNet with a
            reduced embedding, no ResNet or OSNet...); the message says which.
    """
    return _renamed(read_checkpoint(path), path)


def load_embedding_network(path: str | Path, *, last_stride: int | None = None) -> EmbeddingNetwork:
    """Rebuild the network of a checkpoint, so that it gives the embeddings its own project gives, in evaluation mode.

    What the tensors do not tell is taken from the projects' defaults and logged (level INFO): torchreid's ResNets have last stride
    2, average pooling and no neck, its OSNets end in their layer of 512 numbers (``ReducedEmbeddingNetwork``); fast-reid's have last
    stride 1, their neck, GeM pooling where its exponent is stored, else the average, and since release 1.0 a first pooling layer without
    padding. A lightning-reid checkpoint says it in its hyperparameters. All expect RGB images with ImageNet normalization.

    Args:
        path: See ``load_foreign_state_dict``; or the name of a network that comes with the library, see ``from_pretrained``.
        last_stride: Overrides the project's default.

    Returns:
        The network. Its ``image_size`` is the one that it was trained on, ``None`` where the file does not say.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As ``load_foreign_state_dict``, or tensors are missing, left over or of another shape.

    Example:
        >>> import torch
        >>> import torchvision
        >>> from lightning_reid.networks import load_embedding_network
        >>> theirs, images = torchvision.models.resnet18().eval(), torch.rand(2, 3, 64, 32)
        >>> torch.save(theirs.state_dict(), folder / "resnet18.pth")  # or a checkpoint of torchreid, fast-reid or this library
        >>> network = load_embedding_network(folder / "resnet18.pth")
        >>> theirs.fc = torch.nn.Identity()
        >>> torch.allclose(network(images).embedding, theirs(images), atol=1e-5)
        True
    """
    content = read_checkpoint(path)
    kind, state = _renamed(content, path)
    if kind == "lightning-reid":
        name, options = _own_architecture(content, path)
    else:
        name, options = _network_name(state, path), {"last_stride": 2 if kind == "torchreid" else 1}
    options |= {} if last_stride is None else {"last_stride": last_stride}
    unpadded = (kind == "fast-reid" and _is_unpadded(content, path)) or content.get("first_pooling") == "unpadded"
    with built_from(path, content):
        network = _built(name, options, state, path, unpadded=unpadded, told=content)
        load_all(network, state, source=f"{path} ({kind})")
    _check_parts(network, content.get("model_parts", {}), path)
    require_named(network, content.get("model_name"), path)
    network.image_size = _told_size(content, path)
    logger.info("%s: %s of %s, last stride %d, %s, %s", path, name, kind, options.get("last_stride", 1), network.pooling, network.neck)
    return network.eval()


def network_of_config(content: Mapping[str, Any], names: Mapping[str, Any], folder: Path) -> EmbeddingNetwork:
    """The network of images that the config of a model folder tells, with new weights.

    Args:
        content: Of ``read_model_config``.
        names: Of the tensors that the folder has; pooling and neck follow from them.
        folder: For messages.
    """
    name, options = _own_architecture(content, folder)
    unpadded = content["first_pooling"] == "unpadded"
    return _built(name, options, names, folder, unpadded=unpadded, told=content)


def _built(
    name: str, options: Mapping[str, Any], names: Mapping[str, Any], path: str | Path, *, unpadded: bool, told: Mapping[str, Any]
) -> EmbeddingNetwork:
    network = _around(build_backbone(name, **options), names)
    if unpadded:
        _pool_unpadded(network.backbone, path)
    return materialize(network, ChannelPlan.from_tensors(told["channel_plan"])) if "channel_plan" in told else network


def _around(backbone: Backbone, state: Mapping[str, Any]) -> EmbeddingNetwork:
    """What the names of a state dict tell of pooling and neck, around a backbone."""
    if any(name.startswith("pooling.fc.") for name in state):
        return ReducedEmbeddingNetwork(backbone)
    pooling: PoolingName = "gem" if "pooling.p" in state else "avg"
    return EmbeddingNetwork(backbone, pooling=pooling, neck="bnneck" if "neck.weight" in state else "none")


def _check_parts(network: EmbeddingNetwork, told: Mapping[str, Any], path: str | Path) -> None:
    """Weights that have lost entries are those of another network, which would be built and say nothing."""
    exponent = float(network.pooling.p.detach()) if isinstance(network.pooling, GeneralizedMeanPooling) else None
    found = {name: network.architecture[name] for name in PARTS}
    for name, value in found.items():
        if told.get(name, value) != value:
            there = f"{path} is a network with {name} {shown(told[name])}"
            raise ValueError(f"{there}, and its weights are of one with {value}: fetch it again")
    if exponent is not None and not LEAST_EXPONENT <= exponent <= LARGEST_EXPONENT:
        raise ValueError(f"{path} pools with the exponent {exponent:g}, expected {LEAST_EXPONENT:g} to {LARGEST_EXPONENT:g}")


def trained_architecture(path: str | Path) -> dict[str, Any]:
    """How the network of a lightning-reid checkpoint or model folder is built, as an image module is told: backbone, its options, pooling.

    Args:
        path: Of the file or folder; or the name of a network that comes with the library.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is another project's, pruned, or has no BNNeck: no image module is built like it.
    """
    content = read_checkpoint(path)
    kind, state = _renamed(content, path)
    pruned, unpadded = "channel_plan" in content, content.get("first_pooling") == "unpadded"
    if kind != "lightning-reid" or pruned or unpadded or "neck.weight" not in state:
        ours = "with fast-reid's first pooling layer" if unpadded else "without a BNNeck"
        why = "pruned" if pruned else ours if kind == "lightning-reid" else f"of {kind}"
        raise ValueError(f"{path} is a network {why}, from which training does not start: give an unpruned checkpoint of lightning-reid")
    name, options = _own_architecture(content, path)
    return {"backbone": name, "backbone_options": options or None, "pooling": "gem" if "pooling.p" in state else "avg"}


def trained_image_size(path: str | Path) -> tuple[int, int] | None:
    """The (height, width) in pixels that a lightning-reid checkpoint's network was trained on; ``None`` where a file does not say.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read.
    """
    return _told_size(read_checkpoint(path), path)


def _told_size(content: Mapping[str, Any], path: str | Path) -> tuple[int, int] | None:
    size = content.get("image_size")
    return None if size is None else check_told_size(size, path)


def _renamed(content: Mapping[str, Any], path: str | Path) -> tuple[Kind, dict[str, Tensor]]:
    state = state_dict_of(content, path)
    if any(name.startswith("network.backbone.") for name in state):
        return "lightning-reid", {name.removeprefix("network."): tensor for name, tensor in state.items() if name.startswith("network.")}
    if any(name.startswith("backbone.trunk.") for name in state):  # network.state_dict()
        return "lightning-reid", state
    if is_osnet(state):
        return "torchreid", renamed_osnet(state)
    _refuse_unknown_blocks(state, path)
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(CLASSIFIERS)}
    if "backbone.conv1.weight" in state and any(name.startswith("heads.") for name in state):
        _check_normalization(state, path)
        return "fast-reid", {_fast_reid_name(name): tensor for name, tensor in kept.items()}
    if "conv1.weight" in state and any(name.startswith("layer4.") for name in state):
        return "torchreid", {f"backbone.trunk.{name}": tensor for name, tensor in kept.items()}
    raise ValueError(
        f"{path} is no checkpoint of lightning-reid ('network.backbone.*'), of a torchreid ResNet ('conv1.*' ... 'layer4.*') or "
        f"OSNet ('conv1.conv.*' ... 'fc.*'), or of a fast-reid ResNet ('backbone.*', 'heads.*'). {guess_architecture(state)}"
    )


def _refuse_unknown_blocks(state: Mapping[str, Tensor], path: str | Path) -> None:
    """Name the options of torchreid and fast-reid that change the embedding and that no timm ResNet has."""
    reasons = {
        ".IN.weight": "has instance normalization (IBN): use a checkpoint without, such as bagtricks_R50",
        "NL_": "has non-local blocks (WITH_NL): use a checkpoint without, such as bagtricks_R50",
        ".se.": "has squeeze-and-excitation (WITH_SE): use a checkpoint without",
        "fc.0.weight": "reduces its embedding by fully connected layers (resnet50_fc512): use torchreid's resnet50",
        "heads.bottleneck.1.": "reduces its embedding (EMBEDDING_DIM > 0): use a checkpoint without",
    }
    for part, reason in reasons.items():
        found = [name for name in state if part in name]
        if found:
            raise ValueError(f"{path} {reason}; its tensors are {found[0]} and {len(found) - 1} more like it")


def _fast_reid_name(name: str) -> str:
    for theirs, ours in FAST_REID_NAMES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name  # to be reported as left over when it is loaded


def _check_normalization(state: Mapping[str, Tensor], path: str | Path) -> None:
    for name, expected in (("pixel_mean", IMAGENET_MEAN), ("pixel_std", IMAGENET_STD)):
        values = state.get(name, 255 * torch.tensor(expected)).flatten().float()
        if not torch.allclose(values, 255 * torch.tensor(expected), atol=0.1):
            raise ValueError(f"{path} expects images with {name}={values.tolist()} of 255, here they have ImageNet's {expected} of 1")


def _network_name(state: Mapping[str, Tensor], path: str | Path) -> str:
    trunk = {name.removeprefix("backbone.trunk."): tensor for name, tensor in state.items() if name.startswith("backbone.trunk.")}
    return osnet_name(trunk, path) if is_osnet(trunk) else _resnet_name(state, path)


def _resnet_name(state: Mapping[str, Tensor], path: str | Path) -> str:
    prefix = "backbone.trunk.layer"
    blocks = {tuple(name.removeprefix(prefix).split(".")[:2]) for name in state if name.startswith(prefix)}
    depth = tuple(sum(stage == str(number) for stage, _ in blocks) for number in range(1, 5))
    bottleneck = f"{prefix}1.0.conv3.weight" in state
    if (bottleneck, depth) not in RESNETS:
        raise ValueError(f"{path} holds a ResNet with {depth} blocks, known are {', '.join(RESNETS.values())}")
    return RESNETS[bottleneck, depth]


def _own_architecture(content: Mapping[str, Any], path: str | Path) -> tuple[str, dict[str, Any]]:
    hyperparameters = content.get("hyper_parameters", {})
    if not isinstance(hyperparameters, Mapping):
        raise ValueError(f"{path} tells its arguments as a {type(hyperparameters).__name__}: expected them by name")
    if "network" in hyperparameters:
        return _frame_architecture(hyperparameters, path)
    if "backbone" not in hyperparameters:
        _, state = _renamed(content, path)
        try:
            return _network_name(state, path), {}
        except ValueError as error:
            raise ValueError(
                f"{path} holds weights alone and does not say its network: build that network and load them into it, or give the checkpoint"
                " that Lightning's Trainer saved"
            ) from error
    check_told_module(hyperparameters, path)
    return hyperparameters["backbone"], dict(hyperparameters.get("backbone_options") or {})


def _frame_architecture(hyperparameters: Mapping[str, Any], path: str | Path) -> tuple[str, dict[str, Any]]:
    """The video baseline embeds frames one by one: its network is one of images too."""
    options = {"backbone": "resnet50", **(hyperparameters.get("network_options") or {})}
    if hyperparameters["network"] != "baseline" or options.pop("pooling", "avg") != "avg" or not options.pop("stem_relu", True):
        raise ValueError(
            f"{path} holds the video network {hyperparameters['network']!r}, which embeds clips and no single images: expected a baseline "
            "with average pooling and stem_relu; load this one with VideoReID.load_from_checkpoint, or from_pretrained where it is a folder"
        )
    name = options.pop("backbone")
    if not isinstance(name, str):
        raise ValueError(f"{path} names its backbone {shown(name)}: expected one of timm's names")
    check_told_options(options, path)
    return name, options


def _is_unpadded(content: Mapping[str, Any], path: str | Path) -> bool:
    """Whether the first pooling layer of a fast-reid is unpadded."""
    old = any(name.startswith("heads.bnneck.") for name in state_dict_of(content, path))
    if old:
        logger.warning("%s is of a fast-reid before 1.0: its first pooling layer is taken to be padded, as it was until August 2020", path)
    return not old


def _pool_unpadded(backbone: Backbone, path: str | Path) -> None:
    if not isinstance(getattr(backbone.trunk, "maxpool", None), nn.MaxPool2d):
        raise ValueError(f"{path} asks for another first pooling layer, and {backbone.name} has none: fetch it again")
    backbone.trunk.maxpool, backbone.first_pooling = nn.MaxPool2d(3, stride=2, ceil_mode=True), "unpadded"
