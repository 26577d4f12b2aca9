"""How loaders start their workers: light, whatever the platform's way of starting processes."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import torch
import torch.multiprocessing
from torch.utils.data import DataLoader
from typing_extensions import override


class LightLoader(DataLoader[Any]):
    """A ``DataLoader`` whose workers import what they decode and augment with, and not the program that trains.

    Where processes are spawned (macOS, Windows, Python 3.14 everywhere) a worker begins by importing the main script: seconds of
    Lightning, timm and scikit-learn for each, of which it uses nothing. Items and their collation come from modules of their own, so
    the script is hidden from the workers while they start, unless one of these was defined in it.
    """

    @override
    def __iter__(self) -> Any:
        with main_script_hidden(self.dataset, self.collate_fn, self.worker_init_fn):
            return super().__iter__()


@contextmanager
def main_script_hidden(*sent: Any) -> Iterator[None]:
    """Start processes without the main script, where nothing that they are ``sent`` was defined in it."""
    main = sys.modules["__main__"]
    if torch.multiprocessing.get_start_method() == "fork" or b"__main__" in pickle.dumps(sent):
        yield
        return
    names: dict[str, Any] = main.__dict__
    hidden: dict[str, Any] = {name: names.pop(name) for name in ("__file__", "__spec__") if name in names}
    main.__spec__ = None
    try:
        yield
    finally:
        names.update(hidden)


def one_thread(worker: int) -> None:
    """Begin a worker: decoding is parallel by workers, and a forked OpenCV must not wait for the threads of its parent.

    Given by name it also keeps a Trainer from sending a function of Lightning's, which a spawned worker would have to import.
    """
    cv2.setNumThreads(0)


def private_draws() -> dict[str, Any]:
    """Options of a loader: it draws its workers' seeds from a generator of its own, so that the global one does not depend on loaders."""
    return {"generator": torch.Generator().manual_seed(0), "worker_init_fn": one_thread}
