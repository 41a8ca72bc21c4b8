"""Asking for labels, and taking them in: the queue drawn from log and ledger, answers into the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from monitoring.core.errors import InvalidInput, NotReady
from monitoring.core.ledger import label_queue, labels, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.settings import Settings
from monitoring.core.types import Feedback, LabelSource, ModelVersion
from monitoring.intake import Reign, projected_of
from monitoring.label_answers import Faults, GivenLabel, read_labels
from monitoring.label_files import as_row
from monitoring.label_queue import Pool, QueueItem, draw_queue

MAX_POOL = 20_000
FIRST_REACH = timedelta(hours=1)
KEPT = 500
REDRAWN_AFTER = timedelta(minutes=15)
POOL_COLUMNS = (
    "commit",
    "at",
    "prediction_id",
    "version",
    "variant",
    "error",
    "counted",
    "text",
    "predicted",
    "confidence",
    "entropy",
    "similarity",
    "projected",
    "top_k",
)


@dataclass(frozen=True)
class Imported:
    """What a file brought: rows that were `new` and `known` already, and rows `unanswered`, by source.

    `unfamiliar`: labels that no champion knows, with their rows; a new class, or a slip of the pen.
    """

    new: int
    known: int
    random_answered: int
    random_unanswered: int
    unanswered: int
    unfamiliar: dict[str, int]


def ask(
    ledger: Ledger,
    log: PredictionLog,
    settings: Settings,
    model: str,
    *,
    size: int,
    now: datetime,
    with_texts: bool = False,
) -> tuple[ModelVersion, list[QueueItem]]:
    """The champion, and at most `size` of its newest answers that want a label.

    `with_texts`: only answers whose text can be shown. Raises NotFound for an unknown model, NotReady where it has no
    champion, InvalidInput where texts are asked for and the log keeps none.
    """
    texts_kept = settings.log.text == "store"
    if with_texts and not texts_kept:
        cure = "export csv or jsonl and join the texts by prediction_id, or set it to 'store' from now on"
        raise InvalidInput(f"log.text is {settings.log.text!r}, so there is no text to show: {cure}", field="format")
    with ledger.read() as connection:
        state = versions.model_state(connection, model)
        if state.production is None:
            raise NotReady(f"{model} has no production version, so there are no answers to label")
        version = versions.get(connection, state.production)
    reign = Reign(version.id, state.promoted_at or version.created_at)
    rows = newest_rows(log, reign, now=now)
    if with_texts:
        rows = rows.filter(pc.field("text").is_valid())
    pool = pool_of(rows, given_labels(ledger, rows))
    return version, draw_queue(pool, size=size, random_share=settings.labels.random_share, texts_kept=texts_kept)


def keep_queue(ledger: Ledger, log: PredictionLog, settings: Settings, model: str, *, now: datetime) -> bool:
    """Draw the model's queue and keep it in the ledger, for the API; whether it was time for that."""
    with ledger.read() as connection:
        last = label_queue.drawn_at(connection, model)
    if last is not None and now - last < REDRAWN_AFTER:
        return False
    version, items = ask(ledger, log, settings, model, size=KEPT, now=now)
    entries = [as_row(item, version) for item in items]
    with ledger.begin() as connection:
        label_queue.keep(connection, model=model, version=version.id, entries=entries, now=now)
    return True


def newest_rows(log: PredictionLog, reign: Reign, *, now: datetime) -> pa.Table:
    """The reign's newest rows (POOL_COLUMNS), newest first; at most MAX_POOL of them, whatever the log holds."""
    reach = FIRST_REACH
    while True:
        since = max(reign.since, now - reach)
        commits = log.read(version=reign.version, since=since, columns=["commit"])["commit"].to_numpy()
        if len(commits) >= MAX_POOL or since == reign.since:
            break
        reach *= 4
    after = int(np.sort(commits)[-min(MAX_POOL, len(commits))]) - 1 if len(commits) else 0
    rows = reign.stream(log.read(version=reign.version, since=since, after_commit=after, columns=POOL_COLUMNS))
    return rows.take(np.arange(len(rows))[::-1][:MAX_POOL])


def given_labels(ledger: Ledger, rows: pa.Table) -> list[Feedback]:
    """All labels that these rows have by now."""
    with ledger.read() as connection:
        return labels.labels_for(connection, rows["prediction_id"].to_pylist())


def pool_of(rows: pa.Table, given: Iterable[Feedback]) -> Pool:
    """Rows (POOL_COLUMNS) with what labels they have."""
    sources: dict[str, set[LabelSource]] = {}
    for item in given:
        sources.setdefault(item.prediction_id, set()).add(item.source)
    ids = rows["prediction_id"].to_pylist()
    return Pool(
        ids=ids,
        at=rows["at"].to_pylist(),
        texts=rows["text"].to_pylist(),
        predicted=rows["predicted"].to_pylist(),
        confidence=rows["confidence"].to_numpy(),
        entropy=rows["entropy"].to_numpy(),
        similarity=rows["similarity"].to_numpy(),
        projected=projected_of(rows),
        top_k=rows["top_k"].to_pylist(),
        judged=np.array([any(kind.outcome_blind for kind in sources.get(name, ())) for name in ids], dtype=np.bool_),
        labelled=np.array([name in sources for name in ids], dtype=np.bool_),
    )


def take_in(ledger: Ledger, path: Path, *, author: str, now: datetime) -> Imported:
    """Keep every label of the file, or none. What is known already is kept once. Raises InvalidInput."""
    rows = read_labels(path)
    answered = [row for row in rows if row.label is not None]
    if not answered:
        raise InvalidInput(f"{path} holds no label: fill in its column `label`, then import it", field="label")
    with ledger.begin() as connection:
        new = 0
        faults = Faults(path)
        for row in answered:
            try:
                _, is_new = labels.add_feedback(
                    connection,
                    prediction_id=row.prediction_id,
                    source=row.source,
                    label=row.label,
                    rating=None,
                    sampling_probability=row.sampling_probability,
                    author=author,
                    now=now,
                    from_file=True,
                )
            except InvalidInput as error:
                faults.add(row.row, error.field or "label", f"{error.message}: restore it from the export")
            else:
                new += is_new
        faults.raise_any()
        familiar = {
            name
            for state in versions.model_states(connection)
            if state.production is not None
            for name in versions.get(connection, state.production).labels
        }
    return Imported(
        new=new,
        known=len(answered) - new,
        random_answered=_at_random(answered),
        random_unanswered=_at_random([row for row in rows if row.label is None]),
        unanswered=len(rows) - len(answered),
        unfamiliar=_unfamiliar(answered, familiar),
    )


def _at_random(rows: Sequence[GivenLabel]) -> int:
    return sum(row.source is LabelSource.RANDOM_SAMPLE for row in rows)


def _unfamiliar(rows: Sequence[GivenLabel], familiar: set[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        if row.label is not None and row.label not in familiar:
            found[row.label] = found.get(row.label, 0) + 1
    return found
