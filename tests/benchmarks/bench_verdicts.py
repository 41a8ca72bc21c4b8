"""What judging costs: the detector for each prediction, the tests for each window, the prediction log for each row.

python -m tests.benchmarks.bench_verdicts
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from monitoring.baseline import Baseline, detector_scores
from monitoring.budget import alarm_budget
from monitoring.core import bundle as bundles
from monitoring.core.bundle import Bundle
from monitoring.core.ids import new_id
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.prediction_record import PredictionRecord
from monitoring.core.runtime import ClassifierRuntime
from monitoring.core.settings import MonitorSettings
from monitoring.core.signals import Predictions
from monitoring.core.spool import SpoolWriter
from monitoring.core.types import Variant, utc_now
from monitoring.detect import judge_window
from monitoring.signals import traffic_of
from monitoring.stats.sequential import EDetector
from tests.bundles import LABELS, make_bundle, toy_texts

BASELINE_ROWS = 2_000
PREDICTIONS = 20_000
TICK = 500
WINDOWS = 10
ROWS_PER_FRAME = 8
LOGGED = 20_000


def main() -> None:
    """Measure and print."""
    rng = np.random.default_rng(0)
    settings = MonitorSettings()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = make_bundle(folder / "bundle", rows=BASELINE_ROWS)
        baseline = Baseline.load(bundle.path(bundles.BASELINE))
        texts = toy_texts(LABELS, PREDICTIONS, rng)[0]
        predictions = ClassifierRuntime(bundle).predict(texts)
        detector = detector_microseconds(baseline, predictions, settings, rng)
        window = window_milliseconds(baseline, predictions, texts, settings)
        spooled, shipped, read = log_rows_per_second(folder, bundle, predictions, texts)
    print(f"detector, in ticks of {TICK}          {detector:>10.1f} µs a prediction")
    print(f"tests of a window of {settings.window_size}         {window:>10.1f} ms")
    print(f"spooled, {ROWS_PER_FRAME} rows a write          {spooled:>10,.0f} rows/s")
    print(f"shipped to the Delta table        {shipped:>10,.0f} rows/s")
    print(f"read back                         {read:>10,.0f} rows/s")
    result = {
        "benchmark": "verdicts",
        "detector_us_per_prediction": detector,
        "window_ms": window,
        "window_size": settings.window_size,
        "spooled_rows_per_second": spooled,
        "shipped_rows_per_second": shipped,
        "read_rows_per_second": read,
    }
    print(json.dumps(result))


def detector_microseconds(
    baseline: Baseline, predictions: Predictions, settings: MonitorSettings, rng: np.random.Generator
) -> float:
    """Of one prediction, its scores included, in the ticks in which the monitor takes them."""
    threshold = alarm_budget(settings).sequential_threshold
    detector = EDetector.start(baseline.edges, baseline.scores(), threshold)
    predicted = np.asarray(LABELS, dtype=np.str_)[predictions.predicted]
    signals = {name: predictions.signal(name) for name in baseline.signals if name != "vocabulary"}

    def watch() -> None:
        for start in range(0, PREDICTIONS, TICK):
            tick = slice(start, start + TICK)
            scores = detector_scores(
                baseline, predicted[tick], {name: values[tick] for name, values in signals.items()}
            )
            detector.update(scores, rng)

    return 1e6 * seconds(watch) / PREDICTIONS


def window_milliseconds(
    baseline: Baseline, predictions: Predictions, texts: list[str], settings: MonitorSettings
) -> float:
    """Of one window's verdict with all its findings and its accuracy estimate."""
    now, size, alpha = utc_now(), settings.window_size, alarm_budget(settings).window_alpha
    windows = [
        traffic_of(
            Predictions(**{name: values[start : start + size] for name, values in vars(predictions).items()}),
            LABELS,
            ids=[str(row) for row in range(start, start + size)],
            texts=texts[start : start + size],
            start=now,
            end=now,
        )
        for start in range(0, WINDOWS * size, size)
    ]

    def judge() -> None:
        for window in windows:
            judge_window(baseline, window, model="support", version="1", settings=settings, alpha=alpha)

    return 1e3 * seconds(judge) / WINDOWS


def log_rows_per_second(
    folder: Path, bundle: Bundle, predictions: Predictions, texts: list[str]
) -> tuple[float, float, float]:
    """Appended to the spool in small writes, shipped in one go, and read back."""
    log = PredictionLog(str(folder / "predictions"))
    writer = SpoolWriter(folder / "spool", writer="bench", segment_bytes=4_194_304, max_bytes=1_073_741_824)
    rows = [_row(bundle, predictions, texts[row], row) for row in range(LOGGED)]

    def append() -> None:
        for start in range(0, LOGGED, ROWS_PER_FRAME):
            writer.append([record.row() for record in rows[start : start + ROWS_PER_FRAME]])

    spooling = seconds(append)
    shipping = seconds(lambda: log.ship(folder / "spool"))
    reading = seconds(lambda: log.read(model="support"))
    writer.close()
    return LOGGED / spooling, LOGGED / shipping, LOGGED / reading


def _row(bundle: Bundle, predictions: Predictions, text: str, row: int) -> PredictionRecord:
    return PredictionRecord(
        prediction_id=new_id(),
        model="support",
        version="1",
        variant=Variant.PRODUCTION,
        rollout=None,
        step=-1,
        share=0.0,
        unit=str(row),
        at_us=int(utc_now().timestamp() * 1e6),
        text=text,
        predicted=bundle.config.labels[predictions.predicted[row]],
        confidence=float(predictions.confidence[row]),
        entropy=float(predictions.entropy[row]),
        margin=float(predictions.margin[row]),
        similarity=float(predictions.similarity[row]),
        rarity=float(predictions.rarity[row]),
        length=float(predictions.length[row]),
        projected=predictions.projected[row].astype(np.float64).round(4).tolist(),
        top_k="{}",
        latency_ms=5.0,
        error=None,
        metadata="{}",
    )


def seconds(do: Callable[[], object]) -> float:
    """How long it takes, once."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
