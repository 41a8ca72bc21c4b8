"""Declared slices: judged against their own past within the window's level; all other metadata only explain."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from monitoring.baseline import Baseline
from monitoring.core.errors import MisConfigured
from monitoring.core.settings import MonitorSettings, load_settings
from monitoring.core.types import SliceFinding, Verdict
from monitoring.signals import Traffic, picked
from monitoring.slice_memory import LEAST_REFERENCE, NO_MEMORY, REFERENCE_ROWS, SliceMemory
from monitoring.slice_tests import judge_slices, verdict_with_slices
from monitoring.slice_values import MAX_KEYS, MAX_VALUES, UsualValues, moved_values
from monitoring.slices import MAX_SLICES, Metadata, family_size, read_metadata, slices_of
from tests.unit.monitoring.sliced import judged, sliced_window, stable, with_metadata
from tests.unit.monitoring.synthetic import baseline_of, window_of

BY_CHANNEL = MonitorSettings(slices=("channel",))


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    """Two thousand rows."""
    return baseline_of(2000, np.random.default_rng(5))


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "null", '{"a": 1}'])
def test_what_is_no_metadata_is_read_as_none(text: str | None) -> None:
    assert read_metadata(text) == {}


def test_a_row_belongs_to_the_declared_slices() -> None:
    metadata = {"channel": "chat", "language": "de", "note": "a=b"}
    assert slices_of(metadata, ["channel", "language=de", "channel=chat"]) == ("channel=chat", "language=de")
    assert slices_of(metadata, ["language=en", "absent"]) == ()
    assert slices_of(metadata, ["note=a=b"]) == ("note=a=b",)
    assert (family_size(["a=1", "a=2"]), family_size(["a=1", "b"]), family_size([])) == (2, MAX_SLICES, 0)


def test_settings_refuse_slices_that_mean_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    for wrong in ([""], ["=de"], ["a", "a"], [f"a={n}" for n in range(51)]):
        with pytest.raises(MisConfigured, match="slices"):
            load_settings(home=tmp_path_factory.mktemp("home"), monitor={"slices": wrong})


def test_a_slice_that_moved_is_found_and_the_others_are_not(baseline: Baseline, rng: np.random.Generator) -> None:
    memory = NO_MEMORY
    sizes = {"mail": 700, "chat": 150, "phone": 150}
    for _ in range(3):
        report, memory = judged(memory, baseline, sliced_window(sizes, rng), BY_CHANNEL)
        assert report.verdict is Verdict.STABLE
        assert not any(one.significant for one in report.slices)
    report, after = judged(memory, baseline, sliced_window(sizes, rng, new_topic={"chat": 0.6}), BY_CHANNEL)
    assert [one.slice for one in report.slices if one.significant] == ["channel=chat"]
    found = report.slices[0]
    assert (found.slice, found.n, found.harmful) == ("channel=chat", 150, True)
    assert found.effect > 0.3
    assert report.verdict is Verdict.DRIFT
    assert "channel=chat moved beyond the leeway" in report.reason
    assert after.references["channel=chat"] is memory.references["channel=chat"]
    json.dumps(report.moved, allow_nan=False)


def test_a_slice_that_moved_to_its_harm_is_drift_though_the_whole_cannot_be_told(
    baseline: Baseline, rng: np.random.Generator
) -> None:
    """Few clients sent the rest; those of the chat are many."""
    memory, sizes = NO_MEMORY, {"mail": 850, "chat": 150}

    def from_few(window: Traffic) -> Traffic:
        assert window.metadata is not None
        mail = window.metadata.rows_by_slice(["channel=mail"])["channel=mail"]
        first = np.arange(len(window))
        first[mail] = mail[np.arange(len(mail)) % 20]  # twenty clients, who say the same over and over
        return replace(
            picked(window, first), units=[str(row) for row in first], ids=window.ids, metadata=window.metadata
        )

    for _ in range(3):
        report, memory = judged(memory, baseline, from_few(sliced_window(sizes, rng)), BY_CHANNEL)
        assert report.verdict is Verdict.INCONCLUSIVE
    moved = from_few(sliced_window(sizes, rng, new_topic={"chat": 0.6}))
    report, _ = judged(memory, baseline, moved, BY_CHANNEL)
    assert verdict_with_slices(Verdict.INCONCLUSIVE, "too little data", report.slices)[0] is Verdict.DRIFT
    assert [one.slice for one in report.slices if one.harmful] == ["channel=chat"]
    assert report.verdict is Verdict.DRIFT
    assert "channel=chat moved beyond the leeway" in report.reason


def test_what_moved_without_harm_does_not_settle_what_cannot_be_told() -> None:
    found = SliceFinding("channel=chat", 100, "length", 0.2, 1e-9, 0.1, True, False, "", 0, None, None, False)
    verdict, reason = verdict_with_slices(Verdict.INCONCLUSIVE, "too little data", [found])
    assert verdict is Verdict.INCONCLUSIVE
    assert "slices moved without harm: channel=chat" in reason


@pytest.mark.parametrize("together", ["client", "minute"])
def test_rows_of_a_slice_that_come_together_are_no_independent_witnesses(
    baseline: Baseline, rng: np.random.Generator, together: str
) -> None:
    """Each window of the chat has 15 clients, or minutes, of whom each says one thing ten times; 20 windows at 1 %."""
    found = {"aware": 0, "unaware": 0}
    memory = NO_MEMORY
    for number in range(24):
        window = sliced_window({"mail": 150, "chat": 150}, rng)
        assert window.metadata is not None
        chat = window.metadata.rows_by_slice(["channel=chat"])["channel=chat"]
        first = np.arange(len(window))
        first[chat] = np.repeat(chat[:15], 10)
        alone = replace(picked(window, first), units=window.units, ids=window.ids, metadata=window.metadata)
        if together == "client":
            aware = replace(alone, units=[f"{number} {row}" for row in first])
        else:
            aware = replace(alone, seconds=(number * 1_000 + first) * 600)
        for name, traffic in (("aware", aware), ("unaware", alone)):
            _, slices = judge_slices(memory, baseline, traffic, (), settings=BY_CHANNEL, alpha=0.01)
            found[name] += number >= 4 and any(one.significant for one in slices if one.slice == "channel=chat")
        memory = memory.after(baseline, aware, stable(()), BY_CHANNEL.slices)
    assert found["unaware"] > 10
    assert found["aware"] <= 2


def test_a_slice_that_was_always_different_is_no_finding(baseline: Baseline, rng: np.random.Generator) -> None:
    memory = NO_MEMORY
    for _ in range(6):
        window = sliced_window({"mail": 900, "chat": 100}, rng, new_topic={"chat": 0.5})
        report, memory = judged(memory, baseline, window, BY_CHANNEL)
        assert not any(one.significant for one in report.slices)


def test_rows_of_a_small_slice_wait_until_they_are_enough(baseline: Baseline, rng: np.random.Generator) -> None:
    memory, tested = NO_MEMORY, []
    for _ in range(8):
        report, memory = judged(memory, baseline, sliced_window({"mail": 300, "chat": 20}, rng), BY_CHANNEL)
        [chat] = [one for one in report.slices if one.slice == "channel=chat"]
        tested.append(bool(chat.signal))
    assert tested == [False] * 7 + [True]  # five windows make the reference of 100, three more the 50 to test
    assert len(memory.references["channel=chat"]) == LEAST_REFERENCE + 60
    assert "channel=chat" not in memory.waiting


def test_family_wise_false_alarms_of_twenty_slices_stay_within_the_level() -> None:
    """A level of 0.1 over 120 null windows, with 20 slices that differ among each other: 12 false ones are expected at
    most, and more than 22 would have a chance of 0.2 %.
    """
    rng = np.random.default_rng(21)
    settings = MonitorSettings(slices=tuple(f"channel=c{number}" for number in range(20)))
    strange = {f"c{number}": 0.04 * (number % 10) for number in range(20)}
    false, tests = 0, 0
    baseline = baseline_of(600, rng)
    for _ in range(6):
        memory = NO_MEMORY
        for number in range(23):
            sizes = {f"c{number}": 55 for number in range(20)}
            window = sliced_window(sizes, rng, new_topic=strange)
            # The whole, a mixture of them, is not like the baseline, and is left out of the family.
            _, slices = judge_slices(memory, baseline, window, (), settings=settings, alpha=0.1)
            memory = memory.after(baseline, window, stable(slices), settings.slices)
            if number >= 3:
                tests += 1
                false += any(one.significant for one in slices)
    assert tests == 120
    assert false <= 22


def test_the_memory_is_bounded_and_survives_being_kept(baseline: Baseline, rng: np.random.Generator) -> None:
    memory = NO_MEMORY
    for _ in range(3):
        sizes = {f"c{number}": 12 for number in range(60)} | {"much": 400}
        _, memory = judged(memory, baseline, sliced_window(sizes, rng), BY_CHANNEL)
    assert len(memory.references) <= MAX_SLICES
    assert len(memory.references["channel=much"]) == REFERENCE_ROWS
    again = SliceMemory.from_bytes(memory.to_bytes())
    assert again.references.keys() == memory.references.keys()
    for name, rows in memory.references.items():
        kept = again.references[name]
        assert kept.predicted.tolist() == rows.predicted.tolist()
        np.testing.assert_array_equal(kept.projected, rows.projected)
        np.testing.assert_array_equal(kept.clients, rows.clients)
        np.testing.assert_array_equal(kept.seconds, rows.seconds)
        for signal, values in rows.signals.items():
            np.testing.assert_allclose(kept.signals[signal], values, rtol=1e-6)
    assert again.usual.to_json() == memory.usual.to_json()
    assert len(memory.to_bytes()) < 1_000_000
    for broken in (None, b"", b"PK", NO_MEMORY.to_bytes()):
        assert SliceMemory.from_bytes(broken).references == {}


def test_rare_values_of_a_key_are_no_slices(baseline: Baseline, rng: np.random.Generator) -> None:
    window = sliced_window({"mail": 300} | {f"typo{number}": 1 for number in range(100)}, rng)
    report, memory = judged(NO_MEMORY, baseline, window, BY_CHANNEL)
    assert {one.slice for one in report.slices} == {"channel=mail"} == memory.references.keys()


def test_undeclared_metadata_explain_what_moved_where(baseline: Baseline, rng: np.random.Generator) -> None:
    usual = UsualValues()
    for _ in range(4):
        usual = usual.joined_by(sliced_window({"mail": 400, "chat": 100, "phone": 50}, rng))
    window = sliced_window({"mail": 250, "chat": 250, "phone": 50}, rng, new_topic={"chat": 0.3})
    told = {(entry["slice"], entry["what"]): entry for entry in moved_values(usual, baseline, window)}
    assert told["channel=chat", "share"]["n"] == 250
    assert told["channel=chat", "share"]["effect"] == pytest.approx(250 / 550 - 100 / 550)
    assert told["channel=chat", "similarity"]["effect"] < -0.05
    assert told["channel=chat", "confidence"]["usual_n"] == 400
    assert not any(name == "channel=phone" for name, _ in told)
    json.dumps(list(told.values()), allow_nan=False)


def test_values_that_did_not_move_are_not_told(baseline: Baseline) -> None:
    """Each window as usual gets an entry with a chance of 0.1 %; two in forty would have one of 0.08 %."""
    rng = np.random.default_rng(8)
    told, usual = 0, UsualValues()
    sizes = {f"c{number}": 40 for number in range(8)}
    for number in range(45):
        counts = rng.multinomial(320, [1 / 8] * 8)
        window = sliced_window({name: int(count) for name, count in zip(sizes, counts, strict=True)}, rng)
        told += number >= 5 and bool(moved_values(usual, baseline, window))
        usual = usual.joined_by(window)
    assert told <= 1


def test_what_is_usual_is_bounded(baseline: Baseline, rng: np.random.Generator) -> None:
    usual, window = UsualValues(), window_of(400, rng)[0]
    rows = [{"request": f"r{n}", f"z{n}": "x", "channel": "mail"} for n in range(400)]
    usual = usual.joined_by(with_metadata(window, rows))
    assert len(usual.sums) <= MAX_KEYS
    assert all(len(values) <= MAX_VALUES for values in usual.sums.values())
    assert usual.crowded == {"request"}
    others = [{"request": f"new{n}", "channel": "mail"} for n in range(400)]
    assert moved_values(usual, baseline, with_metadata(window, others)) == []


def test_a_million_rows_are_read_by_their_kinds() -> None:
    codes = np.arange(1_000_000) % 3
    metadata = Metadata.parse(codes, ['{"channel": "a"}', '{"channel": "b"}', None])
    assert {name: len(rows) for name, rows in metadata.rows_by_slice(["channel"]).items()} == {
        "channel=a": 333_334,
        "channel=b": 333_333,
    }
