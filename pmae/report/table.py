"""The paper's table from a folder of runs, with measured and published figures apart.

Runs (see :mod:`pmae.report.collect`) that differ in their seed only are one configuration, shown as
mean and sample standard deviation. Of several configurations in a cell (the ratios of ``ocl``, or
other settings) the one with the best *validation* accuracy is shown, by its test accuracy. Imports
no torch.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pmae.evaluate.results import mean_and_std
from pmae.report.collect import Measured
from pmae.report.published import METHODS, PROBES, RANDOM_RATIO, ROWS, SOURCE, STD, published
from pmae.spec import SHORT_PROTOCOL_NAMES, MaskingSpec

_PROTOCOLS = (*PROBES, "knn")
_Cell = tuple[str, str, str, str]
"""Protocol, method, variant and data set."""
NOT_COMPARABLE = (
    "Published and measured figures are not comparable. The published results script takes the "
    "best of a probe's epochs on the images that it reports (for MedMNIST the validation split "
    "under training augmentation, for Tiny ImageNet the public validation images) and trains on "
    "all training images; it is not known if the published table was made by it. Measured figures "
    "are those of a probe's last epoch, on test images that were not used for any choice; figures "
    "of the best epoch are chosen on test images and too high. Unless dataset.val of a run is "
    "none, some of its training images are held out for validation."
)


@dataclass(frozen=True)
class Row:
    """A figure of the table, in percent.

    Attributes:
        source: ``published``, ``measured``, or ``measured_best_epoch``: measured, and chosen on
            test.
        variant: ``std``, ``ocl`` or ``rd``.
        runs: number of runs, a seed each, in the mean; None for published figures.
        ratio: of the configuration that is shown, if it is one number.
        candidates: number of configurations that it was chosen from.
    """

    source: str
    protocol: str
    method: str
    variant: str
    dataset: str
    top1: float
    std: float | None = None
    runs: int | None = None
    ratio: float | None = None
    candidates: int | None = None


_MakeRow = Callable[[_Cell, Sequence[Measured]], Row]


def variants(method: str, masking: MaskingSpec) -> tuple[str, ...]:
    """List the table's rows that a run belongs to; MAE at 0.75 is also a candidate for ``ocl``.

    The paper's ratios are fractions of the variance, and its ``rd`` draws them from 0.1 to 0.9.
    """
    if masking.strategy != "random" or masking.ratio_of == "components":
        return ()
    low, high = masking.ratio_range
    if low < high:
        return ("rd",) if (low, high) == RANDOM_RATIO else ()
    return ("std", "ocl") if (method, low) == STD else ("ocl",)


def measured_rows(runs: Iterable[Measured]) -> list[Row]:
    """Make the measured part of the table, in the paper's order, with other data sets last."""
    return _measured_rows(runs, _row)


def best_epoch_rows(runs: Iterable[Measured]) -> list[Row]:
    """Make the rows as the published results script would: with all choices made on test images.

    A figure is the best of a probe's epochs, and a cell shows the configuration with the best
    figure. k-NN has no epochs and is left out.
    """
    return _measured_rows((run for run in runs if run.best_epoch_top1 is not None), _best_epoch_row)


def _measured_rows(runs: Iterable[Measured], make: _MakeRow) -> list[Row]:
    cells: dict[_Cell, list[Measured]] = defaultdict(list)
    for run in runs:
        for variant in variants(run.method, run.masking):
            cells[run.protocol, run.method, variant, run.dataset].append(run)
    rows = [make(cell, found) for cell, found in cells.items()]
    order = {row: n for n, row in enumerate(_rows(rows))}
    return sorted(rows, key=lambda r: (order[r.protocol, r.method, r.variant], r.dataset))


def _rows(rows: Iterable[Row]) -> list[tuple[str, str, str]]:
    """List protocol, method and variant of each line: the paper's, then those of other methods."""
    papers = [(protocol, *row) for protocol in _PROTOCOLS for row in ROWS]
    found = {(row.protocol, row.method, row.variant) for row in rows}
    return [*papers, *sorted(found.difference(papers))]


def _row(cell: _Cell, found: Sequence[Measured]) -> Row:
    candidates = _configurations(found)
    # Runs of older versions have no validation accuracy, and are chosen last.
    chosen = max(candidates, key=lambda runs: mean_and_std([r.val_top1 or 0.0 for r in runs])[0])
    return _make_row("measured", cell, chosen, [run.top1 for run in chosen], len(candidates))


def _best_epoch_row(cell: _Cell, found: Sequence[Measured]) -> Row:
    candidates = _configurations(found)
    figures = [[run.best_epoch_top1 or 0.0 for run in runs] for runs in candidates]
    best = max(range(len(candidates)), key=lambda index: mean_and_std(figures[index])[0])
    source = "measured_best_epoch"
    return _make_row(source, cell, candidates[best], figures[best], len(candidates))


