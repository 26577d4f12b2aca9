"""The command ``lightning-reid``, run within the test."""

from __future__ import annotations

import json
from typing import Any

from lightning_reid.command_line.main import main


def told(capsys: Any, *argv: object, code: int = 0) -> dict[str, Any]:
    """What a verb tells as JSON."""
    assert main([*map(str, argv), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def refused(capsys: Any, *argv: object) -> str:
    """The sentence by which a verb refuses, which is all that it says."""
    assert main([*map(str, argv)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err
