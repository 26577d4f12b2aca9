"""Folders as people have them: what their names say, and who is trained on and who is tested."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_reid.datamodules.readers.name_guess import guess_names, read_names
from lightning_reid.datamodules.readers.name_pattern import Named, NamePattern
from lightning_reid.datamodules.readers.own_split import split_by_person


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("{camera}/{person}_{frame}.jpg", "yard/anna_0012.jpg", ("anna", "yard", "0012", None)),
        ("{camera}/{person}_{frame}", "yard/anna_b_0012.JPEG", ("anna_b", "yard", "0012", None)),
        ("{split}/{person}/*", "train/7/a b.png", ("7", None, None, "train")),
        ("id{person}-*-c{camera}.png", "id7-night-c2.webp", ("7", "2", None, None)),
        ("{person}", "Müller.bmp", ("Müller", None, None, None)),
        ("{person}/{frame}", "٣/1.jpg", ("٣", None, "1", None)),
        ("a.b/{person}.x", "a.b/7.x.jpg", ("7", None, None, None)),
        ("{person:4}{frame}", "0001002.png", ("0001", None, "002", None)),
        ("{camera:1}{person:3}*", "a0017_x.png", ("001", "a", None, None)),
    ],
)
def test_a_pattern_says_which_part_of_a_path_is_what(pattern, name, expected):
    assert NamePattern(pattern).read(name) == Named(*expected)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{person}_{frame}", "anna_x.jpg"),
        ("{person}", "door/anna.jpg"),
        ("{person}.jpg", "anna.txt"),
        ("{person}_c{camera}", "_c1.jpg"),
        ("{frame}", "٣.jpg"),
    ],
)
def test_a_pattern_fits_a_whole_name_or_not_at_all(pattern, name):
    assert NamePattern(pattern).read(name) is None


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{pid}_{frame}.jpg", r"has it: \{pid\}; fields are \{person\}, \{camera\}, \{frame\}, \{split\}, once each, and \* is anything"),
        ("{person}/{person}", r"names it twice: \{person\}"),
        ("{person", "has a '{' of its own"),
        ("*.jpg", "names nothing"),
        ("", "names nothing"),
        (7, "pattern must"),
        ("{person}{frame}", r"does not tell where what is in front of '\{frame\}' ends: write .* how many characters it has"),
        ("{person}*", r"in front of '\*' ends"),
        ("*{person}_{frame}", r"in front of '\{person\}' ends"),
        ("{person:x}", r"has \{person:x\}: behind the colon stands how many characters it has, as in \{person:4\}"),
        ("{person:}", r"behind the colon"),
        ("{person:0}", r"behind the colon"),
    ],
)
def test_a_pattern_that_says_nothing_is_refused(pattern, message):
    with pytest.raises(ValueError, match=message):
        NamePattern(pattern)


def test_names_that_do_not_fit_are_shown_beside_what_was_read_and_what_would_fit():
    names = ["anna_c1_1.jpg", "ben_c2_2.jpg", "carl_c2_x.jpg", "dora.jpg"]
    with pytest.raises(
        ValueError, match=r"does not fit 2 of 4 images in crops: carl_c2_x\.jpg, dora\.jpg; it reads anna_c1_1\.jpg as"
    ) as told:
        read_names(NamePattern("{person}_c{camera}_{frame}"), names, "crops")
    assert "person anna, camera 1, frame 1" in str(told.value)
    assert "Move what is no part of the data out of the folder" in str(told.value)
    with pytest.raises(ValueError, match=r"'\{person\}_c\{camera\}_\{frame\}' would fit all"):
        read_names(NamePattern("{camera}/{person}"), names[:2], "crops")


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["person1_cam1_000.jpg", "person2_cam3_010.jpg"], "person{person}_cam{camera}_{frame}"),
        (["1-c1-0.jpg", "22-c2-5.jpg"], "{person}-c{camera}-{frame}"),
        (["anna_c1_17.jpg", "ben_c2_18.jpg"], "{person}_c{camera}_{frame}"),
        (["anna/1.jpg", "ben/xx.jpg"], "{person}/*"),
        (["anna/1.jpg", "ben/2.jpg"], "{person}/{frame}"),
        (["cam_a/anna/1.jpg", "cam_b/ben/2.jpg"], "{camera}/{person}/{frame}"),
        (["train/p7/a.jpg", "val/p8/b.jpg"], "{split}/{person}/*"),
        ([f"train/{who}/{who % 3}.jpg" for who in range(21)], "{split}/{person}/{frame}"),
        (["id_0007_view_2_frame_12.png"], "id_{person}_view_{camera}_frame_{frame}"),
        (["0001C1T0001F001.jpg", "0002C2T0001F002.jpg"], "{person}C{camera}T*F{frame}"),
        (["0001_C1s1_000001_00.jpg", "0002_C1s2_000076_00.jpg"], "{person}_C{camera}s*_{frame}_*"),
        (["p12.jpg", "p13.jpg"], "p{person}"),
        (["crops/cam1/p7.jpg", "crops/cam2/p7.jpg"], "crops/{camera}/p{person}"),
        (["crops/cam1/7.jpg", "crops/cam2/7.jpg"], None),
        (["7/cam1/1.jpg", "8/cam2/1.jpg"], "{person}/{camera}/{frame}"),
        (["IMG_2024.jpg", "IMG_2025.jpg"], None),
        (["a.jpg", "x/b.jpg"], None),
        ([], None),
        (["{person}_1.jpg", "{person}_2.jpg"], None),
    ],
)
def test_a_pattern_is_guessed_from_names_alone(names, pattern):
    guess = guess_names(names)
    assert (guess.pattern and guess.pattern.text) == pattern
    assert (pattern is None) == bool(guess.why)
    assert all(one.read(name) is not None for one in ((guess.pattern,) if guess.pattern else guess.candidates) for name in names)


@pytest.mark.parametrize(
    ("names", "candidates", "why"),
    [
        (["7_001.jpg", "8_002.jpg"], ["{person}_{frame}", "{frame}_{person}"], "which part is the person cannot be told for sure"),
        (["000123_cam1.jpg", "000124_cam2.jpg"], ["{person}_cam{camera}"], "what may be the person may be a frame too"),
        (["anna_1.jpg", "anna_2.jpg"], ["anna_{person}"], "may be a frame too"),
        (["1732807230_c1.jpg", "1732807231_c1.jpg"], [], "no part of them is marked as a person, and dates and times are nobody"),
        (["2024-11-28/1.jpg", "2024-11-29/2.jpg"], ["*/{person}"], "may be a frame too, and dates and times are nobody"),
        (["10-22-33/1.jpg", "10-22-34/2.jpg"], ["*/{person}"], "dates and times are nobody"),
        (["yard/7.jpg", "hall/7.jpg"], ["{camera}/{person}"], "may be a frame too"),
        (["cam1/7.jpg", "cam2/8.jpg"], ["{camera}/{person}"], "may be a frame too"),
        (["seq1/7.jpg", "seq2/8.jpg"], ["*/{person}"], "may be a frame too"),
        (["kitchen/anna_1.jpg", "bath/ben_2.jpg"], ["{person}/*_{frame}", "*/{person}_{frame}"], "cannot be told for sure"),
        (["a/p3.jpg", "b/p3.jpg"], ["*/p{person}", "{person}/p*"], "cannot be told for sure"),
        (["1/000123.jpg", "2/000123.jpg"], ["{person}/{frame}"], "what may be the person may be a camera too"),
        (["c1_t5.jpg", "c2_t6.jpg"], [], "no part of them is marked as a person"),
        (["c1_track5.jpg", "c2_track5.jpg"], ["c{camera}_track{person}"], "a track is a person within one camera alone"),
        (["train/1_c1.jpg", "train_all/1_c1.jpg"], [], "beside folders of splits there is 'train_all', which is none"),
        (["IMG_1.jpg", "DSC_2.jpg"], ["*_{person}"], "may be a frame too"),
    ],
)
def test_what_may_be_a_frame_a_clock_or_a_camera_is_no_person_without_being_told(names, candidates, why):
    guess = guess_names(names)
    assert guess.pattern is None
    assert [one.text for one in guess.candidates] == candidates
    assert why in guess.why


def test_two_parts_that_tell_the_same_people_are_no_doubt():
    names = [f"{who:04d}/{who:04d}_{frame}_0.jpg" for who in range(30) for frame in range(3)]
    assert guess_names(names).pattern.text == "{person}/*_{frame}_*"
    assert guess_names(["0007/0007_c1_1.jpg", "0008/0008_c2_1.jpg"]).pattern is not None
    assert guess_names(["cam1/person007/person7_1.jpg", "cam1/person008/person8_1.jpg"]).pattern is not None
    assert guess_names(["Ann_Lee/Ann_Lee_1.jpg", "Bo_Li/Bo_Li_1.jpg"]).pattern.read("Bo_Li/Bo_Li_1.jpg").person == "Bo_Li"
    assert guess_names(["0007/0001_c1_1.jpg", "0008/0008_c2_1.jpg"]).pattern is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["door", "hall", "yard"])), max_size=40), st.integers(0, 5))
def test_nobody_is_trained_on_and_tested_and_every_query_has_a_match_in_another_camera(seen, seed):
    people, cameras = [one for one, _ in seen], [camera for _, camera in seen]
    again = [one for one in set(people) if len({camera for who, camera in seen if who == one}) > 1]
    if len(again) < 2:
        with pytest.raises(ValueError, match=rf"{len(again)} of {len(set(people))} people were seen by two cameras"):
            split_by_person(people, cameras, seed=seed)
        return
    splits = split_by_person(people, cameras, seed=seed)
    of = {split: [(who, camera) for (who, camera), one in zip(seen, splits) if one == split] for split in ("train", "query", "gallery")}
    assert len(splits) == len(seen)
    assert not {who for who, _ in of["train"]} & {who for who, _ in (*of["query"], *of["gallery"])}
    assert of["train"]
    assert of["query"]
    assert all(any(who == other and camera != elsewhere for other, elsewhere in of["gallery"]) for who, camera in of["query"])


@given(st.lists(st.sampled_from("abcd"), max_size=20))
def test_without_cameras_a_query_has_a_match(people):
    if sum(people.count(one) > 1 for one in set(people)) < 2:
        with pytest.raises(ValueError, match="at least two are needed"):
            split_by_person(people, [None] * len(people))
        return
    splits = split_by_person(people, [None] * len(people))
    tested = {one for one, split in zip(people, splits) if split == "query"}
    assert tested == {one for one, split in zip(people, splits) if split == "gallery"}
    assert [splits[row] for row in range(len(people)) if people[row] not in tested].count("train") > 0


def test_the_same_people_are_drawn_whatever_the_order():
    people, cameras = ["a", "b", "c", "d"] * 4, ["x"] * 8 + ["y"] * 8
    there, back = split_by_person(people, cameras, seed=3), split_by_person(people[::-1], cameras[::-1], seed=3)[::-1]
    assert [one == "train" for one in there] == [one == "train" for one in back]
    assert len({tuple(split_by_person(people, cameras, seed=seed)) for seed in range(5)}) > 1


def test_cameras_are_told_for_all_or_for_none():
    with pytest.raises(ValueError, match="1 of 2 images have no camera: tell it for all, or for none"):
        split_by_person(["a", "b"], ["x", None])


def test_a_pattern_of_many_parts_in_many_folders_is_done_at_once():
    crowded = NamePattern("/".join(["*a*a*a*a*"] * 5 + ["{person}ax"]))
    began = time.perf_counter()
    assert crowded.read("/".join(["a" * 60] * 5 + ["b.png"])) is None
    assert time.perf_counter() - began < 5
    assert NamePattern("*/{camera}/{person}").read("a/b/c/d.png") is None
    assert NamePattern("*/{camera}/{person}").read("a/b/c.png")[:2] == ("c", "b")


@pytest.mark.parametrize(("people", "more"), [(("bo_b", "jürgen kaß", "ola", "anna"), ["{person}/*"]), (("bo_b", "jürgen kaß", "ola"), [])])
def test_people_before_cameras_whose_names_hold_a_space_or_the_separator_are_not_guessed_to_be_the_cameras(people, more):
    cameras = ("door", "yard", "hall", "sign")[: len(people)]
    names = [f"{camera}/{person}_{frame:03}.jpg" for camera in cameras for person in people for frame in range(len(people) - 1)]
    guess = guess_names(names)
    assert guess.pattern is None
    assert "the same words come in several folders" in guess.why
    assert guess.candidates[0].text == "{camera}/{person}_{frame}.jpg"
    assert {one.text for one in guess.candidates[1:]} >= set(more)
    assert guess.candidates[0].read("door/bo_b_001.jpg").person == "bo_b"


def test_folders_of_people_with_one_word_before_their_numbers_stay_people():
    names = [f"{person}/crop of them {frame}.jpg" for person in ("anna", "ben", "carl") for frame in range(3)]
    assert guess_names(names).pattern.text.startswith("{person}/")
