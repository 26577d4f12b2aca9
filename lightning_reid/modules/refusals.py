"""What a Trainer, its callbacks or its data would do wrong, told before the first step."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import StochasticWeightAveraging
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from lightning_reid.losses.triplet import has_triplets
from lightning_reid.metrics import RetrievalMetrics
from lightning_reid.normalization import require_normalized
from lightning_reid.protocols import EvaluatedData, IdentityBatches

logger = logging.getLogger(__name__)

HALF_WEIGHTS = ("16-true", "bf16-true")


def is_being_fitted(module: pl.LightningModule) -> bool:
    """Whether a module is in the hands of a Trainer that fits it, not of one that scores it, nor of nobody."""
    try:
        return module.trainer.state.fn == TrainerFn.FITTING
    except RuntimeError:  # how Lightning says that there is no Trainer: a checkpoint is loaded by hand
        return False


def require_trainable_precision(trainer: pl.Trainer) -> None:
    """Refuse to train weights of half precision: a step that is small beside its weight, below a 500th in bfloat16, is rounded away.

    Raises:
        ValueError: The Trainer would.
    """
    if trainer.precision in HALF_WEIGHTS:
        raise ValueError(
            f"Trainer(precision='{trainer.precision}') keeps weights in half precision, where the small steps of training are rounded away:"
            " give precision='bf16-mixed'; to validate, test or predict it is all right"
        )


def require_scorable(trainer: pl.Trainer, stage: str, retrieval: RetrievalMetrics) -> None:
    """Refuse what a validation or a test could not score by its labels alone, before hours of training.

    A fit that is validated on people held out of training says it of the test part too, which it does not need.

    Raises:
        ValueError: There is no query or no gallery, or no query has a match under the protocol.
    """
    data = getattr(trainer, "datamodule", None)
    part: Literal["val", "test"] = "test" if stage == "test" else "val"
    if not isinstance(data, EvaluatedData) or stage == "predict" or (stage == "fit" and not trainer.limit_val_batches):
        return
    try:
        validated = data.evaluation_records(part)
        retrieval.require_scorable(*validated)
    except ValueError as error:
        way_on = ". Or give Trainer(limit_val_batches=0), to train without scores" if stage == "fit" else ""
        raise ValueError(f"{part}/ scores cannot be taken: {error}{way_on}") from error
    if stage == "fit":
        try:
            tested = data.evaluation_records("test")
            if tested != validated:
                retrieval.require_scorable(*tested)
        except ValueError as error:
            logger.warning("test/ scores will not be taken after this fit: %s", error)


def require_built_before_copied(trainer: pl.Trainer, remedy: str) -> None:
    """Refuse a callback that has copied a module before its classifier was built: it would average everything else.

    Raises:
        ValueError: There is one.
    """
    if any(isinstance(callback, StochasticWeightAveraging) for callback in getattr(trainer, "callbacks")):  # noqa: B009
        raise ValueError(
            "StochasticWeightAveraging copies a module before its classifier is built, and would not average the classifier:"
            f" give {remedy}, or take EMAWeightAveraging"
        )


def require_several(batch: Any) -> None:
    """Refuse a training batch of one, which has no variance to be normalized by, and no pair.

    Raises:
        ValueError: It is of one.
    """
    if any(len(pictures) == 1 for pictures in _pictures(batch)):
        raise ValueError(
            "a training batch holds 1 image or tracklet, and BatchNorm needs at least 2 to normalize over: raise the batch size"
            " (p, k or batch_size of the datamodule), and give a DataLoader of your own drop_last=True"
        )


def require_triplets(data: object, group_size: int | None) -> None:
    """Refuse batches of P identities x K images in which no image has both a positive and a negative: the triplet loss would be 0.

    Raises:
        ValueError: P or K is 1, or no group that is mined in holds two identities.
    """
    if not isinstance(data, IdentityBatches):
        return
    if data.p < 2 or data.k < 2:
        lack = "a negative" if data.p < 2 else "a positive"
        raise ValueError(
            f"batches of p={data.p} identities with k={data.k} images each hold no image with {lack}: the triplet loss would be 0"
            " throughout. Give the datamodule p and k of 2 or more"
        )
    if group_size is not None and group_size <= data.k:
        raise ValueError(
            f"groups of bn_group={group_size} hold images of one identity only, as k={data.k} of each follow one another: the triplet loss"
            " would be 0 throughout. Give a bn_group larger than k"
        )


def warn_of_no_triplets_first(batch: Any, batch_idx: int) -> None:
    """Say it where the first batch of an epoch has no image with both a positive and a negative.

    No refusal: a loader of the user's own may draw at random, and the next batch may have some.
    """
    if batch_idx == 0 and isinstance(batch, Mapping) and "pids" in batch and not has_triplets(batch["pids"]):
        logger.warning(
            "the first batch of this epoch holds %d images, none of which has both a positive and a negative: its triplet loss is 0. Draw"
            " several images of several people for each batch",
            len(batch["pids"]),
        )


def require_normalized_first(batch: Any, batch_idx: int) -> None:
    """``require_normalized`` of the first batch of an epoch: looking at each would hold up the device.

    Raises:
        ValueError: As there.
    """
    if batch_idx == 0:
        for pictures in _pictures(batch):
            require_normalized(pictures)


def _pictures(batch: Any) -> list[Tensor]:
    return [batch[name] for name in ("images", "clips") if name in batch] if isinstance(batch, Mapping) else []
