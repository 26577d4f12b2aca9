"""The user's own tracklets as a table with one row a frame: CSV, or Parquet with the ``parquet`` extra."""

from __future__ import annotations

from pathlib import Path

from lightning_reid.datamodules.readers.folders import StrPath, require_files, require_identified, unlabeled_notes
from lightning_reid.datamodules.readers.ids import id_text
from lightning_reid.datamodules.readers.table import SPLITS, image_records, require_apart, require_splits, require_table, table_rows
from lightning_reid.datamodules.readers.tracklet_gallery import gallery_note
from lightning_reid.records import IdNames, ImageRecord, TrackletDataset, TrackletRecord

Tracklets = dict[str, list[ImageRecord]]
"""Frames by the name of their tracklet, of one split."""


def read_tracklet_table(
    path: StrPath, name: str | None = None, *, needs_train: bool = True, needs_test: bool = True, allow_paths_outside: bool = False
) -> TrackletDataset:
    """Read a table with one row a frame; tracklets come in the order of their first rows.

    Columns: ``path`` (relative ones start at the table's folder), ``pid`` and ``camid`` (numbers or text, as in ``read_table``),
    ``tracklet`` (any text or number, another one for each tracklet of a split), ``split`` (``train``, ``query``, ``gallery`` or ``val``),
    optionally ``frame`` and ``domain``; others are left alone. Frames are ordered by ``frame`` where their tracklet has it, otherwise they
    stay in the order of their rows. For a query to be in the gallery too, as the protocol ``mars`` has it, its rows stand there again with
    split ``gallery``.

    Args:
        path: See ``read_table``.
        name: Name of the data set, and domain of rows that tell none; the file's name without suffix when ``None``.
        needs_train: Whether there must be training tracklets.
        needs_test: Whether there must be query and gallery tracklets.
        allow_paths_outside: Whether paths may lead out of the table's folder, absolute ones or by ``..``.

    Raises:
        FileNotFoundError: The table or a listed image is missing.
        ImportError: Parquet is asked for without pyarrow.
        ValueError: A column is missing, a cell is not what it should be (the line is named), an image leads out of the table's
            folder or is listed twice in one split, a tracklet has several people, cameras or domains, tells ``frame`` in some of its rows
            only or one frame twice, a needed split is empty, or a query shows nobody.

    Example:
        >>> from PIL import Image
        >>> from lightning_reid.datamodules.readers import read_tracklet_table
        >>> with (folder / "walk.csv").open("w") as file:
        ...     print("path,pid,camid,tracklet,split", file=file)
        ...     for name in ("a.png", "b.png"):
        ...         Image.new("RGB", (32, 64)).save(folder / name)
        ...         print(f"{name},7,2,t1,train", file=file)
        >>> (record,) = read_tracklet_table(folder / "walk.csv", needs_test=False).train
        >>> record.pid, record.camid, len(record.paths)
        (7, 2, 2)
    """
    table = Path(path).expanduser()
    require_table(table, "tracklet")
    domain = name or table.stem
    splits, notes, names = _tracklets_of_splits(table, domain, outside=allow_paths_outside)
    train, query, gallery, val = (
        tuple(_tracklet(f"{table}: tracklet {tracklet!r} of split {split!r}", images) for tracklet, images in splits[split].items())
        for split in SPLITS
    )
    require_splits(table, splits, needs_train=needs_train, needs_test=needs_test)
    require_files((image.path for tracklets in splits.values() for images in tracklets.values() for image in images), str(table))
    require_identified(query)
    require_apart(table, val, train=train, query=query, gallery=gallery)
    notes += ((gallery_note(query, gallery),) if query else ()) + unlabeled_notes(train)
    return TrackletDataset(domain, train, query, gallery, notes, val, names=names)


def _tracklets_of_splits(table: Path, domain: str, *, outside: bool) -> tuple[dict[str, Tracklets], tuple[str, ...], IdNames]:
    splits: dict[str, Tracklets] = {split: {} for split in SPLITS}
    listed: set[tuple[str, str]] = set()
    rows = list(table_rows(table, "tracklet"))
    records, notes, names = image_records(table, rows, domain, outside=outside)
    for (_, row), (where, split, image) in zip(rows, records, strict=True):
        if (split, image.path) in listed:
            raise ValueError(f"{where}: {image.path} is listed a second time for split {split!r}: take one of the rows out")
        listed.add((split, image.path))
        if row.get("tracklet") in (None, ""):
            raise ValueError(f"{where}: there is no cell of column 'tracklet'; it must name the tracklet that the frame belongs to")
        images = splits[split].setdefault(id_text("tracklet", where, row["tracklet"]), [])
        images.append(image)
        first = images[0]
        if (image.pid, image.camid, image.domain) != (first.pid, first.camid, first.domain):
            raise ValueError(
                f"{where}: tracklet {row['tracklet']!r} of split {split!r} began with pid {first.pid}, camid {first.camid}, domain "
                f"{first.domain!r}, this row has {image.pid}, {image.camid}, {image.domain!r}; give each tracklet of a split its own name"
            )
    return splits, notes, names


def _tracklet(where: str, images: list[ImageRecord]) -> TrackletRecord:
    frames = [image.frame for image in images if image.frame != -1]
    if frames and len(frames) < len(images):
        raise ValueError(f"{where} tells 'frame' in {len(frames)} of its {len(images)} rows; fill the column in all of them or in none")
    if len(set(frames)) < len(frames):
        twice = next(frame for frame in frames if frames.count(frame) > 1)
        raise ValueError(f"{where} has frame {twice} more than once; one person has one box in one frame of a camera")
    first, *_ = ordered = sorted(images, key=lambda image: image.frame)  # stable: without frames the rows keep their order
    return TrackletRecord(tuple(image.path for image in ordered), first.pid, first.camid, first.domain, first.frame)
