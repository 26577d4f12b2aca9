"""Where the packages lie before they are built, and what they export."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "lightning_reid": ROOT / "lightning_reid",
    "lightning_reid.callbacks": ROOT / "callbacks",
    "lightning_reid.datamodules": ROOT / "datamodules",
    "lightning_reid.recipes": ROOT / "recipes",
}


def exports() -> dict[str, str]:
    """Every name in an ``__all__``, and the innermost package that has it; none is imported for it."""
    found: dict[str, str] = {}
    for base, folder in FOLDERS.items():
        for init in sorted(folder.rglob("__init__.py")):
            package = ".".join((base, *init.parent.relative_to(folder).parts))
            for node in ast.parse(init.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == "__all__" for one in node.targets):
                    found |= dict.fromkeys(ast.literal_eval(node.value), package)
    return dict(sorted(found.items()))
