"""What may be trained on without labels: tables that do not say who is seen, and folders of images alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_reid.datamodules.readers.folders import StrPath, unlabeled_notes
from lightning_reid.datamodules.readers.image_files import IMAGE_SUFFIXES, image_files
from lightning_reid.records import JUNK_PID, ImageRecord, ReIDDataset

logger = logging.getLogger(__name__)

ONE_CAMERA = 0
"""The camera of images of which nobody says where they were taken."""
NO_CAMERA = "no camera is told: all images count as of one, so that nothing is mined between cameras"
WAY_ON = (
    "who they show is not known: adapt a network to them (UnlabeledDataModule of recipes/buc_market.py, the target of"
    " CrossDomainDataModule of recipes/hsr_duke2market.py), or tell who is seen where (lightning-reid convert)"
)
"""What can be done with images without labels, for messages."""


def with_labels_unknown(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Rows of a table with what they do not tell: to train on, of somebody unknown (-1), in one camera.

    A query or a gallery row must tell whom it shows: an empty ``pid`` stays, for its reader to refuse.
    """
    filled: list[tuple[str, Mapping[str, Any]]] = []
    for where, row in rows:
        told = {"split": "train", "camid": ONE_CAMERA, "pid": "", **row}
        if told["split"] == "train" and told["pid"] in (None, ""):
            told["pid"] = JUNK_PID
        filled.append((where, told))
    return filled


def read_unlabeled_folder(root: StrPath, name: str | None = None) -> ReIDDataset:
    """Read a folder of images, at any depth, as training images of somebody unknown (pid -1), all of one camera; names are not read.

    Args:
        root: The folder.
        name: Domain of the records; the folder's own name when ``None``.

    Raises:
        FileNotFoundError: There is no such folder, or it holds no image.
        NotADirectoryError: It is a file.
    """
    folder = Path(root).expanduser()
    names = image_files(folder)
    if not names:
        raise FileNotFoundError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}) to adapt to")
    domain = name or folder.resolve().name
    train = tuple(ImageRecord(os.path.join(folder, one), JUNK_PID, ONE_CAMERA, domain) for one in names)  # noqa: PTH118
    logger.warning("%s: %s", folder, NO_CAMERA)
    return ReIDDataset(domain, train, notes=(NO_CAMERA, *unlabeled_notes(train)))
