"""Train, prune under constraints (CAIE, thesis chapter 6), fine-tune and export: a video network (section 8.4.1), or one of images.

Without --data.root or --data.dataset it generates a small data set and trains a small network: minutes on two CPU cores.
With them, the defaults are STE-NVAN at 256x128, pruned to 75 % of its multiply-adds; --images takes an image network instead.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt

from lightning_reid.callbacks import CAIEPruning
from lightning_reid.datamodules import ImageReIDDataModule, VideoReIDDataModule
from lightning_reid.files import write_json
from lightning_reid.modules import SupervisedReID, VideoReID
from lightning_reid.networks.video.by_name import VideoNetworkName
from lightning_reid.recipes.workshop.options import RunOptions
from lightning_reid.recipes.workshop.pruning_run import PruningRun
from lightning_reid.recipes.workshop.report import ResultRow
from lightning_reid.recipes.workshop.run_folder import RunFolder, is_first_process
from lightning_reid.recipes.workshop.small_run import NO_ERASING, SMALL_CROPS, SMALL_NETWORK, parse_or_small_run
from lightning_reid.recipes.workshop.tables import per_cent, print_table

SMALL_RUN: dict[str, Any] = {
    "data.image_size": [64, 32],
    "data.num_workers": 0,
    "model.lr": 1e-3,
    "model.milestones": [12, 17],
    "caie.filters_per_step": 12,
    "caie.batches_per_step": 5,
    "epochs": 20,
    "tuning_epochs": 10,
}
SMALL_CLIPS: dict[str, Any] = {
    "data.dataset": "mars-like",
    "data.clip_length": 4,
    "model.network_options": {"backbone": "resnet18", "channels": [32, 64, 128, 256], "layers": [1, 2, 3, 1], "stripes": 4},
}
SMALL_IMAGES = SMALL_CROPS | NO_ERASING | SMALL_NETWORK | {"data.dataset": "market-like"}


def build_parser(images: bool) -> ArgumentParser:
    parser = ArgumentParser(description=__doc__, prog="prune_caie.py")
    add_common_arguments(parser)
    parser.add_class_arguments(ImageReIDDataModule if images else VideoReIDDataModule, "data", skip={"seed"})
    parser.add_class_arguments(SupervisedReID if images else VideoReID, "model", skip=set() if images else {"network"})
    parser.set_defaults({"data.val_identities": 0})  # the papers' protocol: CAIE asks for no score, nothing is selected
    return parser


def add_common_arguments(parser: ArgumentParser) -> None:
    """What is asked of images and clips alike."""
    RunOptions.add_to(parser, output="runs/caie")
    parser.add_argument("--images", action="store_true", help="an image network; --data and --model are of images then")
    parser.add_argument("--network", type=VideoNetworkName, default="stenvan", help="which video network")
    parser.add_argument("--epochs", type=PositiveInt, default=200, help="passes over the data before pruning")
    parser.add_argument("--checkpoint", type=str | None, default=None, help="prune this trained module instead of training one")
    parser.add_argument("--pruning_lr", type=PositiveFloat, default=1e-3, help="learning rate while pruning and fine-tuning (SGD)")
    parser.add_argument("--pruning_epochs", type=PositiveInt, default=1000, help="give up pruning after so many passes")
    parser.add_argument("--tuning_epochs", type=PositiveInt, default=30, help="passes of fine-tuning; the rate falls twice")
    parser.add_class_arguments(CAIEPruning, "caie", skip={"stop", "network"})
    parser.set_defaults({"caie.constraints": {"flops": 0.75}})


def asks_for_images(argv: Sequence[str] | None) -> bool:
    """Whether ``--images`` is, on the command line or in a file; whose options ``--data`` and ``--model`` are is not known yet."""
    parser = ArgumentParser(prog="prune_caie.py", add_help=False, print_config=None)
    add_common_arguments(parser)
    for name in ("data", "model"):
        parser.add_argument(f"--{name}", type=dict[str, Any], default={}, sub_configs=True)
    for later in ("-h", "--help", "--print_config"):  # answered by the parser that knows all options
        parser.add_argument(later, nargs="?", const="", default="")
    return bool(parser.parse_args(argv).images)


def parse(argv: Sequence[str] | None) -> Namespace:
    images = asks_for_images(argv)
    parser = build_parser(images)
    return parse_or_small_run(parser, argv, SMALL_RUN | (SMALL_IMAGES if images else SMALL_CLIPS))


def print_channels(pruning: CAIEPruning) -> None:
    """What each group of channels was left."""
    last = pruning.history[-1]
    shares = ", ".join(f"{per_cent(last[name])} % of {name}" for name in pruning.constraints)
    rows = [(name, str(left), str(len(pruning.kept_channels[name]))) for name, left in last["left"].items()]
    print_table(f"after {last['step']} steps: {shares}", ("channels made by", "left", "of"), rows)


def main(argv: Sequence[str] | None = None) -> list[ResultRow]:
    cfg, began = parse(argv), time.monotonic()
    with RunFolder(cfg) as folder:
        data = (ImageReIDDataModule if cfg.images else VideoReIDDataModule)(**cfg.data, seed=cfg.seed)
        run = PruningRun(RunOptions.of(cfg), data, SupervisedReID if cfg.images else VideoReID)
        folder.holds(data.dataset)
        results, checkpoint = [], cfg.checkpoint
        if checkpoint is None:
            run.stage("trained").seed_everything()
            model = SupervisedReID(**cfg.model) if cfg.images else VideoReID(cfg.network, **cfg.model)
            trained, checkpoint = run.fit("trained", model, cfg.epochs)
            results.append(trained)
        sgd: dict[str, Any] = {"optimizer": "sgd", "lr": cfg.pruning_lr, "weight_decay": 1e-4, "warmup_epochs": 0}
        whole, pruning = run.load(checkpoint, **sgd, milestones=[]), CAIEPruning(**cfg.caie)
        pruned, small = run.prune("pruned", whole, pruning, max_epochs=cfg.pruning_epochs, validate_every_n_epochs=None)
        smaller = run.load(small, **sgd, milestones=[cfg.tuning_epochs // 3, 2 * cfg.tuning_epochs // 3])
        tuned, _ = run.fit("fine-tuned", smaller, cfg.tuning_epochs)
        results += [pruned, tuned]
        if pruning.history and is_first_process():  # empty where pruning was finished by an earlier run
            write_json(Path(cfg.output) / "steps.json", {"steps": pruning.history})
            print_channels(pruning)
        title = f"pruned to {', '.join(f'{share:.0%} of {name}' for name, share in cfg.caie.constraints.items())} on {cfg.data.dataset}"
        run.finish(results, smaller, title, began)
        return results


if __name__ == "__main__":
    main()
