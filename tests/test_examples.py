"""The examples in the docstrings of what the library exports, run."""

from __future__ import annotations

from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, DocTestFinder, DocTestRunner
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from constant_detector import write_people_onnx
from house import exports

EXPORTS = exports()


@pytest.fixture(scope="session")
def mars_folder(tmp_path_factory) -> Path:
    """Tracklets of four training and two test people in the layout of MARS, 64 x 32 pixels."""
    from lightning_reid.datamodules.generated import GeneratedTracklets

    people = GeneratedTracklets("mars-like", num_train_pids=4, num_test_pids=2, num_distractors=1, frames=(3, 5), height=64, width=32)
    return people.write(tmp_path_factory.mktemp("data") / "mars", progress=False)


@pytest.fixture
def people_onnx(tmp_path) -> Path | None:
    """A detector that finds somebody in the middle half of any image; ``None`` without the extra ``onnx``."""
    try:
        return write_people_onnx(tmp_path / "people.onnx")
    except ImportError:
        return None


@pytest.fixture
def given(tmp_path, market_folder, duke_folder, mars_folder, people_onnx) -> dict[str, Any]:
    """What an example may use without making it: generated folders, a detector's file, and an empty folder."""
    folder = tmp_path / "folder"
    folder.mkdir()
    paths = {"market": market_folder, "duke": duke_folder, "mars": mars_folder, "people_onnx": people_onnx}
    return {name: str(path) for name, path in paths.items()} | {"folder": folder}


NEEDS = {"OnnxDetector": ("onnx", "onnxruntime"), "export_onnx": ("onnx", "onnxruntime", "onnxscript")}
NEEDS |= dict.fromkeys(("camera_scores", "cross_camera_scores", "handover_scores"), ("trackers",))
NEEDS |= {"CameraParts": ("av", "trackers"), "LiveCameras": ("trackers",)} | dict.fromkeys(("SourceLostError", "VideoSource"), ("av",))
"""What examples need beyond the library's own dependencies."""


@pytest.mark.parametrize("name", EXPORTS)
def test_an_exported_name_has_an_example_and_it_runs(name, given, tmp_path, monkeypatch):
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    thing = getattr(import_module(EXPORTS[name]), name)
    (found,) = DocTestFinder(recurse=False, exclude_empty=False).find(thing, name, globs=given)
    assert found.examples, f"{name} has no example in its docstring"
    said: list[str] = []
    outcome = DocTestRunner(verbose=False, optionflags=ELLIPSIS | NORMALIZE_WHITESPACE).run(found, out=said.append)
    assert outcome.failed == 0, "".join(said)
