"""Any timm network, or an OSNet, as a backbone: its last feature map, at last stride 1, with weights from where one says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

import timm
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_path, require_switch, require_text, shown
from lightning_reid.networks.dry_run import DryRun, FeatureMap, dry_run
from lightning_reid.networks.hub import create_pretrained
from lightning_reid.networks.last_stride import remove_last_stride
from lightning_reid.networks.osnet import OSNet
from lightning_reid.networks.told_architecture import NOT_FROM_FILES
from lightning_reid.networks.weights import load_all, read_state_dict

logger = logging.getLogger(__name__)

PERSON_SIZE = (256, 128)
"""Height and width of person crops, the input a network of free input size is examined with."""

CLASSIFIERS = ("fc.", "classifier.", "head.")
"""What timm and torchvision call the layer that is dropped."""

SENSELESS = (ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError)
"""What timm raises of options that make no sense."""

FirstPooling = Literal["padded", "unpadded"]

ANY_SIZE_TRANSFORMERS = ("vision_transformer", "eva", "beit")
"""Modules of timm whose networks resample their position embedding to the image when told so."""


class Backbone(FeatureMap):
    """A timm network without its classifier: normalized images ``[B, 3, H, W]`` to a feature map ``[B, num_features, h, w]``.

    Made by ``build_backbone``. ``trunk`` is the timm network itself, its parameters keep timm's names below ``trunk.``.

    Attributes:
        name: timm's name of the network.
        num_features: Channels of the feature map.
        stride: Pixels of the image per position of the map, vertically.
        options: Of ``build_backbone``, that it was built with, but for where its weights came from; ``None`` of one put together by hand.
        first_pooling: ``"unpadded"`` where the first pooling layer of a ResNet was changed to fast-reid's, else ``"padded"``.
    """

    options: dict[str, Any] | None = None
    first_pooling: FirstPooling = "padded"

    def __init__(self, trunk: nn.Module, name: str, image_size: tuple[int, int], told: DryRun | None = None) -> None:
        super().__init__(trunk)
        self.name = name
        (_, self.num_features, height, _), unused = told or dry_run(self, image_size)
        self.stride = image_size[0] // height
        for parameter in unused:  # such as layers between pooling and classifier; DDP would wait for their gradients
            self.get_parameter(parameter).requires_grad_(False)
        if unused:
            logger.info("%s: %d parameters behind the feature map are not used: %s", name, len(unused), ", ".join(unused))

    @override
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)


def build_backbone(
    name: str, *, pretrained: bool = False, weights: str | None = None, last_stride: int = 1, **timm_kwargs: Any
) -> Backbone:
    """Build a timm network as a backbone and say (``logging``, level INFO) where its weights come from.

    Args:
        name: timm's name: ``"resnet50"``, ``"mobilenetv2_100"``, ``"vit_small_patch16_224"``... Vision transformers of the ViT, EVA
            and BEiT kinds take any image size (``dynamic_img_size``) unless ``timm_kwargs`` hold an ``img_size``. Or an OSNet, which
            timm has not: ``"osnet_x1_0"``, ``"osnet_x0_75"``, ``"osnet_x0_5"``, ``"osnet_x0_25"``, ``"osnet_ain_x1_0"``.
        pretrained: Load timm's weights from its hub, or from the hub's local cache.
        weights: File with weights of exactly this network (``.safetensors``, or a ``torch.save`` file with a state dict); a
            classifier in it is left out. Or a checkpoint or model folder of ours, or the name of a network that comes with the library
            (``from_pretrained``), whose neck and pooling are left out. Excludes ``pretrained``. With neither, weights are random.
        last_stride: 1 doubles height and width of the last feature map, as usual in re-ID (see ``remove_last_stride``); 2 leaves the
            network as it is. A network that nowhere halves its map in one layer, such as a ViT, stays as it is, and so does an OSNet,
            which was made for re-ID and ends at a sixteenth; both are logged.
        **timm_kwargs: Further arguments of ``timm.create_model``, e.g. ``channels=[16, 32, 64, 128]`` for a narrow ``resnet18``.

    Raises:
        ValueError: Unknown name, contradicting arguments, weights of another network, or a network that cannot do last stride 1.
        FileNotFoundError: ``weights`` does not exist.
        RuntimeError: ``pretrained`` without access to the hub; it says how to go on.

    Example:
        >>> import torch
        >>> from lightning_reid.networks import build_backbone
        >>> backbone = build_backbone("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1])
        >>> backbone.num_features, backbone(torch.rand(1, 3, 64, 32)).shape  # last stride 1: a sixteenth of height and width
        (16, torch.Size([1, 16, 4, 2]))
    """
    require_text("backbone", name)
    require_switch("pretrained", pretrained)
    require_path("weights", weights, optional=True)
    if last_stride not in (1, 2):
        raise ValueError(f"last_stride must be 1 or 2, got {last_stride}")
    if last_stride == 1 and timm_kwargs.get("output_stride", 32) != 32:
        raise ValueError(
            f"output_stride={timm_kwargs['output_stride']} takes strides out already (and dilates): give last_stride=2 with it"
        )
    if pretrained and weights is not None:
        raise ValueError(f"give pretrained=True or a file of weights, not both (got {weights})")
    reads = [option for option in NOT_FROM_FILES if option in timm_kwargs]
    if reads:
        raise ValueError(f"{reads[0]} is no option here: weights come from weights=FILE, which is never unpickled, or pretrained=True")
    if not timm.is_model(name):
        similar = timm.list_models(f"*{name.split('.')[0][:8]}*")[:5]
        raise ValueError(f"timm knows no network {name!r}" + (f"; similar: {', '.join(similar)}" if similar else ""))
    options = {**({} if last_stride == 1 else {"last_stride": last_stride}), **timm_kwargs}
    family = timm.model_entrypoint(name.split(".")[0]).__module__.rpartition(".")[2]
    if family in ANY_SIZE_TRANSFORMERS and "img_size" not in timm_kwargs:
        timm_kwargs = {"dynamic_img_size": True, **timm_kwargs}
    trunk = _with_weights(name, pretrained, weights, timm_kwargs)
    image_size = _image_size(trunk, timm_kwargs)
    made_for_reid = isinstance(trunk, OSNet)
    changed, told = remove_last_stride(FeatureMap(trunk), image_size) if last_stride == 1 and not made_for_reid else ([], None)
    backbone = Backbone(trunk, name, image_size, told)
    backbone.options = options
    if changed:
        logger.info("%s: last stride 1 in %s", name, ", ".join(changed).replace("trunk.", ""))
    elif last_stride == 1 and made_for_reid:
        logger.info("%s: made for re-ID, its stride stays %d", name, backbone.stride)
    elif last_stride == 1:
        level = logging.INFO if backbone.stride <= 16 else logging.WARNING
        logger.log(level, "%s: no layer halves the feature map, its stride stays %d", name, backbone.stride)
    return backbone


def built_backbone(backbone: str | Backbone, **options: Any) -> Backbone:
    """``build_backbone`` for a name; a backbone that is built already is given back.

    Raises:
        ValueError: There are options for a backbone that is built already; or see ``build_backbone``.
    """
    if isinstance(backbone, str):
        return build_backbone(backbone, **options)
    if options:
        raise ValueError(f"the backbone {backbone.name} is built already: give {', '.join(options)} to build_backbone, or its name here")
    return backbone


def _with_weights(name: str, pretrained: bool, weights: str | None, timm_kwargs: dict[str, Any]) -> nn.Module:
    options: dict[str, Any] = {"num_classes": 0, "global_pool": "", **timm_kwargs}
    if pretrained:
        trunk, source = create_pretrained(name, **options)
        logger.info("%s: pretrained weights from %s", name, source)
        return trunk
    trunk = _made(name, options)
    if weights is None:
        logger.info("%s: random weights", name)
    else:
        load_all(trunk, _trunk_of(read_state_dict(weights)), source=f"{weights} (for {name})", ignored=CLASSIFIERS)
    return trunk


def _trunk_of(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Of one of our own networks, or of a module that holds one, the backbone's trunk; any other state dict as it is."""
    for prefix in ("backbone.trunk.", "network.backbone.trunk."):
        if any(name.startswith(prefix) for name in state):
            return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return state


def _made(name: str, options: Mapping[str, Any]) -> nn.Module:
    try:
        made: nn.Module = timm.create_model(name, pretrained=False, **options)
    except (*SENSELESS, RuntimeError) as error:
        told = ", ".join(f"{option}={shown(value)}" for option, value in options.items() if option not in ("num_classes", "global_pool"))
        raise ValueError(f"timm cannot build {name} with {told or 'its own options'}: {error or type(error).__name__}") from error
    return made


def _image_size(trunk: nn.Module, timm_kwargs: dict[str, Any]) -> tuple[int, int]:
    """Height and width of images that the network surely takes."""
    patches = getattr(trunk, "patch_embed", None)
    if not timm_kwargs.get("dynamic_img_size") and getattr(trunk, "default_cfg", {}).get("fixed_input_size", False):
        height, width = patches.img_size  # type: ignore[union-attr]
        return int(height), int(width)
    sides = getattr(patches, "patch_size", (1, 1))
    return PERSON_SIZE[0] - PERSON_SIZE[0] % sides[0], PERSON_SIZE[1] - PERSON_SIZE[1] % sides[1]
