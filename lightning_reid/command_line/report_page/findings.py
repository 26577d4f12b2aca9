"""What a network comes to on a test part: all that the page shows of it, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_reid.evaluation.retrieval import EmbeddedTest, EvaluationScores, evaluate_embedded, require_scorable
from lightning_reid.metrics import CameraPairs, PairDistances, camera_pair_failures, pair_distances, rank_lists
from lightning_reid.metrics.matching import Matching, ProtocolName
from lightning_reid.metrics.projection import FEWEST_POINTS, MapMethod, embedding_map
from lightning_reid.records import JUNK_PID, AnyRecord

TOP = 10
"""Answers of a rank list."""
MOST_PEOPLE = 40
"""On the map: of more nobody could tell the looks apart."""


@dataclass(frozen=True)
class AskedQuery:
    """A query and its answers.

    Attributes:
        number: Among all queries.
        record: Of the query.
        average_precision: In [0, 1].
        first_right_rank: Of its nearest match, from 1.
        answers: Its nearest gallery images, and whether each is right.
        first_right: The nearest match, where it is none of the answers.
    """

    number: int
    record: AnyRecord
    average_precision: float
    first_right_rank: int
    answers: tuple[tuple[AnyRecord, bool], ...]
    first_right: AnyRecord | None


@dataclass(frozen=True, eq=False)
class MappedPoints:
    """Pictures in the plane.

    Attributes:
        records: Of n pictures, those of one person after the other.
        is_query: Of each, whether it is a query.
        points: ``[n, 2]``.
        num_people: That they are of.
        of_records: Pictures of people that could have been drawn.
        of_people: Different people that they are of.
        method: How they were placed.
    """

    records: tuple[AnyRecord, ...]
    is_query: tuple[bool, ...]
    points: Tensor
    num_people: int
    of_records: int
    of_people: int
    method: MapMethod


@dataclass(frozen=True, eq=False)
class Findings:
    """A test part under one protocol.

    Attributes:
        found: Scores, interval and stamp.
        worst: Queries of lowest average precision, the lowest first.
        random: Queries drawn from all that are scored.
        cameras: Failures by camera pair; ``None`` where all are of one camera.
        distances: Of pairs.
        map: Of pictures; ``None`` where there are fewer than three.
    """

    found: EvaluationScores
    worst: tuple[AskedQuery, ...]
    random: tuple[AskedQuery, ...]
    cameras: CameraPairs | None
    distances: PairDistances | None
    map: MappedPoints | None


def find(
    test: EmbeddedTest,
    protocol: ProtocolName,
    *,
    rerank: bool,
    queries: int,
    points: int,
    method: MapMethod,
    false_match_rate: float,
    seed: int,
) -> Findings:
    """Look into embedded queries and gallery.

    Args:
        test: What was embedded.
        protocol: Under which everything is judged.
        rerank: Whether lists are ranked by ``k_reciprocal_rerank``; distances and map are of the embeddings all the same.
        queries: Of each of the two lists, at most.
        points: Of the map, at most.
        method: Of the map.
        false_match_rate: Of the threshold, in (0, 1).
        seed: Of what is drawn.

    Raises:
        ValueError: As ``evaluate_embedded``.
    """
    found = evaluate_embedded(test, protocol, rerank=rerank)
    rows = require_scorable(test.query, test.gallery, protocol)
    gallery, embeddings = [test.gallery[row] for row in rows], test.gallery_embeddings[rows]
    matching = Matching.of_records(test.query, gallery, protocol)
    precision = found.scores.average_precision
    worst = precision.argsort(stable=True)[:queries]
    drawn = torch.randperm(len(precision), generator=torch.Generator().manual_seed(seed))[:queries].sort().values
    asked = _asked(test, gallery, embeddings, matching, found, torch.cat([worst, drawn]), rerank=rerank)
    several = len({one.camid for one in (*test.query, *gallery)}) > 1
    return Findings(
        found,
        asked[: len(worst)],
        asked[len(worst) :],
        camera_pair_failures(test.query_embeddings, embeddings, matching, rerank=rerank) if several else None,
        _distances(test.query_embeddings, embeddings, matching, false_match_rate),
        _map(test, points, method, seed),
    )


def _asked(
    test: EmbeddedTest,
    gallery: Sequence[AnyRecord],
    embeddings: Tensor,
    matching: Matching,
    found: EvaluationScores,
    places: Tensor,
    *,
    rerank: bool,
) -> tuple[AskedQuery, ...]:
    """Some of the scored queries, by their places among them."""
    scores, asked = found.scores, list[AskedQuery]()
    numbers, ranks = scores.valid_queries[places].tolist(), scores.first_match_rank[places].tolist()
    lists = rank_lists(test.query_embeddings, embeddings, matching, numbers, top=max(TOP, *ranks), rerank=rerank)
    for number, rank, place, ranked in zip(numbers, ranks, places.tolist(), lists):
        answers = [(gallery[column], right) for column, right in zip(ranked.columns.tolist(), ranked.right.tolist())]
        first = None if rank <= TOP else answers[rank - 1][0]
        precision = float(scores.average_precision[place])
        asked.append(AskedQuery(number, test.query[number], precision, rank, tuple(answers[:TOP]), first))
    return tuple(asked)


def _distances(query: Tensor, gallery: Tensor, matching: Matching, rate: float) -> PairDistances | None:
    """``None`` where everybody in the gallery is the one who is asked for."""
    people = torch.cat([matching.query_pids, matching.gallery_pids])
    if len(people[people != JUNK_PID].unique()) == 1:
        return None
    return pair_distances(query, gallery, matching, false_match_rate=rate)


def _map(test: EmbeddedTest, most: int, method: MapMethod, seed: int) -> MappedPoints | None:
    """Whole people, drawn by the seed until there are enough points; the last is cut to what is left."""
    seen: dict[object, tuple[AnyRecord, bool, Tensor]] = {}
    for side, embeddings, is_query in ((test.gallery, test.gallery_embeddings, False), (test.query, test.query_embeddings, True)):
        for record, embedding in zip(side, embeddings):
            if record.pid > 0:  # distractors and junk are nobody
                seen[record] = (record, is_query, embedding)  # who is in both is a query
    pids = sorted({record.pid for record, _, _ in seen.values()})
    order = torch.randperm(len(pids), generator=torch.Generator().manual_seed(seed)).tolist()[:MOST_PEOPLE]
    by_person: dict[int, list[tuple[AnyRecord, bool, Tensor]]] = {pids[place]: [] for place in order}
    for one in seen.values():
        if one[0].pid in by_person:
            by_person[one[0].pid].append(one)
    chosen = [one for person in by_person.values() for one in person][:most]
    if len(chosen) < FEWEST_POINTS:
        return None
    placed = embedding_map(torch.stack([embedding for _, _, embedding in chosen]), method=method, seed=seed)
    records, queries = tuple(record for record, _, _ in chosen), tuple(query for _, query, _ in chosen)
    return MappedPoints(records, queries, placed, len({record.pid for record in records}), len(seen), len(pids), method)
