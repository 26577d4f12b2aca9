"""MATLAB files: what is read equals what SciPy wrote, and no damage ends the process or gives other numbers without a word."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from lightning_reid.datamodules.readers.matlab_file import Unread, read_variable
from lightning_reid.datamodules.readers.matlab_variable import read_integers

ROWS = np.arange(1, 41).reshape(10, 4)
LISTS = [{"a": [0], "name": "x", "train": np.arange(1, 6) + split} for split in range(3)]


def matlab(value, **options) -> bytes:
    file = io.BytesIO()
    savemat(file, {"before": np.eye(2), "told": value, "after": "words"}, **options)
    return file.getvalue()


def written(tmp_path, content: bytes):
    (tmp_path / "a.mat").write_bytes(content)
    return tmp_path / "a.mat"


def cells() -> np.ndarray:
    held = np.empty((1, 3), dtype=object)
    held[0, :] = LISTS
    return held


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"])
def test_numbers_of_every_type_are_those_that_were_written(tmp_path, dtype, compressed):
    path = written(tmp_path, matlab(ROWS.astype(dtype), do_compression=compressed))
    read = read_integers(path, "told")
    assert read.dtype == np.int64
    np.testing.assert_array_equal(read, ROWS)
    np.testing.assert_array_equal(read, loadmat(path)["told"])


@pytest.mark.parametrize("shape", [(1, 1), (0, 4), (2, 3, 4), (1, 2)])
def test_the_shape_is_that_of_matlab(tmp_path, shape):
    numbers = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(read_integers(written(tmp_path, matlab(numbers)), "told"), numbers)


def test_a_file_of_a_big_endian_machine_is_read(tmp_path):
    parts = (6, struct.pack(">II", 6, 0)), (5, struct.pack(">ii", 1, 3)), (1, b"told"), (3, struct.pack(">hhh", 7, -1, 300))
    matrix = element(">", 14, b"".join(element(">", *part) for part in parts))
    path = written(tmp_path, b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI" + matrix)
    np.testing.assert_array_equal(read_integers(path, "told"), [[7, -1, 300]])
    np.testing.assert_array_equal(loadmat(path)["told"], [[7, -1, 300]])


@pytest.mark.parametrize("compressed", [False, True])
def test_cells_of_structures_are_lists_of_their_fields(tmp_path, compressed):
    values = read_variable(written(tmp_path, matlab(cells(), do_compression=compressed)), "told")
    assert [[*one] for (one,) in values] == [["a", "name", "train"]] * 3
    for (read,), told in zip(values, LISTS, strict=True):
        np.testing.assert_array_equal(read["train"], [told["train"]])
        assert read["name"] == Unread("text")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("words", "got text"),
        (cells(), "got cells or structures"),
        (np.array([[1 + 0j]]), "got complex matrix"),
        (np.array([[1.0, 1.5, np.nan]]), r"got 1.5 at \(1, 2\) and 1 more such"),
        (np.array([[1.0], [np.nan]]), r"got nan at \(2, 1\)"),
        (np.array([[-np.inf]]), r"got -inf at \(1, 1\)"),
        (np.array([[2.0**53]]), r"got 9007199254740992.0 at"),
        (np.array([[2**63]], dtype=np.uint64), r"got 9223372036854775808 at"),
    ],
)
def test_what_is_no_matrix_of_whole_numbers_is_named_before_anything_is_rounded(tmp_path, value, message):
    with pytest.raises(ValueError, match=rf"a.mat: told must be a matrix of whole numbers, {message}"):
        read_integers(written(tmp_path, matlab(value)), "told")


def element(order: str, kind: int, content: bytes) -> bytes:
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def stored_as(rows: np.ndarray, kind: int, other: int) -> bytes:
    """With one bit flipped in the type of the stored numbers."""
    tag = struct.pack("<II", kind, rows.nbytes)
    content = matlab(rows)
    assert content.count(tag) == 1
    return content.replace(tag, struct.pack("<II", other, rows.nbytes))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (matlab(ROWS, format="4"), "its header is none"),
        (b"", "its header is none"),
        (matlab(ROWS)[:-9], "does not fit in"),
        (stored_as(ROWS.astype(np.float64), 9, 13), "a matrix of kind 6 is stored as uint64"),
        (stored_as(ROWS.astype(np.int32), 5, 7), "a matrix of kind 12 is stored as float32"),
        (matlab(ROWS, do_compression=True)[:-3], "does not fit in"),
        (matlab(ROWS) + b"\1\2\3", "it is cut short"),
        (matlab(ROWS)[:128] + struct.pack("<II", 14, 8) * 900, "does not"),
    ],
)
def test_a_file_that_is_not_whole_is_named_with_the_way_on(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"a.mat is no whole MATLAB file of version 5 to 7.2 \(.*{message}.*\); fetch it again"):
        read_integers(written(tmp_path, content), "told")


def bomb(*sizes: int) -> bytes:
    """A file of compressed variables, each of so many bytes, zeros."""
    content = matlab(ROWS)[:128]
    for size in sizes:
        parts = (6, struct.pack("<II", 6, 0)), (5, struct.pack("<ii", size // 8, 1)), (1, b"told"), (9, bytes(size))
        compressed = zlib.compress(element("<", 14, b"".join(element("<", *part) for part in parts)), level=1)
        content += struct.pack("<II", 15, len(compressed)) + compressed
    return content


@pytest.mark.parametrize("sizes", [(2**26,), (2**25, 2**25)], ids=["one variable", "together"])
def test_a_file_that_unfolds_to_more_than_any_set_needs_is_refused(tmp_path, sizes):
    path = written(tmp_path, bomb(*sizes))
    assert path.stat().st_size < 400_000
    with pytest.raises(ValueError, match=r"a.mat is no whole MATLAB file .*its variables unfold to more than 67,108,864 bytes\); fetch"):
        read_integers(path, "missing")


def test_the_features_beside_a_list_may_be_as_large_as_those_of_grid(tmp_path):
    path = written(tmp_path, bomb(1275 * 2784 * 8))
    assert read_integers(path, "told").shape == (1275 * 2784, 1)


def test_a_file_of_more_parts_than_there_is_memory_for_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a.mat is no whole MATLAB file .*it has more than 65,536 elements in one\); fetch"):
        read_variable(written(tmp_path, matlab(ROWS)[:128] + struct.pack("<II", 14, 0) * (2**16 + 1)), "told")


def nested(depth: int) -> bytes:
    """A cell in a cell in a cell."""
    content = b""
    for _ in range(depth):
        parts = (6, struct.pack("<II", 1, 0)), (5, struct.pack("<ii", 1, bool(content))), (1, b"told")
        content = element("<", 14, b"".join(element("<", *part) for part in parts) + content)
    return matlab(ROWS)[:128] + content


def test_cells_within_cells_without_end_are_refused(tmp_path):
    assert read_variable(written(tmp_path, nested(3)), "told") == [[[]]]
    with pytest.raises(ValueError, match=r"a.mat is no whole MATLAB file .*recursion"):
        read_variable(written(tmp_path, nested(3_000)), "told")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("value", [ROWS.astype(np.int32), ROWS.astype(np.float64), cells()], ids=["int32", "float64", "cells"])
def test_a_flipped_bit_is_an_error_that_names_the_file_or_changes_no_more_than_one_number(tmp_path, value, compressed):
    content = matlab(value, do_compression=compressed)
    whole = flat(read_variable(written(tmp_path, content), "told"))
    generator = np.random.default_rng(0)
    errors = 0
    for place, bit in zip(generator.integers(124, len(content), 150), generator.integers(0, 8, 150)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        try:
            read = flat(read_variable(written(tmp_path, bytes(damaged)), "told"))
        except ValueError as error:
            assert "a.mat" in str(error)  # noqa: PT017
            errors += 1
            continue
        assert len(read) == len(whole)
        assert sum(one != other for one, other in zip(read, whole)) <= (0 if compressed else 1)
    assert errors > 10


def flat(value) -> list:
    """Numbers and kinds of a value, one after another."""
    if isinstance(value, np.ndarray):
        return value.ravel().tolist()
    if isinstance(value, dict):
        return [number for name, held in value.items() for number in (name, *flat(held))]
    return [number for held in value for number in flat(held)] if type(value) is list else [value]
