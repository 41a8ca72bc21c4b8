"""Which slices lost accuracy, by labels: a loss is found where it is, and only there."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from monitoring.baseline import Baseline
from monitoring.core.types import LabelSource
from monitoring.episodes import SLICE, alerts_to_change
from monitoring.quality import label_evidence
from monitoring.slice_quality import LEAST_LABELS, slice_accuracies
from tests.unit.monitoring.sliced import labelled
from tests.unit.monitoring.synthetic import NOW, baseline_of
from tests.unit.monitoring.test_episodes import readings

DECLARED = ("channel", "language=de")
ALPHA = 0.001


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    """Right nine times in ten, or a little more."""
    return baseline_of(2000, np.random.default_rng(3))


def test_the_slice_that_lost_accuracy_is_found_and_the_others_are_not(rng: np.random.Generator) -> None:
    before, after = (rng.random(300) < 0.9).tolist(), (rng.random(200) < 0.45).tolist()
    hard = (rng.random(500) < 0.6).tolist()
    outcomes = [*labelled("channel=chat", before + after), *labelled("channel=mail", hard)]
    outcomes += labelled("language=de", (rng.random(500) < 0.9).tolist())
    found = slice_accuracies(outcomes, DECLARED, tolerated_loss=0.03)
    assert [one.slice for one in found if one.proves_loss(ALPHA)] == ["channel=chat"]
    chat = found[0]
    assert (chat.slice, chat.labelled) == ("channel=chat", 500)
    assert chat.before == pytest.approx(0.9, abs=0.05)
    assert chat.accuracy.low < 0.45 < chat.accuracy.high


def test_a_gain_is_no_loss(rng: np.random.Generator) -> None:
    right = [*(rng.random(300) < 0.4).tolist(), *(rng.random(300) < 0.95).tolist()]
    [one] = slice_accuracies(labelled("channel=chat", right), DECLARED, tolerated_loss=0.03)
    assert one.log_e > math.log(1 / ALPHA)
    assert not one.proves_loss(ALPHA)


def test_false_proofs_of_twenty_slices_stay_within_the_level() -> None:
    """At a level of 0.2 over 25 runs of 20 slices, looked at every 100 labels: more than 11 have a chance of 0.2 %."""
    rng = np.random.default_rng(2)
    declared = tuple(f"channel=c{number}" for number in range(20))
    false = 0
    for _ in range(25):
        streams = [
            labelled(name, (rng.random(300) < 0.6 + 0.019 * number).tolist()) for number, name in enumerate(declared)
        ]
        false += any(
            one.proves_loss(0.2)
            for labels in range(100, 301, 100)
            for one in slice_accuracies(
                [outcome for stream in streams for outcome in stream[:labels]],
                declared,
                tolerated_loss=0.0,
            )
        )
    assert false <= 11


def test_what_is_not_declared_and_what_has_few_labels_is_not_judged() -> None:
    outcomes = labelled("channel=chat", [True] * (LEAST_LABELS - 1)) + labelled("device=phone", [True] * 100)
    assert slice_accuracies(outcomes, DECLARED, tolerated_loss=0.03) == ()
    one_client = [replace(outcome, unit="ann") for outcome in labelled("channel=chat", [False] * 100)]
    assert slice_accuracies(one_client, DECLARED, tolerated_loss=0.03) == ()


def test_a_lost_slice_opens_one_episode_of_its_own(baseline: Baseline, rng: np.random.Generator) -> None:
    right = [*(rng.random(400) < 0.93).tolist(), *(rng.random(150) < 0.4).tolist()]
    rest = labelled("channel=mail", (rng.random(4000) < 0.95).tolist())
    outcomes = [*rest, *labelled("channel=chat", right)]
    times = {"loss_since": NOW, "calibration_since": NOW}
    evidence = label_evidence(outcomes, baseline, tolerated_loss=0.03, newest=500, slices=DECLARED, **times)
    fired = {firing.name: firing for firing in alerts_to_change(readings(labels=evidence), []).fire}
    assert "labels prove that accuracy fell in channel=chat from 9" in fired[SLICE].summary
    assert [one["slice"] for one in fired[SLICE].detail["slices"]] == ["channel=chat"]

    complaints = [replace(outcome, source=LabelSource.COMPLAINT) for outcome in outcomes]
    blind = label_evidence(complaints, baseline, tolerated_loss=0.03, newest=500, slices=DECLARED, **times)
    assert blind.slices == ()
