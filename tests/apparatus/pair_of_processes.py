"""One pair of gloo processes that serves a whole test run: forked once, where everything is imported, and asked over pipes."""

from __future__ import annotations

import faulthandler
import logging
import os
import pickle
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from forked import FORKED, without_threads
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.seed import isolate_rng

TIMEOUT = 120.0
LAST_WORDS = 1.0
"""Seconds that a process which ran out of time has for the trace of where it stands."""
GRACE = 10.0
"""Seconds that one process may go on after the other failed: it may fail of the same, or of the other's absence in a collective."""


@contextmanager
def undone() -> Iterator[None]:
    """What runs inside starts with fixed generators and one thread, and what it changes for its whole process is set back."""
    loggers = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    levels, rank, threads = [logger.level for logger in loggers], rank_zero_only.rank, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with isolate_rng(include_cuda=False), mock.patch.dict(os.environ), warnings.catch_warnings():
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002  a call is not to depend on what ran before it
            torch.manual_seed(0)
            yield
    finally:
        torch.set_num_threads(threads)
        rank_zero_only.rank = rank
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def serve(rank: int, size: int, pipe: Connection, folder: Path) -> None:
    """What a child does: one call after the other, until the pipe is closed or a call fails."""
    log = (folder / f"rank-{rank}.txt").open("wb", buffering=0)
    for stream in (1, 2):
        os.dup2(log.fileno(), stream)
    sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
    logging.root.handlers.clear()  # pytest's, which would keep every record
    faulthandler.enable(log)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches both: it is the parent that ends them
    without_threads()
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1"}
    rank_zero_only.rank = rank
    for number in range(sys.maxsize):
        try:
            call, timeout = pipe.recv()
        except EOFError:
            return
        log.seek(0)
        log.truncate()
        faulthandler.dump_traceback_later(timeout, file=log)
        signal.alarm(int(timeout + GRACE) + 1)  # kills a child that hangs and whose parent is gone
        try:
            if not dist.is_initialized():  # Lightning takes the group that is there, and leaves it
                meeting = {"init_method": f"file://{folder}/meeting-{number}", "timeout": timedelta(seconds=timeout + GRACE)}
                dist.init_process_group("gloo", rank=rank, world_size=size, **meeting)
            with undone():
                function, arguments = pickle.loads(call)
                result = pickle.dumps(function(*arguments))
        except BaseException:  # whatever ends a call is told, a SystemExit too
            pipe.send((False, traceback.format_exc()))
            return  # what the other waits for will never come: the closed connection ends its waiting
        finally:
            faulthandler.cancel_dump_traceback_later()
            signal.alarm(0)
        pipe.send((True, result))


class PairOfProcesses:
    """``pair(function, *arguments)``: what the function returns in each of two processes of one gloo group, ``[rank 0's, rank 1's]``.

    To Lightning they are processes that somebody else started: ``Trainer(accelerator="cpu", devices=2, strategy="ddp")`` trains in both.
    ``size`` makes them more than two, or one.
    The function is of a module's top level, and that module was imported before the first call, as test modules are. Arguments and results
    are pickled. A call that fails in one process, or does not end in time, ends both, and the next one forks others.
    """

    def __init__(self, size: int = 2) -> None:
        self.size = size
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []

    def __call__(self, function: Callable[..., Any], *arguments: Any, timeout: float = TIMEOUT) -> list[Any]:
        """Call it in both, and wait for both.

        Raises:
            AssertionError: It raised in one process, or took more than ``timeout`` seconds; with what is known of both.
            AttributeError: The function is not of a module's top level.
        """
        __tracebackhide__ = True
        call = pickle.dumps((function, arguments))
        if not self._processes:
            self._fork()
        answers: list[tuple[bool, Any]] = []
        try:
            for pipe in self._pipes:
                pipe.send((call, timeout))
            answers = self._answers(timeout)
            if all(worked for worked, _ in answers):
                return [pickle.loads(result) for _, result in answers]
            told = [f"rank {rank} {'returned' if worked else text}{self._said(rank)}" for rank, (worked, text) in enumerate(answers)]
        finally:
            if not answers or not all(worked for worked, _ in answers):  # ctrl-C while waiting, too
                self.end(kill=True)
        raise AssertionError(f"{function.__qualname__} failed in {self.size} processes\n" + "\n".join(told))

    @property
    def process_ids(self) -> list[int]:
        """Of the children, none where there are none."""
        return [process.pid for process in self._processes]

    def _fork(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pair-of-processes-")
        for rank in range(self.size):
            ours, theirs = FORKED.Pipe()
            process = FORKED.Process(target=self._child, args=(rank, theirs, [*self._pipes, ours]))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads: see serve
                process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

    def _child(self, rank: int, pipe: Connection, inherited: list[Connection]) -> None:
        for other in inherited:
            other.close()  # while a child holds the parent's end of a pipe, nobody sees it closed
        serve(rank, self.size, pipe, Path(self._folder.name))

    def _answers(self, timeout: float) -> list[tuple[bool, Any]]:
        answers: list[tuple[bool, Any]] = [(False, f"did not end in {timeout:g} s")] * self.size
        waiting, deadline = {pipe: rank for rank, pipe in enumerate(self._pipes)}, time.monotonic() + timeout + LAST_WORDS
        while waiting and (ready := wait(list(waiting), max(0, deadline - time.monotonic()))):
            for pipe in ready:
                rank = waiting.pop(pipe)
                try:
                    worked, said = pipe.recv()
                except (EOFError, ConnectionResetError):
                    self._processes[rank].join(GRACE)
                    worked, said = False, f"died with exit code {self._processes[rank].exitcode}"
                answers[rank] = worked, said if worked or said.startswith("died") else f"raised\n{said}"
                if not worked and waiting:
                    deadline = min(deadline, time.monotonic() + GRACE)
                    for other in waiting.values():
                        answers[other] = False, f"was still at work {GRACE:g} s after another failed"
        return answers

    def _said(self, rank: int) -> str:
        said = (Path(self._folder.name) / f"rank-{rank}.txt").read_text(errors="replace")
        said = said.split(f'  File "{__file__}"')[0].strip()  # below stand the frames of pytest, which forked
        return f"\non its terminal:\n{said[-3000:]}\n" if said else "\n"

    def end(self, kill: bool = False) -> None:
        """Close the pipes, and wait for the children to end by themselves, unless they are to be killed."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(0 if kill else GRACE)
            process.kill()
            process.join()
            process.close()
        if self._processes:
            self._folder.cleanup()
        self._processes, self._pipes = [], []
