"""CPO: layer-by-layer filter pruning up to an expected drop of a metric, a state machine over epochs."""

from __future__ import annotations

import logging
from typing import Any, Literal, get_args

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number, require_text, require_texts
from lightning_reid.callbacks.epoch_ends import require_ended_epoch
from lightning_reid.callbacks.filter_pruning import FilterPruning
from lightning_reid.networks.channels.prunable import prunable_layer
from lightning_reid.networks.channels.residual_blocks import ResidualBlocks
from lightning_reid.pruning.cpo_search import CPOSearch
from lightning_reid.pruning.filter_criteria import removal_order
from lightning_reid.pruning.filter_search import FilterSearch
from lightning_reid.pruning.uniform_search import UniformSearch

logger = logging.getLogger(__name__)

SearchName = Literal["layer by layer", "uniform"]


class CPOPruning(FilterPruning):
    """Computation-Performance Optimization (thesis, chapter 5, algorithm 2).

    Each trial prunes the sparsest filters of one layer, retrains for ``retrain_epochs`` epochs and reads the metric off the validation at
    their end; the weights then go back to the last trial that was kept. It ends the fit itself, with the weights and the plan of what
    was kept: give the Trainer ``max_epochs=-1`` and a ``check_val_every_n_epoch`` that divides ``retrain_epochs``. Coupled layers are
    pruned together, by the mean sparsity of their filters; or as chapter 5 has it, see ``residual_blocks``. The optimizer keeps its state
    over the trials.

    Weights that were kept are retrained on by the trials that follow. So that this is not taken for a gain of pruning, the whole network
    is retrained beside them, once for each trial that is kept and once before the first: the drop is against the whole network retrained
    as often. The text's whole network does not gain by retraining: give its ``reference``.

    Logs ``prune/flops``, ``prune/params`` (shares left), ``prune/channels``, ``prune/drop``, ``prune/reference`` and ``prune/trial``
    after each trial; the history also has the layer, the factor and the verdict.

    Args:
        expected_drop: Largest tolerable drop of the metric, in its own units: 0.01 is a point of ``val/mAP``, a fraction in [0, 1].
        metric: Logged by validation; larger is better.
        retrain_epochs: Epochs of a trial.
        reference: Metric of the whole network, for all trials. ``None`` retrains and measures it, see above.
        search: ``"layer by layer"``; or ``"uniform"`` to compare with: one factor for all layers, found by bisection to 1/32.
        ignored: Groups of channels, by name, that are left alone; those that make the embedding, or the logits, always are.
        residual_blocks: ``"coupled"``: all layers that add to a residual sum lose the same channels, as in chapter 6. ``"zero-padded"``:
            section 5.4.4's rule, for ResNets. The last convolution of a block with an identity shortcut is left alone, those before it
            are pruned; a convolution in the shortcut is pruned by its own filters and its block's last one follows; the next block's
            shortcut is padded with zeros; the first convolution is left alone. What the text leaves open: ``zero_padded_groups``.
        network: See :class:`FilterPruning`.

    Attributes:
        references: Metric of the whole network after one retraining, two, and so on; empty where ``reference`` was given.

    Raises:
        ValueError: An argument is out of range (here); validations that do not fall on the end of a trial, or a checkpoint of the best
            ``metric``, which would hold other weights (when the fit begins); an ignored group that does not exist, or residual blocks
            that cannot be padded (with the first batch); a metric that validation does not log (with the first one); a checkpoint of
            another search.

    Example:
        >>> import pytorch_lightning as pl
        >>> from lightning_reid.callbacks import CPOPruning
        >>> pruning = CPOPruning(expected_drop=0.02, retrain_epochs=4)  # two points of val/mAP
        >>> trainer = pl.Trainer(accelerator="cpu", max_epochs=-1, check_val_every_n_epoch=4, callbacks=[pruning], logger=False)
        >>> pruning.metric, pruning.retrain_epochs % trainer.check_val_every_n_epoch
        ('val/mAP', 0)
    """

    def __init__(
        self,
        expected_drop: float,
        metric: str = "val/mAP",
        retrain_epochs: int = 8,
        reference: float | None = None,
        search: SearchName = "layer by layer",
        ignored: tuple[str, ...] = (),
        residual_blocks: ResidualBlocks = "coupled",
        network: str = "network",
    ) -> None:
        super().__init__(network=network)
        require_choice("residual_blocks", residual_blocks, get_args(ResidualBlocks))
        self.residual_blocks = residual_blocks
        require_choice("search", search, get_args(SearchName))
        require_number("expected_drop", expected_drop, low=0)
        require_count("retrain_epochs", retrain_epochs)
        require_text("metric", metric)
        require_texts("ignored", ignored)
        require_number("reference", reference, optional=True)
        self.expected_drop, self.metric, self.retrain_epochs = expected_drop, metric, retrain_epochs
        self.reference, self.ignored = reference, tuple(ignored)
        self.search_name: SearchName = search
        self.search: FilterSearch | None = None
        self._search_state: dict[str, Any] = {}
        self.references: list[float] = []
        self._whole: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}
        self._kept_channels: dict[str, Tensor] = {}
        self._epochs = 0
        self._finished_epochs: int | None = None

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_fit_start(trainer, pl_module)
        every = trainer.check_val_every_n_epoch
        if every is None or self.retrain_epochs % every:
            raise ValueError(f"check_val_every_n_epoch={every} does not divide retrain_epochs={self.retrain_epochs}: trials end unmeasured")
        for saving in trainer.checkpoint_callbacks:
            if getattr(saving, "monitor", None) == self.metric:
                raise ValueError(
                    f"a checkpoint of the best {self.metric} would hold the next trial's weights, as a trial begins where the one before it"
                    " was measured: give ModelCheckpoint no monitor, what was kept is in every checkpoint"
                )

    @override
    def check(self) -> None:
        unknown = set(self.ignored) - set(self.masks.groups)
        if unknown:
            raise ValueError(f"there is no group of channels {sorted(unknown)[0]!r} to ignore, there are {', '.join(self.masks.groups)}")

    @override
    def _begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super()._begin(trainer, pl_module)
        network = self.masks.network
        groups = {name: group for name, group in self.masks.groups.items() if name not in self.ignored}
        layers = [prunable_layer(network, group, groups) for group in groups.values()]
        self.search = (CPOSearch if self.search_name == "layer by layer" else UniformSearch)(layers, self.expected_drop)
        if self._search_state:
            self.search.load_state_dict(self._search_state)
        else:
            self._keep(pl_module)
            self._whole = {} if self.reference is not None else self._kept
            self._start_trial(pl_module)

    @property
    def retrains_whole(self) -> bool:
        """Whether the next trial prunes nothing: the whole network has been retrained less often than what it is to be compared with."""
        over = self.search is not None and self.search.trial is None
        kept = sum(row["verdict"] == "keep" for row in self.history)
        return self.reference is None and len(self.references) <= kept and not over

    def _keep(self, pl_module: pl.LightningModule) -> None:
        self._kept = copied_weights(pl_module)
        self._kept_channels = {name: mask.clone() for name, mask in self.masks.keep.items()}

    def _start_trial(self, pl_module: pl.LightningModule) -> None:
        """From the weights that were kept, with the masks of what is tried, or of what was found where the search is over."""
        assert self.search is not None
        if self.retrains_whole:
            pl_module.load_state_dict(self._whole)
            self.masks.set({name: torch.ones_like(mask) for name, mask in self._kept_channels.items()})
            return
        pl_module.load_state_dict(self._kept)
        keep = dict(self._kept_channels)
        for layer, gone in self.search.removals.items():
            keep[layer] = torch.ones_like(keep[layer])
            keep[layer][removal_order(self.makers(layer), ~self._kept_channels[layer])[:gone]] = False
        self.masks.set(keep)
        self.masks.silence()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: dict[str, Any], batch_idx: int
    ) -> None:
        self.masks.silence()

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        require_ended_epoch(trainer, self, self._finished_epochs)
        if trainer.ckpt_path is None:
            self._finished_epochs = 0
        super().on_train_start(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._finished_epochs = trainer.current_epoch + 1

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        if self.search is not None and not self.done:
            logger.warning(
                "the fit ended after %d trials, within the search: weights and plan are those of the trial that was begun, not of what was"
                " kept. Go on from the last checkpoint, with max_epochs=-1",
                len(self.history),
            )

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epochs += 1

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or self.search is None or self._epochs < self.retrain_epochs:
            return
        self._epochs = 0
        value = self._measure(trainer)
        if self.retrains_whole:
            self.references.append(value)
            self._whole = copied_weights(pl_module)
        else:
            self._judge(trainer, pl_module, self.references[-1] if self.reference is None else self.reference, value)
        self._start_trial(pl_module)
        if self.search.trial is None:
            self.done = trainer.should_stop = True

    def _measure(self, trainer: pl.Trainer) -> float:
        if self.metric not in trainer.callback_metrics:
            logged = ", ".join(sorted(trainer.callback_metrics))
            raise ValueError(f"validation logs no {self.metric!r}: give metric= one of {logged}")
        # a metric that a module forgot to reduce must not send the ranks different ways
        return float(trainer.strategy.broadcast(float(trainer.callback_metrics[self.metric])))

    def _judge(self, trainer: pl.Trainer, pl_module: pl.LightningModule, reference: float, value: float) -> None:
        assert self.search is not None
        assert self.search.trial is not None
        trial, probing, tried = self.search.trial, self.search.probing, self.channels_left()
        shares = self.shares_left()
        drop = reference - value
        verdict = self.search.report(drop)
        if verdict == "keep":
            self._keep(pl_module)
        row = {"trial": len(self.history) + 1, "layer": trial.layer, "factor": trial.factor, "probe": probing, "verdict": verdict}
        row |= {"drop": drop, "reference": reference, **shares, "channels": sum(tried.values())}
        self.tell(trainer.loggers, trainer.global_step, row)

    @override
    def state_dict(self) -> dict[str, Any]:
        search = self._search_state if self.search is None else self.search.state_dict()
        kept = {"weights": self._kept, "channels": self._kept_channels}
        return super().state_dict() | {
            "search_name": self.search_name,
            "metric": self.metric,
            "retrain_epochs": self.retrain_epochs,
            "residual_blocks": self.residual_blocks,
            "search": search,
            "kept": kept,
            "epochs": self._epochs,
            "finished_epochs": self._finished_epochs,
            "reference": self.reference,
            "references": list(self.references),
            "whole": self._whole,
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        theirs = state_dict["search_name"]
        if theirs != self.search_name:
            raise ValueError(f"the checkpoint is of a search {theirs!r}, this callback's is {self.search_name!r}: give search={theirs!r}")
        rule = state_dict.get("residual_blocks", "coupled")  # older checkpoints do not tell
        if rule != self.residual_blocks:
            raise ValueError(
                f"the checkpoint prunes residual blocks {rule!r}, this callback {self.residual_blocks!r}: give residual_blocks={rule!r}"
            )
        for name in ("metric", "retrain_epochs"):
            theirs, ours = state_dict.get(name, getattr(self, name)), getattr(self, name)
            if theirs != ours:
                raise ValueError(f"the checkpoint's trials have {name}={theirs!r}, this callback has {ours!r}: give {name}={theirs!r}")
        if self.reference is not None and state_dict["reference"] != self.reference:
            theirs = state_dict["reference"]
            raise ValueError(f"the checkpoint's drops are against reference={theirs!r}, this callback has {self.reference!r}: give theirs")
        self._search_state, self._epochs = dict(state_dict["search"]), int(state_dict["epochs"])
        self._kept, self._kept_channels = dict(state_dict["kept"]["weights"]), dict(state_dict["kept"]["channels"])
        self.reference, self._finished_epochs = state_dict["reference"], state_dict.get("finished_epochs")
        # a search of an older checkpoint goes on by the one reference that it measured, of the network that nothing was taken from yet
        self.references, self._whole = list(state_dict.get("references", ())), dict(state_dict.get("whole", self._kept))


def copied_weights(module: pl.LightningModule) -> dict[str, Tensor]:
    """All of a module's state, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
