"""HTML elements. ``Markup.format`` escapes all text of users and runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from dashboard.elements import formatting
from dashboard.elements.palette import STATE_COLORS, run_color
from pmae.schema import Evaluation, Progress, Run, RunState
from pmae.spec import ExperimentSpec

STAGES = ("data", "basis", "pretrain", "probe")


def joined(pieces: Iterable[Markup]) -> Markup:
    """The pieces one after the other."""
    return Markup("").join(pieces)


def state_badge(state: RunState, *, cancelling: bool = False) -> Markup:
    """A run's state as a coloured word with a dot."""
    return Markup('<span class="pm-state{pulse}" style="--c:{color}"><i></i>{word}</span>').format(
        pulse=" pm-live" if state == "running" else "",
        color=STATE_COLORS[state],
        word="cancelling" if cancelling and state == "running" else state,
    )


def swatch(number: int) -> Markup:
    """The run's colour."""
    return Markup('<span class="pm-swatch" style="background:{}"></span>').format(run_color(number))


def bar(share: float, color: str) -> Markup:
    """A thin bar filled to ``share`` (0 to 1)."""
    width = 100 * min(1.0, max(0.0, share))
    return Markup(
        '<span class="pm-bar"><span style="width:{width:.1f}%;background:{color}"></span></span>'
    ).format(width=width, color=color)


def progress_share(progress: Progress) -> float | None:
    """Fraction of the stage that is done, 0 to 1."""
    if progress.done is None or not progress.total:
        return None
    return progress.done / progress.total


def progress_words(progress: Progress) -> str:
    """``epoch 12 of 40 · 1,204 of 3,200 · 5,320 images/s``, as far as known."""
    words = []
    if progress.epoch is not None and progress.total_epochs:
        words.append(f"epoch {progress.epoch} of {progress.total_epochs}")
    if progress.done is not None and progress.total:
        done, total = formatting.count(progress.done), formatting.count(progress.total)
        words.append(f"{done} of {total}{' steps' if progress.stage == 'pretrain' else ''}")
    if progress.images_per_second:
        words.append(f"{formatting.count(round(progress.images_per_second))} images/s")
    return " · ".join(words)


def stages(run: Run) -> Markup:
    """The stages of a run, with those passed, the one it is in, and those to come."""
    passed = run.state == "succeeded"
    current = run.progress.stage if not passed else None
    at = STAGES.index(current) if current in STAGES else (len(STAGES) if passed else -1)
    absent = {"basis", "pretrain"}
    if isinstance(run.spec, ExperimentSpec):
        absent = {"basis"} if run.spec.basis is None else set()
    names = tuple(name for name in STAGES if name not in absent)
    return Markup('<span class="pm-stages">{}</span>').format(
        joined(
            Markup('<span class="{}">{}</span>').format(
                "done" if STAGES.index(name) < at else "now" if name == current else "", name
            )
            for name in names
        )
    )


def facts(pairs: Sequence[tuple[str, str | Markup]]) -> Markup:
    """Figures side by side, each under its name."""
    return Markup('<div class="pm-facts">{}</div>').format(
        joined(
            Markup("<div><small>{}</small><b>{}</b></div>").format(name, value)
            for name, value in pairs
        )
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str | Markup]]) -> Markup:
    """A table; heads that start with ``>`` are of figures and stand on the right."""
    classes = ["num" if name.startswith(">") else "" for name in head]
    header = joined(
        Markup('<th class="{}">{}</th>').format(css, name.removeprefix(">"))
        for css, name in zip(classes, head, strict=True)
    )
    body = joined(
        Markup("<tr>{}</tr>").format(
            joined(
                Markup('<td class="{}">{}</td>').format(css, cell)
                for css, cell in zip(classes, row, strict=True)
            )
        )
        for row in rows
    )
    return Markup(
        '<div class="pm-scroll"><table class="pm-table">'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(header, body)


def evaluations(items: Sequence[Evaluation], color: str) -> Markup:
    """Accuracies at the end as bars, by protocol, the best first.

    The trained encoder's are in the run's colour. Accuracies by depth and over the epochs of
    pretraining follow as tables where there are any.
    """
    final = [item for item in items if "@" not in item.key]
    several = len({formatting.protocol_label(item) for item in final}) > 1
    order = {item.protocol: index for index, item in reversed(list(enumerate(final)))}
    rows = joined(
        Markup(
            '<tr class="{mark}"><th>{name}</th><td>{bar}</td><td class="num">{top1}</td></tr>'
        ).format(
            mark="pm-own" if item.features == "encoder" else "",
            name=_evaluation_name(item) if several else formatting.evaluation_label(item),
            bar=bar(item.top1, color if item.features == "encoder" else "var(--pm-quiet)"),
            top1=formatting.top1(item),
        )
        for item in sorted(final, key=lambda item: (order[item.protocol], -item.top1))
    )
    bars = Markup('<table class="pm-bars">{}</table>').format(rows)
    return joined([bars, *(_by_layer(item) for item in final), _over_epochs(items)])


def _evaluation_name(item: Evaluation) -> str:
    return f"{formatting.protocol_label(item)}: {formatting.evaluation_label(item)}"


def _by_layer(item: Evaluation) -> Markup:
    """Accuracy after every block of the encoder."""
    layers = item.details.get("by_layer") or []
    if not layers:
        return Markup("")
    rows = [
        (
            str(found["layer"]),
            formatting.percent(found["top1"]),
            formatting.percent(found["val_top1"]) if "val_top1" in found else "–",
        )
        for found in layers
    ]
    heading = Markup("<h6>{}, by block</h6>").format(_evaluation_name(item))
    return heading + table((">Block", ">Test", ">Validation"), rows)


def _over_epochs(items: Sequence[Evaluation]) -> Markup:
    """Accuracy at the epochs of pretraining at which it was measured, one column a protocol."""
    curves: dict[str, dict[float, Evaluation]] = {}
    for item in items:
        if item.features == "encoder":
            curves.setdefault(_evaluation_name(item), {})[item.epoch] = item
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    epochs = sorted({epoch for points in curves.values() for epoch in points})
    if not epochs:
        return Markup("")
    rows = [
        (
            formatting.epoch(epoch),
            *(
                formatting.top1(points[epoch]) if epoch in points else ""
                for points in curves.values()
            ),
        )
        for epoch in epochs
    ]
    head = (">Epoch", *(f">{name}" for name in curves))
    return Markup("<h6>Over the epochs</h6>") + table(head, rows)


def download_link(url: str, name: str) -> Markup:
    """A link that a browser fetches from the API itself."""
    return Markup('<a href="{}" download>{}</a>').format(url, name)
