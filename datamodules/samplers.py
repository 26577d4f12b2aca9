"""Which records make up the batches: P x K identity draws, inter-camera draws, and the shares of several processes.

The draws of an epoch are a function of (labels, P, K, seed, epoch). Every process plans the whole epoch and takes whole batches
of the plan in turn, so W processes with batches of B see in one step what one process with a batch of W x B sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_reid.datamodules.images import Draw
from lightning_reid.records import InterCameraPairs

EpochLength = Literal["records", "identities"]
"""About one draw per labeled record; or every identity once."""


def identity_batches(
    labels: Tensor, p: int, k: int, *, generator: np.random.Generator, world_size: int = 1, epoch: EpochLength = "records"
) -> Tensor:
    """Plan one epoch of identity-balanced batches.

    Identities come in random passes over all of them, so that each is drawn equally often; the images of one identity come in
    random passes over its images, so that none is drawn twice before all were drawn once. An identity with fewer than K images
    repeats them.

    Args:
        labels: ``[N]`` int64 identities; negative ones (noise) are never drawn.
        p: Identities a batch, at least 1 and at most the number of identities.
        k: Images an identity, at least 1.
        generator: Source of the draws.
        world_size: Number of processes that share the plan; the number of batches is a multiple of it, at least one each.
        epoch: ``"records"``: as long as the labeled images make it, about one draw an image. ``"identities"``: one pass over the
            identities, K images each, as in video re-ID (MARS: 625 people are 78 batches of 8); those
            that fill no further step of all processes, fewer than P a process, sit this epoch out.

    Returns:
        ``[num_batches, P * K]`` int64 rows of ``labels``; K neighboring entries share an identity.

    Raises:
        ValueError: There are fewer than P identities.
    """
    rows_of = _rows_by_identity(labels)
    if len(rows_of) < p:
        raise ValueError(f"a batch wants P={p} identities, but the images have only {len(rows_of)}: lower p")
    per_step = p * world_size
    num_steps = len(rows_of) // per_step if epoch == "identities" else sum(map(len, rows_of)) // (k * per_step)
    num_batches = max(1, num_steps) * world_size
    identities = _plan_items(len(rows_of), p, num_batches, world_size, generator)
    decks = [_Deck(rows, generator) for rows in rows_of]
    batches = [np.concatenate([decks[identity].deal(k) for identity in batch]) for batch in identities]
    return torch.from_numpy(np.stack(batches))


def shuffled_batches(num_images: int, batch_size: int, *, generator: np.random.Generator, world_size: int = 1) -> Tensor:
    """Plan one pass over images in random order; those that fill no further step of all processes sit it out.

    Args:
        num_images: N, at least 1.
        batch_size: B, at least 1; N // ``world_size`` where that is less.
        generator: Source of the draws.
        world_size: Number of processes that share the plan, at most N.

    Returns:
        ``[num_batches, B]`` int64 in ``0..N-1``, none twice; the number of batches is a multiple of ``world_size``.

    Raises:
        ValueError: A number is out of range.
    """
    if batch_size < 1 or not 1 <= world_size <= num_images:
        raise ValueError(f"need batch_size >= 1 and an image for each process, got {batch_size}, {num_images} images and {world_size}")
    per_batch = min(batch_size, num_images // world_size)
    fitting = num_images - num_images % (per_batch * world_size)
    return torch.from_numpy(generator.permutation(num_images)[:fitting].reshape(-1, per_batch))


def whole_pass_batches(num_images: int, batch_size: int, *, generator: np.random.Generator) -> Tensor:
    """Plan one pass over all images in random order, the last batch being what is left; one of a single image is dropped.

    Args:
        num_images: N, at least 2.
        batch_size: B, at least 2.
        generator: Source of the draws.

    Returns:
        ``[num_batches, B]`` int64 in ``0..N-1``, none twice; the last row ends with -1 where there are fewer.

    Raises:
        ValueError: A number is out of range.
    """
    if batch_size < 2 or num_images < 2:
        raise ValueError(f"a pass needs batches of two images or more, got {num_images} images and batch_size={batch_size}")
    rows = generator.permutation(num_images)
    if num_images % batch_size == 1 and num_images > 1:
        rows = rows[:-1]
    width = min(batch_size, len(rows))
    padded = np.full(-(-len(rows) // width) * width, -1, dtype=np.int64)
    padded[: len(rows)] = rows
    return torch.from_numpy(padded.reshape(-1, width))


def inter_camera_batches(
    pairs: InterCameraPairs,
    labels: Tensor,
    p: int,
    k: int,
    *,
    num_batches: int,
    generator: np.random.Generator,
    world_size: int = 1,
    noise: bool = False,
) -> Tensor:
    """Plan the batches of the inter-camera triplet loss: anchors, each with images drawn from its mutual list (HSR, section 4.4.2).

    Args:
        pairs: Cross-camera neighbor lists of N images.
        labels: ``[N]`` int64; without ``noise``, neither end of a drawn pair is -1.
        p: Anchors a batch; fewer when fewer images have a partner.
        k: Images an anchor: itself and K - 1 of its mutual neighbors, repeated where it has fewer.
        num_batches: Rows of the plan.
        generator: Source of the draws.
        world_size: Number of processes that share the plan.
        noise: Whether images without a pseudo-label take part, as in Algorithm 1, which pairs all images; leaving them out is ours.

    Returns:
        ``[num_batches, P' * K]`` int64, P' <= P; ``[num_batches, 0]`` when no mutual pair exists.
    """
    usable = pairs.mutual
    if not noise:
        usable = usable & (labels[pairs.ranked.clamp_min(0)] >= 0) & (labels >= 0).unsqueeze(1)
    anchors = usable.any(1).nonzero().flatten().numpy()
    if not len(anchors):
        return torch.empty(num_batches, 0, dtype=torch.int64)
    partners = {int(a): _Deck(pairs.ranked[a][usable[a]].numpy(), generator) for a in anchors}
    p = min(p, len(anchors))
    chosen = anchors[_plan_items(len(anchors), p, num_batches, world_size, generator)]
    batches = [np.concatenate([np.append(a, partners[int(a)].deal(k - 1)) for a in batch]) for batch in chosen]
    return torch.from_numpy(np.stack(batches))


def _rows_by_identity(labels: Tensor) -> list[np.ndarray]:
    values = labels.numpy()
    order = np.argsort(values, kind="stable")[int((values < 0).sum()) :]
    return np.split(order, np.flatnonzero(np.diff(values[order])) + 1) if len(order) else []


def _plan_items(num_items: int, p: int, num_batches: int, world_size: int, generator: np.random.Generator) -> np.ndarray:
    """``[num_batches, p]``: distinct within the ``world_size`` batches of one step where there are enough items, else within a batch."""
    together = world_size if num_items >= p * world_size else 1
    return _distinct_in_batches(num_items, p * together, num_batches // together, generator).reshape(num_batches, p)


def _distinct_in_batches(num_items: int, per_batch: int, num_batches: int, generator: np.random.Generator) -> np.ndarray:
    """``[num_batches, per_batch]`` items in random passes over all of them, none twice in one batch."""
    stream: list[int] = []
    while len(stream) < num_batches * per_batch:
        one_pass = generator.permutation(num_items)
        begun = len(stream) % per_batch
        if begun:  # the batch that spans two passes must not hold an item twice
            repeated = np.isin(one_pass, stream[-begun:])
            one_pass = np.concatenate([one_pass[~repeated], one_pass[repeated]])
        stream.extend(one_pass.tolist())
    return np.array(stream[: num_batches * per_batch]).reshape(num_batches, per_batch)


class _Deck:
    """Deals items in random passes over all of them."""

    def __init__(self, items: np.ndarray, generator: np.random.Generator) -> None:
        self.items, self.generator, self.left = items, generator, np.empty(0, dtype=np.int64)

    def deal(self, count: int) -> np.ndarray:
        while len(self.left) < count:
            self.left = np.concatenate([self.left, self.generator.permutation(self.items)])
        dealt, self.left = self.left[:count], self.left[count:]
        return dealt


@dataclass(frozen=True)
class EpochPlan:
    """What one epoch trains on, as all processes know it.

    Attributes:
        labeled: ``[num_batches, B]`` int64 rows for the losses of (pseudo-)identities; -1 where a batch is shorter than others.
        labels: ``[N]`` int64 identities of the moment, -1 for none.
        epoch: Epochs that were drawn before, those of earlier fits included: what augmentations depend on.
        beside: ``[num_batches, B']`` int64 rows that come beside them (inter-camera mining, pairs of views); ``None`` for none.
        finish: What is added to a loaded batch by what is believed at the moment; it runs in the main process.
    """

    labeled: Tensor
    labels: Tensor
    epoch: int
    beside: Tensor | None = None
    finish: Callable[[dict[str, Any]], dict[str, Any]] | None = None

    def length(self, world_size: int) -> int:
        """Batches of each process; ``num_batches`` is a multiple of ``world_size``."""
        return len(self.labeled) // world_size

    def batches(self, rank: int, world_size: int, start: int = 0) -> Iterator[list[Draw]]:
        """The batches of one process, the first ``start`` of them left out."""
        parts = [part for part in (self.labeled, self.beside) if part is not None]
        labels = self.labels.tolist()
        for step in range(rank + start * world_size, self.length(world_size) * world_size, world_size):
            batch, before = [], 0
            for number, part in enumerate(parts):
                first = before + step * part.shape[1]
                batch += [
                    Draw(row, first + place, number, labels[row], self.epoch) for place, row in enumerate(part[step].tolist()) if row >= 0
                ]
                before += part.numel()
            yield batch


def shard_rows(num_rows: int, rank: int, world_size: int) -> list[int]:
    """Rows ``rank, rank + world_size, ...`` of ``range(num_rows)``, padded from the front so that every rank has equally many.

    DistributedDataParallel synchronizes buffers in every forward pass, so ranks must take equally many steps; whoever gathers the
    rows drops those that come twice.
    """
    length = -(-num_rows // world_size)
    return [row % num_rows for row in range(rank, length * world_size, world_size)]


def evaluation_batches(sizes: Sequence[int], max_size: int, rank: int, world_size: int) -> list[list[int]]:
    """This rank's share of records of different sizes, in batches of bounded size; all ranks have equally many records and batches.

    A rank's records are those of ``shard_rows``. They fill batches in order; a record larger than ``max_size`` is a batch of its own.
    A rank whose records fill fewer batches than another's splits those with most records until there are as many.

    Args:
        sizes: Of each record, e.g. its number of clips.
        max_size: Most that the records of a batch add up to.
        rank: This process.
        world_size: Number of processes.

    Returns:
        Batches of rows of ``sizes``.
    """
    plans = [_fill_batches(shard_rows(len(sizes), other, world_size), sizes, max_size) for other in range(world_size)]
    batches = plans[rank]
    for _ in range(max(map(len, plans)) - len(batches)):
        longest = max(range(len(batches)), key=lambda place: len(batches[place]))
        middle = len(batches[longest]) // 2
        batches[longest : longest + 1] = [batches[longest][:middle], batches[longest][middle:]]
    return batches


def _fill_batches(rows: Sequence[int], sizes: Sequence[int], max_size: int) -> list[list[int]]:
    batches: list[list[int]] = []
    total = 0
    for row in rows:
        if not batches or total + sizes[row] > max_size:
            batches.append([])
            total = 0
        batches[-1].append(row)
        total += sizes[row]
    return batches
