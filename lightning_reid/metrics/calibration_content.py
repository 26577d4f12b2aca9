"""A calibration in plain values, with a checksum that tells whether they are as they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from lightning_reid.metrics.calibration import Calibration

LIBRARY, CHECKSUM = "lightning-reid", "sha256"


def calibration_content(calibration: Calibration) -> dict[str, Any]:
    """All numbers of a calibration by name, its error, the version of the library, and a checksum of all that."""
    told = asdict(calibration) | {"calibration_error": calibration.calibration_error, LIBRARY: version("lightning-reid")}
    return told | {CHECKSUM: calibration_checksum(told)}


def calibration_checksum(told: Mapping[str, Any]) -> str:
    """The checksum of what ``calibration_content`` tells, which may be among it."""
    return hashlib.sha256(json.dumps({name: told[name] for name in sorted(told) if name != CHECKSUM}).encode()).hexdigest()[:16]
