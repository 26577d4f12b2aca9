"""Loaders of whole batches: of an epoch that is planned when it begins, and of a fixed list of records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import distributed
from torch.utils.data import Dataset, DistributedSampler
from typing_extensions import override

from lightning_reid.datamodules.samplers import EpochPlan
from lightning_reid.datamodules.workers import LightLoader, private_draws

Collate = Callable[[list[dict[str, Any]]], dict[str, Any]]


class WholeBatches(Dataset[list[dict[str, Any]]]):
    """Items addressed by the batch: what a worker is sent is a list of rows or draws.

    Items that come from a store say by a method ``fetch`` that they want to hear of a batch before it is asked for.
    """

    def __init__(self, items: Dataset[dict[str, Any]]) -> None:
        self.items = items

    @override
    def __getitem__(self, batch: Sequence[Any]) -> list[dict[str, Any]]:
        fetch = getattr(self.items, "fetch", None)
        if fetch is not None:
            fetch(batch)
        return [self.items[one] for one in batch]


class FixedBatches(DistributedSampler[Sequence[Any]]):
    """This process's batches of rows, the same each time.

    It is a ``DistributedSampler`` since it deals records to processes itself: a Trainer leaves such a sampler as it is, whatever
    ``use_distributed_sampler`` says.
    """

    def __init__(self, batches: Sequence[Sequence[int]], *, rank: int, world_size: int) -> None:
        super().__init__(_NOTHING, num_replicas=world_size, rank=rank, shuffle=False)
        self.batches = batches

    @override
    def __len__(self) -> int:
        return len(self.batches)

    @override
    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class EpochBatches(DistributedSampler[Sequence[Any]]):
    """This process's batches of the epoch that ``set_epoch`` told, planned when they are asked for.

    Args:
        plan: Epoch of the fit to its plan, by what is believed at the moment.
        epoch: To begin with.
        rank: Whose batches these are.
        world_size: Among how many they are dealt.
        processes: Of the Trainer; ``None`` are as many, each with batches of its own.

    Attributes:
        begun: The plan that is iterated; ``None`` before the first.
        start: Batches of it that were left out, since a resumed run had done them.
        resumed: Epoch of a resumed run and how many of its batches it had done.
    """

    def __init__(self, plan: Callable[[int], EpochPlan], *, epoch: int, rank: int, world_size: int, processes: int | None = None) -> None:
        super().__init__(_NOTHING, num_replicas=world_size, rank=rank, shuffle=False)
        self.plan, self.epoch, self.world_size = plan, epoch, world_size
        self._processes = world_size if processes is None else processes
        self.begun: EpochPlan | None = None
        self.start = 0
        self.resumed: tuple[int, int] | None = None
        self._told: tuple[int, int] | None = None

    @override
    def __len__(self) -> int:
        length = self.plan(self.epoch).length(self.world_size)
        self._told = (self.epoch, length)
        return length

    @override
    def __iter__(self) -> Iterator[Any]:
        processes = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else self._processes
        if processes != self._processes:
            raise RuntimeError(
                f"this loader was made for {self._processes} process(es), and {processes} train on it: all would see the same batches. Fit"
                " on the datamodule, trainer.fit(model, datamodule), and each is dealt its own"
            )
        plan, done = self.plan(self.epoch), self.resumed
        if self._told is not None and self._told[0] == self.epoch and self._told[1] != plan.length(self.world_size):
            raise RuntimeError(
                f"epoch {self.epoch} was said to have {self._told[1]} batches, and has {plan.length(self.world_size)} by the labels that"
                " were published since: publish labels in on_fit_start or on_train_epoch_end, before the epoch they are for"
            )
        self.begun = plan
        self.start = done[1] if done is not None and done[0] == self.epoch else 0
        return plan.batches(self.rank, self.world_size, self.start)


class PlannedLoader(LightLoader):
    """A loader whose epochs are planned when they begin: by epoch and labels of the moment, told by ``set_epoch`` of its sampler.

    Nothing is drawn before the first batch is asked for, however early an iterator is made: a Trainer makes the first one before
    ``on_train_start``. Workers may live on, since a draw carries its epoch and label. It keeps its place in ``state_dict``, so that a run
    resumed in mid-epoch goes on with the next batch.

    Args:
        items: Training records, addressed by ``Draw``.
        plan: See ``EpochBatches``.
        collate: Items of a batch to a batch.
        epoch: The first.
        rank: See ``EpochBatches``, as ``world_size`` and ``processes``.
        world_size: Among how many batches are dealt.
        processes: Of the Trainer.
        options: Of ``DataLoader``.
    """

    def __init__(
        self,
        items: Dataset[dict[str, Any]],
        plan: Callable[[int], EpochPlan],
        *,
        collate: Collate,
        epoch: int,
        rank: int,
        world_size: int,
        processes: int | None = None,
        **options: Any,
    ) -> None:
        self.epoch_batches = EpochBatches(plan, epoch=epoch, rank=rank, world_size=world_size, processes=processes)
        super().__init__(WholeBatches(items), sampler=self.epoch_batches, batch_size=None, collate_fn=collate, **private_draws(), **options)
        self._yielded = 0

    @override
    def __iter__(self) -> Any:  # a generator: see the class
        batches = super().__iter__()  # which iterates the sampler, with workers twice
        plan, self._yielded, self.epoch_batches.resumed = self.epoch_batches.begun, self.epoch_batches.start, None
        assert plan is not None, "DataLoader iterates its sampler at once"
        for batch in batches:
            self._yielded += 1
            yield batch if plan.finish is None else plan.finish(batch)

    def state_dict(self) -> dict[str, int]:
        """Epoch, and how many of its batches were given."""
        return {"epoch": self.epoch_batches.epoch, "batches": self._yielded}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on after the batches that were given; where the next epoch is another, with its first."""
        self.epoch_batches.resumed = (int(state_dict["epoch"]), int(state_dict["batches"]))


def fixed_loader(
    items: Dataset[dict[str, Any]], batches: Sequence[Sequence[int]], *, collate: Collate, rank: int, world_size: int, **options: Any
) -> LightLoader:
    """A loader over a list of batches of rows.

    Args:
        items: Records, addressed by row.
        batches: This process's.
        collate: Items of a batch to a batch.
        rank: This process.
        world_size: Number of processes.
        options: Of ``DataLoader``.
    """
    sampler = FixedBatches(batches, rank=rank, world_size=world_size)
    return LightLoader(WholeBatches(items), sampler=sampler, batch_size=None, collate_fn=collate, **private_draws(), **options)


class _Nothing(Dataset[Any]):
    """What samplers of whole batches have beside their batches."""

    def __len__(self) -> int:
        return 1


_NOTHING = _Nothing()
