"""From evidence to acts, inside the tick's transaction: alert episodes, the request to retrain, the gauges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from monitoring.baseline import Baseline
from monitoring.budget import JUDGED_LABELS, alarm_budget
from monitoring.core.ledger import alerts, jobs, labels, rollouts, verdicts, versions
from monitoring.core.lifecycle import OPEN_JOBS, UNDECIDED
from monitoring.core.settings import Settings
from monitoring.core.types import (
    Alert,
    DriftReport,
    JobState,
    ModelVersion,
    Outcome,
    RetrainCause,
    Stage,
    Variant,
)
from monitoring.episodes import (
    CALIBRATION,
    DRIFT,
    QUALITY,
    SLICE,
    AlertChanges,
    Readings,
    alerts_to_change,
    standing_alerts,
)
from monitoring.gauges import gauges
from monitoring.harm import Estimate, HarmFinding, judge_harm
from monitoring.policy import Action, Decision, Episode, RetrainState, retrain_decision
from monitoring.quality import (
    accuracy_is_back,
    blind_outcomes,
    calibration_is_back,
    label_evidence,
    realised_accuracy,
    unknown_classes,
)
from monitoring.sighting import Champion, Sighting

ACTOR = "monitor"


def conclude(
    connection: Connection, sighting: Sighting, settings: Settings, *, now: datetime
) -> tuple[AlertChanges, Decision]:
    """Weigh the tick's sighting together with all labels, act on it, and tell what was done."""
    champion = sighting.champion
    version, baseline = champion.version, champion.baseline
    outcomes = labels.find_outcomes(
        connection,
        version=version.id,
        since=champion.promoted,
        variants=[Variant.PRODUCTION],
        newest=JUDGED_LABELS,
    )
    history = alerts.find(connection, model=version.model)
    open_alerts = [alert for alert in history if alert.resolved_at is None]
    evidence = label_evidence(
        outcomes,
        baseline,
        tolerated_loss=settings.monitor.tolerated_loss,
        newest=settings.monitor.window_size,
        loss_since=_last_resolved(history, QUALITY, champion.promoted),
        calibration_since=_last_resolved(history, CALIBRATION, champion.promoted),
        slices=settings.monitor.slices,
        slices_since=_last_resolved(history, SLICE, champion.promoted),
    )
    latest = _latest_report(connection, sighting)
    harm_since = partial(_harm_since, champion, outcomes, latest, settings)
    readings = Readings(
        version=version.id,
        name=version.name,
        n_seen=sighting.progress.seen,
        baseline_accuracy=baseline.expected_accuracy,
        tolerated_loss=settings.monitor.tolerated_loss,
        label_alpha=alarm_budget(settings.monitor).label_alpha,
        alarm=sighting.alarm,
        suspected_at=sighting.suspected_at,
        reports=sighting.reports,
        quiet_windows=sighting.progress.quiet,
        harm_since=harm_since,
        labels=evidence,
        recovered=_recovered(open_alerts, outcomes, baseline, settings.monitor.tolerated_loss),
    )
    changes = alerts_to_change(readings, open_alerts)
    _apply(connection, version.model, changes, now)
    episode = _episode(connection, version, harm_since)
    calibration = _calibration_episode(connection, champion, outcomes, harm_since)
    decision = decide_retraining(connection, version, episode, settings, calibration, schedule_due=False, now=now)
    values = gauges(
        sighting,
        evidence,
        latest,
        outcomes,
        tolerated_loss=settings.monitor.tolerated_loss,
        new_labels=_unused_labels(connection, version),
        now=now,
    )
    verdicts.save_gauges(connection, model=version.model, version=version.id, values=values, now=now)
    return changes, decision


