"""What is counted, and what is not."""

from __future__ import annotations

import pytest

from service.metrics import Metrics

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
