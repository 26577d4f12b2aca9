"""An index on the disk finds what comparing everything would find, whatever was added, removed, filtered or interrupted."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_reid.processes import this_host
from lightning_reid.search_index import (
    Filters,
    IndexRow,
    SearchIndexError,
    add_rows,
    build_fast,
    create_index,
    forget_person,
    open_index,
    remove_paths,
    search_indexes,
    write_index,
)
from lightning_reid.search_index import fast as fast_module
from lightning_reid.search_index import index as index_module
from lightning_reid.search_index.holdings import describe_index, paths_within

MODEL = "weights 0 at 256x128"
ALL = Filters()
PEOPLE, CAMERAS = ("anna", "ben", "carl"), ("door", "yard")


@pytest.fixture(scope="module", autouse=True)
def _no_power_cuts():
    """No test pulls the plug, and waiting for the disk takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def drawn(number: int, dimension: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(number, dimension, generator=torch.Generator().manual_seed(seed)), dim=1)


def rows_of(number: int, *, first: int = 0) -> list[IndexRow]:
    """Every fourth is nobody who is known, every fifth has no time."""
    return [
        IndexRow(
            f"/crops/{row:05d}.jpg",
            None if row % 4 == 3 else PEOPLE[row % 3],
            CAMERAS[row % 2],
            None if row % 5 == 4 else float(row),
        )
        for row in range(first, first + number)
    ]


def filled(folder: Path, rows: list[IndexRow], embeddings: Tensor) -> Path:
    create_index(folder, MODEL, embeddings.shape[1])
    with write_index(folder, MODEL) as index:
        add_rows(index, rows, embeddings)
    return folder


def obvious(rows: list[IndexRow], embeddings: Tensor, query: Tensor, top: int, filters: Filters = ALL) -> list[tuple[str, float]]:
    """Row by row in the numbers that the file holds, sorted by Python."""
    grid = (query.double() * 2**24).round() / 2**24
    found = []
    for row, embedding in zip(rows, F.normalize(embeddings, dim=1).half().double(), strict=True):
        passes = row.camera in filters.cameras or not filters.cameras
        passes &= row.person in filters.persons or not filters.persons
        passes &= filters.since is None or (row.time is not None and row.time >= filters.since)
        passes &= filters.until is None or (row.time is not None and row.time <= filters.until)
        if passes:
            found.append((row.path, sum(a * b for a, b in zip(embedding.tolist(), grid.tolist(), strict=True))))
    return sorted(found, key=lambda one: -one[1])[:top]


def found_in(*folders: Path, query: Tensor, top: int = 10, **options: object) -> list[tuple[str, float]]:
    (answers,) = search_indexes(folders, query[None], MODEL, top=top, **options).answers
    return [(answer.path, answer.similarity) for answer in answers]


SHAPES = ((1, 1), (13, 1), (13, 3), (40, 5), (40, 40))
"""Rows, and how many different embeddings they have; 40 are nearly the same."""


@pytest.fixture(scope="module")
def small_indexes(tmp_path_factory) -> dict[tuple[int, int], tuple[Path, Tensor]]:
    place, made = tmp_path_factory.mktemp("small"), {}
    for number, distinct in SHAPES:
        different = drawn(distinct, 5, number) if distinct < 40 else drawn(1, 5, number) + 0.003 * drawn(distinct, 5, number)
        embeddings = F.normalize(different, dim=1)[torch.arange(number) % distinct]
        made[number, distinct] = filled(place / f"{number}-{distinct}", rows_of(number), embeddings), embeddings
    return made


@settings(max_examples=80, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    top=st.integers(1, 50),
    rows_at_a_time=st.integers(1, 7),
    cameras=st.sampled_from([(), ("door",), CAMERAS, ("nowhere",)]),
    persons=st.sampled_from([(), ("anna",), ("ben", "carl")]),
    since=st.none() | st.floats(-1, 40),
    until=st.none() | st.floats(-1, 40),
    seed=st.integers(0, 9),
)
def test_answers_are_those_of_comparing_everything_to_the_bit_with_ties_and_filters(
    small_indexes, shape, top, rows_at_a_time, cameras, persons, since, until, seed
):
    folder, embeddings = small_indexes[shape]
    filters, query = Filters(cameras, persons, since, until), drawn(1, 5, seed + 100)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightning_reid.search_index.embeddings_file._BYTES_AT_A_TIME", 4 * 5 * rows_at_a_time)
        assert found_in(folder, query=query, top=top, filters=filters) == obvious(rows_of(shape[0]), embeddings, query, top, filters)


