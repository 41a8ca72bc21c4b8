"""Which answers are asked for: the random part is honest, the rest telling, spread out, and asked once."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.signals import PROJECTED
from monitoring.core.types import LabelSource
from monitoring.label_queue import Part, Pool, QueueItem, draw_queue, drawn_at_random, shorter
from tests.integration.monitoring.world import id_of
from tests.unit.monitoring.synthetic import CLASSES, NOW, answers

SHARE = 0.1


def pool_of(n: int, rng: np.random.Generator, *, new_topic: float = 0.0) -> Pool:
    """Answers of the imaginary classifier, one a second, newest first."""
    predictions, texts, _ = answers(n, rng, new_topic=new_topic)
    moments = [NOW - timedelta(seconds=number) for number in range(n)]
    ranked = np.argsort(-predictions.probabilities, axis=1)[:, :3]
    return Pool(
        ids=[id_of(moment, rng) for moment in moments],
        at=moments,
        texts=texts,
        predicted=[CLASSES[number] for number in predictions.predicted],
        confidence=predictions.confidence,
        entropy=predictions.entropy,
        similarity=predictions.similarity,
        projected=predictions.projected.astype(np.float32),
        top_k=[
            json.dumps({CLASSES[k]: float(row[k]) for k in best})
            for row, best in zip(predictions.probabilities, ranked, strict=True)
        ],
        judged=np.zeros(n, dtype=np.bool_),
        labelled=np.zeros(n, dtype=np.bool_),
    )


def rows_of(pool: Pool, rows: slice) -> Pool:
    """Some of the pool."""
    return Pool(**{field.name: getattr(pool, field.name)[rows] for field in dataclasses.fields(Pool)})


def with_labels(pool: Pool, ids: set[str], *, blind: bool) -> Pool:
    """The pool after labels for these."""
    given = np.array([name in ids for name in pool.ids])
    return dataclasses.replace(pool, labelled=pool.labelled | given, judged=pool.judged | (given & blind))


def queue(pool: Pool, size: int = 60, share: float = SHARE, *, texts_kept: bool = True) -> list[QueueItem]:
    return draw_queue(pool, size=size, random_share=share, texts_kept=texts_kept)


def part(items: Sequence[QueueItem], wanted: Part) -> list[QueueItem]:
    return [item for item in items if item.part is wanted]


def test_half_is_random_and_the_rest_halved(rng: np.random.Generator) -> None:
    items = queue(pool_of(2_000, rng), size=60)
    assert Counter(item.part for item in items) == {Part.RANDOM: 30, Part.DRIFTED: 15, Part.UNCERTAIN: 15}
    assert [item.part for item in items] == sorted((item.part for item in items), key=list(Part).index)
    assert len({item.prediction_id for item in items}) == 60
    for item in items:
        at_random = item.part is Part.RANDOM
        assert item.source is (LabelSource.RANDOM_SAMPLE if at_random else LabelSource.REVIEW)
        assert item.sampling_probability == (SHARE if at_random else None)
        assert item.predicted == item.choices[0]
        assert drawn_at_random(item.prediction_id, SHARE) == at_random


def test_the_random_part_is_the_newest_of_those_that_were_drawn(rng: np.random.Generator) -> None:
    pool = pool_of(1_000, rng)
    drawn = [name for name in pool.ids if drawn_at_random(name, SHARE)]
    assert [item.prediction_id for item in part(queue(pool, size=40), Part.RANDOM)] == drawn[:20]


def test_the_random_part_is_blind_to_text_scores_and_labels_that_are_not_blind(rng: np.random.Generator) -> None:
    pool = pool_of(1_000, rng)
    names = [item.prediction_id for item in part(queue(pool), Part.RANDOM)]
    other = dataclasses.replace(
        pool_of(1_000, rng, new_topic=0.5), ids=pool.ids, texts=["the same message"] * 1_000, labelled=pool.labelled
    )
    assert [item.prediction_id for item in part(queue(other), Part.RANDOM)] == names
    complained = with_labels(pool, set(names), blind=False)
    assert [item.prediction_id for item in part(queue(complained), Part.RANDOM)] == names
    judged = with_labels(pool, set(names[:5]), blind=True)
    left = [item.prediction_id for item in part(queue(judged), Part.RANDOM)]
    assert left[: len(names) - 5] == names[5:]


def test_a_prediction_belongs_with_the_chance_that_is_recorded(rng: np.random.Generator) -> None:
    ids = [id_of(NOW + timedelta(milliseconds=number), rng) for number in range(40_000)]
    for share in (0.02, 0.1, 0.5):
        found = sum(drawn_at_random(name, share) for name in ids)
        assert abs(found - share * 40_000) < 4 * np.sqrt(40_000 * share * (1 - share))
    assert all(drawn_at_random(name, 0.5) for name in ids if drawn_at_random(name, 0.1))
    assert all(drawn_at_random(name, 1.0) for name in ids)


def test_what_is_new_and_what_is_unsure_is_found(rng: np.random.Generator) -> None:
    pool = pool_of(2_000, rng, new_topic=0.05)
    items = queue(pool, size=60)
    strange = {name for name, text in zip(pool.ids, pool.texts, strict=True) if text is not None and "zebra" in text}
    assert sum(item.prediction_id in strange for item in part(items, Part.DRIFTED)) >= 12
    unsure = [item.confidence for item in part(items, Part.UNCERTAIN)]
    assert max(unsure) < np.quantile(pool.confidence, 0.1)


def test_a_sure_answer_is_not_called_unsure_where_nothing_else_waits(rng: np.random.Generator) -> None:
    pool = pool_of(200, rng)
    confidence = np.where(np.arange(200) < 5, 0.55, 0.998)
    top_k = [json.dumps({name: share}) for name, share in zip(pool.predicted, confidence.tolist(), strict=True)]
    mostly_sure = dataclasses.replace(pool, confidence=confidence, entropy=1.0 - confidence, top_k=top_k)
    asked = part(queue(mostly_sure, size=80), Part.UNCERTAIN)
    called = {item.confidence: item.reason for item in asked}
    assert "the model is unsure: " in called[0.55]
    assert called[0.998].startswith("rather sure, and yet among the least sure of those that wait: ")
    assert called[0.998].endswith(" over 99%")
    assert all("unlike" not in item.reason for item in part(queue(mostly_sure), Part.DRIFTED))


def test_the_same_message_is_asked_once_and_the_rest_is_spread_out(rng: np.random.Generator) -> None:
    pool = pool_of(1_000, rng)
    # A bot sends one message two hundred times, and another one in two hundred slightly different words.
    place = np.ones(PROJECTED, dtype=np.float32) * 9
    projected = pool.projected.copy()
    projected[:200] = place
    projected[200:400] = -place + rng.normal(scale=1e-3, size=(200, PROJECTED))
    similarity = pool.similarity.copy()
    similarity[:400] = -1.0
    texts = ["buy now"] * 200 + [f"buy now {number}" for number in range(200)] + list(pool.texts[400:])
    bots = dataclasses.replace(pool, texts=texts, projected=projected, similarity=similarity)
    chosen = [item.text for item in queue(bots) if item.part is not Part.RANDOM]
    assert chosen.count("buy now") <= 1
    drifted = [item.text for item in part(queue(bots), Part.DRIFTED)]
    wide = [item.text for item in part(queue(dataclasses.replace(bots, similarity=pool.similarity)), Part.DRIFTED)]
    assert len(set(drifted)) == len(drifted)
    assert sum(text is not None and text.startswith("buy now") for text in wide) <= 2


def test_a_message_that_was_labelled_before_is_not_asked_again(rng: np.random.Generator) -> None:
    pool = pool_of(500, rng)
    twins = dataclasses.replace(pool, texts=[f"message {number % 250}" for number in range(500)])
    first = [item for item in queue(twins) if item.part is not Part.RANDOM]
    after = with_labels(twins, {item.prediction_id for item in first}, blind=False)
    again = {item.text for item in queue(after) if item.part is not Part.RANDOM}
    assert not again & {item.text for item in first}


def test_without_texts_the_embedding_tells_messages_apart(rng: np.random.Generator) -> None:
    pool = dataclasses.replace(pool_of(300, rng), texts=[None] * 300)
    twins = dataclasses.replace(pool, projected=np.repeat(pool.projected[:10], 30, axis=0))
    chosen = [item for item in queue(twins) if item.part is not Part.RANDOM]
    assert len(chosen) <= 10
    assert all(item.text is None for item in chosen)


def test_a_long_queue_is_shortened_in_its_proportions(rng: np.random.Generator) -> None:
    items = queue(pool_of(1_000, rng), size=100)
    short = [items[place] for place in shorter([item.part for item in items], 20)]
    assert Counter(item.part for item in short) == {Part.RANDOM: 10, Part.DRIFTED: 5, Part.UNCERTAIN: 5}
    for name in Part:
        assert part(short, name) == part(items, name)[: len(part(short, name))]
    assert shorter([], 20) == []


def test_hashed_texts_are_not_shown(rng: np.random.Generator) -> None:
    assert all(item.text is None for item in queue(pool_of(300, rng), texts_kept=False))


@given(
    n=st.integers(0, 40),
    size=st.integers(1, 30),
    share=st.sampled_from([0.01, 0.3, 1.0]),
    seed=st.integers(0, 1_000),
    broken=st.sampled_from([np.nan, np.inf, 0.0]),
)
def test_any_pool_gives_a_queue(n: int, size: int, share: float, seed: int, broken: float) -> None:
    rng = np.random.default_rng(seed)
    pool = pool_of(max(n, 1), rng)
    cut = rows_of(pool, slice(n))
    scores = np.where(rng.random(n) < 0.5, broken, cut.entropy)
    spoilt = dataclasses.replace(
        cut, entropy=scores, similarity=scores, projected=np.full((n, PROJECTED), broken, np.float32), top_k=["?"] * n
    )
    for given_pool in (cut, spoilt):
        items = queue(given_pool, size=size, share=share)
        assert len({item.prediction_id for item in items}) == len(items) <= min(size, n)
        assert items == queue(given_pool, size=size, share=share)
        assert share < 1 or all(item.part is Part.RANDOM for item in items)


@pytest.mark.parametrize(
    ("answered", "later_share", "trend"), [(1.0, SHARE, 0.3), (0.6, SHARE, 0.3), (0.8, 2 * SHARE, 0.0)]
)
def test_the_random_part_stays_unbiased_however_often_it_is_drawn(
    answered: float, later_share: float, trend: float
) -> None:
    """Complaints about errors, reviews of what is telling, answers that come late or never, a model that gets worse.

    The truth is the error rate of all answers. The random part weighted by 1 / probability finds it; all labels
    together do not, nor does a random part that complaints take answers out of.
    """
    rng = np.random.default_rng(5)
    misses: dict[str, list[float]] = {"honest": [], "all labels": [], "left by complaints": []}
    for _ in range(16):
        service = Service(rng, answered=answered, later_share=later_share, trend=trend)
        truth = float(np.mean(list(service.wrong.values())))
        misses["honest"].append(service.weighted_error_rate(set(service.sampled)) - truth)
        uncomplained = set(service.sampled) - service.complaints
        misses["left by complaints"].append(service.weighted_error_rate(uncomplained) - truth)
        told = [*service.sampled, *service.reviewed, *service.complaints]
        misses["all labels"].append(float(np.mean([service.wrong[name] for name in told])) - truth)
    means = {name: float(np.mean(values)) for name, values in misses.items()}
    noise = 3 * float(np.std(misses["honest"])) / np.sqrt(len(misses["honest"]))
    assert abs(means["honest"]) < noise < 0.03
    assert means["all labels"] > 0.04
    assert means["left by complaints"] < -0.03


class Service:
    """A model in service, watched for twenty rounds, after each of which the queue is drawn and partly answered."""

    rounds = 20
    fresh = 100

    def __init__(self, rng: np.random.Generator, *, answered: float, later_share: float, trend: float) -> None:
        n = self.rounds * self.fresh
        pool = pool_of(n, rng, new_topic=0.1)
        chance = np.clip(0.05 + pool.entropy / 3 + np.linspace(trend, 0.0, n), 0, 0.9)  # newest first
        self.wrong = dict(zip(pool.ids, (rng.random(n) < chance).tolist(), strict=True))
        self.sampled: dict[str, float] = {}
        self.reviewed: set[str] = set()
        self.complaints: set[str] = set()
        for number in range(1, self.rounds + 1):
            shown = rows_of(pool, slice(n - number * self.fresh, None))
            self.complaints |= {name for name in shown.ids[: self.fresh] if self.wrong[name] and rng.random() < 0.5}
            shown = with_labels(shown, self.complaints | self.reviewed, blind=False)
            shown = with_labels(shown, set(self.sampled), blind=True)
            share = SHARE if number <= self.rounds // 2 else later_share
            for item in queue(shown, size=50, share=share):
                if rng.random() > answered:
                    continue  # nobody got round to it: it is asked again
                if item.sampling_probability is not None:
                    self.sampled[item.prediction_id] = item.sampling_probability
                else:
                    self.reviewed.add(item.prediction_id)

    def weighted_error_rate(self, names: set[str]) -> float:
        """Of the sampled answers with these names, each weighted by 1 / probability."""
        weights = {name: 1.0 / self.sampled[name] for name in names}
        return sum(weight * self.wrong[name] for name, weight in weights.items()) / sum(weights.values())
