"""What was measured, as tables and as the last line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.load import Borne, tell_counts
from tests.benchmarks.serving.limit import Trust
from tests.benchmarks.serving.loads import COMPARED_AT, CONCURRENCIES, Overhead, Row
from tests.benchmarks.serving.peers import FRAMEWORKS, HAND_MADE
from tests.benchmarks.serving.pressure import CALLERS, OVERLOAD, Overloaded, Swapped

NOT_MEASURED = float("nan")


@dataclass(frozen=True)
class Measured:
    """All of one run. `peers` by peer: on the model that Leeway serves; `in_fp32`: the best of each again, on fp32."""

    cores: int
    precision: str
    by_batch: Mapping[int, float]
    alone_ms: float
    trust: Trust
    ours: Row
    limit_ratios: Mapping[int, float]
    overhead: Overhead
    swapped: Swapped
    overloaded: Overloaded
    peers: Mapping[str, Sequence[Row]]
    in_fp32: Mapping[str, Row]


def report(measured: Measured) -> str:
    """The tables."""
    limits = ", ".join(f"{rate:.0f} in batches of {size}" for size, rate in measured.by_batch.items())
    lines = [
        f"{measured.cores} cores, {measured.precision}",
        f"in process: {limits} texts/s; one alone {measured.alone_ms:.2f} ms",
        f"a label's probability moves by {measured.trust.batch_invariance_mean:.5f} with batchmates on average, "
        f"{measured.trust.batch_invariance:.5f} at most; {measured.trust.label_agreement:.2%} of labels as in fp32",
        "",
        "| requests/s (p50 / p99 ms) | "
        + " | ".join(f"c={callers}" for callers in CONCURRENCIES)
        + " | open loop, same rate | CPU ms | MB | first answer s | Leeway is |",
        "|---|" + "---|" * (len(CONCURRENCIES) + 5),
        *(_line(row) for row in _rows(measured)),
        "",
        "of the in-process limit: "
        + ", ".join(f"{ratio:.2f} at {callers}" for callers, ratio in measured.limit_ratios.items()),
        f"watching costs {measured.overhead.cpu:+.1%} CPU a request, {measured.overhead.p99:+.1%} p99",
        _swaps(measured.swapped),
        _overload(measured.overloaded),
    ]
    return "\n".join(lines)


def summary(measured: Measured) -> dict[str, float | None]:
    """The last line; None where nothing was measured."""
    hand_made, frameworks = (_best(measured.peers, names) for names in (HAND_MADE, FRAMEWORKS))
    best = [row for row in (hand_made, frameworks) if row is not None]
    values = {
        "limit_ratio_64": measured.limit_ratios[64],
        "limit_ratio_256": measured.limit_ratios[256],
        "best_handmade_ratio_64": _ratio(hand_made),
        "best_framework_ratio_64": _ratio(frameworks),
        "auto_handmade_ratio_64": _ratio(_best({name: [row] for name, row in measured.in_fp32.items()}, HAND_MADE)),
        "auto_framework_ratio_64": _ratio(_best({name: [row] for name, row in measured.in_fp32.items()}, FRAMEWORKS)),
        "p99_ratio_64": max((row.ours_p99_ms / row.closed[64].latency_ms["p99"] for row in best), default=NOT_MEASURED),
        "single_p50_ratio": measured.ours.closed[1].latency_ms["p50"] / measured.alone_ms,
        "overhead_cpu": measured.overhead.cpu,
        "overhead_p99": measured.overhead.p99,
        "first_answer_s": measured.ours.first_answer_s,
        "rss_mb": measured.ours.memory_mb,
        "swaps_lost": float(measured.swapped.lost),
        "goodput": measured.overloaded.goodput,
        "batch_invariance": measured.trust.batch_invariance,
        "label_agreement": measured.trust.label_agreement,
    }
    return {name: None if math.isnan(value) else round(value, 5) for name, value in values.items()}


def best_of(rows: Sequence[Row]) -> Row | None:
    """The one with the most texts a second at COMPARED_AT callers."""
    there = [row for row in rows if not row.missing]
    return max(there, key=lambda row: row.closed[COMPARED_AT].texts_per_second, default=None)


def _swaps(swapped: Swapped) -> str:
    return (
        f"{swapped.swaps} swaps with {CALLERS} callers: {swapped.lost} of {swapped.answered + swapped.lost} requests "
        f"lost, p99 {swapped.p99_ms:.0f} ms against {swapped.steady_p99_ms:.0f} without"
    )


def _overload(overloaded: Overloaded) -> str:
    refused, failed = tell_counts(overloaded.refused), tell_counts(overloaded.failed)
    return (
        f"{OVERLOAD:g} times the peak: {overloaded.answered_per_second:.0f} answered a second, "
        f"{overloaded.goodput:.2f} of the peak, p99 {overloaded.p99_ms:.0f} ms; refused {refused}; failed {failed}; "
        f"{overloaded.memory_before_mb:.0f} MB before, {overloaded.memory_after_mb:.0f} MB after"
    )


def _best(peers: Mapping[str, Sequence[Row]], names: Sequence[str]) -> Row | None:
    return best_of([row for name in names for row in peers.get(name, ())])


def _ratio(row: Row | None) -> float:
    return NOT_MEASURED if row is None else row.ours_over_it


def _rows(measured: Measured) -> list[Row]:
    return [measured.ours, *(row for rows in measured.peers.values() for row in rows), *measured.in_fp32.values()]


def _line(row: Row) -> str:
    if row.missing:
        return f"| {row.name} | " + f"missing: {row.missing} |" + " |" * (len(CONCURRENCIES) + 4)
    ratio = "" if math.isnan(row.ours_over_it) else f"{row.ours_over_it:.2f}× as fast"
    cells = [*(_cell(row.closed[callers]) for callers in CONCURRENCIES), _cell(row.opened)]
    figures = [f"{row.cpu_ms:.2f}", f"{row.memory_mb:.0f}", f"{row.first_answer_s:.1f}", ratio]
    return f"| {row.name} | " + " | ".join([*cells, *figures]) + " |"


def _cell(borne: Borne | None) -> str:
    if borne is None or not borne.answered:
        return "none answered"
    lost = borne.requests - borne.answered
    told = f"{borne.texts_per_second:.0f} ({borne.latency_ms['p50']:.1f} / {borne.latency_ms['p99']:.0f})"
    return f"{told}, {lost} lost" if lost else told
