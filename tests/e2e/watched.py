"""A real Prometheus that scrapes a Leeway under way, and what dashboards get from it."""

from __future__ import annotations

import math
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.processes import PATIENCE

SCRAPE_SECONDS = 1
VARIABLE = re.compile(r"\$(\w+)")


@dataclass(frozen=True)
class Prometheus:
    """Answers as a Grafana would get them that shows the time from `begin` on."""

    http: httpx.Client
    begin: float

    def values(self, target: Mapping[str, Any], *, end: float) -> list[float]:
        """What the query of a panel's target gives up to `end`, all series together; nan is no value."""
        shown = {
            "__rate_interval": f"{4 * SCRAPE_SECONDS}s",
            "__range": f"{end - self.begin:.0f}s",
        }
        query = VARIABLE.sub(lambda found: shown.get(found[1], ".+"), target["expr"])  # every choice is All
        if target["instant"]:
            series = self._ask("/api/v1/query", query=query, time=end)
            found = [one["value"] for one in series]
        else:
            series = self._ask("/api/v1/query_range", query=query, start=self.begin, end=end, step=SCRAPE_SECONDS)
            found = [pair for one in series for pair in one["values"]]
        return [value for _, text in found if not math.isnan(value := float(text))]

    def marks(self, annotation: Mapping[str, Any], *, end: float) -> int:
        """How many points in time an annotation marks up to `end`, at its own step.

        The last of those points is `end` itself: an event younger than one step would else wait for the next.
        """
        step = int(annotation["step"].removesuffix("s"))
        query = VARIABLE.sub(".+", annotation["expr"])
        start = end - (end - self.begin) // step * step
        series = self._ask("/api/v1/query_range", query=query, start=start, end=end, step=step)
        return sum(len(one["values"]) for one in series)

    def last_up(self) -> float:
        """The last moment at which every target answered."""
        series = self._ask(
            "/api/v1/query_range", query="min(up) == 1", start=self.begin, end=time.time(), step=SCRAPE_SECONDS
        )
        return float(series[0]["values"][-1][0])

    def _ask(self, path: str, **query: Any) -> list[dict[str, Any]]:
        answer = self.http.get(path, params=query).json()
        assert answer["status"] == "success", f"{answer.get('error')}: {query['query']}"
        return list(answer["data"]["result"])


@contextmanager
def prometheus_on(binary: Path, folder: Path, targets: Mapping[str, str], *, port: int) -> Iterator[Prometheus]:
    """Scrape `targets`, job → host:port, while the context lasts."""
    jobs = "".join(
        f'  - job_name: {job}\n    static_configs: [{{targets: ["{address}"]}}]\n' for job, address in targets.items()
    )
    config = folder / "prometheus.yml"
    config.write_text(f"global: {{scrape_interval: {SCRAPE_SECONDS}s}}\nscrape_configs:\n{jobs}")
    process = subprocess.Popen(
        [
            binary,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'series'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            _await_ready(http, process)
            yield Prometheus(http, time.time())
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _await_ready(http: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if http.get("/-/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("Prometheus did not become ready")
