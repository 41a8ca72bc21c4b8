"""What the ledger knows of work under way, as Prometheus metrics: versions, their gates, jobs, rollouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client.core import CounterMetricFamily, InfoMetricFamily, Metric
from sqlalchemy import Connection

from monitoring.core.ledger import jobs, rollouts
from monitoring.core.lifecycle import OPEN_JOBS
from monitoring.core.types import ModelVersion, RolloutPhase, Stage, TrainingJob
from monitoring.families import OF_A_VERSION, add, gauge

ENDED = frozenset({Stage.ARCHIVED, Stage.REJECTED, Stage.ROLLED_BACK})
BOUNDS = (("value", "difference"), ("low", "low"), ("high", "high"))


def version_metrics(known: Sequence[ModelVersion], now: datetime) -> Iterator[Metric]:
    """Of every version that has not ended; what it has shown, of each model's newest one, whatever became of it."""
    stage = gauge("leeway_model_stage", "1 for each version's stage.", *OF_A_VERSION, "stage")
    info = InfoMetricFamily("leeway_version", "Why each version was made, and from which bundle.", labels=OF_A_VERSION)
    for version in known:
        if version.stage not in ENDED:
            stage.add_metric((version.model, version.name, version.stage), 1)
            cause = str(version.lineage.get("cause") or "first")
            info.add_metric((version.model, version.name), {"cause": cause, "bundle": version.bundle_hash[:12]})
    waiting = gauge("leeway_candidates_waiting", "Versions that wait for approval.", "model")
    longest = gauge("leeway_approval_wait_seconds", "How long the oldest waiting version has waited.", "model")
    newest: dict[str, ModelVersion] = {}
    for model in sorted({version.model for version in known}):
        of_model = [version for version in known if version.model == model]
        made = [version.created_at for version in of_model if version.stage is Stage.AWAITING_APPROVAL]
        waiting.add_metric((model,), len(made))
        longest.add_metric((model,), (now - min(made)).total_seconds() if made else 0.0)
        newest[model] = max(of_model, key=lambda version: version.number)
    yield from (stage, info, waiting, longest)
    yield from _shown(list(newest.values()))


def _shown(newest: Sequence[ModelVersion]) -> Iterator[Metric]:
    passed = gauge(
        "leeway_gate_passed", "1 for each gate that the newest version passed, else 0.", *OF_A_VERSION, "gate"
    )
    value = gauge("leeway_gate_value", "What a gate read of the newest version.", *OF_A_VERSION, "gate")
    limit = gauge("leeway_gate_limit", "What a gate held its reading against.", *OF_A_VERSION, "gate")
    accuracy = gauge(
        "leeway_holdout_accuracy",
        "Accuracy on the newest version's hold-out, its own and the champion's.",
        *OF_A_VERSION,
        "of",
    )
    seconds = gauge("leeway_training_step_seconds", "What the newest version's training took.", *OF_A_VERSION, "step")
    for version in newest:
        names = (version.model, version.name)
        for gate in version.evidence.get("gates") or ():
            passed.add_metric((*names, gate["name"]), int(gate["passed"]))
            add(value, (*names, gate["name"]), gate["value"])
            add(limit, (*names, gate["name"]), gate["limit"])
        for of, measured in (version.evidence.get("metrics") or {}).items():
            if isinstance(measured, Mapping):
                add(accuracy, (*names, of), measured.get("accuracy"))
        for step, took in (version.evidence.get("cost") or {}).get("steps", {}).items():
            add(seconds, (*names, step), took)
    yield from (passed, value, limit, accuracy, seconds)


def job_metrics(connection: Connection, models: Sequence[str], now: datetime) -> Iterator[Metric]:
    """Jobs so far, the oldest that is open in each state, and the last that ended."""
    counts = gauge("leeway_jobs", "Training jobs so far by cause and state.", "model", "cause", "state")
    for (model, cause, state), count in jobs.count(connection).items():
        counts.add_metric((model, cause, state), count)
    age = gauge(
        "leeway_job_age_seconds", "How long ago the oldest open job was asked for; 0 without one.", "model", "state"
    )
    took = gauge("leeway_job_duration_seconds", "From being asked for to the end, of the last job that ended.", "model")
    ended = gauge("leeway_job_ended_timestamp_seconds", "When the last job ended, and how.", "model", "state")
    for model in models:
        found = jobs.find(connection, model=model)
        for state in sorted(OPEN_JOBS):
            asked = [job.created_at for job in found if job.state is state]
            age.add_metric((model, state), (now - min(asked)).total_seconds() if asked else 0.0)
        last = jobs.last_finished(connection, model)
        if last is not None and last.finished_at is not None:
            took.add_metric((model,), _seconds(last))
            ended.add_metric((model, last.state), last.finished_at.timestamp())
    yield from (counts, age, took, ended)


