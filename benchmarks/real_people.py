"""Real people found again by a network: the PETS people to choose by, the PETS people that are only looked at once, and what was looked at.

    python benchmarks/real_people.py PETS MODEL ... --distractors TUD           # the five people that networks are chosen by
    python benchmarks/real_people.py PETS MODEL --released WHY                  # the five others, 18 queries; adds a line to the log

PETS is a folder in the Market naming with ``images.csv`` (file, person, cam, mot_id), TUD another whose people are never asked for. MODEL
is a model folder, a checkpoint, or the name of a shipped network.

Of the people to choose by every image is a query, and the images of TUD are wrong answers; of the others the queries are the data set's
own. ``other visit``: images of the walk that the query is of are ignored as well, so that the person must be found when they come again.
Intervals are of the cluster bootstrap by person; five people are few, and they come out too narrow.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

from lightning_reid.inference import EmbeddingPass, find_crops
from lightning_reid.metrics import bootstrap_interval, retrieval_scores
from lightning_reid.networks import load_embedding_network
from lightning_reid.networks.shipped import located
from lightning_reid.networks.weights import MODEL_WEIGHTS
from lightning_reid.records import DISTRACTOR_PID

LOG = Path(__file__).with_name("real_people_looks.csv")
LOG_HEAD = ("date", "weights", "sha256", "mAP", "R1", "other_visit_mAP", "other_visit_R1", "why")


@dataclass(frozen=True)
class People:
    """Crops ``paths [N]`` with ``pids``, ``camids`` and ``visits [N]``, and which of them are queries and in the gallery, ``[N]`` bool."""

    paths: list[str]
    pids: Tensor
    camids: Tensor
    visits: Tensor
    is_query: Tensor
    in_gallery: Tensor


@dataclass(frozen=True)
class Found:
    """mAP and R1 in per cent, each with the ends of its interval by person."""

    mAP: float  # noqa: N815, the name the field gave it
    R1: float
    mAP_interval: tuple[float, float]  # noqa: N815
    R1_interval: tuple[float, float]

    def __str__(self) -> str:
        (low, high), (worst, best) = self.mAP_interval, self.R1_interval
        return f"mAP {self.mAP:5.1f} [{low:.1f}, {high:.1f}]   R1 {self.R1:5.1f} [{worst:.1f}, {best:.1f}]"


def read_people(pets: Path, split: str, distractors: Path | None = None) -> People:
    """The people of ``"validation"`` (``bounding_box_train``) or of ``"test"`` (``query``, ``bounding_box_test``)."""
    folders = ("bounding_box_train",) if split == "validation" else ("query", "bounding_box_test")
    rows = [row for row in csv.DictReader((pets / "images.csv").open(encoding="utf-8")) if row["split"] in folders]
    others = find_crops([distractors / "bounding_box_train"]) if distractors else []
    pids = [int(row["person"]) for row in rows] + [DISTRACTOR_PID] * len(others)
    from_query = [row["split"] == "query" for row in rows]
    every = split == "validation"
    return People(
        [str(pets / row["split"] / row["file"]) for row in rows] + others,
        torch.tensor(pids),
        torch.tensor([int(row["cam"]) for row in rows] + [0] * len(others)),
        torch.tensor([int(row["mot_id"]) for row in rows] + [0] * len(others)),
        torch.tensor([every or one for one in from_query] + [False] * len(others)),
        torch.tensor([every or not one for one in from_query] + [True] * len(others)),
    )


def find_again(people: People, embeddings: Tensor, *, other_visit: bool = False) -> Found:
    """Score ``embeddings [N, D]`` under the Market protocol; with ``other_visit`` each query without the walk that it is of."""
    pids, camids, gallery = people.pids, people.camids, people.in_gallery
    precisions, firsts, asked = [], [], []
    for visit in people.visits[people.is_query].unique().tolist() if other_visit else [None]:
        queries, pool = people.is_query, gallery
        if visit is not None:
            queries, pool = queries & (people.visits == visit), gallery & (people.visits != visit)
            came_again = pids[pool & (pids > 0)]
            queries = queries & torch.isin(pids, came_again)
            matched = (pids[queries][:, None] == pids[pool]) & (camids[queries][:, None] != camids[pool])
            if not bool(matched.any()):
                continue
        scores = retrieval_scores(embeddings[queries], embeddings[pool], pids[queries], pids[pool], camids[queries], camids[pool])
        precisions.append(scores.average_precision)
        firsts.append(scores.first_match_rank <= 1)
        asked.append(scores.query_pids)
    precision, first, who = 100 * torch.cat(precisions), 100.0 * torch.cat(firsts).double(), torch.cat(asked)
    return Found(float(precision.mean()), float(first.mean()), bootstrap_interval(precision, who), bootstrap_interval(first, who))


def digest_of(model: str) -> str:
    """SHA-256 of a model folder's or a file's weights."""
    path = located(model)
    return hashlib.sha256((path / MODEL_WEIGHTS if path.is_dir() else path).read_bytes()).hexdigest()


def log_look(model: str, market: Found, visit: Found, why: str) -> None:
    """Append that the people who are only looked at were looked at."""
    figures = (f"{value:.1f}" for value in (market.mAP, market.R1, visit.mAP, visit.R1))
    new = not LOG.exists()
    with LOG.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(LOG_HEAD)
        writer.writerow((date.today().isoformat(), Path(model).name, digest_of(model), *figures, why))


def main(argv: list[str] | None = None) -> dict[str, tuple[Found, Found]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pets", type=Path, help="folder of the PETS crops in the Market naming, with images.csv")
    parser.add_argument("models", nargs="+", help="model folders or checkpoints")
    parser.add_argument("--distractors", type=Path, help="folder in the Market naming whose training crops are wrong answers")
    parser.add_argument("--released", metavar="WHY", help="look at the test people; why goes into the log")
    args = parser.parse_args(argv)
    people = read_people(args.pets, "test" if args.released else "validation", None if args.released else args.distractors)
    num_people = len(people.pids[people.is_query].unique())
    print(f"{int(people.is_query.sum())} queries of {num_people} people, gallery of {int(people.in_gallery.sum())} crops, Market protocol")
    found = {}
    for model in args.models:
        network = load_embedding_network(model)
        embeddings = EmbeddingPass(device="cpu", quiet=True).run(network, people.paths).embeddings
        market, visit = found[model] = find_again(people, embeddings), find_again(people, embeddings, other_visit=True)
        print(f"{model}\n  all          {market}\n  other visit  {visit}")
        if args.released:
            log_look(model, market, visit, args.released)
    return found


if __name__ == "__main__":
    main()
