"""Families of presets: one name with parameters, written as the query of a URL.

For example ``paper?dataset=cifar10&method=pmae&ratio=0.2``. Parameters that are left out have their
defaults.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from pmae.errors import SpecError
from pmae.presets.preset import Preset

_MAX_LENGTH = 2000
"""Maximal number of characters of a query."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a family.

    Attributes:
        name: in a query.
        meaning: in a few words.
        values: valid values; empty if ``form`` describes them.
        form: description of the valid values that cannot be listed.
        default: as shown in listings.
    """

    name: str
    meaning: str
    values: tuple[str, ...] = ()
    form: str = ""
    default: str = ""

    @property
    def valid(self) -> str:
        """Valid values, for people."""
        return ", ".join(self.values) or self.form


@dataclass(frozen=True)
class Family:
    """Presets that share a name and differ in parameters.

    Attributes:
        name: before the question mark.
        summary: of the family, in a sentence.
        example: a name with parameters.
        parameters: in the order of a preset's full name.
        build: makes a preset of the given parameters, whose values are valid; raises
            :class:`~pmae.errors.SpecError` if they contradict each other.
    """

    name: str
    summary: str
    example: str
    parameters: tuple[Parameter, ...]
    build: Callable[[Mapping[str, str]], Preset]

    def preset(self, query: str) -> Preset:
        """Build the preset of a query such as ``dataset=cifar10&ratio=0.2``.

        Raises:
            SpecError: a parameter is unknown, given twice or invalid; names what would be valid.
                ``field`` is ``(parameter,)``, or empty if the query cannot be parsed.
        """
        return self.build(self._parsed(query))

    def _parsed(self, query: str) -> dict[str, str]:
        unread = SpecError(
            f"preset {self.name}: its parameters cannot be read; expected for example "
            f"{self.example}"
        )
        if len(query) > _MAX_LENGTH:
            raise unread
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        except ValueError as error:
            raise unread from error
        known = {parameter.name: parameter for parameter in self.parameters}
        given: dict[str, str] = {}
        for name, value in pairs:
            parameter = known.get(name)
            if parameter is None:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}? " if close else ""
                raise self.error(
                    name,
                    f"there is no parameter {name!r}; {hint}expected one of {', '.join(known)}",
                )
            if name in given:
                raise self.error(name, f"{name} is given twice; expected once")
            if parameter.values and value not in parameter.values:
                raise self.error(name, f"{name}={value!r}; expected one of {parameter.valid}")
            given[name] = value
        return given

    def error(self, parameter: str, message: str) -> SpecError:
        """Make an error about a parameter of this family."""
        return SpecError(f"preset {self.name}: {message}", field=(parameter,))
