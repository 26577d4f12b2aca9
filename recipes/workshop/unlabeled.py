"""Adapting to people whom nobody knows: what is started from, what is scored, and what is left where nothing is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.datamodules.target_images import TargetImagesDataModule
from lightning_reid.files import write_json
from lightning_reid.metrics import ProtocolStamp
from lightning_reid.modules import ImageReIDModule
from lightning_reid.networks import load_embedding_network
from lightning_reid.networks.foreign import trained_architecture, trained_image_size
from lightning_reid.recipes.workshop.curves import CLUSTERS, FOUND, LOSS, NOT_SCORED, SCORE, Panel, draw_curves
from lightning_reid.recipes.workshop.report import ResultRow, report
from lightning_reid.recipes.workshop.run_folder import is_first_process, read_now
from lightning_reid.recipes.workshop.small_run import NO_ERASING
from lightning_reid.recipes.workshop.stages import Stage

START = "start network"
FROM_A_NETWORK: dict[str, Any] = NO_ERASING | {"data.crop_padding": 8}
_AS_SMALL = ("model.lr", "model.milestones", "clustering", "epochs", "steps", "data.batch_size")
"""Beginnings of the options that a run from a network has as a small run has them: a network that knows people needs few epochs."""
Tested = ImageReIDDataModule | None
"""What is scored on; ``None`` where nothing is."""
Rows = dict[str, tuple[bool, bool]]
"""Of Table 4.2: whether they have part-based homogeneity, and inter-camera mining."""
Module = TypeVar("Module", bound=ImageReIDModule)
_NAMES_SOURCE = ("source", "data.source", "reverse")


def add_start_and_test(parser: ArgumentParser) -> None:
    """Give a parser the options ``--start_from`` and ``--scored_on``."""
    started = "network to start from: last.ckpt, a model folder, or a shipped name; its backbone and size are taken; few epochs by default"
    parser.add_argument("--start_from", type=str | None, default=None, help=started)
    scored = "labeled data to score on, name, folder or table, in place of the test part of the data that are adapted to"
    parser.add_argument("--scored_on", type=str | None, default=None, help=scored)


def parse_start(parser: ArgumentParser, argv: Sequence[str] | None, cfg: Namespace, small_run: Mapping[str, Any]) -> Namespace:
    """Parse anew where a network to start from is named, which says how it is built, with its own defaults.

    Args:
        parser: Its defaults are changed.
        argv: ``None`` is the command line.
        cfg: Parsed once.
        small_run: Options by their full names, to their defaults in a small run.

    Raises:
        SystemExit: There is no such network, or no module is built like it; which, and what will do, is said as of any wrong option.
    """
    if cfg.start_from is None:
        return cfg
    try:
        network, size = trained_architecture(cfg.start_from), trained_image_size(cfg.start_from)
        load_embedding_network(cfg.start_from)  # all of it, before data are made: tensors may be missing
    except (OSError, ValueError) as error:
        parser.error(f"--start_from: {error}")
    built = {f"model.{name}": value for name, value in network.items()}
    settings = {name: value for name, value in small_run.items() if name.startswith(_AS_SMALL)}
    parser.set_defaults({**FROM_A_NETWORK, **settings, **built, **({} if size is None else {"data.image_size": list(size)})})
    cfg = parser.parse_args(argv)
    for name in (*built, "model.pretrained", "model.weights", *(name for name in _NAMES_SOURCE if name in cfg)):
        if cfg[name] != parser.get_default(name):
            parser.error(f"--{name} cannot be given beside --start_from {cfg.start_from}, which says it")
    return cfg


def tested_data(cfg: Namespace, data: TargetImagesDataModule) -> Tested:
    """What is scored on: ``--scored_on``, read now, or the data's own test part; ``None`` where they have none, which is said."""
    if cfg.scored_on is None:
        if not data.dataset.has_test:
            print(f"{NOT_SCORED}; name some that have, --scored_on")
        return data if data.dataset.has_test else None
    names = ("root", "image_size", "num_workers", "eval_batch_size")
    options = {name: cfg.data[name] for name in names if name in cfg.data} | {"p": 1, "k": 1, "val_identities": 0, "seed": cfg.seed}
    tested = ImageReIDDataModule(cfg.scored_on, **options)  # nobody of it is trained on
    read_now(tested)
    return tested


