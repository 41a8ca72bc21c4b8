"""The baseline: what it keeps, that it comes back from its file as it was, and that broken files are named."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitoring import baseline as module
from monitoring import signals
from monitoring.baseline import Baseline, build_baseline, detector_scores, estimator_table
from monitoring.core.errors import BrokenBundle, InvalidInput
from monitoring.core.signals import SIGNALS
from monitoring.detect import signal_findings
from monitoring.profiles import profile_of, profile_spec, span_findings
from monitoring.signals import DETECTOR_SCORES, WordCounts
from monitoring.stats.cycle import WeeklyHistogram
from tests.unit.monitoring.synthetic import CLASSES, answers, baseline_of, window_of


def test_it_comes_back_from_its_file_as_it_was(tmp_path: Path, rng: np.random.Generator) -> None:
    week = WeeklyHistogram.empty(len(DETECTOR_SCORES), 20)
    week.add_span([1_767_614_400], np.full((len(DETECTOR_SCORES), 1), 7))
    said = WordCounts.of(["where is my parcel"])
    built = dataclasses.replace(baseline_of(300, rng), own_words=said, week=week)
    built.save(tmp_path / "baseline.npz")
    loaded = Baseline.load(tmp_path / "baseline.npz")
    assert_same(dataclasses.asdict(loaded), dataclasses.asdict(built))
    window, _ = window_of(100, rng)
    table = estimator_table(built, window.signals)
    assert loaded.estimator.estimate(table) == built.estimator.estimate(table)


def test_rows_of_returning_clients_make_every_test_against_them_meeker(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    whole, (window, _) = baseline_of(300, rng), window_of(300, rng, new_topic=0.2)
    whole_path = tmp_path / "baseline.npz"
    dataclasses.replace(whole, worth=0.25).save(whole_path)
    shared = Baseline.load(whole_path)
    assert (whole.worth, shared.worth) == (1.0, 0.25)
    assert shared.shared_worth(300, 1.0) == pytest.approx(0.25)  # 300 rows against 75: as 75 against 300
    assert shared.shared_worth(300, 0.5, reference=1.0) == 0.5
    spec = profile_spec(whole)
    span = profile_of(whole, spec, window)
    for judged in (
        lambda baseline: signal_findings(baseline, window, leeway=0.1, alpha=0.05),
        lambda baseline: span_findings(baseline, span, leeway=0.1, alpha=0.05),
    ):
        for sure, doubtful in zip(judged(whole), judged(shared), strict=True):
            assert doubtful.p_value >= sure.p_value
        assert any(d.p_value > 10 * s.p_value for s, d in zip(judged(whole), judged(shared), strict=True))


def test_it_holds_the_holdouts_signals_counts_and_quality(rng: np.random.Generator) -> None:
    predictions, texts, labels = answers(500, rng)
    built = build_baseline(
        predictions=predictions,
        texts=texts,
        labels=labels,
        classes=CLASSES,
        edges_from=answers(300, rng)[0],
        vocabulary=["never heard of"],
        seed=1,
    )
    correct = np.array(CLASSES)[predictions.predicted] == np.array(labels)
    assert (built.n, built.labelled) == (500, 500)
    assert built.accuracy.value == built.expected_accuracy == correct.mean()
    assert built.accuracy.low < built.accuracy.value < built.accuracy.high
    assert built.class_counts.tolist() == np.bincount(predictions.predicted, minlength=4).tolist()
    assert built.signals.keys() == {*SIGNALS, "vocabulary"}
    assert np.array_equal(built.signals["entropy"], predictions.entropy)
    assert built.signals["vocabulary"].tolist() == [1.0] * 500
    assert built.total_words == 3
    assert all(math.isfinite(value) for value in built.calibration.values())


def test_labels_that_the_model_lacks_count_as_wrong_and_missing_ones_do_not_count(rng: np.random.Generator) -> None:
    predictions, texts, _ = answers(200, rng)
    known = np.array(CLASSES)[predictions.predicted].tolist()
    given: list[str | None] = [*known[:50], *["zoo"] * 50, *[None] * 100]
    built = build_baseline(
        predictions=predictions,
        texts=texts,
        labels=given,
        classes=CLASSES,
        edges_from=predictions,
        vocabulary=texts,
        seed=1,
    )
    assert (built.n, built.labelled, built.accuracy.value) == (200, 100, 0.5)


def test_without_labels_the_estimator_says_what_to_expect(tmp_path: Path, rng: np.random.Generator) -> None:
    built = baseline_of(200, rng, labelled=False)
    assert built.labelled == 0
    assert math.isnan(built.accuracy.value)
    assert 0.0 <= built.expected_accuracy <= 1.0
    built.save(tmp_path / "baseline.npz")
    assert Baseline.load(tmp_path / "baseline.npz").labelled == 0


def test_of_many_rows_a_random_part_is_kept(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 150)
    monkeypatch.setattr(signals, "MAX_WORDS", 10)
    built = baseline_of(400, rng)
    assert built.n == built.class_counts.sum() == len(built.signals["vocabulary"]) == built.moments.n == 150
    assert len(built.words) == 10
    assert built.total_words == 400 * 6


def test_traffic_and_baseline_are_scored_alike(rng: np.random.Generator) -> None:
    built = baseline_of(300, rng)
    window, _ = window_of(100, rng)
    scores = detector_scores(built, window.predicted, window.signals)
    assert tuple(scores) == tuple(built.scores()) == tuple(built.edges) == DETECTOR_SCORES
    assert {len(values) for values in scores.values()} == {100}
    assert {len(values) for values in built.scores().values()} == {300}
    surprise = dict(zip(window.predicted.tolist(), scores["surprise"].tolist(), strict=True))
    assert surprise["billing"] < surprise["other"]
    strangers = detector_scores(built, np.array(["zoo"]), {name: np.zeros(1) for name in SIGNALS})
    assert strangers["surprise"].item() == max(built.surprise)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "baseline.npz"
    path.write_bytes(content)
    with pytest.raises(BrokenBundle, match=r"baseline\.npz is not a baseline that this version reads"):
        Baseline.load(path)


def test_a_missing_file_a_missing_array_and_another_format_are_named(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "baseline.npz"
    with pytest.raises(BrokenBundle, match="No such file"):
        Baseline.load(path)
    baseline_of(60, rng).save(path)
    with np.load(path) as arrays:
        kept = dict(arrays)
    np.savez(path, **{name: values for name, values in kept.items() if name != "features/weights"})
    with pytest.raises(BrokenBundle, match="weights"):
        Baseline.load(path)
    text = kept["text"].tobytes().replace(b'"format": 1', b'"format": 9')
    np.savez(path, **(kept | {"text": np.frombuffer(text, dtype=np.uint8)}))
    with pytest.raises(BrokenBundle, match="format 9 instead of 1"):
        Baseline.load(path)


def test_inputs_that_do_not_fit_are_refused_by_name(rng: np.random.Generator) -> None:
    predictions, texts, labels = answers(20, rng)
    nothing, no_texts, _ = answers(0, rng)
    common: dict[str, Any] = {"classes": CLASSES, "edges_from": predictions, "vocabulary": texts, "seed": 1}
    with pytest.raises(InvalidInput, match="20 predictions, 19 texts, 20 labels") as refusal:
        build_baseline(predictions=predictions, texts=texts[1:], labels=labels, **common)
    assert refusal.value.field == "texts"
    with pytest.raises(InvalidInput, match="give more data"):
        build_baseline(predictions=nothing, texts=no_texts, labels=[], **common)


def assert_same(left: Any, right: Any) -> None:
    """Deep equality with arrays in it; nan equals nan."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            assert_same(left[name], right[name])
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        assert np.array_equal(left, right)
    else:
        assert left == right or (math.isnan(left) and math.isnan(right))
