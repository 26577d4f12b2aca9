"""Before a device's fit: one pass over its images, so that the classifier can begin with the memories of its tracklets."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import pytorch_lightning as pl
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_switch
from lightning_reid.callbacks.embedding_pass import embed_target, target_data
from lightning_reid.protocols import TargetData
from lightning_reid.records import EmbeddingSpace, TargetState


@runtime_checkable
class TrackletStates(TargetData, Protocol):
    """A datamodule of tracklets that says what is believed of its images."""

    def state_of(self, embeddings: Tensor | None, iteration: int) -> TargetState:
        """The labels of the images' tracklets, with their embeddings."""


class TrackletMemories(pl.Callback):
    """Publishes the labels of a device's tracklets when a fit begins, with the embeddings of its images under the arriving model.

    Args:
        embed: Whether embeddings are needed: a classifier that walks, or a random one, does without them.

    Source: edge-device text, section 3.2: the classifier is made anew for the local tracklets whenever the model arrives.

    Example:
        >>> from lightning_reid.callbacks import TrackletMemories
        >>> from lightning_reid.datamodules import DeviceDataModule, ImageReIDDataModule
        >>> from lightning_reid.datamodules.device_images import of_camera
        >>> from lightning_reid.federation import Client
        >>> from lightning_reid.modules import TrackletReID
        >>> tiny = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
        >>> data = DeviceDataModule("camera 1", image_size=(32, 16), num_workers=0)
        >>> data.serve(of_camera(ImageReIDDataModule(market).read(), 1))  # market: a folder in the Market naming
        >>> device = Client("camera1", TrackletReID(**tiny), data, [TrackletMemories()])
    """

    def __init__(self, embed: bool = True) -> None:
        require_switch("embed", embed)
        self.embed = embed

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = target_data(trainer, self)
        if not isinstance(data, TrackletStates):
            raise ValueError(f"TrackletMemories wants a datamodule of one camera's tracklets, DeviceDataModule, got {type(data).__name__}")
        if data.target_state is not None and trainer.ckpt_path is not None:
            return  # a resumed fit goes on with what it began with
        space = EmbeddingSpace(before_neck=False, normalized=False)
        embeddings = embed_target(trainer, pl_module, space, with_parts=False)[0] if self.embed else None
        data.set_target_state(data.state_of(embeddings, iteration=0))
