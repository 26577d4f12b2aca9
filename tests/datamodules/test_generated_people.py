"""People who are drawn while they are trained on: a crop is its address, everywhere and whenever it is drawn."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed

from lightning_reid.callbacks.crop_sheet import NEUTRAL, FramedCrop, crops_of, draw_crop_sheet
from lightning_reid.datamodules import ImageReIDDataModule, UnlabeledDataModule
from lightning_reid.datamodules.catalog import read_prepared
from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.datamodules.generated import GeneratedPeople, PeopleData
from lightning_reid.datamodules.generated.appearance import HEADGEAR
from lightning_reid.datamodules.generated.people import _person, _place
from lightning_reid.datamodules.generated.people_address import PeopleAddress, of_epoch
from lightning_reid.datamodules.generated.streams import Stream
from lightning_reid.datamodules.generated.wide_camera import draw_wide_camera
from lightning_reid.datamodules.generated.wide_crop import begin_walk
from lightning_reid.datamodules.generated.wide_variation import Variation, camera_without, person_without, walk_without
from lightning_reid.datamodules.generated.wide_wardrobe import draw_somebody
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.readers import find_unreadable_images
from lightning_reid.metrics import retrieval_scores
from lightning_reid.recipes.workshop.fingerprints import data_fingerprint
from lightning_reid.records import ImageRecord, TargetState

NAME = "generated-people,people=12,cameras=6,visits=3,shots=2,test_people=6"
OPTIONS = {"image_size": (64, 32), "p": 4, "k": 2, "num_workers": 0, "crop_padding": 3, "val_identities": 0}
PLAIN = {"crop_padding": 0, "erasing_probability": 0.0, "flip_probability": 0.0}


def data_of(name: str = NAME, **options) -> ImageReIDDataModule:
    data = ImageReIDDataModule(name, **(OPTIONS | options))
    data.prepare_data()
    data.setup()
    return data


def digest(pixels) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def drawn(data, epoch: int, **options) -> list[set[tuple[int, str]]]:
    """Of every batch of an epoch, each row with a digest of its pixels."""
    rank, world_size = data.rank_and_world
    loader = data.training_loader(data.planned, epoch=epoch, rank=rank, world_size=world_size, num_workers=0, **options)
    return [{(int(row), digest(image)) for row, image in zip(batch["indices"], batch["images"], strict=True)} for batch in loader]


# --- a crop


def test_a_crop_does_not_depend_on_what_was_drawn_before_it():
    wanted = [(pid, camid, shot) for pid in (1, 2) for camid in (1, 5, 900) for shot in (0, 1, 7)]
    forwards = {key: digest(GeneratedPeople(3).crop(*key)) for key in wanted}
    backwards = {key: digest(GeneratedPeople(3).crop(*key)) for key in reversed(wanted)}
    assert forwards == backwards
    assert len(set(forwards.values())) == len(wanted)


def test_another_seed_gives_other_people_at_other_places():
    assert digest(GeneratedPeople(0).crop(1, 1, 0)) != digest(GeneratedPeople(1).crop(1, 1, 0))


@given(seed=st.integers(0, 2), pid=st.integers(1, 10**7), camid=st.integers(1, 80), shot=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_any_crop_is_a_picture_of_a_size_that_cameras_record(seed, pid, camid, shot):
    crop = GeneratedPeople(seed).crop(pid, camid, shot)
    assert crop.dtype == np.uint8
    assert 36 <= crop.shape[0] <= 256
    assert 0.2 < crop.shape[1] / crop.shape[0] < 0.8
    assert crop.std() > 2


@pytest.mark.parametrize("wrong", [(0, 1, 0), (1, 0, 0), (1, 1, -1), (1.0, 1, 1), (1, True, 1), (1, 1, None), (1, 1, float("nan"))])
def test_a_number_out_of_range_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=r"^(pid|camid|shot) must be a whole number of at least [01]"):
        GeneratedPeople().crop(*wrong)
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0, got -1"):
        GeneratedPeople(-1)


def test_a_number_of_fixed_width_is_the_number_that_it_is():
    narrow = GeneratedPeople(np.uint8(255)).crop(np.uint8(255), np.uint8(255), np.uint8(255))
    assert np.array_equal(narrow, GeneratedPeople(255).crop(255, 255, 255))


@pytest.mark.parametrize("without", ["light", ["light", "light"], ["weather"], 3, [""]])
def test_kinds_of_variation_are_a_list_of_those_that_exist(without):
    for make in (GeneratedPeople, PeopleData):
        with pytest.raises(ValueError, match="without must "):
            make(seed=0, without=without)
    assert str(PeopleData(without=["light"])) == "generated-people,without=light"


# --- its address


def test_the_decoder_draws_what_an_address_says():
    image = load_image("generated-people://3/7/2/5")
    assert np.array_equal(image.permute(1, 2, 0).numpy(), GeneratedPeople(3).crop(7, 2, 5))


@pytest.mark.parametrize(
    "wrong",
    [
        "generated-people://3/7/2",
        "generated-people://3/7/2/x",
        "generated-people://3/0/2/1",
        "generated-people://3/1/²/1",
        f"generated-people://{'9' * 5000}/1/1/1",
    ],
)
def test_an_address_of_nobody_is_an_error_that_names_it(wrong):
    with pytest.raises(CorruptImageError, match="is no address of a generated person: give generated-people://"):
        load_image(wrong)


@pytest.mark.parametrize("decode", [False, True])
def test_the_check_before_training_finds_an_address_of_nobody(decode):
    records = [ImageRecord(path, 1, 1) for path in ("generated-people://0/1/1/0", "generated-people://0/1/0/0")]
    (found,) = find_unreadable_images(records, decode=decode)
    assert found.path == "generated-people://0/1/0/0"
    assert "give generated-people://<seed>/<pid>/<camid>/<shot>" in found.reason


# --- one kind of variation left out


SHOWN = [(pid, camid, shot) for pid in range(1, 7) for camid in (1, 9, 23) for shot in (0, 5)]


@pytest.mark.parametrize("kind", get_args(Variation))
def test_a_kind_of_variation_that_is_left_out_changes_crops_and_comes_with_its_address(kind):
    wide, without = GeneratedPeople(0), GeneratedPeople(0, (kind,))
    assert [digest(wide.crop(*one)) for one in SHOWN] != [digest(without.crop(*one)) for one in SHOWN]
    train = read_prepared(f"{NAME},without={kind}", None).train
    assert all(record.path.startswith(f"generated-people://without={kind}/0/") for record in train)
    address = PeopleAddress.of(of_epoch(train[5].path, 3))
    assert np.array_equal(address.draw(), without.crop(address.pid, address.camid, address.shot))


def test_people_are_tested_on_everything_whatever_was_left_out_of_training():
    reduced, whole = read_prepared(f"{NAME},without=light+views", None), read_prepared(NAME, None)
    assert [record.path for record in reduced.query + reduced.gallery] == [record.path for record in whole.query + whole.gallery]
    assert reduced.name == f"{NAME},without=light+views"


def test_without_light_and_recording_cameras_differ_in_nothing_that_colors_a_crop():
    wide, calm = (
        [camera_without(draw_wide_camera(np.random.default_rng(seed)), kinds).camera for seed in range(20)]
        for kinds in ((), ("light", "recording"))
    )
    told = ("gain", "exposure", "gamma", "haze", "saturation", "sun", "resolution", "blur", "noise", "quality")
    for name in told:
        assert len({getattr(camera, name) for camera in wide}) > 5
        assert len({getattr(camera, name) for camera in calm}) == 1


def test_without_accessories_nobody_carries_or_wears_any():
    people = [person_without(draw_somebody(0, Stream.PERSON, pid), ("accessories",)) for pid in range(1, 200)]
    assert {person.bag for person in people} == {"none"}
    assert {person.scarf for person in people} == {None}
    assert not {person.hair_style for person in people} & {*HEADGEAR, "hood"}


def test_without_boxes_all_crops_are_as_high_and_without_views_everybody_comes_towards_the_camera():
    heights = {GeneratedPeople(0, ("boxes",)).crop(pid, camid, 0).shape[0] for pid, camid, _ in SHOWN}
    assert heights == {96}
    wide = draw_wide_camera(np.random.default_rng(3))
    walks = [begin_walk(np.random.default_rng(seed), wide, draw_somebody(0, Stream.PERSON, 1)) for seed in range(9)]
    assert {(one.yaw, one.camera.pitch) for one in (walk_without(walk, ("views",)) for walk in walks)} == {(0.0, 0.0)}


def test_without_palette_clothes_are_dull():
    def vividness(without) -> float:
        people = [_person(0, pid, without) for pid in range(1, 300)]
        return float(np.mean([max(person.top.color) - min(person.top.color) for person in people]))

    assert vividness(("palette",)) < 0.7 * vividness(())


def test_without_background_there_is_one_gray_place():
    places = [_place(0, number, ("background",)).backdrop for number in (0, 1)]
    assert np.array_equal(*places)
    assert len(np.unique(places[0])) == 1


# --- the data set


def test_a_name_with_options_gives_so_many_people_cameras_and_crops():
    dataset = read_prepared(NAME, None)
    assert dataset.name == NAME
    assert {record.pid for record in dataset.train} == set(range(1, 13))
    assert {record.camid for record in dataset.train} == set(range(1, 7))
    assert len(dataset.train) == 12 * 3 * 2


def test_the_test_part_shows_others_in_other_cameras_and_is_the_same_whatever_is_trained_on():
    few = PeopleData(people=4, cameras=3, visits=2, shots=1, test_people=6).read()
    many = PeopleData(people=50, cameras=40, visits=6, shots=5, test_people=6).read()
    assert [record.path for record in few.query + few.gallery] == [record.path for record in many.query + many.gallery]
    tested = many.query + many.gallery
    assert not {record.pid for record in many.train} & {record.pid for record in tested}
    assert not {record.camid for record in many.train} & {record.camid for record in tested}


def test_every_query_is_answered_by_another_camera_and_some_answers_are_nobody():
    dataset = read_prepared(NAME, None)
    seen = {(record.pid, record.camid) for record in dataset.gallery}
    assert len({record.pid for record in dataset.query}) == 6
    for query in dataset.query:
        assert any(pid == query.pid and camid != query.camid for pid, camid in seen)
    assert 0 in {record.pid for record in dataset.gallery}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("generated-people,persons=5", "of 'persons=5': give each option once .* the options are people, cameras, visits"),
        ("generated-people,people=many", "of 'people=many'"),
        ("generated-people,people=\u0665\u0660", "of .people=\u0665\u0660."),
        ("generated-people,seed=" + "9" * 5000, "give each option once and as a whole number"),
        ("generated-people,people", "of 'people'"),
        ("generated-people,people=5,people=6", "give each option once"),
        ("generated-people,frames=8", "of 'frames=8'"),
        ("generated-people,without=weather", "without must be one of .*accessories.*, got 'weather'"),
        ("generated-people,without=light+light", "without must name each kind once"),
        ("generated-people,without=3", "of 'without=3'"),
        ("generated-people,without=+", "without must be one of .*, got ''"),
        ("generated-people,without=light+", "without must be one of .*, got ''"),
        ("generated-people,people=60,shots=1000000", "would be 240,000,000 crops an epoch, more than 10,000,000: ask for fewer"),
        ("generated-people,visits=1", "needs visits of at least 2 .* got 1"),
        ("generated-people,people=2000000", "needs people of at least 2 and below 1000001, got 2000000"),
        ("generated-persons", "known data set .*generated-people"),
        ("duke-like,people=5", "duke-like is frozen, comparisons rest on it; what can be chosen is generated-people,people=500"),
    ],
)
def test_a_name_that_cannot_be_made_says_what_is_known(name, message):
    with pytest.raises(ValueError, match=message):
        read_prepared(name, None)


def test_people_are_held_out_to_validate_on_as_of_any_data_set():
    data = data_of(val_identities=4)
    assert (data.num_classes, len(data.people.held_out)) == (8, 4)
    query, gallery = data.evaluation_records("val")
    batch = next(iter(data.val_dataloader()))
    assert len(query) + len(gallery) == 4 * 3 * 2
    assert batch["images"].shape == (24, 3, 64, 32)


def test_color_alone_does_not_find_people_again_and_is_not_useless():
    dataset = PeopleData(people=2, test_people=16).read()
    rows = []
    for records in (dataset.query, dataset.gallery):
        images = [cv2.resize(load_image(record.path).permute(1, 2, 0).numpy(), (32, 64)) for record in records]
        hsv = [np.array_split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), 6) for image in images]
        counts = [[cv2.calcHist([part], [0, 1, 2], None, [8, 8, 4], [0, 180, 0, 256, 0, 256]).ravel() for part in parts] for parts in hsv]
        rows.append(torch.from_numpy(np.sqrt(np.array(counts).reshape(len(records), -1))))
    pids = [torch.tensor([record.pid for record in records]) for records in (dataset.query, dataset.gallery)]
    camids = [torch.tensor([record.camid for record in records]) for records in (dataset.query, dataset.gallery)]
    assert 0.05 < retrieval_scores(*rows, *pids, *camids).mAP < 0.4


# --- training on it


def test_the_next_epoch_shows_others_of_the_same_people_and_a_resumed_run_the_same_as_an_unbroken_one():
    unbroken = data_of(**PLAIN)
    first, second = drawn(unbroken, 0), drawn(unbroken, 1)
    rows = {row for batch in first for row, _ in batch} & {row for batch in second for row, _ in batch}
    assert len(rows) > 20
    assert not {pixels for batch in first for _, pixels in batch} & {pixels for batch in second for _, pixels in batch}
    assert drawn(data_of(**PLAIN), 1) == second


@pytest.mark.parametrize(("start", "number"), [("fork", 2), pytest.param("spawn", 1, marks=pytest.mark.slow)])  # which imports for seconds
def test_workers_draw_what_the_main_process_draws(start, number):
    data = data_of()
    loader = data.training_loader(data.planned, epoch=2, rank=0, world_size=1, num_workers=number, multiprocessing_context=start)
    by_workers = [{(int(row), digest(image)) for row, image in zip(batch["indices"], batch["images"], strict=True)} for batch in loader]
    assert by_workers == drawn(data, 2)


def drawn_by_this_rank(p: int) -> list[set[tuple[int, str]]]:
    data = data_of(p=p)
    ranks = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    data.trainer = SimpleNamespace(global_rank=ranks[0], world_size=ranks[1], current_epoch=1)
    return drawn(data, 1)


def test_two_ranks_draw_together_what_one_draws(two_processes):
    alone, (first, second) = drawn_by_this_rank(4), two_processes(drawn_by_this_rank, 2)
    assert len(alone) > 5
    assert [one | other for one, other in zip(first, second, strict=True)] == alone


@pytest.mark.parametrize("size", [(64, 32), (128, 64), (256, 128)])
def test_batches_have_the_size_of_the_network(size):
    assert next(iter(data_of(image_size=size).train_dataloader()))["images"].shape == (8, 3, *size)


def test_what_is_pseudo_labeled_is_not_drawn_anew():
    data = UnlabeledDataModule(dataset=NAME, image_size=(64, 32), num_workers=0, **PLAIN)
    data.prepare_data()
    data.setup()
    assert data.repeats_images
    assert not data_of(**PLAIN).repeats_images
    data.set_target_state(TargetState(0, data.ground_truth(), torch.tensor([record.camid for record in data.target_records])))
    first, second = ({pair for batch in drawn(data, epoch) for pair in batch} for epoch in (0, 1))
    assert len(first & second) > 20


def test_pictures_and_fingerprints_do_without_files():
    dataset = read_prepared(NAME, None)
    row = [FramedCrop(record.path, NEUTRAL) for record in dataset.query[:2]]
    sheet = draw_crop_sheet([row], ["query"], open_crop=crops_of(SimpleNamespace(datamodule=data_of())))
    assert np.asarray(sheet).std() > 20
    told, other = data_fingerprint([dataset]), data_fingerprint([PeopleData.named(f"{NAME},seed=1").read()])
    assert not set(told.values()) & set(other.values())
