"""The newest label queue of each model, for those who cannot read the prediction log.

It may hold texts, where the log does: it is bounded, written anew as traffic comes, and forgotten when its predictions
are. An entry is a plain object with `prediction_id`, `source`, `part`, `text` and whatever else is to be shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from monitoring.core.ledger import labels
from monitoring.core.tables import label_queue
from monitoring.core.types import LabelSource

Entry = Mapping[str, Any]


def keep(connection: Connection, *, model: str, version: str, entries: Sequence[Entry], now: datetime) -> None:
    """Keep the entries, in their order, instead of the model's last queue. Each says in `at` when it was predicted."""
    connection.execute(delete(label_queue).where(label_queue.c.model == model))
    rows = [
        {
            "model": model,
            "prediction_id": entry["prediction_id"],
            "position": position,
            "version": version,
            "predicted_at": datetime.fromisoformat(entry["at"]),
            "drawn_at": now,
            "entry": dict(entry),
        }
        for position, entry in enumerate(entries)
    ]
    if rows:
        connection.execute(insert(label_queue), rows)


def waiting(connection: Connection, *, model: str, version: str, since: datetime) -> list[dict[str, Any]]:
    """The entries of that version's predictions since then that nobody has answered yet, in order."""
    query = select(label_queue.c.entry).where(
        label_queue.c.model == model, label_queue.c.version == version, label_queue.c.predicted_at >= since
    )
    entries = list(connection.execute(query.order_by(label_queue.c.position)).scalars())
    answered: dict[str, set[LabelSource]] = defaultdict(set)
    for item in labels.labels_for(connection, [entry["prediction_id"] for entry in entries]):
        answered[item.prediction_id].add(item.source)
    return [entry for entry in entries if not _is_answered(entry, answered[entry["prediction_id"]])]


def drawn_at(connection: Connection, model: str) -> datetime | None:
    """When the model's queue was drawn; None where it has none."""
    query = select(label_queue.c.drawn_at).where(label_queue.c.model == model).limit(1)
    return connection.execute(query).scalar_one_or_none()


def forget(connection: Connection, *, before: datetime) -> None:
    """Delete what was predicted before then."""
    connection.execute(delete(label_queue).where(label_queue.c.predicted_at < before))


def _is_answered(entry: Entry, sources: set[LabelSource]) -> bool:
    """The random part is answered by outcome-blind labels only: a complaint must not take anything out of it."""
    if entry["source"] == LabelSource.RANDOM_SAMPLE:
        return any(source.outcome_blind for source in sources)
    return bool(sources)
