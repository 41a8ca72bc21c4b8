"""Who is told what and when, as a table of cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from monitoring.core.ledger.alerts import Notification
from monitoring.core.types import Severity
from monitoring.deliveries import Fault, groups, in_words, loudest, settle

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Someone:
    name: str = "slack"
    least: Severity = Severity.INFO
    gathers: timedelta | None = None


ONE_BY_ONE, PERSON = Someone("hook"), Someone("person", Severity.WARNING, 10 * SECOND)


def note(
    mark: str, *, model: str = "support", at: datetime = NOON, account: Mapping[str, Any] | None = None, **payload: str
) -> Notification:
    told = {"status": "firing", "alert": "drift", "model": model, "severity": "critical", "id": mark}
    words = {"summary": f"{mark} moved", "reason": "", "started_at": "2026-01-05T12:00:00+00:00"}
    return Notification(mark, {**told, **words, **payload}, 0, at, account or {})


def marks(waiting: list[Notification], receiver: Someone, now: datetime) -> list[list[str]]:
    return [[one.id for one in together] for together in groups(waiting, receiver, now)]


def test_each_goes_by_itself_where_nothing_is_gathered() -> None:
    assert marks([note("a"), note("b")], ONE_BY_ONE, NOON) == [["a"], ["b"]]


def test_a_models_notifications_are_gathered_for_a_while_and_go_together() -> None:
    waiting = [note("a"), note("x", model="faq", at=NOON + 9 * SECOND), note("b", at=NOON + 9 * SECOND)]
    assert marks(waiting, PERSON, NOON + 9 * SECOND) == []
    assert marks(waiting, PERSON, NOON + 10 * SECOND) == [["a", "b"]]
    assert marks(waiting, PERSON, NOON + 19 * SECOND) == [["a", "b"], ["x"]]


def test_people_do_not_hear_of_what_is_no_harm() -> None:
    later = NOON + 60 * SECOND
    assert marks([note("a", severity="info"), note("b", severity="warning")], PERSON, later) == [["b"]]
    assert settle(note("a", severity="info"), {}, [PERSON], later, postponed={}).next_attempt_at is None


def test_what_one_has_is_not_sent_again_for_the_others_sake() -> None:
    settled = settle(
        note("a"), {"hook": None, "person": Fault("answered 500", True)}, [ONE_BY_ONE, PERSON], NOON, postponed={}
    )
    assert settled.next_attempt_at == NOON + SECOND
    assert settled.error == "person: answered 500"
    again = replace(note("a"), receivers=settled.receivers)
    assert marks([again], ONE_BY_ONE, NOON + 60 * SECOND) == []
    assert marks([again], PERSON, NOON + SECOND / 2) == []
    assert marks([again], PERSON, NOON + SECOND) == [["a"]]
    done = settle(again, {"person": None}, [ONE_BY_ONE, PERSON], NOON, postponed={})
    assert (done.next_attempt_at, done.error) == (None, None)


def test_pauses_grow_by_receiver() -> None:
    one, receivers = note("a"), [ONE_BY_ONE, PERSON]
    for pause in (1, 2, 4):
        settled = settle(one, {"hook": Fault("no", False)}, receivers, NOON, postponed={})
        assert settled.receivers["hook"]["next_attempt_at"] == (NOON + pause * SECOND).isoformat()
        one = replace(one, receivers=settled.receivers)
    assert "person" not in one.receivers


def test_a_receiver_that_is_left_alone_has_not_been_tried() -> None:
    until = NOON + 60 * SECOND
    settled = settle(note("a"), {}, [ONE_BY_ONE], NOON, postponed={"hook": until})
    assert (settled.attempts, settled.next_attempt_at, settled.error) == (0, until, None)


def test_a_receiver_that_was_taken_out_of_the_settings_is_waited_for_no_more() -> None:
    tried = settle(note("a"), {"hook": Fault("no", False)}, [ONE_BY_ONE], NOON, postponed={})
    assert settle(replace(note("a"), receivers=tried.receivers), {}, [], NOON, postponed={}).next_attempt_at is None


def test_one_message_tells_all_and_an_episode_that_is_over_once() -> None:
    firing, over = note("a"), note("b", alert="quality", id="q")
    resolved = note("c", alert="quality", id="q", status="resolved", reason="all is well")
    title, text = in_words([firing, over, resolved], "http://desk/console")
    assert title == "Leeway, support: 1 firing, 1 resolved"
    assert text.splitlines() == [
        "FIRING (critical): drift: a moved",
        "resolved: quality: all is well (it began 2026-01-05T12:00:00 UTC)",
        "",
        "http://desk/console",
        "notification a b c",
    ]
    assert in_words([firing], "")[0] == "Leeway, support: drift FIRING (critical)"


def test_a_message_is_as_loud_as_the_worst_that_fires() -> None:
    warning, over = note("a", severity="warning"), note("b", status="resolved")
    assert loudest([warning, over]) is Severity.WARNING
    assert loudest([over]) is None
