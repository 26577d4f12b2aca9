"""What cannot be trained in a pipeline, told before the first step."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from torch.torch_version import TorchVersion

from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.protocols import IdentityBatches, NeedsWholeNetwork

LEAST_TORCH = "2.8"
PRECISIONS = ("32-true", "64-true", "bf16-mixed")
OF_LIGHTNING = {
    (WeightAveraging, StochasticWeightAveraging, BaseFinetuning, ModelPruning): "works on all weights of a network at once",
    (LearningRateFinder, BatchSizeFinder): "fits within a fit, and takes it back",
    (OnExceptionCheckpoint,): "saves when one process fails, and the weights lie with all",
}


def require_torch(version: str | None = None) -> None:
    """Refuse a torch whose pipelines come to a standstill over gloo.

    Raises:
        RuntimeError: It is older than 2.8.
    """
    found = TorchVersion(torch.__version__ if version is None else version)
    if found < LEAST_TORCH:
        raise RuntimeError(
            f"PipelineStrategy needs torch {LEAST_TORCH} or newer, whose pipelines do not stand still over gloo, and this is torch {found}:"
            " install a newer one, or train with strategy='ddp'"
        )


def require_divided(processes: int, stages: int) -> None:
    """Refuse processes that are no whole number of pipelines.

    Raises:
        ValueError: They are not.
    """
    if processes % stages:
        raise ValueError(
            f"{processes} processes are no whole number of pipelines of stages={stages}: give Trainer(devices=...) a multiple of {stages},"
            " or PipelineStrategy other stages, of which None takes all processes for one pipeline"
        )


def require_pipelined(trainer: pl.Trainer, module: pl.LightningModule, microbatches: int) -> EmbeddingNetwork:
    """The network of a module whose step a pipeline can take, on a Trainer that asks for nothing that it cannot do.

    Raises:
        ValueError: It is another module, or what the Trainer asks for would be wrong in silence.
    """
    network = getattr(module, "network", None)
    if not getattr(module, "one_pass_a_step", False) or not isinstance(network, EmbeddingNetwork):
        raise ValueError(
            "PipelineStrategy trains modules whose step embeds its batch once, and no more: SupervisedReID, VideoReID, DistilledReID and"
            f" HSR without InterCameraMining. {type(module).__name__} is none: train it with strategy='ddp'"
        )
    if not module.automatic_optimization:
        raise ValueError(
            f"{type(module).__name__} optimizes by itself (automatic_optimization=False), in the midst of its step, where the other"
            " processes of a pipeline wait: let the Trainer do it, or train with strategy='ddp'"
        )
    if module.hparams.get("bn_group") is not None:
        raise ValueError(
            f"bn_group={module.hparams['bn_group']} groups rows that a pipeline groups by its micro-batches: leave bn_group out, and give"
            " PipelineStrategy as many microbatches, with mining='microbatch' where triplets are to be mined within them too"
        )
    if trainer.precision not in PRECISIONS:
        raise ValueError(
            f"Trainer(precision='{trainer.precision}') has no place in a pipeline, whose gradients are computed before the Trainer could"
            f" scale them: give one of {', '.join(PRECISIONS)}"
        )
    _require_callbacks(trainer, getattr(trainer, "callbacks"))  # noqa: B009  (the attribute is set dynamically)
    data = getattr(trainer, "datamodule", None)
    if isinstance(data, IdentityBatches) and ((data.p * data.k) % microbatches or data.p * data.k < 2 * microbatches):
        raise ValueError(
            f"batches of p={data.p} times k={data.k} cannot be cut into microbatches={microbatches} of equally many rows, at least 2 each,"
            " over which BatchNorm normalizes: change p, k or microbatches"
        )
    return network


def _require_callbacks(trainer: pl.Trainer, callbacks: Sequence[pl.Callback]) -> None:
    for callback in callbacks:
        why = [told for kinds, told in OF_LIGHTNING.items() if isinstance(callback, kinds)]
        if isinstance(callback, NeedsWholeNetwork):
            why.append(callback.needs_whole_network)
        if isinstance(callback, ModelCheckpoint) and callback.save_on_exception:
            why.append("with save_on_exception=True saves when one process fails, and the weights lie with all")
        if why:
            raise ValueError(f"{type(callback).__name__} {why[0]}, which no pipeline can take: leave it out, or train with strategy='ddp'")
