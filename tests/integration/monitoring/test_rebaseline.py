"""A change of baseline is an act on the record: what is usual changes, what is good enough does not."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from monitoring.cli_baseline import baseline as command
from monitoring.core.errors import BrokenBundle, Conflict, InvalidInput, NotReady
from monitoring.core.ledger import access, audit, baselines, versions
from monitoring.core.types import Role, Verdict
from monitoring.dossier import find, judge_span, read_baseline
from monitoring.in_force import load_baseline
from monitoring.monitor import Monitor
from monitoring.rebaseline import Changed, change_baseline
from monitoring.report import render_report
from tests.integration.monitoring.test_monitor import NEW_TOPIC
from tests.integration.monitoring.world import MODEL, World

SECOND = timedelta(seconds=1)


def change(world: World, since: datetime, until: datetime, **more: Any) -> Changed:
    asked = {"since": since, "until": until, "actor": "ann", "reason": "the new shop is here to stay"} | more
    settings, now = world.settings, world.clock.advance(SECOND)
    return change_baseline(world.ledger, world.log, world.registry, settings, MODEL, now=now, **asked)


def serve_new_normal(world: World, n: int = 400, **more: Any) -> tuple[datetime, datetime]:
    """Answers to other traffic; from when to when."""
    since = world.clock() + SECOND / 2
    world.serve(world.champion(), n, topics=NEW_TOPIC, **more)
    return since, world.clock() + SECOND / 2


def test_what_was_drift_is_usual_from_then_on_and_what_is_good_enough_stays(world: World) -> None:
    world.serve(world.champion(), 200)
    world.watch()
    since, until = serve_new_normal(world)
    assert world.watch()[0].fired == ("drift",)
    with pytest.raises(Conflict, match=r"windows of the span were judged DRIFT.*--accept-drift"):
        change(world, since, until)
    done = change(world, since, until, accept_drift=True)
    assert (done.change.n, done.notes[0][:9]) == (400, "accepted:")
    assert world.alerts() == [], "the episode was against the old baseline"

    serve_new_normal(world, 450)
    [summary] = world.watch()
    assert [report.verdict for report in summary.reports] == [Verdict.STABLE] * 2
    assert summary.fired == ()
    assert world.gauges()["seen"] == 450, "detector and windows start anew"
    world.serve(world.champion(), 400)
    [back] = world.watch()
    assert back.fired == ("drift",), "the old traffic is the unusual one now"

    version = world.champion()
    old = load_baseline(world.registry, version, None)
    new = load_baseline(world.registry, version, done.change)
    assert (new.n, new.expected_accuracy, new.labelled) == (400, old.expected_accuracy, old.labelled)
    assert new.meaning.tolist() == old.meaning.tolist()
    assert world.registry.fetch(version).hash == version.bundle_hash, "the bundle is as it was"


def test_what_moved_is_told_by_the_words_of_the_baseline_in_force(world: World) -> None:
    done = change(world, *serve_new_normal(world, 600))
    world.serve(world.champion(), 200, topics=("returns", "returns", "insurance"))
    [summary] = world.watch()
    [report] = summary.reports
    assert report.verdict is Verdict.DRIFT
    told = {entry["word"]: entry["baseline_per_10k"] for entry in report.moved["words"]}
    assert told.keys() >= {"insurance", "return"}
    assert told["return"] > 50, "returns were asked about in the baseline, and never in the training texts"
    assert told["insurance"] == 0.0
    kept = load_baseline(world.registry, world.champion(), done.change)
    assert kept.usual_words.words["return"] > 50
    assert "return" not in kept.words, "what the model knows stays that"


def test_one_embedding_that_is_no_number_spoils_no_baseline(world: World) -> None:
    since, _ = serve_new_normal(world)
    world.serve(world.champion(), 1, broken=True)
    change(world, since, world.clock() + SECOND / 2)
    serve_new_normal(world, 200)
    [summary] = world.watch()
    assert [report.verdict for report in summary.reports] == [Verdict.STABLE]


def test_proof_of_lost_accuracy_outlives_the_baseline(world: World) -> None:
    since = world.clock() + SECOND / 2
    answers = world.serve(world.champion(), 400, topics=NEW_TOPIC)
    until = world.clock() + SECOND / 2
    world.label(answers)
    assert "quality" in world.watch()[0].fired
    change(world, since, until, accept_drift=True)
    assert {alert.name for alert in world.alerts()} == {"quality", "calibration"}
    serve_new_normal(world, 200)
    world.watch()
    assert "quality" in [alert.name for alert in world.alerts()], "labels of before still prove it"


def test_a_report_on_the_time_before_a_change_judges_by_the_baseline_of_then(world: World) -> None:
    began = world.clock() - SECOND / 2
    world.serve(world.champion(), 200)
    world.watch()
    ended = world.clock() + SECOND / 2
    since, until = serve_new_normal(world)
    change(world, since, until)
    with world.ledger.read() as connection:
        then = find(connection, world.champion(), since=began, until=ended, now=world.clock())
        now = find(connection, world.champion(), since=None, until=None, now=world.clock())
    assert (then.change, now.change is None) == (None, False)


def test_the_act_is_on_the_record_with_span_rows_old_and_new(world: World) -> None:
    since, until = serve_new_normal(world)
    first = change(world, since, until).change
    second = change(world, since + 10 * SECOND, until).change
    version = world.champion()
    with world.ledger.read() as connection:
        newer, older = [event for event in audit.events(connection, subject=version.name) if event.action == "baseline"]
        assert audit.first_broken_link(connection) is None
        assert baselines.newest(connection, version.id) == second
    assert (older.actor, older.reason) == ("ann", "the new shop is here to stay")
    assert older.detail == {
        "since": since.isoformat(),
        "until": until.isoformat(),
        "rows": 400,
        "old": f"{version.bundle_uri}/baseline.npz",
        "new": first.uri,
        "sha256": first.sha256,
    }
    assert (newer.detail["old"], newer.detail["new"]) == (first.uri, second.uri)
    assert second.uri != first.uri


def test_reports_start_anew_and_say_by_what_they_judge(world: World) -> None:
    world.serve(world.champion(), 400)
    world.watch()
    since, until = serve_new_normal(world)
    change(world, since, until)
    serve_new_normal(world, 200)
    world.watch()
    with world.ledger.read() as connection:
        found = find(connection, world.champion(), since=None, until=None, now=world.clock())
    present, problem = read_baseline(world.registry, found)
    assert present is not None
    span = judge_span(found, present, world.settings.monitor)
    assert span is not None
    assert (span.windows, span.foreign, span.profile.n) == (1, 2, 200)
    assert not any(finding.significant for finding in span.findings)
    page = render_report(found, present, world.settings.monitor, made_at=world.clock(), problem=problem)
    assert "The baseline is 400 of the version’s own answers" in page
    assert "ann changed it on" in page


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (-30, 300, "begins before support@1 went into production"),
        (0, 150, "holds 150 answers of support@1 that count, and a baseline needs 300"),
        (5_000, 6_000, "holds 0 answers"),
    ],
)
def test_a_span_that_is_no_baseline_is_refused(world: World, start: int, end: int, said: str) -> None:
    began = world.clock() + SECOND / 2
    world.serve(world.champion(), 400)
    with pytest.raises(InvalidInput, match=said) as caught:
        change(world, began + start * SECOND, began + end * SECOND)
    assert caught.value.field == "since"
    with world.ledger.read() as connection:
        assert baselines.newest(connection, world.champion().id) is None
        assert all(event.action != "baseline" for event in audit.events(connection))


def test_one_client_is_no_baseline_and_several_are_worth_less_than_their_rows(world: World) -> None:
    lone = serve_new_normal(world, 800, units=["bot"] * 800)
    with pytest.raises(InvalidInput, match="come from so few clients that they are worth"):
        change(world, *lone)
    start = world.clock() + SECOND / 2
    for topics in (NEW_TOPIC, ("returns",)) * 6:  # each of twelve clients asks about things of its own
        world.serve(world.champion(), 100, topics=topics, units=[f"shop {world.clock().isoformat()}"] * 100)
    with pytest.raises(InvalidInput, match="come from so few clients"):
        change(world, start, world.clock() + SECOND)


def test_a_reason_and_a_champion_are_needed(world: World) -> None:
    span = serve_new_normal(world)
    with pytest.raises(InvalidInput, match="reason is empty"):
        change(world, *span, reason="  ")
    with world.ledger.begin() as connection:
        state = versions.model_state(connection, MODEL)
        versions.set_champion(
            connection,
            state,
            production=None,
            previous=None,
            watch_until=None,
            now=world.clock(),  # type: ignore[arg-type]
        )
    with pytest.raises(NotReady, match="no production version"):
        change(world, *span)


def test_a_tick_that_looked_by_the_old_baseline_does_not_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    since, until = serve_new_normal(world)
    take_in = Monitor._take_in

    def meanwhile(self: Monitor, *arguments: Any) -> Any:
        monkeypatch.setattr(Monitor, "_take_in", take_in)
        change(world, since, until)
        return take_in(self, *arguments)

    monkeypatch.setattr(Monitor, "_take_in", meanwhile)
    with pytest.raises(Conflict, match="was given another baseline meanwhile"):
        world.watch()
    assert world.watch()[0].reports == ()
    assert world.alerts() == []


def test_a_baseline_that_was_altered_is_not_judged_by(world: World) -> None:
    done = change(world, *serve_new_normal(world))
    path = Path(world.registry.storage.locate(done.change.uri))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BrokenBundle, match="is not what was kept as the baseline of support@1"):
        load_baseline(world.registry, world.champion(), done.change)


def test_the_command_needs_the_role_and_tells_what_came_of_it(world: World) -> None:
    serve_new_normal(world)
    keys = {}
    with world.ledger.begin() as connection:
        for role in (Role.FEEDBACK, Role.OPERATE):
            roles = frozenset({role})
            keys[role] = access.add_key(connection, name=role, roles=roles, actor="test", now=world.clock())
    version = world.champion()
    since = f"{version.created_at + timedelta(minutes=1):%Y-%m-%dT%H:%M}"
    asked = [MODEL, "--since", since, "--until", f"{world.clock():%Y-%m-%d}", "--reason", "new shop", "--json"]
    refused = CliRunner().invoke(command, [*asked, "--key", keys[Role.FEEDBACK]])
    assert "lacks the role operate" in str(refused.exception)
    made = CliRunner().invoke(command, [*asked, "--key", keys[Role.OPERATE]])
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert (told["version"], told["actor"], told["reason"]) == ("support@1", "operate", "new shop")
    assert any("shorter than a week" in note for note in told["notes"])
