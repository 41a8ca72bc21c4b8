"""New kinds of texts: found and named where there are some, not where there are none."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from monitoring.baseline import Baseline
from monitoring.clusters import CHANCE, MAX_CLUSTERS, new_clusters, over_represented
from monitoring.core.signals import PROJECTED
from monitoring.signals import Traffic
from tests.unit.monitoring.synthetic import baseline_of, window_of

TOPIC = ("trade in my old phone", "how do i trade in a tablet", "what is my trade in worth")


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    """Fifteen hundred rows or more, so that the sample is full."""
    return baseline_of(2000, np.random.default_rng(5))


def with_topic(window: Traffic, share: float, rng: np.random.Generator) -> tuple[Traffic, set[str]]:
    """A share of the window about trade-ins, which lie where nothing else does."""
    rows = rng.random(len(window)) < share
    place = np.zeros(PROJECTED)
    place[10:14] = 3.0
    projected = np.where(rows[:, None], rng.normal(size=window.projected.shape) + place, window.projected)
    texts = [str(rng.choice(TOPIC)) if new else text for new, text in zip(rows, window.texts, strict=True)]
    ids = {window.ids[row] for row in np.flatnonzero(rows)}
    return dataclasses.replace(window, projected=projected.astype(np.float32), texts=texts), ids


def test_a_new_topic_gets_a_cluster_named_by_its_words(baseline: Baseline, rng: np.random.Generator) -> None:
    window, ids = with_topic(window_of(500, rng)[0], 0.1, rng)
    [cluster] = new_clusters(baseline, window, rng)
    assert "trade in" in cluster["name"]
    assert abs(cluster["count"] - len(ids)) <= 0.25 * len(ids)
    assert cluster["baseline_share"] < 0.01
    assert cluster["effect"] == cluster["share"] - cluster["baseline_share"]
    assert {example["id"] for example in cluster["examples"]} <= ids
    assert all("trade" in example["text"] for example in cluster["examples"])
    assert cluster["p_value"] <= CHANCE
    json.dumps(cluster, allow_nan=False)


def test_two_new_topics_are_two_clusters(baseline: Baseline, rng: np.random.Generator) -> None:
    window, _ = with_topic(window_of(600, rng)[0], 0.1, rng)
    place = np.zeros(PROJECTED)
    place[20:24] = -3.0
    rows = np.arange(540, 600)
    projected = window.projected.copy()
    projected[rows] = rng.normal(size=(60, PROJECTED)) + place
    texts = [*window.texts[:540], *["my instalment plan failed"] * 60]
    found = new_clusters(baseline, dataclasses.replace(window, projected=projected, texts=texts), rng)
    names = [cluster["name"] for cluster in found]
    assert len(names) == 2
    assert any("trade" in name for name in names)
    assert any("instalment" in name or "plan" in name for name in names)


def test_a_window_like_its_baseline_gets_no_cluster_more_often_than_stated() -> None:
    """Each of 150 windows has a chance of at most 1 %: more than 5 in all would have one of 0.4 %."""
    rng = np.random.default_rng(11)
    found = 0
    for _ in range(150):
        centres = np.eye(4, 12)[rng.integers(4, size=700)] * 3.0
        rows = centres + rng.standard_t(4, size=(700, 12))
        found += bool(over_represented(rows, int(rng.integers(200, 500))))
    assert found <= 5


def test_without_texts_a_cluster_is_named_by_its_answer(baseline: Baseline, rng: np.random.Generator) -> None:
    window, _ = with_topic(window_of(500, rng)[0], 0.2, rng)
    [cluster] = new_clusters(baseline, dataclasses.replace(window, texts=[None] * 500), rng)
    assert cluster["name"].startswith("answered ")
    assert {example["text"] for example in cluster["examples"]} == {""}


def test_the_same_seed_gives_the_same_clusters_of_a_large_window(baseline: Baseline, rng: np.random.Generator) -> None:
    window, ids = with_topic(window_of(20_000, rng)[0], 0.1, rng)
    first, again = (new_clusters(baseline, window, np.random.default_rng(3)) for _ in range(2))
    assert first == again
    assert len(first) <= MAX_CLUSTERS
    assert abs(sum(cluster["count"] for cluster in first) - len(ids)) < 0.35 * len(ids)


def test_nothing_is_claimed_where_there_is_nothing_to_compare(baseline: Baseline, rng: np.random.Generator) -> None:
    window, _ = window_of(300, rng)
    old = dataclasses.replace(baseline, sample=np.empty((0, PROJECTED), dtype=np.float16))
    assert new_clusters(old, window, rng) == []
    same = dataclasses.replace(window, projected=np.zeros((300, PROJECTED), dtype=np.float32))
    alike = dataclasses.replace(baseline, sample=np.zeros((300, PROJECTED), dtype=np.float16))
    assert new_clusters(alike, same, rng) == []
