"""The overview: are the objectives kept, who answers, does a person have to act, and is anybody watching?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders

from grafana.board import OVERVIEW, board
from grafana.meanings import (
    ERROR_BUDGET,
    FIRING,
    HOUR,
    LATENCY_OBJECTIVE,
    LOST,
    PAGE,
    PHASES,
    SLOW_BUDGET,
    STALE,
    TICKET,
    VERDICTS,
)
from grafana.panels import BAD, BUSY, QUIET, WATCH, Panel, listing, number, series, states_over_time
from grafana.queries import (
    ASKED,
    MODEL,
    PREDICTING,
    VERSION,
    Query,
    by_state,
    growth,
    ledger,
    quantile,
    ratio,
    select,
    total_rate,
)
from grafana.shared import (
    accuracy_lost,
    candidates_waiting,
    predictions_by_version,
    requests_by_status,
    requests_refused,
)

REQUESTS = "leeway_http_requests_total"
FAILED = 'status=~"5.."'
DURATION = "leeway_request_duration_seconds"
FAST = f'le="{LATENCY_OBJECTIVE}"'


def dashboard() -> builders.Dashboard:
    """Leeway / Overview."""
    return board(
        OVERVIEW,
        "Objectives, models, alerts, and what waits for a person.",
        {
            "Objectives, over the time shown": _objectives(),
            "Now": _now(),
            "Service": _service(),
            "Models": _models(),
            "Alerts and what waits": _alerts(),
        },
    )


def _objectives() -> list[Panel]:
    failed = ratio(f"({growth(REQUESTS, ASKED, FAILED)} or vector(0))", growth(REQUESTS, ASKED))
    fast = ratio(growth(f"{DURATION}_bucket", PREDICTING, FAST), growth(f"{DURATION}_count", PREDICTING))
    estimated = ledger("leeway_accuracy_estimated", MODEL, VERSION, 'bound="value"', by="model, version")
    realised = ledger("leeway_accuracy_realised", MODEL, VERSION, 'bound="value"', by="model, version")
    return [
        number(
            "Availability",
            "Share of requests not answered with a 5xx status. The objective is 99.9 %.",
            Query(f"1 - {failed}", "available"),
            unit="percentunit",
            base=BAD,
            limits=[(0.99, WATCH), (1 - ERROR_BUDGET, QUIET)],
        ),
        number(
            "Error budget spent",
            "Errors beside the 0.1 % that the objective allows: at 100 % the time shown has used all of its budget.",
            Query(f"({failed}) / {ERROR_BUDGET}", "spent"),
            unit="percentunit",
            limits=[(0.5, WATCH), (1, BAD)],
        ),
        number(
            "Fast answers",
            "Share of prediction requests answered within 200 ms. The objective is 99 %.",
            Query(fast, "fast"),
            unit="percentunit",
            base=BAD,
            limits=[(0.95, WATCH), (1 - SLOW_BUDGET, QUIET)],
        ),
        number(
            "Latency budget spent",
            "Slow answers beside the 1 % that the objective allows: at 100 % the time shown has used all of it.",
            Query(f"(1 - {fast}) / {SLOW_BUDGET}", "spent"),
            unit="percentunit",
            limits=[(0.5, WATCH), (1, BAD)],
        ),
        number(
            "Estimated accuracy",
            "Accuracy of each champion on its newest window, estimated without labels.",
            Query(estimated, "{{version}}"),
            unit="percentunit",
            base=BUSY,
        ),
        number(
            "Realised accuracy",
            "Accuracy of each champion on its newest outcome-blind labels. Nothing until labels have come.",
            Query(realised, "{{version}}"),
            unit="percentunit",
            base=BUSY,
        ),
    ]


def _now() -> list[Panel]:
    failed, every = total_rate(REQUESTS, ASKED, FAILED), total_rate(REQUESTS, ASKED)
    return [
        number(
            "Requests",
            "HTTP requests per second over all instances, probes and scrapes left out.",
            Query(every, "requests"),
            unit="reqps",
            base=BUSY,
        ),
        number(
            "Errors",
            "Share of requests answered with a 5xx status. The error budget allows 0.1 %.",
            Query(ratio(f"({failed} or vector(0))", every), "errors"),
            unit="percentunit",
            limits=[(ERROR_BUDGET, WATCH), (10 * ERROR_BUDGET, BAD)],
        ),
        number(
            "Latency, p99",
            "99 of 100 prediction requests were answered faster than this. The objective is 200 ms.",
            Query(quantile(0.99, DURATION, PREDICTING), "p99"),
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
        candidates_waiting(),
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


def _service() -> list[Panel]:
    failed = ratio(f"({total_rate(REQUESTS, ASKED, FAILED)} or vector(0))", total_rate(REQUESTS, ASKED))
    fast = ratio(total_rate(f"{DURATION}_bucket", PREDICTING, FAST), total_rate(f"{DURATION}_count", PREDICTING))
    return [
        requests_by_status(width=6),
        requests_refused(width=6),
        series(
            "Latency of predictions",
            "From request line to last byte, for the prediction routes. The dashed line is the objective of 200 ms.",
            [
                Query(quantile(0.5, DURATION, PREDICTING), "p50"),
                Query(quantile(0.95, DURATION, PREDICTING), "p95"),
                Query(quantile(0.99, DURATION, PREDICTING), "p99"),
            ],
            unit="s",
            limits=[(LATENCY_OBJECTIVE, BAD)],
            width=6,
        ),
        series(
            "Budget burn",
            "How many times faster than allowed the budgets of errors and of slow answers are spent. At 1 a budget "
            "just lasts; the dashed lines are where a ticket comes if it goes on for a day (3), and a page if it goes "
            "on for six hours (6); at 14.4 a page comes within the hour. Cut off at 30.",
            [
                Query(f"{failed} / {ERROR_BUDGET}", "errors"),
                Query(f"(1 - {fast}) / {SLOW_BUDGET}", "slow answers"),
            ],
            unit="none",
            maximum=30,
            limits=[(TICKET, WATCH), (PAGE, BAD)],
            width=6,
        ),
    ]


def _models() -> list[Panel]:
    def of_version(metric: str) -> str:
        return ledger(metric, MODEL, VERSION, 'bound="value"', by="model, version")

    baseline = ledger("leeway_accuracy_baseline", MODEL, VERSION, by="model, version")
    return [
        predictions_by_version(),
        series(
            "Accuracy",
            "Of each champion: estimated without labels, realised on outcome-blind labels, at the baseline (dashed).",
            [
                Query(of_version("leeway_accuracy_estimated"), "{{version}} estimated"),
                Query(of_version("leeway_accuracy_realised"), "{{version}} realised"),
                Query(baseline, "{{version}} baseline"),
            ],
            unit="percentunit",
            minimum=None,
            maximum=1,
            dashed="/ baseline$/",
        ),
        accuracy_lost(),
        states_over_time(
            "Verdict",
            "The verdict on each window of each champion. Drift is a move beyond the leeway; notice, one within it.",
            [Query(ledger("leeway_drift_severity", MODEL, VERSION, by="model, version"), "{{version}}")],
            VERDICTS,
        ),
        states_over_time(
            "Rollout",
            "Phase of each model's open rollout. Inconclusive: it is paused until a person decides.",
            [Query(by_state("leeway_rollout_phase", "phase", PHASES), "{{model}}")],
            PHASES,
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


def _alerts() -> list[Panel]:
    return [
        states_over_time(
            "Alerts",
            "Open alert episodes over time. Each name has a page in the runbooks.",
            [Query(ledger("leeway_alert_active", MODEL, by="model, name"), "{{name}}")],
            FIRING,
            width=12,
        ),
        series(
            "Alarms raised",
            "Alert episodes opened in the last hour, by name.",
            [
                Query(
                    f"max by (model, name) (increase({select('leeway_alarms_total', MODEL)}[1h]))",
                    "{{name}}",
                )
            ],
            unit="short",
            reach=1,
            width=6,
        ),
        series(
            "Waiting for approval",
            "How long the oldest candidate has waited for a person. The alert comes after a day.",
            [Query(ledger("leeway_approval_wait_seconds", MODEL), "{{model}}")],
            unit="s",
            limits=[(24 * HOUR, WATCH)],
            width=6,
        ),
    ]
