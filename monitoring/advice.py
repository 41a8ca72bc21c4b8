"""What a version's newest readings mean, in plain words, and what a person can do next. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from monitoring.core.types import DriftReport, Interval, Verdict
from monitoring.episodes import CALIBRATION, DRIFT, QUALITY, SLICE

TITLES = {
    Verdict.STABLE: "{name} is on course",
    Verdict.NOTICE: "{name} sees other traffic, and nothing calls for action",
    Verdict.DRIFT: "{name} has drifted",
    Verdict.INCONCLUSIVE: "Nothing can be said of {name} yet",
}
FEW_LABELS = 100
MOST_SLICES = 5


@dataclass(frozen=True)
class Situation:
    """All that the words depend on.

    `seen`: predictions judged so far; `open_alerts`: their summaries, by name; `waiting`: versions for approval.
    `span`: that which was asked for, in words; None for the newest windows.
    """

    name: str
    latest: DriftReport | None
    baseline_accuracy: float | None
    window_size: int
    seen: int
    open_alerts: Mapping[str, str]
    waiting: tuple[str, ...]
    retraining: bool
    span: str | None = None


@dataclass(frozen=True)
class Advice:
    """A headline, sentences that explain it, and steps, the most useful first. `kind` is a verdict, for its colour."""

    kind: str
    title: str
    sentences: tuple[str, ...]
    steps: tuple[str, ...]


def advise(situation: Situation) -> Advice:
    """The verdict in plain words."""
    latest = situation.latest
    if latest is None and situation.span is not None:
        return Advice(
            kind="inconclusive",
            title=f"No window of {situation.name} was judged in that span",
            sentences=(
                f"Nothing can be said of {situation.span}: neither that all was well, nor that it was not.",
                f"A window is judged once it has {situation.window_size:,} predictions.",
            ),
            steps=("Ask for a longer span, or for none: the page is then on the newest windows.",),
        )
    if latest is None:
        return Advice(
            kind="inconclusive",
            title=f"No window of {situation.name} has been judged yet",
            sentences=(
                f"A verdict needs a full window of {situation.window_size:,} predictions; "
                f"{situation.seen:,} have come so far.",
            ),
            steps=("Send traffic, or make windows smaller with the setting monitor.window_size.",),
        )
    title = TITLES[latest.verdict].format(name=situation.name)
    if QUALITY in situation.open_alerts:
        title = f"{situation.name} has lost accuracy"
    elif latest.verdict is Verdict.STABLE and CALIBRATION in situation.open_alerts:
        title = f"{situation.name} is on course, and its confidences are not"
    alarming = QUALITY in situation.open_alerts or CALIBRATION in situation.open_alerts
    return Advice(
        kind="drift" if alarming else latest.verdict,
        title=title,
        sentences=tuple(_sentences(situation, latest)),
        steps=tuple(_steps(situation, latest)),
    )


def _sentences(situation: Situation, latest: DriftReport) -> Iterator[str]:
    for name in (QUALITY, SLICE):
        if said := situation.open_alerts.get(name):
            yield f"{said[0].upper()}{said[1:]}."
    yield f"The last window, {latest.n:,} predictions: {_what_moved(latest)}."
    known = situation.baseline_accuracy
    beside = "" if known is None or not math.isfinite(known) else f"; the baseline had {known:.1%}"
    if latest.realised_accuracy is not None and latest.labelled:
        yield f"By {latest.labelled:,} labels, {_points(latest.realised_accuracy)} of its answers were right{beside}."
    elif math.isfinite(latest.estimated_accuracy.value):
        doubt = "" if latest.estimate_trustworthy else ", which is not to be relied on"
        yield f"Without labels, {_points(latest.estimated_accuracy)} are estimated to be right{doubt}{beside}."


def _what_moved(latest: DriftReport) -> str:
    """The reason in brief, where it is long."""
    moved = sorted((item for item in latest.findings if item.significant), key=lambda item: -item.effect)
    if not moved:
        return latest.reason
    said = f"{len(moved)} of {len(latest.findings)} signals differ from the baseline beyond chance"
    most = f"{moved[0].signal} most, by {moved[0].effect:.2f} where {moved[0].leeway:.2f} is tolerated"
    slices = [item.slice for item in latest.slices if item.harmful]
    by_themselves = f"; by themselves moved {', '.join(slices[:MOST_SLICES])}" if slices else ""
    return f"{said}, {most}{by_themselves}"


def _steps(situation: Situation, latest: DriftReport) -> Iterator[str]:
    if situation.waiting:
        names = " and ".join(situation.waiting)
        yield f"{names} waits for approval: read its page, then `leeway approve {situation.waiting[0]} --reason …`."
    if situation.retraining:
        yield "A retraining is under way: its result will ask for approval."
    lost = QUALITY in situation.open_alerts
    if latest.verdict is Verdict.DRIFT or lost:
        if latest.labelled < FEW_LABELS and not lost:
            yield (
                "Label some of the new traffic, the examples below first: with outcome-blind labels the loss is "
                "measured instead of estimated, and retraining can learn from them."
            )
        if not (situation.waiting or situation.retraining):
            name = situation.name.partition("@")[0]
            yield f"Once labels are there the policy retrains by itself; `leeway retrain {name} --reason …` does now."
        yield "Look below at which classes, words and signals moved: a bug upstream looks like drift, too."
        if not lost:
            name = situation.name.partition("@")[0]
            change = f"`leeway baseline {name} --since … --until … --accept-drift --reason …`"
            yield f"Is this traffic here to stay, and the model good on it? {change} makes it the usual."
    if CALIBRATION in situation.open_alerts and not lost and latest.verdict is not Verdict.DRIFT:
        name = situation.name.partition("@")[0]
        cure = f"`leeway recalibrate {name} --reason …` costs far less than retraining"
        yield f"Confidences no longer mean what they did: {cure}."
    yield from _without_haste(situation, latest)


def _without_haste(situation: Situation, latest: DriftReport) -> Iterator[str]:
    if latest.verdict is Verdict.INCONCLUSIVE:
        yield "Wait for more traffic, or give the baseline more held-out rows by training on more data."
    elif latest.verdict is Verdict.DRIFT:
        return
    elif not latest.estimate_trustworthy:
        yield "Label a random sample of the traffic: without it, accuracy cannot be told."
    elif DRIFT in situation.open_alerts:
        yield "The alert of drift is still open: it ends by itself once some windows in a row are quiet."
    elif not situation.open_alerts:
        yield "Nothing has to be done. A trickle of random labels keeps the estimate honest."


def _points(interval: Interval) -> str:
    return f"{interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"
