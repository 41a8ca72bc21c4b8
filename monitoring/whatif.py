"""What other budgets and tolerances would have made of the same answers: nothing is scored or trained again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

from monitoring.core.bundle import Bundle
from monitoring.core.settings import MonitorSettings, Settings
from monitoring.core.signals import Predictions
from monitoring.core.types import Verdict
from monitoring.history import Dated
from monitoring.replay import Score
from monitoring.watched import WindowResult, iso, watch

ALGEBRA_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
BUDGETS = (0.25, 1.0, 4.0)
TOLERANCES = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Outlook:
    """What the first model's traffic would have led to under other settings, without retraining.

    Of each window with rows: its verdict, and whether it `alarmed`. `chosen`: these are the settings in force.
    """

    false_alarms_per_year: float
    leeway: float
    tolerated_loss: float
    chosen: bool
    alarms: int
    first_alarm: str | None
    retrainings_asked: int
    verdicts: tuple[Verdict, ...]
    alarmed: tuple[bool, ...]


@dataclass(frozen=True)
class _Case:
    """All that a worker process is handed once."""

    dated: Dated
    static: Bundle
    answers: Sequence[Predictions]

    def judge(self, settings: Settings) -> tuple[WindowResult, ...]:
        """Show the answers that are already known to a monitor with other settings."""
        ready = iter(self.answers)
        return watch(
            self.dated, settings, self.static, lambda *_: next(ready), train=None, advance=lambda *_: None
        ).windows


_case: _Case | None = None


def what_if(dated: Dated, settings: Settings, static: Bundle, score: Score, *, workers: int = 1) -> tuple[Outlook, ...]:
    """The same answers judged by a grid of budgets and tolerances around those in force, on `workers` processes."""
    case = _Case(dated, static, [score(static, dated.history.texts[rows]) for _, _, rows in dated.spans])
    grid = [
        settings.model_copy(update={"monitor": _other(settings.monitor, budget, tolerance)})
        for budget in BUDGETS
        for tolerance in TOLERANCES
    ]
    if workers < 2:
        judged = [case.judge(other) for other in grid]
    else:
        # spawned, not forked: this process has threads, of the runtime and of the progress bar
        with (
            _one_thread_each(),
            ProcessPoolExecutor(workers, get_context("spawn"), initializer=_take, initargs=(case,)) as pool,
        ):
            judged = list(pool.map(_judge, grid))
    return tuple(
        _outlook(windows, other.monitor, chosen=other.monitor == settings.monitor)
        for windows, other in zip(judged, grid, strict=True)
    )


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started meanwhile do their algebra on one thread: side by side, more only get in each other's way."""
    before = {name: os.environ.get(name) for name in ALGEBRA_THREADS}
    os.environ.update(dict.fromkeys(ALGEBRA_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _take(case: _Case) -> None:
    global _case
    _case = case


def _judge(settings: Settings) -> tuple[WindowResult, ...]:
    assert _case is not None
    return _case.judge(settings)


def _other(monitor: MonitorSettings, budget: float, tolerance: float) -> MonitorSettings:
    return monitor.model_copy(
        update={
            "false_alarms_per_year": budget * monitor.false_alarms_per_year,
            "leeway": min(tolerance * monitor.leeway, 1.0),
            "tolerated_loss": min(tolerance * monitor.tolerated_loss, 0.99),
        }
    )


def _outlook(windows: Sequence[WindowResult], monitor: MonitorSettings, *, chosen: bool) -> Outlook:
    alarms = [window for window in windows if window.alarm]
    return Outlook(
        false_alarms_per_year=monitor.false_alarms_per_year,
        leeway=monitor.leeway,
        tolerated_loss=monitor.tolerated_loss,
        chosen=chosen,
        alarms=len(alarms),
        first_alarm=iso(alarms[0].end) if alarms else None,
        retrainings_asked=sum(window.asked for window in windows),
        verdicts=tuple(window.verdict for window in windows),
        alarmed=tuple(window.alarm for window in windows),
    )
