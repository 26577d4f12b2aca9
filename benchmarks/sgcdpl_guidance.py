"""Which images tell SG-AP's preference p* and the threshold tau_l? Labeled ones, augmented copies of them, guides, or the truth.

By the initial networks of ``benchmarks/sgcdpl_ordering.py``, which must have been run with the same ``--seeds`` and ``--output``. Those of
labeled images and of their copies have seen these images by name; guides' have not, nor those of the unlabeled people, of whom as many with
true names stand for what nobody has.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import sgcdpl_ordering
import torch
from torch import Tensor

from lightning_reid.clustering import affinity_propagation, clustering_agreement, semantics_guided_affinity_propagation
from lightning_reid.clustering.distances import median_similarity, negative_squared_distances
from lightning_reid.datamodules import SemiSupervisedDataModule
from lightning_reid.datamodules.images import Draw, TrainImages, collate_images
from lightning_reid.modules import SGCDPL
from lightning_reid.recipes import sgcdpl_tables
from lightning_reid.selection import distance_threshold, reliable_images
from lightning_reid.selection.exemplar_threshold import exemplar_threshold

COLUMNS = {
    "squared distance in a person, median": ".1f",
    "tau_l of pairs": ".1f",
    "selected, %": ".1f",
    "tau_l of exemplars": ".1f",
    "selected by it, %": ".1f",
    "clusters of SG-AP": ".0f",
    "people": ".0f",
    "V-measure": ".3f",
}
BATCH = 128


class Guidance(NamedTuple):
    """Images that tell: their embeddings, who they show, and whether they are the first of those to be clustered."""

    embeddings: Tensor
    pids: Tensor
    clustered: Tensor
    truth: Tensor
    among: bool


@torch.no_grad()
def embed(model: SGCDPL, data: SemiSupervisedDataModule, batches: Iterable[dict[str, Tensor]]) -> Tensor:
    """Embeddings ``[N, D]`` before the BNNeck, in the order of the batches."""
    model.eval()
    return torch.cat([model.embed(data.on_after_batch_transfer(batch, 0)["images"]).before_bnneck for batch in batches])


def augmented(data: SemiSupervisedDataModule) -> Iterator[dict[str, Tensor]]:
    """The labeled images in the training transform, a draw of their own."""
    images = TrainImages(data.labeled_records, data.train_transform, seed=data.seed + 1, load=data.picture)
    for rows in torch.arange(len(images)).split(BATCH):
        yield collate_images([images[Draw(int(row), int(row))] for row in rows])


def told_by_labeled(model: SGCDPL, data: SemiSupervisedDataModule) -> dict[str, Guidance]:
    unlabeled, truth, pids = embed(model, data, data.target_dataloader()), data.ground_truth(), data.labeled_pids
    plain, copies = embed(model, data, data.labeled_dataloader()), embed(model, data, augmented(data))
    people = truth.unique()
    named = people[torch.randperm(len(people), generator=torch.Generator().manual_seed(data.seed))[: int(data.num_classes)]]
    known = torch.isin(truth, named)
    first = torch.cat([known.nonzero().flatten(), (~known).nonzero().flatten()])
    return {
        "labeled images": Guidance(plain, pids, unlabeled, truth, among=False),
        "augmented copies": Guidance(copies, pids, unlabeled, truth, among=False),
        f"truth of {len(named)} unlabeled people": Guidance(unlabeled[known], truth[known], unlabeled[first], truth[first], among=True),
    }


def told_by_guides(model: SGCDPL, data: SemiSupervisedDataModule) -> dict[str, Guidance]:
    target, pids = embed(model, data, data.target_dataloader()), data.guide_pids
    return {f"{len(pids.unique())} guides": Guidance(target[: len(pids)], pids, target, data.ground_truth(), among=True)}


def figures(told: Guidance) -> list[float]:
    """A row of ``COLUMNS``."""
    similarity = negative_squared_distances(told.clustered)
    plain = affinity_propagation(similarity, median_similarity(similarity))
    tau = distance_threshold(told.embeddings, told.pids).value
    selected = reliable_images(told.clustered, plain.labels, plain.exemplars, tau)
    nearness, by_exemplars = float("nan"), float("nan")
    rest = told.clustered
    if told.among:
        nearness = exemplar_threshold(told.clustered, plain.labels, plain.exemplars, told.pids).value
        by_exemplars = 100 * float(reliable_images(told.clustered, plain.labels, plain.exemplars, nearness).double().mean())
        rest = told.clustered[len(told.pids) :]
    found = semantics_guided_affinity_propagation(told.embeddings, told.pids, rest, with_labeled=told.among).clusters
    return [
        distance_threshold(told.embeddings, told.pids, quantile=0.5).value,
        tau,
        100 * float(selected.double().mean()),
        nearness,
        by_exemplars,
        float(len(found.exemplars)),
        float(len(told.truth.unique())),
        clustering_agreement(found.labels, told.truth).v_measure,
    ]


def of_seed(seed: int, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """The rows of a seed, of which the initial networks are read back."""
    folder, found = arguments.output / f"seed{seed}", {}
    parts = (
        (folder, sgcdpl_ordering.MEMORIZED, told_by_labeled),
        (folder / "guides", sgcdpl_ordering.GUIDED, told_by_guides),
    )
    for output, switches, told in parts:
        if not (output / sgcdpl_tables.INITIALIZATION / "scores.json").is_file():
            raise FileNotFoundError(f"{output} holds no initial network: run benchmarks/sgcdpl_ordering.py --seeds {seed} first")
        with sgcdpl_ordering.Opened(seed, output, arguments, switches) as rows:
            model, _ = rows.initial(sgcdpl_tables.INITIALIZATION)
            rows.data.setup("fit")
            found |= {name: figures(one) for name, one in told(model, rows.data).items()}
    return found


def report(found: Sequence[dict[str, list[float]]]) -> str:
    """The means over the seeds, as Markdown, with the smallest and the largest number of clusters."""
    lines = ["| read off | " + " | ".join([*COLUMNS, "clusters, seed by seed"]) + " |", "|---|" + "---:|" * (len(COLUMNS) + 1)]
    for name in found[0]:
        table = torch.tensor([one[name] for one in found], dtype=torch.float64)
        cells = [format(value, how) for value, how in zip(table.mean(0).tolist(), COLUMNS.values(), strict=True)]
        clusters = ", ".join(f"{value:.0f}" for value in table[:, list(COLUMNS).index("clusters of SG-AP")].tolist())
        lines.append(f"| {name} | " + " | ".join([*cells, clusters]).replace("nan", "") + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> list[dict[str, list[float]]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14], help="default: 10 to 14")
    parser.add_argument("--output", type=Path, default=Path("runs/sgcdpl_ordering"), help="folder of the runs")
    arguments = parser.parse_args(argv, argparse.Namespace(validation=False))
    found = [of_seed(seed, arguments) for seed in arguments.seeds]
    print(report(found))
    return found


if __name__ == "__main__":
    main()