def _configurations(found: Sequence[Measured]) -> list[list[Measured]]:
    """Group the runs that differ in their seed only."""
    by_configuration: dict[str, dict[int, Measured]] = defaultdict(dict)
    for run in found:
        by_configuration[run.configuration][run.seed] = run
    return [list(seeds.values()) for seeds in by_configuration.values()]


def _make_row(
    source: str,
    cell: _Cell,
    chosen: Sequence[Measured],
    figures: Sequence[float],
    candidates: int,
) -> Row:
    top1, std = mean_and_std([100 * figure for figure in figures])
    low, high = chosen[0].masking.ratio_range
    protocol, method, variant, dataset = cell
    return Row(
        source=source,
        protocol=protocol,
        method=method,
        variant=variant,
        dataset=dataset,
        top1=top1,
        std=std,
        runs=len(chosen),
        ratio=low if low == high else None,
        candidates=candidates,
    )


def published_rows() -> list[Row]:
    """Make the published part of the table."""
    return [
        Row("published", p.protocol, p.method, p.variant, p.dataset, p.top1) for p in published()
    ]


def as_csv(rows: Sequence[Row]) -> str:
    """Format as CSV, a row for each figure; ``source`` says who measured it."""
    names = list(Row.__dataclass_fields__)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = (getattr(row, name) for name in names)
        writer.writerow([f"{v:.4g}" if isinstance(v, float) else v for v in values])
    return buffer.getvalue()


def as_text(rows: Sequence[Row]) -> str:
    """Format as tables of fixed width: published, measured, and measured but chosen on test."""
    parts = []
    for caption, part in _parts(rows):
        head, body = _grid(part, _plain)
        lines = [head, *body]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        text = [
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        parts.append("\n".join([caption, text[0], "-" * max(map(len, text)), *text[1:]]))
    return "\n\n".join([*parts, *_notes(rows)]) + "\n"


def as_latex(rows: Sequence[Row]) -> str:
    """Format as LaTeX tabulars: published, measured, and measured but chosen on test."""
    parts = []
    for caption, part in _parts(rows):
        head, body = _grid(part, _tex)
        lines = [" & ".join(line) + r" \\" for line in (head, *body)]
        columns = "ll" + "r" * (len(head) - 2)
        parts.append(
            "\n".join(
                [
                    f"% {caption}",
                    rf"\begin{{tabular}}{{{columns}}}",
                    r"\hline",
                    lines[0].replace("_", r"\_"),
                    r"\hline",
                    *lines[1:],
                    r"\hline",
                    r"\end{tabular}",
                ]
            )
        )
    return "\n\n".join([*parts, *(f"% {note}" for note in _notes(rows))]) + "\n"


def as_json(rows: Sequence[Row]) -> str:
    """Format as a JSON list of figures."""
    return json.dumps([vars(row) for row in rows], indent=1) + "\n"


def _parts(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    captions = {
        "published": f"published ({SOURCE}), top-1 %",
        "measured": "measured here, top-1 % on test, mean ± standard deviation over seeds",
        "measured_best_epoch": "measured here, but as the published results script reports: the "
        "best of the probe's epochs on test, top-1 %",
    }
    for source, caption in captions.items():
        part = [row for row in rows if row.source == source]
        if part:
            yield caption, part


def _grid(rows: Sequence[Row], write: Any) -> tuple[list[str], list[list[str]]]:
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    cells = {(row.protocol, row.method, row.variant, row.dataset): row for row in rows}
    body = []
    for protocol, method, variant in _rows(rows):
        found = [cells.get((protocol, method, variant, dataset)) for dataset in datasets]
        if any(found):
            name = f"{METHODS.get(method, method)} {variant}"
            body.append(
                [
                    SHORT_PROTOCOL_NAMES[protocol],
                    name,
                    *(write(row) if row else "" for row in found),
                ]
            )
    return ["probe", "method", *datasets], body


def _plain(row: Row) -> str:
    return f"{row.top1:.1f}" + ("" if row.std is None else f" ± {row.std:.1f}") + _mark(row)


def _tex(row: Row) -> str:
    return f"{row.top1:.1f}" + ("" if row.std is None else rf" $\pm$ {row.std:.1f}") + _mark(row)


def _mark(row: Row) -> str:
    return "" if row.runs is None else f" ({row.runs})"


def _notes(rows: Sequence[Row]) -> list[str]:
    measured = [row for row in rows if row.source == "measured"]
    notes = ["In brackets: number of runs, a seed each."] if measured else []
    if measured:
        notes.append(NOT_COMPARABLE)
    for row in measured:
        if row.candidates and row.candidates > 1:
            ratio = "" if row.ratio is None else f", ratio {row.ratio:g}"
            name = f"{METHODS.get(row.method, row.method)} {row.variant}"
            notes.append(
                f"{SHORT_PROTOCOL_NAMES[row.protocol]}, {name}, {row.dataset}: "
                f"the best on validation of {row.candidates} configurations{ratio}."
            )
    return notes
