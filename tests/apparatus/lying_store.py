"""A file system that gives wrong bytes as often as it is told to, as a damaged copy in a store does."""

from __future__ import annotations

from typing import ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem


class LyingFileSystem(LocalFileSystem):
    """Local files under ``lying://``, whose ranges and whole reads are wrong some times, or that are not answered.

    Attributes:
        wrong_ranges: How many further ranges come with flipped bits.
        wrong_wholes: How many further whole objects do.
        failures: How many further questions are not answered.
        asked: Ranges and whole objects that were asked for.
    """

    protocol = "lying"
    wrong_ranges: ClassVar[int] = 0
    wrong_wholes: ClassVar[int] = 0
    failures: ClassVar[int] = 0
    asked: ClassVar[list[str]] = []

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("lying://"))

    def _answer(self, kind: str, content: bytes) -> bytes:
        type(self).asked.append(kind)
        if type(self).failures > 0:
            type(self).failures -= 1
            raise ConnectionError("the wire was cut")
        left = getattr(type(self), f"wrong_{kind}s")
        if left <= 0:
            return content
        setattr(type(self), f"wrong_{kind}s", left - 1)
        return bytes(byte ^ 1 for byte in content)

    def cat_file(self, path, start=None, end=None, **kwargs):
        content = super().cat_file(path, start=start, end=end, **kwargs)
        return self._answer("whole" if start is None else "range", content)

    @classmethod
    def honest(cls) -> None:
        """Begin anew."""
        cls.wrong_ranges = cls.wrong_wholes = cls.failures = 0
        cls.asked = []


fsspec.register_implementation("lying", LyingFileSystem, clobber=True)
