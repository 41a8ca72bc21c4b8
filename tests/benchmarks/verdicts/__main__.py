"""Verdicts measured: false alarms, power, delay, accuracy without labels, calibration and cost, beside the rivals.

python -m tests.benchmarks.verdicts [--data FOLDER] [--runs N] [--rivals NAMES]

Tables on standard output, progress on standard error; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from monitoring.core.errors import LeewayError
from tests.benchmarks.given import BUILD, folder_of, names_among, parser_of
from tests.benchmarks.material import read_material
from tests.benchmarks.verdicts import accuracy, bursts, calibration, costs, extremes, streams, tables, weeks, windows
from tests.benchmarks.verdicts.draws import NONE, Extent
from tests.benchmarks.verdicts.rivals import RIVALS, play
from tests.benchmarks.verdicts.scored import load, score

Task = TypeVar("Task")
Result = TypeVar("Result")


class Stages:
    """Tasks dealt out to processes; says how long each stage took."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def map(self, name: str, do: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """Results in the order of the tasks."""
        began = time.monotonic()
        results = list(self._pool.map(do, tasks))
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        return results


def main() -> None:
    """Measure and print."""
    given = arguments()
    folder = folder_of(given.data)
    try:
        material = read_material(given.data)
        scored = score(material, folder)
    except (LeewayError, OSError, RuntimeError) as error:
        sys.exit(f"bench-verdicts: {error}")
    extent = Extent(given.runs)
    cores = len(os.sched_getaffinity(0))
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # in what is started from here on: as many processes as cores
    began = time.monotonic()
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as alone:
        cost = Stages(alone).map("cost", costs.measure, [(scored, extent)])[0]
    with ProcessPoolExecutor(max_workers=cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        stages = Stages(pool)
        judged = stages.map("windows", windows.judge, windows.tasks(scored, extent))
        extreme = stages.map("classes and sizes", extremes.judge, extremes.tasks(scored, extent))
        burst = stages.map("bursts", bursts.judge, bursts.tasks(scored, extent))
        nulls = stages.map("null streams", streams.count_false_alarms, streams.null_tasks(scored, extent))
        delays = stages.map("delays", streams.measure_delays, streams.delay_tasks(scored, extent))
        cycles = stages.map("weeks", weeks.watch, weeks.tasks(scored, extent))
        estimates = stages.map("accuracy", accuracy.measure, accuracy.tasks(scored, extent))
        readings = stages.map("calibration", calibration.read, calibration.tasks(scored, extent))
    print(f"rivals: {', '.join(given.rivals) or 'none'} ...", file=sys.stderr, flush=True)
    measured = tables.Measured(
        windows=windows.add_up(_flat(judged)),
        extremes=extremes.add_up(extreme),
        bursts=bursts.add_up(_flat(burst)),
        nulls=streams.add_up_nulls(nulls),
        delays=streams.add_up_delays(_flat(delays)),
        weeks=weeks.add_up(cycles),
        estimates=accuracy.add_up(_flat(estimates)),
        readings=_flat(readings),
        costs=cost,
        rivals=play(given.rivals, load(scored), extent, BUILD, at_once=cores),
    )
    answers = load(scored)
    report = (
        f"{material.name}: {len(answers.classes)} classes, accuracy {answers.correct[answers.places[NONE]].mean():.3f} "
        f"on a pool of {len(material.pool):,} texts; RUNS={given.runs}, {(time.monotonic() - began) / 60:.0f} minutes"
        f"\n\n{tables.report(measured)}"
    )
    (folder / "measured.json").write_text(json.dumps(tables.archive(measured)))
    (folder / "tables.md").write_text(report)
    print(report)
    print(json.dumps(tables.summary(measured)))


def arguments() -> argparse.Namespace:
    """What `make bench-verdicts` passes on."""
    parser = parser_of("bench-verdicts", "Measure the verdicts, beside the rivals'.")
    parser.add_argument("--runs", type=int, default=1000, help="null windows per size; all else follows (default 1000)")
    parser.add_argument(
        "--rivals", type=names_among(RIVALS), default=RIVALS, help="comma-separated, or none (default all)"
    )
    return parser.parse_args()


def _flat(lists: Iterable[Sequence[Result]]) -> list[Result]:
    return [item for items in lists for item in items]


if __name__ == "__main__":
    main()
