"""The pair of processes that tests of DDP share: what it answers, and how a failure and a hang in it look and end."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.utilities import rank_zero_only

FORKED = multiprocessing.get_context("fork")


def told(number: int) -> tuple[int, int, list[float]]:
    total = torch.tensor([float(dist.get_rank() + number)])
    dist.all_reduce(total)
    return os.getpid(), dist.get_rank(), total.tolist()


def state_after(change: bool) -> tuple:
    found = (
        os.environ.get("PL_GLOBAL_SEED"),
        os.environ.get("WORLD_SIZE"),
        rank_zero_only.rank,
        torch.rand(1).item(),
        torch.get_num_threads(),
    )
    if change:
        pl.seed_everything(dist.get_rank() + 5, verbose=False)
        del os.environ["WORLD_SIZE"]
        rank_zero_only.rank = 7
        torch.set_num_threads(2)
        dist.destroy_process_group()
    return found


def one_breaks(rank: int) -> None:
    sys.stdout.write(f"rank {dist.get_rank()} was here\n")
    if dist.get_rank() == rank:
        raise KeyError(f"of rank {rank}")
    dist.barrier()


def one_leaves(rank: int) -> None:
    if dist.get_rank() == rank:
        os._exit(3)
    dist.barrier()


def one_sleeps(rank: int) -> None:
    if dist.get_rank() == rank:
        time.sleep(60)
    dist.barrier()


def is_there(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"  # ended, and nobody has asked how
    except FileNotFoundError:
        return False


def are_gone(process_ids: list[int]) -> bool:
    return len(process_ids) == 2 and not any(map(is_there, process_ids))


def killed_with_a_pair(pair, pipe) -> None:
    pair(told, 0)
    pipe.send(pair.process_ids)
    os.kill(os.getpid(), signal.SIGKILL)


def test_one_pair_answers_all_calls(two_processes):
    first, second = two_processes(told, 3), two_processes(told, 4)
    assert [answer[1:] for answer in first] == [(0, [7.0]), (1, [7.0])]
    assert [answer[1:] for answer in second] == [(0, [9.0]), (1, [9.0])]
    assert [answer[0] for answer in first] == [answer[0] for answer in second] == two_processes.process_ids


def test_a_call_finds_nothing_of_what_the_one_before_changed(two_processes):
    before = two_processes(state_after, True)
    assert two_processes(state_after, False) == before
    assert [state[1:3] for state in before] == [("2", 0), ("2", 1)]
    assert two_processes(told, 1)[0][1:] == (0, [3.0]), "the group that was destroyed is there again"


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_in_one_process_is_raised_with_what_both_say_and_the_next_call_has_another_pair(two_processes, rank):
    two_processes(told, 0)
    broken = two_processes.process_ids
    with pytest.raises(AssertionError, match="one_breaks failed in 2 processes") as failure:
        two_processes(one_breaks, rank)
    sides = re.split(r"^rank [01] raised$", str(failure.value), flags=re.MULTILINE)
    assert f"KeyError: 'of rank {rank}'" in sides[1 + rank]
    assert "in one_breaks\n    dist.barrier()" in sides[2 - rank], "the other one is told of, not waited for"
    assert all(f"rank {number} was here" in side for number, side in enumerate(sides[1:]))
    assert are_gone(broken)
    assert two_processes(told, 0)[1][1:] == (1, [1.0])


def test_a_process_that_dies_is_told_by_its_exit_code(two_processes):
    with pytest.raises(AssertionError, match="rank 1 died with exit code 3"):
        two_processes(one_leaves, 1)


def test_a_hang_ends_in_time_and_shows_where_both_stood(two_processes):
    two_processes(told, 0)
    hanging, started = two_processes.process_ids, time.monotonic()
    with pytest.raises(AssertionError) as failure:
        two_processes(one_sleeps, 1, timeout=1.5)
    assert time.monotonic() - started < 10
    first, second = str(failure.value).split("rank 1 did not end in 1.5 s")
    assert "rank 0 did not end in 1.5 s" in first
    assert "in barrier" in first
    assert re.search(r'test_two_processes.py", line \d+ in one_sleeps', second)
    assert are_gone(hanging)


def test_the_pair_ends_when_it_is_told_to(two_processes):
    pair = type(two_processes)()
    pair(told, 0)
    process_ids, folder = pair.process_ids, Path(pair._folder.name)
    assert folder.is_dir()
    pair.end()
    assert are_gone(process_ids)
    assert not folder.exists()
    pair.end()


def test_the_pair_of_a_killed_process_ends_by_itself(two_processes, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # nobody is left to remove the pair's folder
    ours, theirs = FORKED.Pipe()
    killed = FORKED.Process(target=killed_with_a_pair, args=(type(two_processes)(), theirs))
    killed.start()
    process_ids = ours.recv()
    killed.join()
    until = time.monotonic() + 10
    while not are_gone(process_ids) and time.monotonic() < until:
        time.sleep(0.02)
    assert are_gone(process_ids)


def test_a_function_that_the_other_processes_do_not_know_is_refused_at_once(two_processes):
    with pytest.raises((AttributeError, TypeError), match="local"):
        two_processes(lambda: 0)
