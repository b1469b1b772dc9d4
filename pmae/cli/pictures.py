"""``pmae reconstruct`` and ``pmae filmstrip``: pictures of what a run has learned, as PNG."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from pmae.cli.options import LOCAL_API, ApiUrl
from pmae.cli.resolve import CheckpointArgument, RunArgument, find_checkpoint, find_run
from pmae.client.environment import connect
from pmae.errors import CommandError
from pmae.files import write_file
from pmae.schema import ReconstructionRequest

_PART = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
_MOST_IMAGES = 10_000

Output = Annotated[Path, typer.Argument(metavar="OUT.png", help="File to write.")]


def reconstruct(
    checkpoint: CheckpointArgument,
    output: Output,
    images: Annotated[str, typer.Option(help="Which images, from 0: 0-7 or 3,5.")] = "0-7",
    split: Annotated[str, typer.Option(help="Of which split: train, val or test.")] = "val",
    ratio: Annotated[
        float | None, typer.Option(help="Share to mask, above 0 and below 1. Default: as trained.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="How to draw what is masked; default: as trained, with --ratio random."),
    ] = None,
    components: Annotated[
        str | None, typer.Option(help="PMAE: mask exactly these components, from 0: 0-9,12.")
    ] = None,
    patches: Annotated[
        str | None, typer.Option(help="MAE: mask exactly these patches, row by row: 0-9,12.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of a drawn mask.")] = 0,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Reconstruct images under a mask, and write one labelled picture."""
    masking = {"strategy": strategy, "ratio": ratio}
    given = {name: value for name, value in masking.items() if value is not None}
    body: dict[str, Any] = {
        "images": {"split": split, "indices": _indices(images, "--images")},
        "masking": given or None,
        "components": None if components is None else _selection(components, "--components"),
        "patches": None if patches is None else _selection(patches, "--patches"),
        "seed": seed,
    }
    try:
        request = ReconstructionRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise typer.BadParameter(f"{where}: {first['msg']}") from error
    _check_folder(output)
    with connect(api_url) as client:
        picture = client.reconstruct_png(find_checkpoint(client, checkpoint), request)
    _save(output, picture)


def filmstrip(
    run: RunArgument,
    output: Output,
    image: Annotated[int, typer.Option(min=0, help="Which of the filmed images, from 0.")] = 0,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Write a picture of how a run came to reconstruct an image, epoch by epoch."""
    _check_folder(output)
    with connect(api_url) as client:
        picture = client.filmstrip_png(find_run(client, run), image=image)
    _save(output, picture)


def _check_folder(output: Path) -> None:
    """Told before the service has computed anything."""
    if not output.parent.is_dir():
        raise CommandError(f"there is no folder {output.parent} to write to")


def _save(output: Path, picture: bytes) -> None:
    write_file(output, picture)
    typer.echo(str(output))


def _selection(text: str, option: str) -> list[int | tuple[int, int]]:
    """``0-9,12`` as the API has it: ``[(0, 9), 12]``."""
    chosen: list[int | tuple[int, int]] = []
    for part in text.split(","):
        found = _PART.fullmatch(part.strip())
        if found is None:
            raise typer.BadParameter(
                f"{part!r} is no number or range; valid is for example 0-9,12", param_hint=option
            )
        first = int(found[1])
        chosen.append(first if found[2] is None else (first, int(found[2])))
    return chosen


def _indices(text: str, option: str) -> list[int]:
    """``0-2,7`` as ``[0, 1, 2, 7]``."""
    indices: list[int] = []
    for part in _selection(text, option):
        low, high = (part, part) if isinstance(part, int) else part
        if high < low or high - low >= _MOST_IMAGES:
            raise typer.BadParameter(
                f"{low}-{high} is no range of images; valid is for example 0-7", param_hint=option
            )
        indices += range(low, high + 1)
    return indices
