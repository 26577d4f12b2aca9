"""Python of the pages that Lightning starts once a process: each block is a script, as the page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from written_pages import blocks, replacements

PAGE = "docs/pipelined_training.md"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tracklets(tmp_path_factory) -> Path:
    """Tracklets of four training and two test people in the layout of MARS, 64 x 32 pixels."""
    from lightning_reid.datamodules.generated import GeneratedTracklets

    people = GeneratedTracklets("mars-like", num_train_pids=4, num_test_pids=2, num_distractors=1, frames=(4, 6), height=64, width=32)
    return people.write(tmp_path_factory.mktemp("data") / "mars", progress=False)


@pytest.mark.parametrize(("number", "name"), [(0, "PipelineStrategy"), (1, "ModelParallelStrategy")])
def test_the_script_trains_on_two_processes_and_leaves_one_whole_network(number, name, tracklets, tmp_path):
    from lightning_reid.modules import VideoReID

    python = [one.code for one in blocks(PAGE) if one.language == "python"]
    for old, new in replacements(PAGE):
        assert any(old in one for one in python), f"{PAGE} no longer says {old}"
        python = [one.replace(old, new) for one in python]
    assert len(python) == 2
    assert name in python[number]
    (tmp_path / "train.py").write_text(f"MARS = {str(tracklets)!r}\n{python[number]}", encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "train.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert VideoReID.load_from_checkpoint(tmp_path / "nvan.ckpt", map_location="cpu").network is not None
