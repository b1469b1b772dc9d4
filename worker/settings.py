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
    """What a worker needs beside the database and the broker."""

    worker_name: str = Field(
        default_factory=default_worker_name,
        max_length=MAX_WORKER_NAME,
        pattern=WORKER_NAME,
        description="Name of this worker, unique in the service; default: host and slot, which is "
        "0, or the GPUs that CUDA_VISIBLE_DEVICES names.",
    )
    slot_kinds: Annotated[tuple[RunKind, ...], NoDecode] = Field(
        default=RUN_KINDS,
        min_length=1,
        description="Kinds of runs that this worker takes, with commas between.",
    )
    slot_devices: int | None = Field(
        default=None,
        ge=1,
        description="How many GPUs a run of this worker may use; default: as many as "
        "CUDA_VISIBLE_DEVICES names, 1 without it.",
    )
    trainer_silence_seconds: float = Field(
        default=900.0,
        gt=0,
        description="A trainer that tells nothing for this long while it pretrains hangs: it is "
        "killed and resumed.",
    )
    drain_grace_seconds: float = Field(
        default=90.0,
        ge=0,
        description="From SIGTERM to SIGKILL of the trainer when the worker shuts down.",
    )

    @field_validator("slot_kinds", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(kind.strip() for kind in value.split(",") if kind.strip())
        return value

    @property
    def slot(self) -> Slot:
        """What this worker can serve."""
        devices = self.slot_devices or max(1, len(visible_gpus()))
        return Slot(kinds=self.slot_kinds, devices=devices)
