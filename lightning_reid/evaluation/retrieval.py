"""Scores of a network on the test part of a data set, without a Trainer: those that ``trainer.test`` gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from lightning_reid.datamodules.transforms import EvaluationTransform
from lightning_reid.inference.embedding import EmbeddedImages, EmbeddingPass
from lightning_reid.inference.onnx_embedding import OnnxEmbedder
from lightning_reid.metrics import ProtocolStamp, RetrievalScores, bootstrap_interval, retrieval_scores
from lightning_reid.metrics.matching import Matching, ProtocolName, require_matches
from lightning_reid.networks import EmbeddingNetwork
from lightning_reid.records import DISTRACTOR_PID, JUNK_PID, AnyRecord, Record, Splits, TrackletRecord

Progress = Callable[[Iterable[EmbeddedImages], int], Iterable[EmbeddedImages]]
"""Passes on batches that hold so many images together, and shows how far they are."""


@dataclass(frozen=True, eq=False)
class EmbeddedTest(Generic[Record]):
    """Queries and gallery with their embeddings, row by row.

    Attributes:
        name: Of the data set.
        query: Q records.
        gallery: G records.
        query_embeddings: ``[Q, D]`` float32.
        gallery_embeddings: ``[G, D]`` float32.
        transform: What an image went through, in words.
        num_unreadable: Records that were left out, for none of their files can be read.

    Example:
        >>> import torch
        >>> from lightning_reid.evaluation import EmbeddedTest, evaluate_embedded
        >>> from lightning_reid.records import ImageRecord
        >>> query, gallery = (ImageRecord("a.jpg", 7, 1),), (ImageRecord("b.jpg", 8, 2), ImageRecord("c.jpg", 7, 2))
        >>> test = EmbeddedTest("mine", query, gallery, torch.tensor([[1.0, 0.0]]), torch.eye(2), transform="none")
        >>> evaluate_embedded(test, "market").scores.mAP  # b.jpg looks like a.jpg, and is not the same person
        0.5
    """

    name: str
    query: tuple[Record, ...]
    gallery: tuple[Record, ...]
    query_embeddings: Tensor
    gallery_embeddings: Tensor
    transform: str
    num_unreadable: int = 0


@dataclass(frozen=True, eq=False)
class EvaluationScores:
    """Scores under one protocol, and what they were measured on.

    Attributes:
        scores: Of all queries that have a match.
        interval: 95 % interval of mAP over the people who were asked for; ``None`` where that is one person.
        stamp: What they must be read with.

    Example:
        >>> from lightning_reid.datamodules.readers import read_market_folder
        >>> from lightning_reid.evaluation import embed_test, evaluate_embedded
        >>> from lightning_reid.inference import EmbeddingPass, load_network
        >>> test = embed_test(load_network(), read_market_folder(market), EmbeddingPass(quiet=True))  # market: in the Market naming
        >>> found = evaluate_embedded(test, "market")
        >>> found.interval[0] <= found.scores.mAP <= found.interval[1], found.stamp.interval
        (True, '95 % interval of mAP by bootstrap over 6 people')
    """

    scores: RetrievalScores
    interval: tuple[float, float] | None
    stamp: ProtocolStamp


def fitting_protocols(query: Sequence[AnyRecord], gallery: Sequence[AnyRecord]) -> tuple[ProtocolName, ...]:
    """The protocols by which a test part can be scored, as its labels tell.

    ``"leave-one-out"`` where the queries are the gallery. Else of images ``"market"``, where there are several cameras; of tracklets
    ``"mars"``, if the gallery holds the queries, ``"mars-excluding-queries"``, and ``"mars-corrected"``, if there is what it corrects; and
    of both ``"no-camera"``, if the gallery holds no query, which would find itself.
    """
    if _keys(query) == _keys(gallery):
        return ("leave-one-out",)
    held, cameras = bool(set(_keys(query)) & set(_keys(gallery))), len({record.camid for record in (*query, *gallery)})
    found: list[ProtocolName] = []
    if cameras > 1 and not isinstance(query[0], TrackletRecord):
        found.append("market")
    elif cameras > 1:
        corrected = any(record.pid == DISTRACTOR_PID or getattr(record, "second_pid", JUNK_PID) != JUNK_PID for record in gallery)
        found += ["mars", "mars-excluding-queries"] if held else ["mars-excluding-queries"]
        found += ["mars-corrected"] if corrected else []
    return tuple(found) if held else (*found, "no-camera")


def embed_test(
    network: EmbeddingNetwork | OnnxEmbedder, dataset: Splits[Record], embedding: EmbeddingPass, *, progress: Progress | None = None
) -> EmbeddedTest[Record]:
    """Embed queries and gallery, each file once; a tracklet is the mean of its frames, each of length 1.

    Args:
        network: Of images.
        dataset: With queries and a gallery.
        embedding: How files are embedded; what it skips has no row.
        progress: Shows how far it is; ``None`` shows nothing.

    Raises:
        CorruptImageError: As ``EmbeddingPass.run``.
        ValueError: As ``EmbeddingPass.run``, or no query or nothing of the gallery can be read.

    Example:
        >>> from lightning_reid.datamodules.readers import read_mars_folder
        >>> from lightning_reid.evaluation import embed_test
        >>> from lightning_reid.inference import EmbeddingPass, load_network
        >>> test = embed_test(load_network(), read_mars_folder(mars), EmbeddingPass(quiet=True))  # mars: in the layout of MARS
        >>> len(test.query) == len(test.query_embeddings), test.transform
        (True, 'mean of frames, resize 128x64, ImageNet normalization')
    """
    records = list(dict(zip(_keys((*dataset.query, *dataset.gallery)), (*dataset.query, *dataset.gallery), strict=True)).items())
    rows_of: dict[str, list[int]] = {}
    for row, (paths, _) in enumerate(records):
        for path in paths:
            rows_of.setdefault(path, []).append(row)
    sums, counts = torch.zeros(len(records), network.num_features), torch.zeros(len(records))
    batches: Iterable[EmbeddedImages] = embedding.stream(network, list(rows_of), dataset.pictures)
    for batch in batches if progress is None else progress(batches, len(rows_of)):
        places = [(place, row) for place, path in enumerate(batch.paths) for row in rows_of[path]]
        place, row = torch.tensor(places).T
        sums.index_add_(0, row, batch.embeddings[place])
        counts.index_add_(0, row, torch.ones(len(row)))
    row_of = {paths: row for row, (paths, _) in enumerate(records) if counts[row]}
    query, gallery = (tuple(one for one, key in zip(side, _keys(side)) if key in row_of) for side in (dataset.query, dataset.gallery))
    for what, side in (("query", query), ("image of the gallery", gallery)):
        if not side:
            raise ValueError(f"{dataset.name}: not one {what} can be read")
    means = sums / counts.clamp_min(1)[:, None]
    query_embeddings, gallery_embeddings = (means[[row_of[key] for key in _keys(side)]] for side in (query, gallery))
    height, width = embedding.size_for(network)
    parts = ["mean of frames"] if isinstance(query[0], TrackletRecord) else []
    parts += [EvaluationTransform((height, width)).in_words, *(["mean with the mirror image"] if embedding.flip else [])]
    return EmbeddedTest(
        *(dataset.name, query, gallery, query_embeddings, gallery_embeddings),
        transform=", ".join(parts),
        num_unreadable=len(dataset.query) + len(dataset.gallery) - len(query) - len(gallery),
    )


def evaluate_embedded(test: EmbeddedTest, protocol: ProtocolName, *, rerank: bool = False) -> EvaluationScores:
    """Score embedded queries by cosine under a protocol.

    Args:
        test: What was embedded.
        protocol: See ``Matching``. Under ``"mars-excluding-queries"`` the gallery is scored without the queries.
        rerank: Whether to rank by ``k_reciprocal_rerank``.

    Raises:
        ValueError: As ``require_scorable``.

    Example:
        >>> from lightning_reid.datamodules.readers import read_market_folder
        >>> from lightning_reid.evaluation import embed_test, evaluate_embedded
        >>> from lightning_reid.inference import EmbeddingPass, load_network
        >>> test = embed_test(load_network(), read_market_folder(market), EmbeddingPass(quiet=True))  # market: in the Market naming
        >>> evaluate_embedded(test, "market", rerank=True).stamp.reranked
        True
    """
    rows = require_scorable(test.query, test.gallery, protocol)
    gallery = [test.gallery[row] for row in rows]
    query_pids, gallery_pids = (torch.tensor([record.pid for record in side]) for side in (test.query, gallery))
    camids = (torch.tensor([record.camid for record in side]) for side in (test.query, gallery))
    corrected = protocol == "mars-corrected"
    second = [torch.tensor([getattr(record, "second_pid", JUNK_PID) for record in side]) for side in (test.query, gallery)]
    scores = retrieval_scores(
        *(test.query_embeddings, test.gallery_embeddings[rows], query_pids, gallery_pids, *camids),
        protocol=protocol,
        rerank=rerank,
        query_second_pids=second[0] if corrected else None,
        gallery_second_pids=second[1] if corrected else None,
    )
    several = scores.num_people > 1
    stamp = ProtocolStamp(
        test.name,
        num_query=len(test.query),
        num_gallery=int((gallery_pids != JUNK_PID).sum()),
        num_query_ids=len(query_pids.unique()),
        protocol=protocol,
        transform=test.transform,
        reranked=rerank,
        unit="tracklets" if isinstance(test.query[0], TrackletRecord) else "images",
        interval=f"95 % interval of mAP by bootstrap over {scores.num_people} people" if several else "",
    )
    return EvaluationScores(scores, bootstrap_interval(scores.average_precision, scores.query_pids) if several else None, stamp)


def require_scorable(query: Sequence[AnyRecord], gallery: Sequence[AnyRecord], protocol: ProtocolName) -> list[int]:
    """Refuse by the labels alone what a protocol cannot score, before anything is embedded; the rows of the gallery that it takes.

    Raises:
        ValueError: Not one query has a match, or queries are in the gallery of a protocol by which they would find themselves.
    """
    keys, asked = _keys(gallery), set(_keys(query))
    rows = [row for row, key in enumerate(keys) if protocol != "mars-excluding-queries" or key not in asked]
    if protocol == "no-camera" and asked & set(keys):
        raise ValueError("the gallery holds queries, and under the protocol 'no-camera' each would find itself: take another")
    require_matches(Matching.of_records(query, [gallery[row] for row in rows], protocol))
    return rows


def difference_interval(scores: RetrievalScores, first: RetrievalScores) -> tuple[float, float] | None:
    """95 % interval, over people, of the difference in mAP of two networks that were asked the same; ``None`` where that is one person.

    Args:
        scores: Of a network.
        first: Of another, of the same queries.

    Raises:
        ValueError: The queries are not the same.
    """
    if not (torch.equal(scores.valid_queries, first.valid_queries) and torch.equal(scores.query_pids, first.query_pids)):
        raise ValueError("two networks can be compared on the same queries only, and these were scored on others")
    if scores.num_people < 2:
        return None
    return bootstrap_interval(scores.average_precision - first.average_precision, scores.query_pids)


def _keys(records: Iterable[AnyRecord]) -> list[tuple[str, ...]]:
    return [tuple(record.paths) if isinstance(record, TrackletRecord) else (record.path,) for record in records]
