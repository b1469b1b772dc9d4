"""Parse and format lists of numbers and ranges: ``0-9, 12``."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PART = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


class NumbersError(ValueError):
    """A malformed list of numbers and ranges."""


def parse_parts(text: str) -> list[int | tuple[int, int]]:
    """Parse ``"0-9, 12"`` into ``[(0, 9), 12]``; a range includes both ends.

    Raises:
        NumbersError: the text is malformed, or a range runs backwards.
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
    """Format ``[(0, 9), 12]`` as ``"0-9,12"``, the inverse of :func:`parse_parts`."""
    return ",".join(
        str(part) if isinstance(part, int) else f"{part[0]}-{part[1]}" for part in parts
    )


def expanded(parts: Sequence[int | tuple[int, int]], *, most: int, what: str) -> list[int]:
    """Expand ranges into numbers, each once, in order of first occurrence.

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
