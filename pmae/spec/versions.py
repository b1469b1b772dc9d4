"""Upgrade specs of older formats without changing what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pmae.spec.catalog import DATASETS

SPEC_VERSION: Final = 2
_BATCH_SIZE = 512
_DATASET = {"std_floor": 0.02}
_WARMUP_EPOCHS = {"linear": 10.0, "mlp": 10.0, "finetune": 5.0}
_MONITOR: Final = {"online_probe": "raw", "knn": False, "spectrum": False}
_LOSS: Final[dict[str, dict[str, Any]]] = {
    "pmae": {"scale": "none"},
    "mae": {"norm_pix_loss": False},
}
_COMPONENTS: Final[dict[str, dict[str, Any]]] = {
    "pmae": {"ratio_of": "variance", "count": "nearest"},
}
"""Defaults of version 1, and its behaviour where later versions have a choice."""


def upgrade_spec(fields: Any) -> Any:
    """Rewrite the fields of a pretraining spec of version 1 as version 2; leave others alone.

    A field that version 1 did not have gets the value that reproduces its behaviour, not the
    present default. So a stored run resumes, is rerun and draws its masks as before.

    Args:
        fields: of the spec, not yet validated; anything but a mapping is returned as it is.

    Returns:
        The fields, ``version`` included.
    """
    if not isinstance(fields, Mapping) or fields.get("version") != 1:
        return fields
    upgraded = {"precision": "fp32", **fields, "version": SPEC_VERSION}
    if "dataset" in fields:
        upgraded["dataset"] = _with_missing(fields["dataset"], _DATASET)
    if _may_exceed_the_images(fields):
        lr_batch_size = {"lr_batch_size": fields.get("batch_size", _BATCH_SIZE)}
        upgraded["optimizer"] = _with_missing(fields.get("optimizer", {}), lr_batch_size)
    evaluations = fields.get("evaluations")
    if isinstance(evaluations, list | tuple):
        upgraded["evaluations"] = [_evaluation(each) for each in evaluations]
    upgraded["masking"] = _upgraded_masking(fields)
    loss = _LOSS.get(_method(fields), {})
    upgraded["loss"] = _with_missing(fields.get("loss", {}), loss)
    upgraded["monitor"] = _with_missing(fields.get("monitor", {}), _MONITOR)
    return upgraded


def _method(fields: Mapping[str, Any]) -> str:
    return str(fields.get("method", "pmae"))


def _upgraded_masking(fields: Mapping[str, Any]) -> Any:
    """Add version 1's rules: PMAE counts variance by ``nearest``, segmentation masks one object."""
    masking = fields.get("masking", {})
    if _method(fields) in _COMPONENTS:
        return _with_missing(masking, _COMPONENTS[_method(fields)])
    if isinstance(masking, Mapping) and masking.get("strategy") == "segmentation":
        return _with_missing(masking, {"predict": "object"})
    return masking


def _evaluation(part: Any) -> Any:
    """Add version 1's warm-up and standard deviation floor to an evaluation that has none."""
    if not isinstance(part, Mapping):
        return part
    upgraded = dict(part)
    protocol = part.get("protocol", "linear")
    if isinstance(protocol, str) and protocol in _WARMUP_EPOCHS:
        upgraded.setdefault("warmup_epochs", _WARMUP_EPOCHS[protocol])
    if "dataset" in part:
        upgraded["dataset"] = _with_missing(part["dataset"], _DATASET)
    return upgraded


def _may_exceed_the_images(fields: Mapping[str, Any]) -> bool:
    """Test if a batch may exceed the train split; version 1 scaled the rate by the batch then."""
    dataset, batch_size = fields.get("dataset"), fields.get("batch_size", _BATCH_SIZE)
    if not isinstance(dataset, Mapping) or not isinstance(batch_size, int):
        return False
    facts = DATASETS.get(str(dataset.get("name")))
    sizes = (facts.train_images if facts else None, dataset.get("max_train_images"))
    known = [size for size in sizes if isinstance(size, int)]
    return facts is None or facts.train_images is None or min(known) < batch_size


def _with_missing(part: Any, values: Mapping[str, Any]) -> Any:
    """Add values for the fields that a part of a spec does not name."""
    return {**values, **part} if isinstance(part, Mapping) else part
