"""A page of the reference for every package that exports names: all of them, from their docstrings, classes first."""

from __future__ import annotations

import ast
from importlib import import_module
from inspect import isclass, isroutine
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

FOLDERS = {
    "lightning_reid": "lightning_reid",
    "lightning_reid.callbacks": "callbacks",
    "lightning_reid.datamodules": "datamodules",
}
"""Where packages lie below the root of the repository."""
LEFT_OUT = {"lightning_reid"}
"""Packages whose names are other packages' too."""


def exported_names(root: Path) -> dict[str, list[str]]:
    """The names in ``__all__`` by package, in the order of the alphabet.

    Args:
        root: Of the repository; its packages are read, not imported.
    """
    found = {}
    for base, folder in FOLDERS.items():
        for init in sorted((root / folder).rglob("__init__.py")):
            package = ".".join((base, *init.parent.relative_to(root / folder).parts))
            for node in ast.parse(init.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == "__all__" for one in node.targets):
                    found[package] = list(ast.literal_eval(node.value))
    return {package: names for package, names in sorted(found.items()) if package not in LEFT_OUT}


def page(package: str, names: list[str]) -> str:
    """The reStructuredText of a package's page."""
    module = import_module(package)
    things = {name: getattr(module, name) for name in names}
    title, first = package.removeprefix("lightning_reid."), (module.__doc__ or "").strip()
    lines = [title, "=" * len(title), "", f"``{package}``", "", first, "", f".. currentmodule:: {package}", ""]
    for name, thing in sorted(things.items(), key=lambda pair: (not isclass(pair[1]), pair[0].lower())):
        kind = "autoclass" if isclass(thing) else "autofunction" if isroutine(thing) else "autodata"
        lines += [f".. {kind}:: {name}", *(["   :members:", ""] if kind == "autoclass" else [""])]
    return "\n".join(lines)


def write_pages(app: Sphinx) -> None:
    """Write the pages that changed; Sphinx reads no others again."""
    folder = Path(app.srcdir) / "api"
    packages = exported_names(Path(app.srcdir).parent)
    pages = {f"{package.removeprefix('lightning_reid.')}.rst": page(package, names) for package, names in packages.items()}
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.rst"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text:
            (folder / name).write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before Sphinx looks for sources."""
    app.connect("builder-inited", write_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
