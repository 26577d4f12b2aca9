"""Does unsupervised adaptation help the network that saw generated people only? HSR and BUC on unlabeled crops of real people.

    python benchmarks/adapt_shipped_network.py PETS --released WHY

The shipped network is adapted to the crops of the five PETS people that networks are chosen by, whose identities are not told, and scored
on the five others, as it came and after each method, beside the intervals of the differences by person. Settings are those of the recipes'
small runs (``hsr_duke2market.py``: two clusterings, three epochs after each; ``buc_market.py``: 8 epochs, then five mergings); nothing was
tried on these crops before. Each row looks at the people who are only looked at, and is a line of ``real_people_looks.csv``.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pytorch_lightning as pl
import real_people
import torch

from lightning_reid.callbacks import BottomUpClustering, InterCameraMining, PartBasedHomogeneity, PseudoLabelClustering
from lightning_reid.datamodules import CrossDomainDataModule, UnlabeledDataModule
from lightning_reid.inference import EmbeddingPass
from lightning_reid.modules import HSR, BottomUpReID
from lightning_reid.networks import EmbeddingNetwork, from_pretrained
from lightning_reid.networks.shipped import DEFAULT

IMAGES: dict[str, Any] = {"image_size": (128, 64), "crop_padding": 8, "erasing_probability": 0.0, "num_workers": 0}
NETWORK: dict[str, Any] = {
    "backbone": "resnet18",
    "backbone_options": {"channels": [24, 48, 96, 192], "layers": [2, 2, 2, 1]},
    "pooling": "gem",
    "weights": DEFAULT,
}
SOURCE = "generated-people,people=16,cameras=4"
"""A labeled domain, which the datamodule of HSR wants; nothing is trained on it here."""


def adapted_by_hsr(pets: Path, seed: int, parts: Sequence[pl.Callback]) -> EmbeddingNetwork:
    data = CrossDomainDataModule(SOURCE, str(pets), seed=seed, **IMAGES)
    model = HSR(lr=0.01, milestones=[4], label_smoothing=0.1, **NETWORK)
    _fit(model, data, 6, [PseudoLabelClustering(every_n_epochs=3, k1=20), *parts])
    return model.network


def adapted_by_buc(pets: Path, seed: int) -> EmbeddingNetwork:
    data = UnlabeledDataModule(str(pets), batch_size=32, seed=seed, **IMAGES)
    model = BottomUpReID(optimizer="sgd", lr=0.01, milestones=[], **NETWORK)
    _fit(model, data, 13, [BottomUpClustering(initial_epochs=8, every_n_epochs=1, merge_share=0.1)])
    return model.network


METHODS = {
    "DBSCAN baseline": lambda pets, seed: adapted_by_hsr(pets, seed, []),
    "HSR": lambda pets, seed: adapted_by_hsr(pets, seed, [PartBasedHomogeneity(seed=seed), InterCameraMining()]),
    "BUC": adapted_by_buc,
}


def _fit(model: pl.LightningModule, data: pl.LightningDataModule, epochs: int, callbacks: list[pl.Callback]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            limit_val_batches=0,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(model, data)


def look(name: str, network: EmbeddingNetwork, people: real_people.People, why: str) -> tuple[float, float]:
    """Score all walks, and another walk only, as mAP in per cent; the look is logged."""
    network.image_size = IMAGES["image_size"]
    embeddings = EmbeddingPass(device="cpu", quiet=True).run(network.eval(), people.paths).embeddings
    market, visit = real_people.find_again(people, embeddings), real_people.find_again(people, embeddings, other_visit=True)
    print(f"{name}\n  all          {market}\n  other visit  {visit}", flush=True)
    real_people.log_look(DEFAULT, market, visit, f"{name}: {why}")
    return market.mAP, visit.mAP


def main(argv: Sequence[str] | None = None) -> dict[str, list[tuple[float, float]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pets", type=Path, help="folder of the PETS crops in the Market naming, with images.csv")
    parser.add_argument("--released", metavar="WHY", required=True, help="why the people who are only looked at are looked at; for the log")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of augmentations and draws")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), help="ways to adapt")
    args = parser.parse_args(argv)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    torch.set_num_threads(1)
    people = real_people.read_people(args.pets, "test")
    found = {"as it comes": [look("as it comes", from_pretrained(), people, args.released)]}
    for name in args.methods:
        for seed in args.seeds:
            pl.seed_everything(seed, workers=True, verbose=False)
            scores = look(f"{name}, seed {seed}", METHODS[name](args.pets, seed), people, args.released)
            found.setdefault(name, []).append(scores)
    print("| method | all walks, mAP | another walk, mAP |\n|---|---:|---:|")
    for name, scores in found.items():
        print(f"| {name} | {mean(all_ for all_, _ in scores):.1f} | {mean(other for _, other in scores):.1f} |")
    return found


if __name__ == "__main__":
    main()
