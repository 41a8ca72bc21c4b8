"""Monitoring itself: does the monitor look, does the log reach it, do its alerts leave? Verdicts are worth as much."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders

from grafana.board import MONITORING, board
from grafana.meanings import LAGGING, LOST, STALE, UP
from grafana.panels import BAD, QUIET, WATCH, Panel, number, series, states_over_time
from grafana.queries import MODEL, VERSION, Query, growth, ledger, limit, mean, rate, select, total_rate
from grafana.shared import answered_and_watched

VERSIONS = "model, version"
ROUTINE = "leeway_routine_duration_seconds"
LAST_TICK = "leeway_monitor_last_tick_timestamp_seconds"
MONITOR = 'job=~".*monitor"'  # the metrics of a process have the same names in every role


def dashboard() -> builders.Dashboard:
    """Leeway / Monitoring itself."""
    return board(
        MONITORING,
        "Whether the watch itself is well: freshness, the way of the log, the monitor's own work, notifications.",
        {
            "Now": _now(),
            "Freshness": _freshness(),
            "The log's way to the monitor": _log(),
            "The monitor's own work": _work(),
        },
    )


def _now() -> list[Panel]:
    return [
        number(
            "Ledger",
            "Whether each monitor can read the database.",
            Query(f"min({select('leeway_monitor_up')}) or vector(0)", "ledger"),
            unit="none",
            states={0: ("unreadable", BAD), 1: ("read", QUIET)},
        ),
        number(
            "Since the last look",
            "Time since the monitor last looked at the model that it has not looked at for longest.",
            Query(f"time() - min({ledger(LAST_TICK, MODEL)})", "since"),
            unit="s",
            limits=[(STALE, WATCH), (LOST, BAD)],
        ),
        number(
            "Log lag",
            "Time since every spooled prediction was in the prediction log. Labels join only what is there.",
            Query(f"max({select('leeway_prediction_log_lag_seconds')})", "lag"),
            unit="s",
            limits=[(STALE, WATCH), (LAGGING, BAD)],
        ),
        number(
            "Rows lost",
            "Predictions of the time shown that the log could not take: answered, but never judged nor trained on.",
            Query(growth("leeway_spool_dropped_rows_total"), "rows"),
            unit="short",
            limits=[(1, BAD)],
        ),
        number(
            "Runs that failed",
            "Runs of the monitor's routines that failed in the time shown; its log says why.",
            Query(growth("leeway_routine_failures_total"), "runs"),
            unit="short",
            limits=[(1, WATCH), (10, BAD)],
        ),
        number(
            "Notifications waiting",
            "Alert notifications that have not left yet.",
            Query(f"max({select('leeway_outbox_waiting')})", "waiting"),
            unit="short",
            limits=[(1, WATCH), (20, BAD)],
        ),
    ]


def _freshness() -> list[Panel]:
    end = ledger("leeway_drift_window_end_timestamp_seconds", MODEL, VERSION, by=VERSIONS)
    return [
        states_over_time(
            "Scraped",
            "Whether Prometheus reaches each process of the chosen jobs.",
            [Query(f"max by (job, instance) ({select('up')})", "{{job}} {{instance}}")],
            UP,
        ),
        series(
            "Since the last look",
            "Age of the newest monitoring tick of each model. It is a saw of about ten seconds while all is well.",
            [Query(f"time() - {ledger(LAST_TICK, MODEL)}", "{{model}}")],
            unit="s",
            limits=[(STALE, WATCH), (LOST, BAD)],
        ),
        series(
            "Since the last window ended",
            "Age of the newest verdict of each champion: with little traffic a window takes long to fill.",
            [Query(f"time() - {end}", "{{version}}")],
            unit="s",
            limits=[(86_400, WATCH)],
        ),
        series(
            "Filling window",
            "Predictions in the window that is not judged yet. At the dashed line the next verdict comes.",
            [
                Query(ledger("leeway_drift_window_pending", MODEL, VERSION, by=VERSIONS), "{{version}}"),
                Query(limit("window_size"), "verdict"),
            ],
            unit="short",
            dashed="/^verdict$/",
        ),
        answered_and_watched(),
        series(
            "Notifications waiting",
            "Alert notifications that have not left yet.",
            [Query(f"max({select('leeway_outbox_waiting')})", "waiting")],
            unit="short",
            limits=[(20, BAD)],
            reach=1,
        ),
    ]


def _log() -> list[Panel]:
    return [
        series(
            "Log lag",
            "Time since all that a host had spooled was in the prediction log. At the red line the alert comes.",
            [Query(f"max by (host) ({select('leeway_prediction_log_lag_seconds')})", "{{host}}")],
            unit="s",
            limits=[(STALE, WATCH), (LAGGING, BAD)],
            width=6,
        ),
        series(
            "Spool used",
            "Predictions that wait to be shipped, beside what may wait before rows are dropped.",
            [
                Query(
                    f"sum by (instance) ({select('leeway_spool_bytes')}) / "
                    f"sum by (instance) ({select('leeway_spool_limit_bytes')})",
                    "{{instance}}",
                )
            ],
            unit="percentunit",
            limits=[(0.5, WATCH), (0.9, BAD)],
            width=6,
        ),
        series(
            "Disk used",
            "Of the disk of each home folder: spool, and with the defaults ledger, prediction log and bundles, too.",
            [
                Query(
                    f"1 - min by (instance) ({select('leeway_disk_free_bytes')}) / "
                    f"min by (instance) ({select('leeway_disk_size_bytes')})",
                    "{{instance}}",
                )
            ],
            unit="percentunit",
            maximum=1,
            limits=[(0.8, WATCH), (0.9, BAD)],
            width=6,
        ),
        series(
            "Rows written and shipped",
            "Rows per second that serving wrote to its spools, that the monitor brought into the log, and lost ones.",
            [
                Query(total_rate("leeway_spool_rows_total"), "written"),
                Query(f"sum(max by (host) ({rate('leeway_prediction_log_rows_total')}))", "shipped"),
                Query(total_rate("leeway_spool_dropped_rows_total"), "dropped"),
            ],
            unit="cps",
            dashed="/^shipped$/",
            width=6,
        ),
    ]


def _work() -> list[Panel]:
    return [
        series(
            "Duration of a run, mean",
            "Of each routine: shipping the log, watching the models, sending alerts, keeping house.",
            [Query(mean(ROUTINE, by="routine"), "{{routine}}")],
            unit="s",
            limits=[(10, WATCH)],
        ),
        series(
            "Busy workers",
            "Share of one worker that each routine takes, over all monitors. Each monitor has two.",
            [Query(total_rate(f"{ROUTINE}_sum", by="routine"), "{{routine}}")],
            unit="percentunit",
            stacked=True,
            limits=[(2, BAD)],
        ),
        series(
            "Failed and missed",
            "Runs that failed by routine, and firings that the monitor's clock missed: counts between two points.",
            [
                Query(
                    f"sum by (routine) (increase({select('leeway_routine_failures_total')}[$__rate_interval]))",
                    "{{routine}} failed",
                ),
                Query(f"sum(increase({select('leeway_monitor_missed_firings_total')}[$__rate_interval]))", "missed"),
            ],
            unit="short",
            reach=1,
            limits=[(10, BAD)],
        ),
        series(
            "Scrapes",
            "How long Prometheus takes to scrape each process. The monitor reads the ledger meanwhile.",
            [Query(f"max by (job, instance) ({select('scrape_duration_seconds')})", "{{job}} {{instance}}")],
            unit="s",
            limits=[(5, WATCH), (10, BAD)],
        ),
        series(
            "Series",
            "Series that each process exports: bounded, about a thousand for two models of two versions.",
            [
                Query(
                    f"max by (job, instance) ({select('scrape_samples_post_metric_relabeling')})",
                    "{{job}} {{instance}}",
                )
            ],
            unit="short",
            limits=[(1000, WATCH)],
        ),
        series(
            "Memory of the monitor",
            "Resident memory of each monitor. Its state is bounded: it does not grow with the traffic that was seen.",
            [Query(f"sum by (instance) ({select('process_resident_memory_bytes', MONITOR)})", "{{instance}}")],
            unit="bytes",
        ),
    ]
