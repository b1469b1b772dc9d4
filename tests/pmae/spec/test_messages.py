"""Pydantic's findings in words for people."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from dashboard.settings import DashboardSettings
from pmae.spec import ExperimentSpec
from pmae.spec.messages import faults, setting_faults


def test_each_field_is_named_once_with_what_is_valid() -> None:
    with pytest.raises(ValidationError) as caught:
        ExperimentSpec.model_validate({"dataset": {"nam": "digits"}, "tags": ["a", 1, 2]})
    assert faults(caught.value) == [
        "dataset.name: a value is required",
        "dataset.nam: there is no such field here",
        "tags.1: expected text, in quotes if it looks like a number",
        "tags.2: expected text, in quotes if it looks like a number",
    ]
    shallow = faults(caught.value, depth=1)
    assert shallow[2:] == ["tags: expected text, in quotes if it looks like a number"]


def test_settings_are_named_as_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMAE_API_PORT", "x")
    with pytest.raises(ValidationError) as caught:
        DashboardSettings()
    (told,) = setting_faults(caught.value)
    assert told.startswith("PMAE_API_PORT: input should be a valid integer")
    assert "(it is 'x')" not in told
    assert setting_faults(caught.value, show_values=True) == [f"{told} (it is 'x')"]
