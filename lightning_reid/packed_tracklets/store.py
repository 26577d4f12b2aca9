"""A folder of packed tracklets, each named for the content of the frames that it was made from."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

from torch import Tensor

from lightning_reid.files import remove_partial_files
from lightning_reid.packed_tracklets.reading import PackedTracklet


class TrackletStore:
    """Packed tracklets by the digests of what they were made from: changed frames are packed anew, and identical ones once.

    Args:
        folder: Of the files; made with the first of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where the tracklet whose frames have this digest is, or would be."""
        return self.folder / f"{digest}.safetensors"

    def clean(self) -> None:
        """Remove what killed processes left half written."""
        remove_partial_files(self.folder)

    def absent(self, digests: Iterable[str]) -> list[Path]:
        """Where the tracklets would be that are not stored."""
        return [self.path(digest) for digest in digests if not self.path(digest).is_file()]

    def frames(self, digest: str) -> Tensor:
        """All frames of a stored tracklet, ``[F, 3, H, W]`` uint8 RGB."""
        packed = PackedTracklet(self.path(digest))
        return packed.read(range(packed.num_frames))[0]

    def require_room(self, num_bytes: int, what: str, otherwise: str) -> None:
        """Check, before hours of work, that so much fits on the disk.

        Args:
            num_bytes: That are needed.
            what: Takes them, for the message.
            otherwise: What else can be done than to free the disk, for the message.

        Raises:
            OSError: They do not fit; nothing was written.
        """
        existing = next(folder for folder in (self.folder, *self.folder.absolute().parents) if folder.exists())
        free = shutil.disk_usage(existing).free
        if num_bytes > free:
            raise OSError(
                errno.ENOSPC,
                f"{what} takes about {num_bytes:,} bytes, {existing} has {free:,} free; nothing was written. Free the disk, {otherwise}",
            )


def content_digest(paths: Sequence[str], digest_bytes: int) -> str:
    """A digest of the bytes of a tracklet's image files, in their order, as hexadecimal digits.

    Args:
        paths: Files; each is preceded by its length, so that bytes cannot move from one file to the next unseen.
        digest_bytes: Length of the digest, half of its number of digits.

    Raises:
        OSError: A file cannot be read.
    """
    digest = blake2b(digest_size=digest_bytes)
    for path in paths:
        content = Path(path).read_bytes()
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()
