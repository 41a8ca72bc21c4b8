"""NannyML: univariate drift at its default three deviations over a reference of 10 and of 50 chunks, and CBPE."""

from __future__ import annotations

import time
import warnings

import nannyml
import numpy as np
import pandas as pd
from exchange import Clock, Given, Results

CHUNKS = (10, 50)
MOST_REFERENCE_ROWS = 200_000
CBPE_REFERENCE = 2_000
CBPE_N = 500


def main() -> None:
    """Windows of one scenario and size are the chunks of one analysis."""
    warnings.simplefilter("ignore")
    given, results, clock = Given(), Results(nannyml.__version__), Clock()
    pool = np.unique(given.arrays["references"])
    for scenario, n, windows in given.windows():
        for chunks in CHUNKS:
            if chunks * n <= MOST_REFERENCE_ROWS:
                name = f"NannyML JS, 3 deviations of {chunks} chunks"
                results.count(name, scenario, n, univariate(given, pool, windows, chunks))
    cbpe(given, results, clock)
    rows = given.million()
    calculator = fitted(given, given.reference(0), len(rows) // 10)
    frame = pd.DataFrame(given.columns(rows))
    results.cost("NannyML, univariate", len(rows), lambda: calculator.calculate(frame))
    results.send()


def univariate(given: Given, pool, windows, chunks: int) -> list[bool]:
    """Alarms of any column; the windows are dealt out over several references."""
    alarms: list[bool] = []
    parts = np.array_split(windows, min(len(windows), 5))
    for number, part in enumerate(parts):
        n = windows.shape[1]
        rows = np.random.default_rng([n, chunks, number]).choice(pool, chunks * n)
        result = fitted(given, rows, n).calculate(pd.DataFrame(given.columns(part.ravel())))
        frame = result.filter(period="analysis").to_df()
        alert = frame[[column for column in frame.columns if column[-1] == "alert"]].fillna(False).astype(bool)
        alarms += alert.any(axis=1).tolist()
    return alarms


def fitted(given: Given, rows, chunk_size: int):
    """The calculator with everything at its default."""
    frame = pd.DataFrame(given.columns(rows))
    calculator = nannyml.UnivariateDriftCalculator(
        column_names=list(frame.columns), treat_as_categorical=["predicted"], chunk_size=chunk_size
    )
    return calculator.fit(frame)


def cbpe(given: Given, results: Results, clock: Clock) -> None:
    """The estimated accuracy of windows of 500, and its alarms."""
    if "probabilities" not in given.arrays:
        return
    classes = [str(name) for name in given.arrays["classes"]]
    columns = {name: f"p_{place}" for place, name in enumerate(classes)}
    known = np.isin(given.arrays["labels"], classes)

    def frame(rows, labelled: bool) -> pd.DataFrame:
        table = pd.DataFrame(given.arrays["probabilities"][rows], columns=list(columns.values()))
        table["predicted"] = given.arrays["predicted"][rows]
        if labelled:
            table["label"] = given.arrays["labels"][rows]
        return table

    rows = given.reference(0)[:CBPE_REFERENCE]
    estimator = nannyml.CBPE(
        y_pred_proba=columns,
        y_pred="predicted",
        y_true="label",
        problem_type="classification_multiclass",
        metrics=["accuracy"],
        chunk_size=CBPE_N,
    ).fit(frame(rows[known[rows]], labelled=True))
    for name, windows in given.arrays.items():
        if not name.startswith("estimate|") or time.monotonic() > clock.until:
            continue
        result = estimator.estimate(frame(windows.ravel(), labelled=False)).filter(period="analysis").to_df()
        truth = (given.arrays["predicted"] == given.arrays["labels"])[windows].mean(axis=1)
        value = result[("accuracy", "value")].to_numpy(dtype=float)
        alarms = result[("accuracy", "alert")].fillna(False).astype(bool).tolist()
        scenario = name.split("|")[1]
        if scenario == "none":
            results.count("NannyML CBPE", scenario, CBPE_N, alarms)
        results.estimates.append(
            {"method": "NannyML CBPE", "scenario": scenario, "value": value.tolist(), "truth": truth.tolist()}
        )


main()