@settings(max_examples=10, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["add", "remove", "forget"]), st.integers(0, 11), st.integers(1, 6)), min_size=1, max_size=6),
    seed=st.integers(0, 9),
)
def test_an_index_holds_what_was_added_last_and_not_removed_after_any_changes(steps, seed):
    kept: dict[str, tuple[IndexRow, Tensor]] = {}
    with TemporaryDirectory() as place:
        create_index(folder := Path(place) / "index", MODEL, 5)
        for step, (act, first, number) in enumerate(steps):
            rows, embeddings = rows_of(number, first=first), drawn(number, 5, 10 * seed + step)
            with write_index(folder) as index:
                if act == "add":
                    assert add_rows(index, rows, embeddings) == sum(row.path in kept for row in rows)
                    for row, embedding in zip(rows, embeddings, strict=True):
                        kept.pop(row.path, None)
                        kept[row.path] = (row, embedding)
                elif act == "remove":
                    assert remove_paths(index, [row.path for row in rows]) == sum(kept.pop(row.path, None) is not None for row in rows)
                elif any(row.person == "anna" for row, _ in kept.values()):
                    gone = [path for path, (row, _) in kept.items() if row.person == "anna"]
                    assert forget_person(index, "anna") == len(gone)
                    kept = {path: one for path, one in kept.items() if path not in gone}
        query = drawn(1, 5, 7)[0]
        rows = [row for row, _ in kept.values()]
        expected = obvious(rows, torch.stack([one for _, one in kept.values()]), query, 50) if kept else []
        assert found_in(folder, query=query, top=50) == expected
        with open_index(folder) as index:
            held = np.fromfile(index.embeddings().path, "<f2").reshape(-1, 5)
            assert len(held) == index.meta().places
            assert len(held) - len(kept) == (~held.any(1)).sum() <= len(held) / 4


def test_equal_rows_of_a_large_index_come_in_their_order_whatever_the_blocks(tmp_path):
    folder = filled(tmp_path / "index", rows_of(3000), drawn(1, 96, 0).expand(3000, 96))
    query = drawn(1, 96, 1)[0]
    assert [path for path, _ in found_in(folder, query=query, top=20)] == [row.path for row in rows_of(20)]
    assert len({similarity for _, similarity in found_in(folder, query=query, top=3000)}) == 1


def test_rows_that_lie_far_apart_are_found_as_any(tmp_path):
    rows, embeddings = rows_of(3000), drawn(3000, 16, 0)
    for row in (0, 1500, 2999):
        rows[row] = rows[row]._replace(person="rare")
    folder, query, rare = filled(tmp_path / "index", rows, embeddings), drawn(1, 16, 1)[0], Filters(persons=("rare",))
    assert found_in(folder, query=query, filters=rare) == obvious(rows, embeddings, query, 10, rare)
    with open_index(folder) as index:
        file = index.embeddings()
        os.truncate(file.path, 2999 * 32)
        with pytest.raises(SearchIndexError, match="was cut while it was read, at the embedding number 2,999"):
            file.read(np.array([0, 2999]))


def test_many_queries_get_what_each_gets_alone(tmp_path):
    folder = filled(tmp_path / "index", rows_of(2500), drawn(2500, 16, 0))
    queries = drawn(150, 16, 1)
    together = search_indexes([folder], queries, MODEL, top=3).answers
    assert [[(one.path, one.similarity) for one in answers] for answers in together[::50]] == [
        found_in(folder, query=query, top=3) for query in queries[::50]
    ]


def test_shards_give_what_one_index_of_all_gives(tmp_path):
    rows, embeddings = rows_of(60), drawn(20, 8, 0).repeat(3, 1)
    shards = [filled(tmp_path / str(at), rows[at : at + 20], embeddings[at : at + 20]) for at in (0, 20, 40)]
    whole = filled(tmp_path / "whole", rows, embeddings)
    query = drawn(1, 8, 1)[0]
    assert found_in(*shards, query=query, top=7) == found_in(whole, query=query, top=7)
    with pytest.raises(ValueError, match="is given twice"):
        found_in(whole, tmp_path / "0" / ".." / "whole", query=query)


def test_what_is_left_out_makes_room_for_the_next(tmp_path):
    rows, embeddings = rows_of(30), drawn(30, 8, 0)
    folder, query = filled(tmp_path / "index", rows, embeddings), drawn(1, 8, 1)[0]
    ranked = obvious(rows, embeddings, query, 30)
    hidden = {path for path, _ in ranked[:20]}
    assert found_in(folder, query=query, top=3, leave_out=lambda number, path: number == 0 and path in hidden) == ranked[20:23]
    assert found_in(folder, query=query, top=3, leave_out=lambda number, path: True) == []


def test_a_search_that_finds_nothing_says_why(tmp_path):
    folder = filled(tmp_path / "index", rows_of(10), drawn(10, 4, 0))
    query = drawn(1, 4, 1)
    found = search_indexes([folder], query, MODEL, filters=Filters(cameras=("attic",)))
    assert (found.answers, found.rows) == ([[]], 0)
    assert found.notes == [
        f"{folder} has no camera attic: it has door, yard",
        f"none of the 10 rows of {folder} passes the filters",
    ]
    found = search_indexes([folder], query, MODEL, filters=Filters(since=100.0))
    assert found.notes[0] == f"2 of 10 rows of {folder} have no time, and are left out"
    create_index(tmp_path / "empty", MODEL, 4)
    assert search_indexes([tmp_path / "empty"], query, MODEL).notes == [f"{tmp_path / 'empty'} has no rows"]


