"""A node: cameras tracked here, matched elsewhere: ``track_cameras.py node``."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from lightning_reid.live import LiveCameras
from lightning_reid.live.addresses import checked_address, trusting
from lightning_reid.live.node_link import NodeLink
from lightning_reid.live.tokens import read_token
from lightning_reid.recipes.workshop.live_networks import load_networks
from lightning_reid.recipes.workshop.live_parts import add_camera_options, check_cameras, parts_of, sources_of
from lightning_reid.recipes.workshop.signals import stopped

DESCRIPTION = """Track cameras here, and have a gateway find their people again in the cameras of others.

Sends tracks, features and ends of tracks, never a pixel. While the gateway is gone it tracks on, and tells it afterwards what must not be
lost. Cameras are named as those of run, and bear the names that the token is for; without any, generated ones are watched. Ends with the
videos, after --seconds, or by Ctrl-C or SIGTERM.
"""
POLL = 0.25
ANSWERS_WITHIN = 10.0
"""Seconds that a gateway has to take this node or refuse it, before it goes on without."""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("--gateway", type=str, default="ws://localhost:8443", help="address, wss://host:port; ws:// within this machine")
    parser.add_argument("--token", type=str, required=True, help="file with the token that the gateway's side has issued")
    parser.add_argument("--authority", type=str | None, default=None, help="PEM file of the certificate to trust; default the system's")
    parser.add_argument("--insecure", action="store_true", help="tell another host without TLS: all on the way can read it")
    add_camera_options(parser)
    return parser


def check(cfg: Namespace) -> None:
    """Find what cannot be right before anything is watched.

    Raises:
        OSError: The file of the token, a video, the detector or the network cannot be read.
        ValueError: Address, token, certificate or a camera is none, the token is not for a camera that is named, cameras would wait,
            or the network is none.
    """
    checked_address(cfg.gateway, insecure=cfg.insecure)
    trusting(cfg.authority)
    check_cameras(cfg)
    if not cfg.realtime:
        raise ValueError("--realtime false: a node tells when people were where, which takes videos at their own rate")
    _watched(cfg)
    load_networks(cfg.reid.checkpoint)


def run(cfg: Namespace) -> dict[str, Any]:
    """Watch the cameras until they end.

    Raises:
        RuntimeError: A camera has failed.
        SystemExit: The gateway refuses this node; the message says why.
    """
    networks, names = load_networks(cfg.reid.checkpoint), _watched(cfg)
    parts = [one for one in parts_of(cfg, networks) if one.source.camera in names]
    for one in parts:
        one.node.tracker.epoch = int(time.time())  # larger than that of an earlier process, whose tracks had the same ids
    options = {"authority": cfg.authority, "insecure": cfg.insecure, "cameras": names}
    with NodeLink(cfg.gateway, _token(cfg), model=networks.model, feature_size=networks.num_features, **options) as link, stopped() as stop:
        if not link.wait_until_answered(ANSWERS_WITHIN):
            print(f"{cfg.gateway} does not answer yet: tracking begins without it", flush=True)
        if link.refused is not None:
            raise SystemExit(link.refused)
        live, until = LiveCameras(parts, link.put), time.monotonic() + (cfg.seconds or math.inf)
        with live:
            while not live.wait(POLL) and not stop.is_set() and time.monotonic() < until:
                pass
    frames = sum(pipeline.meters["track"].processed for pipeline in live.pipelines.values())
    told = {"frames": frames, "taken": link.outbox.num_sent, "dropped": link.outbox.num_dropped_frames, "left": len(link.outbox)}
    print(", ".join(f"{value} {name}" for name, value in told.items()), flush=True)
    return told


def _token(cfg: Namespace) -> str:
    return Path(cfg.token).read_text(encoding="utf-8").strip()


def _watched(cfg: Namespace) -> list[str]:
    """Names of the cameras that are watched: those that are named, or of the generated ones those that the token is for.

    Raises:
        ValueError: The token is for none of them, or not for one that is named.
    """
    present, allowed = [source.camera for source in sources_of(cfg)], read_token(_token(cfg)).cameras
    watched = [name for name in present if name in allowed]
    if not watched or (cfg.cameras and len(watched) < len(present)):
        there, told = ", ".join(present), ", ".join(allowed) or "no camera"
        raise ValueError(f"the token is for {told}, the cameras are {there}: name them so (--cameras NAME=...), or issue another token")
    return watched
