"""What watching and judging cost: processor time, bytes kept, and whether the memory stays flat."""

from __future__ import annotations

import io
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitoring.baseline import Baseline, detector_scores
from monitoring.core.ids import new_id
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.prediction_record import PredictionRecord
from monitoring.core.settings import MonitorSettings
from monitoring.core.signals import SIGNALS, Predictions
from monitoring.core.spool import SpoolWriter
from monitoring.core.types import Variant, utc_now
from monitoring.detect import judge_window
from monitoring.stats.profile import ProfileSpec, WindowProfile
from monitoring.stats.sequential import EDetector
from tests.benchmarks.verdicts.draws import NO_DRIFT, Extent
from tests.benchmarks.verdicts.scored import Scored, load
from tests.benchmarks.verdicts.streams import THRESHOLD

BATCH = 32
TICK = 500
WINDOW = 500
WINDOWS = 20
MERGES = 200
BASELINE_ROWS = 20_000
WATCHED_PER_RUN, MOST_WATCHED = 1_000, 1_000_000
LOGGED = 20_000
ROWS_PER_FRAME = 8
MEGABYTE = 2**20


@dataclass(frozen=True)
class Costs:
    """Of the detector and the window's state in batches of 32, embeddings included; and of what surrounds them."""

    watched: int
    state_cpu_s_per_million: float
    detector_cpu_s_per_million: float
    tick_cpu_s_per_million: float
    memory_growth_mb: float
    window_state_kb: float
    detector_state_kb: float
    merge_ms: float
    window_ms: float
    spooled_rows_per_second: float
    shipped_rows_per_second: float
    read_rows_per_second: float

    @property
    def cpu_s_per_million(self) -> float:
        """Of both together."""
        return self.state_cpu_s_per_million + self.detector_cpu_s_per_million


def measure(task: tuple[Path, Extent]) -> Costs:
    """One after the other, in this process; run it alone."""
    path, extent = task
    scored = load(path)
    baseline = scored.baseline(BASELINE_ROWS)
    watched = max(50_000, min(MOST_WATCHED, WATCHED_PER_RUN * extent.runs))
    answers = scored.take(scored.urns.window(watched, NO_DRIFT, 0))
    warm = Watch(scored, baseline)
    warm.see(answers, 5_000, BATCH)
    watch = Watch(scored, baseline)
    watch.see(answers, watched // 2, BATCH)
    before = _resident()
    watch.see(answers, watched // 2, BATCH)
    growth = _resident() - before
    in_ticks = Watch(scored, baseline)
    in_ticks.see(answers, watched // 4, TICK)
    windows = [scored.traffic(scored.urns.window(WINDOW, NO_DRIFT, number)) for number in range(WINDOWS)]
    settings = MonitorSettings()
    judging = cpu_seconds(
        lambda: [
            judge_window(baseline, window, model="bench", version="1", settings=settings, alpha=1 / 365)
            for window in windows
        ]
    )
    half = watch.profile
    merging = cpu_seconds(lambda: [half.merge(warm.profile) for _ in range(MERGES)])
    spooled, shipped, read = log_rows_per_second(scored)
    return Costs(
        watched=watched,
        state_cpu_s_per_million=1e6 * watch.state_s / watched,
        detector_cpu_s_per_million=1e6 * watch.detector_s / watched,
        tick_cpu_s_per_million=4e6 * (in_ticks.state_s + in_ticks.detector_s) / watched,
        memory_growth_mb=growth / MEGABYTE,
        window_state_kb=_kilobytes(watch.profile),
        detector_state_kb=_kilobytes(watch.detector),
        merge_ms=1e3 * merging / MERGES,
        window_ms=1e3 * judging / WINDOWS,
        spooled_rows_per_second=spooled,
        shipped_rows_per_second=shipped,
        read_rows_per_second=read,
    )


class Watch:
    """A detector and a window's state that are fed the same answers, and the CPU seconds that each has taken.

    Scores and features of the embedding are the state's.
    """

    def __init__(self, scored: Scored, baseline: Baseline) -> None:
        self.baseline = baseline
        self.classes = np.asarray(scored.classes, dtype=np.str_)
        self.detector = EDetector.start(baseline.edges, baseline.scores(), THRESHOLD)
        features = 2 * baseline.features.weights.shape[1]
        self.profile = WindowProfile.empty(ProfileSpec(baseline.edges, len(scored.classes), features))
        self.rng = np.random.default_rng(0)
        self.done = 0
        self.state_s = self.detector_s = 0.0

    def see(self, answers: Predictions, rows: int, batch: int) -> None:
        """Take the next `rows` answers in batches."""
        for start in range(self.done, self.done + rows, batch):
            part = slice(start, min(start + batch, self.done + rows))
            began = time.process_time()
            predicted = answers.predicted[part]
            signals = {name: np.asarray(getattr(answers, name)[part], dtype=np.float64) for name in SIGNALS}
            scores = detector_scores(self.baseline, self.classes[predicted], signals)
            self.profile = self.profile.add(scores, predicted, self.baseline.features.plain(answers.projected[part]))
            counted = time.process_time()
            self.detector.update(scores, self.rng)
            self.state_s += counted - began
            self.detector_s += time.process_time() - counted
        self.done += rows


def log_rows_per_second(scored: Scored) -> tuple[float, float, float]:
    """Appended to the spool in small writes, shipped in one go, and read back; by the clock."""
    numbers = scored.urns.window(LOGGED, NO_DRIFT, 1)
    answers, texts, names = scored.take(numbers), scored.texts[numbers].tolist(), scored.predicted[numbers].tolist()
    records = [_record(answers, row, texts[row], names[row]) for row in range(LOGGED)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = PredictionLog(str(folder / "predictions"))
        writer = SpoolWriter(folder / "spool", writer="bench", segment_bytes=4_194_304, max_bytes=1_073_741_824)

        def append() -> None:
            for start in range(0, LOGGED, ROWS_PER_FRAME):
                writer.append([record.row() for record in records[start : start + ROWS_PER_FRAME]])

        spooling = wall_seconds(append)
        shipping = wall_seconds(lambda: log.ship(folder / "spool"))
        reading = wall_seconds(lambda: log.read(model="bench"))
        writer.close()
    return LOGGED / spooling, LOGGED / shipping, LOGGED / reading


def _record(answers: Predictions, row: int, text: str, predicted: str) -> PredictionRecord:
    return PredictionRecord(
        prediction_id=new_id(),
        model="bench",
        version="1",
        variant=Variant.PRODUCTION,
        rollout=None,
        step=-1,
        share=0.0,
        unit=str(row),
        at_us=int(utc_now().timestamp() * 1e6),
        text=text,
        predicted=predicted,
        projected=answers.projected[row].astype(np.float64).round(4).tolist(),
        top_k="{}",
        latency_ms=5.0,
        error=None,
        metadata="{}",
        **{name: float(getattr(answers, name)[row]) for name in SIGNALS},
    )


def cpu_seconds(do: Callable[[], object]) -> float:
    """Of this process, once."""
    began = time.process_time()
    do()
    return time.process_time() - began


def wall_seconds(do: Callable[[], object]) -> float:
    """By the clock, once."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def _kilobytes(state: EDetector | WindowProfile) -> float:
    """As it is kept: npz, not compressed."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **state.to_arrays())
    return len(buffer.getvalue()) / 1024


def _resident() -> int:
    """Bytes of this process now; where the system does not say, at its largest so far."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
