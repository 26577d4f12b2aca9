"""Short options for the two domains of a recipe, one with labels, one to adapt to."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

SHORT = ("source", "target", "reverse")
"""The short options, which ``apply_short_domains`` resolves."""
NAMED = ("data.root", "source", "target", "data.source", "data.target")
"""All options that name data."""


def add_short_domains(parser: ArgumentParser) -> None:
    """Give a parser the short options; the full ones are those of ``CrossDomainDataModule``, under ``data``."""
    parser.add_argument("--source", type=str | None, help="short for --data.source: labeled folder in the Market naming, or a name")
    parser.add_argument("--target", type=str | None, help="short for --data.target: folder to adapt to and to score on, or a name")
    parser.add_argument("--reverse", action="store_true", help="swap the domains: Market to Duke")


def apply_short_domains(cfg: Namespace) -> Namespace:
    """Parsed options, changed in place: ``data.source`` and ``data.target`` are what the short options say."""
    cfg.data.source, cfg.data.target = cfg.source or cfg.data.source, cfg.target or cfg.data.target
    if cfg.reverse:
        cfg.data.source, cfg.data.target = cfg.data.target, cfg.data.source
    return cfg
