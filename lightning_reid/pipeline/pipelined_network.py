"""A network that is computed by several processes, where a module thinks that it has the whole of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.networks.embedding_network import EmbeddingNetwork, EmbeddingOutput
from lightning_reid.pipeline.agreement import require_same_inputs
from lightning_reid.pipeline.pipeline import Pipeline


class PipelinedNetwork(nn.Module):
    """The stand-in for a network that is cut: the same parameters under the same names, its neck on every process.

    In evaluation it embeds what it is given on all processes at once, which all hand it the same images or clips. In training it gives
    the embeddings that the pipeline found of a batch, once a step (see ``giving``): the backward pass has its way from there.

    Args:
        network: That is cut. What else is asked of this module, the network answers.
        pipeline: Computes it.
    """

    def __init__(self, network: EmbeddingNetwork, pipeline: Pipeline) -> None:
        super().__init__()
        for name, child in network.named_children():
            self.add_module(name, child)
        self._whole, self.pipeline = (network,), pipeline
        self._given: tuple[Tensor, Tensor, Tensor | None] | None = None
        self._asked = 0

    @property
    def whole(self) -> EmbeddingNetwork:
        """The network that is cut."""
        return self._whole[0]

    @override
    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattribute__("_whole")[0], name)

    @contextmanager
    def giving(self, embeddings: Tensor, inputs: Tensor, order: Tensor | None = None) -> Iterator[None]:
        """Give ``embeddings [B, D]`` of ``inputs`` to the training step that runs inside.

        Args:
            embeddings: In the order of ``inputs``.
            inputs: Of the step.
            order: ``[B]`` int64, the rows as they were dealt to micro-batches, over which the neck normalizes too; ``None`` where they were
                cut as they came.

        Raises:
            ValueError: It asks for the embeddings of something else, or twice, or not at all.
        """
        self._given, self._asked = (embeddings, inputs, order), 0
        try:
            yield
            if self._asked != 1:
                raise ValueError(f"a training step in a pipeline embeds its batch once, and this one did it {self._asked} times")
        finally:
            self._given = None

    @override
    def forward(self, inputs: Tensor, masks: Tensor | None = None, *, with_parts: bool = False) -> EmbeddingOutput:
        if self.training:
            pooled, order = self._of_this_step(inputs, with_parts)
            necked = self.neck(pooled) if order is None else self.neck(pooled[order])[order.argsort()]
            return EmbeddingOutput(pooled, necked, None)
        require_same_inputs(inputs, self.pipeline.group)
        pooled, parts = self._embed(inputs, masks, with_parts)
        return EmbeddingOutput(pooled, self.neck(pooled), parts)

    def _of_this_step(self, inputs: Tensor, with_parts: bool) -> tuple[Tensor, Tensor | None]:
        self._asked += 1
        if self._given is None or inputs is not self._given[1] or with_parts or self._asked > 1:
            raise ValueError(
                "a training step in a pipeline embeds the images or clips of its batch, as they are and once: what this module's step"
                " embeds beside them, or instead, no stage has computed. Train it with strategy='ddp'"
            )
        return self._given[0], self._given[2]

    def _embed(self, inputs: Tensor, masks: Tensor | None, with_parts: bool) -> tuple[Tensor, Tensor | None]:
        self.pipeline.spans.clear()
        rows, missing = len(inputs), -len(inputs) % self.pipeline.plan.microbatches
        found = self.pipeline.embed(padded(inputs, missing), None if masks is None else padded(masks, missing), parts=with_parts)[:rows]
        return (found[:, 0], found[:, 1:]) if with_parts else (found, None)


def padded(rows: Tensor, missing: int) -> Tensor:
    """The rows ``[N, ...]``, and the last of them so many times more."""
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows
