"""A gateway's journal: killed, torn, damaged, on a full disk."""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from links import until
from tracked import MODEL, direction, ended, frame, looks

from lightning_reid.live import Journal, Told
from lightning_reid.live import journal as journal_module
from lightning_reid.tracking import ForgetIdentity, MatchingRules, OnlineMatcher, StageHealth, matcher_state
from lightning_reid.tracking.matcher import Input


def matcher(threshold: float = 0.6) -> OnlineMatcher:
    return OnlineMatcher(MatchingRules(threshold, every_n_frames=5), feature_size=4, model=MODEL, capacity=50)


def messages() -> list[Input]:
    """People who walk from the door to the hall, 20 of them: 20 numbers, 40 tracks."""
    told: list[Input] = []
    for person in range(20):
        start, look = 30 * person, direction(person % 7, 1, person % 3, -person % 5)
        told += [frame("door", start + step, person) for step in range(4)]
        told += [looks("door", person, look, start, start + 3), ended("door", person, start + 3), frame("door", start + 4)]
        told += [frame("hall", start + 10, person), looks("hall", person, look, start + 10)]
        told += [frame("hall", start + 10 + step, person) for step in range(1, 8)]
        told += [ended("hall", person, start + 17)]
    return told


def received(number: int) -> float:
    return 0.3 * number


def feed(journal: Journal, one: OnlineMatcher, told: list[Input], *, begin: int = 0) -> list[object]:
    """As a matching thread would; what is announced."""
    events: list[object] = []
    for number, message in enumerate(told, begin):
        found = one.feed(message, received=received(number))
        journal(Told(message, received(number), tuple(found)))
        events += found
    return events


def unbroken() -> tuple[OnlineMatcher, list[object]]:
    one, events = matcher(), list[object]()
    for number, message in enumerate(messages()):
        events += one.feed(message, received=received(number))
    return one, events


@pytest.mark.parametrize("new_segment_after", [1e6, 7.0])
def test_a_gateway_that_is_killed_at_any_message_goes_on_as_one_that_was_not(tmp_path, new_segment_after):
    told, (whole, announced) = messages(), unbroken()
    assert len(announced) > 60
    with Journal(tmp_path / "journal", first := matcher(), new_segment_after=new_segment_after, sync_every=60) as journal:
        for number in range(len(told)):
            if number % 71 == 5:
                shutil.copytree(tmp_path / "journal", tmp_path / f"killed {number}")  # what the system holds after a kill -9
            feed(journal, first, told[number : number + 1], begin=number)
    for folder in tmp_path.glob("killed *"):
        number = int(folder.name.removeprefix("killed "))
        with Journal(folder, second := matcher(), new_segment_after=new_segment_after, sync_every=60) as journal:
            later = feed(journal, second, told[number:], begin=number)
        assert later == announced[len(announced) - len(later) :]
        assert matcher_state(second) == matcher_state(whole)
    assert len(list(tmp_path.glob("killed *"))) > 3


