"""Another baseline for a version in production: its own answers of a span that somebody vouches for.

They are out of training by construction. What is usual changes; what is good enough does not: the accuracy that is to
be kept, what a confidence is worth, and what the estimate learnt from labels stay those of the hold-out. So a span in
which accuracy was low already cannot be declared normal. Bins and directions that were frozen apart from the hold-out
stay, too: they are just as apart from this traffic. Detector, windows and slices start anew at the change.

What the span shows of the week's cycle is kept with it, read from its rows once: detector and windows rank by it from
the first answer on. The null goes with it: within each hour of the week, the span's answers are exchangeable with those
that come after the change. Rows that came between the two are vouched for by nobody: the detector leaves them out;
windows, which are held against their own last weeks as ever, do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy import Connection

from monitoring.baseline import MAX_SAMPLE, Baseline, detector_scores
from monitoring.core import bundle as bundles
from monitoring.core.errors import Conflict, InvalidInput, NotReady
from monitoring.core.ledger import alerts, baselines, verdicts, versions
from monitoring.core.ledger.baselines import BaselineChange
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.registry import Registry
from monitoring.core.settings import Settings
from monitoring.core.signals import Floats
from monitoring.core.types import ModelState, ModelVersion, Verdict
from monitoring.detect import worth_of
from monitoring.episodes import DRIFT
from monitoring.in_force import load_baseline
from monitoring.intake import STREAM_COLUMNS, Reign, predicted_of, read_span, seconds_of, signals_of
from monitoring.signals import Traffic, WordCounts
from monitoring.stats.binning import bin_count, bin_indices
from monitoring.stats.cycle import HOURS, WeeklyHistogram
from monitoring.weekly import with_rows_of

LEAST_ROWS = 300
"""Fewer answers, or what so many by few clients are worth, are no measure."""
MOST_REPORTS = 10_000
MOST_A_DAY = 50_000
"""Of more, the week's cycle is read from a random part."""
A_DAY, A_WEEK = timedelta(days=1), timedelta(days=7)
Answers = tuple[NDArray[np.str_], Mapping[str, Floats]]
"""Of n rows: predicted class names (n,), and SIGNALS (n,) each."""


@dataclass(frozen=True)
class Changed:
    """What came of it: the version, its baseline, and what whoever asked should know."""

    version: ModelVersion
    change: BaselineChange
    notes: tuple[str, ...]


def reign_of(version: ModelVersion, state: ModelState, change: BaselineChange | None) -> Reign:
    """What is judged by the present baseline: answers since the promotion, and since the baseline was changed."""
    promoted = state.promoted_at or version.created_at
    return Reign(version.id, promoted if change is None else max(promoted, change.set_at))


def change_baseline(
    ledger: Ledger,
    log: PredictionLog,
    registry: Registry,
    settings: Settings,
    model: str,
    *,
    since: datetime,
    until: datetime,
    actor: str,
    reason: str,
    accept_drift: bool = False,
    now: datetime,
) -> Changed:
    """Make the champion's answers from `since` to before `until` its baseline.

    Raises NotReady without a champion; InvalidInput where the span lies before it, or holds too little; Conflict where
    it holds drift that `accept_drift` does not accept, or where another champion came meanwhile.
    """
    if not reason.strip():
        raise InvalidInput("reason is empty: say in a few words why, for the audit trail", field="reason")
    with ledger.read() as connection:
        state = versions.model_state(connection, model)
        if state.production is None:
            raise NotReady(f"{model} has no production version: there is no baseline to change")
        version = versions.get(connection, state.production)
        before = baselines.newest(connection, version.id)
        drifted = _drift_within(connection, version, since, until)
    promoted = state.promoted_at or version.created_at
    if since < promoted:
        raise InvalidInput(
            f"the span begins before {version.name} went into production, {promoted:%Y-%m-%d %H:%M:%S} UTC: another "
            "version's answers are no baseline for it",
            field="since",
        )
    if drifted is not None and not accept_drift:
        raise Conflict(f"{drifted}: choose a span without, or accept it with --accept-drift if that is the new normal")
    old = load_baseline(registry, version, before)
    end, newest = min(until, now), log.last_commit()
    made = of_span(old, _traffic(log, settings, version, since, end, newest), settings.monitor.seed)
    made = replace(made, week=week_of(old, log, version.id, since, end, newest))
    content = made.to_bytes()
    digest = hashlib.sha256(content).hexdigest()
    uri = registry.storage.put_bytes(f"baselines/{model}/{digest[:20]}.npz", content)
    with ledger.begin() as connection:
        if versions.model_state(connection, model) != state or baselines.newest(connection, version.id) != before:
            raise Conflict(f"{model} was promoted or given another baseline meanwhile: look again, then repeat it")
        done = baselines.change(
            connection,
            version,
            uri=uri,
            sha256=digest,
            since=since,
            until=end,
            n=made.n,
            old=f"{version.bundle_uri}/{bundles.BASELINE}" if before is None else before.uri,
            actor=actor,
            reason=reason.strip(),
            now=now,
        )
    return Changed(version, done, tuple(_notes(made, done, drifted)))


