"""Declared slices end to end: requests' metadata through log and labels into reports, alerts and pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitoring.core.bundle import Bundle
from monitoring.core.ledger import verdicts
from monitoring.core.settings import MonitorSettings
from monitoring.core.types import Severity, Verdict
from monitoring.dossier import find, read_baseline
from monitoring.report import render_report
from tests.bundles import LABELS
from tests.conftest import FrozenClock
from tests.integration.monitoring.world import Answer, World, settings_for

MAIL, CHAT = {"channel": "mail"}, {"channel": "chat", "client": "7"}


@pytest.fixture
def sliced(home: Path, clock: FrozenClock, rng: np.random.Generator, bundle: Bundle) -> Iterator[World]:
    """A model in production whose channels are watched."""
    monitor = MonitorSettings(window_size=300, slices=("channel",))
    settings = settings_for(home).model_copy(update={"monitor": monitor})
    with closing(World(home, clock, rng, settings)) as world:
        world.approve(world.register(bundle))
        yield world


def serve_both(world: World, n: int, chat_topics: tuple[str, ...] = LABELS) -> tuple[list[Answer], list[Answer]]:
    """`n` windows of 200 mails and 100 chats."""
    mails, chats = [], []
    for _ in range(n):
        mails += world.serve(world.champion(), 200, metadata=MAIL)
        chats += world.serve(world.champion(), 100, topics=chat_topics, metadata=CHAT)
    return mails, chats


def test_a_slice_that_moved_is_named_in_report_alert_and_page(sliced: World) -> None:
    serve_both(sliced, 3)
    [quiet] = sliced.watch()
    assert [report.verdict for report in quiet.reports] == [Verdict.STABLE] * 3
    assert {one.slice for one in quiet.reports[-1].slices} == {"channel=mail", "channel=chat"}

    serve_both(sliced, 1, chat_topics=("returns",))
    [summary] = sliced.watch()
    [report] = summary.reports
    assert [one.slice for one in report.slices if one.significant] == ["channel=chat"]
    assert report.verdict is Verdict.DRIFT
    assert "channel=chat moved beyond the leeway" in report.reason
    told = {(entry["slice"], entry["what"]) for entry in report.moved["slices"]}
    assert {("channel=chat", "similarity"), ("client=7", "similarity")} <= told
    assert any(
        {"return", "exchange", "wrong", "size", "label"} & set(c["name"].split()) for c in report.moved["clusters"]
    )
    [alert] = [alert for alert in sliced.alerts() if alert.name == "drift"]
    assert alert.detail["slices"] == ["channel=chat"]

    with sliced.ledger.read() as connection:
        [(_, kept), *_] = verdicts.reports(connection, "support")
        found = find(connection, sliced.champion(), since=None, until=None, now=sliced.clock())
    assert kept == report
    baseline, _ = read_baseline(sliced.registry, found)
    page = render_report(found, baseline, sliced.settings.monitor, made_at=sliced.clock())
    assert "Declared slices" in page
    assert "channel=chat" in page


def test_a_restarted_monitor_remembers_the_slices(sliced: World) -> None:
    """Every watch is a new process: what it remembers is what the last one kept."""
    for _ in range(3):
        serve_both(sliced, 1)
        sliced.watch()
    serve_both(sliced, 1)
    [report] = sliced.watch()[0].reports
    assert {one.slice: bool(one.signal) for one in report.slices} == {"channel=mail": True, "channel=chat": True}


def test_labels_prove_a_loss_in_one_slice_alone(sliced: World) -> None:
    mails, chats = serve_both(sliced, 4)
    sliced.label([*mails, *chats])
    [before] = sliced.watch()
    assert before.outcomes == 1200
    assert {outcome.slices for outcome in sliced.outcomes()} == {("channel=mail",), ("channel=chat",)}
    assert "slice" not in before.fired

    mails, chats = serve_both(sliced, 2)
    renamed = {"billing": "delivery", "delivery": "billing"}
    sliced.label(mails)
    sliced.label([replace(answer, label=renamed.get(answer.label, answer.label)) for answer in chats])
    [after] = sliced.watch()
    assert "slice" in after.fired
    [alert] = [alert for alert in sliced.alerts() if alert.name == "slice"]
    assert alert.severity is Severity.WARNING
    assert "accuracy fell in channel=chat" in alert.summary
    assert [one["slice"] for one in alert.detail["slices"]] == ["channel=chat"]

    serve_both(sliced, 1)
    [report] = sliced.watch()[0].reports
    assert [one.slice for one in report.slices if one.lost] == ["channel=chat"]

    mails, chats = serve_both(sliced, 8)
    sliced.label(chats)
    [cured] = sliced.watch()
    assert "slice" in cured.resolved
