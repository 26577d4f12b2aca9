"""The loss of a whole batch for a schedule that asks for the loss of one micro-batch after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

from lightning_reid.arguments import require_count, shown


class DeferredLoss:
    """One step's loss over all M micro-batches of a pipeline, each of which is asked for its own before the next one is there.

    A schedule that runs all forwards before the first backward (GPipe, looped breadth-first) calls its loss function with one
    micro-batch's embeddings at a time, while a triplet loss mines over the whole batch. Each call keeps a copy of the embeddings and
    answers 0, with a graph that leads back to them. The last call computes ``loss_of`` once, over all rows; every micro-batch's backward
    then returns its rows of the gradient, times the gradient that comes in. The gradients are those of the unsplit batch: nothing is
    approximated, and no forward runs twice.

    The zeros are no losses: read ``loss``. What else ``loss_of`` depends on, the classifier for one, gets its gradients by
    ``deferred.loss.backward()``, whose graph is kept. An instance serves one step.

    Attributes:
        num_microbatches: M, how many are asked for.
        loss_of: As given.

    Args:
        num_microbatches: M, at least 1.
        loss_of: Embeddings ``[B, D]`` of the whole batch, in the order of the micro-batches, to a scalar that depends on them. It is
            called under the autocast of the last micro-batch's call.

    Raises:
        ValueError: An argument is out of range, or (when called) embeddings are not ``[m, D]`` like those before, or carry no graph,
            the index is none of a micro-batch, or ``loss_of`` returns no scalar with a graph.
        RuntimeError: Micro-batches come out of order or twice, gradients are off, the loss is asked for or a backward runs before the last
            micro-batch has come.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import DeferredLoss, batch_hard_triplet_loss
        >>> embeddings, labels = torch.tensor([[0.0], [1.0], [3.0], [4.0]], requires_grad=True), torch.tensor([0, 1, 0, 1])
        >>> deferred = DeferredLoss(2, lambda rows: batch_hard_triplet_loss(rows, labels, margin=1.0))
        >>> zeros = [deferred(rows, index) for index, rows in enumerate(embeddings.split(2))]  # neither has a pair of one label
        >>> deferred.loss.item()  # 1 + 3 - 1 of each of the four
        3.0
        >>> for zero in zeros:
        ...     zero.backward()
        >>> embeddings.grad.flatten()
        tensor([ 0., -1.,  1.,  0.])
    """

    def __init__(self, num_microbatches: int, loss_of: Callable[[Tensor], Tensor]) -> None:
        require_count("num_microbatches", num_microbatches)
        self.num_microbatches = num_microbatches
        self.loss_of = loss_of
        self._kept: list[Tensor] = []
        self._embeddings: Tensor | None = None
        self._loss: Tensor | None = None
        self._gradients: tuple[Tensor, ...] = ()

    @property
    def loss(self) -> Tensor:
        """The whole batch's loss, a scalar with its graph."""
        return self._once_all_came(self._loss)

    @property
    def embeddings(self) -> Tensor:
        """The whole batch's embeddings ``[B, D]``: the leaf that ``loss`` was computed from, no part of the micro-batches' graphs."""
        return self._once_all_came(self._embeddings)

    def __call__(self, embeddings: Tensor, index: Tensor | int) -> Tensor:
        """Take the embeddings of a micro-batch.

        Args:
            embeddings: ``[m, D]`` float with a graph; m may differ from micro-batch to micro-batch.
            index: Which of 0..M-1 it is: a number, or a tensor of one, as a schedule hands out slices of ``torch.arange(M)``.

        Returns:
            Scalar 0 of the embeddings' dtype. Its backward gives the embeddings their gradient.
        """
        number = _whole_number(index)
        self._check(embeddings, number)
        self._kept.append(embeddings.detach().clone())  # a schedule may use the memory again
        if len(self._kept) == self.num_microbatches:
            self._compute()
        zero: Tensor = _GradientLater.apply(embeddings, self, number)
        return zero

    def gradient_of(self, index: int) -> Tensor:
        """The gradient of the whole batch's loss by the embeddings ``[m, D]`` of a micro-batch."""
        if not self._gradients:
            raise RuntimeError(
                f"a backward runs when {len(self._kept)} of {self.num_microbatches} micro-batches have come: a loss over the whole batch "
                "needs a schedule that runs all forwards before the first backward, such as ScheduleGPipe"
            )
        return self._gradients[index]

    def _compute(self) -> None:
        self._embeddings = torch.cat(self._kept).requires_grad_()
        loss = self.loss_of(self._embeddings)
        if loss.ndim or not loss.requires_grad:
            raise ValueError(f"loss_of must return a scalar that depends on the embeddings, got {shown(loss)}")
        # the graph stays for the gradients of whatever else the loss depends on
        (gradient,) = torch.autograd.grad(loss, self._embeddings, retain_graph=True)
        self._loss, self._gradients = loss, gradient.split([len(rows) for rows in self._kept])

    def _check(self, embeddings: Tensor, number: int) -> None:
        require_count("index", number, low=0, high=self.num_microbatches - 1)
        came = len(self._kept)
        if came == self.num_microbatches:
            raise RuntimeError(f"all {came} micro-batches have come: make a new DeferredLoss for the next step")
        if number != came:
            raise RuntimeError(f"micro-batch {number} came where {came} is next: they come in order, each of them once")
        if not torch.is_grad_enabled():
            raise RuntimeError("gradients are off: evaluate without a DeferredLoss, which is there for the backward")
        if embeddings.ndim != 2 or not embeddings.requires_grad:
            carries = "with" if embeddings.requires_grad else "without"
            raise ValueError(f"embeddings must be [m, D] with a graph, got {list(embeddings.shape)} {carries} one")
        if self._kept and (embeddings.shape[1], embeddings.dtype) != (self._kept[0].shape[1], self._kept[0].dtype):
            before = f"{self._kept[0].dtype} [m, {self._kept[0].shape[1]}]"
            raise ValueError(f"embeddings must be {before} as those before, got {embeddings.dtype} {list(embeddings.shape)}")

    def _once_all_came(self, value: Tensor | None) -> Tensor:
        if value is None or self._loss is None:
            raise RuntimeError(f"there is no loss yet: {len(self._kept)} of {self.num_microbatches} micro-batches have come")
        return value


class _GradientLater(torch.autograd.Function):
    """Zero, whose gradient is known only when the backward runs."""

    @staticmethod
    @override
    def forward(ctx: Any, embeddings: Tensor, deferred: DeferredLoss, index: int) -> Tensor:
        ctx.deferred, ctx.index = deferred, index
        return embeddings.new_zeros(())

    @staticmethod
    @override
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None, None]:
        return ctx.deferred.gradient_of(ctx.index) * incoming, None, None


def _whole_number(index: Tensor | int) -> int:
    if isinstance(index, Tensor):
        if index.numel() != 1 or index.dtype.is_floating_point or index.dtype == torch.bool:
            raise ValueError(f"index must be one whole number, got {shown(index)}")
        return int(index)
    return index