def stand(connection: Connection, model: str, *, now: datetime) -> AlertChanges:
    """Open and close the episodes that last as long as something waits for a person."""
    changes = standing_alerts(
        alerts.find(connection, model=model, open_only=True),
        waiting=versions.find(connection, model=model, stages=[Stage.AWAITING_APPROVAL]),
        rollout=rollouts.open_rollout(connection, model),
        last_job=next((job for job in jobs.find(connection, model=model) if job.finished_at is not None), None),
    )
    _apply(connection, model, changes, now)
    return changes


def decide_retraining(
    connection: Connection,
    version: ModelVersion,
    episode: Episode | None,
    settings: Settings,
    calibration: Episode | None = None,
    *,
    schedule_due: bool,
    now: datetime,
) -> Decision:
    """Ask for a retraining or a recalibration of the champion if the policy says so; the decision, whatever it is."""
    asked = jobs.find(connection, model=version.model)
    finished = sorted((job.finished_at, job.cause) for job in asked if job.finished_at is not None)
    undecided = versions.find(connection, model=version.model, stages=UNDECIDED)
    recalibrated = [found for found in undecided if found.lineage.get("cause") == RetrainCause.CALIBRATION]
    retrained = [found for found in undecided if found not in recalibrated]
    state = RetrainState(
        model=version.model,
        episode=episode,
        calibration=calibration,
        new_labels=_unused_labels(connection, version),
        schedule_due=schedule_due,
        open_causes=frozenset(job.cause for job in asked if job.state in OPEN_JOBS),
        last_finished={cause: moment for moment, cause in finished},
        undecided=retrained[0].name if retrained else None,
        recalibrated=recalibrated[0].name if recalibrated else None,
        now=now,
    )
    decision = retrain_decision(state, settings.retrain)
    if decision.action in (Action.RETRAIN, Action.RECALIBRATE) and decision.cause is not None:
        called_by = {RetrainCause.DRIFT: episode, RetrainCause.CALIBRATION: calibration}.get(decision.cause)
        jobs.request(
            connection,
            model=version.model,
            cause=decision.cause,
            reason=decision.reason,
            request={
                "onset_at": None if called_by is None else called_by.onset_at.isoformat(),
                "alert": None if called_by is None else called_by.alert,
            },
            actor=ACTOR,
            now=now,
        )
    return decision


def _harm_since(
    champion: Champion,
    outcomes: Sequence[Outcome],
    latest: DriftReport | None,
    settings: Settings,
    onset: datetime,
) -> HarmFinding:
    """Whether accuracy was lost in what came since `onset`."""
    since = [outcome for outcome in outcomes if outcome.predicted_at >= onset]
    unknown = unknown_classes(since, champion.version.labels)
    return judge_harm(
        baseline_accuracy=champion.baseline.expected_accuracy,
        tolerated_loss=settings.monitor.tolerated_loss,
        estimate=_estimate(latest) if latest is not None and latest.window_end > onset else None,
        realised=realised_accuracy(since),
        new_classes={name: count for name, count in unknown.items() if count >= settings.retrain.new_class_examples},
    )


def _estimate(report: DriftReport) -> Estimate:
    return Estimate(report.estimated_accuracy, report.estimate_trustworthy, report.estimate_note)


def _episode(
    connection: Connection, version: ModelVersion, harm_since: Callable[[datetime], HarmFinding]
) -> Episode | None:
    """The open episode that calls for retraining: drift before lost quality."""
    found = [
        alert
        for alert in alerts.find(connection, model=version.model, open_only=True)
        if alert.name in (DRIFT, QUALITY) and alert.detail.get("version") == version.id
    ]
    if not found:
        return None
    alert = min(found, key=lambda alert: alert.name != DRIFT)
    onset = datetime.fromisoformat(alert.detail["onset_at"])
    retrained_at = _last_cure(connection, version.model, since=onset, recalibration=False)
    labelled = labels.count_labelled(connection, version.model, since=onset, labelled_since=retrained_at)
    return Episode(alert.id, onset, labelled, harm_since(onset), retrained_at)


