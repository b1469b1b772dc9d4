"""The worker's settings: environment variables that start with ``PMAE_``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from api.db.run_states import Slot
from api.db.settings import ServiceSettings
from pmae.schema import RUN_KINDS, RunKind
from pmae.settings import MAX_WORKER_NAME, WORKER_NAME, default_worker_name, visible_gpus


class WorkerSettings(ServiceSettings):
    """Settings of a worker, besides the database and the broker."""

    worker_name: str = Field(
        default_factory=default_worker_name,
        max_length=MAX_WORKER_NAME,
        pattern=WORKER_NAME,
        description="Name of this worker, unique in the service; default: host and slot, where "
        "the slot is 0 or the value of CUDA_VISIBLE_DEVICES.",
    )
    slot_kinds: Annotated[tuple[RunKind, ...], NoDecode] = Field(
        default=RUN_KINDS,
        min_length=1,
        description="Kinds of runs that this worker takes, separated by commas.",
    )
    slot_devices: int | None = Field(
        default=None,
        ge=1,
        description="Number of GPUs that a run of this worker may use; default: as many as in "
        "CUDA_VISIBLE_DEVICES, 1 without it.",
    )
    trainer_silence_seconds: float = Field(
        default=900.0,
        gt=0,
        description="A trainer that writes no event for this long during pretraining is killed "
        "and resumed.",
    )
    drain_grace_seconds: float = Field(
        default=90.0,
        ge=0,
        description="Time from SIGTERM to SIGKILL for the trainer when the worker shuts down.",
    )

    @field_validator("slot_kinds", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(kind.strip() for kind in value.split(",") if kind.strip())
        return value

    @property
    def slot(self) -> Slot:
        """The runs that this worker can serve."""
        devices = self.slot_devices or max(1, len(visible_gpus()))
        return Slot(kinds=self.slot_kinds, devices=devices)
