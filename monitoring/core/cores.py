"""How many cores this process may use: what its affinity and its container allow, not what the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

from threadpoolctl import threadpool_limits

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """At least 1. A container's quota of 2.5 cores counts as 3 threads: two would leave half a core idle."""
    quota = _cgroup_quota(cgroup)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, math.ceil(quota) if quota is not None else allowed))


def one_algebra_thread() -> None:
    """Keep numpy's linear algebra on the thread that asks for it, in this whole process.

    Its own threads wait by spinning: beside inference threads that fill the cores they cost a third of the throughput.
    """
    threadpool_limits(limits=1, user_api="blas")


def _cgroup_quota(cgroup: Path) -> float | None:
    """Cores that the container may use on average; None without a limit. Reads cgroup v2, then v1."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota == "max" or int(quota) <= 0:
        return None
    return int(quota) / int(period)
