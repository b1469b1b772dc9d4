"""``pmae demo``: run one spec through the whole service and show its result."""

from __future__ import annotations

from rich.console import Console

from pmae.cli.runs.watch import show_result, watch_run
from pmae.client import PmaeClient
from pmae.client.client import connect
from pmae.presets import get_preset, is_preset, load_spec
from pmae.runs.layout import MODEL_FILE
from pmae.runtime.interrupts import Interrupts
from pmae.schema import Run
from pmae.up.configuration import UpSettings
from pmae.up.stack import Interrupted, Stack


def run_demo(source: str, *, exit_after: bool, console: Console) -> int:
    """Start the service, submit a spec, show its progress and its result.

    Args:
        source: name of a preset, or a JSON or YAML file with a spec.
        exit_after: stop when the run has ended; default: at Ctrl-C.
        console: where to print.

    Returns:
        The exit status: 0, or 1 if the run did not succeed, or 130 if it was interrupted.

    Raises:
        SpecError: there is no such preset or file, or it holds no spec.
        StackError: the service cannot start.
    """
    preset = get_preset(source) if is_preset(source) else None
    spec = preset.spec if preset else load_spec(source)
    settings = UpSettings.load()

    def say(text: str) -> None:
        console.print(text, style="yellow", highlight=False, soft_wrap=True, markup=False)

    with Interrupts() as interrupts, Stack(settings, interrupts, say) as stack:
        console.print(f"starting the service in {settings.home_dir}", highlight=False)
        try:
            stack.start()
        except Interrupted:
            return 130
        with connect(settings.api_url) as client:
            run = client.submit(preset=source) if preset else client.submit(spec)
            what = preset.summary if preset else run.name
            console.print(f"run {run.id}: {what}", highlight=False, soft_wrap=True, markup=False)
            if preset:
                console.print(f"takes {preset.cost}", highlight=False, soft_wrap=True)
            address = f"{settings.dashboard_url}/run?run={run.id}"
            console.print(f"dashboard: {address}", highlight=False, soft_wrap=True)
            ended = watch_run(client, run.id, console, stack.pause)
            if ended is None:
                return 130
            show_result(ended, console)
            _show_addresses(client, ended, address, console)
        succeeded = ended.state == "succeeded"
        if exit_after:
            return 0 if succeeded else 1
        console.print("The service keeps running; Ctrl-C stops it.")
        while not stack.pause(0.5):
            pass
        return 0 if succeeded else 1


def _show_addresses(client: PmaeClient, run: Run, address: str, console: Console) -> None:
    newest = next(client.checkpoints(run.id, kind="kept", page_size=1), None)
    console.print(f"dashboard   {address}", highlight=False, soft_wrap=True)
    if newest is not None:
        url = client.download_url(newest.id, MODEL_FILE)
        line = f"curl -fL -o {MODEL_FILE} {url}"
        console.print(f"checkpoint  {line}", highlight=False, soft_wrap=True)
