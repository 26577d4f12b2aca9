"""A module's own training step, computed in a pipeline: micro-batches there, its loss over the whole batch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from typing_extensions import override

from lightning_reid.losses.deferred import DeferredLoss
from lightning_reid.networks.recorded_batch_norm import BatchNormRecords
from lightning_reid.pipeline.agreement import require_same_batch
from lightning_reid.pipeline.averaged_logs import averaged_logs
from lightning_reid.pipeline.dealing import dealt_rows
from lightning_reid.pipeline.pipelined_network import PipelinedNetwork
from lightning_reid.pipeline.shared_answers import SharedAnswers

Mining = Literal["batch", "microbatch"]
PICTURES = ("images", "clips")
"""Of a batch, what a network embeds."""


class PipelinedStep:
    """The training step of a module whose network is cut, as the process of one stage takes it.

    Every process runs the module's ``training_step`` on the embeddings of the whole batch, which the last stage has found: neck,
    classifier, losses and logs are everywhere the same. The process of the last stage does it in the midst of the schedule, between the
    last forward and the first backward pass, and sends the gradient by the embeddings back through the stages.

    Rows are dealt to micro-batches in turn (see ``dealt_rows``), and come back in the order of the batch before a loss sees them. Only
    where losses see single micro-batches, which need people with several rows each, a batch is cut as it comes.

    Args:
        module: Its network is a ``PipelinedNetwork``.
        records: The batch statistics of the stages here and of the neck.
        parameters: Of the stages here. Those that learn get their gradients through what is returned.
        mining: What a loss sees at once: ``"batch"``, or ``"microbatch"``, whose losses are averaged.
        answers: Of a second network that one process asks for all.
        data_group: The processes that compute the same stages of other pipelines; ``None`` without others.
    """

    def __init__(
        self,
        module: pl.LightningModule,
        network: PipelinedNetwork,
        records: BatchNormRecords,
        parameters: Sequence[nn.Parameter],
        mining: Mining,
        answers: SharedAnswers,
        data_group: dist.ProcessGroup | None,
    ) -> None:
        self.module, self.network, self.records, self.answers = module, network, records, answers
        self.parameters, self.mining, self._data_group = list(parameters), mining, data_group
        self.pipeline = network.pipeline
        self.microbatches = self.pipeline.plan.microbatches

    def __call__(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """The loss of a batch, with a graph to the parameters of the head and of the stages here.

        Raises:
            ValueError: The batch cannot be cut, is not the same on all processes, or the module's step does something else with it.
        """
        inputs = self._inputs(batch)
        self.pipeline.spans.clear()
        learning = [parameter for parameter in self.parameters if parameter.requires_grad]  # a callback may have thawed some
        if batch_idx % self.module.trainer.accumulate_grad_batches == 0:
            # the Trainer forgets these between this step and its backward pass: until then they would take a quarter of the stage's memory
            for parameter in learning:
                parameter.grad = None
        with set_aside(learning) as gradients:
            if self.mining == "microbatch":
                loss = self._by_microbatches(batch, batch_idx, inputs)
            elif self.pipeline.plan.schedule == "1f1b":
                loss = self._in_two_passes(batch, batch_idx, inputs)
            else:
                loss = self._deferred(batch, batch_idx, inputs)
        self._commit()
        return carried(loss, learning, gradients)

    def _commit(self) -> None:
        for name, layer in self.records.layers.items():
            if len(layer.records) not in (0, self.microbatches):
                told = f"{name} recorded the statistics of {len(layer.records)} micro-batches in a step of {self.microbatches}"
                raise RuntimeError(f"{told}: the running statistics would be wrong")
        self.records.commit(self._data_group)

    def _deferred(self, batch: Mapping[str, Any], batch_idx: int, inputs: Tensor) -> Tensor:
        order, place = self._dealt(inputs)
        masks = batch.get("masks")

        def loss_of(dealt: Tensor) -> Tensor:
            return self._loss(batch, batch_idx, inputs, dealt[place], order)

        deferred = DeferredLoss(self.microbatches, loss_of)
        found = self.pipeline.learn(inputs[order], None if masks is None else masks[order], deferred)
        embeddings = self._shared(found, len(inputs))
        self.answers.share()
        return deferred.loss if self.pipeline.is_last else loss_of(embeddings)

    def _dealt(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The rows in the order of the micro-batches, and where each row of the batch lies among them."""
        order = dealt_rows(len(inputs), self.microbatches).to(inputs.device)
        return order, order.argsort()

    def _in_two_passes(self, batch: Mapping[str, Any], batch_idx: int, inputs: Tensor) -> Tensor:
        """Embeddings first, without what a backward pass needs; the gradient by them, then, is what the schedule's backward passes get.

        Source: gradient caching, Gao et al. 2021 (arXiv:2101.06983).
        """
        (order, place), masks = self._dealt(inputs), batch.get("masks")
        dealt, dealt_masks = inputs[order], None if masks is None else masks[order]
        with torch.random.fork_rng():  # both passes draw the same, should a network drop some of its units
            embeddings = self.pipeline.embed(dealt, dealt_masks)[place].requires_grad_()
        if self.pipeline.is_last:
            loss = self._loss(batch, batch_idx, inputs, embeddings, order)
        self.answers.share()
        if not self.pipeline.is_last:
            loss = self._loss(batch, batch_idx, inputs, embeddings, order)
        rows = torch.autograd.grad(loss, embeddings, retain_graph=True)[0][order].split(len(inputs) // self.microbatches)
        with self.records.paused():
            self.pipeline.learn(dealt, dealt_masks, lambda output, number: (output * rows[int(number)]).sum())
        return loss

    def _by_microbatches(self, batch: Mapping[str, Any], batch_idx: int, inputs: Tensor) -> Tensor:
        parts = microbatches_of(batch, len(inputs), self.microbatches)
        losses: list[Tensor] = []

        def loss_of(embeddings: Tensor) -> Tensor:
            part = parts[len(losses)]
            losses.append(self._loss(part, batch_idx, _pictures(part), embeddings) / self.microbatches)
            return losses[-1]

        def ask(output: Tensor, number: Tensor) -> Tensor:
            embeddings = output.detach().requires_grad_()
            gradient = torch.autograd.grad(loss_of(embeddings), embeddings, retain_graph=True)[0]
            return (output * gradient).sum()

        with averaged_logs(self.module):
            found = self.pipeline.learn(inputs, batch.get("masks"), ask)
            embeddings = self._shared(found, len(inputs))
            self.answers.share()
            if not self.pipeline.is_last:
                for some in embeddings.split(len(inputs) // self.microbatches):
                    loss_of(some)
        return torch.stack(losses).sum()

    def _loss(self, batch: Mapping[str, Any], batch_idx: int, inputs: Tensor, embeddings: Tensor, order: Tensor | None = None) -> Tensor:
        with self.network.giving(embeddings, inputs, order):
            loss = self.module.training_step(batch, batch_idx)
        if not isinstance(loss, Tensor):
            raise ValueError(f"a training step in a pipeline returns its loss, a tensor; this one returned {type(loss).__name__}")
        return loss

    def _shared(self, found: Tensor | None, rows: int) -> Tensor:
        return self.pipeline.shared(found, (rows, self.network.num_features)).requires_grad_()

    def _inputs(self, batch: Mapping[str, Any]) -> Tensor:
        inputs = _pictures(batch)
        if len(inputs) % self.microbatches or len(inputs) < 2 * self.microbatches:
            raise ValueError(
                f"a batch of {len(inputs)} cannot be cut into microbatches={self.microbatches} of equally many rows, at least 2 each, over"
                " which BatchNorm normalizes: change p, k or batch_size of the data, or microbatches; and give a DataLoader of your own"
                " drop_last=True"
            )
        require_same_batch(batch, inputs, self.pipeline.group)
        return inputs


def _pictures(batch: Mapping[str, Any]) -> Tensor:
    found = [batch[name] for name in PICTURES if name in batch] if isinstance(batch, Mapping) else []
    if len(found) != 1 or not isinstance(found[0], Tensor):
        told = ", ".join(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(f"a training batch in a pipeline is a dict with images or clips, got {told}")
    return found[0]


def microbatches_of(batch: Mapping[str, Any], rows: int, count: int) -> list[dict[str, Any]]:
    """A batch of tensors ``[rows, ...]`` in so many equal parts.

    Raises:
        ValueError: It holds something else.
    """
    strangers = [name for name, value in batch.items() if not isinstance(value, Tensor) or value.shape[:1] != (rows,)]
    if strangers:
        raise ValueError(f"mining='microbatch' cuts the tensors of a batch into rows, and {', '.join(strangers)} of it has none")
    return [dict(zip(batch, parts, strict=True)) for parts in zip(*(value.tensor_split(count) for value in batch.values()), strict=True)]


@contextmanager
def set_aside(parameters: Sequence[nn.Parameter]) -> Iterator[list[Tensor | None]]:
    """What the parameters' gradients become inside, in a list that is filled at the end; those from before are put back."""
    before = [parameter.grad for parameter in parameters]
    gradients: list[Tensor | None] = []
    for parameter in parameters:
        parameter.grad = None
    try:
        yield gradients
        gradients += [parameter.grad for parameter in parameters]
    finally:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient


def carried(loss: Tensor, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> Tensor:
    """The loss, in whose backward pass the parameters also get gradients that were computed before, times what the loss is multiplied by.

    So they come where a Trainer expects them: after it has zeroed the old ones, divided by the batches that it accumulates over.
    """
    pairs = [(parameter, gradient) for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is not None]
    if not pairs:
        return loss
    whole: Tensor = _Carried.apply(loss, [gradient for _, gradient in pairs], *(parameter for parameter, _ in pairs))
    return whole


class _Carried(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    @override
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # given away and multiplied in place: copies would double what they take
        if gradients is None:
            raise RuntimeError("the gradients of the stages were given to the parameters before: a step has one backward pass")
        return (factor, None, *(gradient.mul_(factor) for gradient in gradients))
