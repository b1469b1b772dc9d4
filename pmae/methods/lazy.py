"""The tensor code that methods use, each module loaded when something of it is first used.

The API and the command line read how a method describes itself, and neither loads torch. So the
files of methods take from here what would load it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["bands", "losses", "masks", "patches", "projection", "torch", "transfer"]

if TYPE_CHECKING:
    import torch

    from pmae import masking as masks
    from pmae.basis import bands, projection
    from pmae.methods import losses
    from pmae.models import patches
    from pmae.runtime import transfer
else:

    class _Module:
        """A module that is imported when an attribute of it is asked for."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            value = getattr(import_module(self._name), attribute)
            setattr(self, attribute, value)
            return value

    torch = _Module("torch")
    masks = _Module("pmae.masking")
    bands = _Module("pmae.basis.bands")
    projection = _Module("pmae.basis.projection")
    losses = _Module("pmae.methods.losses")
    patches = _Module("pmae.models.patches")
    transfer = _Module("pmae.runtime.transfer")
