"""Numbers and ranges as people type them: ``0-9, 12``."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


class NumbersError(ValueError):
    """A list of numbers that cannot be read; says what would be valid."""


def parse_parts(text: str) -> list[int | tuple[int, int]]:
    """``"0-9, 12"`` as ``[(0, 9), 12]``; a range holds both of its ends.

    Raises:
        NumbersError: not such a list.
    """
    parts: list[int | tuple[int, int]] = []
    for part in text.replace(",", " ").split():
        found = _PART.fullmatch(part)
        if found is None:
            raise NumbersError(f"{part!r} is neither a number nor a range such as 0-7")
        first, last = found.groups()
        if last is None:
            parts.append(int(first))
        elif int(last) < int(first):
            raise NumbersError(f"{part!r} runs backwards; write {last}-{first}")
        else:
            parts.append((int(first), int(last)))
    return parts


def written(parts: Sequence[int | tuple[int, int]]) -> str:
    """``[(0, 9), 12]`` as ``"0-9,12"``, which :func:`parse_parts` reads."""
    return ",".join(
        str(part) if isinstance(part, int) else f"{part[0]}-{part[1]}" for part in parts
    )


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
