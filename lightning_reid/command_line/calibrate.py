"""``lightning-reid calibrate DATA --model M``: what the similarities of a network mean, found on labeled people."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from lightning_reid.command_line.labeled_people import LabeledPeople, read_strangers
from lightning_reid.command_line.printable import printable
from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.datamodules.late_progress import late_progress
from lightning_reid.files import write_atomically
from lightning_reid.inference import EmbeddingPass, calibration_path, load_network, name_with_size, write_calibration
from lightning_reid.metrics import Calibration, calibrate_similarity
from lightning_reid.metrics.calibrating import FALSE_MATCH_RATES, FALSE_NON_MATCH_RATES, plan_calibration
from lightning_reid.networks.shipped import DEFAULT, MODEL_HELP, shipped_names

DESCRIPTION = """Find out what the cosine of two pictures means: the probability of the same person, and thresholds.

Needs 20 labeled people or more whom the network was not trained on, as your cameras see them: people of other cameras say little of yours.
Half of them are fitted on, the other half scored, so that the figures printed are those of people who took no part. Each person weighs the
same, however many images there are of them; where there are cameras, only pairs of two different cameras count.
The calibration is kept beside the network, where compare and search find it; beside it a picture of how reliable it is.
"""


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    parser = ArgumentParser(description=DESCRIPTION)
    data = "folder in the Market naming, table, name of a data set (market1501), or generated people (generated-people,people=300,seed=7)"
    parser.add_argument("data", type=str, help=data)
    parser.add_argument("--root", type=str, default=None, help="folder that holds named data sets; default ./data")
    parser.add_argument("--model", type=str, default=DEFAULT, help=MODEL_HELP)
    out = "JSON file; default beside the network: last.calibration.json beside last.ckpt, calibration.json in a model folder"
    parser.add_argument("--out", type=str, default=None, help=out)
    parser.add_argument("--picture", type=str, default=None, help="PNG file of its reliability; default beside OUT, named as it is")
    part = "whose images: of the people to train on, of those to test on (query and gallery), or of all"
    parser.add_argument("--part", type=Literal["all", "train", "test"], default="all", help=part)
    within = "count pairs of one camera too; without cameras all count"
    parser.add_argument("--within_cameras", action="store_true", help=within)
    for name, usual, what in (
        ("--false_match_rates", FALSE_MATCH_RATES, "pairs of two people that may lie above a threshold"),
        ("--false_non_match_rates", FALSE_NON_MATCH_RATES, "pairs of one person that may lie below a threshold"),
    ):
        told = f"shares in (0, 1) of {what}; default those of {usual} that so many people can show"
        parser.add_argument(name, type=float, nargs="+", default=None, help=told)
    parser.add_argument("--seed", type=int, default=0, help="of the division of people")
    parser.add_argument("--allow_paths_outside", action="store_true", help="let a table list files that do not lie below its folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    return parser


def run(cfg: Namespace) -> int:
    """Calibrate, and tell how reliable that is.

    Raises:
        OSError: The data or the network are not there, or OUT cannot be written.
        ValueError: OUT exists, the data or the network cannot be read, or there are too few people.
    """
    people = read_strangers(cfg.data, cfg.root, cfg.part, cfg.model, allow_paths_outside=cfg.allow_paths_outside)
    pids, camids = (torch.tensor([getattr(one, name) for one in people.records]) for name in ("pid", "camid"))
    across = not cfg.within_cameras and len(camids.unique()) > 1
    cameras, rates = camids if across else None, (cfg.false_match_rates, cfg.false_non_match_rates)
    plan_calibration(pids, cameras, *rates, cfg.seed)  # what is refused is refused before hours of embedding
    out, picture = _outputs(cfg)  # after the data: whoever has too few people needs no file for them
    network = load_network(cfg.model)
    embedding = EmbeddingPass(quiet=True)
    embeddings = _embedded(embedding, network, [one.path for one in people.records], progress=not cfg.json)
    calibration = calibrate_similarity(
        embeddings,
        pids,
        cameras,
        model=name_with_size(network, embedding.size_for(network)),
        data=people.name,
        false_match_rates=rates[0],
        false_non_match_rates=rates[1],
        seed=cfg.seed,
    )
    write_calibration(out, calibration)
    _draw(calibration, picture)
    told = _told(out, picture, calibration, people, across=across)
    if cfg.json:
        sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")
    else:
        _print(told, calibration)
    return 0


def _outputs(cfg: Namespace) -> tuple[Path, Path]:
    if cfg.out is None and cfg.model in shipped_names():
        raise ValueError(
            f"{cfg.model} comes with the library, whose folder is not written to: give --out FILE, and compare --calibration FILE"
        )
    out = calibration_path(cfg.model) if cfg.out is None else Path(cfg.out)
    picture = out.with_suffix(".png") if cfg.picture is None else Path(cfg.picture)
    for option, path, suffix in (("--out", out, ".json"), ("--picture", picture, ".png")):
        if path.suffix.lower() != suffix:
            raise ValueError(f"{option}: {path} must end with {suffix}")
        if os.path.lexists(path):
            raise ValueError(f"{option}: {path} exists: give another file, or remove it")
    return out, picture


def _embedded(embedding: EmbeddingPass, network: Any, paths: list[str], *, progress: bool) -> torch.Tensor:
    batches, number = embedding.stream(network, paths), -(-len(paths) // embedding.batch_size)
    try:
        return torch.cat(
            [one.embeddings for one in late_progress(batches, f"embedding {len(paths):,} images", total=number, disable=not progress)]
        )
    except CorruptImageError as error:  # which main does not take for something of what was given
        raise ValueError(str(error)) from error


def _draw(calibration: Calibration, path: Path) -> None:
    from lightning_reid.command_line.reliability_picture import draw_calibration  # matplotlib takes a second

    figure = draw_calibration(calibration)
    write_atomically(path, lambda draft: figure.savefig(draft, format="png", dpi=120))


def _told(out: Path, picture: Path, calibration: Calibration, people: LabeledPeople, *, across: bool) -> dict[str, Any]:
    told = asdict(calibration)
    notes = list(people.notes)
    if not across:
        notes.append("pairs within a camera count, which are more alike than pairs of two cameras")
    left_out = len({one.pid for one in people.records}) - sum(calibration.people)
    if left_out:
        notes.append(f"left out {left_out} people of whom there is no pair of images{' in two cameras' if across else ''}")
    for name, kinds, usual in (
        ("false match rate", calibration.match, FALSE_MATCH_RATES),
        ("false non-match rate", calibration.non_match, FALSE_NON_MATCH_RATES),
    ):
        missing = [f"{rate:g}" for rate in usual if rate < min((one.rate for one in kinds), default=1)]
        if missing:
            notes.append(f"so few people cannot show a {name} of {', '.join(missing)}")
    return {
        "out": str(out),
        "picture": str(picture),
        **{name: told[name] for name in ("model", "data", "people", "genuine", "impostor", "cameras", "seed")},
        "calibration_error": calibration.calibration_error,
        **{name: told[name] for name in ("match", "non_match", "bins")},
        "notes": notes,
    }


def _print(told: dict[str, Any], calibration: Calibration) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)
    fitted, scored = calibration.people
    cameras = f"{calibration.cameras} cameras" if calibration.cameras else "pairs of any cameras"
    pairs = f"{calibration.genuine:,} pairs of one person, {calibration.impostor:,} of two"
    for line in (
        f"{told['out']}: {calibration.model}",
        f"  fitted on {fitted} people of {calibration.data} ({pairs}, {cameras}), scored on {scored} others",
        f"  expected calibration error on those: {calibration.calibration_error:.4f}",
    ):
        console.print(printable(line))
    console.print("  thresholds, and what they do to the others (95 % intervals by person):")
    kinds = ((">", calibration.match, "false match", "true match"), ("<", calibration.non_match, "false non-match", "true non-match"))
    for sign, thresholds, wrong, right in kinds:
        for one in thresholds:
            cosine = f"cosine {sign} {one.similarity:.3f} [{one.similarity_interval[0]:.3f}, {one.similarity_interval[1]:.3f}]"
            realized = f"{wrong} rate {_share(one.realized, one.realized_interval)}"
            console.print(f"    {one.rate:<6g} {cosine}: {realized}, {right} rate {_share(one.right, one.right_interval)}")
    for line in (*(f"note: {one}" for one in told["notes"]), f"a picture of how reliable it is: {told['picture']}"):
        console.print(printable(line))


def _share(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3g} [{interval[0]:.3g}, {interval[1]:.3g}]"
