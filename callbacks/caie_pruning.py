"""CAIE: global filter pruning under constraints, a few channels after every few batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number, require_switch, shown
from lightning_reid.callbacks.filter_pruning import FilterPruning, forget_momentum
from lightning_reid.networks.channels.activation_memory import ActivationMemory
from lightning_reid.networks.channels.groups import ChannelGroup
from lightning_reid.networks.channels.latency import measure_latencies, network_latency
from lightning_reid.pruning import constraint_aware_importance, loss_impact
from lightning_reid.pruning.channel_selection import least_important, least_important_in_turn, protected_channels
from lightning_reid.pruning.filter_criteria import channel_norms, ranks_in_group
from lightning_reid.pruning.loss_impact import CoupledImpact, RunningImpact, layer_score
from lightning_reid.pruning.resource_impact import effective_resource_impact, pruning_objective, resource_impact

Importance = Literal["constraint-aware", "loss", "l1", "uniform"]
RESOURCES = ("flops", "params", "latency", "peak_memory")


class CAIEPruning(FilterPruning):
    """Constraint-Aware Importance Estimation (thesis, chapter 6, algorithm 3).

    Each batch's gradients both train the network and, averaged over ``batches_per_step`` batches, tell what the loss would suffer from
    each channel's removal. Divided by what the removal frees of the resources that are still over their constraints, that is a channel's
    importance; the least important channels of all groups go together. When every constraint holds, the fit is stopped: materialize
    the smaller network and fine-tune it.

    Logs ``prune/flops``, ``prune/params`` and what else is constrained (shares left, in (0, 1]), ``prune/channels``, ``prune/impact`` (of
    what went) and ``prune/step`` after each step; the history also has the channels that each group was left.

    Args:
        constraints: Share of ``"flops"`` (multiply-adds), ``"params"``, ``"latency"`` and ``"peak_memory"`` that may be left, each in
            (0, 1]. Latency is the sum over convolutions and linear layers, timed at some widths where the network runs before the first
            step. Peak memory is the most bytes of activations that an inference pass of one input holds at once, see
            ``ActivationMemory``; with it the channels of a step go one after another, each by what is at the peak then.
        filters_per_step: m, channels of groups that go in a step; a channel that several coupled layers share counts once.
        batches_per_step: n, batches between two steps.
        importance: ``"constraint-aware"``; or, to compare with, ``"loss"`` (the loss impact alone), ``"l1"`` (norm of the filters) or
            ``"uniform"`` (the same share of each group, smallest norm first).
        coupled: How scores of coupled layers become one impact, see ``loss_impact``.
        min_channel_ratio: Share of a group's channels that always stay, at least one of them.
        keep_momentum: Keep what the optimizer knows over the steps; the public code makes a new one after each.
        stop: Stop the fit when every constraint holds; else it goes on, masked, to its last epoch.
        network: See :class:`FilterPruning`.

    Raises:
        ValueError: An argument is out of range (here); constraints that hold already or cannot be reached, or a network that cannot be
            traced (with the first batch).

    Example:
        >>> from lightning_reid.callbacks import CAIEPruning
        >>> pruning = CAIEPruning({"flops": 0.5, "params": 0.6}, filters_per_step=8)  # pl.Trainer(callbacks=[pruning]); then materialize
        >>> pruning.done, pruning.history  # before the fit
        (False, [])
        >>> CAIEPruning({"flops": 50})
        Traceback (most recent call last):
            ...
        ValueError: constraints['flops'] must be a number in (0, 1], got 50
    """

    def __init__(
        self,
        constraints: dict[str, float],
        filters_per_step: int = 25,
        batches_per_step: int = 30,
        importance: Importance = "constraint-aware",
        coupled: CoupledImpact = "square of sum",
        min_channel_ratio: float = 0.1,
        keep_momentum: bool = False,
        stop: bool = True,
        network: str = "network",
    ) -> None:
        super().__init__(stop=stop, network=network)
        if not isinstance(constraints, Mapping) or not constraints or not set(constraints) <= set(RESOURCES):
            raise ValueError(f"constraints are shares in (0, 1] of {', '.join(RESOURCES)}, got {shown(constraints)}")
        for resource, share in constraints.items():
            require_number(f"constraints[{resource!r}]", share, above=0, high=1)
        require_count("filters_per_step", filters_per_step)
        require_count("batches_per_step", batches_per_step)
        require_number("min_channel_ratio", min_channel_ratio, above=0, below=1)
        require_choice("importance", importance, get_args(Importance))
        require_choice("coupled", coupled, get_args(CoupledImpact))
        require_switch("keep_momentum", keep_momentum)
        self.constraints = dict(constraints)
        self.filters_per_step, self.batches_per_step, self.min_channel_ratio = filters_per_step, batches_per_step, min_channel_ratio
        self.importance, self.coupled = importance, coupled
        self.keep_momentum = keep_momentum
        self.running = RunningImpact()
        self._latencies: dict[str, Tensor] = {}
        self._activations: ActivationMemory | None = None

    @override
    def measure(self, trainer: pl.Trainer, network: nn.Module, input_shape: tuple[int, ...]) -> None:
        if "latency" in self.constraints and not self._latencies:
            # clocks differ between processes, and must not send them different ways
            self._latencies = trainer.strategy.broadcast(measure_latencies(network, input_shape) if trainer.is_global_zero else {})
        if "peak_memory" in self.constraints:
            self._activations = ActivationMemory(network, self.costs.groups, input_shape)

    @override
    def consumption(self, left: dict[str, int]) -> dict[str, float]:
        latency = {"latency": network_latency(self._latencies, self.costs.widths(left))} if self._latencies else {}
        peak = {"peak_memory": float(self._activations(left))} if self._activations is not None else {}
        return super().consumption(left) | latency | peak

    @override
    def check(self) -> None:
        least = {group.name: protected_channels(group.size, self.min_channel_ratio) for group in self.costs.groups}
        full, reachable = self.consumption(self.costs.full), self.consumption(least)
        for name, share in self.constraints.items():
            if reachable[name] / full[name] > share:
                raise ValueError(
                    f"{name} cannot be brought to {share:g} of the whole: with min_channel_ratio={self.min_channel_ratio:g} at least"
                    f" {reachable[name] / full[name]:.3f} of it is left"
                )
        if self._met():
            raise ValueError(f"every constraint of {self.constraints} holds already: there is nothing to prune")

    def _met(self) -> bool:
        left = self.shares_left()
        return all(left[name] <= share for name, share in self.constraints.items())

    @override
    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        if self.done:
            return
        impacts = {name: self._impact(self.masks.network, group) for name, group in self.masks.groups.items()}
        if trainer.precision == "16-mixed" and not all(bool(impact.isfinite().all()) for impact in impacts.values()):
            return  # an overflow, for which the gradient scaler skips this step of the optimizer too
        self.running.update(impacts)

    def _impact(self, network: nn.Module, group: ChannelGroup) -> Tensor:
        scores = [layer_score(network.get_submodule(gate.name))[gate.channels].sum(1) for gate in group.gates]
        return loss_impact(scores, self.coupled)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: dict[str, Any], batch_idx: int
    ) -> None:
        self.masks.silence()
        if self.done or self.running.num_batches < self.batches_per_step:
            return
        self.done = self._prune(trainer)
        if not self.keep_momentum:
            for optimizer in trainer.optimizers:
                forget_momentum(optimizer)
        if self.done and self.stop:
            trainer.should_stop = True

    def _prune(self, trainer: pl.Trainer) -> bool:
        """One step; whether every constraint holds now."""
        before, impacts = dict(self.masks.keep), self.running.values
        keep = self._chosen(before)
        removed = {name: before[name] & ~mask for name, mask in keep.items()}
        if not any(bool(mask.any()) for mask in removed.values()):
            raise RuntimeError(f"no channel is left that may go, but {self.shares_left()} of the resources are, against {self.constraints}")
        impact = sum(float(impacts[name][mask.to(impacts[name].device)].sum()) for name, mask in removed.items())
        self.masks.set(keep)
        self.masks.silence()
        self.running.restart()
        left = self.channels_left()
        row = {"step": len(self.history) + 1, **self.shares_left(), "channels": sum(left.values()), "impact": impact, "left": left}
        self.tell(trainer.loggers, trainer.global_step, row)
        return self._met()

    def _chosen(self, keep: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The channels that stay after this step."""
        if self.importance == "constraint-aware" and self._activations is not None:
            impacts = {name: impact.cpu() for name, impact in self.running.values.items()}
            return least_important_in_turn(impacts, keep, self.filters_per_step, self._effective, min_channel_ratio=self.min_channel_ratio)
        return least_important(self._importances(), keep, self.filters_per_step, min_channel_ratio=self.min_channel_ratio)

    def _effective(self, channels: Mapping[str, int]) -> dict[str, float]:
        """By group, ``r_e`` of its channels with so many left; empty where every constraint holds."""
        left, objective = self._left_and_objective(channels)
        if not any(objective.values()):
            return {}
        frees = {name: self._frees(name, channels, left) for name in channels}
        wanted = list(objective.values())
        return {name: effective_resource_impact([freed[resource] for resource in objective], wanted) for name, freed in frees.items()}

    def _left_and_objective(self, channels: Mapping[str, int]) -> tuple[dict[str, float], dict[str, float]]:
        """What is left of each resource, and the share of it that is still to go."""
        full, left = self.consumption(self.costs.full), self.consumption(dict(channels))
        return left, pruning_objective(left, {name: share * full[name] for name, share in self.constraints.items()})

    def _importances(self) -> Mapping[str, Tensor]:
        if self.importance in ("l1", "uniform"):
            norms = {name: channel_norms(self.makers(name), ~self.masks.keep[name]) for name in self.masks.groups}
            return norms if self.importance == "l1" else {name: ranks_in_group(norm) for name, norm in norms.items()}
        impacts = {name: impact.cpu() for name, impact in self.running.values.items()}
        if self.importance == "loss":
            return impacts
        channels = self.channels_left()
        left, objective = self._left_and_objective(channels)
        return constraint_aware_importance(impacts, {name: self._frees(name, channels, left) for name in impacts}, objective)

    def _frees(self, group: str, channels: Mapping[str, int], left: Mapping[str, float]) -> dict[str, float]:
        """Share of each resource that one channel less would free; of the peak, what it holds there."""
        without = self.consumption({**channels, group: channels[group] - 1})
        if self._activations is not None:
            without["peak_memory"] = left["peak_memory"] - self._activations.of_a_channel(channels)[group]
        return {name: resource_impact(left[name], without[name]) for name in self.constraints}

    @override
    def state_dict(self) -> dict[str, Any]:
        running = {"values": dict(self.running.values), "num_batches": self.running.num_batches}
        return super().state_dict() | {"running": running, "latencies": self._latencies}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._latencies = dict(state_dict["latencies"])
        self.running.values = dict(state_dict["running"]["values"])
        self.running.num_batches = int(state_dict["running"]["num_batches"])
