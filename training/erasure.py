"""One person's data out of all that Leeway keeps: prediction log, ledger, training snapshots.

What stays is not about one person: counts, word frequencies, profiles and sums, and the weights of models that have
learnt from their texts. The log goes last: it knows which predictions were theirs, so that whoever was interrupted can
begin again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from monitoring.core import spool
from monitoring.core.errors import InvalidInput
from monitoring.core.ids import id_time, unit_hash
from monitoring.core.ledger import audit, erasure
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.settings import Settings
from monitoring.core.storage import Storage
from training.snapshot_erasure import Theirs, erase_rows, predictions_of


@dataclass(frozen=True)
class Whose:
    """A client by the key that it sent, or one prediction by its id; never both."""

    client: str | None = None
    prediction: str | None = None

    def __post_init__(self) -> None:
        """Refuse what names nobody, or two."""
        if (self.client is None) == (self.prediction is None) or "" in (self.client, self.prediction):
            raise InvalidInput("name a client by its key, or a prediction by its id", field="client")
        if self.prediction is not None and id_time(self.prediction) is None:
            raise InvalidInput("that is no id that a predict call returned", field="prediction")

    @property
    def given(self) -> str:
        """What the person was named by."""
        return self.client or self.prediction or ""


@dataclass(frozen=True)
class Erased:
    """Rows by where they were; `waiting`: a serving process still holds shipped rows in its spool, see `erase`."""

    rows: Mapping[str, int]
    waiting: bool


def erase(
    whose: Whose, *, ledger: Ledger, log: PredictionLog, settings: Settings, actor: str, reason: str, now: datetime
) -> Erased:
    """Delete for good, with an audit event that names nobody.

    This host's spool is shipped first; the newest segment of a process that still serves keeps what was shipped from it
    until it is full or the process ends. Raises InvalidInput without a reason, or where it names the person.
    """
    if not reason.strip():
        raise InvalidInput("reason is empty: say in a few words why, for the audit trail", field="reason")
    if re.search(rf"(?<!\w){re.escape(whose.given)}(?!\w)", reason):
        told = "the reason names whom it is about, and the audit trail keeps it: leave that out"
        raise InvalidInput(told, field="reason")
    log.ship(settings.spool_dir)
    storage, unit = Storage(settings.store_url), None if whose.client is None else unit_hash(whose.client)
    ids = {whose.prediction} if whose.prediction is not None else set()
    if unit is not None:
        with ledger.read() as connection:
            ids |= erasure.predictions_of(connection, unit)
        ids |= log.predictions_of(unit) | predictions_of(storage, unit)
    snapshots = erase_rows(storage, Theirs(unit, ids), cache=settings.cache_dir)
    with ledger.begin() as connection:
        rows = erasure.erase(connection, prediction_ids=ids, unit=unit) | {"snapshots": sum(snapshots.values())}
        audit.record(
            connection,
            at=now,
            actor=actor,
            action="erase",
            subject="client" if whose.prediction is None else "prediction",
            reason=reason.strip(),
            detail={"predictions": len(ids), "rows": rows, "snapshots": sorted(snapshots)},
        )
    ledger.flush()
    rows["predictions"] = log.erase(prediction_ids=ids if unit is None else (), unit=unit)
    return Erased(rows, waiting=spool.spool_bytes(settings.spool_dir) > 0)
