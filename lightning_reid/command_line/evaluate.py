"""``lightning-reid evaluate --models M... --data D...``: how well networks find people again, in one table."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from jsonargparse import ArgumentParser, Namespace

from lightning_reid.command_line.listening import listening
from lightning_reid.command_line.results import OUT_HELP, require_new_table, show_rows, tell_lines, write_rows
from lightning_reid.datamodules.late_progress import late_progress

if TYPE_CHECKING:  # with torch, timm and scikit-learn, for which --help does not wait
    from lightning_reid.evaluation.retrieval import EmbeddedTest, EvaluationScores
    from lightning_reid.inference import EmbeddedImages
    from lightning_reid.metrics.matching import ProtocolName
    from lightning_reid.records import ReIDDataset, TrackletDataset, TrainedPeople

DESCRIPTION = """Score networks on the test parts of data sets, each under every protocol that its labels allow, by cosine.

Beside each mAP stands its 95 % interval over people, and the stamp without which it cannot be compared. Of several models the difference
to the first is told, with its interval, on the same queries. Where people are tested whom a checkpoint was trained on, that is told loudly.
Tracklets (the MARS layout, tables with a column tracklet) are scored by the mean of their frames' embeddings.
"""
SHOWN = {
    **{"model": "model", "data": "data", "protocol": "protocol", "mAP": "mAP %", "mAP_interval": "95 % interval %"},
    **{"R1": "R1 %", "R5": "R5 %", "R10": "R10 %", "mINP": "mINP %", "queries": "queries", "gallery": "gallery"},
}
DIFFERENCES = {
    **{"model": "model", "data": "data", "protocol": "protocol"},
    **{"difference": "mAP %", "difference_interval": "95 % interval %"},
}


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    from lightning_reid.arguments import height_and_width
    from lightning_reid.inference import EmbeddingPass
    from lightning_reid.metrics.matching import ProtocolName
    from lightning_reid.networks.shipped import DEFAULT, MODEL_HELP

    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("--models", type=str, nargs="+", default=[DEFAULT], help=f"one or more: {MODEL_HELP}")
    told = "one or more: names (market1501, generated-people,test_people=50), folders in the Market naming or the MARS layout, tables"
    parser.add_argument("--data", type=str, nargs="+", required=True, help=told)
    parser.add_argument("--root", type=str, default=None, help="folder of the named data sets; default data")
    parser.add_argument("--split", type=int, default=0, help="of the data sets that have ten of them, 0 to 9")
    parser.add_argument("--tracklets", action="store_true", help="read tracklets of what holds images too")
    told = "one or more, where not all that the labels allow are wanted"
    parser.add_argument("--protocol", choices=get_args(ProtocolName), nargs="+", default=None, help=told)
    parser.add_argument("--rerank", action="store_true", help="rank by k-reciprocal re-ranking")
    told = "HEIGHTxWIDTH in pixels that images are resized to; default what a network says, or 256x128"
    parser.add_argument("--image_size", type=height_and_width, default=None, help=told)
    parser.add_class_arguments(EmbeddingPass, None, skip={"quiet", "image_size", "flip"})
    parser.add_argument("--flip", action="store_true", help="average each image's embedding with that of its mirror image")
    parser.add_argument("--allow_paths_outside", action="store_true", help="let a table list files that do not lie below its folder")
    parser.add_argument("--out", type=str, default=None, help=OUT_HELP)
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    return parser


def run(cfg: Namespace) -> int:
    """Measure, and tell what was found.

    Raises:
        OSError: A model or a data set is missing, or the table cannot be written.
        ValueError: Something is named twice, is no model or no data set, or cannot be scored under a protocol; or the table exists.
    """
    require_new_table(cfg.out)
    for option in ("models", "data"):
        twice = next((one for one in cfg[option] if cfg[option].count(one) > 1), None)
        if twice is not None:
            raise ValueError(f"--{option} names {twice} twice")
    with listening() as passed_over:
        tests = {name: _read(name, cfg) for name in cfg.data}
    told: dict[str, Any] = {"rows": [], "differences": [], "warnings": [], "notes": passed_over}
    first: dict[tuple[str, str], EvaluationScores] = {}
    for model in cfg.models:
        _evaluate(model, tests, cfg, first, told)
    told["notes"] = list(dict.fromkeys([*told["notes"], *(note for test, _ in tests.values() for note in test.notes)]))
    lines = [*dict.fromkeys(row["stamp"] for row in told["rows"]), *(f"note: {one}" for one in told["notes"])]
    if cfg.out is not None:
        write_rows(cfg.out, told["rows"], SHOWN, [*lines, *told["warnings"]])
    tell_lines([f"WARNING: {one}" for one in told["warnings"]], loud=True)
    if cfg.json:
        sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")  # in ASCII: a name need not be text
        return 0
    show_rows("re-ranked scores" if cfg.rerank else "scores", told["rows"], SHOWN, names=3)
    if told["differences"]:
        show_rows(f"differences to {cfg.models[0]}, same queries", told["differences"], DIFFERENCES, names=3)
    tell_lines(lines)
    return 0


def _read(name: str, cfg: Namespace) -> tuple[ReIDDataset | TrackletDataset, tuple[ProtocolName, ...]]:
    """A data set, and the protocols to score it by."""
    from lightning_reid.datamodules.tested import read_test_part
    from lightning_reid.evaluation.retrieval import fitting_protocols, require_scorable

    options = {"split": cfg.split, "tracklets": cfg.tracklets or None, "allow_paths_outside": cfg.allow_paths_outside}
    test = read_test_part(name, cfg.root, **options)
    protocols = fitting_protocols(test.query, test.gallery) if cfg.protocol is None else tuple(cfg.protocol)
    if not protocols:
        raise ValueError(f"{name} fits no protocol: its gallery holds the queries, and all are of one camera")
    for protocol in protocols:
        try:
            require_scorable(test.query, test.gallery, protocol)
        except ValueError as error:
            raise ValueError(f"{name} cannot be scored by --protocol {protocol}: {error}") from error
    return test, protocols


def _evaluate(
    model: str,
    tests: dict[str, tuple[ReIDDataset | TrackletDataset, tuple[ProtocolName, ...]]],
    cfg: Namespace,
    first: dict[tuple[str, str], EvaluationScores],
    told: dict[str, Any],
) -> None:
    """Add the rows of a model, and what is to be known of them, to all that is told."""
    from lightning_reid.command_line.labeled_people import trained_people
    from lightning_reid.evaluation.retrieval import difference_interval, embed_test, evaluate_embedded
    from lightning_reid.inference import EmbeddingPass, load_network, model_name

    network, people = load_network(model, cfg.image_size), trained_people(model)
    names = {field.name for field in fields(EmbeddingPass)} - {"quiet"}
    embedding = EmbeddingPass(**{name: cfg[name] for name in names}, quiet=True)
    height, width = embedding.size_for(network)
    if people is None:
        told["notes"].append(f"{model} does not tell whom it was trained on: that nobody of the tests is among them cannot be checked")
    for data, (dataset, protocols) in tests.items():

        def shown(batches: Iterable[EmbeddedImages], total: int, data: str = data) -> Iterable[EmbeddedImages]:
            steps = -(-total // cfg.batch_size)
            return late_progress(batches, f"{Path(model).name} on {Path(data).name}: {total:,} images", total=steps, disable=cfg.json)

        test: EmbeddedTest = embed_test(network, dataset, embedding, progress=shown)
        if test.num_unreadable:
            told["notes"].append(f"{data}: {test.num_unreadable} of the queries and the gallery cannot be read and are left out")
        known = _known(people, dataset)
        if known is None and people is not None:
            told["notes"].append(
                f"{model} was trained on {people.data}: whether {data} shows the same people under another name is not known"
            )
        if known:
            told["warnings"].append(
                f"{model} was trained, or selected, on {len(known)} of the people of {data} that it is tested on (the first has pid"
                f" {known[0]}): its scores there say nothing about strangers"
            )
        named = {"model": model, "network": f"{model_name(network)} at {height}x{width}", "data": data}
        for protocol in protocols:
            found = evaluate_embedded(test, protocol, rerank=cfg.rerank)
            whose = {"trained_on_test_people": None if known is None else len(known)}
            told["rows"].append(named | _scores(found, cfg.split) | whose)
            start = first.setdefault((data, protocol), found)
            if start is not found:
                difference = found.scores.mAP - start.scores.mAP, difference_interval(found.scores, start.scores)
                columns = ("protocol", "than", "difference", "difference_interval")
                told["differences"].append(named | dict(zip(columns, (protocol, cfg.models[0], *difference), strict=True)))


def _scores(found: EvaluationScores, split: int) -> dict[str, Any]:
    scores, stamp = found.scores, found.stamp
    stamp = replace(stamp, dataset=f"{stamp.dataset}, split {split}") if split else stamp
    return {
        **{"protocol": stamp.protocol, "mAP": scores.mAP, "mAP_interval": found.interval},
        **{f"R{rank}": float(scores.cmc[rank - 1]) for rank in (1, 5, 10)},
        "mINP": scores.mINP,
        **{"queries": stamp.num_query, "unmatched_queries": scores.num_unmatched_queries, "gallery": stamp.num_gallery},
        **{"people": scores.num_people, "stamp": str(stamp)},
    }


def _known(people: TrainedPeople | None, dataset: ReIDDataset | TrackletDataset) -> list[int] | None:
    """The pids of the test that a network was trained on, or selected by; ``None`` where names do not tell whether they are the same."""
    from lightning_reid.command_line.labeled_people import same_data  # needs torch

    same = None if people is None else same_data(people.data, dataset.name)
    if people is None or same is None:
        return None
    return sorted({*people.pids, *people.held_out} & {record.pid for record in dataset.query}) if same else []
