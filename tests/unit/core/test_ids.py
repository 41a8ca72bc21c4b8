"""Identifiers sort by the time in them, give it back, and nothing else passes for one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.ids import id_time, new_id, unit_hash

YEAR_2200 = 7_258_118_400_000  # milliseconds since the epoch


def uuid7(milliseconds: int, rest: int = 0) -> str:
    return str(UUID(int=milliseconds << 80 | 0x7 << 76 | 0x2 << 62 | rest & (1 << 62) - 1))


def test_a_new_id_is_a_canonical_uuid7_of_this_moment() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    identifier = new_id()
    moment = id_time(identifier)
    assert UUID(identifier).version == 7
    assert moment is not None
    assert before <= moment <= datetime.now(UTC)


def test_no_two_ids_are_the_same() -> None:
    assert len({new_id() for _ in range(10_000)}) == 10_000


@given(
    one=st.integers(0, YEAR_2200),
    other=st.integers(0, YEAR_2200),
    noise=st.integers(0, (1 << 62) - 1),
)
def test_ids_sort_as_their_times_do(one: int, other: int, noise: int) -> None:
    earlier, later = sorted((one, other))
    if earlier < later:
        assert uuid7(earlier, noise) < uuid7(later, ~noise)
    assert id_time(uuid7(later, noise)) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=later)


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        "support@3",
        "00000000-0000-4000-8000-000000000000",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
        "019AAF0E-7C1E-7D3A-9A51-0C3F5D2B8E11",
        "{019aaf0e-7c1e-7d3a-9a51-0c3f5d2b8e11}",
        "urn:uuid:019aaf0e-7c1e-7d3a-9a51-0c3f5d2b8e11",
        "019aaf0e7c1e7d3a9a510c3f5d2b8e11",
        "019aaf0e-7c1e-7d3a-9a51-0c3f5d2b8e1１",
    ],
    ids=["empty", "name", "version 4", "year 10889", "upper case", "braces", "urn", "no hyphens", "wide digit"],
)
def test_what_no_predict_call_returned_has_no_time(identifier: str) -> None:
    assert id_time(identifier) is None


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    assert id_time(text) is None


def test_a_key_is_logged_as_16_hex_digits_that_never_change() -> None:
    assert unit_hash("customer-7") == "698e94ed4ec1a85a"
    assert unit_hash("customer-7") != unit_hash("customer-8")
