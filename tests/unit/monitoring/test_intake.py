"""Places in the stream stay right however it is cut."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.ledger.rollout_evidence import SILENT_STEP
from monitoring.core.prediction_log import SCHEMA
from monitoring.intake import Reign, StreamPoint, commits_of, exposures_of
from tests.unit.monitoring.synthetic import NOW

REIGN = Reign("v1", NOW)


def rows_of(*rows: dict[str, Any]) -> pa.Table:
    """Log rows; what is not given is the champion's."""
    usual = {
        "version": "v1",
        "counted": True,
        "variant": "production",
        "commit": 1,
        "at": NOW,
        "unit": "ann",
        "latency_ms": 5.0,
    }
    numbered = [
        usual | {"prediction_id": f"{number:03}", "share": 0.5, "step": 0} | row for number, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(numbered, schema=SCHEMA)


@given(
    commits=st.lists(st.integers(1, 5), min_size=1, max_size=30).map(sorted),
    cuts=st.lists(st.integers(1, 30), max_size=5),
)
def test_a_stream_read_on_from_any_place_is_the_rest(commits: list[int], cuts: list[int]) -> None:
    stream = rows_of(*({"commit": commit} for commit in commits))
    point, rest = StreamPoint(0, commits[0], 0), stream
    for cut in cuts:
        taken = min(cut, len(rest))
        if taken == 0:
            break
        point, rest = point.after(rest, taken), rest.slice(taken)
        numbers = stream["commit"].to_numpy()
        read_again = stream.filter(pa.array(numbers >= point.commit)).slice(point.skip)
        assert read_again["prediction_id"].to_pylist() == rest["prediction_id"].to_pylist()
        assert point.position + len(rest) == len(stream)


def test_the_stream_is_what_the_champion_answered_in_its_reign_in_a_fixed_order() -> None:
    later = NOW + timedelta(seconds=1)
    rows = rows_of(
        {"commit": 2, "at": NOW},
        {"commit": 1, "at": later},
        {"commit": 1, "at": NOW},
        {"commit": 1, "at": NOW - timedelta(seconds=1)},
        {"commit": 1, "variant": "candidate"},
        {"commit": 1, "variant": "shadow"},
        {"commit": 1, "error": "timeout"},
        {"commit": 1, "version": "v2"},
        {"commit": 1, "counted": False},
    )
    assert REIGN.stream(rows)["prediction_id"].to_pylist() == ["002", "001", "000"]
    parts = [(commit, part["prediction_id"].to_pylist()) for commit, part in commits_of(REIGN.stream(rows))]
    assert parts == [(1, ["002", "001"]), (2, ["000"])]
    assert list(commits_of(REIGN.stream(rows_of()))) == []


def test_exposures_are_counted_by_unit_and_step() -> None:
    arm = {"rollout": "r", "variant": "candidate", "unit": "eve"}
    rows = rows_of(
        arm | {"at": NOW + timedelta(seconds=9), "latency_ms": 500.0},
        arm | {"error": "timeout"},
        arm | {"step": 1},
        {"rollout": "r"},
        {"rollout": "r", "step": -1, "share": 0.0, "variant": "shadow", "error": "it does not load"},
        {"rollout": "r", "step": -1, "share": 0.0},
        {"rollout": None},
    )
    found = {(row.step, row.unit): row for row in exposures_of(rows, slow_ms=200.0)}
    assert found.keys() == {(0, "eve"), (1, "eve"), (0, "ann"), (-1, "ann"), (SILENT_STEP, "ann")}
    eve = found[0, "eve"]
    assert (eve.candidate, eve.first_seen, eve.requests, eve.errors, eve.slow) == (True, NOW, 2, 1, 1)
    assert not found[0, "ann"].candidate
    silent, answered = found[SILENT_STEP, "ann"], found[-1, "ann"]
    assert (silent.candidate, silent.requests, silent.errors) == (True, 1, 1)
    assert (answered.candidate, answered.requests, answered.errors) == (False, 1, 0)


def test_no_rows_are_no_exposures() -> None:
    assert exposures_of(rows_of(), slow_ms=200.0) == []
    assert np.array_equal(REIGN.stream(rows_of())["commit"].to_numpy(), [])
