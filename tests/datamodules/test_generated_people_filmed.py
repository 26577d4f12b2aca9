"""Tracklets of people who are drawn while they are trained on."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_reid.callbacks.tracklet_linking import tracklet_contents
from lightning_reid.datamodules import VideoReIDDataModule
from lightning_reid.datamodules.catalog import read_prepared_video
from lightning_reid.datamodules.generated import GeneratedPeople, PeopleData, PeopleTracklets
from lightning_reid.datamodules.loading import load_image

NAME = "generated-people,people=8,cameras=6,visits=3,test_people=5,frames=6"
OPTIONS = {"image_size": (64, 32), "clip_length": 3, "p": 4, "k": 2, "num_workers": 0, "val_identities": 0}


def data_of(name: str = NAME, **options) -> VideoReIDDataModule:
    data = VideoReIDDataModule(name, **(OPTIONS | options))
    data.prepare_data()
    data.setup()
    return data


def drawn(data, epoch: int, **options) -> list[tuple[int, str]]:
    loader = data.training_loader(data.planned, epoch=epoch, rank=0, world_size=1, **({"num_workers": 0} | options))
    rows = [(batch["indices"], batch["clips"]) for batch in loader]
    return [(int(row), digest(clip)) for indices, clips in rows for row, clip in zip(indices, clips, strict=True)]


def digest(pixels) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def test_a_frame_does_not_depend_on_what_was_drawn_before_it():
    wanted = [(2, 5, visit, number) for visit in (0, 1) for number in (0, 1, 7)]
    forwards = {key: digest(GeneratedPeople(3).frame(*key)) for key in wanted}
    assert forwards == {key: digest(GeneratedPeople(3).frame(*key)) for key in reversed(wanted)}
    assert len(set(forwards.values())) == len(wanted)


def test_the_frames_of_a_tracklet_are_alike_and_those_of_another_walk_less_so():
    def walk(visit: int) -> torch.Tensor:
        frames = [load_image(f"generated-people://0/{pid}/3/{visit}.{number}") for pid in (1, 2, 3, 4) for number in range(4)]
        small = [torch.nn.functional.adaptive_avg_pool2d(frame.float(), (8, 4)) for frame in frames]
        return torch.stack(small).view(4, 4, -1)

    first, second = walk(0), walk(1)
    within = (first[:, 1:] - first[:, :-1]).abs().mean()
    between = (first - second).abs().mean()
    assert within < 0.75 * between


def test_frames_of_one_walk_have_one_height_and_one_person_walks_on():
    frames = [GeneratedPeople(0).frame(4, 2, 0, number) for number in range(12)]
    assert len({frame.shape[0] for frame in frames}) == 1
    assert len({digest(frame) for frame in frames}) == 12


@pytest.mark.parametrize("wrong", [(0, 1, 0, 0), (1, 1, -1, 0), (1, 1, 0, -1)])
def test_a_number_out_of_range_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=r"^(pid|camid|visit|number) must be a whole number of at least [01]"):
        GeneratedPeople().frame(*wrong)


def test_the_people_are_those_of_the_images_and_the_test_part_shows_others_in_other_cameras():
    filmed, photographed = PeopleTracklets.named(NAME).read(), PeopleData(people=8, cameras=6, visits=3, test_people=5).read()
    for split in ("train", "query"):
        seen = [{(record.pid, record.camid) for record in getattr(data, split)} for data in (filmed, photographed)]
        assert seen[0] == seen[1]
    assert {len(record.paths) for record in filmed.train + filmed.gallery} == {6}
    assert not {record.pid for record in filmed.train} & {record.pid for record in filmed.gallery}
    assert 0 in {record.pid for record in filmed.gallery}
    assert not {record.paths for record in filmed.query} & {record.paths for record in filmed.gallery}


def test_another_epoch_shows_other_walks_and_a_resumed_run_the_same_as_an_unbroken_one():
    unbroken = data_of()
    first, second = drawn(unbroken, 0), drawn(unbroken, 1)
    assert not {clip for _, clip in first} & {clip for _, clip in second}
    assert drawn(data_of(), 1) == second


def test_workers_draw_what_the_main_process_draws():
    data = data_of()
    assert drawn(data, 2, num_workers=2) == drawn(data, 2)


def test_a_tracklet_is_tested_on_its_own_frames():
    data = data_of(test_clips="even")
    batch = next(iter(data.test_dataloader()))
    record = data.dataset.query[0]
    assert (batch["pids"][0], batch["camids"][0]) == (record.pid, record.camid)
    assert batch["clips"].shape[1:] == (3, 3, 64, 32)


def test_what_would_keep_a_few_of_endless_many_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"generated-people,.* is drawn anew in every epoch, and packed=.* leave packed out"):
        data_of(packed=str(tmp_path))
    with pytest.raises(ValueError, match=r"RedetectAndLink wants tracklets in files: generated-people://0/1/.* is drawn"):
        tracklet_contents(SimpleNamespace(global_rank=0, world_size=1), data_of())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("generated-people,people=60,frames=100000", "would be 24,000,000 crops an epoch"),
        ("generated-people,frames=0", "needs frames of at least 1"),
        ("generated-people,images=5", "of 'images=5': .* the options are people, .*, frames"),
        ("generated-persons", "known data set .*generated-people"),
        ("mars-like,people=5", "mars-like is frozen"),
    ],
)
def test_a_name_that_cannot_be_made_says_what_is_known(name, message):
    with pytest.raises(ValueError, match=message):
        read_prepared_video(name, None)
