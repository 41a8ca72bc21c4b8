"""A fault's whole way on real servers: pending, firing, Alertmanager, webhook, resolved; the delays are printed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from grafana import observe
from monitoring.core.cli import open_ledger
from monitoring.core.settings import load_settings
from service.demo.backstage import free_ports

MONITOR = [sys.executable, "-c", "from monitoring.cli import monitor; monitor()"]
PATIENCE = 60.0
Killable = subprocess.Popen[bytes]
SHORTER = {"group_wait: 10s": "group_wait: 100ms", "group_interval: 5m": "group_interval: 500ms"}

pytestmark = pytest.mark.prometheus


class Way:
    """When each station was reached, in seconds since the fault."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.reached: dict[str, float] = {}

    def wait(self, station: str, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not there():
            assert time.monotonic() < deadline, f"{station} is not reached; before it: {self.reached}"
            time.sleep(0.05)
        self.reached[station] = time.monotonic() - self.began


class Posts:
    """What the webhook got."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str]] = []

    def __call__(self, path: str, message: Mapping[str, Any]) -> None:
        self.got += [(path, alert["status"]) for alert in message["alerts"] if _is_ours(alert["labels"])]


@pytest.fixture
def monitor(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], Killable]]:
    """Starts `leeway monitor`, again and again on the same port, and returns when it answers."""
    url = f"http://127.0.0.1:{free_ports(1)[0]}/metrics"
    monkeypatch.setenv("LEEWAY_MONITOR__PORT", url.split(":")[2].partition("/")[0])
    open_ledger(load_settings(), create=True).close()
    with ExitStack() as stack:
        yield lambda: stack.enter_context(observe.running(MONITOR, tmp_path / "monitor.log", url))


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The project's rules, with two seconds in place of the minute that LeewayDown waits."""
    folder = tmp_path / "rules"
    folder.mkdir()
    for path in observe.RULES.glob("*.yml"):
        text = path.read_text(encoding="utf-8").replace("for: 1m\n", "for: 2s\n")
        (folder / path.name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def servers(
    prometheus: Path, alertmanager: Path, rules: Path, monitor: object, tmp_path: Path
) -> Iterator[tuple[str, str, Posts]]:
    """Prometheus and Alertmanager, by their addresses, and the webhook at the end."""
    posts, ports = Posts(), free_ports(2)
    with ExitStack() as stack:
        text = observe.alertmanager_config(stack.enter_context(observe.receiver(posts)))
        for slow, quick in SHORTER.items():
            text = text.replace(slow, quick)
        (tmp_path / "alertmanager.yml").write_text(text, encoding="utf-8")
        targets = {"leeway-monitor": observe.addresses(load_settings())["leeway-monitor"]}
        text = observe.prometheus_config(targets, alertmanager=f"127.0.0.1:{ports[1]}", rules=rules, every="1s")
        (tmp_path / "prometheus.yml").write_text(text, encoding="utf-8")
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        for name, binary, command, port, url in (
            ("alertmanager", alertmanager, observe.alertmanager_command, ports[1], urls[1]),
            ("prometheus", prometheus, observe.prometheus_command, ports[0], urls[0]),
        ):
            line = command(binary, tmp_path / f"{name}.yml", tmp_path / name, port)
            stack.enter_context(observe.running(line, tmp_path / f"{name}.log", f"{url}/-/ready"))
        yield urls[0], urls[1], posts


def test_a_fault_reaches_the_webhook_and_its_end_does_too(
    monitor: Callable[[], Killable], servers: tuple[str, str, Posts], capsys: pytest.CaptureFixture[str]
) -> None:
    prometheus, alertmanager, posts = servers
    victim = monitor()
    Way().wait("well", lambda: _up(prometheus) == "1" and _state(prometheus) is None)
    posts.got.clear()
    victim.kill()
    way = Way()
    way.wait("pending", lambda: _state(prometheus) in ("pending", "firing"))
    way.wait("firing", lambda: _state(prometheus) == "firing")
    way.wait("Alertmanager", lambda: _active(alertmanager))
    way.wait("webhook", lambda: ("/page", "firing") in posts.got)
    monitor()
    way.wait("repaired", lambda: _up(prometheus) == "1")
    way.wait("resolved", lambda: ("/page", "resolved") in posts.got)
    with capsys.disabled():
        sys.stderr.write("\n" + ", ".join(f"{at} {seconds:.1f} s" for at, seconds in way.reached.items()) + "\n")
    assert list(way.reached.values()) == sorted(way.reached.values())


def _up(prometheus: str) -> str | None:
    found = _ask(f"{prometheus}/api/v1/query", query='up{job="leeway-monitor"}')["data"]["result"]
    return str(found[0]["value"][1]) if found else None


def _state(prometheus: str) -> str | None:
    alerts = _ask(f"{prometheus}/api/v1/alerts")["data"]["alerts"]
    return next((str(alert["state"]) for alert in alerts if _is_ours(alert["labels"])), None)


def _active(alertmanager: str) -> bool:
    alerts = _ask(f"{alertmanager}/api/v2/alerts")
    return any(_is_ours(alert["labels"]) and alert["status"]["state"] == "active" for alert in alerts)


def _ask(url: str, **query: str) -> Any:
    return httpx.get(url, params=query, timeout=10).raise_for_status().json()


def _is_ours(labels: Mapping[str, str]) -> bool:
    return labels["alertname"] == "LeewayDown"
