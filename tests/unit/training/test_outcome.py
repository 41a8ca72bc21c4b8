"""What a finished retraining says of itself, in one line."""

from __future__ import annotations

from typing import Any

from monitoring.core.types import ModelVersion, Stage
from tests.exposures import START
from training.child import outcome_of


def version(stage: Stage, gates: list[dict[str, Any]], waiting: dict[str, int] | None = None) -> ModelVersion:
    return ModelVersion(
        id="v2",
        model="support",
        number=2,
        stage=stage,
        bundle_uri="bundles/2",
        bundle_hash="0" * 64,
        labels=("billing", "delivery"),
        lineage={"classes_waiting": waiting},
        evidence={"gates": gates},
        created_at=START,
    )


def gate(name: str, *, passed: bool) -> dict[str, Any]:
    return {"name": name, "passed": passed, "reason": f"{name} is so"}


def test_a_success_says_that_it_waits() -> None:
    told = outcome_of(version(Stage.AWAITING_APPROVAL, [gate("old", passed=True)]), "all gates passed", needed=20)
    assert told == "support@2 waits for approval: all gates passed"


def test_a_failure_names_each_gate_with_its_reason_and_the_classes_that_wait() -> None:
    gates = [gate("old", passed=False), gate("size", passed=True), gate("recent", passed=False)]
    told = outcome_of(version(Stage.REJECTED, gates, {"trade_in": 12}), "a gate failed", needed=20)
    assert told == "support@2 rejected: old: old is so; recent: recent is so; trade_in: 12 of 20 examples, it waits"


def test_one_that_came_too_late_says_why() -> None:
    told = outcome_of(version(Stage.REJECTED, [gate("old", passed=True)]), "measured against support@1", needed=20)
    assert told == "support@2 rejected: measured against support@1"
