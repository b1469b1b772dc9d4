"""``pmae data``: which data sets are here, and fetching those that are not."""

from __future__ import annotations

from typing import Annotated

import typer

from pmae.cli.output import print_table
from pmae.data.catalog import DATASETS
from pmae.data.locate import locate, own_datasets
from pmae.up.settings import UpSettings

data_app = typer.Typer(help="Data sets.", no_args_is_help=True)


@data_app.command("list")
def list_data() -> None:
    """Say which data sets are on this machine, and how to get the others."""
    settings = UpSettings.load()
    rows = []
    for name in [*DATASETS, *own_datasets(settings)]:
        location = locate(name, settings)
        pixels = str(DATASETS[name].resolution) if name in DATASETS else "any"
        rows.append((name, pixels, "yes" if location.available else "no", location.message))
    print_table(
        ("name", "pixels", "here", "where, or how to get it"),
        rows,
        flexible=("where, or how to get it",),
    )


@data_app.command("download")
def download_data(
    name: Annotated[str, typer.Argument(help="Name of the data set, as `pmae data list` has it.")],
    resolution: Annotated[
        int | None,
        typer.Option(min=1, help="Pixels, where each size has a file of its own (MedMNIST+)."),
    ] = None,
) -> None:
    """Download a data set into the data root, verified by its checksum."""
    # Here, since it loads torchvision, which no other command needs.
    from pmae.data.download import download

    typer.echo(download(name, UpSettings.load(), resolution))
