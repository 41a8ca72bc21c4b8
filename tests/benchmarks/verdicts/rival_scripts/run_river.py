"""River's detectors on the confidence, with their defaults; the reference is the beginning of their stream."""

from __future__ import annotations

import math
import time

import river
from exchange import Clock, Given, Results
from river import drift

DETECTORS = {"River ADWIN": drift.ADWIN, "River PageHinkley": drift.PageHinkley, "River KSWIN": drift.KSWIN}
SEEDED = REMEMBERS_LITTLE = ("River KSWIN",)
LITTLE = 500
"""Rows of the reference for a detector that only keeps its last 100."""


def main() -> None:
    """Null streams, then delays, as far as the time allows."""
    given, results, clock = Given(), Results(river.__version__), Clock()
    names = [str(name) for name in given.arrays["numeric_names"]]
    confidence = given.arrays["numeric"][:, names.index("confidence")]
    before = int(given.arrays["before_change"])
    cells = [(name, scenario, rows) for name in DETECTORS for scenario, rows in given.streams()]
    for place, (name, scenario, streams) in enumerate(cells):
        until = clock.until_of([cell[1] for cell in cells[place:]])
        alarms, seen, delays, early = 0, 0, [], 0
        for number, rows in enumerate(streams):
            if number and time.monotonic() > until:
                break
            detector = DETECTORS[name](seed=number) if name in SEEDED else DETECTORS[name]()
            reference = given.reference(number)[-LITTLE if name in REMEMBERS_LITTLE else 0 :]
            for value in confidence[reference].tolist():
                detector.update(value)
            found = watch(detector, confidence[rows].tolist(), None if scenario == "none" else before)
            if scenario == "none":
                alarms, seen = alarms + len(found), seen + len(rows)
            else:
                early += sum(at <= before for at in found)
                delays.append(next((at - before for at in found if at > before), math.inf))
        if scenario == "none":
            results.nulls.append({"detector": name, "predictions": seen, "alarms": alarms})
        else:
            known = [delay if math.isfinite(delay) else None for delay in delays]
            results.delays.append({"detector": name, "scenario": scenario, "delays": known, "early": early})
    results.send()


def watch(detector, values: list[float], stop_after: int | None) -> list[int]:
    """How many values had been seen at each alarm; up to the first alarm past `stop_after`."""
    found = []
    for place, value in enumerate(values, start=1):
        detector.update(value)
        if detector.drift_detected:
            found.append(place)
            if stop_after is not None and place > stop_after:
                break
    return found


main()
