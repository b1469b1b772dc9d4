"""Controls to choose a mask: a strategy of the run's method, or a list of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pmae.schema import Run
from pmae.schema.methods import MethodView
from pmae.schema.number_ranges import NumbersError, parse_parts
from pmae.spec import ExperimentSpec, MaskingSpec
from pmae.spec.parts.masking import RATIO_MODES, on_dataset

CHOSEN = "chosen"
"""Choice that masks exactly what the reader lists."""
PREDICTED = {
    "background": "the background, objects are shown",
    "object": "one object, the rest is shown",
}
"""Parts that segmentation masks, by their value in the spec."""
MODES = {
    "background": {
        "complete": "no patch of an object",
        "partial": "a share of the objects, something of each is shown",
        "random": "a share of the objects, at random",
    },
    "object": {
        "complete": "all of its patches",
        "partial": "a share of its patches",
        "random": "as many random patches",
    },
}
"""By what is predicted: which of the objects' patches are masked."""
COUNTS = {
    "reference": "variance (reference)",
    "nearest": "variance (nearest)",
    "components": "number of components",
}
"""Units of the ratio, with their rule."""
_LABELS = {
    "top": "Greatest variance (top)",
    "bottom": "Least variance (bottom)",
    "block": "A block of the spectrum",
    "segmentation": "By objects (segmentation)",
}
_EXAMPLE = "0-9, 12"


@dataclass(frozen=True)
class MaskChoice:
    """Mask chosen by the reader.

    Attributes:
        request: the fields of the reconstruction's request that say it.
        address: the parameters of the page's address that bring it back.
    """

    request: dict[str, Any]
    address: dict[str, str]

    @property
    def drawn(self) -> bool:
        """True if the mask depends on the seed."""
        return "masking" in self.request


def take(run_id: str, came: Mapping[str, str]) -> None:
    """Set the controls from the address; missing and malformed values become the run's own."""
    state = st.session_state
    for name in ("strategy", "count", "predict", "mode", "masked"):
        state[_key(name, run_id)] = came.get(name)
    percent = came.get("ratio", "")
    if percent.isdecimal() and 1 <= int(percent) <= 99:
        state[_key("ratio", run_id)] = int(percent)


def choose(run: Run, method: MethodView) -> MaskChoice:
    """Draw the controls for a run of ``method``.

    Raises:
        NumbersError: the list of numbers cannot be read.
    """
    trained = _trained(run)
    parts = method.parts
    options: dict[str, str] = {
        name: _LABELS.get(name, f"Random {parts}")
        for name in on_dataset(method.strategies, run.dataset)
    }
    strategy = _select(
        "Masked",
        options | {CHOSEN: f"Chosen {parts}"},
        trained.strategy,
        _key("strategy", run.id),
    )
    address = {} if strategy == trained.strategy else {"strategy": strategy}
    if strategy == CHOSEN:
        return _chosen(run, parts, address)
    fields: dict[str, Any] = {"strategy": strategy, "scope": trained.scope}
    what: str | None = "patches"
    if parts == "components":
        what = _count(run, fields, address)
    elif strategy == "segmentation":
        what = _of_objects(run, fields, address)
    if what is not None:
        percent = _ratio(run, what)
        fields["ratio"] = percent / 100
        address["ratio"] = str(percent)
    if strategy in ("top", "bottom"):
        fields["scope"] = "batch"  # one ratio masks the same components of every image
    return MaskChoice({"masking": MaskingSpec.model_validate(fields)}, address)


def _count(run: Run, fields: dict[str, Any], address: dict[str, str]) -> str:
    """Choose the unit of the ratio, by default the run's own; return what it is a fraction of."""
    trained = _trained(run)
    default = trained.count or "components"
    count = _select("A share of", COUNTS, default, _key("count", run.id))
    if count != default:
        address["count"] = count
    if count == "components":
        fields["ratio_of"] = "components"
        return "components"
    fields |= {"ratio_of": "variance", "count": count}
    return "variance"


def _of_objects(run: Run, fields: dict[str, Any], address: dict[str, str]) -> str | None:
    """Choose what of the objects is masked; return what a ratio is of, None if unused."""
    trained = _trained(run)
    predict = _select(
        "Predicted", PREDICTED, trained.predict or "background", _key("predict", run.id)
    )
    mode = _select(
        "Masked of the objects" if predict == "background" else "Masked of the object",
        MODES[predict],
        trained.mode or "complete",
        _key("mode", run.id),
    )
    fields |= {"predict": predict, "mode": mode}
    if predict != trained.predict:
        address["predict"] = predict
    if mode != trained.mode:
        address["mode"] = mode
    taking = RATIO_MODES["background" if predict == "background" else "object"]
    if mode not in taking:
        return None
    return "objects' patches" if predict == "background" else "object's patches"


def _chosen(run: Run, parts: str, address: dict[str, str]) -> MaskChoice:
    key = _key("masked", run.id)
    if not st.session_state.get(key):
        st.session_state[key] = "0-9"
    order = "by falling variance" if parts == "components" else "row by row"
    text = st.text_input(
        f"Numbers of the {parts}",
        key=key,
        help=f"Counted from 0, {order}; for example {_EXAMPLE}",
    )
    chosen = parse_parts(text)
    if not chosen:
        raise NumbersError(f"Name at least one of the {parts}, for example {_EXAMPLE}")
    return MaskChoice({parts: chosen}, address | {"masked": text})


def _trained(run: Run) -> MaskingSpec:
    """Return the masking of a pretraining's spec."""
    assert isinstance(run.spec, ExperimentSpec)
    return run.spec.masking


def _ratio(run: Run, what: str) -> int:
    """Choose the mask ratio in per cent; default: as the run was trained."""
    trained = _trained(run)
    low, high = (0.5, 0.5) if trained.ratio is None else trained.ratio_range
    key = _key("ratio", run.id)
    st.session_state.setdefault(key, max(1, min(99, round(50 * (low + high)))))
    said = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return int(
        st.slider(
            f"Share of the {what} masked",
            1,
            99,
            key=key,
            format="%d %%",
            help=None if trained.ratio is None else f"Trained at {said}",
        )
    )


def _select(label: str, options: Mapping[str, str], default: str, key: str) -> str:
    if st.session_state.get(key) not in options:
        st.session_state[key] = default
    return st.selectbox(label, list(options), format_func=lambda name: options[name], key=key)


def _key(name: str, run_id: str) -> str:
    return f"recon_{name}_{run_id}"