def test_names_that_are_no_text_come_back_as_they_are(tmp_path):
    name = os.fsdecode(b"/crops/\xff.jpg")
    folder = filled(tmp_path / "index", [IndexRow(name, person=os.fsdecode(b"\xfe"))], drawn(1, 4, 0))
    (((answer),),) = search_indexes([folder], drawn(1, 4, 0), MODEL).answers
    assert (answer.path, answer.person) == (name, os.fsdecode(b"\xfe"))
    with write_index(folder) as index:
        assert forget_person(index, os.fsdecode(b"\xfe")) == 1


def test_nothing_of_a_forgotten_person_is_left_in_any_file(tmp_path):
    rows, embeddings = rows_of(64), drawn(64, 16, 0)
    rows[5] = rows[5]._replace(path="/crops/of-somebody.jpg", person="somebody-in-particular")
    folder = filled(tmp_path / "index", rows, embeddings)
    secret = F.normalize(embeddings, dim=1)[5].half().numpy().tobytes()
    held = b"".join(file.read_bytes() for file in folder.iterdir())
    assert all(one in held for one in (secret, b"somebody-in-particular", b"of-somebody"))
    with write_index(folder) as index:
        forget_person(index, "somebody-in-particular")
    held = b"".join(file.read_bytes() for file in folder.iterdir())
    assert not any(one in held for one in (secret, b"somebody-in-particular", b"of-somebody"))


def indexed_in_turns(folder: Path, seed: int) -> list[str]:
    """2,000 pictures of 40 people, with paths of many lengths, a few at a time: SQLite balances its pages often."""
    draw = random.Random(seed)
    people = [f"SOMEBODY{number:03d}Q" for number in range(40)]
    named = [(draw.choice(people), f"{draw.getrandbits(40):x}", "x" * draw.randrange(60)) for _ in range(2000)]
    rows = [IndexRow(f"/data/{begin}/{person}_{end}.jpg", person, draw.choice(CAMERAS)) for person, begin, end in named]
    create_index(folder, MODEL, 2)
    with write_index(folder) as index:
        while rows:
            some, rows = rows[: (size := draw.choice([7, 200]))], rows[size:]
            add_rows(index, some, torch.ones(len(some), 2))
    return people


def left_of(people: list[str], folder: Path) -> list[str]:
    held = b"".join(file.read_bytes() for file in folder.iterdir())
    return [person for person in people if person.encode() in held]


@pytest.mark.parametrize("seed", range(4))
def test_no_name_is_left_in_gaps_of_pages_that_were_balanced(tmp_path, seed):
    people = indexed_in_turns(folder := tmp_path / "index", seed)
    for number, person in enumerate(people[:20]):
        with write_index(folder) as index:
            forget_person(index, person)
        assert left_of(people, folder) == people[number + 1 :]


def forget_all_but_gaps(folder: Path, people: list[str]) -> None:
    """SQLite may not begin to write the database anew, as it were killed there."""
    with write_index(folder) as index:
        index.connection.set_authorizer(lambda act, *_: sqlite3.SQLITE_DENY if act == sqlite3.SQLITE_ATTACH else sqlite3.SQLITE_OK)
        for person in people:
            with pytest.raises(sqlite3.DatabaseError):
                forget_person(index, person)


def test_who_was_killed_before_names_left_the_gaps_has_it_done_by_the_next(tmp_path):
    left = []
    for seed in range(4):
        people = indexed_in_turns(folder := tmp_path / str(seed), seed)
        with pytest.raises(sqlite3.DatabaseError, match="authorization denied"):
            forget_all_but_gaps(folder, people[:20])
        left += left_of(people[:20], folder)
        with write_index(folder):
            assert left_of(people[:20], folder) == []
    assert left


def test_the_database_is_written_anew_once_for_all_that_is_replaced_when_the_changes_end(tmp_path):
    indexed_in_turns(folder := tmp_path / "index", 0)
    with open_index(folder) as index:
        paths = paths_within(index, "/")
    with write_index(folder) as index:
        for start in range(0, 300, 30):
            add_rows(index, [IndexRow(path, "renamed") for path in paths[start : start + 30]], torch.ones(30, 2))
        (waiting,) = index.connection.execute("SELECT count(*) FROM holes WHERE zeroed = 2").fetchone()
    with open_index(folder) as index:
        assert index.connection.execute("SELECT count(*) FROM holes WHERE zeroed <> 1").fetchone() == (0,)
        assert index.connection.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert waiting


def test_the_database_is_written_anew_before_holes_are_closed(tmp_path):
    folder, said = filled(tmp_path / "index", rows_of(12), drawn(12, 4, 0)), list[str]()
    with write_index(folder) as index:
        index.connection.set_trace_callback(said.append)
        add_rows(index, rows_of(6), drawn(6, 4, 1))
    assert said.index("VACUUM") < said.index("DELETE FROM holes")


