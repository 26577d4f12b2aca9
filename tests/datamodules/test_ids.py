"""Ids as tables name them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_reid.datamodules.readers.ids import LARGEST, number_ids, whole_number

RESERVED = (-1, 0)


def cells(*values):
    return [(f"line {number}", value) for number, value in enumerate(values, start=2)]


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (["1", "2", "1"], [1, 2, 1]),
        (["0007", "7", " 7 "], [7, 7, 7]),  # digits are a number, however many zeros stand before it
        (["-1", "0", "9"], [-1, 0, 9]),
        ([3, "3", 3.0], [3, 3, 3]),
        (["1_0", "10"], [2, 1]),  # Python's int takes 1_0 for 10
        (["1", "x", "-1", "0"], [1, 2, -1, 0]),  # one text makes all of them texts, but for those that mean something
        (["\u0663", "3"], [2, 1]),  # an Arabic digit is no ASCII digit
        (["\u00b2", "2"], [2, 1]),
        (["1e3", "1000"], [2, 1]),
        (["\u00e9", "e\u0301"], [1, 1]),  # one letter, composed or not
        ([str(2**64), "5", "0", str(2**64 + 1)], [2, 1, 0, 3]),
        ([], []),
    ],
)
def test_a_column_is_numbers_where_all_are_and_else_text(values, ids):
    assert number_ids("pid", cells(*values), reserved=RESERVED).ids == ids


@given(st.lists(st.integers(1, 10**30), min_size=1))
def test_people_are_the_same_exactly_where_their_numbers_are(numbers):
    found = number_ids("pid", cells(*map(str, numbers)), reserved=RESERVED)
    assert all((a == b) == (x == y) for a, x in zip(numbers, found.ids) for b, y in zip(numbers, found.ids))
    assert all(0 < one <= LARGEST for one in found.ids)
    assert (found.note is None) == (max(numbers) <= LARGEST)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp", "Cf"]), min_size=1), min_size=1))
def test_texts_have_the_numbers_of_their_order(texts):
    import unicodedata

    texts = [f"p{text}" for text in texts]
    expected = sorted({unicodedata.normalize("NFC", text) for text in texts})
    assert number_ids("pid", cells(*texts), reserved=RESERVED).ids == [
        expected.index(unicodedata.normalize("NFC", text)) + 1 for text in texts
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1", ""], "line 3: the column 'pid' is empty"),
        (["1", None], "line 3: the column 'pid' must hold text or a whole number, got nothing"),
        (["1", "-2"], "line 3: the column 'pid' must be at least -1, got -2"),
        ([True], "line 2: .* got True, a bool"),
        ([0.5], "line 2: .* got 0.5, a fraction"),
        ([2.0**53], "line 2: .* a float, which takes neighboring ids for one"),
        ([float("inf")], "line 2: .* got inf"),
        ([float("nan")], "line 2: .* got nan"),
        (["3.0", "-1.0"], "line 2: .* has '3.0', a whole number as a fraction: write 3"),
        (["3,0", "-1,0"], "line 2: .* has '3,0', a whole number as a fraction: write 3"),
        (["2.02411E+18", "2.02412E+18"], "line 2: .* has '2.02411E\\+18', of which the last digits are lost: .* the format 'text'"),
        (["1", "2,02411E+18"], "line 3: .* has '2,02411E\\+18', of which the last digits are lost"),
        (["x", "-01"], "line 3: .* is text, but for '-01', which looks like nobody"),
        (["x", "00"], "line 3: .* but for '00'"),
        (["9" * 5000], "line 2: .* has an id of 5,000 characters"),
        ([[1]], r"line 2: .* got \[1\], a list"),
    ],
)
def test_what_is_no_id_is_refused_by_its_place(values, message):
    with pytest.raises(ValueError, match=message):
        number_ids("pid", cells(*values), reserved=RESERVED)


def test_without_reserved_numbers_ids_begin_at_zero():
    assert number_ids("camid", cells("0", "3")).ids == [0, 3]
    assert number_ids("camid", cells("0", "x")).ids == [1, 2]
    with pytest.raises(ValueError, match="must be at least 0, got -1"):
        number_ids("camid", cells("-1"))


@pytest.mark.parametrize("value", ["1.5", "1e400", "x", str(2**63), "1_0", "\u00b2"])
def test_a_frame_is_a_whole_number_that_a_tensor_holds(value):
    assert whole_number("frame", "line 2", "-12") == -12
    with pytest.raises(ValueError, match="line 2: the column 'frame' must be a whole number"):
        whole_number("frame", "line 2", value)
