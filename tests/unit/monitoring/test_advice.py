from __future__ import annotations

from dataclasses import replace

import pytest

from monitoring.advice import Situation, advise
from monitoring.core.types import DriftReport, Interval, SignalFinding, Verdict
from tests.unit.monitoring.synthetic import NOW

REPORT = DriftReport(
    model="support",
    version="v",
    window_start=NOW,
    window_end=NOW,
    n=500,
    verdict=Verdict.STABLE,
    reason="no signal differs by more than chance",
    effect=0.02,
    findings=(),
    estimated_accuracy=Interval(0.9, 0.87, 0.93),
    estimate_trustworthy=True,
    estimate_note="",
    realised_accuracy=None,
    labelled=0,
    calibration={},
)
SITUATION = Situation(
    name="support@3",
    latest=REPORT,
    baseline_accuracy=0.91,
    window_size=500,
    seen=1200,
    open_alerts={},
    waiting=(),
    retraining=False,
)


def said(**changes: object) -> str:
    advice = advise(replace(SITUATION, **changes))  # type: ignore[arg-type]
    assert advice.steps
    return " | ".join((advice.kind, advice.title, *advice.sentences, *advice.steps))


def test_all_is_well() -> None:
    words = said()
    assert "stable | support@3 is on course" in words
    assert "90.0% (87.0% to 93.0%) are estimated to be right; the baseline had 91.0%" in words
    assert "Nothing has to be done" in words


def test_an_alert_that_outlasts_its_cause_is_explained() -> None:
    assert "ends by itself" in said(open_alerts={"drift": "drifted"})


def test_drift_without_labels_asks_for_labels_first() -> None:
    words = said(latest=replace(REPORT, verdict=Verdict.DRIFT), open_alerts={"drift": "drifted"})
    assert "drift | support@3 has drifted" in words
    assert "Label some of the new traffic" in words
    assert "leeway retrain support" in words
    assert "leeway baseline support --since" in words
    assert "leeway baseline" not in said(open_alerts={"quality": "accuracy fell"}), "a loss is not to be got used to"


def test_labels_go_before_the_estimate_and_what_is_under_way_before_what_could_be() -> None:
    measured = replace(REPORT, verdict=Verdict.DRIFT, realised_accuracy=Interval(0.7, 0.65, 0.75), labelled=300)
    alerts = {"drift": "drifted", "quality": "labels prove that accuracy fell", "slice": "it fell in channel=chat"}
    words = said(latest=measured, open_alerts=alerts, waiting=("support@4",), retraining=True)
    assert "Labels prove that accuracy fell. | It fell in channel=chat." in words
    assert "support@3 has lost accuracy" in words
    assert "By 300 labels, 70.0%" in words
    assert "leeway approve support@4" in words
    assert "retrain support" not in words


def test_of_many_signals_that_moved_the_words_tell_how_many_and_which_most() -> None:
    findings = tuple(
        SignalFinding(name, effect, 1e-9, effect, 0.1, effect > 0.2)
        for name, effect in (("length", 0.01), ("entropy", 0.25), ("similarity", 0.34))
    )
    words = said(latest=replace(REPORT, verdict=Verdict.DRIFT, findings=findings))
    assert "2 of 3 signals differ from the baseline beyond chance, similarity most, by 0.34 where 0.10" in words


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_words(verdict: Verdict) -> None:
    nothing = Interval(float("nan"), 0.0, 1.0)
    unsure = replace(REPORT, verdict=verdict, estimated_accuracy=nothing, estimate_trustworthy=False)
    words = said(latest=unsure, baseline_accuracy=None)
    assert "nan" not in words
    assert verdict in words


def test_confidences_that_went_astray_are_recalibrated_before_retraining() -> None:
    assert "leeway recalibrate support --reason" in said(open_alerts={"calibration": "confidences are off"})
    both = {"calibration": "confidences are off", "quality": "accuracy fell"}
    assert "leeway recalibrate" not in said(open_alerts=both), "where accuracy fell, too, retraining is the cure"


def test_before_the_first_window_it_says_how_many_predictions_are_missing() -> None:
    words = said(latest=None)
    assert "full window of 500 predictions; 1,200 have come" in words


def test_of_a_span_without_windows_nothing_is_said_to_be_well() -> None:
    words = said(latest=None, span="2026-05-01 00:00 to 2026-06-01 00:00 UTC", seen=90_000)
    assert words.startswith("inconclusive | No window of support@3 was judged in that span")
    assert "Nothing can be said of 2026-05-01 00:00 to 2026-06-01 00:00 UTC: neither that all was well" in words
    assert "90,000" not in words, "those are of another time"
    assert "Nothing has to be done" not in words
