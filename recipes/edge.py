"""Unsupervised re-ID on the devices of several cameras (distributed edge computing): style, walk, graph of memories, global labels.

Without --data.dataset it generates six cameras of people, and starts from a small network that is trained with labels on another
generated domain, which is kept and said; with data, it starts from --model.weights FILE. Images never leave their device; what does is
counted by kind.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from lightning_reid.datamodules import DeviceDataModule
from lightning_reid.federation.edge_options import EdgeOptions
from lightning_reid.inference.embedding import find_crops
from lightning_reid.modules import StyleTransfer, TrackletReID
from lightning_reid.recipes.workshop.edge_experiment import EdgeExperiment
from lightning_reid.recipes.workshop.edge_pictures import print_options
from lightning_reid.recipes.workshop.edge_rows import ROWS, EdgeRow
from lightning_reid.recipes.workshop.options import RunOptions
from lightning_reid.recipes.workshop.report import ResultRow, report
from lightning_reid.recipes.workshop.run_folder import RunFolder
from lightning_reid.recipes.workshop.small_run import SMALL_CROPS, SMALL_NETWORK, parse_or_small_run

SMALL_RUN = {
    **(SMALL_CROPS | SMALL_NETWORK),
    **{"data.dataset": "market-like", "data.batch_size": 32, "data.erasing_probability": 0.0},
    **{
        "edge.visits": 3,
        "edge.incremental_visits": 3,
        "edge.method": "one_per_camera",
        "edge.alpha": 0,
        "start_from": "duke-like",
        "style_size": [64, 32],
    },
}


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="edge.py")
    RunOptions.add_to(parser, output="runs/edge")
    parser.add_argument("--start_from", type=str | None, default=None, help="labeled data set that the first network is trained on")
    parser.add_argument("--start_epochs", type=PositiveInt, default=25, help="passes over it")
    parser.add_argument("--supervised_epochs", type=PositiveInt, default=20, help="passes of the supervised row over the devices' labels")
    parser.add_argument("--rows", type=list[EdgeRow], default=["walk", "walk + clustering"], help="rows of Table 1 to run")
    parser.add_argument("--ablation", action="store_true", help="all rows of Table 1, ours beside them, and what each part takes")
    parser.add_argument("--style", type=Literal["statistics", "cyclegan"], default="statistics", help="of the rows with style")
    parser.add_argument("--share_style_images", action="store_true", help="camera 1's owner says that some of its pictures may cross")
    parser.add_argument("--style_images", type=str | None, default=None, help="public folder to learn from in place of camera 1's pictures")
    parser.add_argument("--num_style_images", type=PositiveInt, default=300, help="of camera 1 or of that folder, for cyclegan")
    parser.add_argument("--style_size", type=tuple[int, int], default=(256, 256), help="height and width in pixels, for cyclegan")
    parser.add_argument("--score_visits", type=bool, default=True, help="score the model after every visit, for a curve")
    parser.add_class_arguments(DeviceDataModule, "data", skip={"dataset", "seed", "p", "k", "val_identities", "split", "needs_test"})
    parser.add_argument("--data.dataset", type=str, default="market1501", help="data set of several cameras, each of which has a device")
    said_in_edge = {"statistics", "classifier_init", "negatives", "update_all", "lr", "walking_lr_factor"}
    parser.add_class_arguments(TrackletReID, "model", skip={"num_labels", *said_in_edge})
    parser.add_class_arguments(EdgeOptions, "edge", skip={"seed"})
    parser.add_class_arguments(StyleTransfer, "transfer", skip={"seed"})
    small = "six cameras of people, and training a small network on another generated domain to start from"
    cfg = parse_or_small_run(parser, argv, SMALL_RUN, named=["data.dataset", "data.root", "model.weights", "start_from"], generating=small)
    if cfg.start_from is None and cfg.model.weights is None and not cfg.model.pretrained:
        parser.error("a walk that starts from random weights learns nothing: give --model.weights FILE, or --start_from LABELED_DATA")
    learned = styled(cfg) and cfg.style == "cyclegan"
    if learned and cfg.style_images is None and not cfg.share_style_images:
        way_on = "give --share_style_images if they may cross, --style_images FOLDER, or --style statistics"
        parser.error(f"--style cyclegan learns from camera 1's pictures: {way_on}")
    if learned and cfg.style_images is not None:
        find_crops([cfg.style_images])
    if learned or cfg.ablation:  # which times it
        StyleTransfer(**cfg.transfer, seed=cfg.seed).require_size(*cfg.style_size)
    return cfg


def asked_rows(cfg: Namespace) -> Sequence[EdgeRow]:
    """Rows of the table behind the start and the ceiling."""
    return [*ROWS] if cfg.ablation else cfg.rows


def styled(cfg: Namespace) -> bool:
    """Whether any of them learns on translated pictures."""
    return any(ROWS[name].style for name in asked_rows(cfg))


def main(argv: Sequence[str] | None = None) -> list[ResultRow]:
    cfg, began = parse(argv), time.monotonic()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # else every local fit says that it begins and ends
    with RunFolder(cfg, ignored=("rows", "ablation")) as folder:
        experiment = EdgeExperiment(cfg, folder)
        rows = [experiment.first_row, experiment.supervised(), *(experiment.row(name) for name in asked_rows(cfg))]
        if cfg.ablation:
            experiment.print_times()
        stamp = experiment.make().protocol_stamp(experiment.whole)
        print_options(EdgeOptions(**cfg.edge.as_dict(), seed=cfg.seed), cfg.style if styled(cfg) else "none")
        report(experiment.output, rows, stamp, title=f"devices of {cfg.data.dataset}", began=began)
        return rows


if __name__ == "__main__":
    main()
