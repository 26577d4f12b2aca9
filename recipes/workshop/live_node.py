"""A node: cameras tracked here, matched elsewhere: ``track_cameras.py node``."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeFloat

from lightning_reid.arguments import require_count
from lightning_reid.datamodules.generated import GeneratedWorld, WorldDetector
from lightning_reid.inference import crop_embedder
from lightning_reid.live.addresses import checked_address, trusting
from lightning_reid.live.node_link import NodeLink
from lightning_reid.live.tokens import read_token
from lightning_reid.networks import load_embedding_network
from lightning_reid.networks.shipped import DEFAULT
from lightning_reid.recipes.workshop.camera_recording import name_of
from lightning_reid.recipes.workshop.network_name import network_name
from lightning_reid.tracking import CameraNode, CameraTracker, FrameStamp
from lightning_reid.tracking.records import FromCameras

DESCRIPTION = """Track cameras here, and have a gateway find their people again in the cameras of others.

Sends tracks, features and ends of tracks, never a pixel. While the gateway is gone it tracks on, and tells it afterwards what must not be
lost. The cameras are generated ones, watched in real time from the first picture to the last. Ends with them, or by Ctrl-C or SIGTERM.
"""
ANSWERS_WITHIN = 10.0
"""Seconds that a gateway has to take this node or refuse it, before it goes on without."""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("--gateway", type=str, default="ws://localhost:8443", help="address, wss://host:port; ws:// within this machine")
    parser.add_argument("--token", type=str, required=True, help="file with the token that the gateway's side has issued")
    parser.add_argument("--authority", type=str | None, default=None, help="PEM file of the certificate to trust; default the system's")
    parser.add_argument("--insecure", action="store_true", help="tell another host without TLS: all on the way can read it")
    parser.add_argument("--cameras", type=list[int] | None, default=None, help="numbers of the world's cameras; default those of the token")
    parser.add_argument("--checkpoint", type=str, default=DEFAULT, help="network that tells people apart, as embed.py takes it")
    parser.add_argument("--max_distance", type=float, default=0.15, help="largest cosine distance of the appearance repair; 0 for none")
    parser.add_argument("--seconds", type=NonNegativeFloat, default=0.0, help="end after so many; 0 with the last picture")
    parser.add_class_arguments(GeneratedWorld, "world")
    return parser


def check(cfg: Namespace) -> None:
    """Find what cannot be right before anything is watched.

    Raises:
        OSError: The file of the token cannot be read.
        ValueError: Address, token or certificate is none, or the world or the token has no such camera.
    """
    checked_address(cfg.gateway, insecure=cfg.insecure)
    trusting(cfg.authority)
    _camids(cfg)


def run(cfg: Namespace) -> dict[str, Any]:
    """Watch the cameras until they end.

    Raises:
        SystemExit: The gateway refuses this node; the message says why.
    """
    network, world = load_embedding_network(cfg.checkpoint), GeneratedWorld(**cfg.world)
    embed, model = crop_embedder(network), network_name(network)
    names = [name_of(camid) for camid in _camids(cfg)]
    options = {"authority": cfg.authority, "insecure": cfg.insecure, "cameras": names}
    with NodeLink(cfg.gateway, _token(cfg), model=model, feature_size=network.num_features, **options) as link, stopped() as stop:
        if not link.wait_until_answered(ANSWERS_WITHIN):
            print(f"{cfg.gateway} does not answer yet: tracking begins without it", flush=True)
        if link.refused is not None:
            raise SystemExit(link.refused)
        nodes = {camid: _node(cfg, world, camid, embed, model) for camid in _camids(cfg)}
        num_frames = watch_world(world, nodes, link.put, stop, seconds=cfg.seconds or float("inf"))
    told = {"frames": num_frames, "taken": link.outbox.num_sent, "dropped": link.outbox.num_dropped_frames, "left": len(link.outbox)}
    print(", ".join(f"{value} {name}" for name, value in told.items()), flush=True)
    return told


def watch_world(
    world: GeneratedWorld,
    nodes: dict[int, CameraNode],
    put: Callable[[FromCameras], object],
    stop: threading.Event,
    *,
    seconds: float,
) -> int:
    """Let nodes watch a generated world at the pace of its pictures, from now on; pictures whose time has passed are left out.

    Args:
        world: Whose pictures they see.
        nodes: One for each camid.
        put: Takes what they tell.
        stop: Ends it early.
        seconds: After which it ends.

    Returns:
        How many pictures of each camera were watched.
    """
    detector, began, began_utc, watched, number = WorldDetector(world, seed=world.seed), time.monotonic(), time.time(), 0, 0
    while number < world.num_frames and number / world.fps < seconds:
        if stop.wait(max(began + number / world.fps - time.monotonic(), 0)):
            break
        for camid, node in nodes.items():
            stamp = FrameStamp(node.camera, number, began + number / world.fps, began_utc + number / world.fps)
            picture, found = torch.from_numpy(world.frame(camid, number)).permute(2, 0, 1), detector(camid, number)
            for message in node.step(stamp, picture, found.boxes, found.scores):
                put(message)
        watched += 1
        number = max(number + 1, int((time.monotonic() - began) * world.fps))
    for node in nodes.values():
        for message in node.end():
            put(message)
    return watched


def _node(cfg: Namespace, world: GeneratedWorld, camid: int, embed: Any, model: str) -> CameraNode:
    tracker = CameraTracker(high_score=0.5, new_score=0.55, frame_rate=world.fps, max_distance=cfg.max_distance)
    tracker.epoch = int(time.time())  # larger than that of an earlier process, whose tracks had the same ids
    return CameraNode(name_of(camid), tracker, embed, model=model)


def _token(cfg: Namespace) -> str:
    return Path(cfg.token).read_text(encoding="utf-8").strip()


def _camids(cfg: Namespace) -> list[int]:
    """Numbers of the cameras that are watched.

    Raises:
        ValueError: The token or the world has no such camera.
    """
    present = {name_of(camid): camid for camid in range(1, GeneratedWorld(**cfg.world).num_cameras + 1)}
    allowed = read_token(_token(cfg)).cameras
    wanted = [camid for name, camid in present.items() if name in allowed] if cfg.cameras is None else cfg.cameras
    for camid in wanted:
        require_count("--cameras: a number", camid, high=len(present))
        if name_of(camid) not in allowed:
            raise ValueError(f"--cameras: the token is for {', '.join(allowed) or 'none'}, not for {name_of(camid)}: issue another one")
    if not wanted:
        raise ValueError(f"the token is for {', '.join(allowed) or 'no camera'}, the world has {', '.join(present)}: issue another one")
    return wanted


@contextmanager
def stopped() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {one: signal.signal(one, lambda *_: stop.set()) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
