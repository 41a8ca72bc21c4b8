"""Serving: how fast requests are answered, where their time goes, and what the machine has left."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders

from grafana.board import SERVING, board
from grafana.meanings import LATENCY_OBJECTIVE
from grafana.panels import BAD, BUSY, WATCH, Panel, distribution, listing, number, series
from grafana.queries import MODEL, PREDICTING, VERSION, Query, mean, quantile, rate, ratio, select, total_rate
from grafana.shared import predictions_by_version, requests_by_status, requests_refused

DURATION = "leeway_request_duration_seconds"
STAGES = "leeway_stage_duration_seconds"
ANSWERS = "leeway_prediction_duration_seconds"
LARGEST_BATCH = 32  # server.max_batch
SERVE = 'job!~".*monitor"'  # the metrics of a process have the same names in every role


def dashboard() -> builders.Dashboard:
    """Leeway / Serving."""
    return board(
        SERVING,
        "Latency, throughput, queue and resources of the serving processes.",
        {
            "Now": _now(),
            "Requests": _requests(),
            "Where the time goes": _engine(),
            "Versions": _versions(),
            "Processes and their log": _processes(),
        },
    )


def _now() -> list[Panel]:
    return [
        number(
            "Texts answered",
            "Texts per second that callers got an answer to, over all instances.",
            Query(total_rate("leeway_predictions_total", MODEL, VERSION, 'variant!="shadow"'), "texts"),
            unit="cps",
            base=BUSY,
        ),
        number(
            "Latency, p50",
            "Half of the prediction requests were answered faster than this.",
            Query(quantile(0.5, DURATION, PREDICTING), "p50"),
            unit="s",
            limits=[(LATENCY_OBJECTIVE / 2, WATCH), (LATENCY_OBJECTIVE, BAD)],
        ),
        number(
            "Latency, p95",
            "95 of 100 prediction requests were answered faster than this. The objective is 200 ms for 99.",
            Query(quantile(0.95, DURATION, PREDICTING), "p95"),
            unit="s",
            limits=[(LATENCY_OBJECTIVE, WATCH), (5 * LATENCY_OBJECTIVE, BAD)],
        ),
        number(
            "Queue used",
            "Waiting texts beside how many may wait before requests are refused, over all instances.",
            Query(_queue_used(), "used"),
            unit="percentunit",
            limits=[(0.5, WATCH), (0.9, BAD)],
        ),
        number(
            "Padding",
            "Share of the computed tokens that only fill batches up. Texts of like length go together to keep it low.",
            Query(_padding(), "padding"),
            unit="percentunit",
            limits=[(0.2, WATCH), (0.5, BAD)],
        ),
        number(
            "Instances",
            "Serving processes that Prometheus reaches.",
            Query(f"count({select('leeway_build_info')}) or vector(0)", "instances"),
            unit="short",
            base=BAD,
            limits=[(1, BUSY)],
        ),
    ]


def _queue_used() -> str:
    return f"sum({select('leeway_queue_depth')}) / sum({select('leeway_queue_capacity')})"


def _padding() -> str:
    tokens = total_rate("leeway_tokens_total", MODEL, VERSION)
    padding = total_rate("leeway_padding_tokens_total", MODEL, VERSION)
    return ratio(padding, f"({tokens} + {padding})")


def _requests() -> list[Panel]:
    return [
        requests_by_status(width=6),
        requests_refused(width=6),
        series(
            "Requests by route",
            "Every HTTP request by its route; what no route takes is `unmatched`.",
            [Query(f"topk(5, {total_rate('leeway_http_requests_total', by='route')})", "{{route}}")],
            unit="reqps",
            width=6,
        ),
        series(
            "Texts without an answer",
            "Predictions that failed: the model raised, the deadline passed, or the queue was full.",
            [
                Query(
                    total_rate("leeway_prediction_errors_total", MODEL, VERSION, by="model, reason"),
                    "{{model}} {{reason}}",
                )
            ],
            unit="cps",
            reach=1,
            limits=[(0.1, WATCH)],
            width=6,
        ),
        series(
            "Latency of predictions",
            "From request line to last byte, for the prediction routes. The dashed line is the objective of 200 ms.",
            [
                Query(quantile(0.5, DURATION, PREDICTING), "p50"),
                Query(quantile(0.95, DURATION, PREDICTING), "p95"),
                Query(quantile(0.99, DURATION, PREDICTING), "p99"),
                Query(mean(DURATION, PREDICTING), "mean"),
            ],
            unit="s",
            limits=[(LATENCY_OBJECTIVE, BAD)],
        ),
        distribution(
            "Latency, all of it",
            "How the times of prediction requests spread: a second band is a second kind of request.",
            Query(
                f"sum by (le) (increase({select(f'{DURATION}_bucket', PREDICTING)}[$__rate_interval]))",
                "{{le}}",
                format="heatmap",
            ),
            unit="s",
        ),
        series(
            "Latency by route, mean",
            "Of callers' routes by name, and of all others (console, operation, health) together.",
            [Query(mean(DURATION, by="route"), "{{route}}")],
            unit="s",
        ),
    ]


def _engine() -> list[Panel]:
    return [
        series(
            "Stages, p95",
            "Time a batch spends: its oldest text in the queue, in the tokenizer, in the model, and on its record.",
            [Query(quantile(0.95, STAGES, by="stage"), "{{stage}}")],
            unit="s",
            limits=[(LATENCY_OBJECTIVE, BAD)],
        ),
        series(
            "Busy threads",
            "Inference threads that tokenise, run the model, or write the record, on average, over all instances.",
            [Query(total_rate(f"{STAGES}_sum", 'stage!="queue"', by="stage"), "{{stage}}")],
            unit="short",
            stacked=True,
        ),
        series(
            "Texts that wait",
            "Depth of the inference queue by model. The red line is where requests are refused.",
            [
                Query(f"sum by (model) ({select('leeway_queue_depth', MODEL)})", "{{model}}"),
                Query(f"sum({select('leeway_queue_capacity')})", "refused from here"),
            ],
            unit="short",
            bound="/^refused/",
        ),
        series(
            "Texts per model call",
            "Mean size of a batch. It grows with the load; near 32, the default largest batch, the machine is busy.",
            [Query(mean("leeway_batch_size"), "texts per call")],
            unit="short",
            limits=[(LARGEST_BATCH, WATCH)],
        ),
        series(
            "Tokens",
            "Tokens per second: those of texts, and those that only fill batches up.",
            [
                Query(total_rate("leeway_tokens_total", MODEL, VERSION, by="version"), "{{version}}"),
                Query(total_rate("leeway_padding_tokens_total", MODEL, VERSION), "padding"),
            ],
            unit="cps",
            stacked=True,
        ),
        series(
            "Tokens per text",
            "Mean length of texts by version. Its growth costs latency, and is drift of its own kind.",
            [
                Query(
                    ratio(
                        total_rate("leeway_tokens_total", MODEL, VERSION, by="version"),
                        total_rate("leeway_predictions_total", MODEL, VERSION, by="version"),
                    ),
                    "{{version}}",
                )
            ],
            unit="short",
        ),
    ]


def _versions() -> list[Panel]:
    return [
        predictions_by_version(),
        series(
            "Time to an answer, p95",
            "From arrival to answer, by version and part; a shadow's is its model call alone.",
            [Query(quantile(0.95, ANSWERS, MODEL, VERSION, by="version, variant"), "{{version}} {{variant}}")],
            unit="s",
            limits=[(LATENCY_OBJECTIVE, BAD)],
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
    ]


def _processes() -> list[Panel]:
    return [
        series(
            "Processor",
            "Cores that each serving process uses.",
            [Query(f"sum by (instance) ({rate('process_cpu_seconds_total', SERVE)})", "{{instance}}")],
            unit="short",
        ),
        series(
            "Memory",
            "Resident memory of each serving process. Two versions are in memory while one replaces the other.",
            [Query(f"sum by (instance) ({select('process_resident_memory_bytes', SERVE)})", "{{instance}}")],
            unit="bytes",
        ),
        series(
            "Versions in memory",
            "Models loaded and warm by instance: champions, candidates, and those kept for a rollback.",
            [Query(f"sum by (instance) ({select('leeway_loaded_versions')})", "{{instance}}")],
            unit="short",
        ),
        series(
            "Rows recorded",
            "Predictions written to the log's spool, and those that it could not take. No answer waits for either.",
            [
                Query(total_rate("leeway_spool_rows_total"), "written"),
                Query(total_rate("leeway_spool_dropped_rows_total"), "dropped"),
            ],
            unit="cps",
        ),
        series(
            "Feedback",
            "New labels and ratings by source. Only ground truth and random samples judge a model.",
            [Query(total_rate("leeway_feedback_total", by="source"), "{{source}}")],
            unit="cps",
            stacked=True,
        ),
        listing(
            "Installed",
            "The version of Leeway on each instance. Two of them for long are an upgrade that was not finished.",
            Query(f"max by (job, instance, version) ({select('leeway_build_info')})", format="table", instant=True),
            columns=["job", "instance", "version"],
        ),
    ]
