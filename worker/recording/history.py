"""Sentences in a run's history for the events of its trainer."""

from __future__ import annotations

from pmae.runs.events import (
    CheckpointEvent,
    CheckpointRemovedEvent,
    ErrorEvent,
    EvaluationEvent,
    Event,
    StageEvent,
    StartEvent,
    WarningEvent,
)
from pmae.schema import RunKind
from pmae.spec import PROTOCOL_NAMES


def history_line(event: Event, kind: RunKind) -> str | None:
    """Describe an event for the history of a run of this kind; None if it has no entry."""
    match event:
        case StartEvent() if kind == "evaluate":
            return "evaluation started"
        case StartEvent(resumed_from=None):
            return "training started"
        case StartEvent():
            return f"training resumed at step {event.resumed_step}"
        case StageEvent():
            return f"entered the stage {event.stage}"
        case CheckpointEvent(kind="kept"):
            return f"wrote the checkpoint {event.name}"
        case CheckpointRemovedEvent():
            return f"removed the checkpoint {event.name}, by the spec's retention"
        case EvaluationEvent():
            what = event.features.replace("_", " ")
            word = "of" if event.protocol == "finetune" else "on"
            name = f"{PROTOCOL_NAMES[event.protocol]} {word}"
            at = f" after epoch {event.epoch:g}" if "@" in event.key else ""
            return f"{name} {what}{at}: top-1 {event.top1:.1%}"
        case WarningEvent() | ErrorEvent():
            return event.message
        case _:
            return None
