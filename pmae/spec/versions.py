"""Specs of older formats, read with the meaning that they were written with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SPEC_VERSION: Final = 2
_MONITOR: Final = {"online_probe": "raw", "knn": False, "spectrum": False}


def upgrade_spec(fields: Any) -> Any:
    """Rewrite the fields of a pretraining spec of version 1 as version 2; leave others alone.

    A field that version 1 did not have gets the value by which a run does what it did then, not
    the default of today. So a stored run resumes, is rerun and draws its masks as before.

    Args:
        fields: of the spec, not yet validated; anything but a mapping is returned as it is.

    Returns:
        The fields, ``version`` included.
    """
    if not isinstance(fields, Mapping) or fields.get("version") != 1:
        return fields
    upgraded = {**fields, "version": SPEC_VERSION}
    if "dataset" in fields:
        upgraded["dataset"] = _with_missing(fields["dataset"], {"std_floor": 0.02})
    if "evaluations" in fields:
        upgraded["evaluations"] = _with_floors(fields["evaluations"])
    upgraded["masking"] = _upgraded_masking(fields)
    pmae = fields.get("method", "pmae") == "pmae"
    loss = {"scale": "none"} if pmae else {"norm_pix_loss": False}
    upgraded["loss"] = _with_missing(fields.get("loss", {}), loss)
    upgraded["monitor"] = _with_missing(fields.get("monitor", {}), _MONITOR)
    return upgraded


def _upgraded_masking(fields: Mapping[str, Any]) -> Any:
    """A share of the variance, by the rule nearest; of objects, patches of one are masked."""
    masking = fields.get("masking", {})
    if fields.get("method", "pmae") == "pmae":
        return _with_missing(masking, {"ratio_of": "variance", "count": "nearest"})
    if isinstance(masking, Mapping) and masking.get("strategy") == "segmentation":
        return _with_missing(masking, {"predict": "object"})
    return masking


def _with_floors(evaluations: Any) -> Any:
    """Evaluations with the floor of version 1 for the data sets that they name."""
    if not isinstance(evaluations, list | tuple):
        return evaluations
    return [
        {**each, "dataset": _with_missing(each["dataset"], {"std_floor": 0.02})}
        if isinstance(each, Mapping) and "dataset" in each
        else each
        for each in evaluations
    ]


def _with_missing(part: Any, values: Mapping[str, Any]) -> Any:
    """A part of a spec with the values of the fields that it does not name."""
    return {**values, **part} if isinstance(part, Mapping) else part
