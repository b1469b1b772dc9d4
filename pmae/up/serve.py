"""``pmae up``: run the whole service until a signal stops it."""

from __future__ import annotations

import logging

from rich.console import Console

from pmae.runtime.interrupts import Interrupts
from pmae.runtime.logging import configure_logging
from pmae.up.configuration import UpSettings
from pmae.up.stack import Interrupted, Stack

_log = logging.getLogger(__name__)


def keep_up(settings: UpSettings, interrupts: Interrupts, console: Console) -> None:
    """Start the service and keep it running until a signal comes.

    Args:
        settings: settings of this machine's service.
        interrupts: entered by the caller.
        console: receives the messages, unless the settings ask for JSON logs.

    Raises:
        StackError: the service cannot start.
    """
    as_json = settings.log_format == "json"
    if as_json:
        configure_logging(settings.log_format)

    def say(text: str) -> None:
        if as_json:
            _log.warning("%s", text)
        else:
            console.print(text, style="yellow", highlight=False, soft_wrap=True, markup=False)

    with Stack(settings, interrupts, say) as stack:
        try:
            stack.start()
        except Interrupted:
            return
        facts = {
            "dashboard": settings.dashboard_url,
            "API": f"{settings.api_url}/api/v1/docs",
            "state": str(settings.home_dir),
        }
        if as_json:
            _log.info("the service is up", extra={"fields": facts})
        else:
            for name, where in facts.items():
                console.print(f"{name:<10} {where}", highlight=False, soft_wrap=True, markup=False)
            console.print("Ctrl-C stops")
        while not stack.pause(0.5):
            pass
