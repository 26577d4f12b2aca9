"""Checkpoints of a pipeline are those of the unsplit module, and a run goes on from them on any number of stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pipelined import ADAM, EPOCHS, SavedAfterTheFirstEpoch, built, fitted, largest_difference, resumed, saved_and_finished

from lightning_reid.modules import VideoReID
from lightning_reid.networks import group_batch_norm


@pytest.fixture(scope="module")
def run(tmp_path_factory, two_processes) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("pipeline")
    return folder, two_processes(saved_and_finished, folder, 2)[0]


def test_a_checkpoint_has_the_names_and_the_order_of_the_unsplit_module(run):
    folder, _ = run
    module = built("stenvan", **ADAM).double()
    fitted(module, "auto", 1, callbacks=[SavedAfterTheFirstEpoch(folder / "unsplit.ckpt")], **EPOCHS)
    mine, theirs = (torch.load(folder / name, weights_only=True) for name in ("first.ckpt", "unsplit.ckpt"))
    assert list(mine["state_dict"]) == list(theirs["state_dict"])
    assert not any(tensor.is_meta for tensor in mine["state_dict"].values())
    assert list(mine["optimizer_states"][0]["state"]) == list(theirs["optimizer_states"][0]["state"])
    assert mine["optimizer_states"][0]["param_groups"] == theirs["optimizer_states"][0]["param_groups"]
    shapes = [
        {number: {name: tuple(value.shape) for name, value in one.items()} for number, one in file["optimizer_states"][0]["state"].items()}
        for file in (mine, theirs)
    ]
    assert shapes[0] == shapes[1]
    assert set(mine) == set(theirs)
    assert list(torch.load(folder / "end.ckpt", weights_only=True)["optimizer_states"][0]["state"]) == list(
        theirs["optimizer_states"][0]["state"]  # saved after the fit, when the module is whole again
    )


def test_a_checkpoint_loads_by_itself_in_one_process(run):
    folder, whole = run
    module = VideoReID.load_from_checkpoint(folder / "end.ckpt", map_location="cpu")
    rounded = {name: tensor.to(module.state_dict()[name].dtype) for name, tensor in whole["state"].items()}  # it loads in float32
    assert largest_difference(module.state_dict(), rounded) == 0


def test_a_run_goes_on_in_two_processes_as_if_it_had_not_been_stopped(run, two_processes):
    folder, whole = run
    on_two = two_processes(resumed, folder / "first.ckpt", 2)[0]
    assert on_two["losses"] == whole["losses"][2:]
    assert largest_difference(on_two["state"], whole["state"]) == 0


def test_a_run_goes_on_in_one_process_and_unsplit(run, two_processes):
    folder, whole = run
    two_pipelines_of_one = two_processes(resumed, folder / "first.ckpt", 2)
    assert largest_difference(two_pipelines_of_one[0]["state"], whole["state"]) < 1e-12
    module = built("stenvan", **ADAM).double()
    group_batch_norm(module.network, num_groups=4)
    told, _ = fitted(module, "auto", 1, ckpt_path=folder / "first.ckpt", dealt=4, **EPOCHS)
    assert told.losses == pytest.approx(whole["losses"][2:], abs=1e-10)
    assert largest_difference(module.state_dict(), whole["state"]) < 1e-8  # Adam's step of a gradient that is zero but for rounding
