"""Variables of MATLAB files of version 5 to 7.2, by the published format; a damaged file ends SciPy's reader and the process with it."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_reid.regular_files import read_regular

MOST_BYTES = 2**26
"""That the compressed variables of a file unfold to: MARS has 0.4 MB, GRID 28 MB of features; a file of 64 kB may unfold to as much."""
MOST_ELEMENTS = 2**16
"""Within one another, of 8 bytes at least: each becomes objects of some hundred."""
_HEADER = 128
_ENDS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
"""Version and byte order, as the header ends."""
_VERSION_73 = (b"\x00\x02IM", b"\x02\x00MI")
_INT32, _UINT32, _MATRIX, _COMPRESSED = 5, 6, 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""How the numbers of an element are stored."""
_CELL, _STRUCT = 1, 2
_OTHERS = {3: "object", 4: "text", 5: "sparse matrix"}
_NUMERIC = range(6, 16)
_FLOATS, _LONG_INTEGERS = (6, 7), (14, 15)
_COMPLEX = 0x0800

Element = tuple[int, memoryview]
"""Its type, and its content."""


class Unread(NamedTuple):
    """A variable of a kind that is passed over.

    Attributes:
        kind: In words.
    """

    kind: str


Value = npt.NDArray[Any] | list[Any] | Unread
"""Numbers in the shape MATLAB gives them; values of the cells, column by column; of structures a dict of values by field each."""


def read_variable(path: Path, variable: str) -> Value:
    """A variable of numbers, cells or structures.

    Every size that the file tells is compared with the bytes that are there, and every type with those that there are, before anything is
    made of them.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged, of another version, unfolds to more than ``MOST_BYTES``, has more than ``MOST_ELEMENTS`` within one, or
            has no such variable; the message names it.
    """
    content = memoryview(read_regular(path))
    try:
        order = _byte_order(content)
        names, left = [], MOST_BYTES
        for element in list(_elements(content[_HEADER:], order)):
            unfolded = _unfolded(element, order, left)
            left -= len(unfolded[1]) if element[0] == _COMPRESSED else 0
            name, parts = _opened(unfolded, order)
            if name == variable:
                return _value(parts, order)
            names.append(name)
    except (ValueError, zlib.error, RecursionError) as error:
        raise ValueError(f"{path} is no whole MATLAB file of version 5 to 7.2 ({error}); fetch it again, or save it with -v7") from error
    raise ValueError(f"{path} has no variable {variable}, only {', '.join(names) or 'none'}")


def _byte_order(content: memoryview) -> str:
    end = bytes(content[_HEADER - 4 : _HEADER])
    if end in _VERSION_73:
        raise ValueError("it is of version 7.3")
    if end not in _ENDS:
        raise ValueError("its header is none")
    return _ENDS[end]


def _elements(content: memoryview, order: str) -> Iterator[Element]:
    place = number = 0
    while place < len(content):
        number += 1
        if number > MOST_ELEMENTS:
            raise ValueError(f"it has more than {MOST_ELEMENTS:,} elements in one")
        if len(content) - place < 8:
            raise ValueError("it is cut short")
        kind, size = struct.unpack_from(f"{order}II", content, place)
        begin = place + 8
        if kind >> 16:  # a small element: type, size and up to four bytes in eight
            kind, size, begin = kind & 0xFFFF, kind >> 16, place + 4
        if begin + size > (place + 8 if begin == place + 4 else len(content)):
            raise ValueError(f"an element of {size:,} bytes does not fit in")
        yield kind, content[begin : begin + size]
        place = begin + size
        place += 0 if kind == _COMPRESSED else -place % 8


def _unfolded(element: Element, order: str, most: int) -> Element:
    kind, content = element
    if kind != _COMPRESSED:
        return element
    unfolding = zlib.decompressobj()
    unfolded = unfolding.decompress(content, most + 1)  # 0 would be no limit
    if len(unfolded) > most:
        raise ValueError(f"its variables unfold to more than {MOST_BYTES:,} bytes")
    if not unfolding.eof or unfolding.unused_data:
        raise ValueError("a compressed variable is cut short")
    inner = list(_elements(memoryview(unfolded), order))
    if len(inner) != 1:
        raise ValueError("a compressed part is not one variable")
    return inner[0]


def _opened(element: Element, order: str) -> tuple[str, list[Element]]:
    """The name of a variable, and its parts: flags, sizes, name, and what it holds."""
    kind, content = element
    if kind != _MATRIX:
        raise ValueError(f"there is an element of type {kind} where a variable was expected")
    parts = list(_elements(content, order))
    if not parts:  # MATLAB's empty matrix within cells and structures
        return "", parts
    kinds = [kind for kind, _ in parts[:2]]
    if len(parts) < 3 or kinds != [_UINT32, _INT32] or len(parts[0][1]) != 8 or len(parts[1][1]) % 4 or len(parts[1][1]) < 8:
        raise ValueError("a variable does not begin with its flags, sizes and name")
    return bytes(parts[2][1]).decode(), parts


def _value(parts: list[Element], order: str) -> Value:
    if not parts:
        return np.zeros((0, 0))
    flags = int(np.frombuffer(parts[0][1], f"{order}u4")[0])
    shape = np.frombuffer(parts[1][1], f"{order}i4").tolist()
    if min(shape) < 0:
        raise ValueError(f"a variable has the sizes {shape}")
    kind, held = flags & 0xFF, parts[3:]
    if kind in _NUMERIC:
        return Unread("complex matrix") if flags & _COMPLEX else _numbers(kind, held, shape, order)
    if kind == _CELL:
        return _values(held, math.prod(shape), order)
    if kind == _STRUCT:
        return _structures(held, math.prod(shape), order)
    if kind not in _OTHERS:
        raise ValueError(f"a variable is of the unknown kind {kind}")
    return Unread(_OTHERS[kind])


def _numbers(kind: int, held: list[Element], shape: list[int], order: str) -> npt.NDArray[Any]:
    if len(held) != 1 or held[0][0] not in _NUMBERS:
        raise ValueError("a matrix of numbers holds none")
    dtype = np.dtype(order + _NUMBERS[held[0][0]])
    if (dtype.kind == "f" and kind not in _FLOATS) or (dtype.kind != "f" and dtype.itemsize == 8 and kind not in _LONG_INTEGERS):
        raise ValueError(f"a matrix of kind {kind} is stored as {dtype.name}")  # smaller integers stand for any kind that holds them
    if len(held[0][1]) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"a matrix of {' x '.join(map(str, shape))} numbers has {len(held[0][1]):,} bytes of {dtype.name}")
    return np.frombuffer(held[0][1], dtype).reshape(shape, order="F")


def _values(held: list[Element], number: int, order: str) -> list[Value]:
    if len(held) != number:
        raise ValueError(f"{number} values were told, {len(held)} are there")
    return [_value(_opened(element, order)[1], order) for element in held]


def _structures(held: list[Element], number: int, order: str) -> list[dict[str, Value]]:
    """``number`` structures: the width of a field's name, the names, and the values, structure by structure."""
    if len(held) < 2 or held[0][0] != _INT32 or len(held[0][1]) != 4:
        raise ValueError("a structure does not begin with the names of its fields")
    width, names = int(np.frombuffer(held[0][1], f"{order}i4")[0]), bytes(held[1][1])
    if width < 1 or len(names) % width:
        raise ValueError("a structure has fields without names")
    fields = [names[place : place + width].split(b"\0")[0].decode() for place in range(0, len(names), width)]
    values = _values(held[2:], number * len(fields), order)
    return [dict(zip(fields, values[place * len(fields) :])) for place in range(number)]