def rollout_metrics(connection: Connection, known: Sequence[ModelVersion], models: Sequence[str]) -> Iterator[Metric]:
    """The open rollouts as the controller last read them, each model's newest one, and how all others ended."""
    names = {version.id: version.name for version in known}
    info = InfoMetricFamily("leeway_rollout", "Of the newest rollout: who is tried, and how it is.", labels=("model",))
    for model in models:
        for newest in rollouts.find(connection, model=model, limit=1):
            versus = {"candidate": names[newest.candidate], "champion": names[newest.champion]}
            info.add_metric((model,), {**versus, "phase": newest.phase})
    step = gauge("leeway_rollout_step", "Step of the open rollout; -1 is shadow.", "model")
    begun = gauge("leeway_rollout_step_started_timestamp_seconds", "When that step began.", "model")
    share = gauge("leeway_rollout_share", "The candidate's share of traffic.", "model")
    phase = gauge("leeway_rollout_phase", "1 for the open rollout's phase.", "model", "phase")
    difference = gauge("leeway_rollout_difference", "Accuracy of candidate minus champion.", "model", "bound")
    guardrail = gauge(
        "leeway_rollout_guardrail",
        "Candidate minus champion in the share of requests that did not fail (errors), were not slow (latency).",
        "model",
        "measure",
        "bound",
    )
    evidence = gauge("leeway_rollout_log_evidence", "Log e-values of the rollout's tests.", "model", "test")
    units = gauge("leeway_rollout_units", "Matured, labelled units of the step, by arm.", "model", "arm")
    for rollout in rollouts.open_rollouts(connection):
        model, reading = rollout.model, rollout.analysis
        step.add_metric((model,), rollout.step)
        begun.add_metric((model,), rollout.step_started_at.timestamp())
        share.add_metric((model,), rollout.share)
        phase.add_metric((model, rollout.phase), 1)
        for bound, key in BOUNDS:
            add(difference, (model, bound), (reading.get("accuracy") or {}).get(key))
            for measure in ("errors", "latency"):
                add(guardrail, (model, measure, bound), (reading.get(measure) or {}).get(key))
        for test, value in _evidence(reading).items():
            add(evidence, (model, test), value)
        for arm, key in (("candidate", "step_candidates"), ("champion", "step_champions")):
            add(units, (model, arm), reading.get(key))
    yield from (info, step, begun, share, phase, difference, guardrail, evidence, units)
    yield _ended(rollouts.count_ended(connection), models)


def _evidence(reading: Mapping[str, Any]) -> dict[str, float | None]:
    """Log e-values by what they speak for: a better candidate, or harm of some kind, or units wrongly assigned."""
    accuracy = reading.get("accuracy") or {}
    return {
        "better": accuracy.get("log_e_better"),
        "harm": accuracy.get("log_e_harm"),
        "errors": (reading.get("errors") or {}).get("log_e_harm"),
        "latency": (reading.get("latency") or {}).get("log_e_harm"),
        "sample_ratio": reading.get("log_e_sample_ratio"),
    }


def _ended(counts: Mapping[tuple[str, RolloutPhase], int], models: Sequence[str]) -> Metric:
    """From 0 on: a counter that begins with 1 has not increased."""
    metric = CounterMetricFamily("leeway_rollouts", "Rollouts that have ended.", labels=("model", "phase"))
    for model in models:
        for phase in (RolloutPhase.SUCCESSFUL, RolloutPhase.FAILED, RolloutPhase.ERROR):
            metric.add_metric((model, phase), counts.get((model, phase), 0))
    return metric


def _seconds(job: TrainingJob) -> float:
    assert job.finished_at is not None
    return (job.finished_at - job.created_at).total_seconds()
