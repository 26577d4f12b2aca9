"""``lightning-reid reassociate SEQUENCE... --gap N``: is the same person found N frames later, in an annotated video."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from lightning_reid.command_line.results import OUT_HELP, require_new_table, show_rows, tell_lines, write_rows
from lightning_reid.datamodules.late_progress import late_progress

if TYPE_CHECKING:  # with torch and timm, for which --help does not wait
    from lightning_reid.evaluation.reassociation import SequenceBoxes
    from lightning_reid.inference import OnnxEmbedder
    from lightning_reid.metrics.reassociation import ReassociationScores
    from lightning_reid.networks import EmbeddingNetwork

DESCRIPTION = """Ask for each annotated box of a video whether the nearest box N frames later is the same track, by cosine.

SEQUENCE is a folder of MOTChallenge: img1/ or a video file, gt/gt.txt or gt.txt, and seqinfo.ini, whose number of frames is checked. Asked
is for the boxes whose track is there again; beside the rank-1 stand its 95 % interval over tracks and what guessing would give. A track
that is another person's later, or gets a new number when it comes back, is what the annotation says it is.
"""
SHOWN = {
    **{"model": "model", "sequence": "sequence", "gap": "gap", "rank_1": "rank-1 %", "rank_1_interval": "95 % interval %"},
    **{"chance": "chance %", "mAP": "mAP %", "queries": "queries", "gone": "gone", "tracks": "tracks", "mean_gallery": "mean gallery"},
}


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    from lightning_reid.arguments import height_and_width
    from lightning_reid.networks.shipped import DEFAULT, MODEL_HELP

    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("sequences", type=str, nargs="+", help="folders of MOTChallenge")
    parser.add_argument("--models", type=str, nargs="+", default=[DEFAULT], help=f"one or more: {MODEL_HELP}")
    parser.add_argument("--gap", type=PositiveInt, nargs="+", default=[30], help="one or more, in frames")
    told = "boxes of which the annotation says that less is visible are left out, in [0, 1]; MOT15 does not say it"
    parser.add_argument("--min_visibility", type=float, default=0.0, help=told)
    told = "HEIGHTxWIDTH in pixels that boxes are resized to; default what a network says, or 256x128"
    parser.add_argument("--image_size", type=height_and_width, default=None, help=told)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto is CUDA where there is a device")
    parser.add_argument("--out", type=str, default=None, help=OUT_HELP)
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    return parser


def run(cfg: Namespace) -> int:
    """Measure, and tell what was found.

    Raises:
        OSError: A model or a sequence is missing, or the table cannot be written.
        ValueError: Something is named twice, is no model or no sequence, or nobody is there again after a gap; or the table exists.
    """
    from lightning_reid.arguments import require_number
    from lightning_reid.datamodules.mot.sequence import open_sequence
    from lightning_reid.evaluation.reassociation import boxes_to_reassociate
    from lightning_reid.inference import load_network

    require_new_table(cfg.out)
    require_number("--min_visibility", cfg.min_visibility, low=0, high=1)
    for option in ("models", "sequences", "gap"):
        twice = next((one for one in cfg[option] if cfg[option].count(one) > 1), None)
        if twice is not None:
            raise ValueError(f"{option} names {twice} twice")
    visible = cfg.min_visibility
    asked = {one: boxes_to_reassociate(open_sequence(one), cfg.gap, min_visibility=visible) for one in cfg.sequences}
    rows = []
    for model in cfg.models:
        network = _on_device(load_network(model, cfg.image_size), cfg.device)
        for sequence, boxes in asked.items():
            rows += [_row(model, sequence, scores) for scores in _measured(network, boxes, f"{Path(model).name} on {sequence}", cfg)]
    notes = [f"{one}: {count:,} boxes left out, {why}" for one, boxes in asked.items() for why, count in boxes.left_out.items()]
    if cfg.out is not None:
        write_rows(cfg.out, rows, SHOWN, notes)
    if cfg.json:
        sys.stdout.write(json.dumps({"rows": rows, "notes": notes}, allow_nan=False) + "\n")  # in ASCII: a name need not be text
        return 0
    show_rows("found again N frames later", rows, SHOWN, names=2)
    tell_lines([f"note: {one}" for one in notes])
    return 0


def _on_device(network: EmbeddingNetwork | OnnxEmbedder, device: str) -> EmbeddingNetwork | OnnxEmbedder:
    import torch

    from lightning_reid.inference import EmbeddingPass, OnnxEmbedder

    EmbeddingPass(device=device)  # type: ignore[arg-type]  # refuses CUDA where there is none
    cuda = device != "cpu" and torch.cuda.is_available()
    return network.to("cuda") if cuda and not isinstance(network, OnnxEmbedder) else network


def _measured(
    network: EmbeddingNetwork | OnnxEmbedder, boxes: SequenceBoxes, description: str, cfg: Namespace
) -> list[ReassociationScores]:
    from lightning_reid.evaluation import reassociate

    steps = reassociate(network, boxes, cfg.gap, cfg.image_size)
    *_, video = late_progress(steps, description, total=len(boxes.by_frame), disable=cfg.json)
    return [video.scores(gap) for gap in cfg.gap]


def _row(model: str, sequence: str, found: ReassociationScores) -> dict[str, Any]:
    from lightning_reid.metrics import bootstrap_interval

    scores = found.scores
    several = scores.num_people > 1
    return {
        **{"model": model, "sequence": sequence, "gap": found.gap, "rank_1": float(scores.cmc[0])},
        "rank_1_interval": bootstrap_interval(scores.first_match_rank <= 1, scores.query_pids) if several else None,
        **{"chance": found.chance, "mAP": scores.mAP, "queries": len(scores.valid_queries), "gone": scores.num_unmatched_queries},
        **{"tracks": scores.num_people, "mean_gallery": found.mean_gallery_size},
    }
