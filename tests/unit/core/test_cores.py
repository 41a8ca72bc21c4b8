"""As many threads as the container may use, whatever the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from monitoring.core.cores import one_algebra_thread, usable_cores

ALLOWED = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", ALLOWED), ("100000 100000", 1), ("20000 100000", 1), ("99900000 100000", ALLOWED)],
)
def test_a_cgroup_v2_quota_bounds_the_threads(tmp_path: Path, limit: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", ALLOWED), ("50000", 1)])
def test_a_cgroup_v1_quota_bounds_the_threads(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert usable_cores(tmp_path) == cores


def test_without_a_quota_the_affinity_decides(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == ALLOWED


def test_linear_algebra_stays_on_the_thread_that_asks_for_it() -> None:
    assert np.ones(2) @ np.ones(2) == 2  # numpy has loaded its library
    with threadpool_limits():  # gives back what it finds
        one_algebra_thread()
        found = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert found
    assert set(found) == {1}
