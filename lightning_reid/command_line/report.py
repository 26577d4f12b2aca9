"""``lightning-reid report RUN``: one HTML file that shows what a run, or a network on a test part, has come to."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from jsonargparse import ArgumentParser, Namespace

from lightning_reid.command_line.listening import listening
from lightning_reid.command_line.results import tell_lines
from lightning_reid.datamodules.late_progress import late_progress, late_status

if TYPE_CHECKING:  # with torch, timm and scikit-learn, for which --help does not wait
    from lightning_reid.command_line.finished_run import FinishedRun, Method
    from lightning_reid.evaluation import EmbeddedTest
    from lightning_reid.metrics.matching import ProtocolName

DESCRIPTION = """Show in one HTML file what a run has come to: its table with stamps, the worst rank lists and drawn ones, failures by
camera pair, distances of same and different people with a threshold, a map of embeddings, activation maps, clusters, losses.

lightning-reid report runs/hsr                                              # its last method, on what it was scored on
lightning-reid report --model generated-people-small --data my_people.csv   # a network on a test part

The file asks nobody for anything, and is read without network, by keyboard, by day and by night. It holds pictures of the people it shows.
"""
DEFAULT_NAME = "report.html"
MOST_QUERIES, MOST_POINTS = 24, 2000
"""With these the page stays below 10 MB, whatever the pictures."""


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    from lightning_reid.arguments import height_and_width
    from lightning_reid.inference import EmbeddingPass
    from lightning_reid.metrics.matching import ProtocolName
    from lightning_reid.networks.shipped import MODEL_HELP

    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("run", type=str, nargs="?", default=None, help="--output folder of a recipe that has come to its end")
    told = "of the run, as its table names it; default the last of the table that has a checkpoint"
    parser.add_argument("--method", type=str, default=None, help=told)
    parser.add_argument("--model", type=str, default=None, help=f"in place of a run, with --data: {MODEL_HELP}")
    told = "test part to look into: name, folder in the Market naming or the MARS layout, table; default what the run was scored on"
    parser.add_argument("--data", type=str, default=None, help=told)
    parser.add_argument("--root", type=str, default=None, help="folder of named data sets, with --data; default data")
    parser.add_argument("--split", type=int, default=0, help="of the data sets that have ten of them, 0 to 9, with --data")
    told = "who counts for a query; default the run's, or the first that the labels allow"
    parser.add_argument("--protocol", choices=get_args(ProtocolName), default=None, help=told)
    parser.add_argument("--queries", type=int, default=8, help=f"queries of each of the two rank lists, 1 to {MOST_QUERIES}")
    parser.add_argument("--points", type=int, default=600, help=f"pictures on the map, 3 to {MOST_POINTS:,}; t-SNE takes seconds for 600")
    parser.add_argument("--map", choices=("tsne", "pca"), default="tsne", help="how the map is made: t-SNE, or the two largest components")
    told = "share in (0, 1) of the pairs of two people that may lie within the threshold"
    parser.add_argument("--false_match_rate", type=float, default=0.01, help=told)
    parser.add_argument("--seed", type=int, default=0, help="of the queries and people that are drawn, and of t-SNE")
    told = "HEIGHTxWIDTH in pixels that images are resized to; default what the network says, or 256x128"
    parser.add_argument("--image_size", type=height_and_width, default=None, help=told)
    parser.add_class_arguments(EmbeddingPass, None, skip={"quiet", "image_size", "flip"})
    parser.add_argument("--allow_paths_outside", action="store_true", help="let a table list files that do not lie below its folder")
    told = f"file to write, .html; default {DEFAULT_NAME} in the run's folder, or here without a run. A report that is there is replaced"
    parser.add_argument("--out", type=str, default=None, help=told)
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    return parser


def run(cfg: Namespace) -> int:
    """Look into a network, and write the page.

    Raises:
        OSError: The run, the network or the data are gone, or the page cannot be written.
        ValueError: Options that do not go together or are out of range; a run that is none, unfinished or damaged; data that are not what
            they were; or a network whose embeddings are not finite.
    """
    _require_options(cfg)
    from lightning_reid.command_line.finished_run import read_finished_run

    finished = None if cfg.run is None else read_finished_run(cfg.run)
    method = None if finished is None else finished.method(cfg.method)
    out = Path(cfg.out or (DEFAULT_NAME if finished is None else finished.folder / DEFAULT_NAME))
    _require_replaceable(out)
    told = _make(cfg, finished, method, out)
    if cfg.json:
        sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")  # in ASCII: a name need not be text
        return 0
    tell_lines([f"note: {one}" for one in told["notes"]])
    tell_lines([f"{out}: {told['bytes'] / 1e6:.1f} MB, {told['model']} on {told['data']}, mAP {100 * told['mAP']:.1f} %", told["stamp"]])
    return 0


def _require_options(cfg: Namespace) -> None:
    from lightning_reid.arguments import require_count, require_number, require_seed

    require_count("--queries", cfg.queries, high=MOST_QUERIES)
    require_count("--points", cfg.points, low=3, high=MOST_POINTS)
    require_number("--false_match_rate", cfg.false_match_rate, above=0, below=1)
    require_seed("--seed", cfg.seed)
    if cfg.run is None and (cfg.model is None or cfg.data is None):
        raise ValueError("give the folder of a run, or --model and --data")
    if cfg.run is not None and cfg.model is not None:
        raise ValueError(f"the run {cfg.run} has networks of its own: give it with --method, or --model with --data without a run")
    if cfg.run is None and cfg.method is not None:
        raise ValueError(f"--method {cfg.method} is one of a run: give its folder")
    if cfg.data is None and (cfg.root is not None or cfg.split):
        raise ValueError("--root and --split say where --data lie: give --data too")


def _require_replaceable(out: Path) -> None:
    """Refuse to write over what is no report, before anything is embedded."""
    from lightning_reid.command_line.report_page.page import GENERATOR
    from lightning_reid.regular_files import open_regular

    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--out: {out} must end with .html")
    if not out.exists():
        return
    if out.is_file():  # a pipe would be waited for
        with open_regular(out) as there:
            if GENERATOR.encode() in there.read(2000):
                return
    raise ValueError(f"{out} exists and is no report: give another --out")


def _make(cfg: Namespace, finished: FinishedRun | None, method: Method | None, out: Path) -> dict[str, Any]:
    from lightning_reid.command_line.report_page.findings import find
    from lightning_reid.command_line.report_page.page import Subject, build_page
    from lightning_reid.command_line.reported import reported_clips, reported_images
    from lightning_reid.files import write_atomically

    quiet = cfg.quiet or cfg.json

    def shown(things: Sequence[Any], what: str) -> Iterable[Any]:
        return late_progress(things, what, total=len(things), disable=quiet)

    with listening(logging.WARNING) as warned:
        as_told = method is not None and method.tested is not None and cfg.data in (None, method.tested.dataset)
        clips = as_told and method is not None and method.tested is not None and method.tested.clips is not None
        there = reported_clips(cfg, method, quiet=quiet) if clips and method is not None else reported_images(cfg, method, quiet=quiet)
        protocol, rerank = _protocol(cfg, finished, there.test)
        options = {"queries": cfg.queries, "points": cfg.points, "method": cfg.map, "false_match_rate": cfg.false_match_rate}
        with late_status("ranking, counting failures and distances, placing the map", disable=quiet):
            found = find(there.test, protocol, rerank=rerank, seed=cfg.seed, **options)
        notes = _notes(cfg, finished, method, there.notes, warned)
        subject = Subject(finished, method, there.model, there.network_name, there.test.name, there.same_data, notes)
        page = build_page(subject, found, there.pictures, there.looks(found), seed=cfg.seed, versions=_versions(), shown=shown)
    content = page.encode("utf-8", "backslashreplace")
    write_atomically(out, lambda draft: draft.write_bytes(content))
    named = {"report": str(out), "bytes": len(content), "model": subject.model, "data": subject.data, "notes": list(subject.notes)}
    return named | {"method": None if method is None else method.name, "mAP": found.found.scores.mAP, "stamp": str(found.found.stamp)}


def _notes(
    cfg: Namespace, finished: FinishedRun | None, method: Method | None, told: Sequence[str], warned: Sequence[str]
) -> tuple[str, ...]:
    """What readers and networks have told, each once, and without where things lie on this machine: the page is handed on."""
    from lightning_reid.command_line.report_page.names import without_places

    tested = None if method is None else method.tested
    data, root = (cfg.data, cfg.root) if cfg.data is not None or tested is None else (tested.dataset, tested.root)
    folder = None if data is None or "://" in data else Path(data).parent if Path(data).is_file() else Path(data)
    folders = (folder, None if root is None else Path(root), None if finished is None else finished.folder)
    repeated = (one for one in warned if not any(one.endswith(note) for note in told))  # readers warn of their notes as well
    return tuple(dict.fromkeys(without_places(one, folders) for one in (*told, *repeated)))


def _protocol(cfg: Namespace, finished: FinishedRun | None, test: EmbeddedTest) -> tuple[ProtocolName, bool]:
    """What is judged by, and whether lists are re-ranked: as the run's table, where nothing else is asked for."""
    from lightning_reid.evaluation.retrieval import fitting_protocols, require_scorable

    fitting = fitting_protocols(test.query, test.gallery)
    stamp = None if finished is None else finished.results.stamp
    ask: Any = cfg.protocol or (stamp.protocol if stamp is not None and (cfg.data is None or stamp.protocol in fitting) else None)
    if ask is None and not fitting:
        raise ValueError(f"{test.name} fits no protocol: its gallery holds the queries, and all are of one camera")
    protocol: ProtocolName = ask or fitting[0]
    try:
        require_scorable(test.query, test.gallery, protocol)
    except ValueError as error:
        raise ValueError(f"{test.name} cannot be scored by protocol {protocol}: {error}") from error
    return protocol, stamp is not None and stamp.reranked


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import version

    return {name: version(name) for name in ("lightning-reid", "torch")} | {"Python": platform.python_version()}
