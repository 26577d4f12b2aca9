"""What of the generated people helps to find real ones? One thing changed at a time, several seeds, paired differences.

    python benchmarks/generated_people_transfer.py PETS --distractors TUD                    # one kind of variation left out at a time
    python benchmarks/generated_people_transfer.py PETS --distractors TUD --rows people      # 150 to 10,000 identities
    python benchmarks/generated_people_transfer.py PETS --distractors TUD --rows settings    # erasing, losses, sizes

Every row trains the recipe's small network for the same number of steps with the same settings; a seed changes first weights, draws and
augmentations, and is the same for all rows. Scored on people whom nothing was trained on: the PETS people that networks are chosen by
(``real_people.py``; the others are not looked at), all walks and another walk only, and generated people of another seed, drawn with all
variation. A run that was made before is read back from ``--output``.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import pytorch_lightning as pl
import read_back
import real_people
import torch

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.datamodules.generated import PeopleData
from lightning_reid.datamodules.generated.wide_variation import Variation
from lightning_reid.inference import EmbeddingPass
from lightning_reid.modules import SupervisedReID
from lightning_reid.recipes.workshop.seeds import seed_comparison
from lightning_reid.recipes.workshop.small_run import SMALL_NETWORK

BATCHES, EPOCHS, MILESTONES = 100, 8, [5, 7]
"""Of every row: 800 steps of 64 crops."""
NETWORK = {name.removeprefix("model."): value for name, value in SMALL_NETWORK.items()}
Row = dict[str, Any]
EVERYTHING = "everything"
ROWS: dict[str, dict[str, Row]] = {
    "variations": {EVERYTHING: {}} | {f"without {kind}": {"people": {"without": (kind,)}} for kind in get_args(Variation)},
    "people": {EVERYTHING: {}}
    | {f"{number:,} people": {"people": {"people": number, "cameras": max(8, number // 10)}} for number in (150, 500, 1500, 5000, 10000)}
    | {"10,000 people, 64 cameras": {"people": {"people": 10000}}},
    "settings": {
        EVERYTHING: {},
        "erasing": {"data": {"erasing_probability": 0.5}},
        "no padding": {"data": {"crop_padding": 0}},
        "margin of 0.3": {"model": {"margin": 0.3}},
        "no label smoothing": {"model": {"label_smoothing": 0.0}},
        "average pooling": {"model": {"pooling": "avg"}},
        "96x48": {"data": {"image_size": (96, 48), "crop_padding": 6}},
        "128x64": {"data": {"image_size": (128, 64), "crop_padding": 8}},
    },
}
MEASURES = {"all": "PETS, all walks", "other visit": "PETS, another walk", "generated": "generated people of another seed"}


def train(row: Row, seed: int, num_people: int) -> SupervisedReID:
    people = PeopleData(**({"people": num_people} | row.get("people", {})))
    options = {"image_size": (64, 32), "crop_padding": 4, "erasing_probability": 0.0, "val_identities": 0, "num_workers": 0}
    data = ImageReIDDataModule(str(people), seed=seed, **(options | row.get("data", {})))
    pl.seed_everything(seed, workers=True, verbose=False)
    model = SupervisedReID(lr=1e-3, milestones=MILESTONES, **(NETWORK | row.get("model", {})))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        limit_train_batches=BATCHES,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    model.network.image_size = data.image_size
    return model.eval()


def measure(model: SupervisedReID, real: real_people.People) -> dict[str, float]:
    """Mean average precision in per cent, by what it was measured on."""
    embed = EmbeddingPass(device="cpu", quiet=True, batch_size=256).run
    found = {"all": False, "other visit": True}
    embeddings = embed(model.network, real.paths).embeddings
    scores = {name: real_people.find_again(real, embeddings, other_visit=again).mAP for name, again in found.items()}
    strangers = PeopleData(seed=1).read()
    records = (*strangers.query, *strangers.gallery)
    drawn = embed(model.network, [record.path for record in records]).embeddings
    is_query = torch.tensor([number < len(strangers.query) for number in range(len(records))])
    numbers = {name: torch.tensor([getattr(record, name) for record in records]) for name in ("pid", "camid")}
    people = real_people.People([], numbers["pid"], numbers["camid"], numbers["pid"], is_query, ~is_query)
    return scores | {"generated": real_people.find_again(people, drawn).mAP}


def run(name: str, row: Row, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """The scores of a row and seed; those of an earlier run are read back."""
    file = args.output / f"{name.replace(' ', '-').replace(',', '')}-seed{seed}.json"
    training = {"row": row, "people": args.people, "network": NETWORK, "epochs": EPOCHS, "batches": BATCHES, "milestones": MILESTONES}
    folders = {"pets": args.pets, "distractors": args.distractors}
    settings = training | {name: None if folder is None else read_back.folder_digest(folder) for name, folder in folders.items()}

    def train_and_measure() -> dict[str, float]:
        torch.set_num_threads(1)
        return measure(train(row, seed, args.people), real_people.read_people(args.pets, "validation", args.distractors))

    found = read_back.row(file, train_and_measure, settings)
    scores: dict[str, float] = {measured: found[measured] for measured in MEASURES}
    print(f"{name}, seed {seed}: " + ", ".join(f"{measured} {value:.1f}" for measured, value in scores.items()), flush=True)
    return scores


def report(found: dict[int, dict[str, dict[str, float]]], names: Iterable[str]) -> str:
    pairs = [(EVERYTHING, name) for name in names if name != EVERYTHING]
    tables = []
    for measured, title in MEASURES.items():
        scores = {seed: {name: row[measured] / 100 for name, row in rows.items()} for seed, rows in found.items()}
        tables.append(f"{title}\n{seed_comparison(scores, pairs)}")
    return "\n\n".join(tables)


def main(argv: Sequence[str] | None = None) -> dict[int, dict[str, dict[str, float]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pets", type=Path, help="folder of the PETS crops in the Market naming, with images.csv")
    parser.add_argument("--distractors", type=Path, help="folder in the Market naming whose training crops are wrong answers")
    parser.add_argument("--rows", choices=list(ROWS), default="variations", help="what is changed")
    parser.add_argument("--only", nargs="+", help="names of rows, for those alone")
    parser.add_argument("--people", type=int, default=1000, help="identities, where the row does not say")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="at least two for a report")
    parser.add_argument("--output", type=Path, default=Path("runs/generated_people_transfer"), help="folder of the scores")
    args = parser.parse_args(argv)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    args.output.mkdir(parents=True, exist_ok=True)
    rows = {name: row for name, row in ROWS[args.rows].items() if args.only is None or name in args.only}
    found = {seed: {name: run(name, row, seed, args) for name, row in rows.items()} for seed in args.seeds}
    if len(found) > 1:
        print(report(found, rows))
    return found


if __name__ == "__main__":
    main()
