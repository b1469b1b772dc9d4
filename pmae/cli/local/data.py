"""``pmae data``: list, check and download data sets. It needs the data root, but no service."""

from __future__ import annotations

from typing import Annotated

import typer

from pmae.cli.output import print_table
from pmae.data.locate import data_root_problem, list_datasets
from pmae.errors import DataError, PmaeError
from pmae.spec.catalog import DATASETS
from pmae.up.configuration import UpSettings

data_app = typer.Typer(help="Data sets.", no_args_is_help=True)


Resolution = Annotated[
    int | None,
    typer.Option(min=1, help="Pixels per side, for data sets with a file per size (MedMNIST+)."),
]


@data_app.command("list")
def list_data() -> None:
    """List the data sets: those on this machine, and how to get the others."""
    settings = UpSettings.load()
    rows = []
    for listed in list_datasets(settings):
        name, location = listed.facts.name, listed.location
        pixels = str(listed.facts.resolution) if name in DATASETS else "any"
        rows.append((name, pixels, "yes" if location.available else "no", location.message))
    print_table(
        ("name", "pixels", "here", "where, or why not"),
        rows,
        flexible=("where, or why not",),
    )
    problem = data_root_problem(settings)
    if problem is not None:
        typer.echo(f"pmae: {problem}", err=True)


@data_app.command("check")
def check_data(
    name: Annotated[
        str | None, typer.Argument(help="Name of the data set; default: all on this machine.")
    ] = None,
    resolution: Resolution = None,
) -> None:
    """Open data sets as training does, and list their contents; exit status 1 if one is broken.

    Image files are listed but not decoded.
    """
    # Imported late: it loads torch, which most commands do not need.
    from pmae.data.check import check

    settings = UpSettings.load()
    rows, broken = [], False
    for each, problem in _to_check(settings) if name is None else [(name, None)]:
        try:
            if problem is not None:
                raise DataError(problem)
            rows.append((*check(each, settings, resolution), ""))
        except PmaeError as error:
            broken = True
            rows.append((each, "", "", "", "", "", "", str(error)))
    columns = ("name", "train", "val", "test", "classes", "channels", "pixels", "what is wrong")
    print_table(columns, rows, flexible=("what is wrong",))
    if broken:
        raise typer.Exit(1)


def _to_check(settings: UpSettings) -> list[tuple[str, str | None]]:
    """Return the name of every local data set, each with its problem or None.

    Folders and files that are no data set, although they are where one would be, have a problem.
    """
    return [
        (listed.facts.name, None if listed.location.available else listed.location.message)
        for listed in list_datasets(settings)
        if listed.location.available
        or listed.location.unreadable
        or listed.facts.name not in DATASETS
    ]


@data_app.command("download")
def download_data(
    name: Annotated[str, typer.Argument(help="Name of the data set, as `pmae data list` has it.")],
    resolution: Resolution = None,
) -> None:
    """Download a data set into the data root, verified by its checksum."""
    # Imported late: it loads torchvision, which no other command needs.
    from pmae.data.download import download

    typer.echo(download(name, UpSettings.load(), resolution))
