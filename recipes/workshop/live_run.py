"""Cameras tracked while they run: ``track_cameras.py run``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from math import isnan
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from rich.console import Console
from rich.status import Status
from torch import Tensor

from lightning_reid.datamodules.generated import GeneratedWorld
from lightning_reid.files import folder_written_whole, write_json
from lightning_reid.live import AuditLog, CameraParts, Listener, LiveCameras, MatchingThread
from lightning_reid.live.addresses import require_private
from lightning_reid.live.camera_pipeline import OnPicture
from lightning_reid.live.page import LiveView
from lightning_reid.recipes.workshop.camera_recording import scored_cameras, truth_of
from lightning_reid.recipes.workshop.lanes import draw_lanes
from lightning_reid.recipes.workshop.live_networks import THRESHOLD, load_networks, threshold_of
from lightning_reid.recipes.workshop.live_page import PageOptions
from lightning_reid.recipes.workshop.live_parts import add_camera_options, check_cameras, parts_of, world_of
from lightning_reid.recipes.workshop.live_record import RunRecord
from lightning_reid.recipes.workshop.signals import stopped
from lightning_reid.recipes.workshop.tables import print_table
from lightning_reid.recipes.workshop.tracking_scores import RESULTS, scores_of
from lightning_reid.tracking import CameraTracks, FrameStamp, MatchingRules, OnlineMatcher
from lightning_reid.tracking.events import Request
from lightning_reid.tracking.track_memory import Mode

DESCRIPTION = """Track people over several cameras while they run, and find them again from one to the next.