def given_network(stage: Stage, module: Module, start_from: str | None, tested: Tested) -> tuple[Module, list[ResultRow]]:
    """A module with the weights that are started from, its own where none are, and its row; none where nothing is scored."""
    if start_from is not None:
        module.network.load_state_dict(load_embedding_network(start_from).state_dict())
    if tested is None:
        return module, []
    return module, [stage.finished_row() or stage.score(stage.trainer(1, [], validate_every_n_epochs=None), module, tested)]


def train_and_score(
    stage: Stage, build: Callable[[], Module], data: ImageReIDDataModule, epochs: int, callbacks: Sequence[pl.Callback], tested: Tested
) -> tuple[Module, list[ResultRow]]:
    """The module that a stage trains, and its row; none where nothing is scored."""
    if tested is None:
        return stage.train(build, data, epochs, callbacks)[0], []
    module, row = stage.train_and_score(build, data, epochs, callbacks, tested_on=tested)
    return module, [row]


def row_of(
    stage: Stage,
    build: Callable[[], ImageReIDModule],
    data: TargetImagesDataModule,
    epochs: int,
    callbacks: Sequence[pl.Callback],
    tested: Tested,
    validate_every_n_epochs: int | None,
) -> list[ResultRow]:
    """The row of what a stage trains; none where it is trained and nothing is scored."""
    if tested is None:
        return train_and_score(stage, build, data, epochs, callbacks, tested)[1]
    return [stage.row(build, data, epochs, callbacks, tested_on=tested, validate_every_n_epochs=validate_every_n_epochs)]


def validation_every(cfg: Namespace, data: TargetImagesDataModule, tested: Tested) -> int | None:
    """Epochs between two validations, as between two clusterings; none where the data's own test part is not what is scored."""
    every: int = cfg.clustering.every_n_epochs
    return every if tested is data else None


def rows_of_cameras(data: TargetImagesDataModule, asked: Rows, known: Rows) -> Rows:
    """The rows of a table that these data allow: where there is one camera, all those that mine nothing between cameras, which is said."""
    if len({record.camid for record in data.target_records}) > 1:
        return asked
    print(f"inter-camera mining is left out, and with it HSR: all images of {data.dataset_name} are of one camera")
    return {name: parts for name, parts in known.items() if not parts[1]}


def report_adaptation(
    cfg: Namespace,
    rows: Sequence[ResultRow],
    stages: Mapping[str, Stage],
    data: TargetImagesDataModule,
    stamp: ProtocolStamp | None,
    *,
    title: str,
    began: float,
    more_panels: Sequence[Panel] = (),
) -> None:
    """Draw curves, and leave table and results; where nothing is scored, say so and leave what there is.

    Args:
        cfg: Parsed options.
        rows: First that of the network that is started from; none where nothing is scored.
        stages: Trained ones, by row.
        data: That were adapted to.
        stamp: Of the scores; ``None`` where there are none.
        title: Of the table.
        began: ``time.monotonic()`` at the start.
        more_panels: Of the curves, beside scores and clusters.
    """
    if not is_first_process():
        return
    output, validated = Path(cfg.output), stamp is not None and cfg.scored_on is None
    more_panels = more_panels or ([] if validated else [LOSS])
    panels = [*([SCORE] if validated else []), CLUSTERS if data.dataset.has_labels else FOUND, *more_panels]
    curves = {name: stage.metrics_files for name, stage in stages.items()}
    levels = {rows[0].name: rows[0].scores["mAP"]} if validated else {}
    draw_curves(output / "curves.png", curves, panels=panels, stamp=stamp, levels=levels)
    if stamp is not None:
        report(output, rows, stamp, title=title, began=began)
    else:
        write_json(output / "results.json", {"rows": {}, "protocol": NOT_SCORED, "seconds": round(time.monotonic() - began, 1)})
        print(f"{title}: {NOT_SCORED}")
    if cfg.start_from is not None or stamp is None:
        for name, stage in stages.items():
            print(f"{name}: the adapted network is {stage.checkpoint}")