def test_somebody_who_is_not_there_cannot_be_forgotten(tmp_path):
    folder = filled(tmp_path / "index", rows_of(12), drawn(12, 4, 0))
    with write_index(folder) as index:
        with pytest.raises(ValueError, match=r"nobody 'ana' in .*: did you mean anna"):
            forget_person(index, "ana")
        with pytest.raises(ValueError, match=r"nobody 'xyz' in .*: 3 people are known there"):
            forget_person(index, "xyz")
        assert index.meta().rows == 12


def test_an_append_that_broke_off_is_passed_over_and_cut_before_the_next(tmp_path):
    rows, embeddings = rows_of(20), drawn(20, 4, 0)
    folder, query = filled(tmp_path / "index", rows[:10], embeddings[:10]), drawn(1, 4, 1)[0]
    with (folder / "embeddings.f16").open("ab") as file:
        file.write(embeddings[10:].half().numpy().tobytes()[:-1])  # killed between the bytes and the transaction
    assert found_in(folder, query=query, top=20) == obvious(rows[:10], embeddings[:10], query, 20)
    with write_index(folder) as index:
        add_rows(index, rows[15:], embeddings[15:])
    left = [*range(10), *range(15, 20)]
    assert found_in(folder, query=query, top=20) == obvious([rows[one] for one in left], embeddings[left], query, 20)
    assert (folder / "embeddings.f16").stat().st_size == 15 * 4 * 2


def test_who_was_killed_before_zeroing_has_it_done_by_the_next(tmp_path, monkeypatch):
    folder = filled(tmp_path / "index", rows_of(12), drawn(12, 4, 0))
    with monkeypatch.context() as killed:
        killed.setattr(index_module.EmbeddingsFile, "zero", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt), write_index(folder) as index:
            remove_paths(index, ["/crops/00002.jpg"])
    assert np.fromfile(folder / "embeddings.f16", "<f2").reshape(12, 4)[2].any()
    assert "/crops/00002.jpg" not in [path for path, _ in found_in(folder, query=drawn(1, 4, 1)[0], top=12)]
    with write_index(folder):
        pass
    assert not np.fromfile(folder / "embeddings.f16", "<f2").reshape(12, 4)[2].any()


def test_a_failed_addition_changes_nothing(tmp_path):
    rows, embeddings = rows_of(4), drawn(4, 4, 0)
    folder = filled(tmp_path / "index", rows, embeddings)
    with write_index(folder) as index:
        for broken, message in ((float("nan"), "zero, NaN or infinite, as 1 of 2"), (0.0, "zero, NaN")):
            bad = drawn(2, 4, 1)
            bad[1] = broken
            with pytest.raises(ValueError, match=f"00006.jpg is {message}"):
                add_rows(index, rows_of(2, first=5), bad)
        with pytest.raises(ValueError, match=r"expected embeddings \[2, 4\]"):
            add_rows(index, rows[:2], drawn(2, 3, 1))
        with pytest.raises(ValueError, match="same path"):
            add_rows(index, [rows[0], rows[0]], drawn(2, 4, 1))
        with pytest.raises(ValueError, match=r"the time of /crops/00001.jpg must be a finite number"):
            add_rows(index, [rows[0], rows[1]._replace(time=float("nan"))], drawn(2, 4, 1))
        with pytest.raises(sqlite3.ProgrammingError):
            add_rows(index, [rows[0], rows[1]._replace(camera=Camera())], drawn(2, 4, 1))
        assert index.meta()[2:4] == (4, 4)
    assert found_in(folder, query=drawn(1, 4, 2)[0]) == obvious(rows, embeddings, drawn(1, 4, 2)[0], 10)


def test_one_process_writes_at_a_time_and_others_search_meanwhile(tmp_path):
    folder = filled(tmp_path / "index", rows_of(4), drawn(4, 4, 0))
    with write_index(folder):
        with pytest.raises(FileExistsError, match=r"runs in .*index: wait for it"), write_index(folder):
            pass
        assert len(found_in(folder, query=drawn(1, 4, 1)[0])) == 4


class Camera(str):
    """A text that SQLite does not take for one, so that a transaction fails in its middle."""

    def encode(self, *_: object) -> object:
        return object()


