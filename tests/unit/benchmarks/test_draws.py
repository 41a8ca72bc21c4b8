"""Every judge of the bench is given the same rows, and nothing drifts where nothing is said to."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from monitoring.core.signals import Predictions
from tests.benchmarks.material import deal, own_material
from tests.benchmarks.verdicts import draws, extremes, streams, tables, windows
from tests.benchmarks.verdicts.draws import FAR, NEAR, NO_DRIFT, NONE, Extent, Scenario, Urns
from tests.benchmarks.verdicts.scored import Scored

URNS = Urns({NONE: np.arange(0, 700), FAR: np.arange(700, 900), NEAR: np.arange(900, 1000)})


@pytest.mark.parametrize("module", [draws, extremes, streams, tables, windows], ids=lambda module: module.__name__)
def test_the_examples_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0


def test_a_window_is_the_same_whoever_draws_it() -> None:
    scenario = Scenario(FAR, 0.2)
    np.testing.assert_array_equal(URNS.window(500, scenario, 3), URNS.window(500, scenario, 3))
    assert (URNS.window(500, scenario, 3) != URNS.window(500, scenario, 4)).any()


def test_without_drift_baselines_windows_and_streams_come_from_the_pool_alone_and_differ() -> None:
    drawn = [
        URNS.baseline(2_000, 0),
        URNS.window(2_000, NO_DRIFT, 0),
        URNS.labelled(2_000, NO_DRIFT, 0),
        URNS.stream(2_000, NO_DRIFT, 0),
        URNS.null_stream(2_000, 300, 0),
        URNS.null_stream(2_000, 2_000, 0),
    ]
    assert all(rows.max() < 700 for rows in drawn)
    assert len({rows.tobytes() for rows in drawn}) == len(drawn)


@pytest.mark.parametrize("topic", [FAR, NEAR])
def test_the_share_of_the_new_topic_is_the_scenarios(topic: str) -> None:
    rows = URNS.window(20_000, Scenario(topic, 0.2), 0)
    assert np.isin(rows, URNS.rows[topic]).mean() == pytest.approx(0.2, abs=0.012)
    assert np.isin(rows, [*URNS.rows[NONE], *URNS.rows[topic]]).all()


def test_a_stream_changes_where_it_is_told_to() -> None:
    rows = URNS.stream(6_000, Scenario(FAR, 0.5), 0, change=2_000)
    new = rows >= 700
    assert not new[:2_000].any()
    assert new[2_000:].mean() == pytest.approx(0.5, abs=0.03)


def test_the_tasks_together_judge_every_window_once(tmp_path) -> None:
    extent = Extent(50)
    cells: dict[tuple[str, int], list[int]] = {}
    for task in windows.tasks(tmp_path, extent):
        for scenario, n, numbers in task.windows():
            cells.setdefault((scenario.name, n), []).extend(numbers)
    assert sorted(cells[NONE, 20_000]) == list(range(50))
    assert sorted(cells["far 5 %", 100]) == list(range(extent.power_windows(100)))


def test_null_streams_are_ten_baselines_long_and_add_up_to_what_is_promised(tmp_path) -> None:
    assert all(length >= 10 * size for size, length in streams.STREAM_LENGTHS.items())
    tasks = [task for task in streams.null_tasks(tmp_path, Extent(1000)) if task.threshold == streams.THRESHOLD]
    assert sum(streams.STREAM_LENGTHS[task.baseline] for task in tasks) >= 10_000_000


def test_no_text_is_both_learnt_from_and_drawn_from() -> None:
    material = own_material()
    learnt = {row for part in (material.train, material.validation) for row in part}
    assert not learnt & set(material.pool)
    assert len(material.train) > 1_000
    assert len(material.pool) > 1_000
    assert not {label for _, label in material.train} & {label for _, label in [*material.far, *material.near]}


def test_a_label_of_a_new_topic_that_the_model_knows_still_counts_as_new() -> None:
    rows = [(f"text {number}", "balance") for number in range(10)]
    dealt = deal("x", rows, [], far=[("my balance", "balance")], near=[("a loan", "loan")])
    assert dealt.far == [("my balance", "new: balance")]
    assert dealt.near == [("a loan", "loan")]


def test_windows_of_few_and_many_classes_are_each_judged_once_and_never_the_same(tmp_path) -> None:
    extent = Extent(100)
    numbers = [
        number for task in extremes.tasks(tmp_path, extent) if task.classes is not None for number in task.numbers
    ]
    assert sorted(numbers) == list(range(len(extremes.CLASS_COUNTS) * extent.class_windows))


@pytest.mark.parametrize("count", [2, 3, 4, 10])
def test_other_numbers_of_classes_are_the_same_answers_of_the_same_pool(count: int, rng: np.random.Generator) -> None:
    scored = small_scored(rng)
    other = extremes.with_classes(scored, count)
    assert len(other.classes) == count
    assert set(other.predicted.tolist()) == set(other.classes)
    assert (other.labels[-10:] == "new: c").all(), "what is new stays new"
    known = np.isin(other.labels, other.classes)
    assert known.sum() == len(scored.labels) - 10
    if count >= len(scored.classes):
        np.testing.assert_array_equal(other.correct, scored.correct)
        np.testing.assert_array_equal(other.predictions.confidence, scored.predictions.confidence)
    else:
        assert other.correct.mean() > scored.correct.mean(), "what is merged cannot be mistaken for each other"
        assert (other.predictions.confidence >= scored.predictions.confidence - 1e-12).all()


def small_scored(rng: np.random.Generator, n: int = 300) -> Scored:
    """Answers of a model of three classes; the last ten rows are of a new topic."""
    probabilities = rng.dirichlet([0.5] * 3, n)
    ordered = np.sort(probabilities, axis=1)
    labels = np.array([str(rng.choice(["a", "b", "c"], p=row)) for row in probabilities], dtype="U6")
    labels[-10:] = "new: c"
    columns = {name: np.zeros(n) for name in ("entropy", "similarity", "rarity", "length")}
    return Scored(
        classes=("a", "b", "c"),
        texts=np.array(["text"] * n),
        labels=labels,
        predictions=Predictions(
            probabilities=probabilities,
            predicted=probabilities.argmax(axis=1),
            confidence=ordered[:, -1],
            margin=ordered[:, -1] - ordered[:, -2],
            projected=np.zeros((n, 2), dtype=np.float16),
            **columns,
        ),
        embeddings=np.zeros((n, 2), dtype=np.float32),
        places={NONE: np.arange(n - 10)},
        vocabulary=np.array(["text"]),
    )
