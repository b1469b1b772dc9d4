"""What to mask in a reconstruction: any strategy of the run's method, or a list of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from dashboard.number_ranges import NumbersError, parse_parts
from pmae.schema import Run
from pmae.spec import ExperimentSpec, MaskingSpec
from pmae.spec.masking import strategies

CHOSEN = "chosen"
"""Choice that masks exactly what the reader lists."""
MODES = {
    "complete": "all of its patches",
    "partial": "a share of its patches",
    "random": "as many random patches",
}
_LABELS = {
    "top": "Greatest variance (top)",
    "bottom": "Least variance (bottom)",
    "block": "A block of the spectrum",
    "segmentation": "One object (segmentation)",
}
_EXAMPLE = "0-9, 12"


@dataclass(frozen=True)
class MaskChoice:
    """What the reader wants masked.

    Attributes:
        request: the fields of the reconstruction's request that say it.
        address: the parameters of the page's address that bring it back.
    """

    request: dict[str, Any]
    address: dict[str, str]

    @property
    def drawn(self) -> bool:
        """Whether the seed decides anything."""
        return "masking" in self.request


def take(run_id: str, came: Mapping[str, str]) -> None:
    """Start from the address; what it does not say, or says wrongly, is the run's own."""
    state = st.session_state
    for name in ("strategy", "mode", "masked"):
        state[_key(name, run_id)] = came.get(name)
    percent = came.get("ratio", "")
    if percent.isdecimal() and 1 <= int(percent) <= 99:
        state[_key("ratio", run_id)] = int(percent)


def choose(run: Run) -> MaskChoice:
    """Draw the controls.

    Raises:
        NumbersError: the list of numbers cannot be read.
    """
    trained = _trained(run)
    parts = "components" if run.method == "pmae" else "patches"
    options = {
        name: _LABELS.get(name, f"Random {parts}") for name in strategies(run.method, run.dataset)
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
    fields: dict[str, Any] = {"strategy": strategy, "scope": trained.scope, "mode": None}
    what = "variance" if run.method == "pmae" else "patches"
    if strategy == "segmentation":
        default = trained.mode or "complete"
        mode = _select("Of the object", MODES, default, _key("mode", run.id))
        address |= {} if mode == default else {"mode": mode}
        fields["mode"], what = mode, "object's patches"
    if fields["mode"] in (None, "partial"):
        percent = _ratio(run, what)
        fields["ratio"] = percent / 100
        address["ratio"] = str(percent)
    if strategy in ("top", "bottom"):
        fields["scope"] = "batch"  # one ratio masks the same components of every image
    return MaskChoice({"masking": MaskingSpec.model_validate(fields)}, address)


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
    """How a pretraining masked."""
    assert isinstance(run.spec, ExperimentSpec)
    return run.spec.masking


def _ratio(run: Run, what: str) -> int:
    """Mask ratio in percent; as the run was trained unless the reader moves it."""
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
