"""Families of presets: one name, and parameters written as in a web address.

``paper?dataset=cifar10&method=pmae&ratio=0.2``. A parameter that is left out has its default, and
so has every one of ``paper`` alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from pmae.errors import SpecError
from pmae.presets.preset import Preset

_MAX_LENGTH = 2000
"""Characters of a query."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a family.

    Attributes:
        name: as it is written.
        meaning: of it, in a few words.
        values: the valid ones; empty where ``form`` says what is valid.
        form: what a value looks like that is none of a list.
        default: as it is listed.
    """

    name: str
    meaning: str
    values: tuple[str, ...] = ()
    form: str = ""
    default: str = ""

    @property
    def valid(self) -> str:
        """What a value may be."""
        return ", ".join(self.values) or self.form


@dataclass(frozen=True)
class Family:
    """Presets of one name that differ in parameters.

    Attributes:
        name: before the question mark.
        summary: what all of them show.
        example: a name with parameters.
        parameters: in the order in which a preset's name has them.
        build: a preset from the parameters that are given, each one of its valid values; raises
            :class:`~pmae.errors.SpecError` where they do not go together.
    """

    name: str
    summary: str
    example: str
    parameters: tuple[Parameter, ...]
    build: Callable[[Mapping[str, str]], Preset]

    def preset(self, query: str) -> Preset:
        """The preset that a query describes: ``dataset=cifar10&ratio=0.2``.

        Raises:
            SpecError: a parameter is unknown, given twice or not valid; names it and what is.
                ``field`` is ``(parameter,)``, or empty where the query cannot be read.
        """
        return self.build(self._parsed(query))

    def _parsed(self, query: str) -> dict[str, str]:
        unread = SpecError(
            f"preset {self.name}: its parameters cannot be read; valid is for example "
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
                    name, f"there is no parameter {name!r}; {hint}valid are {', '.join(known)}"
                )
            if name in given:
                raise self.error(name, f"{name} is given twice; valid is once")
            if parameter.values and value not in parameter.values:
                raise self.error(name, f"{name}={value!r}; valid are {parameter.valid}")
            given[name] = value
        return given

    def error(self, parameter: str, message: str) -> SpecError:
        """What is wrong with a parameter."""
        return SpecError(f"preset {self.name}: {message}", field=(parameter,))