def _calibration_episode(
    connection: Connection,
    champion: Champion,
    outcomes: Sequence[Outcome],
    harm_since: Callable[[datetime], HarmFinding],
) -> Episode | None:
    """The open episode of lost calibration, with the outcome-blind labels since then."""
    version = champion.version
    for alert in alerts.find(connection, model=version.model, open_only=True):
        if alert.name == CALIBRATION and alert.detail.get("version") == version.id:
            told = alert.detail.get("onset_at")
            onset = champion.reign.since if told is None else datetime.fromisoformat(told)
            cured_at = _last_cure(connection, version.model, since=onset, recalibration=True)
            labelled = blind_outcomes(
                [
                    outcome
                    for outcome in outcomes
                    if outcome.predicted_at >= onset and (cured_at is None or outcome.labelled_at > cured_at)
                ]
            )
            return Episode(alert.id, onset, len(labelled), harm_since(onset), cured_at)
    return None


def _last_cure(connection: Connection, model: str, *, since: datetime, recalibration: bool) -> datetime | None:
    """When the last retraining, or the last recalibration, was asked for that then ran; neither counts as the other."""
    asked = [
        job.created_at
        for job in jobs.find(connection, model=model)
        if job.state is JobState.SUCCEEDED and (job.cause is RetrainCause.CALIBRATION) == recalibration
    ]
    return max((moment for moment in asked if moment >= since), default=None)


def _unused_labels(connection: Connection, version: ModelVersion) -> int:
    """Labelled predictions since the champion's data were gathered, of which no retraining that ran knew the labels.

    Where gates refused the new version, a second one on nearly the same labels would meet the same hold-out at the same
    level: to try until it passes is to peek.
    """
    as_of = _as_of(version)
    retrained_at = _last_cure(connection, version.model, since=as_of, recalibration=False)
    return labels.count_labelled(connection, version.model, since=as_of, labelled_since=retrained_at)


def _recovered(
    open_alerts: Iterable[Alert], outcomes: Sequence[Outcome], baseline: Baseline, tolerated_loss: float
) -> frozenset[str]:
    """Names of the open episodes since which the labels show that all is well."""
    floor = baseline.expected_accuracy - tolerated_loss
    names = set()
    for alert in open_alerts:
        since = [outcome for outcome in outcomes if outcome.predicted_at >= alert.started_at]
        if alert.name == QUALITY and accuracy_is_back(since, floor):
            names.add(alert.name)
        if alert.name == SLICE and all(
            accuracy_is_back(
                [outcome for outcome in since if lost["slice"] in outcome.slices], lost["before"] - tolerated_loss
            )
            for lost in alert.detail["slices"]
        ):
            names.add(alert.name)
        if alert.name == CALIBRATION and calibration_is_back(since, baseline, tolerated_loss):
            names.add(alert.name)
    return frozenset(names)


def _last_resolved(history: Iterable[Alert], name: str, promoted: datetime) -> datetime:
    """When the last episode of that name ended since the champion was promoted, or when that was."""
    ended = [alert.resolved_at for alert in history if alert.name == name and alert.resolved_at is not None]
    return max([promoted, *ended])


def _latest_report(connection: Connection, sighting: Sighting) -> DriftReport | None:
    """The last window judged in this reign."""
    if sighting.reports:
        return sighting.reports[-1]
    stored = verdicts.reports(
        connection, sighting.champion.version.model, version=sighting.champion.version.id, limit=1
    )
    return next((report for _, report in stored if report.window_start >= sighting.champion.reign.since), None)


def _apply(connection: Connection, model: str, changes: AlertChanges, now: datetime) -> None:
    for resolving in changes.resolve:
        alerts.resolve(connection, resolving.alert, reason=resolving.reason, now=now)
    for firing in changes.fire:
        alerts.fire(connection, model=model, **vars(firing), now=now)


def _as_of(version: ModelVersion) -> datetime:
    """Until when the version has learnt from labels."""
    as_of = version.lineage.get("as_of")
    return version.created_at if as_of is None else datetime.fromisoformat(as_of)
