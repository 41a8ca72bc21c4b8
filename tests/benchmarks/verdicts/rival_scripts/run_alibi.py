"""alibi-detect: TabularDrift on the columns and KSDrift on the whole embedding, both at their default p of .05."""

from __future__ import annotations

import time
import warnings

import alibi_detect
import numpy as np
from alibi_detect.cd import KSDrift, TabularDrift
from exchange import Clock, Given, Results


def main() -> None:
    """All windows that the time allows."""
    warnings.simplefilter("ignore")
    given, results, clock = Given(), Results(alibi_detect.__version__), Clock()
    embeddings = given.arrays["embeddings"].astype(np.float32)
    _, number_of = np.unique(given.arrays["predicted"], return_inverse=True)
    table = np.column_stack([given.arrays["numeric"], number_of]).astype(np.float32)
    categories = {table.shape[1] - 1: None}

    def detectors(number: int) -> dict:
        rows = given.reference(number)
        return {
            "alibi-detect Tabular": (table, TabularDrift(table[rows], categories_per_feature=dict(categories))),
            "alibi-detect KS on the embedding": (embeddings, KSDrift(embeddings[rows])),
        }

    made = {}
    cells = [(scenario, n, rows, name) for scenario, n, rows in given.windows() for name in detectors(0)]
    for place, (scenario, n, windows, name) in enumerate(cells):
        until = clock.until_of([cell[0] for cell in cells[place:]])
        found = []
        for number, rows in enumerate(windows):
            if found and time.monotonic() > until:
                break
            reference = number % len(given.arrays["references"])
            if reference not in made:
                made[reference] = detectors(reference)
            values, detector = made[reference][name]
            found.append(bool(detector.predict(values[rows])["data"]["is_drift"]))
        results.count(name, scenario, n, found)
    rows = given.million()
    results.cost("alibi-detect Tabular", len(rows), lambda: made[0]["alibi-detect Tabular"][1].predict(table[rows]))
    results.send()


main()
