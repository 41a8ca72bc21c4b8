"""`leeway demo`, from first training to promotion: the loop closes, and every panel and annotation of every dashboard
shows it.

A Prometheus scrapes it all the while, beside the demo and after it, as Grafana would be shown the whole story.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from grafana.build import dashboards
from tests.e2e.processes import MAIN, PATIENCE
from tests.e2e.test_up import free_ports
from tests.e2e.watched import Prometheus, prometheus_on

pytestmark = [pytest.mark.slow, pytest.mark.prometheus]

# A rollout may honestly end without a verdict (alpha is 5 %, and the messages are finite): one other seed is allowed.
SEEDS = (1, 2)
LONGEST = 1_800.0  # seconds; the story itself gives up long before


@dataclass(frozen=True)
class Played:
    """A demo that has ended, and the Prometheus that has watched it."""

    closed: bool
    said: str
    prometheus: Prometheus


def test_the_loop_closes_and_every_panel_shows_it(
    prometheus: Path, home: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for seed in SEEDS:
        with played(prometheus, tmp_path / str(seed), seed) as story:
            if story.closed:
                assert_every_panel_answers(story.prometheus, subtests)
                return
    pytest.fail(story.said)


def assert_every_panel_answers(server: Prometheus, subtests: pytest.Subtests) -> None:
    """At the last moment at which all was still up."""
    end = server.last_up() - 1
    for name, board in dashboards().items():
        for panel in json.loads(board)["panels"]:
            for target in panel.get("targets", ()):
                with subtests.test(f"{name} {panel['id']}{target['refId']}: {panel['title']}"):
                    assert server.values(target, end=end), f"no data for {target['expr']}"
        for annotation in json.loads(board)["annotations"]["list"]:
            with subtests.test(f"{name}: {annotation['name']}"):
                assert server.marks(annotation, end=end), f"no data for {annotation['expr']}"


@contextmanager
def played(prometheus: Path, folder: Path, seed: int) -> Iterator[Played]:
    """Play it without questions to its end; stopped if something goes wrong meanwhile."""
    folder.mkdir()
    options = ["--home", str(folder / "home"), "--summary", str(folder / "summary.json"), "--seed", str(seed)]
    with (folder / "said.txt").open("wb") as said:
        demo = subprocess.Popen([*MAIN, "demo", "--yes", "--exit", *options], stdout=said, stderr=said)
    try:
        ports = await_ports(folder / "home" / "leeway.toml", demo)
        targets = {f"leeway-{role}": f"127.0.0.1:{port}" for role, port in ports.items()}
        with prometheus_on(prometheus, folder, targets, port=free_ports(1)[0]) as server:
            demo.wait(LONGEST)
            yield Played(demo.returncode == 0, (folder / "said.txt").read_text(errors="replace"), server)
    finally:
        if demo.poll() is None:
            demo.send_signal(signal.SIGINT)
            demo.wait(PATIENCE)


def await_ports(config: Path, demo: subprocess.Popen[bytes]) -> dict[str, int]:
    """Where the service and its monitor are going to answer: the demo writes it down before it starts them."""
    deadline = time.monotonic() + PATIENCE
    while demo.poll() is None and time.monotonic() < deadline:
        if config.exists() and "[alerts]" in (text := config.read_text()):
            settings = tomllib.loads(text)
            return {"serve": settings["server"]["port"], "monitor": settings["monitor"]["port"]}
        time.sleep(0.1)
    raise AssertionError("the demo did not begin")
