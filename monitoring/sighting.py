"""What the champion's new answers show: the detector's alarms, and the windows that they complete."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np
import pyarrow as pa

from monitoring.baseline import Baseline, detector_scores
from monitoring.budget import alarm_budget
from monitoring.core.ledger import labels, verdicts
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.settings import Settings
from monitoring.core.signals import SIGNALS
from monitoring.core.types import DriftReport, ModelVersion, Outcome, Variant, Verdict
from monitoring.detect import LabelledRows, judge_window
from monitoring.episodes import SequentialAlarm
from monitoring.intake import (
    STREAM_COLUMNS,
    WINDOW_COLUMNS,
    Reign,
    as_traffic,
    commits_of,
    predicted_of,
    read_span,
    read_stream,
    seconds_of,
    signals_of,
)
from monitoring.profiles import profile_of, profile_spec
from monitoring.progress import Progress
from monitoring.quality import blind_outcomes
from monitoring.slice_memory import NO_MEMORY, SliceMemory
from monitoring.stats.profile import WindowProfile
from monitoring.stats.sequential import DetectorAlarm, EDetector
from monitoring.weekly import weekly_of

MAX_REFIT_LABELS = 1_000
SUSPICION = 0.5  # of the logarithm that an alarm takes


@dataclass(frozen=True)
class Champion:
    """The version that is judged, and with what; the detector takes in what it is shown.

    `reign`: its answers since its baseline was set; `promoted`: labels judge all of them since it was promoted.
    `usual_since`: from when on its answers show the week's cycle: a span of them that was made the baseline included.
    """

    version: ModelVersion
    reign: Reign
    promoted: datetime
    usual_since: datetime
    baseline: Baseline
    detector: EDetector


@dataclass(frozen=True)
class Sighting:
    """What one tick's new rows showed.

    `alarm`: the detector's first; `reports` and `profiles`: of the windows that they completed, one of each.
    `suspected_at`: when a change began that the detector suspects and no alarm has told yet. `memory`: what is
    remembered of the slices after these windows.
    """

    champion: Champion
    alarm: SequentialAlarm | None
    reports: tuple[DriftReport, ...]
    progress: Progress
    profiles: tuple[WindowProfile, ...] = ()
    suspected_at: datetime | None = None
    memory: SliceMemory = NO_MEMORY


def look(
    champion: Champion,
    rows: pa.Table,
    progress: Progress,
    *,
    ledger: Ledger,
    log: PredictionLog,
    settings: Settings,
    new_outcomes: Sequence[Outcome],
) -> Sighting:
    """Show the new `rows` (TICK_COLUMNS, up to `progress.commit`) to the detector, and judge the full windows."""
    stream = champion.reign.stream(rows)
    alarms = _run_detector(champion, stream, progress.seen, settings.monitor.seed)
    alarm = _first_alarm(champion, stream, progress, alarms, log) if alarms else None
    before = progress
    positions = [progress.last_alarm, *(position for position, _ in alarms)]
    progress = dataclasses.replace(progress, pending=progress.pending + len(stream), last_alarm=positions[-1])
    reports: tuple[DriftReport, ...] = ()
    profiles: tuple[WindowProfile, ...] = ()
    memory = NO_MEMORY
    if progress.pending >= settings.monitor.window_size:
        with ledger.read() as connection:
            known = labels.find_outcomes(
                connection,
                version=champion.version.id,
                since=champion.promoted,
                variants=[Variant.PRODUCTION],
                newest=max(MAX_REFIT_LABELS, settings.monitor.window_size),
            )
            kept = verdicts.load_slice_memory(connection, champion.version.id, started_at=champion.reign.since)
        memory = SliceMemory.from_bytes(kept)
        reports, profiles, progress, memory = _judge_windows(
            champion, progress, positions, [*known, *new_outcomes], memory, log, settings
        )
    suspected = None
    if alarm is None and any(report.verdict is Verdict.DRIFT for report in reports):
        suspected = _suspicion(champion, stream, before, log)
    return Sighting(champion, alarm, reports, progress, profiles, suspected, memory)


def suspicious(detector: EDetector) -> bool:
    """Whether the detector holds half the evidence of an alarm, or more."""
    return detector.statistic >= SUSPICION * math.log1p(detector.threshold)


def random_for(seed: int, version: str, commit: int) -> np.random.Generator:
    """The randomness for one commit of one version: the same whenever and by whomever it is worked on."""
    name = int.from_bytes(hashlib.blake2b(version.encode(), digest_size=8).digest())
    return np.random.default_rng([seed, name, commit])


def _run_detector(champion: Champion, stream: pa.Table, seen: int, seed: int) -> list[tuple[int, DetectorAlarm]]:
    """The detector's alarms, each with its position in the reign's stream."""
    alarms = []
    for commit, rows in commits_of(stream):
        scores = detector_scores(champion.baseline, predicted_of(rows), signals_of(rows))
        found = champion.detector.update(scores, random_for(seed, champion.version.name, commit), seconds_of(rows))
        alarms += [(seen + alarm.index, alarm) for alarm in found]
        seen += len(rows)
    return alarms


def _first_alarm(
    champion: Champion,
    stream: pa.Table,
    progress: Progress,
    alarms: Sequence[tuple[int, DetectorAlarm]],
    log: PredictionLog,
) -> SequentialAlarm:
    position, alarm = alarms[0]
    onset = max(position + 1 - alarm.onset_back, 0)
    return SequentialAlarm(
        n_seen=position + 1,
        signal=alarm.leading_score,
        log_statistic=alarm.log_statistic,
        log_threshold=math.log1p(champion.detector.threshold),
        onset_at=_time_of(champion.reign, onset, stream, progress, log),
        at=stream["at"][position - progress.seen].as_py(),
        cycle_learned=alarm.cycle_learned,
    )


def _suspicion(champion: Champion, stream: pa.Table, progress: Progress, log: PredictionLog) -> datetime | None:
    """When the change began that the detector suspects; None where it does not."""
    detector = champion.detector
    if not suspicious(detector):
        return None
    onset = max(progress.seen + len(stream) - detector.onset_back, 0)
    return _time_of(champion.reign, min(onset, progress.seen + len(stream) - 1), stream, progress, log)


def _time_of(reign: Reign, position: int, stream: pa.Table, progress: Progress, log: PredictionLog) -> datetime:
    """When the row at `position` of the reign was answered; `stream` holds those from `progress.seen` on."""
    moment: datetime
    if position >= progress.seen:
        moment = stream["at"][position - progress.seen].as_py()
        return moment
    mark = progress.mark_before(position)
    rows = read_stream(log, reign, mark, until_commit=progress.commit, columns=STREAM_COLUMNS)
    moment = rows["at"][min(max(position - mark.position, 0), len(rows) - 1)].as_py()
    return moment


def _judge_windows(
    champion: Champion,
    progress: Progress,
    alarms: Sequence[int],
    outcomes: Sequence[Outcome],
    memory: SliceMemory,
    log: PredictionLog,
    settings: Settings,
) -> tuple[tuple[DriftReport, ...], tuple[WindowProfile, ...], Progress, SliceMemory]:
    """Judge every full window; the progress then stands at the start of the unfinished one."""
    size, texts_kept = settings.monitor.window_size, settings.log.text == "store"
    rows = read_stream(log, champion.reign, progress.window, until_commit=progress.commit, columns=WINDOW_COLUMNS)
    labelled = _labelled_rows(champion, blind_outcomes(outcomes), log)
    usual = Reign(champion.version.id, champion.usual_since)
    spec = profile_spec(champion.baseline)
    reports, profiles = [], []
    for start in range(0, len(rows) - size + 1, size):
        window = rows.slice(start, size)
        traffic = as_traffic(window, texts_kept=texts_kept)
        report = judge_window(
            champion.baseline,
            traffic,
            model=champion.version.model,
            version=champion.version.id,
            settings=settings.monitor,
            alpha=alarm_budget(settings.monitor).window_alpha,
            outcomes=outcomes,
            labelled=labelled,
            memory=memory,
            read_weekly=partial(
                weekly_of,
                traffic,
                usual.since,
                partial(read_span, log, usual, until_commit=progress.commit, texts_kept=texts_kept),
            ),
        )
        reports.append(report)
        profiles.append(profile_of(champion.baseline, spec, traffic))
        memory = memory.after(champion.baseline, traffic, report, settings.monitor.slices)
        progress = progress.past(window, report.verdict, alarms)
    progress = dataclasses.replace(progress, pending=len(rows) - size * len(reports))
    return tuple(reports), tuple(profiles), progress, memory


def _labelled_rows(champion: Champion, outcomes: Sequence[Outcome], log: PredictionLog) -> LabelledRows | None:
    """The newest outcome-blind labels with the signals of the answers that they speak of."""
    newest = {outcome.prediction_id: outcome for outcome in outcomes[-MAX_REFIT_LABELS:]}
    if not newest:
        return None
    since_promoted = Reign(champion.version.id, champion.promoted)
    rows = since_promoted.stream(log.read(version=champion.version.id, prediction_ids=newest, columns=STREAM_COLUMNS))
    matched = [newest[name] for name in rows["prediction_id"].to_pylist()]
    return LabelledRows(
        signals={name: signals_of(rows)[name] for name in SIGNALS},
        correct=np.array([outcome.correct for outcome in matched], dtype=np.bool_),
        weights=np.array([1.0 / outcome.sampling_probability for outcome in matched]),
    )
