"""Metrics as comma-separated values, one point a line, sent while they are read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

from fastapi import Response
from fastapi.responses import StreamingResponse
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session, sessionmaker

from api.db.tables import MetricRow
from api.metrics.downsampling import POINT
from pmae.schema import Metrics

MEDIA_TYPE = "text/csv"
_COLUMNS = ("run", "name", "step", "epoch", "time", "value")
_CHUNK_ROWS = 5_000


def wants_csv(form: str | None, accept: str | None) -> bool:
    """Return True if a request asks for CSV, by ``format`` or else by its ``Accept`` header."""
    if form is not None:
        return form == "csv"
    return accept is not None and accept.partition(";")[0].strip().lower() == MEDIA_TYPE


def stream_points(
    sessions: sessionmaker[Session], runs: Mapping[int, str], names: Sequence[str] | None
) -> Response:
    """Stream every point of the runs' metrics, by run, name and step."""
    return _response(_lines(sessions, runs, names))


def stream_metrics(found: Sequence[Metrics]) -> Response:
    """Series that were thinned out already."""
    rows = (
        (metrics.run_id, series.name, *point)
        for metrics in found
        for series in metrics.series
        for point in zip(series.step, series.epoch, series.time, series.value, strict=True)
    )
    return _response(iter((_written([_COLUMNS]), _written(rows))))


def _response(lines: Iterator[str]) -> Response:
    headers = {"Content-Disposition": 'attachment; filename="metrics.csv"', "Vary": "Accept"}
    return StreamingResponse(lines, media_type=f"{MEDIA_TYPE}; charset=utf-8", headers=headers)


def _lines(
    sessions: sessionmaker[Session], runs: Mapping[int, str], names: Sequence[str] | None
) -> Iterator[str]:
    """In transactions of a chunk each: a client that reads slowly holds no connection."""
    yield _written([_COLUMNS])
    for number, run_id in runs.items():
        query = select(*POINT).where(MetricRow.run_number == number)
        if names is not None:
            query = query.where(MetricRow.name.in_(names))
        place = tuple_(MetricRow.name, MetricRow.step)
        query = query.order_by(MetricRow.name, MetricRow.step).limit(_CHUNK_ROWS)
        after = None
        while True:
            with sessions() as session:
                rows = session.execute(query if after is None else query.where(place > after)).all()
            yield _written((run_id, *row[1:]) for row in rows)
            if len(rows) < _CHUNK_ROWS:
                break
            after = (rows[-1].name, rows[-1].step)


def _written(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
