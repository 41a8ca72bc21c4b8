"""Labels and exposures: nothing lost, nothing double, whatever comes first."""

from __future__ import annotations

from collections import Counter

import pytest

from monitoring.core.bundle import Bundle
from monitoring.core.ledger import rollout_evidence
from monitoring.core.types import LabelSource, Variant
from tests.integration.monitoring.world import World


def test_labels_may_come_before_their_rows_late_twice_and_from_several_sources(world: World) -> None:
    early = world.serve(world.champion(), 60, ship=False)
    world.label(early)
    assert world.watch()[0].outcomes == 0
    world.ship()
    assert world.watch()[0].outcomes == 60

    late = world.serve(world.champion(), 60)
    world.watch()
    world.label(late)
    world.label(late)
    world.label(late[:10], LabelSource.COMPLAINT)
    assert world.watch()[0].outcomes == 70
    assert world.watch()[0].outcomes == 0
    assert len({(outcome.prediction_id, outcome.source) for outcome in world.outcomes()}) == 130


def test_much_feedback_is_read_in_bites(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitoring.labelling.MAX_FEEDBACK", 40)
    monkeypatch.setattr("monitoring.labelling.OVERLAP", 5)
    served = world.serve(world.champion(), 200)
    world.watch()
    world.label(served)
    summaries = world.watch()
    assert len(summaries) > 3
    assert sum(summary.outcomes for summary in summaries) == 200


def test_the_shadows_answer_is_joined_though_its_row_comes_after_the_label(world: World, next_bundle: Bundle) -> None:
    champion, shadow = world.champion(), world.approve(world.register(next_bundle))
    [answer] = world.serve(champion, 1)
    world.label([answer])
    world.watch()
    world.serve(shadow, 1, variant=Variant.SHADOW, ids=[answer.id])
    world.watch()
    variants = {outcome.version: outcome.variant for outcome in world.outcomes()}
    assert variants == {champion.id: Variant.PRODUCTION, shadow.id: Variant.SHADOW}
    assert world.gauges()["seen"] == 1


def test_failed_predictions_are_no_traffic_and_have_no_outcome(world: World) -> None:
    world.label(world.serve(world.champion(), 30, error="deadline"))
    [summary] = world.watch()
    assert (summary.rows, summary.outcomes) == (30, 0)
    assert world.gauges()["seen"] == 0


def test_exposures_count_each_request_of_a_step_once(world: World, next_bundle: Bundle) -> None:
    champion, candidate = world.champion(), world.approve(world.register(next_bundle))
    rollout = world.start_rollout(candidate, share=0.25)
    arm = Variant.CANDIDATE
    for _ in range(2):
        world.serve(champion, 2, rollout=rollout, units=["ann", "bob"])
        world.serve(candidate, 1, rollout=rollout, units=["eve"], variant=arm, latency_ms=900.0)
        world.serve(candidate, 1, rollout=rollout, units=["eve"], variant=arm, error="timeout")
        world.serve(candidate, 1, rollout=rollout, units=["ann"], variant=Variant.SHADOW)
        world.watch()
    with world.ledger.read() as connection:
        found = rollout_evidence.find_exposures(connection, rollout.id)
    told = [row for row in found if row.step != rollout_evidence.SILENT_STEP]
    counts = Counter((row.candidate, row.share, row.requests, row.errors, row.slow) for row in told)
    assert counts == {(False, 0.25, 2, 0, 0): 2, (True, 0.25, 4, 2, 2): 1}
    assert [row.requests for row in found if row not in told] == [2]  # the silent copies are told apart
    assert world.gauges()["seen"] == 4