def _traffic(
    log: PredictionLog, settings: Settings, version: ModelVersion, since: datetime, end: datetime, newest: int
) -> Traffic:
    kept = settings.log.text == "store"
    traffic = read_span(log, Reign(version.id, since), since, end, until_commit=newest, texts_kept=kept)
    rows = 0 if traffic is None else len(traffic)
    if traffic is None or rows < LEAST_ROWS:
        raise InvalidInput(
            f"the span holds {rows} answers of {version.name} that count, and a baseline needs {LEAST_ROWS}: "
            "choose a longer one",
            field="since",
        )
    return traffic


def of_span(old: Baseline, traffic: Traffic, seed: int) -> Baseline:
    """The `old` baseline with the rows of the span; words are those of their texts, where these are kept.

    Raises InvalidInput where the rows are worth too little.
    """
    # by client alone: that its hours differ is what a span is to show, and no lack of witnesses
    worth = worth_of(replace(traffic, seconds=None), old.strangeness(traffic.signals))
    if worth * len(traffic) < LEAST_ROWS:
        raise InvalidInput(
            f"the {len(traffic)} answers of the span come from so few clients that they are worth "
            f"{worth * len(traffic):.0f}, and a baseline needs {LEAST_ROWS}: choose a longer one",
            field="since",
        )
    rng = np.random.default_rng(seed)
    some = np.sort(rng.choice(len(traffic), size=min(MAX_SAMPLE, len(traffic)), replace=False))
    sample = traffic.projected[some].astype(np.float16)
    texts = [text for text in traffic.texts if text is not None]
    said = WordCounts.of(texts) if len(texts) == len(traffic) else None
    return replace(with_rows_of(old, traffic), sample=sample, worth=worth, own_words=said)


def week_of(
    old: Baseline,
    log: PredictionLog,
    version: str,
    since: datetime,
    end: datetime,
    newest: int,
    *,
    answer: Callable[[list[str]], Answers] | None = None,
    at_most: int = MOST_A_DAY,
) -> WeeklyHistogram:
    """What the span shows of the week's cycle, read a day at a time, a random part of more than `at_most` rows.

    The bins are the old baseline's, which stay. `answer`: gives the texts new answers, in place of the logged ones.
    """
    columns = STREAM_COLUMNS if answer is None else (*STREAM_COLUMNS, "text")
    week = WeeklyHistogram.empty(len(old.edges), max(map(bin_count, old.edges.values())))
    reign = Reign(version, since)
    for day in read_days(log, version, since, end, newest, at_most=at_most, columns=columns):
        rows = reign.stream(day)
        if answer is not None:
            rows = rows.filter(pc.field("text").is_valid())
        if len(rows):
            said = (predicted_of(rows), signals_of(rows)) if answer is None else answer(rows["text"].to_pylist())
            scores = detector_scores(old, *said)
            bins = np.stack([bin_indices(scores[name], edges) for name, edges in old.edges.items()])
            week.add_span(seconds_of(rows), bins)
    return week


def read_days(
    log: PredictionLog,
    version: str,
    since: datetime,
    end: datetime,
    newest: int,
    *,
    at_most: int = MOST_A_DAY,
    columns: Sequence[str],
) -> Iterator[pa.Table]:
    """Rows of the span that count as evidence, a day at a time, a random part of more than `at_most`."""
    for day in days(since, end):
        yield log.read(
            version=version,
            until_commit=newest,
            within=day,
            evidence_only=True,
            at_most=at_most,
            columns=columns,
        )


def days(since: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The span in pieces of a day, the last one shorter."""
    start = since
    while start < end:
        yield start, min(start + A_DAY, end)
        start += A_DAY


def _drift_within(connection: Connection, version: ModelVersion, since: datetime, until: datetime) -> str | None:
    """What of the span was called drift, in words; None where nothing was."""
    found = verdicts.reports(
        connection, version.model, version=version.id, since=since, until=until, limit=MOST_REPORTS
    )
    windows = [report for _, report in found if report.verdict is Verdict.DRIFT]
    if windows:
        first = min(report.window_start for report in windows)
        return f"{len(windows)} windows of the span were judged DRIFT, the first from {first:%Y-%m-%d %H:%M} UTC"
    for alert in alerts.find(connection, model=version.model):
        ended = alert.resolved_at or until
        if alert.name == DRIFT and alert.detail.get("version") == version.id:
            onset = datetime.fromisoformat(alert.detail["onset_at"])
            if onset < until and ended > since:
                return f"drift was alarmed within the span, since about {onset:%Y-%m-%d %H:%M} UTC"
    return None


def _notes(made: Baseline, change: BaselineChange, drifted: str | None) -> list[str]:
    told = ["accuracy, confidences and the estimate are still held against the version's hold-out"]
    if made.worth < 1.0:
        told.append(f"its rows come from returning clients and count as {made.worth * made.n:,.0f}")
    known = 0 if made.week is None else made.week.learned()
    if known < HOURS:
        told.append(
            f"of the week's cycle it shows {known} of {HOURS} hours; the detector learns the others once two weeks, "
            "the span's included, have shown them"
        )
    if change.until - change.since < A_WEEK:
        told.append("it is shorter than a week: hours and weekdays that it lacks will seem unusual at first")
    if np.isnan(made.signals["vocabulary"]).all():
        told.append("the log keeps no texts, so that words are not compared, and explained by the training texts'")
    return told if drifted is None else [f"accepted: {drifted}", *told]
