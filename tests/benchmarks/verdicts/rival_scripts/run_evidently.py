"""Evidently's data drift preset as it comes: a column's alarm, and the data set's (half of the columns)."""

from __future__ import annotations

import time
import warnings

import evidently
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
from exchange import Clock, Given, Results

REFERENCES = (20_000, 1_000)
DATA_SET_SHARE = 0.5


def main() -> None:
    """All windows that the time allows."""
    warnings.simplefilter("ignore")
    given, results, clock = Given(), Results(evidently.__version__), Clock()
    definition = DataDefinition(
        numerical_columns=[str(name) for name in given.arrays["numeric_names"]], categorical_columns=["predicted"]
    )

    def data(rows):
        return Dataset.from_pandas(pd.DataFrame(given.columns(rows)), data_definition=definition)

    def drifted(reference, rows) -> tuple[bool, bool]:
        metrics = Report([DataDriftPreset()]).run(data(rows), reference).dict()["metrics"]
        value = next(m["value"] for m in metrics if m["metric_name"].startswith("DriftedColumnsCount"))
        return value["count"] > 0, value["share"] >= DATA_SET_SHARE

    cells = [(scenario, n, rows, m) for scenario, n, rows in given.windows() for m in REFERENCES]
    for place, (scenario, n, windows, size) in enumerate(cells):
        until = clock.until_of([cell[0] for cell in cells[place:]])
        found = []
        for number, rows in enumerate(windows):
            if found and time.monotonic() > until:
                break
            found.append(drifted(data(given.reference(number)[:size]), rows))
        results.count(f"Evidently, reference {size // 1000}k: any column", scenario, n, [any_ for any_, _ in found])
        results.count(f"Evidently, reference {size // 1000}k: data set", scenario, n, [whole for _, whole in found])
    rows = given.million()
    results.cost("Evidently", len(rows), lambda: drifted(data(given.reference(0)), rows))
    results.send()


main()
