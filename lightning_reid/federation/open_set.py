"""Scores of a federation's models: retrieval and verification on people nobody trained on, and on every client's own people."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.clustering.centroids import cluster_means
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.metrics import identification_rates, retrieval_scores, verification_rates
from lightning_reid.metrics.verification import check_bounds
from lightning_reid.modules import ReIDModule
from lightning_reid.networks.embedding_pass import embedding_pass
from lightning_reid.records import ImageRecord

logger = logging.getLogger(__name__)


def embed_records(module: ReIDModule, data: ImageReIDDataModule, records: Sequence[ImageRecord]) -> Tensor:
    """``[N, D]`` float32 test-time embeddings of some records, on the CPU; in one process."""
    batches = (data.on_after_batch_transfer(batch, 0)["images"].to(module.device) for batch in data.embedding_loader(tuple(records)))
    outputs = embedding_pass(module, batches, lambda images: module.embed_batch({"images": images}))
    return torch.cat([output.embedding.cpu() for _, output in outputs])


def generic_scores(module: ReIDModule, data: ImageReIDDataModule, *, far: Sequence[float], fpir: Sequence[float]) -> dict[str, float]:
    """mAP, R1, TAR at FAR and TPIR at FPIR on a data set's queries and gallery, fractions in [0, 1].

    mAP and R1 follow the Market protocol; queries without a match in another camera are left out of them, and a warning says how many.
    Verification pairs every query with every gallery image, and identification enrolls the people with an even pid by the mean of all their
    gallery images, the others being strangers: both count the images that the query's own camera took of its person, which the Market
    protocol leaves out. That is ours; the thesis' set for it (IJB-C, section 7.4.1) is of faces.

    Raises:
        ValueError: A rate that so few pairs or strangers cannot show.
    """
    query, gallery = data.evaluation_records()
    gallery = tuple(record for record in gallery if record.pid > 0)
    left, right = embed_records(module, data, query), embed_records(module, data, gallery)
    left_pids, right_pids = pids_of(query), pids_of(gallery)
    cameras = [torch.tensor([record.camid for record in records]) for records in (query, gallery)]
    retrieval = retrieval_scores(left, right, left_pids, right_pids, *cameras)
    if retrieval.num_unmatched_queries:
        told = "%d of %d queries have no match in another camera and are not scored"
        logger.warning(told, retrieval.num_unmatched_queries, retrieval.num_queries)
    enrolled = right_pids % 2 == 0
    templates, template_pids = mean_templates(right[enrolled], right_pids[enrolled])
    return {
        "mAP": retrieval.mAP,
        "R1": float(retrieval.cmc[0]),
        **_rates("TAR@FAR", verification_rates(left, left_pids, right, right_pids, far=far).true, far),
        **_rates("TPIR@FPIR", identification_rates(left, left_pids, templates, template_pids, fpir=fpir).true, fpir),
    }


def personal_scores(
    module: ReIDModule, name: str, clients: Mapping[str, ImageReIDDataModule], *, far: Sequence[float], fpir: Sequence[float]
) -> dict[str, float]:
    """TAR at FAR and TPIR at FPIR of a client's own people against those of all others, fractions in [0, 1].

    Each person of the client is enrolled by the mean of their training images, those of the probe's own camera included; the held-out
    images of all clients are probes.

    Source: thesis, section 7.4.1, where impostors are drawn; here they are all.

    Args:
        module: Is asked for embeddings.
        name: Of the client.
        clients: Data of all clients; pids are unlike across them.
        far: False accept rates of pairs.
        fpir: False positive identification rates of strangers' probes.

    Raises:
        ValueError: A rate that so few pairs or strangers cannot show.
    """
    mine = clients[name]
    enrolled = [record for record in mine.dataset.train[: mine.num_images] if record.pid > 0]
    templates, template_pids = mean_templates(embed_records(module, mine, enrolled), pids_of(enrolled))
    probes = [record for one in clients.values() for part in (one.dataset.query, one.dataset.gallery) for record in part]
    embeddings, pids = embed_records(module, mine, probes), pids_of(probes)
    return {
        **_rates("TAR@FAR", verification_rates(embeddings, pids, templates, template_pids, far=far).true, far),
        **_rates("TPIR@FPIR", identification_rates(embeddings, pids, templates, template_pids, fpir=fpir).true, fpir),
    }


def check_generic_rates(data: ImageReIDDataModule, *, far: Sequence[float], fpir: Sequence[float]) -> None:
    """Refuse, before anything is trained, rates that ``generic_scores`` could not show.

    Raises:
        ValueError: A rate that so few pairs or strangers cannot show.
    """
    query, gallery = (pids_of([record for record in part if record.pid > 0]) for part in data.evaluation_records())
    check_bounds(far, _impostor_pairs(query, gallery))
    check_bounds(fpir, int((~torch.isin(query, gallery[gallery % 2 == 0])).sum()))


def check_personal_rates(clients: Mapping[str, ImageReIDDataModule], *, far: Sequence[float], fpir: Sequence[float]) -> None:
    """Refuse, before anything is trained, rates that ``personal_scores`` of some client could not show.

    Raises:
        ValueError: A rate that so few pairs or strangers cannot show; the message names the client.
    """
    probes = pids_of([record for one in clients.values() for part in (one.dataset.query, one.dataset.gallery) for record in part])
    for name, mine in clients.items():
        people = pids_of([record for record in mine.dataset.train[: mine.num_images] if record.pid > 0]).unique()
        try:
            check_bounds(far, _impostor_pairs(probes, people))
            check_bounds(fpir, int((~torch.isin(probes, people)).sum()))
        except ValueError as error:
            raise ValueError(f"client {name}: {error}") from error


def _impostor_pairs(left: Tensor, right: Tensor) -> int:
    people, counts = torch.unique(right, return_counts=True)
    own = {int(pid): int(count) for pid, count in zip(people, counts, strict=True)}
    return len(left) * len(right) - sum(own.get(int(pid), 0) for pid in left)


def mean_templates(embeddings: Tensor, pids: Tensor) -> tuple[Tensor, Tensor]:
    """One template a person: the mean of their normalized embeddings ``[N, D]``; and the pids, ascending."""
    people, labels = torch.unique(pids, return_inverse=True)
    return cluster_means(F.normalize(embeddings, dim=1), labels, len(people)), people


def pids_of(records: Sequence[ImageRecord]) -> Tensor:
    """The identities of image records: ``[N]`` int64."""
    return torch.tensor([record.pid for record in records], dtype=torch.int64)


def _rates(name: str, values: Tensor, bounds: Sequence[float]) -> dict[str, float]:
    return {f"{name}={bound:g}": float(value) for bound, value in zip(bounds, values, strict=True)}
