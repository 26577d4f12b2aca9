"""BatchNorm of micro-batches: what they say about the running statistics is written down, and counts once a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from lightning_reid.arguments import require_count
from lightning_reid.networks.batch_norm import (
    PLAIN,
    GroupedBatchNorm,
    around_the_same,
    hand_over,
    mean_over_processes,
    places_of_batch_norm,
    put_in_place,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def record_batch_norm(module: nn.Module, num_groups: int = 1) -> BatchNormRecords:
    """Replace every BatchNorm below ``module`` by one that only records the statistics of what it normalizes in training.

    A batch that goes through as M micro-batches, and ``commit()`` after them, give the outputs, gradients and running statistics of
    ``group_batch_norm(module, num_groups=M)`` and the batch in one piece. Names, parameters, buffers and state dicts stay; the layers
    that were there come back by ``restore()``. Hooks of the layers themselves rest until then.

    Args:
        module: Network with BatchNorm layers of torch, or timm's BatchNorm with activation; they are replaced in place.
        num_groups: Groups of a micro-batch that are normalized each by itself, at least 1.

    Returns:
        The layers that record, and what is done with them.

    Raises:
        ValueError: ``num_groups`` is too small, or ``module`` is itself a BatchNorm, or below it is one of another kind, such as one that
            is grouped (``bn_group``) or synchronized already; then nothing is replaced.

    Example:
        >>> import torch
        >>> from lightning_reid.networks.recorded_batch_norm import record_batch_norm
        >>> network = torch.nn.Sequential(torch.nn.BatchNorm1d(1))
        >>> records = record_batch_norm(network)
        >>> for micro_batch in torch.tensor([[0.0], [2.0], [10.0], [14.0]]).split(2):  # means 1 and 12
        ...     _ = network(micro_batch)
        >>> network[0].running_mean.tolist(), records.commit(), network[0].running_mean  # 0.9 * 0 + 0.1 * 6.5
        ([0.0], 2, tensor([0.6500]))
    """
    require_count("num_groups", num_groups)
    places = places_of_batch_norm(module)
    if "" in places:
        raise ValueError(f"give the module that holds the {type(module).__name__}, which is to be replaced in it")
    for name, layer in places.items():
        if type(layer) not in PLAIN:
            kinds = ", ".join(kind.__name__ for kind in PLAIN)
            raise ValueError(f"cannot record the statistics of {name}, a {type(layer).__name__}, only those of {kinds}: build it plain")
    return BatchNormRecords(module, places, num_groups)


class RecordedBatchNorm(GroupedBatchNorm):
    """BatchNorm over a number of groups whose training forwards only record their statistics, until they are committed.

    Input ``[B, C]`` or ``[B, C, ...]``, in training B a multiple of ``num_groups``. No forward is a collective, and none moves the running
    statistics; evaluation goes by what was committed.

    Attributes:
        records: Means and unbiased variances ``[2, C]`` of each group since the last commit. In no state dict.
        recording: Whether forwards record; several layers may share it.
    """

    def __init__(
        self, num_features: int, num_groups: int = 1, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True
    ) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum, affine=affine, num_groups=num_groups)
        self.records: list[Tensor] = []
        self.recording = Recording()

    @override
    def _take(self, statistics: Tensor) -> None:
        if self.recording.is_on and self.running_mean is not None:
            self.records.extend(statistics.unbind(1))

    @torch.no_grad()
    def commit(self, process_group: ProcessGroup | None = None) -> int:
        """Move the running statistics once, by the mean over the recorded groups, and forget these; without any, do nothing.

        Args:
            process_group: Processes that hold this layer and have recorded too: each counts the same. ``None`` is this process alone.

        Returns:
            Number of groups that were recorded.

        Raises:
            ValueError: This process does not belong to the group.
        """
        return _commit([self], process_group)


class BatchNormRecords:
    """Layers of a network that record, all of which are committed, paused and put back together; made by ``record_batch_norm``.

    Attributes:
        layers: The layers that record, by the name of the first place that each has in the network.
    """

    def __init__(self, module: nn.Module, places: dict[str, _BatchNorm], num_groups: int) -> None:
        self._module, self._originals, self._recording = module, places, Recording()
        twins = {layer: _recorded(layer, num_groups, self._recording) for layer in places.values()}
        self.layers = {name: twins[part] for name, part in module.named_modules() if isinstance(part, _BatchNorm)}
        put_in_place(module, {name: twins[layer] for name, layer in places.items()})

    @torch.no_grad()
    def commit(self, process_group: ProcessGroup | None = None) -> int:
        """Move the running statistics of every layer once, by the mean over its recorded groups, and forget these.

        A layer without any is left alone; without any at all nothing happens.

        Args:
            process_group: Processes over which the means are averaged, in one all-reduce: all must hold the same layers, and have recorded
                in the same ones. ``None`` is this process alone.

        Returns:
            Number of groups that were recorded, over all layers.

        Raises:
            ValueError: This process does not belong to the group.
        """
        return _commit(self.layers.values(), process_group)

    def discard(self) -> None:
        """Forget what was recorded, as after a step that does not count."""
        for layer in self.layers.values():
            layer.records.clear()

    def paused(self) -> AbstractContextManager[None]:
        """Let training forwards record nothing for the time of a block, in whatever thread they run; blocks may be nested.

        Activations that are computed again are no new ones: ``torch.utils.checkpoint.checkpoint`` has each forward recorded once with
        ``use_reentrant=False`` and ``context_fn=lambda: (nullcontext(), records.paused())``.
        """
        return self._recording.paused()

    def restore(self) -> None:
        """Put the layers that were there back, with the parameters, buffers and mode of now. What was not committed is lost."""
        originals, self._originals = self._originals, {}
        for name, layer in self.layers.items():
            if name in originals:
                hand_over(layer, originals[name])
        put_in_place(self._module, originals)


class Recording:
    """Whether layers record, which a block may stop for its time."""

    def __init__(self) -> None:
        self._pauses: list[None] = []

    @property
    def is_on(self) -> bool:
        """Whether nobody has paused it."""
        return not self._pauses

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop recording, in all threads, until the last of the blocks is left that did so."""
        # a list grows and shrinks in one step each: the backwards of several devices run in a thread each, and a += 1 would be three
        self._pauses.append(None)
        try:
            yield
        finally:
            self._pauses.pop()


def _recorded(layer: _BatchNorm, num_groups: int, recording: Recording) -> RecordedBatchNorm:
    recorded = RecordedBatchNorm(layer.num_features, num_groups, layer.eps, layer.momentum, layer.affine)
    recorded.recording = recording
    return around_the_same(layer, recorded)


def _commit(layers: Iterable[RecordedBatchNorm], process_group: ProcessGroup | None) -> int:
    layers = [layer for layer in layers if layer.records]
    if not layers:
        return 0
    means = [torch.stack(layer.records).mean(0) for layer in layers]
    if process_group is not None:
        together = mean_over_processes(torch.cat([mean.flatten() for mean in means]), process_group)
        parts = together.split([mean.numel() for mean in means])
        means = [part.view_as(mean).to(mean.dtype) for part, mean in zip(parts, means, strict=True)]
    for layer, mean in zip(layers, means, strict=True):
        layer.move_running(mean)
    num_groups = sum(len(layer.records) for layer in layers)
    for layer in layers:
        layer.records.clear()
    return num_groups
