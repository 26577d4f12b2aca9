"""The structure that the style guide promises, read off the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from house import FOLDERS, ROOT

CORE = {"losses", "metrics", "clustering", "federated", "linking", "pruning", "selection", "records", "normalization", "arguments"}
MAY_IMPORT = {
    "recipes": {path.stem for path in (ROOT / "lightning_reid").iterdir()} | {"callbacks", "datamodules", "recipes"},
    **dict.fromkeys(CORE, CORE),
    "networks": CORE | {"networks", "files", "regular_files"},
    "protocols": CORE | {"networks"},
    "derived_seed": set(),
    "processes": set(),
    "drafts": {"processes"},
    "regular_files": set(),
    "files": {"drafts", "regular_files"},
    "folder_lock": {"files", "processes"},
    "search_index": CORE | {"search_index", "files", "folder_lock", "regular_files"},
    "checksums": set(),
    "frame_crops": set(),
    "claimed_size": set(),
    "blocks": {"blocks", "regular_files"},
    "packed_tracklets": {"files", "checksums", "arguments", "claimed_size", "packed_tracklets"},
    "onnx_session": set(),
    "detection": {"detection", "arguments", "normalization", "onnx_session"},
    "tracking": {"tracking", "arguments", "frame_crops"},
    "live": {"live", "tracking", "arguments", "detection", "files"},
    "modules": CORE | {"networks", "protocols", "modules", "derived_seed"},
    "callbacks": CORE | {"networks", "protocols", "callbacks", "files", "detection", "packed_tracklets", "blocks"},
    "datamodules": CORE
    | {"networks", "protocols", "datamodules", "files", "regular_files", "detection", "packed_tracklets"}
    | {"claimed_size", "blocks", "drafts"},
    "command_line": {path.stem for path in (ROOT / "lightning_reid").iterdir()} | {"callbacks", "datamodules", "recipes"},
    "__main__": {"command_line"},
    "lightning_messages": set(),
    "checkpoints": {"checkpoints", "networks", "files"},
    "pipeline": CORE | {"pipeline", "networks", "protocols", "files"},
    "inference": CORE | {"inference", "networks", "files", "datamodules", "onnx_session", "frame_crops"},
    "evaluation": CORE | {"evaluation", "inference", "networks", "datamodules"},
    "federation": CORE
    | {"federation", "networks", "protocols", "files", "modules", "callbacks", "datamodules", "derived_seed", "checkpoints"}
    | {"inference", "lightning_messages", "checksums"},
}


def sources() -> list[tuple[str, Path]]:
    found = []
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            inner = path.relative_to(folder).with_suffix("").parts
            part = package.removeprefix("lightning_reid").strip(".") or inner[0]
            found.append((part, path))
    return [(part, path) for part, path in found if part != "__init__"]


def imported_modules(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return plain + [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def python_files() -> list[Path]:
    return [
        path
        for folder in ("lightning_reid", "datamodules", "callbacks", "recipes", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    ]


def test_imports_run_downhill():
    uphill = [
        f"{path.relative_to(ROOT)}: {module}"
        for part, path in sources()
        for module in imported_modules(path)
        if module.startswith("lightning_reid.") and module.split(".")[1] not in MAY_IMPORT[part]
    ]
    assert uphill == []


def test_the_core_has_never_heard_of_a_trainer():
    strangers = ("pytorch_lightning", "lightning", "wandb")
    guilty = [
        str(path)
        for part, path in sources()
        if part in CORE | {"networks", "search_index"}
        for module in imported_modules(path)
        if module.split(".")[0] in strangers
    ]
    assert guilty == []


def test_nobody_imports_a_bare_callbacks_or_datamodules_or_the_other_lightning():
    bare = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in python_files()
        for module in imported_modules(path)
        if module.split(".")[0] in ("callbacks", "datamodules", "lightning")
    ]
    assert bare == []


def test_a_recipe_is_short():
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "recipes").glob("*.py")}
    assert {name: length for name, length in lengths.items() if length >= 150} == {}
    assert lengths["hsr_duke2market.py"] <= 100  # the first that a reader opens


@pytest.mark.parametrize("name", ["utils", "misc", "common", "helpers"])
def test_no_file_is_named_for_nothing(name):
    assert [path for path in python_files() if path.stem == name] == []


def test_every_package_is_in_the_build():
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"])
    present = {
        ".".join((package, *init.parent.relative_to(folder).parts))
        for package, folder in FOLDERS.items()
        for init in folder.rglob("__init__.py")
    }
    assert listed == present


def test_every_file_beside_the_code_is_in_the_build():
    import tomllib

    globs = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    packed = {path for each, patterns in globs.items() for pattern in patterns for path in _folder_of(each).glob(pattern) if path.is_file()}
    beside = {path for folder in FOLDERS.values() for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in beside - packed if path.suffix != ".py"} == set()
    assert any(path.name == "main.js" for path in packed)


def _folder_of(package: str) -> Path:
    root = max((name for name in FOLDERS if f"{package}.".startswith(f"{name}.")), key=len)
    return FOLDERS[root].joinpath(*package.removeprefix(root).strip(".").split("."))


def public_summaries() -> list[tuple[str, str]]:
    """The first line of every docstring of a module, class, method, property or function that has no underscore in front, and whose."""
    found = []

    def look(node: ast.Module | ast.ClassDef | ast.FunctionDef, name: str) -> None:
        if docstring := ast.get_docstring(node):
            found.append((name, docstring.splitlines()[0]))
        for child in () if isinstance(node, ast.FunctionDef) else node.body:
            if isinstance(child, (ast.ClassDef, ast.FunctionDef)) and not child.name.startswith("_"):
                look(child, f"{name}:{child.name}")

    for folder in FOLDERS.values():
        for path in sorted(folder.rglob("*.py")):
            look(ast.parse(path.read_text(encoding="utf-8")), str(path.relative_to(ROOT)))
    return found


FRAGMENT = re.compile(r"(As|For|Its|Likewise|Of|See|The same|The way back|Their|With|Without)\b|.*\blikewise\.?$")
"""What only somebody understands who has read the line above, which is not there when an editor shows this one."""


def test_a_docstring_begins_with_what_can_be_understood_by_itself():
    summaries = public_summaries()
    assert len(summaries) > 1000
    assert [one for one in summaries if len(re.findall(r"\w[\w'-]*", one[1])) < 4] == []
    assert [one for one in summaries if FRAGMENT.match(one[1])] == []


def library_classes() -> list[type]:
    import importlib
    import inspect

    found = []
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            name = ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
            module = importlib.import_module(name)
            found += [one for _, one in inspect.getmembers(module, inspect.isclass) if one.__module__ == name]
    return found


def test_a_class_with_abstract_methods_cannot_be_made():
    from abc import ABCMeta

    abstract = [one for one in library_classes() if any(getattr(part, "__isabstractmethod__", False) for part in vars(one).values())]
    assert {"ReIDModule", "TargetClustering", "StateRefinement", "EvaluationRows"} <= {one.__name__ for one in abstract}
    assert [one.__qualname__ for one in abstract if not isinstance(one, ABCMeta)] == []
    for one in abstract:
        with pytest.raises(TypeError, match="abstract"):
            one()
