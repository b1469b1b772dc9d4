"""``pmae reconstruct`` and ``pmae filmstrip``: pictures of what a run has learned, as PNG."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from pmae.cli.options import LOCAL_API, ApiUrl
from pmae.cli.resolve import CheckpointArgument, RunArgument, find_checkpoint, find_run
from pmae.client import ApiError
from pmae.client.checkpoints import uploaded_images, uploads_refused
from pmae.client.client import connect
from pmae.errors import CommandError
from pmae.metrics import band_title
from pmae.runtime.files import write_file
from pmae.schema import Reconstruction, ReconstructionRequest
from pmae.schema.number_ranges import NumbersError, expanded, parse_parts, written
from pmae.schema.reconstructions import MOST_IMAGES
from pmae.spec.messages import faults

Output = Annotated[Path, typer.Argument(metavar="OUT.png", help="File to write.")]


def reconstruct(
    checkpoint: CheckpointArgument,
    output: Output,
    images: Annotated[
        str | None,
        typer.Option(help="Which images of the data set, from 0: 3,5; default: 0-7."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Of which split: train, val or test; default: val."),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            readable=True,
            metavar="FILE",
            help="An image file of your own in place of the data set's; may be given again.",
        ),
    ] = None,
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
    mask: Annotated[
        bool,
        typer.Option(
            "--mask", help="Print what was masked too, as --components or --patches takes it."
        ),
    ] = False,
    explained: Annotated[
        bool,
        typer.Option(
            "--explained",
            help="Print the share of the masked variance that is explained too, whole and by band "
            "of the spectrum.",
        ),
    ] = False,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Reconstruct images under a mask, and write one labelled picture."""
    masking = {"strategy": strategy, "ratio": ratio}
    given = {name: value for name, value in masking.items() if value is not None}
    body: dict[str, Any] = {
        "images": _images(images, split, image or []),
        "masking": given or None,
        "components": None if components is None else _selection(components, "--components"),
        "patches": None if patches is None else _selection(patches, "--patches"),
        "seed": seed,
    }
    try:
        request = ReconstructionRequest.model_validate(body)
    except ValidationError as error:
        raise typer.BadParameter(faults(error)[0]) from error
    _check_output(output)
    with connect(api_url) as client:
        checkpoint_id = find_checkpoint(client, checkpoint)
        try:
            picture = client.reconstruct_png(checkpoint_id, request)
            # The same request gives the same masks.
            answer = client.reconstruct(checkpoint_id, request) if mask or explained else None
        except ApiError as error:
            raise _named(error, image or []) from error
    _save(output, picture)
    for line in _mask_lines(answer) if answer and mask else ():
        typer.echo(line)
    for line in _explained_lines(answer) if answer and explained else ():
        typer.echo(line)


def filmstrip(
    run: RunArgument,
    output: Output,
    image: Annotated[int, typer.Option(min=0, help="Which of the filmed images, from 0.")] = 0,
    api_url: ApiUrl = LOCAL_API,
) -> None:
    """Write a picture of how a run came to reconstruct an image, epoch by epoch."""
    _check_output(output)
    with connect(api_url) as client:
        picture = client.filmstrip_png(find_run(client, run), image=image)
    _save(output, picture)


def _images(indices: str | None, split: str | None, files: list[Path]) -> Any:
    """The request's images: of the data set, or from files."""
    if not files:
        chosen = {} if split is None else {"split": split}
        return {**chosen, "indices": _indices(indices or "0-7", "--images")}
    if indices is not None or split is not None:
        raise typer.BadParameter(
            "files take the place of --images and --split; valid is one of the two",
            param_hint="--image",
        )
    if len(files) > MOST_IMAGES:
        raise typer.BadParameter(
            f"{len(files)} files; valid are up to {MOST_IMAGES}", param_hint="--image"
        )
    return uploaded_images(files)


def _named(error: ApiError, files: list[Path]) -> Exception:
    """The refusal by the files' names, if it is about files."""
    faults = uploads_refused(error.problem)
    if not faults:
        return error
    return CommandError("; ".join(f"{files[place]}: {why}" for place, why in faults.items()))


def _check_output(output: Path) -> None:
    """Told before the service has computed anything."""
    if output.suffix.lower() != ".png":
        raise CommandError(f"{output} is to hold a PNG; valid is a name that ends in .png")
    if not output.parent.is_dir():
        raise CommandError(f"there is no folder {output.parent} to write to")


def _save(output: Path, picture: bytes) -> None:
    write_file(output, picture)
    typer.echo(str(output))


def _selection(text: str, option: str) -> list[int | tuple[int, int]]:
    """``0-9,12`` as the API has it: ``[(0, 9), 12]``."""
    try:
        return parse_parts(text)
    except NumbersError as error:
        raise typer.BadParameter(
            f"{error}; valid is for example 0-9,12", param_hint=option
        ) from error


def _mask_lines(answer: Reconstruction) -> Iterator[str]:
    """The options that mask the same again; one line, or one for each image."""
    option = f"--{answer.parts}"
    if answer.masked is not None:
        yield f"{option} {written(answer.masked)}"
    for image in answer.images:
        if image.masked is not None:
            yield f"image {image.index}: {option} {written(image.masked)}"


def _explained_lines(answer: Reconstruction) -> Iterator[str]:
    """The share of the masked variance that is explained: of all, of bands, and of each image."""
    yield f"explained variance: {_percent(answer.explained_variance)}"
    for band, share in answer.explained_variance_by_band.items():
        yield f"band {band_title(band)}: {_percent(share)}"
    for image in answer.images:
        yield f"image {image.index}: {_percent(image.explained_variance)}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _indices(text: str, option: str) -> list[int]:
    """``0-2,7`` as ``[0, 1, 2, 7]``."""
    try:
        return expanded(_selection(text, option), most=MOST_IMAGES, what="images")
    except NumbersError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
