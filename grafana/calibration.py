"""Calibration: are stated probabilities worth what they promise, and would another temperature cure it?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders

from grafana.board import CALIBRATION, board
from grafana.meanings import CALIBRATION_GATE, TOLERATED_LOSS
from grafana.panels import BAD, BUSY, QUIET, WATCH, Panel, bars, distribution, number, series
from grafana.queries import MODEL, VERSION, Query, ledger, limit, mean, select

VERSIONS = "model, version"
BINS = f"{VERSIONS}, bin"
DEBIASED = 'metric="ece_debiased"'
CONFIDENCE = "leeway_confidence"


def dashboard() -> builders.Dashboard:
    """Leeway / Calibration."""
    return board(
        CALIBRATION,
        "Whether stated probabilities are true, on labelled answers, beside what they were at the baseline.",
        {
            "Now": _now(),
            "Promised and true": _promises(),
            "Measures and proof": _measures(),
            "Confidence": _confidence(),
        },
    )


def _of_version(metric: str, *matchers: str, by: str = VERSIONS) -> str:
    return ledger(metric, MODEL, VERSION, *matchers, by=by)


def _now() -> list[Panel]:
    recalibrations = ledger("leeway_jobs", MODEL, 'cause="calibration"', by="model, state")
    return [
        number(
            "Promised minus true",
            "Mean confidence minus accuracy on recent labels: above 0 the model is too sure of itself.",
            Query(_of_version("leeway_calibration_gap"), "{{version}}"),
            unit="percentunit",
            base=WATCH,
            limits=[(-TOLERATED_LOSS, QUIET), (TOLERATED_LOSS, WATCH), (3 * TOLERATED_LOSS, BAD)],
        ),
        number(
            "Calibration error",
            "Debiased ECE on recent labels. A new version needs 8 % or less by default.",
            Query(_of_version("leeway_calibration_error", DEBIASED), "{{version}}"),
            unit="percentunit",
            limits=[(CALIBRATION_GATE / 2, WATCH), (CALIBRATION_GATE, BAD)],
        ),
        number(
            "At the baseline",
            "Debiased ECE on the hold-out, when the version was made.",
            Query(_of_version("leeway_calibration_baseline", DEBIASED), "{{version}}"),
            unit="percentunit",
            limits=[(CALIBRATION_GATE / 2, WATCH), (CALIBRATION_GATE, BAD)],
        ),
        number(
            "Proof of miscalibration",
            "Evidence of the test on labels beside what an alarm takes: at 100 % the alert fires.",
            Query(
                f"{_of_version('leeway_label_test_log_statistic', _TEST)} / on () group_left () "
                f"{limit('label_log_threshold')}",
                "{{version}}",
            ),
            unit="percentunit",
            limits=[(0.5, WATCH), (1, BAD)],
        ),
        number(
            "Labels",
            "Labelled predictions of each version. Calibration of fewer than a few hundred says little.",
            Query(_of_version("leeway_labelled_predictions"), "{{version}}"),
            unit="short",
            base=WATCH,
            limits=[(300, QUIET)],
        ),
        number(
            "Recalibrations",
            "Jobs so far that asked for another temperature alone: the cure that is cheaper than a retraining.",
            Query(f"sum({recalibrations}) or vector(0)", "jobs"),
            unit="short",
            base=BUSY,
        ),
    ]


_TEST = 'test="miscalibration"'


def _promises() -> list[Panel]:
    promised = _of_version("leeway_reliability_promised", by=BINS)
    true = _of_version("leeway_reliability_true", by=BINS)
    return [
        bars(
            "Right answers by confidence",
            "Share of right answers among those of a tenth of confidence, by its upper end. Where calibration holds, "
            "each bar ends just below its name: of answers given at 0.8 to 0.9, 80 to 90 % are right.",
            Query(true, "{{bin}} {{version}}", instant=True),
            unit="percentunit",
            base=BUSY,
            maximum=1,
            tall=True,
        ),
        bars(
            "Off by, by confidence",
            "How far the mean confidence of each tenth is from the share of right answers, in either direction.",
            Query(f"abs({promised} - {true})", "{{bin}} {{version}}", instant=True),
            unit="percentunit",
            limits=[(0.05, WATCH), (0.15, BAD)],
            maximum=0.5,
            tall=True,
        ),
        bars(
            "Labels by confidence",
            "Recent outcome-blind labels in each tenth of confidence. Tenths with fewer than 10 are left out.",
            Query(_of_version("leeway_reliability_labels", by=BINS), "{{bin}} {{version}}", instant=True),
            unit="short",
            base=WATCH,
            limits=[(30, QUIET)],
            tall=True,
        ),
    ]


def _measures() -> list[Panel]:
    metrics = f"{VERSIONS}, metric"
    return [
        series(
            "Calibration error",
            "Debiased and smooth ECE on recent labels, beside their values at the baseline (dashed). The red line is "
            "the gate for a new version's debiased ECE.",
            [
                Query(_of_version("leeway_calibration_error", _ERRORS, by=metrics), "{{version}} {{metric}}"),
                Query(
                    _of_version("leeway_calibration_baseline", _ERRORS, by=metrics), "{{version}} {{metric}} baseline"
                ),
                Query(limit("calibration_error"), "gate"),
            ],
            unit="percentunit",
            dashed="/ baseline$/",
            bound="/^gate$/",
        ),
        series(
            "Brier score",
            "Mean squared difference between confidence and being right: calibration and sharpness in one number, "
            "beside its value at the baseline (dashed).",
            [
                Query(_of_version("leeway_calibration_error", _BRIER), "{{version}}"),
                Query(_of_version("leeway_calibration_baseline", _BRIER), "{{version}} baseline"),
            ],
            unit="none",
            limits=[(0.25, BAD)],  # what 50 % confidence always scores
            dashed="/ baseline$/",
        ),
        series(
            "Proof of miscalibration",
            "Log e-value against 'confidences are worth what they were, within what is tolerated'. At the red line it "
            "is proven, and the alert fires.",
            [
                Query(_of_version("leeway_label_test_log_statistic", _TEST), "{{version}}"),
                Query(limit("label_log_threshold"), "proven"),
            ],
            unit="none",
            minimum=None,
            bound="/^proven$/",
        ),
    ]


_ERRORS = 'metric=~"ece_debiased|smece"'
_BRIER = 'metric="brier"'


def _confidence() -> list[Panel]:
    return [
        distribution(
            "Confidence",
            "Calibrated probability of the given answer, over all chosen versions. A new topic shows as a band of low "
            "confidence that was not there before.",
            Query(
                f"sum by (le) (increase({select(f'{CONFIDENCE}_bucket', MODEL, VERSION)}[$__rate_interval]))",
                "{{le}}",
                format="heatmap",
            ),
            unit="percentunit",
        ),
        series(
            "Confidence and accuracy",
            "Mean confidence of live answers beside accuracy on recent labels (dashed): apart, confidences lie.",
            [
                Query(mean(CONFIDENCE, MODEL, VERSION, by="version"), "{{version}} confidence"),
                Query(_of_version("leeway_accuracy_realised", 'bound="value"'), "{{version}} accuracy"),
            ],
            unit="percentunit",
            minimum=None,
            maximum=1,
            dashed="/ accuracy$/",
        ),
        series(
            "Promised minus true",
            "Mean confidence, as it was worth at the baseline, minus accuracy on recent labels. Between the dashed "
            "lines it is within what is tolerated by default.",
            [Query(_of_version("leeway_calibration_gap"), "{{version}}")],
            unit="percentunit",
            minimum=None,
            limits=[(-TOLERATED_LOSS, QUIET), (TOLERATED_LOSS, BAD)],
        ),
    ]
