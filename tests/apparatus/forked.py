"""Processes forked from a test, where everything is imported: to be killed without a word, or to live beside it."""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Callable
from typing import Any

import cv2
import torch
from threadpoolctl import threadpool_limits

FORKED = multiprocessing.get_context("fork")


def forked(function: Callable[..., Any], *arguments: Any) -> Any:
    """A process that is in this function, started; it ends with the test run at the latest."""
    process = FORKED.Process(target=_call, args=(function, arguments), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads: see below
        process.start()
    return process


def without_threads() -> None:
    """Pools of threads do not survive a fork, and a child that gives one of them work waits for ever."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    threadpool_limits(1)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    without_threads()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is the parent's
    function(*arguments)
