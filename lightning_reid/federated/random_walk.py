"""A model that walks from client to client and learns at each, in place of an average."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal, get_args

import numpy as np
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number, require_seed
from lightning_reid.federated.strategies import MAX_IMAGES, NETWORK, FedPav, Reply, RoundReport, ServerState

WalkName = Literal["laps", "uniform", "proportional", "cyclic"]
DECAY_AFTER = (2, 3)
"""Share of the visits after which learning rates are a tenth."""


def walk_order(
    devices: Sequence[str],
    visits: int,
    seed: int,
    *,
    kind: WalkName = "laps",
    stage: int = 2,
    num_images: Mapping[str, int] | None = None,
) -> list[str]:
    """Where a model goes, ``visits`` laps of as many visits as there are devices.

    A lap follows from (seed, stage, lap) and from where the lap before it ended, never from what happened on the way.

    Source: edge-device text, section 3.2 ("the model walks randomly between edge devices"); how is left open there.

    Args:
        devices: Ids, each once.
        visits: Laps, at least 1: visits a device on average.
        seed: At least 0.
        kind: ``"laps"``: each lap a fresh permutation, and no device twice in a row. ``"uniform"``: any device but the one where it is.
            ``"proportional"``: any, by its number of images. ``"cyclic"``: as they are given, again and again.
        stage: Of the method, so that two walks of one seed differ.
        num_images: Of each device, for ``"proportional"``.

    Returns:
        ``visits * len(devices)`` ids.

    Raises:
        ValueError: No device, one twice, a number out of range, or a device without images for ``"proportional"``.

    Example:
        >>> from lightning_reid.federated.random_walk import walk_order
        >>> walk = walk_order(["a", "b", "c"], visits=2, seed=0)
        >>> sorted(walk[:3]), sorted(walk[3:]), walk[2] != walk[3]
        (['a', 'b', 'c'], ['a', 'b', 'c'], True)
    """
    require_count("visits", visits)
    require_seed("seed", seed)
    require_choice("kind", kind, get_args(WalkName))
    require_count("stage", stage, low=0)
    if not devices or len({*devices}) < len(devices):
        raise ValueError(f"a walk needs devices, each once, got {list(devices)}")
    weights = _weights(devices, kind, num_images)
    order: list[int] = []
    for lap in range(visits):
        generator = np.random.default_rng([seed, stage, lap])
        order += _lap(len(devices), kind, weights, generator, order[-1] if order else None)
    return [devices[place] for place in order]


def _lap(number: int, kind: WalkName, weights: np.ndarray | None, generator: np.random.Generator, before: int | None) -> list[int]:
    if kind == "cyclic" or number == 1:
        return list(range(number))
    if kind == "laps":
        places = generator.permutation(number).tolist()
        if places[0] == before:
            places[0], places[1] = places[1], places[0]
        return [int(place) for place in places]
    if kind == "proportional":
        return [int(place) for place in generator.choice(number, size=number, p=weights)]
    places = []
    for step in generator.integers(1, number, size=number).tolist():  # so many places on, so that it is another one
        before = int(generator.integers(number)) if before is None else (before + step) % number
        places.append(before)
    return places


def _weights(devices: Sequence[str], kind: WalkName, num_images: Mapping[str, int] | None) -> np.ndarray | None:
    if kind != "proportional":
        return None
    counts = np.array([(num_images or {}).get(device, 0) for device in devices], dtype=np.float64)
    if not ((counts > 0) & np.isfinite(counts)).all():
        raise ValueError(f"a walk in proportion to images needs the number of each of {list(devices)}, got {num_images}")
    return np.asarray(counts / counts.sum())


class RandomWalk(FedPav):
    """One client is asked a round, and its reply is the model.

    A client that does not answer, or whose reply cannot be used, is owed the visit: the model goes on as it was, and the client is asked
    again at the end of the lap, once. A visit that fails then is lost, which the round's report says.

    What walks is given by ``prefixes``: of the text the parameters and statistics of the stages that are trained. A classifier is made
    anew at each visit, and stays.

    Source: edge-device text, section 3.2.

    Args:
        prefixes: Of the names that walk.
        visits: Laps, at least 1.
        kind: See ``walk_order``.
        seed: Of the walk.
        stage: See ``walk_order``.
        num_images: See ``walk_order``.
        decay: Factor of the learning rates after two thirds of the visits, in (0, 1]; 1 for none.
        max_images: See :class:`FedPav`.

    Raises:
        ValueError: No prefix, or a number out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.federated import RandomWalk
        >>> from lightning_reid.federated.strategies import Reply
        >>> strategy = RandomWalk(visits=1)
        >>> state = strategy.begin({"network.weight": torch.zeros(1)}, clients=["a", "b"])
        >>> (first,) = strategy.asked(state)
        >>> report = strategy.aggregate(state, [Reply(first, {"network.weight": torch.ones(1)}, 30)])
        >>> state.tensors["network.weight"], strategy.asked(state) == [first], strategy.finished(state, 2)
        (tensor([1.]), False, False)
    """

    name: ClassVar[str] = "RandomWalk"

    def __init__(
        self,
        prefixes: tuple[str, ...] = (NETWORK,),
        visits: int = 6,
        kind: WalkName = "laps",
        seed: int = 0,
        stage: int = 2,
        num_images: Mapping[str, int] | None = None,
        decay: float = 0.1,
        max_images: int = MAX_IMAGES,
    ) -> None:
        super().__init__(prefixes, quorum=1.0, max_images=max_images)
        require_count("visits", visits)
        require_choice("kind", kind, get_args(WalkName))
        require_seed("seed", seed)
        require_count("stage", stage, low=0)
        require_number("decay", decay, above=0, high=1)
        self.visits, self.kind, self.seed, self.stage = visits, kind, seed, stage
        self.num_images, self.decay = num_images, decay

    def order(self, state: ServerState) -> list[str]:
        """The whole walk, as it is when everybody is reached."""
        return walk_order(state.clients, self.visits, self.seed, kind=self.kind, stage=self.stage, num_images=self.num_images)

    @override
    def asked(self, state: ServerState) -> list[str]:
        """The one client that is visited in the round that ``state`` is at.

        Raises:
            ValueError: The walk is over.
        """
        place = self._place(state)
        if state.owed and place % len(state.clients) == 0:
            return state.owed[:1]
        order = self.order(state)
        if place >= len(order):
            raise ValueError(f"the walk of {len(order)} visits is over: give the strategy more visits")
        return [order[place]]

    @override
    def finished(self, state: ServerState, rounds: int) -> bool:
        """Whether so many visits are done or lost, and none is owed."""
        return self._place(state) >= rounds and not (state.owed and self._place(state) % len(state.clients) == 0)

    @override
    def lr_factor(self, state: ServerState) -> float:
        share, whole = DECAY_AFTER
        return self.decay if whole * self._place(state) >= share * self.visits * len(state.clients) else 1.0

    @override
    def aggregate(self, state: ServerState, replies: Iterable[Reply], absent: Mapping[str, str] | None = None) -> RoundReport:
        """Take the reply for the model; without one owe the visit, or lose it.

        Raises:
            ValueError: A client answers that was not asked, or twice.
            RuntimeError: Nobody was reached for a whole lap; the message names who, and why the last was not.
        """
        (client,) = self.asked(state)
        again = bool(state.owed) and self._place(state) % len(state.clients) == 0
        report = super().aggregate(state, replies, absent)
        if report.repeat:
            if not again and len(state.owed) + 1 == len(state.clients):
                reason = report.left_out.get(client, "no reply")
                missed = ", ".join([*state.owed, client])
                raise RuntimeError(f"nobody was reached for a whole lap: {missed}; why the last of them was not: {reason}")
            told = "the visit is lost" if again else "it is visited at the end of the lap"
            report = replace(
                report, repeat=False, left_out={**report.left_out, client: f"{report.left_out.get(client, 'no reply')}; {told}"}
            )
            state.owed += [] if again else [client]
            state.round += 1
        if again:
            state.owed.remove(client)
            state.retried += 1
        return report

    def _place(self, state: ServerState) -> int:
        """In the walk: rounds that asked somebody again are beside it."""
        return state.round - state.retried
