"""A gateway: the people of all nodes' cameras, matched: ``track_cameras.py gateway``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeFloat, PositiveFloat

from lightning_reid.live import AuditLog, Journal, Listener, Told
from lightning_reid.live.addresses import checked_address, require_private, trusting
from lightning_reid.live.gateway import Gateway
from lightning_reid.live.node_link import NodeLink
from lightning_reid.live.page import LiveView
from lightning_reid.live.serving import Server
from lightning_reid.live.tokens import read_secret, read_token
from lightning_reid.networks.shipped import DEFAULT
from lightning_reid.recipes.workshop.live_networks import THRESHOLD, load_networks, threshold_of
from lightning_reid.recipes.workshop.live_page import PageOptions
from lightning_reid.recipes.workshop.signals import stopped
from lightning_reid.tracking import CameraTracks, Match, MatchingRules, OnlineMatcher

DESCRIPTION = """Match the people that nodes see: they send tracks and features, and get nothing of each other's.

Leaves in --output: secret, by which its tokens are signed (issue some: track_cameras.py token); journal, from which it goes on after a
kill with the same numbers; audit.log, a line for each time that somebody asked for a match to be undone or a person to be forgotten.
Features are biometric data: they are forgotten --keep_for seconds after a person was seen last, and gone from the journal ten minutes
later, by what frames tell of time: while no node tells, or this is ended, they stay in the journal until one does; remove it to end that.
Other gateways are told what nodes tell this one (--peers), and tell it theirs; each numbers people by itself. Ends by Ctrl-C or SIGTERM.
"""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("--output", type=str, default="runs/gateway", help="folder of this gateway, which goes on from what is in it")
    parser.add_argument("--host", type=str, default="127.0.0.1", help="address to listen on; another than this machine's takes TLS")
    parser.add_argument("--port", type=int, default=8443, help="port to listen on; 0 for a free one")
    parser.add_argument("--certificate", type=str | None, default=None, help="PEM file of a certificate: TLS is spoken")
    parser.add_argument("--key", type=str | None, default=None, help="PEM file of its key")
    parser.add_argument("--insecure", action="store_true", help="other hosts without TLS: all on the way can read tokens and features")
    parser.add_argument(
        "--peers", nargs="+", type=str, default=[], help="other gateways, each as ADDRESS=FILE with the token it has issued"
    )
    parser.add_argument("--authority", type=str | None, default=None, help="PEM file of the peers' certificate; default the system's")
    parser.add_argument("--reid.checkpoint", type=str, default=DEFAULT, help="network of all nodes, as they are told it")
    parser.add_argument("--keep_for", type=PositiveFloat, default=3600.0, help="seconds that features of a person are kept")
    parser.add_argument("--gone_after", type=PositiveFloat, default=30.0, help="seconds until people of a camera without node have left")
    parser.add_argument(
        "--threshold", type=float | None, default=None, help=f"cosine of a match; default {THRESHOLD} for the shipped network alone"
    )
    parser.add_class_arguments(MatchingRules, "rules", skip={"threshold"})
    parser.set_defaults({"rules.own_camera": True})
    parser.add_argument("--watch", action="store_true", help="serve a page, on which nodes' cameras are boxes: no pixel leaves a node")
    parser.add_class_arguments(PageOptions, "page", skip={"pictures", "fps"})
    parser.add_argument("--seconds", type=NonNegativeFloat, default=0.0, help="end after so many; 0 for never")
    return parser


def check(cfg: Namespace) -> None:
    """Find what cannot be right before anything is opened.

    Raises:
        OSError: A file of a token, or the network, cannot be read.
        ValueError: An address, token, certificate, network or rule is none, or another host would be served without TLS.
    """
    require_private(cfg.host, tls=cfg.certificate is not None, insecure=cfg.insecure)
    _rules(cfg)
    for address, token in _peers(cfg):
        checked_address(address, insecure=cfg.insecure)
        read_token(token)
    trusting(cfg.authority)
    load_networks(cfg.reid.checkpoint)


def run(cfg: Namespace, *, listeners: Sequence[Listener] = ()) -> dict[str, Any]:
    """Match until somebody ends it.

    Args:
        cfg: Options.
        listeners: Told of every message and what followed from it, as a page is.

    Raises:
        OSError: The folder or the port cannot be used, or a gateway runs there.
        RuntimeError: A listener has failed, which is its cause.
    """
    output, networks, view, count = Path(cfg.output), load_networks(cfg.reid.checkpoint), LiveView(pictures=False), _Count()
    model, size = networks.model, networks.num_features
    matcher = OnlineMatcher(
        MatchingRules(threshold_of(cfg.threshold, cfg.reid.checkpoint), **cfg.rules), feature_size=size, model=model, keep_for=cfg.keep_for
    )
    peers = [
        NodeLink(address, token, model=model, feature_size=size, authority=cfg.authority, insecure=cfg.insecure, peer=True)
        for address, token in _peers(cfg)
    ]
    with Journal(output / "journal", matcher) as journal, stopped() as stop, ExitStack() as ends:
        gateway = Gateway(
            matcher,
            secret=read_secret(output / "secret"),
            audit=AuditLog(output / "audit.log"),
            journal=journal,
            listeners=[count, *([view] if cfg.watch else []), *listeners],
            peers=peers,
            gone_after=cfg.gone_after,
        )
        ends.callback(gateway.close)  # last
        for link in peers:
            ends.callback(link.close)
        tls = {"certificate": cfg.certificate, "key": cfg.key, "insecure": cfg.insecure}
        page = PageOptions(**cfg.page).shown(view, lambda request: gateway.request(request, by="page")) if cfg.watch else nullcontext()
        with Server(gateway.app(), host=cfg.host, port=cfg.port, **tls) as server, page:
            print(f"{'wss' if server.tls else 'ws'}://{server.address}, {journal.replayed} messages replayed", flush=True)
            gateway.wait(server, stop, cfg.seconds or None)
    print(f"{count.frames} frames, {count.matches} matches, {count.refused} messages refused", flush=True)
    return {"frames": count.frames, "matches": count.matches, "refused": count.refused}


class _Count:
    """Counts what was told."""

    def __init__(self) -> None:
        self.frames = self.matches = self.refused = 0

    def __call__(self, told: Told) -> None:
        self.frames += isinstance(told.message, CameraTracks)
        self.matches += sum(isinstance(event, Match) for event in told.events)
        self.refused += told.refused is not None


def _rules(cfg: Namespace) -> MatchingRules:
    return MatchingRules(threshold_of(cfg.threshold, cfg.reid.checkpoint), **cfg.rules)


def _peers(cfg: Namespace) -> list[tuple[str, str]]:
    """Address and token of each other gateway.

    Raises:
        OSError: A file of a token cannot be read.
        ValueError: One is not told as ADDRESS=FILE.
    """
    found = []
    for told in cfg.peers:
        address, sign, file = told.partition("=")
        if not sign or not file:
            raise ValueError(f"--peers: expected ADDRESS=FILE, as wss://other.local:8443=other.token, got {told!r}")
        found.append((address, Path(file).read_text(encoding="utf-8").strip()))
    return found
