"""Drift and quality: has the traffic moved, does it matter, and is the model still right?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders

from grafana.board import DRIFT, board
from grafana.meanings import SIGNAL_STATES, TOLERATED_LOSS, VERDICTS
from grafana.panels import BAD, BUSY, QUIET, WATCH, Panel, distribution, number, series, states_over_time
from grafana.queries import MODEL, VERSION, Query, ledger, limit, mean, select, total_rate
from grafana.shared import accuracy_lost, answered_and_watched

VERSIONS = "model, version"
SIGNALS = "model, signal"  # of the champion alone
BOUND_VALUE = 'bound="value"'


def dashboard() -> builders.Dashboard:
    """Leeway / Drift and quality."""
    return board(
        DRIFT,
        "The verdict on each version, the evidence for it, and how right its answers are.",
        {
            "Verdict": _verdict(),
            "Drift": _drift(),
            "Accuracy": _quality(),
            "Predictions": _predictions(),
        },
    )


def _of_version(metric: str, *matchers: str, by: str = VERSIONS) -> str:
    return ledger(metric, MODEL, VERSION, *matchers, by=by)


def _verdict() -> list[Panel]:
    baseline = _of_version("leeway_accuracy_baseline")
    estimated = _of_version("leeway_accuracy_estimated", BOUND_VALUE)
    realised = _of_version("leeway_accuracy_realised", BOUND_VALUE)
    watched = select("leeway_monitored_predictions_total", MODEL, VERSION)
    return [
        number(
            "Verdict",
            "On the newest window: stable; notice (moved, harmless); drift (moved, and accuracy suffers); "
            "inconclusive (too little to judge by).",
            Query(_of_version("leeway_drift_severity"), "{{version}}"),
            unit="none",
            states=VERDICTS,
        ),
        number(
            "Estimated accuracy",
            "Accuracy on the newest window as estimated without labels. It cannot see a change of what is right.",
            Query(estimated, "{{version}}"),
            unit="percentunit",
            base=BUSY,
        ),
        number(
            "Estimated loss",
            "Accuracy at the baseline minus the estimate. By default 3 points are tolerated.",
            Query(f"{baseline} - {estimated}", "{{version}}"),
            unit="percentunit",
            limits=[(TOLERATED_LOSS / 2, WATCH), (TOLERATED_LOSS, BAD)],
        ),
        number(
            "Realised loss",
            "Accuracy at the baseline minus accuracy on outcome-blind labels. Nothing until labels have come.",
            Query(f"{baseline} - {realised}", "{{version}}"),
            unit="percentunit",
            limits=[(TOLERATED_LOSS / 2, WATCH), (TOLERATED_LOSS, BAD)],
        ),
        number(
            "Labelled predictions",
            "Predictions with an outcome-blind label. A gate needs 50 recent ones by default.",
            Query(_of_version("leeway_labelled_predictions"), "{{version}}"),
            unit="short",
            base=WATCH,
            limits=[(50, QUIET)],
        ),
        number(
            "Watched predictions",
            "Predictions that the detector has looked at in the time shown.",
            Query(f"max by ({VERSIONS}) (increase({watched}[$__range]))", "{{version}}"),
            unit="short",
            base=BUSY,
        ),
    ]


def _drift() -> list[Panel]:
    effect = _of_version("leeway_drift_effect", by=SIGNALS)
    statistic = _of_version("leeway_drift_statistic", by=SIGNALS)
    threshold = _of_version("leeway_drift_threshold", by=SIGNALS)
    return [
        states_over_time(
            "Verdict over time",
            "The verdict on each window of each version.",
            [Query(_of_version("leeway_drift_severity"), "{{version}}")],
            VERDICTS,
        ),
        series(
            "Sequential detector",
            "Natural logarithm of the e-detector's evidence, updated with every prediction, and its threshold, which "
            "follows from the budget of false alarms. At the threshold it alarms.",
            [
                Query(_of_version("leeway_detector_log_statistic"), "{{version}}"),
                Query(_of_version("leeway_detector_log_threshold"), "{{version}} threshold"),
            ],
            unit="none",
            bound="/ threshold$/",
        ),
        series(
            "Statistic by signal",
            "Two-sample statistic of the champion's newest window against its baseline; of what kind depends on the "
            "signal, so each is comparable with itself alone. Whether it is large is the effect's to say.",
            [Query(statistic, "{{model}} {{signal}}")],
            unit="none",
            minimum=None,
            many=True,
            logarithmic=True,
        ),
        states_over_time(
            "Signals",
            "Which signals of the champion's newest window have moved, and which beyond their leeway.",
            [Query(_of_version("leeway_drift_signal_severity", by=SIGNALS), "{{model}} {{signal}}")],
            SIGNAL_STATES,
            width=12,
            tall=True,
        ),
        series(
            "Effect over the leeway",
            "Size of each signal's shift divided by the shift that is tolerated. At 1, the dashed line, it matters.",
            [Query(f"{effect} / {threshold}", "{{model}} {{signal}}")],
            unit="none",
            limits=[(1, BAD)],
            many=True,
            width=12,
            tall=True,
        ),
    ]


def _quality() -> list[Panel]:
    bounds = f"{VERSIONS}, bound"
    baseline = _of_version("leeway_accuracy_baseline")
    return [
        series(
            "Estimated accuracy",
            "Of each window, without its labels, with its bounds and the accuracy at the baseline (grey).",
            [
                Query(_of_version("leeway_accuracy_estimated", by=bounds), "{{version}} {{bound}}"),
                Query(baseline, "{{version}} baseline"),
            ],
            unit="percentunit",
            minimum=None,
            maximum=1,
            dashed="/ (low|high|baseline)$/",
        ),
        series(
            "Realised accuracy",
            "On the newest outcome-blind labels, with its bounds and the accuracy at the baseline (grey).",
            [
                Query(_of_version("leeway_accuracy_realised", by=bounds), "{{version}} {{bound}}"),
                Query(baseline, "{{version}} baseline"),
            ],
            unit="percentunit",
            minimum=None,
            maximum=1,
            dashed="/ (low|high|baseline)$/",
        ),
        accuracy_lost(),
        series(
            "Proof of loss",
            "Log e-value against 'accuracy is within what is tolerated', by labels. At the red line it is proven.",
            [
                Query(_of_version("leeway_label_test_log_statistic", 'test="loss"'), "{{version}}"),
                Query(limit("label_log_threshold"), "proven"),
            ],
            unit="none",
            minimum=None,
            bound="/^proven$/",
        ),
        series(
            "Labelled predictions",
            "Labels that have come for each version. Where they stop coming, only the estimate is left.",
            [Query(_of_version("leeway_labelled_predictions"), "{{version}}")],
            unit="short",
        ),
        series(
            "Feedback",
            "New labels and ratings by source. Only ground truth and random samples judge a model.",
            [Query(total_rate("leeway_feedback_total", by="source"), "{{source}}")],
            unit="cps",
            stacked=True,
        ),
    ]


def _predictions() -> list[Panel]:
    confidence = "leeway_confidence"
    return [
        distribution(
            "Confidence",
            "Calibrated probability of the given answer, over all chosen versions. A new topic shows as a band of low "
            "confidence that was not there before.",
            Query(
                f"sum by (le) (increase({select(f'{confidence}_bucket', MODEL, VERSION)}[$__rate_interval]))",
                "{{le}}",
                format="heatmap",
            ),
            unit="percentunit",
            width=12,
        ),
        series(
            "Mean confidence",
            "Mean calibrated probability by version: while calibration holds, what accuracy should be.",
            [Query(mean(confidence, MODEL, VERSION, by="version"), "{{version}}")],
            unit="percentunit",
            minimum=None,
            maximum=1,
            width=6,
        ),
        answered_and_watched(width=6),
    ]
