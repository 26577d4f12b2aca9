"""A process that is killed, or fails, is named by the others, which end too; a run goes on from the checkpoint before as if unbroken."""

from __future__ import annotations

import os
import re
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pipelined import ADAM, EPOCHS, built, fitted, largest_difference, told_of
from typing_extensions import override

from lightning_reid.pipeline import PipelineStrategy

pytestmark = pytest.mark.slow


class SavesThenEnds(pl.Callback):
    """Saves after the first epoch; in the second, one process ends."""

    def __init__(self, file: Path, rank: int | None, way: str) -> None:
        self.file, self.rank, self.way = file, rank, way

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.file)

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and trainer.global_rank == self.rank:
            if self.way == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.way == "hung":
                os.kill(os.getpid(), signal.SIGSTOP)
            raise ValueError("pid 700 has no class")


def run(file: Path, processes: int, rank: int | None, way: str = "", ckpt_path: Path | None = None) -> dict[str, Any]:
    module = built("stenvan", **ADAM).double()
    strategy = PipelineStrategy(stage_costs="equal", timeout=timedelta(seconds=20))  # on a busy machine processes find each other late
    told, _ = fitted(module, strategy, processes, callbacks=[SavesThenEnds(file, rank, way)], ckpt_path=ckpt_path, **EPOCHS)
    return told_of(told, module)


def words_of(rank: int, said: str) -> str:
    """What one process raised, of what is told of all."""
    return re.split(r"^rank \d (?:raised|died|did|was)", said.split(f"rank {rank} raised")[1], flags=re.MULTILINE)[0]


@pytest.fixture
def three_processes():
    from pair_of_processes import PairOfProcesses

    group = PairOfProcesses(size=3)
    yield group
    group.end(kill=True)


def test_a_killed_process_is_named_by_all_others_and_the_run_goes_on_from_the_checkpoint_before(tmp_path, three_processes):
    rank = 1
    unbroken = three_processes(run, tmp_path / "unbroken.ckpt", 3, None)[0]
    began = time.monotonic()
    with pytest.raises(AssertionError) as failure:
        three_processes(run, tmp_path / "killed.ckpt", 3, rank, "killed")
    assert time.monotonic() - began < 60
    said = str(failure.value)
    assert f"rank {rank} died with exit code -9" in said
    for other in {0, 1, 2} - {rank}:
        words = words_of(other, said)
        assert f"rank {rank} (of the layers " in words
        assert "has gone, without which no pipeline goes on" in words
    resumed = three_processes(run, tmp_path / "resumed.ckpt", 3, None, "", tmp_path / "killed.ckpt")[0]
    assert resumed["losses"] == unbroken["losses"][2:]
    assert largest_difference(resumed["state"], unbroken["state"]) == 0


def test_the_last_words_of_a_process_that_fails_reach_the_others(tmp_path, three_processes):
    with pytest.raises(AssertionError) as failure:
        three_processes(run, tmp_path / "failed.ckpt", 3, 2, "fails")
    for other in (0, 1):
        words = words_of(other, str(failure.value))
        assert "rank 2 (of the layers " in words, words
        assert "Its last words: ValueError: pid 700 has no class" in words


def test_a_process_that_stands_still_is_named_when_the_time_is_out(tmp_path, three_processes):
    with pytest.raises(AssertionError) as failure:
        three_processes(run, tmp_path / "hung.ckpt", 3, 1, "hung", timeout=60)
    words = words_of(2, str(failure.value))
    assert "Timed out waiting" in words
    assert "rank 1 (of the layers " in words
