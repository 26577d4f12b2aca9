"""The base of all re-ID modules: embeddings of a batch, optimizers, scores."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.data import sized_len
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number
from lightning_reid.metrics import ProtocolStamp, RetrievalMetrics, RetrievalScores
from lightning_reid.metrics.matching import ProtocolName
from lightning_reid.metrics.scores import AveragePrecisionRule
from lightning_reid.modules.refusals import (
    is_being_fitted,
    require_normalized_first,
    require_scorable,
    require_several,
    require_trainable_precision,
    require_triplets,
    warn_of_no_triplets_first,
)
from lightning_reid.modules.resumed import check_loops, check_resumed, named, told_anew
from lightning_reid.modules.saved_parts import saved_groups
from lightning_reid.modules.schedule import EpochFactor
from lightning_reid.modules.sharded_fit import callbacks_of_sharding, shard_over_processes
from lightning_reid.modules.step_draws import StepDraws
from lightning_reid.networks import ChannelPlan, EmbeddingNetwork, materialize
from lightning_reid.networks.archives import require_whole
from lightning_reid.networks.backbones import Backbone
from lightning_reid.networks.embedding_network import EmbeddingOutput
from lightning_reid.networks.memory_layout import in_fast_layout
from lightning_reid.networks.sharding import is_sharded
from lightning_reid.networks.told_architecture import check_told_checkpoint
from lightning_reid.networks.told_building import built_from
from lightning_reid.networks.told_tensors import check_fitting
from lightning_reid.networks.weights import read_checkpoint
from lightning_reid.protocols import EvaluatedData, ResizedData

logger = logging.getLogger(__name__)

OptimizerName = Literal["sgd", "adam"]
MOST_MILESTONES = 1000
"""They are counted anew in every epoch."""
OF_LIGHTNING = {"map_location", "hparams_file", "strict", "weights_only"}
"""Options of ``load_from_checkpoint`` that say nothing of what is built."""


class ReIDModule(pl.LightningModule, ABC):
    """An embedding network that can be validated, tested and asked for embeddings; what a batch holds and how one learns is its children's.

    Evaluation batch: what ``embed_batch`` takes, and ``pids``, ``camids``, ``indices`` ``[B]`` int64, ``is_query [B]`` bool, optionally
    ``second_pids [B]`` int64.
    Logs ``val/mAP``, ``val/R1``, ``val/R5``, ``val/R10``, ``val/mINP`` (``test/...`` when testing) an epoch, fractions in [0, 1], and
    ``val/unmatched_queries``, how many queries have no match in the gallery and are not scored. An evaluation of a part of the batches
    (``limit_val_batches``) is not scored, and says so.

    What a training step draws from torch's global generators follows from (seed, epoch, batch, rank), so that a resumed run draws what an
    unbroken one draws; the seed is the latest that torch was given when the fit began, and a resumed fit goes on with that one. A child
    that overrides ``on_fit_start``, ``on_train_start``, ``on_train_batch_start`` or ``on_train_batch_end`` calls them here too.

    Attributes:
        mines_triplets: Whether a training step mines triplets by ``pids``, and needs batches that hold some.
        one_pass_a_step: Whether a training step embeds the images or clips of its batch once, and learns from that alone: what a pipeline
            of processes can compute.
        can_be_sharded: Whether Lightning's ``ModelParallelStrategy`` may divide its parts over processes: it uses their parameters only
            by calling them.
        unsaved_arguments: Of the constructor, that a checkpoint does not hold: it brings its own weights.
        channel_plan: Which channels the network kept when it was made smaller; ``None`` for one of full width.
        lr_factor: What the learning rates of a fit are multiplied by, throughout: a federation's rounds decay so.

    Args:
        network: Of images or of clips.
        optimizer: ``"sgd"`` (momentum 0.9) or ``"adam"``.
        lr: Learning rate.
        weight_decay: L2 penalty of all parameters.
        milestones: Epochs after which the learning rate is multiplied by 0.1, at most 1000.
        warmup_epochs: The learning rate grows linearly over so many epochs.
        metric: ``"cosine"`` or ``"euclidean"`` distance of the scores.
        rerank: Score after k-reciprocal re-ranking.
        protocol: Which gallery entries count: ``"market"``, ``"mars"`` and others, see ``Matching``.
        ap: Average precision by ``"step"``, or by ``"trapezoid"`` as in older papers, which gives one to two points less.

    Raises:
        ValueError: An argument is of another kind or out of range; it is named.

    Example:
        >>> import torch
        >>> from lightning_reid.modules import ReIDModule, SupervisedReID
        >>> tiny = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
        >>> model = SupervisedReID(num_classes=4, rerank=True, **tiny)
        >>> isinstance(model, ReIDModule), model.retrieval.rerank
        (True, True)
        >>> model.embed_batch({"images": torch.rand(2, 3, 64, 32)}).embedding.shape
        torch.Size([2, 16])
    """

    mines_triplets: ClassVar[bool] = False
    one_pass_a_step: ClassVar[bool] = False
    can_be_sharded: ClassVar[bool] = False
    unsaved_arguments: ClassVar[tuple[str, ...]] = ("network", "pretrained", "weights")
    lr_factor: float = 1.0
    _seed_before: int | None = None
    _resumed: Mapping[str, Any] | None = None

    def __init__(
        self,
        network: EmbeddingNetwork,
        *,
        optimizer: OptimizerName = "adam",
        lr: float = 3.5e-4,
        weight_decay: float = 5e-4,
        milestones: list[int] | None = None,
        warmup_epochs: int = 0,
        metric: Literal["cosine", "euclidean"] = "cosine",
        rerank: bool = False,
        protocol: ProtocolName = "market",
        ap: AveragePrecisionRule = "step",
    ) -> None:
        super().__init__()
        require_choice("optimizer", optimizer, get_args(OptimizerName))
        require_number("lr", lr, above=0)
        require_number("weight_decay", weight_decay, low=0)
        require_count("warmup_epochs", warmup_epochs, low=0)
        require_count("the number of milestones", len(milestones or ()), low=0, high=MOST_MILESTONES)
        for milestone in milestones or ():
            require_count("milestones", milestone, low=0)
        # where the first weights came from must not be looked up again when a checkpoint is loaded
        self.save_hyperparameters(ignore=self.unsaved_arguments)
        self.network = in_fast_layout(network)
        self.retrieval = RetrievalMetrics(metric=metric, rerank=rerank, protocol=protocol, ap=ap)
        self.last_scores: RetrievalScores | None = None
        self.channel_plan: ChannelPlan | None = None
        self._draws, self._seed = StepDraws(), 0

    @property
    def backbone(self) -> Backbone:
        """The network up to its feature map: what Lightning's ``BackboneFinetuning`` freezes at first."""
        return self.network.backbone

    @override
    def setup(self, stage: str) -> None:
        """Refuse what could not be right, and build what the data decide.

        It is built here already, and ``configure_model``, which Lightning calls next, finds it done: there tensors are made on the device
        and in the precision of the Trainer, and the same seed would give other weights on each.

        Raises:
            ValueError: The Trainer's precision or strategy, batches without a triplet, or the labels that scores are taken by.
        """
        if stage == "fit":
            require_trainable_precision(self.trainer)
            if self.mines_triplets:
                require_triplets(getattr(self.trainer, "datamodule", None), self.hparams.get("bn_group"))
        require_scorable(self.trainer, stage, self.retrieval)
        self.configure_model()
        shard_over_processes(self, allowed=self.can_be_sharded)

    @override
    def configure_callbacks(self) -> list[pl.Callback]:
        return callbacks_of_sharding(self.trainer)

    def materialize(self, plan: ChannelPlan) -> None:
        """Make the network as small as ``plan`` says; from then on checkpoints hold the plan, and load by themselves.

        Between fits only: an optimizer, or DDP, would go on with the old parameters.

        Raises:
            ValueError: The network was made smaller before or is divided over processes, or the plan is of another network.
        """
        if self.channel_plan is not None:
            raise ValueError("the network was made smaller before: a plan is for the network of full width")
        if is_sharded(self.network):
            raise ValueError("the network is divided over processes: load_from_checkpoint gives one that can be made smaller")
        self.network = in_fast_layout(materialize(self.network, plan))
        self.channel_plan = plan

    @abstractmethod
    def embed_batch(self, batch: dict[str, Tensor]) -> EmbeddingOutput:
        """Embed what a batch holds, one row for each of its ``pids``."""

    def protocol_stamp(self, data: EvaluatedData) -> ProtocolStamp:
        """What this module's scores on ``data`` must be read with."""
        return replace(
            data.protocol_stamp(),
            protocol=self.retrieval.protocol,
            ap=self.retrieval.ap,
            metric=self.retrieval.metric,
            reranked=self.retrieval.rerank,
        )

    @classmethod
    @override
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **options: Any) -> Self:
        """Load a module as Lightning does, of a file that is whole and asks for a network and no more.

        Args:
            checkpoint_path: File, or what else Lightning reads, which is not looked at before.
            args: See Lightning.
            options: See Lightning; ``weights_only`` is true unless it is given, so that no code of the file is run.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is damaged, is no checkpoint, or would have something else built or loaded than a network; it is named.
        """
        options.setdefault("weights_only", True)
        if isinstance(checkpoint_path, (str, Path)) and "://" not in str(checkpoint_path):
            require_whole(checkpoint_path)
            if options["weights_only"]:
                content = read_checkpoint(checkpoint_path)
                check_told_checkpoint(content, checkpoint_path)
                with built_from(checkpoint_path, content, told_alone=not args and set(options) <= OF_LIGHTNING):
                    return super().load_from_checkpoint(checkpoint_path, *args, **options)
        module: Self = super().load_from_checkpoint(checkpoint_path, *args, **options)
        return module

    @override
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load tensors as torch does, none of which is of another shape, or of whole numbers where the module has none.

        Raises:
            ValueError: One is; it is named, and nothing was loaded.
            RuntimeError: See torch.
        """
        check_fitting(self.state_dict(), state_dict)
        return super().load_state_dict(state_dict, strict, assign)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add ``image_size``, without which nobody can embed further images as those of the training were, and the channel plan."""
        checkpoint["step_seed"] = self._seed
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, ResizedData):
            checkpoint["image_size"] = list(data.image_size)
        if self.channel_plan is not None:
            checkpoint["channel_plan"] = self.channel_plan.as_tensors()

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the network as small as the checkpoint's, and look at what a resumed fit is to go on with."""
        self._seed_before = checkpoint.get("step_seed")
        require_count("step_seed of the checkpoint", self._seed_before, low=0, high=2**64 - 1, optional=True)
        if is_being_fitted(self) and self.trainer.ckpt_path is not None:  # not where a client goes back to its own state
            self._resumed = {name: checkpoint[name] for name in ("optimizer_states", "lr_schedulers") if name in checkpoint}
            with named(self.trainer.ckpt_path):
                check_loops(checkpoint)
            difference = told_anew(checkpoint, self.hparams)
            if difference:
                logger.warning("%s %s", self.trainer.ckpt_path, difference)
        else:
            saved_groups(checkpoint)
        if "channel_plan" in checkpoint and self.channel_plan is None:
            self.materialize(ChannelPlan.from_tensors(checkpoint["channel_plan"]))
        if self._resumed and is_sharded(self):  # Lightning restores it last of all: on_fit_start was before
            self._check_resumed()

    @override
    def on_fit_start(self) -> None:
        self._check_resumed()

    def _check_resumed(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed:
            with named(self.trainer.ckpt_path):
                check_resumed(resumed, self.trainer.optimizers, [config.scheduler for config in self.trainer.lr_scheduler_configs])

    @override
    def on_train_start(self) -> None:
        before = None if self.trainer.ckpt_path is None else self._seed_before  # not of a checkpoint that only gave its weights
        # not PL_GLOBAL_SEED: torch.manual_seed(1) after pl.seed_everything(0) means 1
        self._seed = torch.initial_seed() if before is None else before

    @override
    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        require_several(batch)
        require_normalized_first(batch, batch_idx)
        if self.mines_triplets:
            warn_of_no_triplets_first(batch, batch_idx)
        self._draws.begin(self.device, self._seed, self.current_epoch, batch_idx, self.global_rank)

    @override
    def on_train_batch_end(self, outputs: Any, batch: dict[str, Any], batch_idx: int) -> None:
        self._draws.end()

    @override
    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """``embeddings [B, D]`` of a batch, not L2-normalized, with the ``indices`` and ``is_query`` ``[B]`` that say whose they are."""
        require_normalized_first(batch, batch_idx)
        return {"embeddings": self.embed_batch(batch).embedding, "indices": batch["indices"], "is_query": batch["is_query"]}

    @override
    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        require_normalized_first(batch, batch_idx)
        embeddings = self.embed_batch(batch).embedding
        rows = (batch["pids"], batch["camids"], batch["indices"], batch["is_query"], batch.get("second_pids"))
        self.retrieval.update(embeddings, *rows)
        return {"embeddings": embeddings, "indices": batch["indices"], "is_query": batch["is_query"]}

    @override
    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self.validation_step(batch, batch_idx)

    @override
    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    @override
    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        if self._evaluates_in_part(stage):
            # no warning of Python, which is shown once a process: the second evaluation would be left out without a word
            told = "%s/ scores are left out: a part of the queries or of the gallery says nothing (limit_%s_batches, fast_dev_run)"
            logger.log(logging.WARNING if self.trainer.is_global_zero else logging.DEBUG, told, stage, stage)
        elif not self.trainer.sanity_checking:
            self.log_dict({f"{stage}/{name}": value for name, value in self.retrieval.compute().items()}, prog_bar=True)
            self.last_scores = self.retrieval.scores()
            self.log(f"{stage}/unmatched_queries", float(self.last_scores.num_unmatched_queries))
        self.retrieval.reset()

    def _evaluates_in_part(self, stage: str) -> bool:
        """Whether ``limit_val_batches``, ``fast_dev_run`` or the like leave batches out."""
        test = stage == "test"
        batches = self.trainer.num_test_batches if test else self.trainer.num_val_batches
        loaders: Any = self.trainer.test_dataloaders if test else self.trainer.val_dataloaders
        listed = loaders if isinstance(loaders, list | tuple) else [loaders]
        whole = [sized_len(loader) for loader in listed]  # None of a stream, whose end nobody knows
        return not self.trainer.sanity_checking and any(size is not None and some < size for some, size in zip(batches, whole))

    @override
    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        options = {"lr": self.hparams["lr"], "weight_decay": self.hparams["weight_decay"]}
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        sgd = self.hparams["optimizer"] == "sgd"
        optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(parameters, momentum=0.9, **options) if sgd else torch.optim.Adam(parameters, **options)
        )
        return {"optimizer": optimizer, "lr_scheduler": EpochFactor(optimizer, self._lr_factor)}

    def _lr_factor(self, epoch: int) -> float:
        warmup = self.hparams["warmup_epochs"]
        factor = min(1.0, (epoch + 1) / (warmup + 1))
        return float(self.lr_factor * factor * 0.1 ** sum(epoch >= milestone for milestone in self.hparams["milestones"] or ()))
