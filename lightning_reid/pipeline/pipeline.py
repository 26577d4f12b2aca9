"""A network in stages over the processes of a group, and its batches in micro-batches through them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe, ScheduleLoopedBFS
from typing_extensions import override

from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.networks.units import Unit
from lightning_reid.pipeline.spans import Span, SpanKind
from lightning_reid.pipeline.stage_network import Recomputing, StageNetwork, boundaries, is_channels_last

ScheduleName = Literal["gpipe", "looped-bfs", "1f1b"]
LossOfStage = Callable[[Tensor, Tensor], Tensor]
"""Embeddings ``[m, D]`` of a micro-batch and its number ``[1]`` to a scalar, whose gradient by them is sent back."""


@dataclass(frozen=True)
class PipelinePlan:
    """How a network is cut, and in which order its micro-batches are computed.

    Attributes:
        stages: Units of each stage, as numbers.
        microbatches: M, into which a batch is cut.
        schedule: ``"gpipe"``, ``"looped-bfs"`` or ``"1f1b"``.
        recomputing: See ``StageNetwork``.
    """

    stages: tuple[range, ...]
    microbatches: int
    schedule: ScheduleName
    recomputing: Recomputing | None = None


class Pipeline:
    """A network in stages over the processes of a group: stage s is computed by process s modulo their number.

    Source: Alg. 1 and 2 of the distributed text, III.B, its stages filled by micro-batches (GPipe, arXiv:1811.06965; looped
    breadth-first, arXiv:2211.05953; 1F1B, arXiv:2006.09503) through ``torch.distributed.pipelining``.

    Args:
        network: Whole or cut: its own stages' tensors are real.
        plan: How it is cut.
        group: The processes, in the order of the stages.
        device: Where this process computes.

    Attributes:
        spans: When this process computed which micro-batch of the latest batch, for which whoever gives one clears them.
    """

    def __init__(self, network: EmbeddingNetwork, plan: PipelinePlan, group: dist.ProcessGroup, device: torch.device) -> None:
        self.network, self.plan, self.group, self.device = network, plan, group, device
        self.size, self.rank = dist.get_world_size(group), dist.get_rank(group)
        self.mine = tuple(range(self.rank, len(plan.stages), self.size))
        self.spans: list[Span] = []
        self._channels_last = is_channels_last(network)
        self._shapes: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        self._schedules: dict[str, tuple[Any, Any, list[StageNetwork]]] = {}
        self._loss: LossOfStage | None = None

    @property
    def is_last(self) -> bool:
        """Whether this process computes the last stage."""
        return self.mine[-1] == len(self.plan.stages) - 1

    @property
    def last_rank(self) -> int:
        """The rank among all processes of the one that computes the last stage."""
        return dist.get_global_rank(self.group, (len(self.plan.stages) - 1) % self.size)

    def learn(self, inputs: Tensor, masks: Tensor | None, loss: LossOfStage) -> Tensor | None:
        """Forward and backward passes of all micro-batches; gradients are added to those of this process's parameters.

        Args:
            inputs: ``[B, ...]`` images or clips, the same on every process; M divides B.
            masks: ``[B, T, H, W]`` bool, or ``None``.
            loss: Asked on the process of the last stage, for the micro-batches in order.

        Returns:
            The embeddings ``[B, D]`` on the process of the last stage, ``None`` elsewhere.
        """
        self._loss = loss
        try:
            return self._run("learning", self.plan.schedule, inputs, masks)
        finally:
            self._loss = None

    @torch.no_grad()
    def embed(self, inputs: Tensor, masks: Tensor | None = None, *, parts: bool = False) -> Tensor:
        """Pooled embeddings ``[B, D]`` of inputs that M divides, on every process; ``[B, 3, D]`` with ``parts``.

        The network normalizes by the statistics of micro-batches, or by the running ones, as its mode says.
        """
        kind = "parts" if parts else "embedding"
        schedule: ScheduleName = "looped-bfs" if self.plan.schedule == "looped-bfs" else "gpipe"
        found = self._run(kind, schedule, inputs, masks)
        width = (3, self.network.num_features) if parts else (self.network.num_features,)
        return self.shared(found, (len(inputs), *width))

    def shared(self, found: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """What the process of the last stage has found, on every process, in the precision of the weights."""
        dtype = self.network.dtype
        there = torch.empty(shape, dtype=dtype, device=self.device) if found is None else found.detach().to(dtype).contiguous()
        dist.broadcast(there, self.last_rank, group=self.group)
        return there

    def forget(self, *kinds: str) -> None:
        """Give back the memory that schedules keep for what they are sent: ``"learning"``, ``"embedding"``, ``"parts"``."""
        for kind in kinds:
            self._schedules.pop(kind, None)

    def _run(self, kind: str, schedule: ScheduleName, inputs: Tensor, masks: Tensor | None) -> Tensor | None:
        made, networks = self._schedule(kind, schedule, inputs)
        count = self.plan.microbatches
        for network in networks:
            network.rows = len(inputs) // count
            network.masks = () if masks is None else masks.tensor_split(count)
        target = torch.arange(count, device=self.device) if self.is_last and kind == "learning" else None
        found: Tensor | None = made.step(*((inputs,) if 0 in self.mine else ()), target=target)
        return found

    def _schedule(self, kind: str, schedule: ScheduleName, inputs: Tensor) -> tuple[Any, list[StageNetwork]]:
        """One that was made for inputs of this shape, or a new one, for which the old one is dropped."""
        key = (tuple(inputs.shape), inputs.dtype, schedule)
        if kind not in self._schedules or self._schedules[kind][0] != key:
            networks, stages = self._stages(kind, inputs)
            options: dict[str, Any] = {"loss_fn": self._ask, "scale_grads": False} if kind == "learning" else {}
            made: Any
            if schedule == "looped-bfs":
                made = ScheduleLoopedBFS(stages, self.plan.microbatches, **options)
            else:
                made = (Schedule1F1B if schedule == "1f1b" else ScheduleGPipe)(stages[0], self.plan.microbatches, **options)
            self._schedules[kind] = (key, made, networks)
        return self._schedules[kind][1:]

    def _ask(self, embeddings: Tensor, number: Tensor) -> Tensor:
        assert self._loss is not None
        return self._loss(embeddings, number)

    def _stages(self, kind: str, inputs: Tensor) -> tuple[list[StageNetwork], list[Any]]:
        units, networks, stages = self.network.units(inputs), [], []
        for number in self.mine:
            network = self._stage_network(units, number, parts=kind == "parts")
            given, gives = self._sent(inputs, number - 1, kind), self._sent(inputs, number, kind)
            stage = NumberedStage(network, number, len(self.plan.stages), self.device, (given,), (gives,), group=self.group)
            stages.append(stage.telling(self.spans))
            networks.append(network)
        return networks, stages

    def _stage_network(self, units: Sequence[Unit], number: int, *, parts: bool) -> StageNetwork:
        stage, last = self.plan.stages[number], number == len(self.plan.stages) - 1
        mine = units[stage.start : stage.stop]
        return StageNetwork(self.network, mine, first=number == 0, last=last, parts=parts and last, recomputing=self.plan.recomputing)

    def _sent(self, inputs: Tensor, stage: int, kind: str) -> Tensor:
        """What a stage sends of a micro-batch, without values; stage -1 is the batch itself."""
        rows = len(inputs) // self.plan.microbatches
        if stage < 0:
            return torch.empty(rows, *inputs.shape[1:], dtype=inputs.dtype, device="meta")
        first, *rest = self._shapes_of(inputs)[self.plan.stages[stage].stop - 1]
        if len(rest) == 3 and self._channels_last:
            rest = [rest[1], rest[2], rest[0]]
        elif kind == "parts" and stage == len(self.plan.stages) - 1:
            rest = [3, *rest]
        return torch.empty(first * rows, *rest, dtype=self.network.dtype, device="meta", requires_grad=kind == "learning")

    def _shapes_of(self, inputs: Tensor) -> list[tuple[int, ...]]:
        shape = tuple(inputs.shape[1:])
        if shape not in self._shapes:
            self._shapes[shape] = boundaries(self.network, inputs[:1])
        return self._shapes[shape]


class NumberedStage(PipelineStage):
    """A stage whose module knows which micro-batch it computes, and which tells when it did."""

    def telling(self, spans: list[Span]) -> Self:
        """Add to ``spans`` from now on."""
        self._spans = spans
        return self

    @override
    def forward_one_chunk(self, fwd_chunk_id: int, *args: Any, **options: Any) -> Any:
        self.submod.microbatch = fwd_chunk_id  # type: ignore[assignment]
        start = time.monotonic()
        found = super().forward_one_chunk(fwd_chunk_id, *args, **options)
        self._tell("forward", fwd_chunk_id, start)
        return found

    @override
    def backward_one_chunk(self, bwd_chunk_id: int, *args: Any, **options: Any) -> Any:
        start = time.monotonic()
        found = super().backward_one_chunk(bwd_chunk_id, *args, **options)
        if self.has_backward:  # a schedule without gradients asks for them all the same
            self._tell("backward", bwd_chunk_id, start)
        return found

    def _tell(self, kind: SpanKind, microbatch: int, start: float) -> None:
        self._spans.append(Span(kind, self.stage_index, microbatch, start, time.monotonic()))
