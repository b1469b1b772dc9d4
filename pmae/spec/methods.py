"""Installed methods, and the rules of each for specs. Imports no torch.

Methods are looked up by name in the entry-point group ``pmae.methods``, where this package
registers its own as well (pyproject.toml). docs/methods.md shows how to write one.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from pmae.errors import MethodError, SpecError
from pmae.spec.base import PartsName
from pmae.spec.catalog import DatasetFacts
from pmae.spec.parts.basis import BasisSpec, resolve_basis
from pmae.spec.parts.loss import LossSpec, resolve_loss
from pmae.spec.parts.masking import MaskingSpec, Strategy, resolve_masking

GROUP = "pmae.methods"
DEFAULT_METHOD: Final = "pmae"
_NAME = re.compile("[a-z][a-z0-9_]{0,15}")
"""Valid names of methods; the database holds 16 characters."""


class MethodRules:
    """Properties of a method, for specs, estimates, the service and the dashboard.

    :class:`pmae.methods.base.Method` adds the steps. A method with its own rules for resolving
    fields overrides the class methods.
    """

    title: ClassVar[str]
    """Name for people."""
    parts_name: ClassVar[PartsName]
    """Parts that it masks."""
    strategies: ClassVar[tuple[Strategy, ...]]
    """Valid values of ``masking.strategy``."""
    encoder_sees_all: ClassVar[bool]
    """True = the encoder sees every patch; False = only the visible ones."""
    default_masking: ClassVar[MaskingSpec]
    """Defaults for the fields of ``masking`` that a spec leaves out."""
    default_basis: ClassVar[BasisSpec | None] = None
    """Defaults for ``basis``; None: the method has no basis."""
    default_loss: ClassVar[LossSpec] = LossSpec()
    """Defaults for ``loss``; fields that are None do not apply to the method."""

    @classmethod
    def resolve_masking(cls, masking: MaskingSpec, dataset: DatasetFacts) -> MaskingSpec:
        """See :func:`pmae.spec.parts.masking.resolve_masking`."""
        return resolve_masking(
            masking,
            dataset,
            title=cls.title,
            parts=cls.parts_name,
            strategies=cls.strategies,
            default=cls.default_masking,
        )

    @classmethod
    def resolve_basis(
        cls, basis: BasisSpec | None, *, resolution: int, channels: int | None
    ) -> BasisSpec | None:
        """See :func:`pmae.spec.parts.basis.resolve_basis`; None where the method has no basis.

        Raises:
            SpecError: a basis for a method without one, or fields that contradict each other.
        """
        if cls.default_basis is None:
            if basis is not None:
                raise SpecError(
                    f"basis: {cls.title} masks {cls.parts_name} and has no basis; leave it out",
                    field=("basis",),
                )
            return None
        return resolve_basis(basis, cls.default_basis, resolution=resolution, channels=channels)

    @classmethod
    def resolve_loss(cls, loss: LossSpec) -> LossSpec:
        """See :func:`pmae.spec.parts.loss.resolve_loss`."""
        return resolve_loss(loss, cls.default_loss, title=cls.title, parts=cls.parts_name)


@cache
def _registered() -> dict[str, list[EntryPoint]]:
    """Entry points of the methods by name: the default first, then alphabetically."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, []).append(entry)
    return {name: found[name] for name in sorted(found, key=lambda n: (n != DEFAULT_METHOD, n))}


def method_names() -> tuple[str, ...]:
    """Names of the methods that are installed, the default first."""
    return tuple(_registered())


@cache
def get_method(name: str) -> type[MethodRules]:
    """Load the method of this name.

    Raises:
        SpecError: no such method is installed; lists those that are.
        MethodError: it is registered, but cannot be used; names its entry point.
    """
    entries = _registered().get(name, [])
    if not entries:
        message = f"{name!r} is not installed; expected one of {', '.join(method_names())}"
        if not method_names():
            message = "none is installed: the package's metadata is outdated; install it again"
        raise SpecError(f"method: {message}", field=("method",))
    entry = entries[0]
    where = f"the entry point {name} = {entry.value} of {GROUP}"
    if len(entries) > 1:
        others = ", ".join(other.value for other in entries[1:])
        raise MethodError(f"{where}: the name is also that of {others}; uninstall one of them")
    if not _NAME.fullmatch(name):
        raise MethodError(
            f"{where}: expected a name of up to 16 lower-case letters, digits and "
            "underscores that begins with a letter"
        )
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise MethodError(f"{where} cannot be loaded: {error}") from error
    if not (isinstance(found, type) and issubclass(found, MethodRules)):
        raise MethodError(f"{where} is no subclass of pmae.methods.base.Method")
    return found


def _list_names(schema: dict[str, Any]) -> None:
    schema["enum"] = list(method_names())


MethodName = Annotated[str, Field(json_schema_extra=_list_names)]
"""Name of a method. Any text is accepted, so that runs can be shown where their method is not
installed, as in a client; :func:`pmae.spec.resolve` refuses unknown methods."""