def test_the_journal_stays_bounded_and_holds_one_segment(tmp_path):
    told = messages()
    with Journal(tmp_path, one := matcher(), new_segment_after=9.0) as journal:
        sizes = []
        for number, message in enumerate(told):
            feed(journal, one, [message], begin=number)
            sizes.append(sum(path.stat().st_size for path in tmp_path.glob("*.journal")))
            assert len(journal.segments()) == 1
        assert int(journal.segments()[0].stem[-8:]) > 5
    assert max(sizes[len(sizes) // 2 :]) < 1.5 * max(sizes[: len(sizes) // 2])


def test_what_was_forgotten_is_gone_from_the_disk_and_stays_forgotten(tmp_path):
    told = messages()[:6]
    looked = told[4].feature.numpy().tobytes()
    with Journal(tmp_path, one := matcher()) as journal:
        feed(journal, one, told)
        assert looked in journal.segments()[-1].read_bytes()
        feed(journal, one, [ForgetIdentity(0)], begin=6)
        assert all(looked not in path.read_bytes() for path in tmp_path.iterdir())
    with Journal(tmp_path, again := matcher()):
        assert matcher_state(again) == matcher_state(one)
        assert len(again.memory) == 0


@pytest.mark.parametrize("lost", [1, 7, 20, 100])
def test_a_torn_end_is_cut_off_aloud_and_everything_before_is_replayed(tmp_path, lost, caplog):
    told = messages()[:40]
    with Journal(tmp_path, one := matcher()) as journal:
        feed(journal, one, told)
        path = journal.segments()[0]
    path.write_bytes(path.read_bytes()[:-lost])
    with caplog.at_level(logging.WARNING), Journal(tmp_path, again := matcher()) as journal:
        assert journal.replayed in (38, 39)
        assert f"{path} is torn" in caplog.text
        expected = matcher()
        for number, message in enumerate(told[: journal.replayed]):
            expected.feed(message, received=received(number))
        assert matcher_state(again) == matcher_state(expected)


def test_zeros_at_the_end_as_a_power_cut_leaves_them_are_a_torn_end(tmp_path, caplog):
    with Journal(tmp_path, one := matcher()) as journal:
        feed(journal, one, messages()[:40])
        path = journal.segments()[0]
    path.write_bytes(path.read_bytes() + bytes(5000))
    with Journal(tmp_path, matcher()) as journal:
        assert journal.replayed == 40
    assert "last 5000 bytes" in caplog.text


def test_damage_in_the_middle_is_an_error_that_names_the_place_and_not_a_shorter_journal(tmp_path):
    with Journal(tmp_path, one := matcher()) as journal:
        feed(journal, one, messages()[:40])
        path = journal.segments()[0]
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"segment-0+1.journal .*is damaged at byte [\d,]+: restore it"):
        Journal(tmp_path, matcher())
    path.write_bytes(b"LRJ9" + bytes(content[4:]))
    with pytest.raises(ValueError, match="is no journal"):
        Journal(tmp_path, matcher())


def test_a_journal_of_other_rules_and_one_in_use_are_refused(tmp_path):
    with Journal(tmp_path, matcher()), pytest.raises(OSError, match="gateway that runs"):
        Journal(tmp_path, matcher())
    with pytest.raises(ValueError, match=r"threshold 0\.6, this one has 0\.8"):
        Journal(tmp_path, matcher(0.8))


def test_health_and_what_was_refused_are_not_written_down(tmp_path):
    with Journal(tmp_path, one := matcher()) as journal:
        feed(journal, one, messages()[:3])
        journal(Told(StageHealth("door", "decode", 1.0, "live", 1, 0, 0, 0.0), 1.0))
        journal(Told(messages()[0], 1.0, refused="sent twice"))
        assert journal.health(1.0).processed == 3
    with Journal(tmp_path, matcher()) as journal:
        assert journal.replayed == 3


def test_what_is_written_gets_on_the_disk_within_the_time_that_is_told(tmp_path):
    with Journal(tmp_path, one := matcher(), sync_every=0.01) as journal:
        feed(journal, one, messages()[:10])
        assert journal.health(received(9)).processed == 10
        until(lambda: not journal.health(received(9)).queued)
        assert journal.health(1e9).state == "live"


@contextmanager
def no_file_above(num_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (num_bytes, before[1])
    )  # Python ignores the signal: a write fails half-way, as on a full disk
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_the_matching_goes_on_aloud_and_the_journal_is_whole_again_once_there_is_room(tmp_path, caplog):
    told = messages()
    with Journal(tmp_path, one := matcher(), retry_after=24.0, sync_every=60) as journal:
        feed(journal, one, told[:20])
        room = journal.segments()[0].stat().st_size + 100
        with no_file_above(room):
            feed(journal, one, told[20:80], begin=20)
            assert journal.health(received(80)).state == "gone"
            assert journal.health(received(80)).dropped == 60
        assert "goes on without a journal" in caplog.text
        shutil.copytree(tmp_path, killed := tmp_path / "killed")
        feed(journal, one, told[80:], begin=80)
        assert journal.health(received(len(told))).state == "live"
        assert "written again, and whole: 80 messages" in caplog.text
    with Journal(killed, before := matcher()) as journal:  # a kill within the gap: as it was before, and nothing is torn
        assert journal.replayed == 20
        assert "torn" not in caplog.text
        assert len(before.identities) > 0
    with Journal(tmp_path, again := matcher()):
        assert matcher_state(again) == matcher_state(unbroken()[0])


def test_a_gateway_without_room_for_a_journal_does_not_start(tmp_path):
    with no_file_above(100), pytest.raises(OSError, match=r"cannot write .*segment"):
        Journal(tmp_path, matcher())


def test_a_disk_that_takes_writes_and_does_not_keep_them_is_told_and_the_next_segment_is_whole(tmp_path, monkeypatch, caplog):
    told, broken = messages()[:40], threading.Event()
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if broken.is_set():
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    with Journal(tmp_path, one := matcher(), sync_every=0.01, retry_after=0.3) as journal:
        monkeypatch.setattr(os, "fsync", fsync)
        broken.set()
        feed(journal, one, told[:10])
        until(lambda: "does not get on the disk" in caplog.text)
        feed(journal, one, told[10:30], begin=10)
        assert journal.health(received(30)).state == "gone"
        broken.clear()
        feed(journal, one, told[30:], begin=30)
        until(lambda: journal.health(received(40)).state == "live")
    with Journal(tmp_path, again := matcher()):
        assert matcher_state(again) == matcher_state(one)


def test_a_disk_that_lags_is_told(tmp_path, monkeypatch):
    slow = threading.Event()
    with Journal(tmp_path, one := matcher(), sync_every=0.01) as journal:
        monkeypatch.setattr(os, "fsync", lambda descriptor: slow.wait(30))
        feed(journal, one, messages()[:10])
        assert journal.health(received(9) + 1.0).state == "stalled"
        slow.set()
        until(lambda: journal.health(received(9) + 1.0).state == "live")


def test_a_segment_ends_when_it_is_large(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "LARGEST_SEGMENT", 20_000)
    with Journal(tmp_path, one := matcher(), new_segment_after=1e6) as journal:
        for number, message in enumerate(messages()):
            feed(journal, one, [message], begin=number)
            assert journal.segments()[0].stat().st_size < 21_000 + 500
        assert int(journal.segments()[0].stem[-8:]) > 3
