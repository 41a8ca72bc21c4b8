"""The baseline of a recalibrated champion whose own baseline had been changed: the same span, answered anew.

What somebody vouched for holds for the successor too, since only its confidences are others: so the texts of that span
are given to the draft, whose answers take the place of the hold-out's rows. Where too little of the span is left, the
successor begins with its hold-out, as it would have without the change, and says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from monitoring.baseline import Baseline
from monitoring.core import bundle as bundles
from monitoring.core.bundle import Bundle
from monitoring.core.errors import InvalidInput
from monitoring.core.ledger import baselines
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.runtime import ClassifierRuntime
from monitoring.core.signals import SIGNALS
from monitoring.core.types import ModelVersion
from monitoring.in_force import load_baseline
from monitoring.intake import Reign, read_span
from monitoring.rebaseline import MOST_A_DAY, Answers, days, of_span, read_days, week_of
from monitoring.signals import Traffic, picked
from training.plan import Workshop

LEAST_LEFT = 0.9
"""Of the span's rows, of the texts of those, and of the answers that are still the logged ones."""
MOST_ANSWERED = 50_000
"""Texts of the span that are answered anew for the week's cycle, evenly over its days."""


@dataclass(frozen=True)
class Span:
    """What a baseline was made of: answers of `version` from `since` to before `until`.

    `rows`: how many there were, of each day 50,000 at most.
    """

    version: str
    since: datetime
    until: datetime
    rows: int

    def told(self) -> dict[str, Any]:
        """As a lineage keeps it."""
        return {
            "version": self.version,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "rows": self.rows,
        }


def span_in_force(champion: ModelVersion, workshop: Workshop) -> Span | None:
    """What the champion's baseline was changed to, or inherited; None where it is the one of its hold-out."""
    with workshop.ledger.read() as connection:
        change = baselines.newest(connection, champion.id)
    if change is not None:
        week = load_baseline(workshop.registry, champion, change).week
        rows = change.n if week is None else int(week.counts[:, 0].sum())
        return Span(champion.id, change.since, change.until, rows)
    kept = (champion.lineage.get("recalibration") or {}).get("baseline") or {}
    if "since" not in kept:
        return None
    since, until = (datetime.fromisoformat(kept[name]) for name in ("since", "until"))
    return Span(kept["version"], since, until, int(kept["rows"]))


def inherit_baseline(draft: Bundle, span: Span, workshop: Workshop, *, seed: int) -> dict[str, Any]:
    """Give the draft, which has its hold-out's baseline, the rows of the span; returns what its lineage is to keep.

    That is the span, or the `reason` why the hold-out's baseline stays.
    """
    path, runtime = draft.path(bundles.BASELINE), ClassifierRuntime(draft)
    log = PredictionLog(workshop.settings.log_url)
    newest = log.last_commit()
    found = _texts_of(log, span, newest)
    if isinstance(found, str):
        return {"reason": found}
    predicted, signals = _answer(runtime, [text for text in found.texts if text is not None])
    if (same := float(np.mean(predicted == found.predicted))) < LEAST_LEFT:
        return {"reason": f"only {same:.0%} of its texts are answered as they were: the log keeps others"}
    held_out = Baseline.load(path)
    try:
        made = of_span(held_out, replace(found, predicted=predicted, signals=signals), seed)
    except InvalidInput as error:
        return {"reason": error.message}
    number_of_days = len(list(days(span.since, span.until)))
    week = week_of(
        held_out,
        log,
        span.version,
        span.since,
        span.until,
        newest,
        answer=lambda texts: _answer(runtime, texts),
        at_most=min(MOST_A_DAY, -(-MOST_ANSWERED // number_of_days)),
    )
    replace(made, week=week).save(path)
    return span.told()


def _texts_of(log: PredictionLog, span: Span, newest: int) -> Traffic | str:
    """Rows of the span that have their text; or why they are too few."""
    left = sum(map(len, read_days(log, span.version, span.since, span.until, newest, columns=("at",))))
    traffic = read_span(
        log, Reign(span.version, span.since), span.since, span.until, until_commit=newest, texts_kept=True
    )
    if traffic is None or left < LEAST_LEFT * span.rows:
        return f"the log has {left:,} of its {span.rows:,} answers left"
    told = np.flatnonzero([text is not None for text in traffic.texts])
    if len(told) < LEAST_LEFT * len(traffic):
        return f"the log has the texts of only {len(told) / len(traffic):.0%} of its answers"
    return picked(traffic, told)


def _answer(runtime: ClassifierRuntime, texts: Sequence[str]) -> Answers:
    answers = runtime.predict(texts)
    names = np.asarray(runtime.config.labels, dtype=np.str_)[answers.predicted]
    return names, {name: answers.signal(name) for name in SIGNALS}
