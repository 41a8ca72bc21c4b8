"""What moved, in words: classes, words, examples."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitoring.explain import MAX_EXAMPLES, explain, moved_classes
from monitoring.signals import count_words, novelty, words
from monitoring.slice_values import UsualValues
from monitoring.wording import log_likelihood_ratio, moved_words
from tests.unit.monitoring.synthetic import baseline_of, window_of


def test_words_that_are_new_or_much_more_frequent_come_first(rng: np.random.Generator) -> None:
    known = {"parcel": 100, "late": 100, "the": 800}
    texts = ["the parcel refund"] * 20 + ["late late late the"] * 20 + ["the the the"] * 30
    found = moved_words(known, 1000, texts)
    assert [entry["word"] for entry in found] == ["refund", "late"]
    assert found[0] == {"word": "refund", "texts": 20, "per_10k": 10_000 * 20 / 230, "baseline_per_10k": 0.0}


def test_one_odd_text_does_not_speak_for_all() -> None:
    assert moved_words({"a": 100}, 100, ["zebra " * 50, *["a"] * 50]) == []
    assert moved_words({"a": 100}, 100, [None, None]) == []


def test_the_class_that_moved_most_comes_first(rng: np.random.Generator) -> None:
    baseline, (window, _) = baseline_of(500, rng), window_of(200, rng)
    moved = dataclasses.replace(window, predicted=np.where(window.predicted == "other", "zoo", window.predicted))
    entries = {entry["class"]: entry for entry in moved_classes(baseline, moved)}
    assert next(iter(entries)) == "zoo"
    assert entries["zoo"]["baseline"] == 0.0
    assert entries["other"]["window"] == 0.0


def test_an_explanation_is_bounded_and_fits_json(rng: np.random.Generator) -> None:
    window, _ = window_of(300, rng, new_topic=0.5)
    longest = dataclasses.replace(window, texts=["x" * 10_000] * 300)
    explanation = explain(baseline_of(300, rng), longest, UsualValues(), rng)
    assert len(explanation["examples"]) == MAX_EXAMPLES
    assert all(len(example["text"]) == 200 for example in explanation["examples"])
    assert len(json.dumps(explanation, allow_nan=False)) < 5000


def test_examples_are_the_answers_least_like_the_baseline(rng: np.random.Generator) -> None:
    window, outcomes = window_of(300, rng, new_topic=0.1)
    labels = {outcome.prediction_id: outcome.label for outcome in outcomes}
    found = [
        labels[example["id"]] for example in explain(baseline_of(300, rng), window, UsualValues(), rng)["examples"]
    ]
    assert found.count("zoo") >= 4


@given(count=st.integers(1, 1000), times=st.integers(1, 50), others=st.integers(1, 10_000))
def test_equally_common_words_are_no_evidence(count: int, times: int, others: int) -> None:
    ratio = log_likelihood_ratio(count, count + others, count * times, (count + others) * times)
    assert abs(ratio) < 1e-6


@given(st.text(max_size=300))
def test_any_text_has_words_of_bounded_length(text: str) -> None:
    found = words(text)
    assert all(0 < len(word) <= 24 for word in found)
    known = count_words([text])
    assert novelty([text], known).tolist() == [0.0]
    assert novelty([text], {}).tolist() == [1.0 if found else 0.0]
