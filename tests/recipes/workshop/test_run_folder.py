"""A recipe's folder: whose it is, and that nobody else writes into it."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from another_user import as_another_user
from forked import FORKED, forked
from jsonargparse import Namespace

from lightning_reid import processes
from lightning_reid.folder_lock import FolderLock, Holder
from lightning_reid.recipes.workshop.report import Queries, ResultRow
from lightning_reid.recipes.workshop.run_folder import RunFolder
from lightning_reid.recipes.workshop.stages import RunOptions, Stage
from lightning_reid.records import ImageRecord, ReIDDataset

LOCK = "run.lock"


def options(output: Path, resume: bool = False, **others) -> Namespace:
    return Namespace(output=str(output), resume=resume, quiet=True, **({"seed": 0, "model": Namespace(lr=0.1)} | others))


def people(folder: Path, count: int = 2) -> ReIDDataset:
    folder.mkdir(parents=True, exist_ok=True)
    for pid in range(1, count + 1):
        (folder / f"{pid}.jpg").write_bytes(b"x" * pid)
    return ReIDDataset("some", tuple(ImageRecord(str(folder / f"{pid}.jpg"), pid, 1) for pid in range(1, count + 1)))


def run(cfg: Namespace, data: ReIDDataset) -> None:
    """What a recipe does with its folder."""
    with RunFolder(cfg, ignored=("ablation",)) as folder:
        folder.holds(data)
        (folder.output / "results.json").write_text("{}")


def test_a_used_folder_is_refused_with_both_ways_on_and_resumed_when_that_is_asked(tmp_path):
    data = people(tmp_path / "data")
    run(options(tmp_path / "hsr"), data)
    (tmp_path / "hsr-2").mkdir()
    with pytest.raises(FileExistsError, match=r"hsr was used before: give --resume .* --output .*hsr-3$"):
        run(options(tmp_path / "hsr"), data)
    run(options(tmp_path / "hsr", resume=True, ablation=True, logger="wandb", data=Namespace(num_workers=4)), data)
    assert not (tmp_path / "hsr" / LOCK).exists()


def test_resume_starts_fresh_in_an_empty_folder_and_in_none(tmp_path):
    data = people(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    run(options(tmp_path / "empty", resume=True), data)
    run(options(tmp_path / "none", resume=True), data)
    assert json.loads((tmp_path / "none" / "run.json").read_text())["options"]["model.lr"] == 0.1


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_killed_before_it_could_say_what_it_is_left_an_empty_folder(tmp_path, resume):
    (tmp_path / ".run-x1y2.json").write_text('{"options": {"se')
    run(options(tmp_path, resume=resume), people(tmp_path.with_name("data")))
    assert json.loads((tmp_path / "run.json").read_text())["data"]


def test_a_folder_that_holds_no_run_cannot_be_resumed(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"holds no run to go on with, it lacks run\.json"):
        run(options(tmp_path, resume=True), people(tmp_path.with_name("data")))
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_written_to_is_found_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=rf"cannot write {re.escape(str(output))}: .*\. Choose another folder \(--output\)"):
            run(options(output), people(tmp_path / "data"))

    run_folder = RunFolder(options(tmp_path))  # it asks for the library's version, which another user may not be allowed to read

    def in_a_read_only_folder(folder):
        folder.chmod(0o500)
        for output in (folder, folder / "below"):
            run_folder.output = output
            with pytest.raises(PermissionError, match=rf"cannot write {re.escape(str(output))}.*: Permission denied\. Choose another"):
                run_folder.__enter__()

    as_another_user(in_a_read_only_folder)


def fill(disk: Path) -> None:
    (disk / "movie.mp4").write_bytes(b"")
    with suppress(OSError), (disk / "movie.mp4").open("ab", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def test_a_full_disk_is_found_at_the_start_and_leaves_no_lock(small_disk):
    fill(small_disk)
    for output in (small_disk, small_disk / "hsr"):
        with pytest.raises(OSError, match=r"cannot write .*run\.lock: No space left on device\. Choose another folder"):
            run(options(output), people(small_disk.with_name("data")))
    assert not list(small_disk.rglob("run.lock*"))


def test_a_disk_that_runs_full_is_named_with_the_ways_on_whatever_library_met_it(small_disk):
    def log_metrics() -> None:
        with RunFolder(options(small_disk / "hsr")) as folder:
            fill(small_disk)
            (folder.output / "metrics.csv").write_text("epoch")

    with pytest.raises(OSError, match=r"the disk of .*hsr is full: .*No space left.* go on with --resume, or give another") as caught:
        log_metrics()
    assert caught.value.errno == errno.ENOSPC
    assert isinstance(caught.value.__cause__, OSError)


def test_other_options_are_refused_each_named_with_both_values(tmp_path):
    data = people(tmp_path / "data")
    run(options(tmp_path / "hsr", epochs=3), data)
    message = r"hsr holds a run with other options: seed: 0 there, 1 here; model\.lr: 0\.1 there, 0\.2 here; epochs: 3 there, nothing here"
    with pytest.raises(ValueError, match=message):
        run(options(tmp_path / "hsr", resume=True, seed=1, model=Namespace(lr=0.2)), data)


def test_another_version_of_the_library_is_refused(tmp_path):
    run(options(tmp_path / "hsr"), people(tmp_path / "data"))
    file = tmp_path / "hsr" / "run.json"
    file.write_text(file.read_text().replace('"lightning-reid": "', '"lightning-reid": "9.'))
    with pytest.raises(ValueError, match=r'lightning-reid: "9\..*" there'):
        run(options(tmp_path / "hsr", resume=True), people(tmp_path / "data"))


@pytest.mark.parametrize("other", ["one more", "another identity", "another camera", "another size", "another name"])
def test_other_data_are_refused_but_data_may_move(tmp_path, other):
    run(options(tmp_path / "hsr"), people(tmp_path / "data"))
    moved = people(tmp_path / "moved" / "further")
    run(options(tmp_path / "hsr", resume=True), moved)
    first, rest = moved.train[0], moved.train[1:]
    if other == "another size":
        Path(first.path).write_bytes(b"xyz")
    if other == "another name":
        Path(first.path).rename(Path(first.path).with_name("9.jpg"))
    changed = {
        "one more": lambda: people(tmp_path / "moved" / "further", 3),
        "another identity": lambda: replace(moved, train=(replace(first, pid=7), *rest)),
        "another camera": lambda: replace(moved, train=(replace(first, camid=7), *rest)),
        "another size": lambda: moved,
        "another name": lambda: replace(moved, train=(replace(first, path=first.path.replace("1.jpg", "9.jpg")), *rest)),
    }[other]()
    with pytest.raises(ValueError, match=r'other data: some, train: "2 records, .* there, "[23] records, .* here'):
        run(options(tmp_path / "hsr", resume=True), changed)


def test_a_file_that_is_named_is_known_by_its_content(tmp_path):
    data, file = people(tmp_path / "data"), tmp_path / "teacher.ckpt"
    file.write_bytes(b"one")
    run(options(tmp_path / "hsr", teacher=str(file)), data)
    moved = file.rename(tmp_path / "data" / "teacher.ckpt")
    run(options(tmp_path / "hsr", resume=True, teacher=str(moved)), data)
    moved.write_bytes(b"two")
    with pytest.raises(ValueError, match=r'teacher: "teacher\.ckpt, sha256 '):
        run(options(tmp_path / "hsr", resume=True, teacher=str(moved)), data)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is cut short"),
        ('{"options": {"se', "is cut short"),
        ("[]", "expected a JSON object"),
        ("null", "expected a JSON object"),
        ('{"data": {}}', "holds no 'options'"),
        ('{"options": {}, "data": null}', "holds null as 'data'"),
    ],
)
def test_a_damaged_run_file_is_named_with_the_way_on_and_the_lock_given_back(tmp_path, content, told):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=rf"run\.json .*{told}.*: restore it, or give another folder, --output"):
        run(options(tmp_path, resume=True), people(tmp_path.with_name("data")))
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_whatever_stops_a_run_at_its_door_the_lock_is_given_back(tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning_reid.recipes.workshop.run_folder.remove_partial_files", interrupt)
    with pytest.raises(KeyboardInterrupt):
        RunFolder(options(tmp_path)).__enter__()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["null", '{"pid": 1}', '{"pid": 1, "ho', "[1]", '{"pid": "1", "host": "a", "began": 0}'])
def test_a_lock_that_does_not_say_whose_it_is_is_refused_by_its_name_and_stays(tmp_path, monkeypatch, content, caplog):
    monkeypatch.setattr("lightning_reid.folder_lock.SECONDS_TO_WRITE", 0.1)
    lock = FolderLock(tmp_path / LOCK)
    lock.acquire()
    (tmp_path / LOCK).write_text(content)
    with pytest.raises(ValueError, match=r"run\.lock .*: remove it if no run is at work there"):
        run(options(tmp_path), people(tmp_path.with_name("data")))
    lock.release()  # it cannot be known for its own
    assert "remove it if no run is at work there" in caplog.text
    assert (tmp_path / LOCK).read_text() == content


def test_a_run_that_dies_gives_its_lock_back_and_leaves_nothing_where_it_never_began(tmp_path):
    with pytest.raises(KeyError), RunFolder(options(tmp_path / "never")):
        raise KeyError
    assert not (tmp_path / "never").exists()
    folder = RunFolder(options(tmp_path / "begun"))
    with pytest.raises(KeyError), folder:
        raise {folder.holds(people(tmp_path / "data")): KeyError}[None]
    assert [file.name for file in (tmp_path / "begun").iterdir()] == ["run.json"]


def test_two_runs_at_once_the_second_is_refused_by_process_and_host(tmp_path):
    with RunFolder(options(tmp_path / "hsr")) as folder:
        folder.holds(people(tmp_path / "data"))
        for resume in (False, True):
            with pytest.raises(FileExistsError, match=rf"process {os.getpid()} on {Holder.me().host} runs in .*hsr: wait for it"):
                run(options(tmp_path / "hsr", resume=resume), people(tmp_path / "data"))
        assert (tmp_path / "hsr" / LOCK).is_file()  # the refused one took nothing away


@pytest.mark.parametrize(
    ("holder", "gone"),
    [
        (replace(Holder.me(), began=Holder.me().began - 1000), True),  # another process had this number before
        (replace(Holder.me(), pid=2**22 + 1), True),  # above the largest number that Linux gives
        (Holder.me(), False),
        (replace(Holder.me(), host="elsewhere", pid=2**22 + 1), False),  # nobody knows
    ],
)
def test_a_lock_is_stale_when_its_process_is_gone_and_another_hosts_never_is(tmp_path, holder, gone, caplog):
    lock = FolderLock(tmp_path / LOCK)
    lock.me = holder
    lock.acquire()
    if gone:
        FolderLock(tmp_path / LOCK).acquire()
        assert f"process {holder.pid}, which ran here, is gone" in caplog.text
        lock.release()  # its own is not there any more
        assert (tmp_path / LOCK).is_file()
    else:
        with pytest.raises(FileExistsError, match=rf"process {holder.pid} on {holder.host} .* remove .*run\.lock"):
            FolderLock(tmp_path / LOCK).acquire()
    assert [file.name for file in tmp_path.iterdir()] == [LOCK]


def test_a_lock_from_another_container_of_the_same_host_name_is_not_taken(tmp_path, monkeypatch):
    lock = FolderLock(tmp_path / LOCK)
    lock.me = replace(Holder.me(), pid=2**22 + 1)
    lock.acquire()
    (tmp_path / "namespace").touch()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(processes, "_PID_NAMESPACE", tmp_path / "namespace")
        with pytest.raises(FileExistsError, match=rf"process {2**22 + 1} on {lock.me.host} runs in"):
            FolderLock(tmp_path / LOCK).acquire()
    FolderLock(tmp_path / LOCK).acquire()


def test_a_lock_whose_maker_was_killed_before_it_could_say_who_it_is_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_reid.folder_lock.SECONDS_TO_WRITE", 0.1)
    (tmp_path / LOCK).touch()
    FolderLock(tmp_path / LOCK).acquire()
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_what_is_judged_stale_is_taken_away_and_no_lock_that_was_made_meanwhile(tmp_path):
    other = FolderLock(tmp_path / LOCK)
    other.me = replace(Holder.me(), pid=1)
    other.acquire()
    FolderLock(tmp_path / LOCK)._take_away(replace(Holder.me(), pid=2))
    assert other._read() == other.me
    assert [file.name for file in tmp_path.iterdir()] == [LOCK]


def hold(cfg, pipe, end):
    with RunFolder(cfg):
        if os.fork() == 0:  # as a worker of a DataLoader, which lives on for seconds
            until = time.monotonic() + 20
            while not end.exists() and time.monotonic() < until:
                time.sleep(0.05)
            os._exit(0)
        pipe.send("in")
        time.sleep(60)


def test_the_lock_of_a_killed_run_is_taken_at_once_though_its_workers_live_on(tmp_path):
    here, there = FORKED.Pipe()
    process = forked(hold, options(tmp_path / "hsr"), there, tmp_path / "end")
    assert here.poll(60)
    assert here.recv() == "in"
    with pytest.raises(FileExistsError, match=f"process {process.pid} on "), RunFolder(options(tmp_path / "hsr")):
        pass
    process.kill()
    process.join()
    began = time.monotonic()
    with RunFolder(options(tmp_path / "hsr")):
        assert time.monotonic() - began < 2
        assert json.loads((tmp_path / "hsr" / LOCK).read_text())["pid"] == os.getpid()
    (tmp_path / "end").touch()


def test_other_ranks_neither_look_nor_lock_nor_write(tmp_path, monkeypatch):
    run(options(tmp_path / "hsr"), people(tmp_path / "data"))
    monkeypatch.setattr("lightning_reid.recipes.workshop.run_folder.rank_zero_only.rank", 1)
    with RunFolder(options(tmp_path / "hsr", seed=5)) as folder:
        folder.holds(people(tmp_path / "data", 3))
        assert not (tmp_path / "hsr" / LOCK).exists()
    with RunFolder(options(tmp_path / "none")) as folder:
        folder.holds(people(tmp_path / "data"))
    assert not (tmp_path / "none").exists()


def finished_stage(output: Path, name: str, **told) -> Stage:
    stage = Stage(RunOptions(output=str(output), resume=True), name, told=told)
    stage.claim()
    scores = ResultRow(name, {"mAP": 0.5, "R1": 1.0, "R5": 1.0, "R10": 1.0, "mINP": 0.5}, (0.4, 0.6), Queries(8, 0, 4))
    (stage.folder / "scores.json").write_text(json.dumps(scores.as_json()))
    return stage


def test_a_finished_stage_is_read_back_and_one_that_was_told_otherwise_is_refused(tmp_path):
    stage = finished_stage(tmp_path, "HSR", pbh=True)
    assert Stage(stage.run, "HSR", told={"pbh": True}).finished_row().scores["mAP"] == 0.5
    with pytest.raises(ValueError, match=r"HSR holds a run with other .*: pbh: true there, false here\..* remove that folder"):
        Stage(stage.run, "HSR", told={"pbh": False}).finished_row()


@pytest.mark.parametrize("name", ["stage.json", "scores.json"])
@pytest.mark.parametrize("content", ['{"mA', "[]"])
def test_a_damaged_file_of_a_stage_is_named_with_the_way_on(tmp_path, name, content):
    stage = finished_stage(tmp_path, "HSR")
    (stage.folder / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name} .*: remove .* again"):
        stage.finished_row()


def test_a_stage_of_another_run_that_was_copied_here_is_refused_by_the_option_that_differs(tmp_path):
    for seed in (0, 1):
        with RunFolder(options(tmp_path / f"run{seed}", seed=seed)) as folder:
            folder.holds(people(tmp_path / "data"))
            finished_stage(folder.output, f"stage of seed {seed}")
    copied = (tmp_path / "run1" / "stage-of-seed-1").rename(tmp_path / "run0" / "stage-of-seed-1")
    stage = Stage(RunOptions(output=str(tmp_path / "run0"), resume=True), "stage of seed 1")
    assert stage.folder == copied
    with pytest.raises(ValueError, match="seed: 1 there, 0 here"):
        stage.finished_row()


def test_files_of_which_nobody_says_whose_they_are_are_not_read(tmp_path):
    stage = finished_stage(tmp_path, "HSR")
    (stage.folder / "stage.json").unlink()
    with pytest.raises(ValueError, match=r"HSR holds files of a run that left no stage\.json"):
        stage.finished_row()


def test_stages_are_seeded_by_their_names_unless_they_are_to_start_alike():
    seeds = [
        Stage(RunOptions(seed=seed), name, seeded_as=as_)
        for seed, name, as_ in ((0, "a", None), (1, "a", None), (0, "b", None), (0, "b", "a"))
    ]
    assert len({stage.seed for stage in seeds[:3]}) == 3
    assert seeds[3].seed == seeds[0].seed
