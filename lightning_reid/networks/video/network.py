"""The network every video method trains: a frame network, attention between frames, pooling, BNNeck; and the baseline without attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_switch
from lightning_reid.networks.backbones import Backbone, built_backbone
from lightning_reid.networks.embedding_network import EmbeddingNetwork, EmbeddingOutput, told_options
from lightning_reid.networks.pooling import max_over, mean_over, part_pooling, picture_positions
from lightning_reid.networks.stages import stages_of
from lightning_reid.networks.units import Unit, through
from lightning_reid.normalization import as_network_input

ClipPoolingName = Literal["avg", "max"]


class VideoNetwork(EmbeddingNetwork):
    """Clips ``[B, T, 3, H, W]`` to embeddings ``[B, D]``: frames run through the backbone, clips through what stands between its blocks.

    Without attention and reduction it is the backbone on each frame, and the parameters have the names of an ``EmbeddingNetwork``'s:
    a state dict of one fits the other.

    With masks, as re-detected tracklets have them, only what is picture is pooled, each frame by itself and then over time (thesis text,
    section 2.5.3; the released code of CF-AAN does it with all of its networks, the baseline and the non-local one too).

    Attributes:
        clip_length: T of the clips it was trained on, where it comes from a file that says so; else ``None``, but for ``CFAAN``.
        name: By which files name its kind; ``None`` of a network that no file can tell.
        options: Arguments that it was made with, in plain values, beside its backbone and what that is made with.

    Args:
        backbone: A timm ResNet or ConvNeXt (see ``stages_of``) made by ``build_backbone``.
        attention: By number of a stage (1..4), modules ``[B, T, C, h, w]`` to the same shape, one after each of its last blocks.
        halved_after: Stages after which neighboring frames are joined by their maximum.
        pooling: ``"avg"`` or ``"max"`` over all T' h w positions.
        stem_relu: ``False`` takes the activation after the first BatchNorm out of ``backbone``, as in the released networks.

    Raises:
        ValueError: A backbone of another kind, a stage that does not exist or has fewer blocks than attention modules, an unknown
            ``pooling``, or (when called) clips of another shape, or of a length that cannot be halved, or masks that do not fit them.
    """

    clip_length: int | None = None
    name: ClassVar[str | None] = None
    options: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        backbone: Backbone,
        *,
        attention: Mapping[int, Sequence[nn.Module]] | None = None,
        halved_after: Sequence[int] = (),
        pooling: ClipPoolingName = "avg",
        stem_relu: bool = True,
    ) -> None:
        super().__init__(backbone)
        require_choice("pooling", pooling, get_args(ClipPoolingName))
        self.pooling_name = pooling
        if pooling == "max":
            self.pooling = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())  # type: ignore[assignment]
        self.stages = stages_of(backbone.trunk)
        attention = attention or {}
        for number in (*attention, *halved_after):
            if not 1 <= number <= len(self.stages.stages):
                raise ValueError(f"stages are numbered 1 to {len(self.stages.stages)}, got {number}")
        self.halved_after = frozenset(halved_after)
        self.attention = nn.ModuleDict()
        for number, stage in enumerate(self.stages.stages, start=1):
            modules = attention.get(number, ())
            if len(modules) > len(stage.blocks):
                raise ValueError(
                    f"stage {number} of {backbone.name} has {len(stage.blocks)} blocks, too few for {len(modules)} attention modules"
                )
            self.attention[f"stage{number}"] = nn.ModuleList(modules)
        require_switch("stem_relu", stem_relu)
        if not stem_relu:
            _remove_stem_activation(backbone)

    @property
    @override
    def architecture(self) -> dict[str, Any]:
        if self.name is None:
            raise ValueError(f"{type(self).__name__} was put together by hand, and no file can say how: make one of the named networks")
        options = {"backbone": self.backbone.name, **told_options(self.backbone), **self.options}
        return {"network": self.name, "network_options": options, "embedding": self.num_features}

    def attention_after(self, stage: int) -> list[nn.Module]:
        """The attention modules of a stage 1..4, in the order of the blocks they follow."""
        return list(self.attention[f"stage{stage}"].children())

    def check_clips(self, clips: Tensor) -> None:
        """Refuse clips that are of another shape than ``[B, T, 3, H, W]``, or that the network has no place for.

        Raises:
            ValueError: They are.
        """
        if clips.ndim != 5 or clips.shape[1] == 0:
            raise ValueError(
                f"clips must be [B, T, 3, H, W] with T >= 1, got {list(clips.shape)}: an image is a clip of one frame, [B, 1, 3, H, W]"
            )
        require_halvings(clips.shape[1], len(self.halved_after))

    @override
    def units(self, inputs: Tensor) -> list[Unit]:
        """From clips to frames' maps ``[B T', C, h, w]``, from there to the next ones, and in the end to pooled embeddings."""
        self.check_clips(inputs)
        length = inputs.shape[1]
        units = [Unit("stem", _of_trunk(self.stages.stem), lambda clips: self._through(self.stages.stem, self._frames(clips)))]
        for number, stage in enumerate(self.stages.stages, start=1):
            attention = len(self.attention_after(number))
            plain = len(stage.blocks) - attention
            units += [self._unit(name) for name in (*stage.entry, *stage.blocks[:plain])]
            for place, block in enumerate(stage.blocks[plain:]):
                name = f"attention.stage{number}.{place}"
                units += [self._unit(block), Unit(name, (name,), partial(self._attended, name, length))]
            if number in self.halved_after:
                units.append(Unit(f"halving after stage {number}", (), partial(_halved, length)))
                length //= 2
        units += [self._unit(name) for name in self.stages.end]
        pooling = Unit("pooling", ("pooling",), partial(self._pooled_frames, length), takes_masks=True)
        return [*units, pooling]

    def feature_map(self, clips: Tensor) -> Tensor:
        """Clips ``[B, T, 3, H, W]`` to ``[B, T', D, h, w]``, T' the frames left after the temporal reductions."""
        frames = clips
        for unit in self.units(clips)[:-1]:
            frames = unit.run(frames)
        return frames.unflatten(0, (-1, clips.shape[1] >> len(self.halved_after)))  # type: ignore[no-any-return]

    @override
    def forward(  # type: ignore[override]  # masks come second, as clips come with them; an image network has none
        self, clips: Tensor, masks: Tensor | None = None, *, with_parts: bool = False
    ) -> EmbeddingOutput:
        """Embed clips, uint8 or normalized: ``[B, D]`` before and after the neck.

        Args:
            clips: ``[B, T, 3, H, W]``.
            masks: ``[B, T, H, W]`` bool, true where a pixel is picture and false where it is padding; ``None`` is true everywhere. Where
                frames were joined, what is picture in either counts; a frame without picture is pooled whole.
            with_parts: Also pool the upper and the lower half over all frames; without masks only.
        """
        if masks is not None:
            _check_masks(clips, masks, with_parts)
        feature_map = self.feature_map(clips)
        pooled = self._pooled(feature_map, masks)
        return EmbeddingOutput(pooled, self.neck(pooled), part_pooling(feature_map.mean(1)) if with_parts else None)

    def pool(self, feature_map: Tensor) -> Tensor:
        """``[B, T', D, h, w]`` to ``[B, D]``, over all positions and frames."""
        # time laid along the columns: what pools a map in two dimensions then pools a clip in three
        pooled: Tensor = self.pooling(feature_map.transpose(1, 2).flatten(3))
        return pooled

    def _pool_picture(self, feature_map: Tensor, masks: Tensor) -> Tensor:
        batch_and_time = feature_map.shape[:2]
        positions = picture_positions(masks.flatten(0, 1), (feature_map.shape[3], feature_map.shape[4])).unflatten(0, masks.shape[:2])
        while positions.shape[1] > batch_and_time[1]:  # as often as frames were joined
            positions = either_of_neighboring_frames(positions)
        over = max_over if self.pooling_name == "max" else mean_over
        frames: Tensor = over(feature_map.flatten(0, 1), positions.flatten(0, 1)).unflatten(0, batch_and_time)
        return frames.amax(1) if self.pooling_name == "max" else frames.mean(1)

    @override
    def parts(self, maps: Tensor, rows: int) -> Tensor:
        return part_pooling(maps.unflatten(0, (rows, -1)).mean(1))

    def _unit(self, block: str) -> Unit:
        return Unit(block, _of_trunk((block,)), partial(self._through, (block,)))

    def _through(self, names: Sequence[str], frames: Tensor) -> Tensor:
        return through(self.backbone.trunk, names, frames)

    def _frames(self, clips: Tensor) -> Tensor:
        return as_network_input(clips, self.dtype).flatten(0, 1)

    def _attended(self, name: str, length: int, frames: Tensor) -> Tensor:
        attended: Tensor = self.get_submodule(name)(frames.unflatten(0, (-1, length))).flatten(0, 1)
        return attended

    def _pooled_frames(self, length: int, frames: Tensor, masks: Tensor | None = None) -> Tensor:
        return self._pooled(frames.unflatten(0, (-1, length)), masks)

    def _pooled(self, feature_map: Tensor, masks: Tensor | None) -> Tensor:
        return self.pool(feature_map) if masks is None else self._pool_picture(feature_map, masks)


class VideoResNet50(VideoNetwork):
    """The baseline: ResNet-50 with last stride 1 on each frame, 3-D pooling, BNNeck. Clips ``[B, T, 3, H, W]`` to ``[B, 2048]``.

    Source: NVAN, section 2.3.2 and table 2.1.

    Args:
        backbone: timm's name of a ResNet or ConvNeXt, or one built already.
        pooling: ``"avg"`` (FPL in the text) or ``"max"`` (max-FPL).
        stem_relu: ``False`` for the released networks, which have no ReLU after the first BatchNorm.
        **backbone_options: Of ``build_backbone`` for a name: ``pretrained``, ``weights`` (neither: random), ``last_stride``, timm's own.

    Raises:
        ValueError: See ``build_backbone`` and ``VideoNetwork``.

    Example:
        >>> import torch
        >>> from lightning_reid.networks import VideoResNet50
        >>> network = VideoResNet50("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1]).eval()
        >>> network(torch.rand(2, 4, 3, 64, 32)).embedding.shape  # two clips of four frames
        torch.Size([2, 16])
    """

    name = "baseline"

    def __init__(
        self, backbone: str | Backbone = "resnet50", *, pooling: ClipPoolingName = "avg", stem_relu: bool = True, **backbone_options: Any
    ) -> None:
        super().__init__(built_backbone(backbone, **backbone_options), pooling=pooling, stem_relu=stem_relu)
        self.options = {"pooling": pooling, "stem_relu": stem_relu}


def max_of_neighboring_frames(clips: Tensor) -> Tensor:
    """Maximum of frames 1 and 2, 3 and 4...: ``[B, T, C, h, w]`` to ``[B, T/2, C, h, w]``.

    Source: STE-NVAN, section 2.2.2, figure 2.4.

    Raises:
        ValueError: T is odd.
    """
    if clips.shape[1] % 2:
        raise ValueError(f"{clips.shape[1]} frames cannot be halved: sample an even number, see require_halvings for several halvings")
    # no slices of the clip, which a tracer of channels would take for slices of its channels
    first, second = clips.unflatten(1, (-1, 2)).unbind(2)
    return torch.maximum(first, second)


def either_of_neighboring_frames(masks: Tensor) -> Tensor:
    """Where frames 1 or 2, 3 or 4... are true: ``[B, T, h, w]`` bool to ``[B, T/2, h, w]``, the masks of frames joined by their maximum."""
    either: Tensor = masks.unflatten(1, (-1, 2)).any(2)
    return either


def require_halvings(length: int, halvings: int) -> None:
    """Check that T = ``length`` frames can be halved so many times.

    Raises:
        ValueError: They cannot; the message names the clip lengths that could.
    """
    multiple = 2**halvings
    if length % multiple:
        raise ValueError(
            f"clips of {length} frames cannot be halved {halvings} times: sample a multiple of {multiple} frames, "
            "or leave the temporal reduction out"
        )


def _halved(length: int, frames: Tensor) -> Tensor:
    return max_of_neighboring_frames(frames.unflatten(0, (-1, length))).flatten(0, 1)


def _of_trunk(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"backbone.trunk.{name}" for name in names)


def _remove_stem_activation(backbone: Backbone) -> None:
    if not isinstance(getattr(backbone.trunk, "act1", None), nn.ReLU):
        raise ValueError(f"{backbone.name} has no ReLU after the first BatchNorm that stem_relu=False could take out")
    backbone.trunk.act1 = nn.Identity()


def _check_masks(clips: Tensor, masks: Tensor, with_parts: bool) -> None:
    expected = [*clips.shape[:2], *clips.shape[3:]]
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool or list(masks.shape) != expected:
        got = f"{masks.dtype} {list(masks.shape)}" if isinstance(masks, Tensor) else repr(masks)
        raise ValueError(f"expected masks bool {expected} for clips {list(clips.shape)}, got {got}")
    if with_parts:
        raise ValueError("the upper and the lower half are pooled without regard to padding: give masks or with_parts=True, not both")
