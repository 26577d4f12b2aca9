"""A module whose network is cut over processes, from the cut until it is whole again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer

from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.networks.recorded_batch_norm import RecordedBatchNorm, record_batch_norm
from lightning_reid.networks.units import Unit
from lightning_reid.pipeline.pipeline import Pipeline, PipelinePlan, ScheduleName
from lightning_reid.pipeline.pipelined_network import PipelinedNetwork
from lightning_reid.pipeline.placement import Placement
from lightning_reid.pipeline.shared_answers import SharedAnswers
from lightning_reid.pipeline.training_step import Mining, PipelinedStep
from lightning_reid.protocols import SharesAnswers

PREFIX = "network."
"""Of the network's tensors, among a module's."""


class SplitModule:
    """A module whose network is cut: this process holds some stages, and the neck and classifier that all have.

    Args:
        module: Its ``network`` is whole.
        stages: Units of each stage; stage s is of process s modulo the processes of a pipeline.
        mesh: ``("data", "stage")``: pipelines of processes.
        microbatches: M.
        schedule: See ``PipelineStrategy``, as ``mining`` and ``checkpoint_activations``.
        mining: What a loss sees at once.
        checkpoint_activations: Whether activations are computed again in the backward pass.
        device: Where this process computes.

    Attributes:
        pipeline: Computes the network.
        stage_parameters: Of the stages here, whether they learn at the moment or not.
        group: The processes of this pipeline.
    """

    def __init__(
        self,
        module: pl.LightningModule,
        stages: Sequence[Sequence[Unit]],
        *,
        mesh: DeviceMesh,
        microbatches: int,
        schedule: ScheduleName,
        mining: Mining,
        checkpoint_activations: bool,
        device: torch.device,
    ) -> None:
        self.module, self.group, self._data_group = module, mesh.get_group("stage"), mesh.get_group("data")
        self._stage_names = [f"{units[0].name} to {units[-1].name}" for units in stages]
        self.whole: EmbeddingNetwork = module.network  # type: ignore[assignment]
        size = dist.get_world_size(self.group)
        self._placement = Placement(module, PREFIX, stages, [number % size for number in range(len(stages))], self.group)
        self._placement.cut()
        self.records = record_batch_norm(self.whole)
        if isinstance(self.whole.neck, RecordedBatchNorm) and mining == "batch":
            self.whole.neck.num_groups = microbatches  # it sees the whole batch, of which each micro-batch is normalized by itself
        ends = [0, *(sum(len(units) for units in stages[: number + 1]) for number in range(len(stages)))]
        ranges = tuple(range(start, end) for start, end in pairwise(ends))
        plan = PipelinePlan(ranges, microbatches, schedule, self.records.paused if checkpoint_activations else None)
        self.pipeline = Pipeline(self.whole, plan, self.group, device)
        network = PipelinedNetwork(self.whole, self.pipeline)
        self._network = network.train(self.whole.training)
        module.network = self._network
        self.stage_parameters = [one for name, one in self._own() if not self._placement.is_shared(name)]
        answers = self._share_answers()
        self.training_step = PipelinedStep(module, network, self.records, self.stage_parameters, mining, answers, self._other_pipelines())

    def _own(self) -> Iterable[tuple[str, nn.Parameter]]:
        return ((name, one) for name, one in self.module.named_parameters() if self._placement.mine(name))

    def _share_answers(self) -> SharedAnswers:
        module, is_last = self.module, self.pipeline.is_last
        expected = isinstance(module, SharesAnswers) and module.asks_teacher
        answers = SharedAnswers(asks=is_last, source=self.pipeline.last_rank, group=self.group, expected=expected)
        if isinstance(module, SharesAnswers):
            self._asked_before = module.answered_by
            module.answered_by, module.answered_elsewhere = answers, not is_last
        return answers

    def _other_pipelines(self) -> dist.ProcessGroup | None:
        return self._data_group if dist.get_world_size(self._data_group) > 1 else None

    def average_gradients(self) -> None:
        """Over pipelines the gradients of the stages here; over all processes those of what all have, which keeps it the same."""
        shared = [one.grad for name, one in self.module.named_parameters() if self._placement.is_shared(name) and one.grad is not None]
        averaged(shared, dist.group.WORLD)
        averaged([one.grad for one in self.stage_parameters if one.grad is not None], self._data_group)

    def state_dict(self) -> dict[str, Any]:
        """Tensors of the unsplit module, under its names and in its order; on other processes than the first, those here."""
        state = self.module.state_dict()
        if not self._is_first_pipeline():
            return state
        mine = {name: tensor.cpu() for name, tensor in state.items() if self._tells(name)}
        gathered = self._placement.gathered(mine)
        return state if gathered is None else {name: gathered[name] for name in state}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """An optimizer's state, with that of the other stages on the first process."""
        state = optimizer.state_dict()
        if not self._is_first_pipeline():
            return state
        names = self._numbers(optimizer)
        gathered = self._placement.gathered({number: one for number, one in state["state"].items() if self._tells(names[number])})
        return state if gathered is None else {**state, "state": dict(sorted(gathered.items()))}

    def gather_optimizer(self, optimizer: Optimizer) -> None:
        """Let the first process' optimizer hold the state of all stages, for a checkpoint that is asked for when the module is whole."""
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        gathered = self.optimizer_state(optimizer)["state"]
        optimizer.state.clear()
        optimizer.state.update({parameters[number]: one for number, one in gathered.items()})

    def own_state(self, optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
        """What an optimizer's state holds of the parameters here."""
        names = self._numbers(optimizer)
        return {**state, "state": {number: one for number, one in state["state"].items() if self._placement.mine(names[number])}}

    def _numbers(self, optimizer: Optimizer) -> dict[int, str]:
        """The name of each parameter by the number that an optimizer's state has for it."""
        named = {id(one): name for name, one in self.module.named_parameters()}
        return {number: named[id(one)] for number, one in enumerate(one for group in optimizer.param_groups for one in group["params"])}

    def _tells(self, name: str) -> bool:
        """Whether this process is the one that tells a tensor: what all have, the first does."""
        return self._placement.mine(name) and (not self._placement.is_shared(name) or self._placement.rank == 0)

    def _is_first_pipeline(self) -> bool:
        return dist.get_rank(self._data_group) == 0

    def told_stages(self, ranks: Sequence[int]) -> str:
        """Processes with what they compute, for a sentence about them."""
        size = dist.get_world_size(self.group)
        told = [", ".join(self._stage_names[number] for number in range(rank % size, len(self._stage_names), size)) for rank in ranks]
        return " and ".join(f"rank {rank} (of the layers {layers})" for rank, layers in zip(ranks, told, strict=True))

    def release(self) -> None:
        """Put the network and its batch normalization back, as much of them as is here."""
        self.records.restore()
        self.module.network = self.whole
        if isinstance(self.module, SharesAnswers):
            self.module.answered_by, self.module.answered_elsewhere = self._asked_before, False

    def join(self) -> None:
        """``release``, and get the tensors of the other stages back; every process calls it."""
        mode = self._network.training
        self.release()
        self._placement.make_whole()
        self.whole.train(mode)


def averaged(gradients: Sequence[Tensor], group: dist.ProcessGroup | None) -> None:
    """Replace gradients by their means over the processes of a group, in one message a kind of number."""
    count = dist.get_world_size(group)
    if count == 1:
        return
    for dtype in dict.fromkeys(one.dtype for one in gradients):
        some = [one for one in gradients if one.dtype == dtype]
        flat = torch.cat([one.reshape(-1) for one in some])
        dist.all_reduce(flat, group=group)
        flat /= count
        for one, mean in zip(some, flat.split([one.numel() for one in some]), strict=True):
            one.copy_(mean.view(one.shape))
