"""Tokens of a gateway: ``track_cameras.py token``."""

from __future__ import annotations

import time
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveFloat

from lightning_reid.live.tokens import issue_token, read_secret

DESCRIPTION = """Issue a token of a gateway: who shows it may tell of these cameras until it expires.

Prints it; keep it in a file that its bearer alone can read. Whoever has the gateway's secret (in --output) can issue tokens.
"""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("--output", type=str, default="runs/gateway", help="folder of the gateway; its secret is made if need be")
    parser.add_argument("--cameras", nargs="*", type=str, default=[], help="names of the cameras, as 'camera 1' 'camera 2'")
    parser.add_argument("--days", type=PositiveFloat, default=30.0, help="until it expires")
    parser.add_argument("--asks", action="store_true", help="its bearer may have matches undone and people forgotten")
    return parser


def check(cfg: Namespace) -> None:
    """Find what cannot be right.

    Raises:
        ValueError: The token would let nobody do anything.
    """
    if not cfg.cameras and not cfg.asks:
        raise ValueError("name --cameras that are told of, or say --asks: this token would be of no use")


def run(cfg: Namespace) -> str:
    """Issue a token, and print it."""
    secret = read_secret(Path(cfg.output) / "secret")
    token = issue_token(secret, cfg.cameras, expires=time.time() + cfg.days * 86400, asks=cfg.asks)
    print(token)
    return token
