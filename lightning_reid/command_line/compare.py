"""``lightning-reid compare A B``: do two pictures show the same person?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from lightning_reid.arguments import require_number
from lightning_reid.command_line.printable import printable
from lightning_reid.command_line.probability import Judge, is_of_nobody, notes_on, shown_probability
from lightning_reid.datamodules.decoding import CorruptImageError, image_pixels
from lightning_reid.inference import EmbeddingPass, find_calibration, load_network, name_with_size
from lightning_reid.inference.calibration_file import of_model
from lightning_reid.metrics import Calibration, verdict_of
from lightning_reid.metrics.calibration import USUAL_RATE
from lightning_reid.networks.shipped import DEFAULT, MODEL_HELP

DESCRIPTION = """Tell whether two pictures, each a crop of one person, show the same person.

The verdict is "same" where the cosine lies above the threshold of --false_match_rate, "different" where it lies below that of
--false_non_match_rate, and "unknown" between them: so that, among people like those of the calibration, at most the one share of pairs of
two people is called the same, and at most the other share of pairs of one person different. The probability depends on --prior too, the
verdict does not. Without a calibration of the network (lightning-reid calibrate) there is no probability, and the verdict is "unknown"; so
it is with one of generated people, which the network that comes along has: of real ones it is far too sure.
"""
WIDE = 1.2
"""Width to height of a picture from which on it is no crop of a person who stands or walks."""


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("a", type=str, help="image file, a crop of one person of any size")
    parser.add_argument("b", type=str, help="another")
    parser.add_argument("--model", type=str, default=DEFAULT, help=MODEL_HELP)
    parser.add_argument("--calibration", type=str, default=None, help="file that calibrate made; default the one kept beside the network")
    prior = "how probable it is beforehand, in (0, 1), that they show one person; 0.001 for one of a thousand people"
    parser.add_argument("--prior", type=float, default=0.5, help=prior)
    usual = f"one of the calibration's; default {USUAL_RATE}, or the least above it that its people could show"
    rate = f"share in (0, 1) of pairs of two people that may be called the same, {usual}"
    parser.add_argument("--false_match_rate", type=float | None, default=None, help=rate)
    rate = f"share in (0, 1) of pairs of one person that may be called different, {usual}"
    parser.add_argument("--false_non_match_rate", type=float | None, default=None, help=rate)
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    return parser


def run(cfg: Namespace) -> int:
    """Compare two pictures, and tell what comes of it.

    Raises:
        OSError: A picture, the network or the calibration is not there.
        ValueError: A picture is unreadable or no crop, the network cannot be read, or the calibration is another's or lacks the threshold.
    """
    require_number("--prior", cfg.prior, above=0, below=1)
    one_picture, other_picture = _crop(cfg.a), _crop(cfg.b)
    network = load_network(cfg.model)
    embedding = EmbeddingPass(quiet=True)
    model = name_with_size(network, embedding.size_for(network))
    calibration = find_calibration(cfg.model, model) if cfg.calibration is None else of_model(cfg.calibration, model)
    one, other = embedding.run(network, [cfg.a, cfg.b]).embeddings
    cosine = min(1.0, max(-1.0, float((one.double() * other.double()).sum())))
    told: dict[str, Any] = {"a": cfg.a, "b": cfg.b, "model": model, "cosine": cosine, "probability": None, "verdict": "unknown"}
    told |= {} if calibration is None else _judged(cosine, calibration, cfg)
    if calibration is not None and cfg.calibration is None and is_of_nobody(calibration):
        told |= {"among generated people": told["verdict"], "verdict": "unknown"}
    told["notes"] = _notes(cfg, calibration, same_picture=np.array_equal(one_picture, other_picture))
    if cfg.json:
        sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")
    else:
        _print(told)
    return 0


def _crop(path: str) -> np.ndarray:
    """The pixels of a picture that may be a crop of a person."""
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder: give one picture of it")
    try:
        pixels = image_pixels(path)
    except CorruptImageError as error:
        if not Path(path).exists() and "://" not in path:
            raise FileNotFoundError(f"there is no picture {path}") from error
        raise ValueError(str(error)) from error
    height, width = pixels.shape[:2]
    if width > WIDE * height:
        raise ValueError(f"{path} is {width} pixels wide and {height} high, which no crop of one person is: cut the person out")
    return pixels


def _judged(cosine: float, calibration: Calibration, cfg: Namespace) -> dict[str, Any]:
    above, below = calibration.match_at(cfg.false_match_rate), calibration.non_match_at(cfg.false_non_match_rate)
    return {
        "probability": Judge(calibration, cfg.prior).probability(cosine),
        "verdict": verdict_of(cosine, calibration, above.rate, below.rate),
        "prior": cfg.prior,
        "false_match_rate": above.rate,
        "same above": max(above.similarity, below.similarity),
        "false_non_match_rate": below.rate,
        "different below": min(above.similarity, below.similarity),
        "calibrated on": calibration.data,
        "people": list(calibration.people),
        "calibration_error": calibration.calibration_error,
    }


def _notes(cfg: Namespace, calibration: Calibration | None, *, same_picture: bool) -> list[str]:
    notes = ["both are the same picture, pixel by pixel"] if same_picture else []
    if calibration is None:
        command = f"lightning-reid calibrate DATA --model {cfg.model}"
        return [
            *notes,
            f"there is no probability: nobody has found out what cosines of this network mean. {command} does, on labeled people",
        ]
    return notes + notes_on(calibration)


def _print(told: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{told['verdict']}: cosine {told['cosine']:.3f}", end="" if told["probability"] is not None else "\n")
    if told["probability"] is not None:
        among = told.get("among generated people")
        where = "" if among is None else f"; among generated people it would be {among!r}"
        probability = shown_probability(told["probability"])
        console.print(f"{where}, probability of the same person {probability} at a prior of {told['prior']:g}")
        fitted, scored = told["people"]
        for line in (
            f"  same above {told['same above']:.3f} (false match rate {told['false_match_rate']:g}), different below"
            f" {told['different below']:.3f} (false non-match rate {told['false_non_match_rate']:g})",
            f"  calibrated on {fitted} people of {told['calibrated on']}, error {told['calibration_error']:.3f} on {scored} others",
        ):
            console.print(printable(line))
    for line in told["notes"]:
        console.print(printable(f"note: {line}"))
