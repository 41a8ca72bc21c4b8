"""A past in which a new topic comes up, replayed with toy models; training is a toy as well."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyarrow import parquet

from monitoring.backtest import BacktestResult, backtest, estimate_figures
from monitoring.backtest_page import render_backtest
from monitoring.baseline import Baseline
from monitoring.cached_scores import CachedScores
from monitoring.cli import commands
from monitoring.cli_backtest import SubprocessTrainer
from monitoring.core.bundle import BASELINE, Bundle, seal
from monitoring.core.cli import program
from monitoring.core.errors import InvalidInput
from monitoring.core.settings import RetrainSettings, Settings
from monitoring.core.types import Verdict
from monitoring.history import Asked, History, Plan, TrainingRows, read_history
from monitoring.watched import Trainer, WindowResult
from tests.bundles import LABELS, make_bundle, toy_texts

START = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TRAINED, CALM, DRIFTED = 200, 400, 600
PER_DAY = 10
WINDOW = 50 * DAY


@pytest.fixture(scope="module")
def history() -> History:
    """Ten texts a day; from day 400 on, half of them are about a topic that nobody knew."""
    rng = np.random.default_rng(3)
    texts, labels = toy_texts(LABELS, CALM * PER_DAY, rng)
    later, later_labels = toy_texts((*LABELS, "returns", "returns", "returns"), (DRIFTED - CALM) * PER_DAY, rng)
    times = [START + row / PER_DAY * DAY for row in range(DRIFTED * PER_DAY)]
    return History([*texts, *later], [*labels, *later_labels], times)


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Trainer, list[TrainingRows]]:
    """A trainer that knows the classes it is given, and what it was given."""
    given: list[TrainingRows] = []

    def train(rows: TrainingRows) -> Bundle:
        given.append(rows)
        labels = sorted(set(rows.labels))
        return make_bundle(
            tmp_path / f"bundle-{len(given)}", model="backtest", labels=labels, rows=800, seed=len(given)
        )

    return train, given


def replay(history: History, trainer: Trainer, folder: Path, *, retrain: bool, **more: Any) -> BacktestResult:
    plan = Plan(
        START + TRAINED * DAY, WINDOW, label_delay=10 * DAY, retrain=retrain, seed=1, **({"what_if": False} | more)
    )
    settings = Settings(home=folder, retrain=RetrainSettings(min_new_labels=50))
    return backtest(
        history, plan, settings, train=trainer, score=CachedScores(folder / "scores").score, advance=lambda *_: None
    )


def test_it_is_quiet_before_the_drift_and_alarms_in_its_first_window(
    history: History, trained: tuple[Trainer, list[TrainingRows]], home: Path
) -> None:
    result = replay(history, trained[0], home, retrain=False)
    calm = [window for window in result.windows if window.end <= START + CALM * DAY]
    drifted = [window for window in result.windows if window.start >= START + CALM * DAY]
    assert len(calm) == 4
    assert not any(window.alarm for window in calm)
    assert drifted[0].alarm
    assert all(window.verdict is Verdict.DRIFT for window in drifted)
    for window in calm:
        assert window.estimate_low is not None
        assert window.estimate_high is not None
        assert window.true_accuracy is not None
        assert window.estimate_low <= window.true_accuracy <= window.estimate_high
    assert drifted[-1].true_accuracy == drifted[-1].static_accuracy < 0.7
    assert result.summary["first_alarm"] == drifted[0].end.isoformat()
    assert result.summary["retrainings"] == []


def test_retraining_learns_the_new_topic_and_only_what_was_labelled(
    history: History, trained: tuple[Trainer, list[TrainingRows]], home: Path
) -> None:
    trainer, given = trained
    result = replay(history, trainer, home, retrain=True)
    assert len(result.summary["retrainings"]) == 1
    at = datetime.fromisoformat(result.summary["retrainings"][0]["at"])
    assert "returns" not in given[0].labels
    assert "returns" in given[1].labels
    known = set(history.texts[: history.before(at - 10 * DAY)])
    assert known.issuperset(given[1].texts)
    after = [window for window in result.windows if window.start >= at]
    assert all(window.version == "backtest@2" for window in after)
    for window in after:
        assert window.true_accuracy > window.static_accuracy + 0.2
    assert result.summary["retrained_accuracy"] > result.summary["static_accuracy"]
    page = render_backtest(result, name="tickets.csv", leeway=0.1, made_at=START)
    assert "never retrained" in page
    assert page.count(">↻<") == 1
    assert len(page.encode()) < 300_000


def test_a_recalibration_that_is_decided_on_is_told_and_stands_in_no_retrainings_way(
    tmp_path: Path, home: Path
) -> None:
    """Billing was mistaken for delivery, until people called it so; confidences were too modest then. Later: drift."""
    rng = np.random.default_rng(3)
    texts, labels = toy_texts(LABELS, DRIFTED * PER_DAY, rng)
    right_from = CALM * PER_DAY
    labels[right_from:] = ["delivery" if label == "billing" else label for label in labels[right_from:]]
    later, later_labels = toy_texts((*LABELS[1:], "returns", "returns"), 100 * PER_DAY, rng)
    times = [START + row / PER_DAY * DAY for row in range((DRIFTED + 100) * PER_DAY)]
    models: list[Bundle] = []

    def train(rows: TrainingRows) -> Bundle:
        known, mistakes = sorted(set(rows.labels)), {} if models else {"billing": "delivery"}
        folder = tmp_path / f"bundle-{len(models)}"
        models.append(make_bundle(folder, model="backtest", labels=known, mistakes=mistakes, rows=800))
        return models[-1]

    result = replay(History([*texts, *later], [*labels, *later_labels], times), train, home, retrain=True)
    told = [window for window in result.windows if window.decision.startswith("calibration is lost, and no loss")]
    assert told
    assert told[0].start == START + CALM * DAY
    assert {window.version for window in told} == {"backtest@1"}
    assert [retraining["cause"] for retraining in result.summary["retrainings"]] == ["drift"]
    assert result.windows[-1].version == "backtest@2"


def test_what_comes_and_goes_with_the_week_is_usual_once_two_weeks_have_shown_it(
    trained: tuple[Trainer, list[TrainingRows]], home: Path
) -> None:
    """Saturdays and Sundays have their own topics, which make up for each other; a new one comes with the last two."""
    rng = np.random.default_rng(3)
    first, weeks, per_day = START + 5 * DAY, 5, 150  # a Monday
    of_day = {5: (LABELS[0], LABELS[0], LABELS[1]), 6: (LABELS[2], LABELS[2], LABELS[1])}
    texts, labels, times = [], [], []
    for day in (START + number * DAY for number in range(5 + 7 * weeks)):
        topics = of_day.get(day.weekday(), LABELS) if day >= first else LABELS
        topics = ("returns", *topics) if day >= first + (7 * weeks - 2) * DAY else topics
        said, meant = toy_texts(topics, per_day, rng)
        texts, labels = [*texts, *said], [*labels, *meant]
        times += [day + row / per_day * DAY for row in range(per_day)]
    plan = Plan(first, DAY, label_delay=100 * DAY, retrain=False, seed=1, what_if=False)
    result = backtest(
        History(texts, labels, times),
        plan,
        Settings(home=home),
        train=trained[0],
        score=CachedScores(home / "scores").score,
        advance=lambda *_: None,
    )
    weekends = [window for window in result.windows if window.start.weekday() >= 5]
    assert [window.verdict for window in weekends] == [Verdict.DRIFT] * 4 + [Verdict.STABLE] * 4 + [Verdict.DRIFT] * 2
    assert all("as usual at these hours of the week" in window.reason for window in weekends[4:8])
    assert "embedding" in weekends[-1].reason


def test_few_labels_are_a_blind_sample_and_none_are_none(
    history: History, trained: tuple[Trainer, list[TrainingRows]], home: Path
) -> None:
    few = replay(history, trained[0], home, retrain=False, labels_per_window=60)
    assert few.summary["labels_per_window"] == 60
    assert few.summary["estimate_error"] < 0.05
    assert any(window.alarm for window in few.windows)
    none = replay(history, trained[0], home, retrain=True, labels_per_window=0)
    assert none.summary["retrainings_asked"] == 0  # nothing to learn from
    assert not any("by labels," in window.reason for window in none.windows)
    asked = Asked.draw(1000, 60, np.random.default_rng(1))
    assert (asked.rows.sum(), asked.probability) == (60, 0.06)


def test_what_if_judges_the_same_answers_by_other_settings(
    history: History, trained: tuple[Trainer, list[TrainingRows]], home: Path
) -> None:
    result = replay(history, trained[0], home, retrain=False, what_if=True)
    assert len(trained[1]) == 1
    [chosen] = [outlook for outlook in result.what_if if outlook.chosen]
    assert len(result.what_if) == 9
    assert (chosen.alarms, chosen.first_alarm) == (result.summary["alarms"], result.summary["first_alarm"])
    assert chosen.retrainings_asked == result.summary["retrainings_asked"]
    drifted = {outlook.tolerated_loss: outlook.verdicts.count(Verdict.DRIFT) for outlook in result.what_if}
    assert drifted[0.015] >= drifted[0.06]
    page = render_backtest(result, name="<b>tickets</b>.csv", leeway=0.1, made_at=START)
    assert "what if?" in page
    drawn = page[page.index("verdicts and alarms over time") :]
    assert drawn.count("alarm at the end of the window") == chosen.alarms + sum(o.alarms for o in result.what_if)
    for outlook in result.what_if:
        assert f">{outlook.false_alarms_per_year:g}/yr, {outlook.leeway:g}<" in drawn
    assert "<b>tickets" not in page
    json.dumps(result.as_json(), allow_nan=False)


def test_the_estimate_is_measured_beside_what_chance_alone_would_do() -> None:
    def window(n: int, estimate: float, truth: float, low: float, high: float) -> WindowResult:
        span = (START, START + DAY)
        return WindowResult(
            *span, n, Verdict.STABLE, estimate, low, high, truth, 0.0, False, "a@1", trustworthy=n > 100
        )

    figures = estimate_figures([window(400, 0.82, 0.80, 0.75, 0.9), window(100, 0.5, 0.5, 0.6, 0.7)])
    assert figures["estimate_error"] == pytest.approx(0.01)
    assert figures["estimate_bias"] == pytest.approx(0.01)
    assert figures["estimate_coverage"] == 0.5
    assert figures["cannot_tell"] == 0.5
    drawn = [abs(np.random.default_rng(5).binomial(n, p, 20_000) / n - p).mean() for n, p in ((400, 0.8), (100, 0.5))]
    assert figures["estimate_floor"] == pytest.approx(np.mean(drawn), rel=0.05)


def test_a_text_is_scored_once_however_windows_are_cut(
    history: History, trained: tuple[Trainer, list[TrainingRows]], tmp_path: Path
) -> None:
    bundle = trained[0](TrainingRows(history.texts[:9], history.labels[:9], ["train"] * 9))
    texts = list(dict.fromkeys(history.texts))[:60]
    first = CachedScores(tmp_path / "kept")
    whole = first.score(bundle, texts)
    assert first.scored == 60
    again = CachedScores(tmp_path / "kept")
    parts = [again.score(bundle, texts[40:]), again.score(bundle, [*texts[:40], texts[3]])]
    assert again.scored == 0
    np.testing.assert_array_equal(parts[0].probabilities, whole.probabilities[40:])
    np.testing.assert_array_equal(parts[1].projected[40], whole.projected[3])
    [part] = (tmp_path / "kept").rglob("*.npz")
    part.write_bytes(part.read_bytes()[:999])
    damaged = CachedScores(tmp_path / "kept")
    np.testing.assert_array_equal(damaged.score(bundle, texts).probabilities, whole.probabilities)
    assert damaged.scored == 60


@pytest.mark.parametrize(("until", "message"), [(-9 * DAY, "before"), (700 * DAY, "after")])
def test_a_date_that_leaves_nothing_to_learn_or_to_watch_is_refused(
    history: History, home: Path, until: timedelta, message: str
) -> None:
    plan = Plan(START + until, WINDOW, label_delay=DAY, retrain=False, seed=1)
    with pytest.raises(InvalidInput, match=message):
        backtest(
            history, plan, Settings(home=home), train=_never, score=CachedScores(home).score, advance=lambda *_: None
        )


def test_a_file_is_read_in_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "past.parquet"
    days = [START + number * DAY for number in (2, 0, 1)]
    parquet.write_table(pa.table({"said": ["c", "a", "b"], "topic": ["z", "x", "y"], "at": days}), path)
    history = read_history(path, text="said", label="topic", time="at")
    assert (history.texts, history.labels, history.times) == (["a", "b", "c"], ["x", "y", "z"], sorted(days))


def test_the_command_names_a_wrong_column_and_a_wrong_duration(tmp_path: Path, home: Path) -> None:
    for command in commands:
        program.add_command(command)
    path = tmp_path / "past.jsonl"
    path.write_text(json.dumps({"text": "a", "label": "b", "at": "2020-01-01"}) + "\n")
    arguments = ["backtest", str(path), "--train-until", "2020-06-30", "--out", str(tmp_path / "out")]
    wrong_column = CliRunner().invoke(program, arguments)
    assert wrong_column.exit_code == 1
    assert "has no column 'timestamp'; it has: text, label, at" in wrong_column.stderr
    wrong_duration = CliRunner().invoke(program, [*arguments, "--window", "3 months"])
    assert wrong_duration.exit_code == 2
    assert "such as 12h, 90d or 2w" in wrong_duration.stderr


_never: Callable[[TrainingRows], Bundle] = pytest.fail


class ToyTrainer(SubprocessTrainer):
    """Trains toys, as `leeway train` leaves its models behind; says when."""

    def _run(self, data: Path) -> dict[str, Any]:
        bundle = make_bundle(data.with_suffix(".made"), model="backtest")
        place = self._home / "storage" / "bundles" / data.stem / bundle.hash[:20]
        place.parent.mkdir(parents=True, exist_ok=True)
        bundle.folder.rename(place)
        return {"bundle_hash": bundle.hash}


def test_a_model_is_trained_once_and_again_where_this_leeway_cannot_read_it(tmp_path: Path) -> None:
    said: list[str] = []
    trainer = ToyTrainer(tmp_path, "base", "head", 0, said.append)
    rows = TrainingRows(["one", "two"], ["a", "b"], ["train", "validation"])
    first = trainer.train(rows)
    assert trainer.train(rows).folder == first.folder
    assert said == ["training on 2 rows"]
    (first.folder / BASELINE).write_bytes(b"of another version")
    other = seal(first.folder)
    first.folder.rename(first.folder.with_name(other.hash[:20]))
    [receipt] = tmp_path.glob("training-*.json")
    receipt.write_text(json.dumps({"bundle_hash": other.hash}))
    assert Baseline.load(trainer.train(rows).path(BASELINE)).n > 0
    assert len(said) == 2