Cameras are videos, folders of pictures, webcams (0) and addresses (rtsp://..., http://...), each with a name in front if it is to have
one: --cameras door=door.mp4 hall=rtsp://192.168.0.7/stream 0. Without any, three generated cameras are watched. A page shows them while
they run (--no-page for none). Ends with the videos, after --seconds, or by Ctrl-C.
Leaves in --output: results.json; lanes.png, who was where and when; and the tracks of each camera as its own CAMERA.txt in the MOTChallenge
format, with the numbers that were shown. Beside it, in OUTPUT.audit.log, what was asked on the page.
"""
LANES, AUDIT = "lanes.png", ".audit.log"
POLL = 0.25
"""Seconds between two looks at whether the run is to end."""
_TABLE = (
    "frames tracked",
    "fps",
    "frames dropped",
    "clips dropped",
    "losses",
    "tracks",
    "identities",
    "matches",
    "latency p50",
    "latency p95",
)


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=DESCRIPTION)
    add_camera_options(parser)
    add = parser.add_argument
    add("--output", type=str, default="runs/live", help="new folder for what the run leaves")
    add("--threshold", type=float | None, default=None, help=f"cosine of a match; default {THRESHOLD} for the shipped network alone")
    add("--memory", type=Mode | None, default=None, help="live where views overlap; default left, or as the world is")
    add("--every_n_frames", type=PositiveInt, default=40, help="frames from one query of a track to its next")
    add("--own_camera", type=bool, default=True, help="find people who left the same camera, too; the text asks the other cameras alone")
    add("--no-page", action="store_true", help="show no page")
    parser.add_class_arguments(PageOptions, "page")
    add("--quiet", action="store_true", help="show no line of progress")
    return parser


def check(cfg: Namespace) -> None:
    """Find what cannot be right before a camera is opened.

    Raises:
        OSError: A video, a detector or a network is not there.
        ValueError: The folder is in use, cameras are not as ``sources_of`` needs them, or the network is none.
    """
    output = Path(cfg.output)
    if (output / RESULTS).exists():
        raise ValueError(f"{output} holds the {RESULTS} of another run: give another --output")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} is not empty: give another --output")
    if not cfg.no_page:
        require_private(cfg.page.host, tls=cfg.page.certificate is not None, insecure=cfg.page.insecure)
    check_cameras(cfg)
    _rules(cfg, world_of(cfg))
    load_networks(cfg.reid.checkpoint)


def run(cfg: Namespace, *, listeners: Sequence[Listener] = (), on_picture: OnPicture | None = None) -> dict[str, Any]:
    """Track the cameras until they end, show them meanwhile, and leave what was shown in the folder.

    Args:
        cfg: Options.
        listeners: Told of every message and what followed from it, as the page is.
        on_picture: Gets each picture that was tracked, as the page does.

    Raises:
        OSError: The folder does not take the results, or the page cannot be served.
        RuntimeError: A camera has failed; what was shown by then is left all the same.
    """
    networks, world = load_networks(cfg.reid.checkpoint), world_of(cfg)
    parts = parts_of(cfg, networks)
    matcher = OnlineMatcher(_rules(cfg, world), feature_size=networks.num_features, model=networks.model)
    realtime, failure = parts[0].source.realtime, None
    clock = time.time if realtime else None
    views = [] if cfg.no_page else [LiveView(pictures=cfg.page.pictures, fps=cfg.page.fps, clock=clock)]
    with folder_written_whole(Path(cfg.output)) as folder:
        record = RunRecord(folder, [one.source.camera for one in parts], realtime=realtime, keep=world is not None and not cfg.loop)
        began, matching = time.monotonic(), MatchingThread(matcher, [record, *views, *listeners], clock=clock)
        live = LiveCameras(parts, matching.put, on_picture=_to_each([*(one.on_picture for one in views), *filter(None, [on_picture])]))
        try:
            with matching, _page(cfg, views, matching):
                ended = _watch(cfg, live, record)
        except RuntimeError as error:
            failure, ended = error, f"a failure: {error}"
        finally:
            record.close()
        results = {"ended by": ended, "seconds": time.monotonic() - began, **_results(cfg, live, parts, record, world)}
        write_json(folder / RESULTS, results)
        draw_lanes(folder / LANES, record)
    if failure is not None:
        raise failure
    for one, other in matcher.identities.collisions():
        raise RuntimeError(f"{one} and {other} are one person, twice in a camera at a time")
    _print(cfg, results)
    return results


def _to_each(watching: Sequence[OnPicture]) -> OnPicture | None:
    def show(stamp: FrameStamp, picture: Tensor, tracks: CameraTracks) -> None:
        for one in watching:
            one(stamp, picture, tracks)

    return show if watching else None


def _page(cfg: Namespace, views: Sequence[LiveView], matching: MatchingThread) -> AbstractContextManager[object]:
    """The page while it is served, if there is one; what somebody asks there is written down before it is done."""
    if not views:
        return nullcontext()
    output = Path(cfg.output)
    audit = AuditLog(output.with_name(output.name + AUDIT))  # beside the folder, which a run that is killed does not leave

    def ask(request: Request) -> None:
        audit.write_request(request, by="page")
        matching.put(request)

    return PageOptions(**cfg.page).shown(views[0], ask)


def _rules(cfg: Namespace, world: GeneratedWorld | None) -> MatchingRules:
    memory: Mode = cfg.memory or ("live" if world is not None and world.overlapping else "left")
    return MatchingRules(
        threshold_of(cfg.threshold, cfg.reid.checkpoint), memory=memory, every_n_frames=cfg.every_n_frames, own_camera=cfg.own_camera
    )


def _watch(cfg: Namespace, live: LiveCameras, record: RunRecord) -> str:
    """Let the cameras run, and tell what ended them."""
    began = time.monotonic()
    status = Status("", console=Console(stderr=True))
    try:
        with stopped() as stop, live:
            while not live.wait(POLL):
                passed = time.monotonic() - began
                if stop.by is not None:
                    status.stop()
                    status.console.print(f"{stop.by}: the cameras are ended, then the results are written; once more leaves nothing")
                    return stop.by
                if cfg.seconds is not None and passed >= cfg.seconds:
                    return "--seconds"
                if passed > 2 and not cfg.quiet:
                    status.update(_progress(live, record, passed))
                    status.start()
            return "the end of the videos"
    finally:
        status.stop()


def _progress(live: LiveCameras, record: RunRecord, passed: float) -> str:
    rates = ", ".join(f"{name} {record.cameras[name].frames / passed:.1f} fps" for name in live.pipelines)
    return f"{passed:.0f} s: {rates}; {len(record.identities)} identities, {sum(one.stands for one in record.handovers)} matches"


def _results(
    cfg: Namespace, live: LiveCameras, parts: Sequence[CameraParts], record: RunRecord, world: GeneratedWorld | None
) -> dict[str, Any]:
    cameras = {one.source.camera: _of_camera(live, one, record) for one in parts}
    rules, scores = _rules(cfg, world), None
    if record.shown and world is not None:
        scores = {name: None if isnan(value) else value for name, value in _scores(world, record).items()}
    return {
        "network": cfg.reid.checkpoint,
        "threshold": rules.threshold,
        "memory": rules.memory,
        "realtime": parts[0].source.realtime,
        "identities": len(record.identities),
        "matches": sum(one.stands for one in record.handovers),
        "matches undone": sum(not one.stands for one in record.handovers),
        "messages refused": sum(record.refused.values()),
        "cameras": cameras,
        "scores": scores,
    }


def _of_camera(live: LiveCameras, parts: CameraParts, record: RunRecord) -> dict[str, Any]:
    name = parts.source.camera
    pipeline, bars = live.pipelines[name], record.of_camera(name)
    meters = pipeline.meters
    return {
        "frames captured": meters["decode"].processed,
        "frames tracked": meters["track"].processed,
        "frames dropped": meters["track"].dropped,
        "clips dropped": meters["embed"].dropped,
        "damaged": parts.source.num_corrupt,
        "losses": pipeline.num_losses,
        "fps": meters["track"].rate,
        "tracks": len(bars),
        "identities": len({one[-1].identity for one in bars}),
        "matches": sum(one.stands and name in (one.track.camera, one.other.camera) for one in record.handovers),
        "latency p50": record.latency(name, 50),
        "latency p95": record.latency(name, 95),
        "cpu seconds": {stage: round(meter.cpu_seconds, 3) for stage, meter in meters.items()},
    }


def _scores(world: GeneratedWorld, record: RunRecord) -> dict[str, float]:
    """Of the frames that were captured."""
    num_frames = max(one.last for one in record.cameras.values()) + 1
    return scores_of(scored_cameras(world, truth_of(world, num_frames), record.shown, num_frames))


def _print(cfg: Namespace, results: dict[str, Any]) -> None:
    cameras = results["cameras"]
    rows = [[f"{name}, s" if "latency" in name else name, *(_cell(row[name]) for row in cameras.values())] for name in _TABLE]
    told = f"{results['identities']} identities, {results['matches']} matches; ended by {results['ended by']}; more in {cfg.output}"
    print_table("tracked live", ["", *cameras], rows, caption=told)
    if results["scores"] is not None:
        print_table("against the truth", ["score", "value"], [[name, _cell(value)] for name, value in results["scores"].items()])


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else f"{value:,}"
