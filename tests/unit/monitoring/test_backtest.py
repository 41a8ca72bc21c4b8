import math
from datetime import UTC, datetime, timedelta

import pytest

from monitoring.backtest import fitted_settings
from monitoring.budget import alarm_budget
from monitoring.core.errors import InvalidInput
from monitoring.core.settings import Settings
from monitoring.history import HOLDOUT, TRAIN, VALIDATION, History, TrainingRows, training_rows, windows_of

START = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def past(rows: int, labels: tuple[str, ...] = ("a", "b")) -> History:
    """One row a day."""
    return History(
        [f"text number {row}" for row in range(rows)],
        [labels[row % len(labels)] for row in range(rows)],
        [START + row * DAY for row in range(rows)],
    )


def divided(history: History, *, known: int, recent_from: int = 0, least_new: int = 0) -> TrainingRows:
    return training_rows(
        history, known=known, recent_from=recent_from, holdout=0.2, classes=("a", "b"), least_new=least_new, seed=1
    )


def test_windows_follow_each_other_and_hold_every_row_once() -> None:
    history = past(100)
    spans = list(windows_of(history, START + 10 * DAY, 30 * DAY))
    assert [end - start for start, end, _ in spans] == [30 * DAY] * 3
    assert [row for _, _, rows in spans for row in range(rows.start, rows.stop)] == list(range(10, 100))


def test_training_knows_nothing_of_the_future() -> None:
    history = past(500)
    rows = divided(history, known=300)
    assert set(rows.texts) == set(history.texts[:300])
    shares = {part: rows.splits.count(part) / len(rows) for part in (TRAIN, VALIDATION, HOLDOUT)}
    assert math.isclose(shares[HOLDOUT], 0.2, abs_tol=0.06)
    assert math.isclose(shares[TRAIN], 0.68, abs_tol=0.08)


def test_what_was_held_out_is_never_learnt_and_the_next_holdout_is_recent() -> None:
    history = past(500)
    first = divided(history, known=300)
    held_out = {text for text, part in zip(first.texts, first.splits, strict=True) if part == HOLDOUT}
    second = divided(history, known=500, recent_from=300)
    assert held_out.isdisjoint(second.texts)
    recent = {text for text, part in zip(second.texts, second.splits, strict=True) if part == HOLDOUT}
    assert recent
    assert recent <= set(history.texts[300:])


def test_the_same_text_is_always_on_one_side() -> None:
    history = History(["Same  text", "same text"] * 50 + ["other"] * 2, ["a", "b"] * 51, [START] * 102)
    with pytest.raises(InvalidInput, match="needs two"):  # all of it is on one side, so nothing is left to learn
        divided(History(history.texts[:2], history.labels[:2], history.times[:2]), known=2)
    rows = divided(past(50), known=50)
    assert len(set(rows.texts)) == len(rows)


def test_a_new_class_needs_its_examples() -> None:
    history = past(60, ("a", "b", "new"))
    assert set(divided(history, known=60, least_new=21).labels) == {"a", "b"}
    assert set(divided(history, known=60, least_new=20).labels) == {"a", "b", "new"}


def test_the_yearly_budget_is_spent_at_the_files_own_traffic() -> None:
    fitted = fitted_settings(Settings(), rows=3650, windows=4, length=91.25 * DAY).monitor
    assert (fitted.predictions_per_day, fitted.window_size) == (10, 912)
    assert alarm_budget(fitted).sequential_threshold == pytest.approx(365 * 10 / 0.4)
