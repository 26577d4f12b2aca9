"""From the address of a packed frame to its pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.datamodules.blocks.addresses import rows_of, set_of
from lightning_reid.datamodules.blocks.reader import BlockReader
from lightning_reid.datamodules.decoding import CorruptImageError, decoded_content
from lightning_reid.datamodules.loading import load_image
from lightning_reid.records import PACKED, PictureSource, Splits

_WAY_ON = "It was packed so: pack the set again without it"


class BlockPictures:
    """Loads frames of a packed set, in the place of ``load_image``.

    Args:
        reader: Of their bytes.
    """

    def __init__(self, reader: BlockReader) -> None:
        self.reader = reader
        self._fetched: dict[str, bytes] = {}

    @override
    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_fetched": {}}

    def __call__(self, path: str) -> Tensor:
        """The pixels of a frame, ``[3, H, W]`` uint8 RGB.

        Raises:
            CorruptBlockError: Its bytes are not those that were packed.
            CorruptImageError: They are no image.
        """
        content = self._fetched.pop(path, None)
        if content is None:
            try:
                content = self.reader.frames(rows_of(self.reader.index, [path]))[0]
            except ValueError as error:
                raise CorruptImageError(str(error)) from error
        return torch.from_numpy(decoded_content(content, path, way_on=_WAY_ON)).permute(2, 0, 1).contiguous()

    def fetch(self, paths: Iterable[str]) -> None:
        """Read frames that are asked for next, with neighbors in one request, but for those that were read and not asked for yet.

        Where none of them was, another batch begins: what is left of the one before goes.
        """
        told = list(dict.fromkeys(paths))
        missing = [path for path in told if path not in self._fetched]
        if len(missing) == len(told):
            self._fetched = {}
        if missing:
            self._fetched |= dict(zip(missing, self.reader.frames(rows_of(self.reader.index, missing)), strict=True))


class PicturesOfSeveral:
    """Loads pictures of several data sets, packed ones among them.

    Args:
        packed: By the names of their sets.
    """

    def __init__(self, packed: Mapping[str, PictureSource]) -> None:
        self.packed = dict(packed)

    def __call__(self, path: str) -> Tensor:
        """The picture of a file, or of a packed frame; errors as of what loads it."""
        source = self._source(path)
        return load_image(path) if source is None else source(path)

    def fetch(self, paths: Iterable[str]) -> None:
        """Read packed frames that are asked for next, each set's together."""
        by_set: dict[str, list[str]] = {}
        for path in paths:
            if path.startswith(PACKED):
                by_set.setdefault(set_of(path), []).append(path)
        for name, some in by_set.items():
            self.packed[name].fetch(some)

    def _source(self, path: str) -> PictureSource | None:
        return self.packed[set_of(path)] if path.startswith(PACKED) else None


def of_several(datasets: Iterable[Splits[Any]]) -> PictureSource | None:
    """What loads the pictures of several data sets together; ``None`` where all are files.

    Raises:
        ValueError: Two packed sets bear one name.
    """
    packed: dict[str, PictureSource] = {}
    for dataset in datasets:
        if dataset.pictures is not None:
            if dataset.name in packed:
                raise ValueError(f"two packed sets are called {dataset.name}: pack one of them from a folder of another name")
            packed[dataset.name] = dataset.pictures
    return PicturesOfSeveral(packed) if packed else None
