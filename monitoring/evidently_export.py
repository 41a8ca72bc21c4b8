"""Evidently's own report on the same rows, as a second opinion: an export on request, never the judge.

It takes seconds to import and its page weighs megabytes, so that it is loaded only here, and only when asked for.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.baseline import Baseline
from monitoring.core.errors import MisConfigured
from monitoring.signals import Traffic, novelty

EXTRA = "pip install 'leeway[reports]'"
_COLUMN = re.compile(r"ValueDrift\(column=(?P<column>.*),method=(?P<method>.*),threshold=(?P<threshold>[\d.]+)")


def export_evidently(baseline: Baseline, window: Traffic, path: Path) -> dict[str, Any]:
    """Write Evidently's page on the window beside the baseline to `path`; its verdict, with its defaults.

    The verdict: {dataset_drift, drifted, share, threshold, n, file, columns: [{column, method, value, threshold,
    drifted}]}. Raises MisConfigured where the extra is missing, or too new to work.
    """
    current, reference = _columns(baseline, window)
    numbers = [name for name in current if name != "predicted"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it stands on parts of numpy and pandas that are on their way out
        pandas, evidently, presets = _load()
        definition = evidently.DataDefinition(numerical_columns=numbers, categorical_columns=["predicted"])
        sides = [
            evidently.Dataset.from_pandas(pandas.DataFrame(columns), data_definition=definition)
            for columns in (current, reference)
        ]
        snapshot = evidently.Report([presets.DataDriftPreset()]).run(*sides)
        path.parent.mkdir(parents=True, exist_ok=True)
        snapshot.save_html(str(path))
    return verdict_of(snapshot.dict()["metrics"]) | {"n": len(window), "file": path.name}


def verdict_of(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """The verdict on the data set, and on each column, from Evidently's metrics."""
    verdict: dict[str, Any] = {"columns": []}
    for metric in metrics:
        if "drift_share" in metric["config"]:
            share, threshold = float(metric["value"]["share"]), float(metric["config"]["drift_share"])
            verdict |= {
                "dataset_drift": share >= threshold,
                "drifted": int(metric["value"]["count"]),
                "share": share,
                "threshold": threshold,
            }
        elif found := _COLUMN.match(metric["metric_name"]):
            value, limit, by_p_value = float(metric["value"]), float(found["threshold"]), "p_value" in found["method"]
            verdict["columns"].append(
                {
                    "column": found["column"],
                    "method": found["method"],
                    "value": value,
                    "threshold": limit,
                    "drifted": value < limit if by_p_value else value >= limit,
                }
            )
    return verdict


def _columns(baseline: Baseline, window: Traffic) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Now and the baseline by column; the baseline's rows are in no order, which tests of one column do not need."""
    current: dict[str, NDArray[Any]] = {"predicted": window.predicted.astype(object)}
    reference: dict[str, NDArray[Any]] = {
        "predicted": np.repeat(baseline.classes, baseline.class_counts).astype(object)
    }
    for name, usual in baseline.signals.items():
        if name in window.signals:
            current[name], reference[name] = window.signals[name], usual
    texts = [text for text in window.texts if text is not None]
    if len(texts) == len(window):
        current["vocabulary"], reference["vocabulary"] = novelty(texts, baseline.words), baseline.signals["vocabulary"]
    return current, reference


def _load() -> tuple[Any, Any, Any]:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        import evidently
        import pandas
        from evidently import presets
    except ImportError as error:
        raise MisConfigured(
            f"Evidently's report needs the extra 'reports' ({error.name or error} is missing): {EXTRA}"
        ) from error
    if tuple(int(part) for part in pandas.__version__.split(".")[:2]) >= (3, 1):
        raise MisConfigured(f"Evidently fails with pandas {pandas.__version__}, 3.1 and newer: {EXTRA}")
    return pandas, evidently, presets
