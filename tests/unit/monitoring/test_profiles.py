"""What windows leave behind judges like their rows, and merges exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monitoring.baseline import Baseline
from monitoring.core.errors import Conflict
from monitoring.core.types import SignalFinding
from monitoring.detect import signal_findings
from monitoring.profiles import merge_packed, pack, profile_of, profile_spec, span_findings, unpack
from monitoring.signals import Traffic
from tests.unit.monitoring.synthetic import baseline_of, window_of

MOST_BYTES = 65_536


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return baseline_of(2_000, np.random.default_rng(7))


def part_of(window: Traffic, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Traffic:
    return replace(
        window,
        ids=[window.ids[row] for row in rows],
        units=[window.units[row] for row in rows],
        predicted=window.predicted[rows],
        signals={name: values[rows] for name, values in window.signals.items()},
        projected=window.projected[rows],
        texts=[window.texts[row] for row in rows],
    )


def by_name(findings: tuple[SignalFinding, ...]) -> dict[str, SignalFinding]:
    return {finding.signal: finding for finding in findings}


def test_merged_in_any_order_and_grouping_windows_are_all_their_rows_at_once(
    baseline: Baseline, rng: np.random.Generator
) -> None:
    window, _ = window_of(600, rng, new_topic=0.2)
    spec = profile_spec(baseline)
    whole = profile_of(baseline, spec, window).to_arrays()
    for _ in range(20):
        cuts = np.sort(rng.choice(np.arange(1, 600), size=rng.integers(1, 9), replace=False))
        parts = [
            pack(profile_of(baseline, spec, part_of(window, rows))) for rows in np.split(rng.permutation(600), cuts)
        ]
        grouped = [merge_packed(parts[: len(parts) // 2]), *parts[len(parts) // 2 :]]
        merged = unpack(spec, grouped).to_arrays()
        assert {name: values.tolist() for name, values in merged.items()} == {
            name: values.tolist() for name, values in whole.items()
        }


@pytest.mark.parametrize("new_topic", [0.0, 0.1, 0.5])
def test_a_span_is_judged_as_its_rows_would_be(baseline: Baseline, rng: np.random.Generator, new_topic: float) -> None:
    window, _ = window_of(1_000, rng, new_topic=new_topic)
    profile = profile_of(baseline, profile_spec(baseline), window)
    exact = by_name(signal_findings(baseline, window, leeway=0.1, alpha=0.001))
    binned = by_name(span_findings(baseline, profile, leeway=0.1, alpha=0.001))
    assert binned.keys() == exact.keys()
    for name, finding in exact.items():
        assert binned[name].effect <= finding.effect + 1e-9  # bins never see more than the rows show
        assert binned[name].effect == pytest.approx(finding.effect, abs=0.02)
        assert binned[name].significant == finding.significant


def test_one_clients_many_messages_are_no_more_witnesses_in_a_span_than_in_its_windows(
    baseline: Baseline, rng: np.random.Generator
) -> None:
    crowd, _ = window_of(1_000, rng, new_topic=0.15)
    from_topic = np.array(["zebra" in (text or "") for text in crowd.texts])
    few = replace(crowd, units=["bot" if odd else unit for odd, unit in zip(from_topic, crowd.units, strict=True)])
    spec = profile_spec(baseline)
    free, bound = (profile_of(baseline, spec, window) for window in (crowd, few))
    assert free.worth == 1.0
    assert bound.worth < 0.2
    merged = unpack(spec, [pack(bound), pack(bound)])
    assert merged.worth == pytest.approx(bound.worth)
    for window, profile in ((crowd, free), (few, bound)):
        exact = by_name(signal_findings(baseline, window, leeway=0.1, alpha=0.001))["strangeness"]
        span = by_name(span_findings(baseline, profile, leeway=0.1, alpha=0.001))["strangeness"]
        assert span.effect == pytest.approx(exact.effect, rel=0.05)
        assert span.significant == exact.significant


def test_texts_that_are_not_kept_and_scores_that_are_not_numbers_are_no_drift(
    baseline: Baseline, rng: np.random.Generator
) -> None:
    window, _ = window_of(500, rng, texts_kept=False)
    window.signals["entropy"][:] = np.nan
    findings = by_name(
        span_findings(baseline, profile_of(baseline, profile_spec(baseline), window), leeway=0.1, alpha=0.05)
    )
    for name in ("vocabulary", "entropy"):
        assert np.isnan(findings[name].effect)
        assert not findings[name].significant


def test_a_class_that_the_baseline_lacks_is_counted_as_another(baseline: Baseline, rng: np.random.Generator) -> None:
    window, _ = window_of(500, rng)
    strange = replace(window, predicted=np.where(rng.random(500) < 0.3, "martian", window.predicted))
    profile = profile_of(baseline, profile_spec(baseline), strange)
    assert profile.class_counts[-1] == (strange.predicted == "martian").sum()
    assert by_name(span_findings(baseline, profile, leeway=0.1, alpha=0.001))["labels"].significant


def test_whole_numbers_have_whole_bins_and_shares_are_resolved_evenly(baseline: Baseline) -> None:
    spec = profile_spec(baseline)
    assert np.array_equal(spec.edges["length"], np.rint(spec.edges["length"]))
    for name in ("confidence", "margin", "vocabulary"):
        assert np.diff(spec.edges[name][(spec.edges[name] >= 0) & (spec.edges[name] <= 1)]).max() < 0.04


def test_profiles_of_different_baselines_never_merge(baseline: Baseline, rng: np.random.Generator) -> None:
    other = baseline_of(1_000, np.random.default_rng(8))
    window, _ = window_of(100, rng)
    states = [pack(profile_of(which, profile_spec(which), window)) for which in (baseline, other)]
    with pytest.raises(ValueError, match="different baselines"):
        merge_packed(states)
    with pytest.raises(Conflict, match="against another baseline"):
        unpack(profile_spec(baseline), states[1:])
    renamed = replace(baseline, classes=tuple(reversed(baseline.classes)))
    assert profile_spec(renamed).digest != profile_spec(baseline).digest
    assert profile_spec(baseline).digest == profile_spec(baseline).digest


def test_the_state_is_small_with_many_classes_and_rows(rng: np.random.Generator) -> None:
    classes = tuple(f"class-{number}" for number in range(200))
    large = baseline_of(2_000, rng)
    counts = rng.integers(1, 20, 200)
    large = replace(large, classes=classes, class_counts=counts, surprise=np.ones(200))
    window, _ = window_of(20_000, rng)
    state = pack(profile_of(large, profile_spec(large), replace(window, predicted=rng.choice(classes, 20_000))))
    assert len(state) < MOST_BYTES
    with pytest.raises(Conflict, match="cannot be read"):
        unpack(profile_spec(large), [state[:500]])


@pytest.mark.parametrize("place", [0.0, 0.2, 0.5, 0.9])
def test_whatever_is_wrong_with_a_state_it_is_said_to_be_unreadable(baseline: Baseline, place: float) -> None:
    window, _ = window_of(200, np.random.default_rng(3))
    spec = profile_spec(baseline)
    state = pack(profile_of(baseline, spec, window))
    start = int(place * len(state))
    spoilt = state[:start] + bytes(byte ^ 0xFF for byte in state[start : start + 40]) + state[start + 40 :]
    for damaged in (spoilt, b""):
        with pytest.raises(Conflict, match="cannot be read"):
            unpack(spec, [damaged])
