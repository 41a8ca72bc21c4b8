"""Reports are found by span, however many came after it, and a page on a past span parses no more than it shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from monitoring import dossier
from monitoring.core.ids import new_id
from monitoring.core.ledger import labels, verdicts
from monitoring.core.ledger.database import Ledger
from monitoring.core.tables import drift_reports
from monitoring.core.types import DriftReport, Interval, LabelSource, ModelVersion, Outcome, Variant
from tests.contract.people import NOON, champion
from tests.evidence import drift_report

HOUR = timedelta(hours=1)


def keep(ledger: Ledger, version: ModelVersion, numbers: range) -> None:
    """The windows that end `numbers` hours after NOON, an hour long each."""
    with ledger.begin() as connection:
        verdicts.save_report(connection, drift_report(version, NOON + numbers[0] * HOUR))
        first = connection.execute(select(drift_reports)).one()._asdict()
        later = [NOON + number * HOUR for number in numbers[1:]]
        connection.execute(
            insert(drift_reports),
            [
                first
                | {
                    "id": new_id(),
                    "window_start": end - HOUR,
                    "window_end": end,
                    "report": first["report"]
                    | {"window_start": (end - HOUR).isoformat(), "window_end": end.isoformat()},
                }
                for end in later
            ],
        )


def test_a_report_comes_back_as_it_was_what_cannot_be_said_included(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        version = champion(connection)
        kept = drift_report(version, NOON, effect=math.nan, estimated_accuracy=Interval(math.nan, 0.0, 1.0))
        verdicts.save_report(connection, kept)
    with ledger.read() as connection:
        [(_, found)] = verdicts.reports(connection, version.model)
    assert repr(found) == repr(kept)  # nan is not equal to itself


def test_a_span_has_the_reports_of_the_windows_that_it_touches_newest_first(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        version = champion(connection)
    keep(ledger, version, range(6))

    def ends(**asked: Any) -> list[int]:
        with ledger.read() as connection:
            found = verdicts.reports(connection, version.model, **asked)
        return [round((report.window_end - NOON) / HOUR) for _, report in found]

    assert ends() == [5, 4, 3, 2, 1, 0]
    assert ends(since=NOON + 2 * HOUR, until=NOON + 4 * HOUR) == [4, 3]
    assert ends(since=NOON + 1.5 * HOUR, until=NOON + 3.5 * HOUR) == [4, 3, 2]
    assert ends(until=NOON + 4 * HOUR, limit=2) == [4, 3]
    assert ends(version="another", until=NOON + 4 * HOUR) == []


def test_a_past_span_is_found_below_many_newer_windows_and_only_what_is_shown_is_parsed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ledger.begin() as connection:
        version = champion(connection)
    keep(ledger, version, range(5_200))
    parsed: list[Mapping[str, Any]] = []
    parse = verdicts._report

    def counted(body: Mapping[str, Any]) -> DriftReport:
        parsed.append(body)
        return parse(body)

    monkeypatch.setattr(verdicts, "_report", counted)
    now = NOON + 5_200 * HOUR
    with ledger.read() as connection:
        past = dossier.find(connection, version, since=NOON, until=NOON + 3 * HOUR, now=now)
        assert len(past.reports) == len(parsed) == 3
        parsed.clear()
        whole = dossier.find(connection, version, since=None, until=None, now=now)
    assert len(whole.reports) == len(parsed) == dossier.MAX_WINDOWS
    assert whole.reports[-1].window_end == NOON + 5_199 * HOUR


def test_a_page_reads_the_newest_blind_outcomes_of_its_span_whatever_else_was_said(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dossier, "MAX_LABELS", 2)
    with ledger.begin() as connection:
        version = champion(connection)
        rows = [
            Outcome(
                prediction_id=new_id(),
                model=version.model,
                version=version.id,
                variant=Variant.PRODUCTION,
                rollout=None,
                step=-1,
                unit="0011223344556677",
                predicted="billing",
                label="billing",
                confidence=0.9,
                source=LabelSource.COMPLAINT if number in (3, 4) else LabelSource.GROUND_TRUTH,
                sampling_probability=1.0,
                predicted_at=NOON + number * HOUR,
                labelled_at=NOON + number * HOUR,
            )
            for number in range(8)
        ]
        labels.add_outcomes(connection, rows)
        found = dossier.find(connection, version, since=None, until=NOON + 5 * HOUR, now=NOON + 9 * HOUR)
    assert found.outcomes == rows[1:3]
