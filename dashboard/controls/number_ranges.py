"""Numbers and ranges as people type them: ``0-9, 12``."""

from __future__ import annotations

from collections.abc import Sequence


class NumbersError(ValueError):
    """A list of numbers that cannot be read; says what would be valid."""


def parse_parts(text: str) -> list[int | tuple[int, int]]:
    """``"0-9, 12"`` as ``[(0, 9), 12]``; a range holds both of its ends.

    Raises:
        NumbersError: not such a list.
    """
    parts: list[int | tuple[int, int]] = []
    for part in text.replace(",", " ").split():
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise NumbersError(f"{part!r} is neither a number nor a range such as 0-7")
        if not dash:
            parts.append(int(first))
        elif int(last) < int(first):
            raise NumbersError(f"{part!r} runs backwards; write {last}-{first}")
        else:
            parts.append((int(first), int(last)))
    return parts


def expanded(parts: Sequence[int | tuple[int, int]], *, most: int, what: str) -> list[int]:
    """Each number once, in the order in which it first stands.

    Raises:
        NumbersError: there are more than ``most``.
    """
    numbers: list[int] = []
    for part in parts:
        first, last = (part, part) if isinstance(part, int) else part
        if len(numbers) + last - first + 1 > most:
            raise NumbersError(f"At most {most} {what} are shown at once")
        numbers.extend(range(first, last + 1))
    return list(dict.fromkeys(numbers))
