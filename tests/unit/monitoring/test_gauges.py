from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitoring.core.types import LabelSource, Outcome, SignalFinding, Variant
from monitoring.gauges import LEAST_IN_BIN, reliability, severity_of

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def labelled(number: int, confidence: float, *, right: bool, **changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "prediction_id": f"{confidence}-{number}",
        "model": "support",
        "version": "v1",
        "variant": Variant.PRODUCTION,
        "rollout": None,
        "step": -1,
        "unit": str(number),
        "predicted": "billing",
        "label": "billing" if right else "delivery",
        "confidence": confidence,
        "source": LabelSource.GROUND_TRUTH,
        "sampling_probability": 1.0,
        "predicted_at": NOW + timedelta(seconds=number),
        "labelled_at": NOW + timedelta(minutes=1, seconds=number),
    }
    return Outcome(**values | changes)


def test_tenths_of_confidence_say_what_was_promised_and_what_was_true() -> None:
    sure = [labelled(number, 0.96, right=number < 15) for number in range(20)]
    doubtful = [labelled(number, 0.34, right=False) for number in range(LEAST_IN_BIN)]
    too_few = [labelled(number, 0.55, right=True) for number in range(LEAST_IN_BIN - 1)]
    found = reliability([*sure, *doubtful, *too_few])
    assert found.keys() == {"0.4", "1.0"}
    assert found["1.0"] == {"promised": pytest.approx(0.96), "true": 0.75, "labels": 20}
    assert found["0.4"]["true"] == 0


def test_complaints_say_nothing_about_reliability() -> None:
    complaints = [labelled(number, 0.96, right=False, source=LabelSource.COMPLAINT) for number in range(50)]
    assert reliability(complaints) == {}
    assert reliability([]) == {}


@pytest.mark.parametrize(
    ("effect", "significant", "severity"), [(0.3, False, 0), (0.05, True, 1), (0.1, True, 1), (0.11, True, 2)]
)
def test_a_signal_matters_where_it_moved_beyond_its_leeway(effect: float, significant: bool, severity: int) -> None:
    finding = SignalFinding("similarity", 0.3, 0.01, effect, 0.1, significant)
    assert severity_of(finding) == severity
