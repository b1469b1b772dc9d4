"""``pmae data``: which data sets are here and usable, and fetching those that are not.

It needs the data root and nothing else of a service.
"""

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
    typer.Option(min=1, help="Pixels, where each size has a file of its own (MedMNIST+)."),
]


@data_app.command("list")
def list_data() -> None:
    """Say which data sets are on this machine, and how to get the others."""
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
        str | None, typer.Argument(help="Name of the data set; default: each one that is here.")
    ] = None,
    resolution: Resolution = None,
) -> None:
    """Open data sets as a training would, and say what they hold; exit status 1 if one is broken.

    Image files are listed, and decoded only when a training reads them.
    """
    # Here, since it loads torch, which most other commands do not need.
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
    """The data sets that are here, and what was meant as one with what is wrong with it."""
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
    # Here, since it loads torchvision, which no other command needs.
    from pmae.data.download import download

    typer.echo(download(name, UpSettings.load(), resolution))
