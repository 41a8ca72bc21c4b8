"""`decide` as a truth table, and what no reading may make it do."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.settings import RolloutSettings
from monitoring.core.types import Rollout, RolloutPhase, Stage
from monitoring.stats.comparison import Comparison, Verdict
from service.analysis import Agreement, Reading
from service.rollout import Step, decide
from tests.exposures import START

SETTINGS = RolloutSettings(steps=(0.1, 0.25, 0.5), step_min_units=50, shadow_min_units=40, max_step_hours=24)
SOON, LATE = START + timedelta(hours=1), START + timedelta(hours=25)


def rollout(*, share: float = 0.0, step: int = -1) -> Rollout:
    return Rollout(
        id="rollout",
        model="support",
        candidate="new",
        champion="old",
        phase=RolloutPhase.RUNNING,
        stage=Stage.SHADOW if step < 0 else Stage.AB_TEST,
        step=step,
        share=share,
        salt="salt",
        fence=1,
        reason="",
        analysis={},
        started_at=START,
        step_started_at=START,
        ended_at=None,
    )


SHADOW, FIRST, LAST = rollout(), rollout(share=0.1, step=0), rollout(share=0.5, step=2)


def compared(verdict: Verdict = "inconclusive", *, n: int = 100, difference: float = 0.02) -> Comparison:
    return Comparison(n, n // 2, n - n // 2, difference, difference - 0.1, difference + 0.1, 0.0, 0.0, verdict)


def reading(
    verdict: Verdict = "inconclusive",
    *,
    errors: Verdict | None = None,
    latency: Verdict | None = None,
    mismatch: float = 0.0,
    n: int = 100,
    labelled: tuple[int, int] = (50, 50),
    difference: float = 0.02,
    agreement: Agreement | None = None,
) -> Reading:
    return Reading(
        accuracy=compared(verdict, n=n, difference=difference),
        errors=None if errors is None else compared(errors),
        latency=None if latency is None else compared(latency),
        log_e_sample_ratio=mismatch,
        units=n,
        step_candidates=labelled[0],
        step_champions=labelled[1],
        agreement=agreement,
    )


CERTAIN = math.log(1000)


@pytest.mark.parametrize(
    ("at", "found", "step", "reason"),
    [
        # harm comes first, whatever else is true
        (LAST, reading("better", errors="worse"), Step.ABORT, "guardrail errors"),
        (LAST, reading("better", latency="worse"), Step.ABORT, "guardrail latency"),
        (FIRST, reading("worse"), Step.ABORT, "proven less accurate"),
        (SHADOW, reading("worse"), Step.ABORT, "proven less accurate"),
        (FIRST, reading("worse", mismatch=CERTAIN), Step.ABORT, "proven less accurate"),
        # what cannot be trusted is not acted on
        (LAST, reading("better", mismatch=CERTAIN), Step.PAUSE, "sample ratio mismatch"),
        (LAST, reading("better", mismatch=CERTAIN - 0.1), Step.PROMOTE, "proven better"),
        # shadow: enough units, and not worse so far
        (SHADOW, reading("better", n=39), Step.HOLD, "39 of 40"),
        (SHADOW, reading(n=40, difference=0.0), Step.ADVANCE, "10% of the traffic next"),
        (SHADOW, reading(n=40, difference=-0.01), Step.HOLD, "not better so far"),
        (SHADOW, reading(n=0, difference=math.nan), Step.HOLD, "0 of 40"),
        (SHADOW, reading("better", n=400), Step.ADVANCE, "10% of the traffic next"),
        # A/B: every step needs both arms
        (FIRST, reading("better", labelled=(49, 500)), Step.HOLD, "50 of each needed"),
        (FIRST, reading("better", labelled=(500, 49)), Step.HOLD, "50 of each needed"),
        (FIRST, reading(), Step.ADVANCE, "25% next"),
        (FIRST, reading("better", labelled=(500, 500)), Step.ADVANCE, "25% next"),
        (FIRST, reading(errors="inconclusive", latency="better"), Step.ADVANCE, "25% next"),
        # the last step: only proof promotes
        (LAST, reading(), Step.HOLD, "not proven yet"),
        (LAST, reading("better"), Step.PROMOTE, "proven better than the champion"),
        (LAST, reading("better", labelled=(49, 50)), Step.HOLD, "50 of each needed"),
        (LAST, reading(n=0, labelled=(0, 0), difference=math.nan), Step.HOLD, "0 candidate and 0 champion"),
    ],
)
def test_what_a_reading_leads_to(at: Rollout, found: Reading, step: Step, reason: str) -> None:
    decision = decide(at, found, settings=SETTINGS, now=SOON)
    assert decision.step is step
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("at", "found", "step"),
    [
        (SHADOW, reading(n=0), Step.PAUSE),
        (FIRST, reading(labelled=(0, 0)), Step.PAUSE),
        (LAST, reading(), Step.PAUSE),
        (LAST, reading("better"), Step.PROMOTE),
        (FIRST, reading(), Step.ADVANCE),
        (FIRST, reading("worse"), Step.ABORT),
    ],
)
def test_a_step_without_a_verdict_in_time_asks_a_person(at: Rollout, found: Reading, step: Step) -> None:
    assert decide(at, found, settings=SETTINGS, now=LATE).step is step


def test_a_pause_says_what_was_missing() -> None:
    decision = decide(FIRST, reading(labelled=(3, 70)), settings=SETTINGS, now=LATE)
    assert decision.reason == (
        "no verdict within 24 h: 10% of the traffic: 3 candidate and 70 champion units labelled, 50 of each needed"
    )


def test_a_margin_lets_a_candidate_that_is_as_good_be_promoted() -> None:
    lenient = SETTINGS.model_copy(update={"margin": 0.02})
    promoted = decide(LAST, reading("better", difference=-0.005), settings=lenient, now=SOON)
    assert promoted.step is Step.PROMOTE
    assert "proven no worse by more than 2.0%" in promoted.reason
    shadowed = decide(SHADOW, reading(difference=-0.02), settings=lenient, now=SOON)
    assert shadowed.step is Step.ADVANCE


def test_steps_that_were_changed_meanwhile_lead_upwards_all_the_same() -> None:
    changed = SETTINGS.model_copy(update={"steps": (0.05, 0.2)})
    halfway = replace(FIRST, step=0, share=0.1)
    decision = decide(halfway, reading(), settings=changed, now=SOON)
    assert (decision.step, decision.index, decision.share) == (Step.ADVANCE, 1, 0.2)
    assert decide(LAST, reading("better"), settings=changed, now=SOON).step is Step.PROMOTE


verdicts = st.sampled_from(["better", "worse", "inconclusive"])
counts = st.integers(0, 200)
readings = st.builds(
    reading,
    verdicts,
    errors=st.none() | verdicts,
    latency=st.none() | verdicts,
    mismatch=st.floats(-5, 20),
    n=counts,
    labelled=st.tuples(counts, counts),
    difference=st.floats(-1, 1) | st.just(math.nan),
)
shares = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5).map(sorted).map(tuple)


@given(found=st.lists(readings, max_size=12), steps=shares, hours=st.lists(st.integers(0, 48), min_size=12))
def test_the_share_never_goes_down_and_only_proof_promotes(
    found: list[Reading], steps: tuple[float, ...], hours: list[int]
) -> None:
    settings = SETTINGS.model_copy(update={"steps": steps})
    at = SHADOW
    for each, waited in zip(found, hours, strict=False):
        now = at.step_started_at + timedelta(hours=waited)
        decision = decide(at, each, settings=settings, now=now)
        assert decision.reason
        if decision.step is Step.PROMOTE:
            assert each.accuracy.verdict == "better"
            assert at.share == max(steps)
            assert min(each.step_candidates, each.step_champions) >= settings.step_min_units
            assert "worse" not in {side.verdict for side in (each.errors, each.latency) if side is not None}
        if decision.step is Step.ADVANCE:
            assert decision.share > at.share
            assert decision.index == at.step + 1
            assert decision.share in steps
            at = replace(at, stage=Stage.AB_TEST, step=decision.index, share=decision.share, step_started_at=now)
        if decision.step in (Step.PROMOTE, Step.ABORT):
            break


@given(at=st.sampled_from([SHADOW, FIRST, LAST]), mismatch=st.floats(-5, 20), hours=st.integers(0, 48))
def test_missing_data_never_moves_a_rollout(at: Rollout, mismatch: float, hours: int) -> None:
    nothing = reading(n=0, labelled=(0, 0), difference=math.nan, mismatch=mismatch)
    decision = decide(at, nothing, settings=SETTINGS, now=START + timedelta(hours=hours))
    assert decision.step in (Step.HOLD, Step.PAUSE)


PROOF = "+0.2100 nats saved a row on 150 recent rows, to save more than 0: e = 4e+12, proven at 5%"
FINE: Comparison = compared(n=40, difference=0.0)
SAME = Agreement(units=40, predictions=55, differing=0)
SERVES = replace(reading(n=40, difference=0.0, agreement=SAME), errors=FINE, latency=None)


@pytest.mark.parametrize(
    ("found", "step", "reason"),
    [
        (SERVES, Step.PROMOTE, "labels of 40 shadow units are the champion's, and no more failed; its"),
        (SERVES, Step.PROMOTE, PROOF),
        # whatever the labels say about it: they cannot tell two equal answers apart
        (replace(SERVES, accuracy=compared(n=0, difference=math.nan)), Step.PROMOTE, "its gate had shown"),
        # no data, too few data
        (replace(SERVES, agreement=None), Step.HOLD, "0 of 40 labelled units answered by both"),
        (replace(SERVES, agreement=replace(SAME, units=39)), Step.HOLD, "39 of 40 labelled units answered by both"),
        (replace(SERVES, errors=None), Step.HOLD, "0 of 40 units whose copies tell what failed"),
        (replace(SERVES, errors=compared(n=39, difference=0.0)), Step.HOLD, "39 of 40 units"),
        (replace(SERVES, errors=compared(n=40, difference=math.nan)), Step.HOLD, "more failed"),
        # it is not what it claims to be
        (replace(SERVES, agreement=replace(SAME, differing=1)), Step.PAUSE, "1 of 55 labels differ"),
        (
            replace(SERVES, agreement=Agreement(units=2, predictions=2, differing=1)),
            Step.PAUSE,
            "1 of 2 labels differ",
        ),
        # it does not serve well
        (replace(SERVES, errors=compared("worse", n=40)), Step.ABORT, "guardrail errors"),
        (replace(SERVES, errors=compared(n=40, difference=-0.03)), Step.HOLD, "more failed than the champion's"),
        (replace(SERVES, accuracy=compared("worse")), Step.ABORT, "proven less accurate"),
    ],
)
def test_a_recalibration_is_promoted_from_shadow_once_it_serves_the_same_labels(
    found: Reading, step: Step, reason: str
) -> None:
    decision = decide(SHADOW, found, settings=SETTINGS, now=SOON, recalibration=PROOF)
    assert decision.step is step
    assert reason in decision.reason


def test_a_recalibration_that_shows_nothing_in_time_asks_a_person() -> None:
    silent = replace(SERVES, errors=None)
    assert decide(SHADOW, silent, settings=SETTINGS, now=LATE, recalibration=PROOF).step is Step.PAUSE


def test_only_a_recalibration_may_skip_the_split() -> None:
    assert decide(SHADOW, SERVES, settings=SETTINGS, now=SOON).step is Step.ADVANCE
    assert decide(LAST, SERVES, settings=SETTINGS, now=SOON, recalibration=PROOF).step is Step.HOLD


agreements = st.none() | st.builds(Agreement, counts, counts, st.integers(0, 3))


@given(found=readings, agreement=agreements, hours=st.integers(0, 48))
def test_a_recalibration_never_goes_live_on_missing_or_unequal_answers(
    found: Reading, agreement: Agreement | None, hours: int
) -> None:
    given_so = replace(found, agreement=agreement)
    now = START + timedelta(hours=hours)
    decision = decide(SHADOW, given_so, settings=SETTINGS, now=now, recalibration=PROOF)
    assert decision.step is not Step.ADVANCE
    if decision.step is Step.PROMOTE:
        assert agreement is not None
        assert agreement.units >= SETTINGS.shadow_min_units
        assert agreement.differing == 0
        assert given_so.errors is not None
        assert given_so.errors.verdict != "worse"