def overwrite(file: Path, place: int, content: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(place)
        opened.write(content)


def statement(*sqls: str):
    def execute(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "index.sqlite")) as connection:
            for sql in sqls:
                connection.execute(sql)
            connection.commit()

    return execute


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: os.truncate(folder / "embeddings.f16", 4001), r"embeddings.f16 is cut short, it holds 500.1 embeddings of 600"),
        (lambda folder: (folder / "embeddings.f16").unlink(), r"has lost its file .*embeddings.f16"),
        (lambda folder: (folder / "index.sqlite").unlink(), r"is no index: it has no index.sqlite"),
        (lambda folder: (folder / "index.sqlite").write_bytes(b"x" * 4096), r"index.sqlite is damaged \(file is not a database\): restore"),
        (lambda folder: os.truncate(folder / "index.sqlite", 20000), r"index.sqlite is damaged"),
        (lambda folder: overwrite(folder / "index.sqlite", 8192, b"\xff" * 20000), r"index.sqlite is damaged"),
        (lambda folder: overwrite(folder / "embeddings.f16", 80, b"\xff\x7f"), r"1 of its .* \(NaN, say\), the first is number 10"),
        (lambda folder: overwrite(folder / "embeddings.f16", 80, b"\x00\x7c"), r"no vectors of length 1"),
        (statement("PRAGMA user_version = 2"), r"is an index of format 2, this version of lightning-reid reads format 1: make it anew"),
        (statement("PRAGMA application_id = 7"), r"is a database of something else"),
        (statement("CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM rows; END"), r"its tables are not those of an index"),
        (statement("DELETE FROM rows WHERE place = 3"), r"it tells of 600 rows, and has 599"),
        (
            statement("DELETE FROM rows WHERE place = 3", "INSERT INTO holes VALUES (4, 1)", "UPDATE meta SET rows = 599"),
            r"it has no row for the embedding number 3\)",
        ),
        (statement("UPDATE rows SET place = -1 WHERE place = 3"), r"it has 600 places, and number -1 among its rows"),
        (statement("UPDATE meta SET dimension = 0"), r"index.sqlite is damaged \(its dimension is 0\)"),
        (statement("UPDATE meta SET dimension = 4.5"), r"its dimension is 4.5"),
        (statement("UPDATE meta SET places = 'many'"), r"its places is 'many'"),
        (statement("UPDATE meta SET generation = '../../elsewhere'"), r"its generation is '../../elsewhere'"),
        (statement("UPDATE meta SET fast_places = 600, fast_number = '../../elsewhere'"), r"its fast_number is '../../elsewhere'"),
        (statement("UPDATE meta SET fast_places = 1000000000000"), r"600 places for 600 rows, 1,000,000,000,000 of them for approximate"),
        (statement("UPDATE meta SET model = x'41'"), r"its model is b'A'"),
        (statement("UPDATE meta SET rows = 601"), r"600 places for 601 rows"),
        (statement("UPDATE rows SET path = x'41' WHERE place = 3"), r"it has the path b'A'"),
        (statement("UPDATE rows SET person = x'41' WHERE place = 3"), r"it has the person b'A'"),
        (statement("UPDATE rows SET camera = x'41' WHERE place = 3"), r"it has the camera b'A'"),
        (statement("UPDATE rows SET time = 'later' WHERE place = 3"), r"it has the time 'later'"),
        (statement("UPDATE rows SET time = -9e999 WHERE place = 3"), r"it has the time -inf"),
        (lambda folder: overwrite(folder / "embeddings.f16", 80, np.full(4, 0.53, "<f2").tobytes()), r"no vectors of length 1"),
        (lambda folder: overwrite(folder / "embeddings.f16", 80, bytes(8)), r"no vectors of length 1"),
        (statement("UPDATE rows SET place = 600 WHERE place = 3"), r"it has 600 places, and number 600 among its rows"),
        (statement("DELETE FROM meta"), r"it has 0 descriptions"),
    ],
)  # fmt: skip
def test_a_damaged_index_is_named_with_what_is_wrong(tmp_path, whole_index, damage, message):
    folder = shutil.copytree(whole_index, tmp_path / "index")
    damage(folder)
    with pytest.raises(SearchIndexError, match=message):
        found_in(folder, query=drawn(1, 4, 1)[0], top=600)


@pytest.mark.parametrize("column", ["path", "person", "camera"])
@pytest.mark.parametrize("place", [0, 300, 599])
def test_a_name_that_is_no_text_is_named_when_an_index_is_opened(tmp_path, whole_index, column, place):
    folder = shutil.copytree(whole_index, tmp_path / "index")
    statement(f"UPDATE rows SET {column} = x'00' WHERE place = {place}")(folder)
    with pytest.raises(SearchIndexError, match=rf"it has the {column} b'\\x00'"), open_index(folder):
        pass


@pytest.mark.parametrize("time", ["'later'", "9e999", "x'00'"])
def test_a_time_that_is_no_number_is_named_before_rows_are_left_out_or_shown_by_it(tmp_path, whole_index, time):
    folder = shutil.copytree(whole_index, tmp_path / "index")
    statement(f"UPDATE rows SET time = {time} WHERE place = 3")(folder)
    with pytest.raises(SearchIndexError, match="it has the time"):
        found_in(folder, query=drawn(1, 4, 1)[0], filters=Filters(until=2.0))
    with pytest.raises(SearchIndexError, match="it has the time"), open_index(folder) as index:
        describe_index(index)
    with pytest.raises(SearchIndexError, match="it has the time"), write_index(folder):
        pass


