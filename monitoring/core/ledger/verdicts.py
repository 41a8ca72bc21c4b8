"""What the monitor concluded and how far it has read: reports, detector states, cursors, gauges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from monitoring.core.ids import new_id
from monitoring.core.ledger.database import upsert
from monitoring.core.plain import plain
from monitoring.core.tables import cursors, detector_states, drift_reports, gauges, slice_memories
from monitoring.core.types import DriftReport, Interval, SignalFinding, SliceFinding, Verdict


def save_report(connection: Connection, report: DriftReport) -> str:
    """Keep a report; its id."""
    report_id = new_id()
    connection.execute(
        insert(drift_reports).values(
            id=report_id,
            model=report.model,
            version=report.version,
            window_start=report.window_start,
            window_end=report.window_end,
            verdict=report.verdict,
            report=plain(report),  # PostgreSQL takes no nan
        )
    )
    return report_id


def reports(
    connection: Connection,
    model: str,
    *,
    version: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 50,
) -> list[tuple[str, DriftReport]]:
    """The newest reports with their ids, newest first; of windows that end after `since` and begin before `until`."""
    query = select(drift_reports).where(drift_reports.c.model == model)
    if version is not None:
        query = query.where(drift_reports.c.version == version)
    if since is not None:
        query = query.where(drift_reports.c.window_end > since)
    if until is not None:
        query = query.where(drift_reports.c.window_start < until)
    query = query.order_by(drift_reports.c.window_end.desc()).limit(limit)
    return [(row.id, _report(row.report)) for row in connection.execute(query)]


def save_detector(
    connection: Connection, *, model: str, version: str, state: bytes, started_at: datetime, now: datetime
) -> None:
    """Keep a version's detector state (npz bytes)."""
    values = {"model": model, "state": state, "started_at": started_at, "updated_at": now}
    upsert(connection, detector_states, {"version": version}, values)


def load_detector(connection: Connection, version: str) -> bytes | None:
    """A version's detector state, or None before its first prediction."""
    query = select(detector_states.c.state).where(detector_states.c.version == version)
    return connection.execute(query).scalar_one_or_none()


def drop_detector(connection: Connection, version: str) -> None:
    """Forget a version's detector, so that its next prediction starts a new one."""
    connection.execute(delete(detector_states).where(detector_states.c.version == version))


def save_slice_memory(
    connection: Connection, *, version: str, state: bytes, started_at: datetime, now: datetime
) -> None:
    """Keep what is remembered of the slices of a version's reign that began at `started_at` (npz bytes)."""
    values = {"state": state, "started_at": started_at, "updated_at": now}
    upsert(connection, slice_memories, {"version": version}, values)


def load_slice_memory(connection: Connection, version: str, *, started_at: datetime) -> bytes | None:
    """What is remembered of the slices of that reign, or None."""
    query = select(slice_memories.c.state).where(
        slice_memories.c.version == version, slice_memories.c.started_at == started_at
    )
    return connection.execute(query).scalar_one_or_none()


def load_cursor(connection: Connection, name: str) -> dict[str, Any]:
    """How far the reader `name` has come; {} at the beginning."""
    position = connection.execute(select(cursors.c.position).where(cursors.c.name == name)).scalar_one_or_none()
    return dict(position) if position is not None else {}


def save_cursor(connection: Connection, name: str, position: Mapping[str, Any]) -> None:
    """Keep how far the reader has come; in the transaction that keeps what it read."""
    upsert(connection, cursors, {"name": name}, {"position": dict(position)})


def load_cursors(connection: Connection, prefix: str) -> dict[str, dict[str, Any]]:
    """How far each reader whose name begins with `prefix` has come, by name."""
    found = select(cursors).where(cursors.c.name.startswith(prefix, autoescape=True)).order_by(cursors.c.name)
    return {row.name: dict(row.position) for row in connection.execute(found)}


def drop_cursor(connection: Connection, name: str) -> None:
    """Forget a reader."""
    connection.execute(delete(cursors).where(cursors.c.name == name))


def save_gauges(connection: Connection, *, model: str, version: str, values: Mapping[str, Any], now: datetime) -> None:
    """Keep a version's newest readings for the exporter."""
    kept = {"values": plain(values), "updated_at": now}  # PostgreSQL takes no nan
    upsert(connection, gauges, {"model": model, "version": version}, kept)


def load_gauges(connection: Connection) -> list[tuple[str, str, dict[str, Any], datetime]]:
    """(model, version id, values, updated at) of every watched version."""
    return [
        (row.model, row.version, dict(row._mapping["values"]), row.updated_at)
        for row in connection.execute(select(gauges))
    ]


def _report(body: Mapping[str, Any]) -> DriftReport:
    values = dict(body)
    realised = values["realised_accuracy"]
    values |= {
        "window_start": datetime.fromisoformat(values["window_start"]),
        "window_end": datetime.fromisoformat(values["window_end"]),
        "verdict": Verdict(values["verdict"]),
        "effect": _number(values["effect"]),
        "findings": tuple(SignalFinding(**_numbers(finding)) for finding in values["findings"]),
        "estimated_accuracy": Interval(**_numbers(values["estimated_accuracy"])),
        "realised_accuracy": None if realised is None else Interval(**_numbers(realised)),
        "calibration": _numbers(values["calibration"]),
        "slices": tuple(_slice_finding(finding) for finding in values.get("slices", ())),
    }
    return DriftReport(**values)


def _slice_finding(body: Mapping[str, Any]) -> SliceFinding:
    accuracy = body["accuracy"]
    values = {**body, "effect": _number(body["effect"]), "p_value": _number(body["p_value"])}
    return SliceFinding(**values | {"accuracy": None if accuracy is None else Interval(**_numbers(accuracy))})


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _numbers(body: Mapping[str, Any]) -> dict[str, Any]:
    """Of a value whose fields are never None: what was nan when it was kept."""
    return {name: _number(item) for name, item in body.items()}
