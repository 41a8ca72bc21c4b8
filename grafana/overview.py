"""The overview: does it answer, who answers, does a person have to act, and is anybody watching?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders

from grafana.board import OVERVIEW, board
from grafana.panels import BAD, BUSY, QUIET, WATCH, Panel, listing, number, series, states_over_time
from grafana.queries import (
    MODEL,
    PREDICTING,
    VERSION,
    Query,
    ledger,
    mean,
    quantile,
    ratio,
    select,
    total_rate,
)

LATENCY_OBJECTIVE = 0.2  # seconds; rollout.latency_slo_ms
STALE, LOST = 60.0, 300.0  # seconds without a look; the second is the alert's limit
HOUR = 3600.0
FIRING = {0: ("quiet", QUIET), 1: ("firing", BAD)}
PHASES = {1: ("pending", BUSY), 2: ("running", QUIET), 3: ("inconclusive", WATCH)}


def dashboard() -> builders.Dashboard:
    """Leeway / Overview."""
    return board(
        uid=OVERVIEW,
        title="Leeway / Overview",
        description="Requests, models, rollouts, and what waits for a person.",
        rows={
            "Now": _now(),
            "Requests": _requests(),
            "Models and rollouts": _models(),
            "Alerts and work": _work(),
            "The watch itself": _watch(),
        },
    )


def _now() -> list[Panel]:
    failed = total_rate("leeway_http_requests_total", 'status=~"5.."')
    every = total_rate("leeway_http_requests_total")
    return [
        number(
            "Requests",
            "HTTP requests per second over all routes and instances.",
            Query(every, "requests"),
            unit="reqps",
        ),
        number(
            "Errors",
            "Share of requests answered with a 5xx status. The error budget allows 0.1 %.",
            Query(ratio(f"({failed} or vector(0))", every), "errors"),
            unit="percentunit",
            limits=[(0.001, WATCH), (0.01, BAD)],
        ),
        number(
            "Latency, p99",
            "99 of 100 prediction requests were answered faster than this. The objective is 200 ms.",
            Query(quantile(0.99, "leeway_request_duration_seconds", PREDICTING), "p99"),
            unit="s",
            limits=[(LATENCY_OBJECTIVE, WATCH), (5 * LATENCY_OBJECTIVE, BAD)],
        ),
        number(
            "Alerts active",
            "Open alert episodes of the chosen models, as the monitor and the rollout controller keep them.",
            Query(f"sum({ledger('leeway_alert_active', MODEL, by='model, name')}) or vector(0)", "alerts"),
            unit="short",
            limits=[(1, BAD)],
        ),
        number(
            "Candidates waiting",
            "Versions that passed their gates and wait for a person to approve or reject them on the console.",
            Query(f"sum({ledger('leeway_candidates_waiting', MODEL)}) or vector(0)", "candidates"),
            unit="short",
            limits=[(1, WATCH)],
        ),
        number(
            "Since the last look",
            "Time since the monitor last looked at the model that it has not looked at for longest.",
            Query(
                f"time() - min({ledger('leeway_monitor_last_tick_timestamp_seconds', MODEL)})", "since the last look"
            ),
            unit="s",
            limits=[(STALE, WATCH), (LOST, BAD)],
        ),
    ]


def _requests() -> list[Panel]:
    duration = "leeway_request_duration_seconds"
    stages = "leeway_stage_duration_seconds"
    return [
        series(
            "Requests by status",
            "Every HTTP request by the status it was answered with. 429 and 503 mean that the queue was full.",
            [Query(total_rate("leeway_http_requests_total", by="status"), "{{status}}")],
            unit="reqps",
            stacked=True,
        ),
        series(
            "Texts without an answer",
            "Predictions that failed: the model raised, the deadline passed, or the queue was full.",
            [Query(total_rate("leeway_prediction_errors_total", MODEL, by="model, reason"), "{{model}}: {{reason}}")],
            unit="cps",
            limits=[(0.1, WATCH)],
        ),
        series(
            "Latency of predictions",
            "From request line to last byte, for the prediction routes. The dashed line is the objective of 200 ms.",
            [
                Query(quantile(0.5, duration, PREDICTING), "p50"),
                Query(quantile(0.95, duration, PREDICTING), "p95"),
                Query(quantile(0.99, duration, PREDICTING), "p99"),
                Query(mean(duration, PREDICTING), "mean"),
            ],
            unit="s",
            limits=[(LATENCY_OBJECTIVE, BAD)],
        ),
        series(
            "Where the time goes, p95",
            "Time a batch spends waiting in the queue, in the tokenizer and in the model.",
            [Query(quantile(0.95, stages, by="stage"), "{{stage}}")],
            unit="s",
            limits=[(LATENCY_OBJECTIVE, BAD)],
        ),
        series(
            "Texts waiting for the model",
            "Depth of the inference queue. By default requests are refused from 1,024 waiting texts on.",
            [Query(f"sum by (model) ({select('leeway_queue_depth', MODEL)})", "{{model}}")],
            unit="short",
            limits=[(512, WATCH), (1024, BAD)],
        ),
        series(
            "Texts per model call",
            "Mean size of a batch. It grows with the load; near 32, the default largest batch, the machine is busy.",
            [Query(mean("leeway_batch_size"), "texts per call")],
            unit="short",
            limits=[(32, WATCH)],
        ),
    ]


def _models() -> list[Panel]:
    agreeing = total_rate("leeway_shadow_pairs_total", MODEL, VERSION, 'agree="true"', by="model, version")
    pairs = total_rate("leeway_shadow_pairs_total", MODEL, VERSION, by="model, version")
    return [
        series(
            "Predictions by version",
            "Texts answered by each version in the part that it plays: production, candidate or shadow.",
            [
                Query(
                    total_rate("leeway_predictions_total", MODEL, VERSION, by="version, variant"),
                    "{{version}} {{variant}}",
                )
            ],
            unit="cps",
            stacked=True,
        ),
        series(
            "Traffic share",
            "Share of callers' answers that each version gives, as routed now. A shadow's answers reach no caller.",
            [
                Query(
                    f"avg by (version, variant) ({select('leeway_traffic_share', MODEL, VERSION)})",
                    "{{version}} {{variant}}",
                )
            ],
            unit="percentunit",
            maximum=1,
            stacked=True,
        ),
        states_over_time(
            "Rollout",
            "Phase of each model's open rollout. Inconclusive: it is paused until a person decides.",
            [Query(_phase(), "{{model}}")],
            PHASES,
        ),
        series(
            "Candidate minus champion",
            "Difference of accuracy in the rollout with its anytime-valid bounds. Above 0 the candidate is better.",
            [
                Query(
                    ledger("leeway_rollout_difference", MODEL, by="model, bound"),
                    "{{model}} {{bound}}",
                )
            ],
            unit="percentunit",
            minimum=None,
            limits=[(0, BUSY)],
            dashed="/ (low|high)$/",
        ),
        series(
            "Shadow agreement",
            "Share of shadowed texts on which candidate and champion give the same label.",
            [Query(ratio(agreeing, pairs), "{{version}}")],
            unit="percentunit",
            maximum=1,
        ),
        listing(
            "Versions",
            "Where every version stands between training and retirement.",
            Query(
                f"{ledger('leeway_model_stage', MODEL, VERSION, by='model, version, stage')} == 1",
                format="table",
                instant=True,
            ),
            columns=["model", "version", "stage"],
        ),
    ]


def _phase() -> str:
    """The open rollout's phase as one number a model, in the order of PHASES."""
    matchers = [(value, f'phase="{name}"') for value, (name, _) in PHASES.items()]
    phases = (f"{value} * {select('leeway_rollout_phase', MODEL, matcher)}" for value, matcher in matchers)
    return f"max by (model) ({' or '.join(phases)})"


