"""The file that embeddings end in: ``.npz`` with a row and a path for each image, written part by part."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple
from zipfile import ZipFile

import numpy as np

from lightning_reid.files import write_atomically
from lightning_reid.inference.embedding import EmbeddedImages

_PATHS_AT_A_TIME = 4096


class WrittenEmbeddings(NamedTuple):
    """What a file of embeddings holds.

    Attributes:
        number: Rows.
        dimension: Numbers of a row.
    """

    number: int
    dimension: int


def write_embeddings(path: Path, images: EmbeddedImages) -> None:
    """Write ``embeddings`` (float32 ``[N, D]``) and ``paths`` (unicode ``[N]``) as ``.npz``, to be loaded with ``allow_pickle=False``.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from lightning_reid.inference import EmbeddedImages, write_embeddings
        >>> write_embeddings(folder / "crops.npz", EmbeddedImages(("a.jpg", "b.jpg"), torch.eye(2)))
        >>> content = np.load(folder / "crops.npz", allow_pickle=False)
        >>> content["paths"].tolist(), content["embeddings"].shape
        (['a.jpg', 'b.jpg'], (2, 2))
    """
    write_embedding_parts(path, [images])


def write_embedding_parts(path: Path, parts: Iterable[EmbeddedImages]) -> WrittenEmbeddings:
    """Write the file of ``write_embeddings`` from parts, of which one is held at a time, and the paths of all.

    The disk must hold the embeddings twice for a moment.

    Args:
        path: An ``.npz`` file; what is there is replaced in one step.
        parts: Images with embeddings of one length, as ``EmbeddingPass.stream`` yields them.

    Raises:
        OSError: The folder cannot be written to, or the disk is full.
        ValueError: There is no part, or they are of different lengths.

    Example:
        >>> import torch
        >>> from lightning_reid.inference import EmbeddedImages, write_embedding_parts
        >>> parts = (EmbeddedImages((name,), torch.eye(2)[:1]) for name in ("a.jpg", "b.jpg", "c.jpg"))
        >>> write_embedding_parts(folder / "parts.npz", parts)
        WrittenEmbeddings(number=3, dimension=2)
    """
    found: WrittenEmbeddings | None = None

    def write(draft: Path) -> None:
        nonlocal found
        paths, dimensions = list[str](), set[int]()
        with TemporaryFile(dir=draft.parent) as rows, ZipFile(draft, "w") as archive:
            for part in parts:
                rows.write(part.embeddings.contiguous().numpy().astype("<f4", copy=False).data)
                paths += part.paths
                dimensions.add(part.embeddings.shape[1])
            if len(dimensions) != 1:
                raise ValueError(f"expected embeddings of one length for {path}, got {sorted(dimensions) or 'none'}")
            found = WrittenEmbeddings(len(paths), dimensions.pop())
            rows.seek(0)
            with archive.open("embeddings.npy", "w", force_zip64=True) as entry:
                _write_heading(entry, "<f4", found)
                shutil.copyfileobj(rows, entry, 2**20)
            with archive.open("paths.npy", "w", force_zip64=True) as entry:
                kind = f"<U{max(1, *map(len, paths))}"
                _write_heading(entry, kind, (len(paths),))
                for start in range(0, len(paths), _PATHS_AT_A_TIME):
                    entry.write(np.array(paths[start : start + _PATHS_AT_A_TIME], kind).data)

    write_atomically(path, write)
    assert found is not None
    return found


def _write_heading(entry: IO[bytes], kind: str, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(entry, {"descr": kind, "fortran_order": False, "shape": tuple(shape)})
