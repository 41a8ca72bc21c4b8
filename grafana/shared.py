"""Panels that stand on two dashboards: told once, so that they say the same on both."""

from __future__ import annotations

from grafana.meanings import REFUSED_PAGE, REFUSED_TICKET
from grafana.panels import BAD, WATCH, WIDTH, Panel, number, series
from grafana.queries import MODEL, PREDICTING, VERSION, Query, ledger, limit, rate, ratio, select, total_rate


def requests_by_status(*, width: int = WIDTH) -> Panel:
    """On Overview and Serving."""
    return series(
        "Requests by status",
        "Every HTTP request by the status it was answered with. 429: too much waits already; 503: not ready.",
        [Query(total_rate("leeway_http_requests_total", by="status"), "{{status}}")],
        unit="reqps",
        stacked=True,
        width=width,
    )


def requests_refused(*, width: int = WIDTH) -> Panel:
    """On Overview and Serving."""
    refused = select("leeway_http_requests_total", 'status="429"')
    predicting = select("leeway_http_requests_total", PREDICTING)
    asked = f"sum(rate({predicting}[$__rate_interval]) or rate({refused}[$__rate_interval]))"
    return series(
        "Refused",
        "Share of the requests for predictions that got 429. The dashed lines are where a ticket comes if it goes on "
        "for a quarter of an hour, and a page if it goes on for five minutes.",
        [Query(ratio(f"(sum(rate({refused}[$__rate_interval])) or vector(0))", asked), "refused")],
        unit="percentunit",
        maximum=1,
        limits=[(REFUSED_TICKET, WATCH), (REFUSED_PAGE, BAD)],
        width=width,
    )


def predictions_by_version() -> Panel:
    """On Overview and Serving."""
    return series(
        "Predictions by version",
        "Texts answered by each version in the part that it plays: production, candidate or shadow.",
        [
            Query(
                total_rate("leeway_predictions_total", MODEL, VERSION, by="version, variant"), "{{version}} {{variant}}"
            )
        ],
        unit="cps",
        stacked=True,
    )


def accuracy_lost() -> Panel:
    """On Overview and on Drift and quality."""

    def of_version(metric: str, *matchers: str) -> str:
        return ledger(metric, MODEL, VERSION, *matchers, by="model, version")

    baseline, value = of_version("leeway_accuracy_baseline"), 'bound="value"'
    return series(
        "Accuracy lost",
        "Accuracy at the baseline minus accuracy now, estimated and realised. The red line is what is tolerated.",
        [
            Query(f"{baseline} - {of_version('leeway_accuracy_estimated', value)}", "{{version}} estimated"),
            Query(f"{baseline} - {of_version('leeway_accuracy_realised', value)}", "{{version}} realised"),
            Query(limit("tolerated_loss"), "tolerated"),
        ],
        unit="percentunit",
        minimum=None,
        bound="/^tolerated$/",
    )


def candidates_waiting() -> Panel:
    """On Overview and Retraining."""
    return number(
        "Candidates waiting",
        "Versions that passed their gates and wait for a person to approve or reject them on the console.",
        Query(f"sum({ledger('leeway_candidates_waiting', MODEL)}) or vector(0)", "candidates"),
        unit="short",
        limits=[(1, WATCH)],
    )


def answered_and_watched(*, width: int = WIDTH) -> Panel:
    """On Drift and quality, and on the monitor's own."""
    answered = total_rate("leeway_predictions_total", MODEL, VERSION, 'variant="production"', by="version")
    watched = rate("leeway_monitored_predictions_total", MODEL, VERSION)
    return series(
        "Answered and watched",
        "Texts that a version answered as champion, beside those the monitor looked at. Apart for long, the "
        "monitor falls behind.",
        [Query(answered, "{{version}} answered"), Query(f"max by (version) ({watched})", "{{version}} watched")],
        unit="cps",
        width=width,
        dashed="/ watched$/",
    )
