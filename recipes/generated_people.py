"""A network trained on nobody's pictures: cross-entropy and batch-hard triplet on generated people, drawn while it trains.

It needs no data and no download. By default a small network learns from 400 people at 64x32: minutes on two CPU cores. Any backbone and
size will do, from nothing or from given weights:

    python recipes/generated_people.py --model.backbone mobilenetv2_100 --model.weights imagenet.safetensors --data.image_size "[128,64]"

It is scored on other generated people, and on real ones where --scored_on names data sets. Leaves in --output/model: model.safetensors,
config.json and README.md, its card, for recipes/embed.py --checkpoint.
"""

from __future__ import annotations

import time
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.datamodules.generated import PeopleData
from lightning_reid.modules import SupervisedReID
from lightning_reid.networks.model_folder import round_weights
from lightning_reid.recipes.workshop.generated_people_facts import facts_of_generated_people
from lightning_reid.recipes.workshop.options import RunOptions
from lightning_reid.recipes.workshop.report import ResultRow, print_scores, report
from lightning_reid.recipes.workshop.run_folder import RunFolder, is_first_process, read_now
from lightning_reid.recipes.workshop.small_run import NO_ERASING, SMALL_CROPS, SMALL_NETWORK
from lightning_reid.recipes.workshop.stages import Stage

DEFAULTS = {
    **(SMALL_CROPS | NO_ERASING | SMALL_NETWORK | {"data.dataset": "generated-people,people=400", "data.num_workers": 1}),
    **{"data.val_identities": 0, "model.lr": 1e-3, "model.milestones": [9, 12], "epochs": 14},
}


def parse(argv: list[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="generated_people.py")
    RunOptions.add_to(parser, output="runs/generated_people")
    parser.add_argument("--epochs", type=PositiveInt, help="passes over the people; each shows other pictures of them")
    parser.add_argument("--half_weights", action="store_true", help="round the weights to 16 bits, then score and write them")
    parser.add_argument("--scored_on", type=list[str], default=[], help="sets of real people with a test part: names, folders, tables")
    parser.add_class_arguments(ImageReIDDataModule, "data", skip={"seed"})
    parser.add_class_arguments(SupervisedReID, "model", skip={"num_classes"})
    parser.set_defaults(DEFAULTS)
    cfg = parser.parse_args(argv)
    if PeopleData.named(cfg.data.dataset) is None:
        parser.error(f"--data.dataset must be generated-people, with options or without, got {cfg.data.dataset}: see supervised_market.py")
    small = SMALL_NETWORK["model.backbone"], SMALL_NETWORK["model.backbone_options"]
    if cfg.model.backbone != small[0] and cfg.model.backbone_options == small[1]:  # those are the widths of a resnet18
        cfg.model.backbone_options = None
    return cfg


def real_people(cfg: Namespace) -> dict[str, ImageReIDDataModule]:
    names = ("root", "image_size", "num_workers", "eval_batch_size")
    options = {name: cfg.data[name] for name in names} | {"p": 1, "k": 1, "val_identities": 0, "seed": cfg.seed}  # nobody is trained on
    return {name: ImageReIDDataModule(name, **options) for name in cfg.scored_on}


def first_weights(cfg: Namespace) -> str:
    if cfg.model.weights is not None:
        return f"`{Path(cfg.model.weights).name}`, which its giver must answer for"
    return "those of timm's hub" if cfg.model.pretrained else "random"


def main(argv: list[str] | None = None) -> list[ResultRow]:
    cfg, began = parse(argv), time.monotonic()
    with RunFolder(cfg) as folder:
        data, others, run = ImageReIDDataModule(**cfg.data, seed=cfg.seed), real_people(cfg), RunOptions.of(cfg)
        read_now(*others.values())
        folder.read(data, *others.values())
        stage = Stage(run, "generated people")
        model, trainer = stage.train(lambda: SupervisedReID(**cfg.model), data, cfg.epochs)
        if cfg.half_weights:
            round_weights(model.network)
        tests = {stage: data} | {Stage(run, f"on {Path(name).name}"): one for name, one in others.items()}
        rows = [one.finished_row() or one.score(trainer, model, tested) for one, tested in tests.items()]
        if is_first_process():
            stamps = [model.protocol_stamp(tested) for tested in tests.values()]
            report(Path(cfg.output), rows[:1], stamps[0], title="generated people, found among others of them", began=began)
            for row, stamp in zip(rows[1:], stamps[1:], strict=True):
                print_scores([row], stamp, f"real people: {stamp.dataset}")
            facts = facts_of_generated_people(data.dataset.name, first_weights(cfg), cfg.epochs, zip(stamps, rows, strict=True))
            model.network.save_pretrained(Path(cfg.output) / "model", facts=facts, image_size=data.image_size, half=cfg.half_weights)
        return rows


if __name__ == "__main__":
    main()
