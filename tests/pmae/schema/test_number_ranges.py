"""Numbers and ranges as people type them."""

from __future__ import annotations

import pytest

from pmae.schema.number_ranges import NumbersError, expanded, parse_parts, written


def test_commas_and_spaces_separate_numbers_and_ranges() -> None:
    assert parse_parts("0-9, 12  3,") == [(0, 9), 12, 3]
    assert parse_parts("") == []


def test_what_is_written_is_read_again() -> None:
    parts: list[int | tuple[int, int]] = [(0, 9), 12, (40, 41)]
    assert written(parts) == "0-9,12,40-41"
    assert parse_parts(written(parts)) == parts


@pytest.mark.parametrize("text", ["a", "1-", "-1", "1--2", "1.5", "9" * 5_000])
def test_what_is_no_number_is_named(text: str) -> None:
    with pytest.raises(NumbersError, match="is neither a number nor a range such as 0-7"):
        parse_parts(text)


def test_a_range_that_runs_backwards_is_turned_round_in_the_message() -> None:
    with pytest.raises(NumbersError, match="'7-3' runs backwards; write 3-7"):
        parse_parts("1, 7-3")


def test_each_number_comes_once_and_not_too_many_do() -> None:
    assert expanded([(2, 4), 3, 0], most=5, what="images") == [2, 3, 4, 0]
    with pytest.raises(NumbersError, match="At most 4 images"):
        expanded([(0, 10**8)], most=4, what="images")
