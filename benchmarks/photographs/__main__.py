"""Crop photographs, and report how PMAE's masks act on the crops.

    python -m benchmarks.photographs                      # from Debian's wallpaper packages, by apt
    python -m benchmarks.photographs ~/Pictures           # or from a folder of your own
    python -m benchmarks.photographs --train 20           # also train PMAE and MAE on them

Writes the data set ``npz:photographs`` to ``photographs.npz`` in the data root. Accuracy is not
measured, since colour alone identifies a photograph.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.photographs.crops import (
    packaged_photographs,
    photographs_of,
    unpack_packages,
    write_crops,
)
from benchmarks.photographs.spectra import fit, masked_sheet, spectrum_lines
from benchmarks.photographs.training import METHODS, train_and_show
from pmae.runtime.files import write_file
from pmae.settings import StorageSettings

NAME = "photographs"
RESOLUTIONS = (32, 64)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    settings = StorageSettings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.photographs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, nargs="?", help="of photographs; default: Debian's")
    parser.add_argument("--crops", type=int, default=12_000, help="of all splits; default: 12000")
    parser.add_argument(
        "--output",
        type=Path,
        default=settings.data_dir,
        help=f"folder of {NAME}.npz and of the pictures; default: the data root",
    )
    parser.add_argument("--train", type=int, metavar="EPOCHS", help="train PMAE and MAE at 32 px")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        found = (
            packaged_photographs(unpack_packages(Path(scratch)))
            if options.folder is None
            else photographs_of(options.folder)
        )
        counts = write_crops(found, options.output / f"{NAME}.npz", options.crops)
    by_split = ", ".join(f"{count} for {split}" for split, count in counts.items())
    print(f"{len(found)} photographs, crops: {by_split}")
    here = settings.model_copy(update={"data_root": options.output})
    for resolution in RESOLUTIONS:
        fitted = fit(f"npz:{NAME}", resolution, here)
        print(*spectrum_lines(fitted), sep="\n")
        write_file(options.output / f"{NAME}_masked_{resolution}.png", masked_sheet(fitted))
    for method in METHODS if options.train else ():
        print(train_and_show(method, f"npz:{NAME}", options.train, options.output, here))


if __name__ == "__main__":
    main()
