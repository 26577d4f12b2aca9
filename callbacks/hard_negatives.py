"""Which public images a client trains on: those that its network takes for its own people."""

from __future__ import annotations

import logging

import pytorch_lightning as pl
import torch
from typing_extensions import override

from lightning_reid.arguments import require_number
from lightning_reid.callbacks.across_ranks import once_for_all_ranks
from lightning_reid.callbacks.embedding_pass import embed_images
from lightning_reid.clustering.centroids import cluster_means
from lightning_reid.protocols import PublicAndLocalData
from lightning_reid.records import AT_TEST_TIME
from lightning_reid.selection.hard_negatives import hard_negatives

logger = logging.getLogger(__name__)


class HardNegativeSampling(pl.Callback):
    """At the start of a fit, keep the public images whose cosine to any local image exceeds a threshold (thesis, section 7.3.3).

    The network that decides is the one the fit begins with: the global model of the round. A fit that is resumed goes on with its choice;
    where it was begun without this callback, with all public images, and the callback begins with the next fit, which it says. On
    the first fit it also gives the module the mean embeddings of the client's people to start its proxies from, where it takes
    them; that start is ours, the text does not say one.

    Attributes:
        share: Of the public images that was kept last, in [0, 1].

    Args:
        threshold: t_HN, a cosine in [-1, 1]; the text takes the margin of the loss. ``None`` takes no public image at all.

    Raises:
        ValueError: The threshold is no cosine (here); the datamodule has no public images (when a fit begins).

    Example:
        >>> import torch
        >>> from lightning_reid.callbacks import HardNegativeSampling
        >>> from lightning_reid.callbacks.hard_negatives import hard_negatives
        >>> local, public = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6], [0.0, 1.0]])  # cosines 0.8 and 0
        >>> sampling = HardNegativeSampling(threshold=0.4)
        >>> hard_negatives(local, public, sampling.threshold).tolist()  # what it decides at the start of a fit
        [True, False]
    """

    def __init__(self, threshold: float | None = 0.4) -> None:
        require_number("threshold", threshold, low=-1, high=1, optional=True)
        self.threshold, self.share, self.begun = threshold, 0.0, False

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, PublicAndLocalData):
            raise ValueError(f"HardNegativeSampling wants a datamodule with public images, got {type(data).__name__}")
        if trainer.ckpt_path is not None:  # the fit that goes on began with other weights, and its choice came along
            if not self.begun:
                logger.warning("HardNegativeSampling begins with the next fit: this one goes on with the public images that it began with")
            self.share, self.begun = float(data.chosen_public.float().mean()), True  # its proxies have learned: they do not start over
            return
        local, _ = embed_images(trainer, pl_module, data.local_dataloader(), len(data.local_labels), AT_TEST_TIME, "local")
        chosen = torch.zeros_like(data.chosen_public)
        if self.threshold is not None:
            threshold = self.threshold
            public, _ = embed_images(trainer, pl_module, data.public_dataloader(), len(chosen), AT_TEST_TIME, "public")
            chosen = once_for_all_ranks(trainer, lambda: hard_negatives(local, public, threshold))
        data.choose_public(chosen)
        self.share = float(chosen.float().mean())
        start = getattr(pl_module, "start_from_means", None)
        if start is not None and not self.begun:
            start(cluster_means(local, data.local_labels).to(pl_module.device))
        self.begun = True

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("train/hard_negatives", self.share, on_step=False, on_epoch=True, batch_size=1)

    @override
    def state_dict(self) -> dict[str, float | bool]:
        return {"share": self.share, "begun": self.begun}

    @override
    def load_state_dict(self, state_dict: dict[str, float | bool]) -> None:
        self.share, self.begun = float(state_dict["share"]), bool(state_dict["begun"])