def _work() -> list[Panel]:
    return [
        states_over_time(
            "Alerts",
            "Open alert episodes over time. Each name has a page in the runbooks.",
            [Query(ledger("leeway_alert_active", MODEL, by="model, name"), "{{model}}: {{name}}")],
            FIRING,
        ),
        series(
            "Training jobs",
            "Jobs in the ledger by state. A job that stays queued has no worker.",
            [Query(f"sum by (state) ({ledger('leeway_jobs', MODEL, by='model, state')})", "{{state}}")],
            unit="short",
        ),
        series(
            "Waiting for approval",
            "How long the oldest candidate has waited for a person. The alert comes after a day.",
            [Query(ledger("leeway_approval_wait_seconds", MODEL), "{{model}}")],
            unit="s",
            limits=[(24 * HOUR, WATCH)],
        ),
    ]


def _watch() -> list[Panel]:
    return [
        series(
            "Since the monitor's last look",
            "Age of the newest monitoring tick of each model. It is a saw of about ten seconds while all is well.",
            [Query(f"time() - {ledger('leeway_monitor_last_tick_timestamp_seconds', MODEL)}", "{{model}}")],
            unit="s",
            limits=[(STALE, WATCH), (LOST, BAD)],
        ),
        series(
            "Prediction log lag",
            "Time since every spooled prediction was in the prediction log. Labels join only what is there.",
            [Query(f"max({select('leeway_prediction_log_lag_seconds')})", "lag")],
            unit="s",
            limits=[(STALE, WATCH), (600, BAD)],
        ),
        series(
            "Spool",
            "Bytes of predictions that wait to be shipped. By default rows are dropped beyond 1 GiB.",
            [Query(f"sum by (instance) ({select('leeway_spool_bytes')})", "{{instance}}")],
            unit="bytes",
            limits=[(2**29, WATCH), (2**30, BAD)],
        ),
        series(
            "Dropped",
            "Rows that the spool could not take, and shadow copies that found the machine busy. No answer is lost.",
            [
                Query(total_rate("leeway_spool_dropped_rows_total"), "log rows"),
                Query(total_rate("leeway_shadow_dropped_total", MODEL, by="model"), "shadow copies of {{model}}"),
            ],
            unit="cps",
            limits=[(0.1, WATCH)],
        ),
        series(
            "Feedback",
            "New labels and ratings by source. Only ground truth and random samples judge a model.",
            [Query(total_rate("leeway_feedback_total", by="source"), "{{source}}")],
            unit="cps",
            stacked=True,
        ),
        series(
            "Notifications waiting",
            "Alert notifications that have not reached the webhook yet.",
            [Query(f"max({select('leeway_outbox_waiting')})", "waiting")],
            unit="short",
            limits=[(1, WATCH), (20, BAD)],
        ),
    ]
