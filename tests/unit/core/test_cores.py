"""As many threads as the container may use, whatever the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monitoring.core.cores import usable_cores

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
