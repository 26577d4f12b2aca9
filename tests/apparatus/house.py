"""Where the packages lie before they are built."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "lightning_reid": ROOT / "lightning_reid",
    "lightning_reid.callbacks": ROOT / "callbacks",
    "lightning_reid.datamodules": ROOT / "datamodules",
    "lightning_reid.recipes": ROOT / "recipes",
}
