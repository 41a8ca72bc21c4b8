"""Retraining: what asks for it, how far a job is, what the gates said, and who waits for approval."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders

from grafana.board import RETRAINING, board
from grafana.meanings import FIRING, GATES, HOUR
from grafana.panels import BAD, BUSY, WATCH, Panel, bars, listing, number, series, states_over_time
from grafana.queries import MODEL, VERSION, Query, ledger, limit, select, total_rate
from grafana.shared import candidates_waiting

OF_GATE = "version, gate"
RUNNING, QUEUED, FAILED = 'state="running"', 'state="queued"', 'state="failed"'


def dashboard() -> builders.Dashboard:
    """Leeway / Retraining."""
    return board(
        RETRAINING,
        "From labels to a candidate: jobs, gates, and what waits for a person.",
        {
            "Now": _now(),
            "What asks for it": _causes(),
            "Jobs": _jobs(),
            "The newest version": _newest(),
        },
    )


def _now() -> list[Panel]:
    states = "model, cause, state"
    gates = ledger("leeway_gate_passed", MODEL, by="model, gate")
    failed = f"max by ({states}) (delta({select('leeway_jobs', MODEL, FAILED)}[$__range]))"
    return [
        number(
            "Jobs under way",
            "Trainings that a worker is at.",
            Query(f"sum({ledger('leeway_jobs', MODEL, RUNNING, by=states)}) or vector(0)", "running"),
            unit="short",
            base=BUSY,
        ),
        number(
            "Jobs that wait",
            "Trainings that no worker has taken. One that stays here has no worker.",
            Query(f"sum({ledger('leeway_jobs', MODEL, QUEUED, by=states)}) or vector(0)", "queued"),
            unit="short",
            limits=[(1, WATCH), (5, BAD)],
        ),
        number(
            "Jobs that failed",
            "In the time shown, whatever the cause. The champion keeps serving.",
            Query(f"sum({failed}) or vector(0)", "failed"),
            unit="short",
            limits=[(1, BAD)],
        ),
        number(
            "Gates not passed",
            "Of the newest version of each model. One is enough to hold it back.",
            Query(f"sum by (model) (1 - {gates})", "{{model}}"),
            unit="short",
            limits=[(1, WATCH)],
        ),
        candidates_waiting(),
        number(
            "Longest wait for approval",
            "How long the oldest candidate has waited. The alert comes after a day.",
            Query(f"max({ledger('leeway_approval_wait_seconds', MODEL)})", "waiting"),
            unit="s",
            limits=[(HOUR, WATCH), (24 * HOUR, BAD)],
        ),
    ]


def _causes() -> list[Panel]:
    alerts = ledger("leeway_alert_active", MODEL, 'name=~"drift|quality|calibration"', by="model, name")
    return [
        series(
            "New labels",
            "Labelled predictions that no retraining knew yet. A retraining for drift needs as many of the drifted "
            "traffic as the red line says.",
            [
                Query(ledger("leeway_new_labels", MODEL, VERSION, by="model, version"), "{{version}}"),
                Query(limit("new_labels"), "needed"),
            ],
            unit="short",
            bound="/^needed$/",
        ),
        states_over_time(
            "Episodes that call for it",
            "Open alert episodes of drift, of lost accuracy and of lost calibration.",
            [Query(alerts, "{{name}}")],
            FIRING,
        ),
        series(
            "Feedback",
            "New labels and ratings by source. All train; only ground truth and random samples judge.",
            [Query(total_rate("leeway_feedback_total", by="source"), "{{source}}")],
            unit="cps",
            stacked=True,
        ),
    ]


def _jobs() -> list[Panel]:
    return [
        series(
            "Jobs by state",
            "Jobs in the ledger, over all causes. Each ends as succeeded, failed or cancelled.",
            [Query(f"sum by (state) ({ledger('leeway_jobs', MODEL, by='model, cause, state')})", "{{state}}")],
            unit="short",
            reach=1,
        ),
        series(
            "Jobs by cause",
            "Why they were asked for: drift, calibration, label volume, a schedule, or a person.",
            [Query(f"sum by (cause) ({ledger('leeway_jobs', MODEL, by='model, cause, state')})", "{{cause}}")],
            unit="short",
            reach=1,
        ),
        series(
            "Age of open jobs",
            "How long ago the oldest job that waits, and the oldest that runs, were asked for.",
            [Query(ledger("leeway_job_age_seconds", MODEL, by="model, state"), "{{model}} {{state}}")],
            unit="s",
            limits=[(HOUR, WATCH)],
        ),
        series(
            "Last job, start to end",
            "From being asked for to the end, the wait for a worker included.",
            [Query(ledger("leeway_job_duration_seconds", MODEL), "{{model}}")],
            unit="s",
            limits=[(6 * HOUR, WATCH)],
        ),
        series(
            "Since the last job ended",
            "By how it ended. A model whose last training is very old may be a model that nobody labels for.",
            [
                Query(
                    f"time() - {ledger('leeway_job_ended_timestamp_seconds', MODEL, by='model, state')}",
                    "{{model}} {{state}}",
                )
            ],
            unit="s",
        ),
        series(
            "Waiting for approval",
            "How long the oldest candidate has waited for a person. The alert comes after a day.",
            [Query(ledger("leeway_approval_wait_seconds", MODEL), "{{model}}")],
            unit="s",
            limits=[(24 * HOUR, WATCH)],
        ),
    ]


def _newest() -> list[Panel]:
    stages = ledger("leeway_model_stage", MODEL, VERSION, by="model, version, stage")
    return [
        states_over_time(
            "Gates",
            "What each model's newest version has passed, whatever has become of it since.",
            [Query(ledger("leeway_gate_passed", MODEL, by="model, gate"), "{{gate}}")],
            GATES,
            tall=True,
        ),
        listing(
            "What the gates read",
            "The newest version's reading at each gate; the console has the reason beside it.",
            Query(ledger("leeway_gate_value", MODEL, by=OF_GATE), format="table", instant=True),
            columns=["version", "gate"],
            value="reading",
            tall=True,
        ),
        listing(
            "What the gates ask for",
            "The limit at each gate, from the section `gates` of the settings.",
            Query(ledger("leeway_gate_limit", MODEL, by=OF_GATE), format="table", instant=True),
            columns=["version", "gate"],
            value="limit",
            tall=True,
        ),
        bars(
            "Accuracy on the same hold-out",
            "The newest version beside the champion that it was trained to replace.",
            Query(ledger("leeway_holdout_accuracy", MODEL, by="version, of"), "{{version}} {{of}}", instant=True),
            unit="percentunit",
            base=BUSY,
            maximum=1,
        ),
        bars(
            "Where training takes its time",
            "Seconds of each step of the newest version's training.",
            Query(ledger("leeway_training_step_seconds", MODEL, by="version, step"), "{{step}}", instant=True),
            unit="s",
            base=BUSY,
        ),
        listing(
            "Versions",
            "Where every version stands between training and retirement.",
            Query(f"{stages} == 1", format="table", instant=True),
            columns=["model", "version", "stage"],
        ),
    ]
