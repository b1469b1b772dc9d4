"""Errors of the library.

::

    PmaeError
    ├── SpecError               a spec that cannot be run: a field and what would be valid
    ├── MethodError             a registered method that cannot be loaded
    ├── DataError               a data set that cannot be read
    │   ├── DatasetMissingError it is not where it was looked for; says how to get it
    │   ├── DatasetUnreadableError  this process may not read it; says who may
    │   └── ImageError          an image of no data set that cannot be used; says what can
    ├── BasisError              a basis that cannot be fitted, stored or applied
    ├── CheckpointError         a checkpoint that is absent, broken or of another basis
    ├── FilmstripError          a frame of a filmstrip that is damaged
    ├── EventError              a line of events.jsonl that is not an event
    ├── TrainingError           training cannot go on; the reason is for a researcher
    │   ├── NonFiniteLossError  the loss became NaN or infinite; names the step
    │   └── TimeLimitError      the spec's max_hours are used up
    ├── ClientError             the service could not be asked, or said no (see pmae.client)
    ├── QueryError              a list of runs that cannot be asked for: a filter, what is valid
    ├── SettingsError           an environment variable that has no valid value
    ├── CommandError            a command that another package adds cannot be loaded (see pmae.cli)
    └── StackError              the embedded services cannot start or go on (see pmae.up)
"""

from __future__ import annotations


class PmaeError(Exception):
    """Anything this package raises on purpose. The message is meant for a person."""


class SpecError(PmaeError, ValueError):
    """A spec that cannot be run.

    Args:
        message: what is wrong and what would be valid.
        field: path of the offending field in the spec, for example ``("masking", "ratio")``.
    """

    def __init__(self, message: str, *, field: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.field = field


class MethodError(PmaeError):
    """A method that an entry point registers and that cannot be loaded."""


class QueryError(PmaeError):
    """A list of runs that cannot be asked for."""


class DataError(PmaeError):
    """A data set that cannot be read."""


class DatasetMissingError(DataError):
    """A data set that is not where it was looked for."""


class DatasetUnreadableError(DataError):
    """A data set that is there, but not for this process to read."""


class ImageError(DataError):
    """An image of no data set that cannot be used."""


class BasisError(PmaeError):
    """A basis that cannot be fitted, stored or applied."""


class CheckpointError(PmaeError):
    """A checkpoint that is absent, broken, or belongs to another basis."""


class FilmstripError(PmaeError):
    """A frame of a filmstrip that is damaged."""


class EventError(PmaeError, ValueError):
    """A line of ``events.jsonl`` that is not an event."""


class TrainingError(PmaeError):
    """Training cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite at ``step``."""

    def __init__(self, step: int) -> None:
        super().__init__(
            f"the loss is not finite at step {step}; the last good checkpoint is kept. "
            "A lower optimizer.base_lr, a longer schedule.warmup_epochs or precision fp32 may help."
        )
        self.step = step


class TimeLimitError(TrainingError):
    """The hours that the spec gives a run are used up after ``step`` of ``total_steps``."""

    def __init__(self, max_hours: float, step: int, total_steps: int) -> None:
        super().__init__(
            f"max_hours: {max_hours:g} h of training ended at step {step} of {total_steps}; its "
            "state is kept, and the run can be resumed for as long again"
        )


class ClientError(PmaeError):
    """The service could not be reached, or refused a request."""


class SettingsError(PmaeError):
    """An environment variable has no valid value; names it, and never shows a secret."""


class CommandError(PmaeError):
    """A command of another package cannot be loaded."""


class StackError(PmaeError):
    """The services of this machine cannot be started, or one of them ended."""
