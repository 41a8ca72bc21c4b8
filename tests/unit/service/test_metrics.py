"""What is counted, and what is not."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from monitoring.core.signals import Predictions
from monitoring.core.types import Variant
from service.engine.work import NO_ROLLOUT, Call, FinishedBatch, Work
from service.metrics import ENDED_FOR, Metrics
from tests.conftest import FrozenClock
from tests.unit.service.works import loaded

PREDICT = "/v1/models/{model}/predict"


@pytest.mark.parametrize(
    ("status", "measured"),
    [(200, 1), (401, 0), (413, 0), (422, 0), (429, 0), (503, 0), (499, 1), (500, 1), (504, 1)],
)
def test_a_quick_no_is_no_quick_answer(status: int, measured: int) -> None:
    """A service that refuses most callers must not look faster than one that answers them."""
    metrics = Metrics()
    metrics.request(PREDICT, "POST", status, 0.001)
    value = metrics.registry.get_sample_value
    counted = {"route": PREDICT, "method": "POST", "status": str(status)}
    assert value("leeway_http_requests_total", counted) == 1
    assert (value("leeway_request_duration_seconds_count", {"route": PREDICT}) or 0) == measured


def test_a_version_that_has_ended_is_left_out_once_its_last_counts_are_scraped(clock: FrozenClock) -> None:
    """Others count on, and so does one that comes back, from 0."""
    metrics = Metrics()
    metrics.batch(_batch(1, Variant.PRODUCTION))
    metrics.batch(_batch(2, Variant.CANDIDATE))
    metrics.shadow_answered(_batch(2, Variant.SHADOW), [True])

    def seen_at_a_scrape(served: set[str]) -> dict[str, float]:
        metrics.forget_ended(served, now=clock.now)
        families = [family for family in metrics.registry.collect() if "version" in str(family.samples)]
        samples = [sample for family in families for sample in family.samples if "version" in sample.labels]
        assert len({family.name for family in families}) == 7
        answered = {s.labels["version"]: s.value for s in samples if s.name == "leeway_predictions_total"}
        assert {s.labels["version"] for s in samples} == answered.keys()
        return answered

    both, champion = {"support@1", "support@2"}, {"support@1"}
    assert seen_at_a_scrape(both) == {"support@1": 2, "support@2": 2}
    assert seen_at_a_scrape(champion) == {"support@1": 2, "support@2": 2}
    clock.advance(ENDED_FOR - timedelta(seconds=1))
    metrics.batch(_batch(2, Variant.CANDIDATE))  # the last of it were under way
    assert seen_at_a_scrape(champion) == {"support@1": 2, "support@2": 4}
    clock.advance(timedelta(seconds=1))
    metrics.batch(_batch(1, Variant.PRODUCTION))
    metrics.shadow_answered(_batch(1, Variant.SHADOW), [True])
    assert seen_at_a_scrape(champion) == {"support@1": 4}
    metrics.batch(_batch(1, Variant.PRODUCTION))
    metrics.batch(_batch(2, Variant.CANDIDATE))
    metrics.shadow_answered(_batch(2, Variant.SHADOW), [True])
    assert seen_at_a_scrape(both) == {"support@1": 6, "support@2": 2}


def test_what_straggles_in_after_the_end_goes_as_the_rest_did(clock: FrozenClock) -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.failed(_batch(2, Variant.SHADOW).works, "inference")
        metrics.forget_ended(set(), now=clock.now)
        assert metrics.registry.get_sample_value("leeway_prediction_errors_total", FAILED) == 2
        clock.advance(ENDED_FOR)
        metrics.forget_ended(set(), now=clock.now)
        assert metrics.registry.get_sample_value("leeway_prediction_errors_total", FAILED) is None


FAILED = {"model": "support", "version": "support@2", "variant": "shadow", "reason": "inference"}


def _batch(number: int, variant: Variant) -> FinishedBatch:
    """Two texts that version `number` has answered."""
    call = cast(Call, SimpleNamespace(model="support", started=0.0))
    works = [Work(call, row, "id", "text", loaded(number), variant, NO_ROLLOUT) for row in range(2)]
    stated = cast(Predictions, SimpleNamespace(confidence=np.array([0.9, 0.8])))
    return FinishedBatch(works, (0, 1), stated, None, began=1.0, ended=2.0)