def test_no_file_is_removed_that_a_journal_names(tmp_path, whole_index):
    folder = shutil.copytree(whole_index, tmp_path / "index")
    (elsewhere := tmp_path / "thesis.txt").write_text("the only copy")
    size, pages = 4096, (folder / "index.sqlite").stat().st_size // 4096
    mark, name = bytes.fromhex("d9d505f920a163d7"), os.fsencode(elsewhere)
    head = (mark + struct.pack(">5I", 0, 0, pages, 512, size)).ljust(512, b"\0")
    named = struct.pack(">I", 0x40000000 // size + 1) + name + struct.pack(">2I", len(name), sum(name)) + mark
    (folder / "index.sqlite-journal").write_bytes(head + named)
    for opened in (open_index, write_index):
        with pytest.raises(SearchIndexError, match=r"index.sqlite-journal is damaged \(it names another file"), opened(folder):
            pass
        assert elsewhere.read_text() == "the only copy"


def test_a_journal_that_a_killed_process_left_is_rolled_back(tmp_path, whole_index):
    folder, killed = shutil.copytree(whole_index, tmp_path / "index"), tmp_path / "killed"
    with closing(sqlite3.connect(folder / "index.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("UPDATE rows SET path = 'x' || path")  # of more pages than the cache has: some are written
        shutil.copytree(folder, killed)
        connection.execute("ROLLBACK")
    assert (killed / "index.sqlite-journal").stat().st_size
    assert (killed / "index.sqlite").read_bytes() != (whole_index / "index.sqlite").read_bytes()
    assert found_in(killed, query=drawn(1, 4, 1)[0]) == found_in(whole_index, query=drawn(1, 4, 1)[0])


@pytest.mark.parametrize("name", ["index.sqlite", "index.sqlite-journal", "index.sqlite-wal", "index.sqlite-shm", "embeddings.f16"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_file_of_its_own_is_refused_and_what_a_link_leads_to_stays(tmp_path, whole_index, name, kind):
    folder = shutil.copytree(whole_index, tmp_path / "index")
    elsewhere = tmp_path / "elsewhere"
    shutil.copy(folder / name, elsewhere) if (folder / name).exists() else elsewhere.touch()
    elsewhere.write_bytes(before := elsewhere.read_bytes() + (b"more" if name == "embeddings.f16" else b""))
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(elsewhere) if kind == "link" else os.mkfifo(folder / name)
    for opened in (open_index, write_index):
        with pytest.raises(SearchIndexError, match=f"{name} is a {kind} where a file was expected"), opened(folder):
            pass
    assert elsewhere.read_bytes() == before


def test_nothing_is_written_through_a_link_that_comes_after_the_opening(tmp_path, whole_index):
    folder, elsewhere = shutil.copytree(whole_index, tmp_path / "index"), tmp_path / "elsewhere"
    elsewhere.write_bytes(bytes(10_000))
    with open_index(folder) as index:
        file = index.embeddings()
    file.path.unlink()
    file.path.symlink_to(elsewhere)
    for write in (file.cut, lambda: file.append(drawn(1, 4, 0)), lambda: file.zero(np.arange(3))):
        with pytest.raises(OSError, match=r"cannot write .*embeddings.f16"):
            write()
    assert elsewhere.read_bytes() == bytes(10_000)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"pid": -1}, "names the process -1 of the time 0"),
        ({"pid": 10**400}, "names the process 10000"),
        ({"began": -1}, "names the process 7 of the time -1"),
    ],
)
def test_a_lock_of_a_process_that_cannot_be_is_named(tmp_path, whole_index, monkeypatch, held, message):
    monkeypatch.setattr("lightning_reid.folder_lock.SECONDS_TO_WRITE", 0.0)
    folder = shutil.copytree(whole_index, tmp_path / "index")
    (folder / "writer.lock").write_text(json.dumps({"pid": 7, "host": this_host(), "began": 0} | held))
    with pytest.raises(ValueError, match=f"writer.lock {message}.*: remove it if no run is at work there"), write_index(folder):
        pass


def test_a_pipe_in_place_of_the_lock_is_not_waited_for(tmp_path, whole_index):
    folder = shutil.copytree(whole_index, tmp_path / "index")
    os.mkfifo(folder / "writer.lock")
    with pytest.raises(OSError, match=r"writer.lock is a pipe where a file was expected"), write_index(folder):
        pass


def test_who_would_write_to_an_index_counts_its_rows_first(tmp_path, whole_index):
    folder = shutil.copytree(whole_index, tmp_path / "index")
    statement("DELETE FROM rows WHERE place = 3")(folder)
    with pytest.raises(SearchIndexError, match="it tells of 600 rows, and has 599"), write_index(folder):
        pass


@pytest.fixture(scope="module")
def whole_index(tmp_path_factory) -> Path:
    return filled(tmp_path_factory.mktemp("whole") / "index", rows_of(600), drawn(600, 4, 0))


def test_an_index_of_another_model_is_refused_with_both_names(whole_index):
    with pytest.raises(SearchIndexError, match="are of weights 0 at 256x128, and cannot be compared with those of weights 0 at 128x64"):
        search_indexes([whole_index], drawn(1, 4, 1), "weights 0 at 128x64")
    with pytest.raises(SearchIndexError, match="cannot be compared"), write_index(whole_index, "weights 1"):
        pass
    with pytest.raises(FileNotFoundError, match=r"there is no index .*none"):
        search_indexes([whole_index.with_name("none")], drawn(1, 4, 1), MODEL)
    with pytest.raises(OSError, match="not empty"):
        create_index(whole_index, MODEL, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"queries": torch.full((1, 4), torch.nan)}, r"of length 1, got \[1, 4\], of which some are not"),
        ({"queries": torch.ones(2, 4)}, "normalize them"),
        ({"queries": drawn(1, 5, 0)}, "queries have 5 numbers, embeddings in .*index have 4"),
        ({"folders": []}, "there is no index to search"),
        ({"top": 0}, "top must be a whole number of at least 1"),
        ({"filters": Filters(since=float("nan"))}, "since must be a finite number of seconds"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(whole_index, given, message):
    with pytest.raises(ValueError, match=message):
        search_indexes(**{"folders": [whole_index], "queries": drawn(1, 4, 0), "model": MODEL} | given)


CLUSTERS, NUMBER = 60, 1200


@pytest.fixture(scope="module")
def fast_index(tmp_path_factory) -> tuple[Path, Tensor, fast_module.FastFile]:
    pytest.importorskip("faiss")
    centers = drawn(CLUSTERS, 16, 0)
    embeddings = F.normalize(
        centers[torch.arange(NUMBER) % CLUSTERS] + 0.08 * torch.randn(NUMBER, 16, generator=torch.Generator().manual_seed(1)), dim=1
    )
    folder = filled(tmp_path_factory.mktemp("fast") / "index", rows_of(NUMBER), embeddings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_module, "FEWEST", 1000)
        with write_index(folder) as index:
            built = build_fast(index, seed=3)
    return folder, embeddings, built


def test_approximate_search_finds_most_of_the_nearest_with_exact_similarities_and_says_so(fast_index):
    folder, embeddings, built = fast_index
    assert (built.rows, built.lists, built.code_bytes) == (NUMBER, 32, 16)
    assert built.recall > 0.8
    query = embeddings[17]
    found = search_indexes([folder], query[None], MODEL, exact_up_to=100)
    exact = search_indexes([folder], query[None], MODEL)
    assert (found.approximate, exact.approximate) == ([str(folder)], [])
    assert found.answers[0][0] == exact.answers[0][0]
    similarities = dict(obvious(rows_of(NUMBER), embeddings, query, NUMBER))
    assert all(answer.similarity == similarities[answer.path] for answer in found.answers[0])


def test_approximate_search_keeps_to_filters_and_is_exact_where_they_leave_little(fast_index):
    folder, embeddings, _ = fast_index
    rows, query = rows_of(NUMBER), embeddings[17]
    found = search_indexes([folder], query[None], MODEL, filters=Filters(cameras=("door",)), exact_up_to=100)
    assert found.approximate == [str(folder)]
    assert {answer.camera for answer in found.answers[0]} == {"door"}
    early = Filters(until=90.0)
    assert found_in(folder, query=query, filters=early, exact_up_to=100) == obvious(rows, embeddings, query, 10, early)
    far = Filters(cameras=("yard",), since=500.0)  # more than are searched exactly, but asked for more of them than lie near
    assert found_in(folder, query=query, filters=far, exact_up_to=100, top=250) == obvious(rows, embeddings, query, 250, far)


def test_rows_that_came_after_the_approximate_file_are_found_and_removed_ones_are_not(fast_index, tmp_path):
    folder, embeddings, _ = fast_index
    folder, query = shutil.copytree(folder, tmp_path / "index"), embeddings[17]
    with write_index(folder) as index:
        first = found_in(folder, query=query, top=1, exact_up_to=100)[0][0]
        assert remove_paths(index, [first]) == 1
        add_rows(index, [IndexRow("/crops/late.jpg", "late")], query[None])
    found = search_indexes([folder], query[None], MODEL, exact_up_to=100)
    assert found.approximate
    assert found.answers[0][0].path == "/crops/late.jpg"
    assert first not in [answer.path for answer in found.answers[0]]


def test_forgetting_removes_the_approximate_file_aloud(fast_index, tmp_path, caplog):
    folder = shutil.copytree(fast_index[0], tmp_path / "index")
    assert list(folder.glob("*.faiss"))
    with write_index(folder) as index:
        forget_person(index, "anna")
    assert not list(folder.glob("*.faiss"))
    assert "it had codes of 300 images that are forgotten: lightning-reid index speed makes another" in caplog.text
    found = search_indexes([folder], drawn(1, 16, 1), MODEL, exact_up_to=100)
    assert found.approximate == []
    assert f"lightning-reid index speed {folder} makes it faster" in found.notes[0]


def test_a_damaged_approximate_file_is_named(fast_index, tmp_path):
    folder = shutil.copytree(fast_index[0], tmp_path / "index")
    (codes,) = folder.glob("*.faiss")
    os.truncate(codes, 1000)
    with pytest.raises(SearchIndexError, match=r"faiss has 1,000 bytes, [0-9,]+ were written: lightning-reid index speed .* makes another"):
        found_in(folder, query=drawn(1, 16, 1)[0], exact_up_to=100)
    size = next(fast_index[0].glob("*.faiss")).stat().st_size
    codes.write_bytes(b"x" * size)
    with pytest.raises(SearchIndexError, match="was overwritten, faiss cannot read it"):
        found_in(folder, query=drawn(1, 16, 1)[0], exact_up_to=100)
    codes.unlink()
    with pytest.raises(SearchIndexError, match="has lost its file"):
        found_in(folder, query=drawn(1, 16, 1)[0], exact_up_to=100)


def with_codes(index: Path, folder: Path, change) -> Path:
    """The index with another file for approximate search, of the size that it tells."""
    faiss = pytest.importorskip("faiss")
    (codes,) = shutil.copytree(index, folder).glob("*.faiss")
    faiss.write_index(change(faiss, faiss.read_index(str(codes))), str(codes))
    statement(f"UPDATE meta SET fast_bytes = {codes.stat().st_size}")(folder)
    return folder


def test_a_file_of_faiss_without_lists_is_named(fast_index, tmp_path):
    folder = with_codes(fast_index[0], tmp_path / "index", lambda faiss, codes: faiss.IndexFlatIP(codes.d))
    with pytest.raises(SearchIndexError, match=r"faiss was overwritten, it has no inverted lists: lightning-reid index speed .* makes"):
        found_in(folder, query=drawn(1, 16, 1)[0], exact_up_to=100)


def test_a_link_in_place_of_the_approximate_file_is_refused(fast_index, tmp_path):
    folder = shutil.copytree(fast_index[0], tmp_path / "index")
    (codes,) = folder.glob("*.faiss")
    codes.symlink_to(codes.rename(tmp_path / "elsewhere"))
    with pytest.raises(SearchIndexError, match="faiss is a link where a file was expected"):
        found_in(folder, query=drawn(1, 16, 1)[0], exact_up_to=100)


def test_a_row_that_the_approximate_file_has_twice_is_found_once(fast_index, tmp_path):
    embeddings = fast_index[1]

    def twice(faiss, codes):
        codes.reset()
        for _ in range(2):
            codes.add_with_ids(embeddings[:1000].numpy(), np.arange(1000))
        codes.ntotal = 1000
        return codes

    folder = with_codes(fast_index[0], tmp_path / "index", twice)
    found = search_indexes([folder], embeddings[17][None], MODEL, exact_up_to=100)
    paths = [answer.path for answer in found.answers[0]]
    assert found.approximate
    assert len(set(paths)) == len(paths) == 10


def test_a_row_of_another_length_is_named_by_approximate_search_too(fast_index, tmp_path):
    folder = shutil.copytree(fast_index[0], tmp_path / "index")
    overwrite(folder / "embeddings.f16", 17 * 32, (1.1 * fast_index[1][17]).half().numpy().tobytes())
    with pytest.raises(SearchIndexError, match=r"embeddings.f16 is damaged, 1 of its .* the first is number 17: restore"):
        found_in(folder, query=fast_index[1][17], exact_up_to=100)


@pytest.mark.parametrize(("dimension", "code_bytes"), [(16, 16), (128, 16), (192, 24), (256, 32), (2048, 256), (258, None), (257, None)])
def test_a_byte_of_a_code_stands_for_eight_numbers_as_far_as_they_can_be_divided(dimension, code_bytes):
    if code_bytes is None:
        with pytest.raises(
            ValueError, match=f"embeddings of {dimension} numbers cannot be divided into codes: it has no divisor from 16 to 32"
        ):
            fast_module._code_bytes(dimension)
    else:
        assert fast_module._code_bytes(dimension) == code_bytes


def test_an_approximate_file_needs_rows_to_learn_of(whole_index, tmp_path):
    folder = shutil.copytree(whole_index, tmp_path / "index")
    with write_index(folder) as index, pytest.raises(ValueError, match="has 600 rows, which are searched exactly in no time: 10,000"):
        build_fast(index)


def test_a_folder_is_named_by_text_as_well_as_by_a_path(tmp_path):
    folder = str(tmp_path / "index")
    create_index(folder, MODEL, dimension=2)
    with write_index(folder) as index:
        add_rows(index, [IndexRow("a.jpg")], torch.eye(2)[:1])
    with open_index(folder) as index:
        assert index.meta().rows == 1
