"""What a run shows of its progress beside the losses."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pmae.spec.base import SpecModel


class MonitorSpec(SpecModel):
    """What a run measures of its own features while it trains."""

    online_probe: Literal["standardized", "raw"] = Field(
        default="standardized",
        description="What the linear classifier that trains beside the model sees. standardized: "
        "each feature by its mean and deviation over the steps before, as MAE's linear probe does; "
        "it is validated on whole images. raw: features as they are, validated on masked images, "
        "which understates them; what version 1 did.",
    )
