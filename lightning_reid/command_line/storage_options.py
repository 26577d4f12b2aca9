"""The options of verbs that say how a store of blocks is reached."""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser

OPTIONS_HELP = (
    'for fsspec\'s file system, as JSON: \'{"endpoint_url": "https://store:8080"}\'; credentials stand better in the environment'
    " (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or in fsspec's own configuration, where nobody reads them off a list of processes"
)


def add_storage_options(parser: ArgumentParser) -> None:
    """Add the option ``--storage_options``."""
    parser.add_argument("--storage_options", type=dict[str, Any] | None, default=None, help=OPTIONS_HELP)
