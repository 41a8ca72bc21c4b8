"""What judged windows left behind, for reports on any past span: newest as windows, older ones merged into days."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby

from sqlalchemy import Connection, delete, func, insert, select

from monitoring.core.errors import Conflict
from monitoring.core.ids import new_id
from monitoring.core.tables import window_profiles

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptProfile:
    """The state (npz bytes) of `windows` windows of one version, counted against one baseline, named by its digest."""

    model: str
    version: str
    baseline: str
    window_start: datetime
    window_end: datetime
    windows: int
    n: int
    state: bytes


def save(connection: Connection, profile: KeptProfile) -> None:
    """Keep a profile; in the transaction that keeps its window's report."""
    connection.execute(insert(window_profiles).values(id=new_id(), **vars(profile)))


def find(
    connection: Connection, version: str, *, since: datetime | None = None, until: datetime | None = None
) -> list[KeptProfile]:
    """A version's profiles that end after `since` and begin before `until`, oldest first."""
    return [profile for _, profile in _rows(connection, version, since, until)]


def versions_within(connection: Connection, model: str, since: datetime, until: datetime) -> dict[str, int]:
    """Predictions by version id in the profiles of a span."""
    query = (
        select(window_profiles.c.version, func.sum(window_profiles.c.n))
        .where(
            window_profiles.c.model == model,
            window_profiles.c.window_end > since,
            window_profiles.c.window_start < until,
        )
        .group_by(window_profiles.c.version)
    )
    return {version: int(count) for version, count in connection.execute(query)}


def fold_days(connection: Connection, *, before: datetime, merge: Callable[[Sequence[bytes]], bytes]) -> int:
    """Merge what ended before then into one profile a day, version and baseline; the number of profiles that went.

    Folding again changes nothing. What `merge` refuses (Conflict, ValueError) stays as it is: one state that cannot be
    read keeps its own day alone from folding. Raises Conflict where another worker was faster: nothing is then changed.
    """
    query = select(window_profiles.c.version).where(window_profiles.c.window_end < before).distinct()
    gone = 0
    for version in connection.execute(query).scalars().all():
        rows = _rows(connection, version, None, before)
        for _, group in groupby(sorted(rows, key=_day_of), key=_day_of):
            gone += _fold(connection, list(group), before, merge)
    return gone


def forget(connection: Connection, *, before: datetime) -> int:
    """Drop profiles that ended before then; their number."""
    return connection.execute(delete(window_profiles).where(window_profiles.c.window_end < before)).rowcount


def _fold(
    connection: Connection,
    parts: list[tuple[str, KeptProfile]],
    before: datetime,
    merge: Callable[[Sequence[bytes]], bytes],
) -> int:
    kept = [profile for _, profile in parts]
    if len(kept) < 2 or max(profile.window_end for profile in kept) >= before:
        return 0
    try:
        state = merge([profile.state for profile in kept])
    except (Conflict, ValueError) as error:
        day = kept[0].window_end.date()
        log.error("the window profiles of version %s of %s stay unmerged: %s", kept[0].version, day, error)
        return 0
    names = [name for name, _ in parts]
    if connection.execute(delete(window_profiles).where(window_profiles.c.id.in_(names))).rowcount != len(names):
        raise Conflict("another monitor is merging the same window profiles: it goes on")
    merged = KeptProfile(
        model=kept[0].model,
        version=kept[0].version,
        baseline=kept[0].baseline,
        window_start=min(profile.window_start for profile in kept),
        window_end=max(profile.window_end for profile in kept),
        windows=sum(profile.windows for profile in kept),
        n=sum(profile.n for profile in kept),
        state=state,
    )
    save(connection, merged)
    return len(kept) - 1


def _day_of(row: tuple[str, KeptProfile]) -> tuple[str, date]:
    return row[1].baseline, row[1].window_end.date()


def _rows(
    connection: Connection, version: str, since: datetime | None, until: datetime | None
) -> list[tuple[str, KeptProfile]]:
    query = select(window_profiles).where(window_profiles.c.version == version)
    if since is not None:
        query = query.where(window_profiles.c.window_end > since)
    if until is not None:
        query = query.where(window_profiles.c.window_start < until)
    found = connection.execute(query.order_by(window_profiles.c.window_end, window_profiles.c.id))
    return [
        (row.id, KeptProfile(**{name: getattr(row, name) for name in KeptProfile.__annotations__})) for row in found
    ]
