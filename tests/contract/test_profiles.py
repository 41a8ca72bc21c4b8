"""What windows leave is found by span, merged into days, and forgotten in time."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import select, update

from monitoring.core.ledger import profiles
from monitoring.core.ledger.database import Ledger
from monitoring.core.ledger.profiles import KeptProfile
from monitoring.core.tables import window_profiles
from monitoring.profiles import merge_packed, pack, unpack
from monitoring.stats.profile import ProfileSpec, WindowProfile

SPEC = ProfileSpec({"confidence": np.array([0.5])}, classes=2, features=1)
START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


def keep(ledger: Ledger, number: int, *, version: str = "v1", spec: ProfileSpec = SPEC, hours: int = 1) -> None:
    """The window that began `number` hours after START, of 10 + number rows."""
    rows = 10 + number
    profile = WindowProfile.empty(spec).add({"confidence": np.linspace(0, 1, rows)}, [0] * rows, [[0.25]] * rows)
    begin = START + number * HOUR
    kept = KeptProfile("support", version, spec.digest, begin, begin + hours * HOUR, 1, rows, pack(profile))
    with ledger.begin() as connection:
        profiles.save(connection, kept)


def found(ledger: Ledger, version: str = "v1", **span: datetime) -> list[KeptProfile]:
    with ledger.read() as connection:
        return profiles.find(connection, version, **span)


def fold(ledger: Ledger, before: datetime) -> int:
    with ledger.begin() as connection:
        return profiles.fold_days(connection, before=before, merge=merge_packed)


def test_a_span_has_the_windows_that_it_touches(ledger: Ledger) -> None:
    for number in range(6):
        keep(ledger, number)
    keep(ledger, 2, version="v2")
    span = {"since": START + 2 * HOUR, "until": START + 4 * HOUR}
    assert [profile.n for profile in found(ledger, **span)] == [12, 13]
    assert len(found(ledger)) == 6
    with ledger.read() as connection:
        counted = profiles.versions_within(connection, "support", span["since"], span["until"])
    assert counted == {"v1": 25, "v2": 12}


def test_days_add_up_to_their_windows_and_are_folded_once(ledger: Ledger) -> None:
    for number in range(60):
        keep(ledger, number)
    keep(ledger, 3, version="v2")
    whole = unpack(SPEC, [profile.state for profile in found(ledger)]).to_arrays()
    assert fold(ledger, START + 48 * HOUR) == 45  # 23 windows end on the first day, the 24th at midnight
    days = found(ledger)
    assert [(profile.windows, profile.n) for profile in days[:2]] == [(23, 483), (24, 1068)]
    assert len(days) == 2 + 13
    assert days[0].window_start == START
    folded = unpack(SPEC, [profile.state for profile in days]).to_arrays()
    assert {name: values.tolist() for name, values in folded.items()} == {
        name: values.tolist() for name, values in whole.items()
    }
    assert fold(ledger, START + 48 * HOUR) == 0
    assert found(ledger, "v2")[0].windows == 1


def test_baselines_are_not_mixed_in_a_day(ledger: Ledger) -> None:
    other = ProfileSpec({"confidence": np.array([0.7])}, classes=2, features=1)
    for number in range(4):
        keep(ledger, number, spec=SPEC if number % 2 else other)
    assert fold(ledger, START + 24 * HOUR) == 2
    assert sorted(profile.windows for profile in found(ledger)) == [2, 2]


def test_what_is_old_is_forgotten(ledger: Ledger) -> None:
    for number in range(5):
        keep(ledger, number)
    with ledger.begin() as connection:
        assert profiles.forget(connection, before=START + 3 * HOUR) == 2
    assert [profile.n for profile in found(ledger)] == [12, 13, 14]


def older_format() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **(WindowProfile.empty(SPEC).to_arrays() | {"format": np.array(1)}))
    return buffer.getvalue()


@pytest.mark.parametrize("state", [b"", b"PK no archive", older_format()])
def test_a_state_that_cannot_be_merged_keeps_its_own_day_alone_from_folding(ledger: Ledger, state: bytes) -> None:
    for number in range(46):  # 23 windows end on the first day, as many on the second
        keep(ledger, number)
    with ledger.begin() as connection:
        first = select(window_profiles.c.id).order_by(window_profiles.c.window_end).limit(1).scalar_subquery()
        connection.execute(update(window_profiles).where(window_profiles.c.id == first).values(state=state))
    assert fold(ledger, START + 48 * HOUR) == 22
    assert [profile.windows for profile in found(ledger)] == [1] * 23 + [23]
    assert found(ledger)[0].state == state
