"""The network every image method trains: backbone, pooling, BNNeck."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_choice
from lightning_reid.networks.backbones import Backbone
from lightning_reid.networks.pooling import GeneralizedMeanPooling, GlobalAveragePooling, part_pooling
from lightning_reid.networks.saved_network import SavedNetwork
from lightning_reid.networks.units import Unit, blocks_of, through
from lightning_reid.normalization import as_network_input

if TYPE_CHECKING:
    from lightning_reid.networks.channels.plan import ChannelPlan  # with torch-pruning, which nobody waits for who prunes nothing

PoolingName = Literal["avg", "gem"]
NeckName = Literal["bnneck", "none"]
NeckSide = Literal["before", "after"]


class EmbeddingOutput(NamedTuple):
    """What one forward pass gives; not L2-normalized.

    Attributes:
        before_bnneck: ``[B, D]`` pooled embedding: what triplet losses see.
        embedding: ``[B, D]`` after the BNNeck: what the classifier sees and what is used at test time. The same tensor as
            ``before_bnneck`` in a network without neck.
        parts: ``[B, 2, D]`` pooled upper and lower body, only when asked for.
    """

    before_bnneck: Tensor
    embedding: Tensor
    parts: Tensor | None = None

    def on(self, side: NeckSide) -> Tensor:
        """The embedding ``[B, D]`` ``"before"`` or ``"after"`` the BNNeck."""
        if side not in get_args(NeckSide):
            raise ValueError(f"the embedding is taken 'before' or 'after' the BNNeck, got {side!r}")
        return self.embedding if side == "after" else self.before_bnneck


class EmbeddingNetwork(nn.Module, SavedNetwork):
    """Backbone, pooling and BNNeck: a batch normalization between metric and classification loss, its bias frozen at 0.

    Source: Luo et al. 2019 (arXiv:1903.07071), section 3.5. The classifier is no part of it. It is saved into a model folder, and loaded
    from one, as ``SavedNetwork`` says.

    Attributes:
        image_size: (height, width) in pixels of the images it was trained on, where it comes from a file that says so; else ``None``. It
            takes others too.
        pooling_name: How it pools, ``"avg"`` or ``"gem"``; further ones of networks of other kinds.
        channel_plan: Which channels it kept when ``materialize`` made it smaller; ``None`` for one of full width.

    Args:
        backbone: Gives the feature map ``[B, D, h, w]``.
        pooling: ``"avg"``, or ``"gem"`` with a learnable exponent.
        neck: ``"bnneck"``, or ``"none"`` to embed with the pooled features.

    Raises:
        ValueError: ``pooling`` or ``neck`` is unknown.

    Example:
        >>> import torch
        >>> from lightning_reid.networks import EmbeddingNetwork, build_backbone
        >>> network = EmbeddingNetwork(build_backbone("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1]), pooling="gem").eval()
        >>> output = network(torch.rand(2, 3, 64, 32), with_parts=True)
        >>> output.embedding.shape, output.parts.shape
        (torch.Size([2, 16]), torch.Size([2, 2, 16]))
    """

    image_size: tuple[int, int] | None = None
    channel_plan: ChannelPlan | None = None

    def __init__(self, backbone: Backbone, *, pooling: PoolingName = "avg", neck: NeckName = "bnneck") -> None:
        super().__init__()
        require_choice("pooling", pooling, get_args(PoolingName))
        require_choice("neck", neck, get_args(NeckName))
        self.backbone, self.pooling_name = backbone, str(pooling)
        self.pooling = GeneralizedMeanPooling() if pooling == "gem" else GlobalAveragePooling()
        self.neck = _bnneck(backbone.num_features) if neck == "bnneck" else nn.Identity()

    @property
    def num_features(self) -> int:
        """D, the length of an embedding."""
        return self.backbone.num_features

    @property
    def architecture(self) -> dict[str, Any]:
        """How the network is built, in plain values by name, as ``config.json`` of a model folder has it.

        Raises:
            ValueError: It was put together by hand, and no file can say how.
        """
        neck = "none" if isinstance(self.neck, nn.Identity) else "bnneck"
        built = {"backbone": self.backbone.name, "backbone_options": told_options(self.backbone) or None}
        changed = {"first_pooling": self.backbone.first_pooling} if self.backbone.first_pooling != "padded" else {}
        return {**built, **changed, "pooling": self.pooling_name, "neck": neck, "embedding": self.num_features}

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, and of what it computes with outside of autocast."""
        return next(self.parameters()).dtype

    def units(self, inputs: Tensor) -> list[Unit]:
        """What the network does to inputs of this shape before the neck, cut as small as it can be: to pooled embeddings ``[B, D]``.

        Raises:
            ValueError: The backbone is of a kind that cannot be cut.
        """
        stem, *blocks = blocks_of(self.backbone.trunk)
        trunk = self.backbone.trunk
        units = [Unit("stem", _of_trunk(stem), lambda images: through(trunk, stem, as_network_input(images, self.dtype)))]
        units += [Unit(names[0], _of_trunk(names), partial(through, trunk, names)) for names in blocks]
        return [*units, Unit("pooling", ("pooling",), lambda maps: self.pooling(maps))]

    def parts(self, maps: Tensor, rows: int) -> Tensor:
        """Pooled upper and lower half ``[B, 2, D]`` of the maps that the last unit is given, of ``rows`` images or clips, B."""
        return part_pooling(maps)

    @override
    def forward(self, images: Tensor, with_parts: bool = False) -> EmbeddingOutput:
        """Embed images ``[B, 3, H, W]``, uint8 or normalized; ``with_parts`` also pools the upper and the lower half."""
        feature_map = self.backbone(as_network_input(images, self.dtype))
        pooled = self.pooling(feature_map)
        return EmbeddingOutput(pooled, self.neck(pooled), self.parts(feature_map, len(images)) if with_parts else None)


def told_options(backbone: Backbone) -> dict[str, Any]:
    """What ``build_backbone`` was told to build a backbone, but for where its weights came from.

    Raises:
        ValueError: It did not build it.
    """
    if backbone.options is None:
        raise ValueError(f"the backbone {backbone.name} was put together by hand, and no file can say how: make it by build_backbone")
    return {name: _plain(value) for name, value in backbone.options.items()}


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _of_trunk(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"backbone.trunk.{name}" for name in names)


def _bnneck(num_features: int) -> nn.BatchNorm1d:
    neck = nn.BatchNorm1d(num_features)
    neck.bias.requires_grad_(False)  # a shift would move the classifier's hyperplanes off the origin
    return neck
