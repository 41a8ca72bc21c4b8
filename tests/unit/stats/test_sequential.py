import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.stats import rank_bets
from monitoring.stats.binning import bin_indices
from monitoring.stats.sequential import DetectorAlarm, EDetector, bin_edges

SCORES = ("confidence", "distance", "length")


def traffic(rng, n, new=0.0):
    """Scores that depend on each other; a share `new` of a topic that is less confident and further away."""
    hidden, is_new = rng.normal(size=n), rng.random(n) < new
    confidence = 1 / (1 + np.exp(-(2.5 + 1.5 * hidden + rng.normal(size=n) - 3 * is_new)))
    distance = np.exp(-0.5 * hidden + 0.5 * rng.normal(size=n) + 2.5 * is_new)
    return {"confidence": confidence, "distance": distance, "length": rng.poisson(12, size=n).astype(float)}


def detector(rng, baseline=1000, threshold=1e6):
    edges = {name: bin_edges(values) for name, values in traffic(rng, 1000).items()}
    return EDetector.start(edges, traffic(rng, baseline), threshold)


def part(scores, start, stop):
    return {name: values[start:stop] for name, values in scores.items()}


def saved_and_loaded(watcher):
    file = io.BytesIO()
    np.savez(file, **watcher.to_arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        return EDetector.from_arrays(arrays)


@pytest.mark.parametrize(
    ("threshold", "baseline", "predictions"),
    [(1e3, 300, 60_000), (1e3, 2000, 60_000), (1e4, 300, 150_000), (1e4, 2000, 150_000)],
)
def test_false_alarms_are_no_closer_than_the_threshold_on_average(threshold, baseline, predictions):
    rng = np.random.default_rng([int(threshold), baseline])
    watcher = detector(rng, baseline, threshold)
    alarms = [alarm for _ in range(predictions // 5000) for alarm in watcher.update(traffic(rng, 5000), rng)]
    assert 2 <= len(alarms) <= predictions / threshold  # none at all would mean a test without teeth


@pytest.mark.parametrize(("new", "median_delay"), [(0.05, 350), (0.2, 70), (0.5, 25)])
def test_a_new_topic_is_found_soon_and_its_onset_estimated(new, median_delay):
    rng = np.random.default_rng(int(new * 100))
    delays, onset_errors = [], []
    for _ in range(9):
        watcher = detector(rng, baseline=2000)
        assert watcher.update(traffic(rng, 2000), rng) == []
        alarm = watcher.update(traffic(rng, 2000, new), rng)[0]
        assert alarm.leading_score in ("confidence", "distance")
        assert alarm.n_seen == 2000 + alarm.index + 1
        delays.append(alarm.index + 1)
        onset_errors.append(alarm.index + 1 - alarm.onset_back)
    assert np.median(delays) <= median_delay
    assert abs(np.median(onset_errors)) <= max(10, median_delay / 4)


def test_the_statistic_is_the_mixture_of_shiryaev_roberts_sums(rng):
    """The batched computation against the recursion as it is written in the paper."""
    values = {"confidence": rng.normal(size=(200))}
    edges = {"confidence": bin_edges(rng.normal(size=200), 32)}
    watcher = EDetector.start(edges, {"confidence": [0.0]}, threshold=1e9)
    uniforms = np.random.default_rng(7).random((200, 1))
    seen = [int(bin_indices([0.0], edges["confidence"])[0])]
    sums, memory = np.zeros(rank_bets.BETTORS), rank_bets.no_memory(1)
    for own, uniform in zip(
        bin_indices(values["confidence"], edges["confidence"]).tolist(), uniforms[:, 0], strict=True
    ):
        seen.append(own)
        rank = (sum(bin < own for bin in seen) + uniform * seen.count(own)) / len(seen)
        e_values, memory = rank_bets.play(rank_bets.cells_of(np.array([[rank]])), memory)
        sums = (1 + sums) * e_values[0, 0]
    watcher.update(values, np.random.default_rng(7))
    assert watcher.statistic == pytest.approx(math.log1p(float(sums @ rank_bets.SHARES)))


@settings(max_examples=10)
@given(st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_one_call_or_two_make_no_difference(cut, seed):
    rng = np.random.default_rng(seed)
    stream = traffic(rng, 300, new=0.3)
    at_once, in_two = detector(np.random.default_rng(seed)), detector(np.random.default_rng(seed))
    alarms = at_once.update(stream, np.random.default_rng(1))
    ties = np.random.default_rng(1)
    halves = [*in_two.update(part(stream, 0, cut), ties), *in_two.update(part(stream, cut, 300), ties)]
    assert [(a.n_seen, a.leading_score) for a in alarms] == [(a.n_seen, a.leading_score) for a in halves]
    assert in_two.statistic == pytest.approx(at_once.statistic)


def test_a_saved_detector_goes_on_exactly_as_the_one_in_memory(rng):
    watcher = detector(rng, baseline=500)
    watcher.update(traffic(rng, 333), rng)
    copy = saved_and_loaded(watcher)
    assert {k: v.tolist() for k, v in copy.to_arrays().items()} == {
        k: v.tolist() for k, v in watcher.to_arrays().items()
    }
    rest = traffic(rng, 500, new=0.2)
    alarms = watcher.update(rest, np.random.default_rng(3))
    assert alarms == copy.update(rest, np.random.default_rng(3)) != []
    assert copy.statistic == watcher.statistic
    assert copy.contributions() == watcher.contributions()


def test_state_does_not_grow(rng):
    watcher = detector(rng)
    sizes = set()
    for _ in range(3):
        watcher.update(traffic(rng, 2000), rng)
        sizes.add(sum(array.nbytes for array in watcher.to_arrays().values()))
    assert len(sizes) == 1
    assert sizes.pop() < 400_000


def test_after_an_alarm_evidence_starts_from_nothing(rng):
    watcher, drifted = detector(rng), traffic(rng, 500, new=0.5)
    watcher.update(part(drifted, 0, 3), np.random.default_rng(2))
    assert watcher.statistic > 0
    assert sum(watcher.contributions().values()) == pytest.approx(1)

    copy = saved_and_loaded(watcher)
    first, *_ = copy.update(part(drifted, 3, 500), np.random.default_rng(2))
    assert watcher.update(part(drifted, 3, 3 + first.index + 1), np.random.default_rng(2)) == [first]
    assert watcher.statistic == 0
    assert set(watcher.contributions().values()) == {0.0}
    assert watcher.n_seen == first.n_seen


def test_alarms_are_plain_values(rng):
    watcher = detector(rng)
    alarm = watcher.update(traffic(rng, 200, new=0.9), rng)[0]
    assert isinstance(alarm, DetectorAlarm)
    assert [type(getattr(alarm, name)) for name in alarm.__dataclass_fields__] == [int, int, float, str, int, bool]
    assert alarm.log_statistic >= math.log(watcher.threshold)
    assert 1 <= alarm.onset_back <= alarm.n_seen


def test_a_score_that_stops_being_computed_is_a_change(rng):
    watcher = detector(rng)
    broken = traffic(rng, 100)
    broken["length"][:] = np.nan
    alarm = watcher.update(broken, rng)[0]
    assert alarm.leading_score == "length"


def test_scores_that_never_vary_or_never_exist_raise_nothing(rng):
    constant, missing = np.ones(2000), np.full(2000, np.nan)
    edges = {"constant": bin_edges(constant), "missing": bin_edges(missing)}
    watcher = EDetector.start(edges, {"constant": constant, "missing": missing}, threshold=1e4)
    assert watcher.update({"constant": constant, "missing": missing}, rng) == []


def test_ten_rows_of_baseline_and_an_empty_update_are_allowed(rng):
    watcher = detector(rng, baseline=10)
    assert watcher.update(traffic(rng, 0), rng) == []
    assert watcher.statistic == 0
    assert watcher.n_seen == 0
    watcher.update(traffic(rng, 1), rng)
    assert watcher.n_seen == 1


def test_bad_input_is_named(rng):
    watcher = detector(rng)
    scores = traffic(rng, 5)
    with pytest.raises(ValueError, match="scores must be"):
        watcher.update({"confidence": scores["confidence"]}, rng)
    with pytest.raises(ValueError, match="one length"):
        watcher.update({**scores, "length": [1.0]}, rng)
    with pytest.raises(ValueError, match="'length' must be one-dimensional"):
        watcher.update({**scores, "length": np.zeros((5, 1))}, rng)
    with pytest.raises(ValueError, match="threshold"):
        EDetector.start({"x": [0.0]}, {"x": [0.0]}, threshold=0.5)
    with pytest.raises(ValueError, match="at least one score"):
        EDetector.start({}, {}, threshold=10)
    with pytest.raises(ValueError, match="format"):
        EDetector.from_arrays({})


def test_the_onset_is_suspected_before_an_alarm_is_due(rng):
    watcher = detector(rng, threshold=1e200)
    assert watcher.onset_back == 0
    assert watcher.update(traffic(rng, 500), rng) == []
    assert watcher.update(traffic(rng, 60, new=0.9), rng) == []
    assert watcher.onset_back == pytest.approx(60, abs=10)
