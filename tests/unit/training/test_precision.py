from __future__ import annotations

import pytest

from monitoring.core.settings import GateSettings
from training.precision import Measurement, choose_precision

LIMITS = GateSettings()
FP32 = Measurement("fp32", 32, agreement=1.0, accuracy_loss=0.0, dependence=1e-7, texts_per_second=270)
INT8 = Measurement("int8", 1, agreement=0.9975, accuracy_loss=0.001, dependence=0.0, texts_per_second=440)


@pytest.mark.parametrize(
    ("offers", "precision", "max_batch"),
    [
        ((FP32, INT8), "int8", 1),
        ((FP32, Measurement("int8", 1, 0.9975, 0.0, 0.0, texts_per_second=200)), "fp32", 32),
        ((FP32, Measurement("int8", 32, 0.9975, 0.0, 0.03, texts_per_second=800)), "fp32", 32),
        ((FP32, Measurement("int8", 1, 0.98, 0.0, 0.0, texts_per_second=800)), "fp32", 32),
        ((FP32, Measurement("int8-static", 32, 0.9975, 0.004, 0.0, texts_per_second=800)), "fp32", 32),
        ((FP32, INT8, Measurement("int8-static", 32, 0.9975, -0.004, 0.0, texts_per_second=800)), "int8-static", 32),
        ((FP32, Measurement("int8", 1, float("nan"), 0.0, 0.0, texts_per_second=800)), "fp32", 32),
    ],
)
def test_the_fastest_admissible_precision_serves(
    offers: tuple[Measurement, ...], precision: str, max_batch: int
) -> None:
    choice = choose_precision(offers, LIMITS)
    assert (choice.precision, choice.max_batch) == (precision, max_batch)


def test_the_reason_tells_what_was_passed_over_and_why() -> None:
    choice = choose_precision((FP32, Measurement("int8", 1, 0.98, 0.0, 0.0, 800)), LIMITS)
    assert choice.reason == (
        "fp32, batches of 32 makes 270 texts/s on one thread; "
        "int8, one text at a time agrees with torch on 98.00% of the labels only"
    )


def test_where_nothing_is_admissible_the_best_is_named_for_the_gates_to_refuse() -> None:
    choice = choose_precision(
        (Measurement("fp32", 32, 0.5, 0.0, 0.0, 9), Measurement("int8", 1, 0.4, 0.0, 0.0, 99)), LIMITS
    )
    assert choice.precision == "fp32"
    assert choice.agreement < LIMITS.min_agreement
    assert choice.reason.startswith("no precision is admissible")
