from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from monitoring.baseline import Baseline
from monitoring.charts.shapes import distribution_chart
from monitoring.charts.svg import BLUE
from monitoring.charts.time import Effects, Line, Stretch, heat_chart, line_chart, timeline
from monitoring.core.errors import InvalidInput
from monitoring.core.ledger.profiles import KeptProfile
from monitoring.core.settings import MonitorSettings
from monitoring.core.types import (
    Alert,
    DriftReport,
    Interval,
    LabelSource,
    ModelVersion,
    Outcome,
    Severity,
    SignalFinding,
    SliceFinding,
    Stage,
    Variant,
    Verdict,
)
from monitoring.dossier import Found, judge_span, span_of
from monitoring.profiles import pack, profile_of, profile_spec
from monitoring.report import render_report
from tests.conftest import FrozenClock
from tests.unit.monitoring.synthetic import baseline_of, window_of

HOSTILE = "<script>alert('x')</script>"
NAN = float("nan")


class Links(HTMLParser):
    """Collects whatever a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag for name, _ in attrs if name in ("src", "href", "action") or name.startswith("on")]
        self.found += [tag] if tag in ("script", "link", "iframe", "object", "img") else []


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return baseline_of(2_000, np.random.default_rng(7))


def test_the_page_is_self_contained_light_and_escapes_what_callers_wrote(
    clock: FrozenClock, baseline: Baseline
) -> None:
    found = _found(clock, baseline, windows=120, outcomes=400)
    hostile = replace(baseline, classes=(HOSTILE, *baseline.classes[1:]))
    for judged_by in (baseline, hostile):
        page = render_report(found, judged_by, MonitorSettings(), made_at=clock.now)
        assert len(page.encode()) < 300_000
        links = Links()
        links.feed(page)
        assert links.found == []
        assert HOSTILE not in page
        assert "&lt;script&gt;" in page
        assert "http" not in page
        assert page == render_report(found, judged_by, MonitorSettings(), made_at=clock.now)


def test_the_page_draws_what_it_says(clock: FrozenClock, baseline: Baseline) -> None:
    page = render_report(
        _found(clock, baseline, windows=30, outcomes=400), baseline, MonitorSettings(), made_at=clock.now
    )
    for title in (
        "estimated without labels; realised, by labels; baseline",
        "effect of each signal over time",
        "alerts over time",
        "distribution of entropy, baseline and now",
        "distribution of rarity, baseline and now",
        "distribution of strangeness, baseline and now",
        "baseline and now",
        "accuracy against confidence",
    ):
        assert f'aria-label="{title}"' in page
    for told in ("calibration error, debiased", "Of the newest 400 labels", "By answered class", "What to do next"):
        assert told in page
    assert "prediction-29" in page  # examples are named by id
    assert "support@2 answered 700" in page
    for said in (
        "zebra",
        "zebra crossing",
        "at the zoo",
        "lost accuracy",
        "60.0% (50.0% to 70.0%) of 40",
        "too little yet",
    ):
        assert f">{said}" in page or f" {said}" in page


def test_a_model_without_windows_has_a_page_that_says_so(clock: FrozenClock, baseline: Baseline) -> None:
    page = render_report(_found(clock, baseline, windows=0, outcomes=0), baseline, MonitorSettings(), made_at=clock.now)
    assert "No window of support@3 has been judged yet" in page
    assert "<svg" not in page


def test_without_its_baseline_the_page_tells_why_and_shows_the_rest(clock: FrozenClock, baseline: Baseline) -> None:
    found = _found(clock, baseline, windows=5, outcomes=50)
    page = render_report(found, None, MonitorSettings(), made_at=clock.now, problem="the bundle is gone")
    assert "the bundle is gone" in page
    assert "Accuracy, estimated and realised" in page


def test_another_verdict_stands_beside_ours(clock: FrozenClock, baseline: Baseline) -> None:
    rival: dict[str, Any] = {
        "dataset_drift": True,
        "drifted": 1,
        "share": 0.5,
        "threshold": 0.5,
        "n": 500,
        "file": "report.evidently.html",
        "columns": [{"column": "length", "drifted": True}, {"column": "margin", "drifted": False}],
    }
    found = _found(clock, baseline, windows=5, outcomes=0)
    page = render_report(found, baseline, MonitorSettings(), made_at=clock.now, rival=rival)
    assert "<strong>dataset drift</strong>" in page
    assert "report.evidently.html" in page


def test_windows_of_another_baseline_are_left_out_and_named(clock: FrozenClock, baseline: Baseline) -> None:
    found = _found(clock, baseline, windows=3, outcomes=0)
    mixed = replace(found, kept=[*found.kept, replace(found.kept[0], baseline="another", windows=4)])
    span = judge_span(mixed, baseline, MonitorSettings())
    assert span is not None
    assert (span.windows, span.foreign, span.profile.n) == (3, 4, 600)
    page = render_report(mixed, baseline, MonitorSettings(), made_at=clock.now)
    assert "4 further windows were counted against another baseline" in page
    foreign = replace(found, kept=[replace(kept, baseline="another") for kept in found.kept])
    assert judge_span(foreign, baseline, MonitorSettings()) is None
    assert "cannot be merged" in render_report(foreign, baseline, MonitorSettings(), made_at=clock.now)


def test_a_span_is_given_in_days_or_minutes() -> None:
    begin, end = span_of(datetime(2026, 1, 1), datetime(2026, 1, 31))  # noqa: DTZ001
    assert begin is not None
    assert end is not None
    assert end - begin == timedelta(days=31)
    assert span_of(None, None) == (None, None)
    with pytest.raises(InvalidInput, match="is empty"):
        span_of(datetime(2026, 2, 1), datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("until", [datetime.max, datetime(9999, 12, 31), datetime(1, 1, 1)])  # noqa: DTZ001, DTZ901
def test_a_span_that_ends_beyond_the_calendar_is_refused_with_the_cure(until: datetime) -> None:
    with pytest.raises(InvalidInput, match="give a day from 1970-01-01 to 9999-12-30") as refused:
        span_of(None, until)
    assert refused.value.field == "until"
    assert span_of(None, datetime(9999, 12, 30))[1] == datetime(9999, 12, 31, tzinfo=UTC)  # noqa: DTZ001


def test_gaps_are_not_drawn_over(clock: FrozenClock) -> None:
    times = [clock.now + timedelta(days=day) for day in range(4)]
    drawn = line_chart(times, [Line("accuracy", BLUE, [0.9, None, NAN, 0.8])])
    assert drawn.count("<circle") == 2
    assert "<path" not in drawn
    assert heat_chart(times[:1], [Effects("length", [None], [False])], full=0.2).count("×") == 1


def test_the_axis_tells_windows_apart_whatever_their_length(clock: FrozenClock) -> None:
    def axis(step: timedelta, n: int = 6) -> str:
        return line_chart([clock.now + number * step for number in range(n)], [])

    assert ">12:20<" in axis(timedelta(minutes=20))
    assert ">01-05 18:00<" in axis(timedelta(hours=6))
    assert ">01-10<" in axis(timedelta(days=1))
    assert ">2026-04<" in axis(timedelta(days=90))


def test_what_chance_explains_is_grey(clock: FrozenClock) -> None:
    times = [clock.now, clock.now + timedelta(hours=1)]
    drawn = heat_chart(times, [Effects("length", [0.05, 0.3], [False, True])], full=0.2)
    assert (drawn.count('class="cell chance"'), drawn.count('class="cell"')) == (1, 1)
    assert "0.050, within chance" in drawn


def test_what_lasts_is_drawn_to_the_end_and_what_was_before_at_the_start(clock: FrozenClock) -> None:
    times = [clock.now + timedelta(days=day) for day in range(4)]
    long_ago = clock.now - timedelta(days=9)
    drawn = timeline(
        times, [Stretch("drift", long_ago, None, BLUE, HOSTILE), Stretch("drift", times[1], times[2], BLUE, "")]
    )
    assert 'x="96.0"' in drawn
    assert 'width="752.0"' in drawn
    assert HOSTILE not in drawn


def test_a_distribution_is_drawn_whole_whatever_its_shape(rng: np.random.Generator) -> None:
    edges = np.linspace(0, 1, 11)
    spread = np.array([0, *rng.integers(1, 50, 10), 0, 0])
    assert "<path" in distribution_chart(edges, spread, spread[::-1].copy(), name="confidence")
    beyond = np.array([0, *[10] * 10, 50, 0])
    assert "≥ 1<" in distribution_chart(edges, spread, beyond, name="confidence")
    assert "≥" not in distribution_chart(edges, spread, spread, name="confidence")
    from_nought = distribution_chart(np.append(-1e-5, edges[1:]), spread, spread, name="entropy")
    assert ">0<" in from_nought
    assert "e-05" not in from_nought
    constant = np.array([0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    assert "<path" in distribution_chart(edges, constant, constant, name="confidence")
    nothing = np.zeros(13, dtype=np.int64)
    assert "or none" in distribution_chart(edges, spread, nothing, name="confidence")
    assert "or none" in distribution_chart(np.array([2.0]), np.array([0, 5, 0]), np.array([0, 5, 0]), name="length")


def _found(clock: FrozenClock, baseline: Baseline, *, windows: int, outcomes: int) -> Found:
    rng = np.random.default_rng(1)
    alert = Alert("1", "support", "drift", Severity.CRITICAL, HOSTILE, {}, clock.now, None)
    reports = [_report(clock, number, rng) for number in range(windows)]
    return Found(
        version=ModelVersion("v", "support", 3, Stage.PRODUCTION, "", "", ("a", "b"), {}, {}, clock.now),
        since=clock.now,
        until=clock.now + timedelta(hours=windows),
        meaning="the last 7 days of traffic",
        reports=reports,
        kept=_kept(reports, baseline, rng),
        elsewhere={"support@2": 700} if windows else {},
        alerts=[alert],
        outcomes=[_outcome(clock, number, rng) for number in range(outcomes)],
        waiting=[],
        retraining=False,
        gauges={"baseline_accuracy": 0.9, "seen": 12},
    )


def _kept(reports: Sequence[DriftReport], baseline: Baseline, rng: np.random.Generator) -> list[KeptProfile]:
    spec = profile_spec(baseline)
    states = [
        pack(profile_of(baseline, spec, window_of(200, rng, new_topic=0.3)[0])) for _ in range(min(len(reports), 9))
    ]
    return [
        KeptProfile("support", "v", spec.digest, report.window_start, report.window_end, 1, 200, states[number % 9])
        for number, report in enumerate(reports)
    ]


def _report(clock: FrozenClock, number: int, rng: np.random.Generator) -> DriftReport:
    names = ("labels", "confidence", "entropy", "margin", "similarity", "length", "embedding", "vocabulary")
    return DriftReport(
        model="support",
        version="v",
        window_start=clock.now + timedelta(hours=number),
        window_end=clock.now + timedelta(hours=number + 1),
        n=500,
        verdict=Verdict.DRIFT if number % 9 == 0 else Verdict.STABLE,
        reason="labels moved beyond the leeway",
        effect=0.2,
        findings=tuple(SignalFinding(name, 1.0, 0.01, float(rng.random()), 0.1, True) for name in names),
        estimated_accuracy=Interval(0.8, 0.7, 0.9),
        estimate_trustworthy=True,
        estimate_note="",
        realised_accuracy=Interval(0.75, 0.7, 0.8) if number % 2 else None,
        labelled=50,
        calibration={},
        moved={
            "classes": [{"class": HOSTILE, "baseline": 0.1, "window": 0.4}],
            "words": [{"word": "zebra", "texts": 12, "per_10k": 90.0, "baseline_per_10k": 0.0}],
            "length": {"baseline": 12.0, "window": 14.0},
            "examples": [{"id": f"prediction-{number}", "text": HOSTILE}],
            "phrases": [{"phrase": "zebra crossing", "texts": 9, "per_10k": 40.0, "baseline_per_10k": 0.0}],
            "clusters": [
                {
                    "name": HOSTILE,
                    "count": 125,
                    "share": 0.25,
                    "baseline_share": 0.001,
                    "effect": 0.249,
                    "p_value": 1e-9,
                    "similarity": 0.4,
                    "examples": [{"id": "nearest", "text": f"{HOSTILE} at the zoo"}],
                }
            ],
            "slices": [
                {"slice": f"channel={HOSTILE}", "what": what, "n": 70, "window": now, "usual": usual, "usual_n": 90}
                | {"effect": now - usual, "p_value": 1e-6}
                for what, now, usual in (("share", 0.4, 0.1), ("similarity", 0.2, 0.6))
            ],
        },
        slices=(
            SliceFinding(
                slice=f"tenant={HOSTILE}",
                n=120,
                signal="similarity",
                effect=0.31,
                p_value=1e-7,
                leeway=0.1,
                significant=True,
                harmful=True,
                note="",
                labelled=40,
                accuracy=Interval(0.6, 0.5, 0.7),
                accuracy_before=0.9,
                lost=True,
            ),
            SliceFinding("tenant=new", 9, "", 0.0, 1.0, 0.1, False, False, "too little yet", 0, None, None, False),
        ),
    )


def _outcome(clock: FrozenClock, number: int, rng: np.random.Generator) -> Outcome:
    return Outcome(
        prediction_id=str(number),
        model="support",
        version="v",
        variant=Variant.PRODUCTION,
        rollout=None,
        step=0,
        unit=str(number),
        predicted="a",
        label="a" if rng.random() < 0.8 else "b",
        confidence=float(rng.uniform(0.5, 1.0)),
        source=LabelSource.RANDOM_SAMPLE,
        sampling_probability=0.5,
        predicted_at=clock.now,
        labelled_at=clock.now,
    )
