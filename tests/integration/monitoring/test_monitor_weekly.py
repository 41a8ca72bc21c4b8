"""A week's cycle in the traffic: its windows alarm until it is known, then only what is new at those hours does."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from monitoring.core.types import DriftReport, Verdict
from monitoring.in_force import load_baseline
from monitoring.rebaseline import Changed, change_baseline
from tests.bundles import LABELS
from tests.integration.monitoring.test_monitor import NEW_TOPIC
from tests.integration.monitoring.world import MODEL, World

BY_DAY, BY_NIGHT = (LABELS[0], LABELS[0], LABELS[1]), (LABELS[2], LABELS[2], LABELS[1])


def serve_a_monday(
    world: World, by_day: tuple[str, ...] = BY_DAY, by_night: tuple[str, ...] = BY_NIGHT
) -> list[DriftReport]:
    """A window at nine in the morning of the next Monday and one at nine in the evening."""
    reports: list[DriftReport] = []
    morning = world.clock.now.replace(hour=9, minute=0, second=0) + timedelta(days=7)
    for moment, topics in ((morning, by_day), (morning + timedelta(hours=12), by_night)):
        world.clock.now = moment
        world.serve(world.champion(), 200, topics=topics)
        [summary] = world.watch()
        reports += summary.reports
    return reports


def test_what_comes_and_goes_with_the_clock_is_usual_once_two_weeks_have_shown_it(world: World) -> None:
    for _ in range(2):
        assert [report.verdict for report in serve_a_monday(world)] == [Verdict.DRIFT] * 2
    for _ in range(2):
        for report in serve_a_monday(world):
            assert report.verdict is Verdict.STABLE
            assert "as usual at these hours of the week: labels by 0." in report.reason
    [usual, new] = serve_a_monday(world, by_night=(*BY_NIGHT, "returns"))
    assert usual.verdict is Verdict.STABLE
    assert new.verdict is Verdict.DRIFT
    assert "embedding" in new.reason


@pytest.mark.parametrize(
    ("by_day", "by_night"), [(BY_DAY, BY_DAY), (NEW_TOPIC, NEW_TOPIC)], ids=["other shares", "a new topic"]
)
def test_change_that_the_last_weeks_have_too_is_told_by_the_whole_week(
    world: World, by_day: tuple[str, ...], by_night: tuple[str, ...]
) -> None:
    for _ in range(6):
        assert [report.verdict for report in serve_a_monday(world, by_day, by_night)] == [Verdict.DRIFT] * 2


def change_baseline_to(world: World, since: datetime) -> Changed:
    now = world.clock.advance(timedelta(seconds=1))
    asked = {"since": since, "until": now, "actor": "ann", "reason": "as it is now", "accept_drift": True, "now": now}
    return change_baseline(world.ledger, world.log, world.registry, world.settings, MODEL, **asked)


def test_a_changed_baseline_brings_the_cycle_that_its_span_has_shown(world: World) -> None:
    since = world.clock.advance(timedelta(seconds=1))
    for _ in range(2):
        serve_a_monday(world)
    change_baseline_to(world, since)
    assert [report.verdict for report in serve_a_monday(world)] == [Verdict.STABLE] * 2
    [usual, new] = serve_a_monday(world, by_night=(*BY_NIGHT, "returns"))
    assert usual.verdict is Verdict.STABLE
    assert "as usual at these hours of the week" in usual.reason
    assert new.verdict is Verdict.DRIFT


@pytest.mark.parametrize("mondays", [1, 2])
def test_the_detector_of_a_changed_baseline_begins_with_the_hours_of_its_span(world: World, mondays: int) -> None:
    """Of two weeks that it takes to learn a cycle one or both are the span's."""
    since = world.clock.advance(timedelta(seconds=1))
    nine = world.clock.now.replace(hour=9, minute=0, second=0)
    for number in range(1, mondays + 1):
        world.clock.now = nine + number * timedelta(days=7)
        world.serve(world.champion(), 600)
    changed = change_baseline_to(world, since)
    assert ("of the week's cycle it shows 1 of 168 hours" in changed.notes[1]) == (mondays == 2)
    kept = load_baseline(world.registry, world.champion(), changed.change).week
    assert kept is not None
    assert kept.counts[:, 0].sum() == 600 * mondays, "every row of the span, not only those that windows are tested by"
    world.watch()

    world.clock.now = nine + (mondays + 1) * timedelta(days=7)
    world.serve(world.champion(), 150)
    assert world.watch()[0].fired == ()
    world.serve(world.champion(), 150, topics=("returns",))
    world.watch()
    [drift] = [alert for alert in world.alerts() if alert.name == "drift"]
    assert (drift.detail["detector"], drift.detail["cycle"]) == ("sequential", "learned")
