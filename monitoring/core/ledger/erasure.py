"""One person's rows out of the ledger: what was said about their predictions, and where texts of theirs were shown."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Table, delete, select, text, update

from monitoring.core.tables import alerts, drift_reports, exposures, feedback, label_queue, outbox, outcomes

CHUNK = 500
SHOWN_IN = ((drift_reports, "report"), (alerts, "detail"), (outbox, "payload"))
"""Where example texts are kept beside their ids, anywhere in a JSON column."""


def erase(connection: Connection, *, prediction_ids: Collection[str], unit: str | None) -> dict[str, int]:
    """Delete what belongs to these predictions, and to the client whose hashed key is `unit`; rows by table.

    Verdicts and alerts stay, without the examples that were theirs. SQLite is made to overwrite what it deletes.
    """
    if connection.dialect.name == "sqlite":
        connection.execute(text("PRAGMA secure_delete = ON"))
    ids = sorted(prediction_ids)
    erased = {table.name: _delete(connection, table, ids) for table in (feedback, outcomes, label_queue)}
    if unit is not None:
        erased["outcomes"] += connection.execute(delete(outcomes).where(outcomes.c.unit == unit)).rowcount
        erased["exposures"] = connection.execute(delete(exposures).where(exposures.c.unit == unit)).rowcount
    for table, column in SHOWN_IN:
        erased[table.name] = _strip(connection, table, column, frozenset(ids))
    return erased


def predictions_of(connection: Connection, unit: str) -> set[str]:
    """Ids of the client's predictions that have outcomes, also where the log has forgotten them."""
    return set(connection.execute(select(outcomes.c.prediction_id).where(outcomes.c.unit == unit)).scalars())


def without(value: Any, ids: Collection[str]) -> Any:
    """The JSON value without the list entries that show one of these predictions.

    >>> without({"examples": [{"id": "a", "text": "my name"}, {"id": "b", "text": "yes"}], "n": 2}, {"a"})
    {'examples': [{'id': 'b', 'text': 'yes'}], 'n': 2}
    """
    if isinstance(value, dict):
        return {key: without(item, ids) for key, item in value.items()}
    if isinstance(value, list):
        return [without(item, ids) for item in value if not _shows(item, ids)]
    return value


def _shows(item: Any, ids: Collection[str]) -> bool:
    return isinstance(item, dict) and (item.get("id") in ids or item.get("prediction_id") in ids)


def _delete(connection: Connection, table: Table, ids: list[str]) -> int:
    chunks = (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
    return sum(connection.execute(delete(table).where(table.c.prediction_id.in_(chunk))).rowcount for chunk in chunks)


def _strip(connection: Connection, table: Table, column: str, ids: frozenset[str]) -> int:
    """Take the examples out of a JSON column; the number of rows that had any."""
    found = []
    for key, value in connection.execute(select(table.c.id, table.c[column]).execution_options(yield_per=CHUNK)):
        if (kept := without(value, ids)) != value:
            found.append((key, kept))
    for key, kept in found:
        connection.execute(update(table).where(table.c.id == key).values({column: kept}))
    return len(found)
