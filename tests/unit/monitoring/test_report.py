from datetime import timedelta
from html.parser import HTMLParser

import numpy as np

from monitoring.charts import BLUE, Line, heat_chart, line_chart
from monitoring.core.types import (
    Alert,
    DriftReport,
    Interval,
    LabelSource,
    ModelVersion,
    Outcome,
    Severity,
    SignalFinding,
    Stage,
    Variant,
    Verdict,
)
from monitoring.report import render_report
from tests.conftest import FrozenClock

HOSTILE = "<script>alert('x')</script>"
NAN = float("nan")


class Links(HTMLParser):
    """Collects whatever a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag for name, _ in attrs if name in ("src", "href", "action")]
        self.found += [tag] if tag in ("script", "link", "iframe", "object") else []


def test_the_page_is_self_contained_light_and_escapes_what_callers_wrote(clock: FrozenClock) -> None:
    page = _page(clock, windows=200, outcomes=400)
    assert len(page.encode()) < 300_000
    links = Links()
    links.feed(page)
    assert links.found == []
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert page.count("<svg") == 3  # accuracy, effects, reliability
    assert "calibration error, debiased" in page
    assert "Of the newest 400 labels" in page
    assert "By answered class" in page
    assert page == _page(clock, windows=200, outcomes=400)  # the same labels make the same page


def test_a_model_without_windows_has_a_page_that_says_so(clock: FrozenClock) -> None:
    page = _page(clock, windows=0, outcomes=0)
    assert "No window has been judged yet" in page
    assert "<svg" not in page


def test_gaps_are_not_drawn_over(clock: FrozenClock) -> None:
    times = [clock.now + timedelta(days=day) for day in range(4)]
    drawn = line_chart(times, [Line("accuracy", BLUE, [0.9, None, NAN, 0.8])])
    assert drawn.count("M") == 2
    assert " L" not in drawn
    assert heat_chart(times[:1], [("length", [None])], full=0.2).count("×") == 1


def _page(clock: FrozenClock, *, windows: int, outcomes: int) -> str:
    rng = np.random.default_rng(1)
    reports = [_report(clock, number, rng) for number in range(windows)]
    alert = Alert("1", "support", "drift", Severity.CRITICAL, HOSTILE, {}, clock.now, None)
    return render_report(
        reports,
        ModelVersion("v", "support", 3, Stage.PRODUCTION, "", "", ("a", "b"), {}, {}, clock.now),
        baseline_accuracy=0.9,
        leeway=0.1,
        alerts=[alert],
        outcomes=[_outcome(clock, number, rng) for number in range(outcomes)],
        made_at=clock.now,
    )


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
            "words": [{"word": "visa", "texts": 12, "per_10k": 90.0, "baseline_per_10k": 0.0}],
            "length": {"baseline": 12.0, "window": 14.0},
            "examples": [{"id": "1", "text": HOSTILE}],
        },
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
