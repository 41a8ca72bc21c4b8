"""Which of several labels of one prediction counts: the last word of the most trusted source, for judges and training.

Everything that was said is kept. A label counts until its own source says something else, or a more trusted one speaks.
A sequential test is valid only while what it has seen stays as it was: to bet again on what is known by now would be to
peek. So such a test keeps the label that came first, of each client and day, and a correction changes all that is
computed anew: figures, windows and units of a rollout that have not been concluded, and what the next retraining
learns, of rows that an earlier one had learnt, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime

from monitoring.core.types import Feedback, LabelSource, Outcome

TRUST = (LabelSource.COMPLAINT, LabelSource.REVIEW, LabelSource.RANDOM_SAMPLE, LabelSource.GROUND_TRUTH)
"""From the least trusted on."""


def standing_label(said: Iterable[Feedback]) -> Feedback | None:
    """What counts of all that was said about one prediction (in order of arrival); None if nothing was."""
    return max(reversed(list(said)), key=lambda item: _weight(item.source, item.received_at), default=None)


def standing_outcomes(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcome that counts of each prediction and version, in order of labelling."""
    found: dict[tuple[str, str], Outcome] = {}
    for outcome in outcomes:
        key = (outcome.prediction_id, outcome.version)
        if key not in found or _weight_of(outcome) >= _weight_of(found[key]):
            found[key] = outcome
    return sorted(found.values(), key=_arrival)


def first_outcomes(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcome that came first of each prediction and version (of two at once, the more trusted), in that order."""
    found: dict[tuple[str, str], Outcome] = {}
    for outcome in sorted(outcomes, key=lambda one: (one.labelled_at, -TRUST.index(one.source))):
        found.setdefault((outcome.prediction_id, outcome.version), outcome)
    return sorted(found.values(), key=_arrival)


def placed_bets(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """What a sequential test bets on, in order: of each client and day of prediction the outcome that came first.

    The answers to a client share a cause of failure, so that it may bet once a day. A later label never changes that
    bet: what was bet on by a moment is the beginning of what is bet on later.
    """
    found: dict[tuple[str, date], Outcome] = {}
    for outcome in first_outcomes(outcomes):
        found.setdefault((outcome.unit, outcome.predicted_at.date()), outcome)
    return list(found.values())


def _weight(source: LabelSource, at: datetime) -> tuple[int, datetime]:
    return TRUST.index(source), at


def _weight_of(outcome: Outcome) -> tuple[int, datetime]:
    return _weight(outcome.source, outcome.labelled_at)


def _arrival(outcome: Outcome) -> tuple[datetime, str]:
    return outcome.labelled_at, outcome.prediction_id
