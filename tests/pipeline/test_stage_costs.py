"""Where a network is cut: by measured, equal or given costs, within a limit of bytes."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from pipelined import built

from lightning_reid.pipeline import PipelineStrategy
from lightning_reid.pipeline.stage_costs import StageCosts, chosen_stages, example_inputs, rows_of_batches


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A group of this process, with which rank 0 tells what it has measured."""
    file = tmp_path_factory.mktemp("meeting") / "file"
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def cut(told, num_stages: int, limit: int | None = None, kept_rows: int = 8) -> list[str]:
    network = built("nvan").network
    inputs = torch.randn(2, 4, 3, 64, 32)
    stages = chosen_stages(StageCosts(told, limit), network, inputs, num_stages, kept_rows=kept_rows, rank=0)
    assert [unit.name for stage in stages for unit in stage] == [unit.name for unit in network.units(inputs)]
    return [f"{stage[0].name}..{stage[-1].name}" for stage in stages]


def test_equal_costs_cut_into_equally_many_units(alone):
    assert cut("equal", 2) == ["stem..layer3.0", "attention.stage3.0..pooling"]  # 14 units: 7 and 7


def test_given_costs_are_balanced(alone):
    assert cut([13, *[1] * 13], 2) == ["stem..stem", "layer1.0..pooling"]


def test_measured_costs_give_the_wide_stem_more_than_its_share_and_are_told(alone, caplog):
    with caplog.at_level(logging.INFO, "lightning_reid"):
        stages = cut("measured", 3)
    assert len(stages) == 3
    assert "measuring the 14 units of resnet18 on [2, 4, 3, 64, 32]" in caplog.text
    assert "stages of resnet18: stem to " in caplog.text


def test_a_limit_moves_cuts_and_one_that_nothing_keeps_is_refused(alone):
    with pytest.raises(ValueError, match="limit") as refused:
        cut("equal", 2, limit=1000)
    least = int(str(refused.value).split("the least that would do is ")[1].replace(",", ""))
    assert cut("equal", 2, limit=least) != cut("equal", 2)  # the first layers keep most: they get a stage to themselves


def test_rows_that_are_kept_count(alone):
    with pytest.raises(ValueError, match="limit") as few:
        cut("equal", 2, limit=1000, kept_rows=8)
    with pytest.raises(ValueError, match="limit") as many:
        cut("equal", 2, limit=1000, kept_rows=80)
    assert str(few.value) != str(many.value)


def module_with(data: object, kind: str) -> SimpleNamespace:
    return SimpleNamespace(trainer=SimpleNamespace(datamodule=data), network=built(kind).network)


def test_examples_are_of_the_size_that_the_data_tell_and_else_of_the_fields_usual_one():
    told = module_with(SimpleNamespace(image_size=(64, 32), clip_length=6, p=4, k=2), "nvan")
    assert example_inputs(told, told.network).shape == (2, 6, 3, 64, 32)
    assert rows_of_batches(told) == 8
    silent = module_with(None, "image")
    assert example_inputs(silent, silent.network).shape == (2, 3, 256, 128)
    assert rows_of_batches(silent) is None


def test_the_stages_of_a_process_share_its_limit():
    assert PipelineStrategy(4, schedule="looped-bfs", stages_per_process=2, memory_limit=1000).costs.memory_limit == 500
    assert PipelineStrategy(4, memory_limit=1000).costs.memory_limit == 1000
