"""Alertmanager sends each severity to its receiver, and a running one silences what another alert explains."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana import runbooks

FOLDER = Path(__file__).parents[3] / "grafana" / "alertmanager"
CONFIG, EXAMPLES = FOLDER / "alertmanager.yml", FOLDER / "examples.yml"
LISTENING = re.compile(r"Listening on.*?127\.0\.0\.1:(\d+)")
MONITOR_DOWN = {"alertname": "LeewayDown", "job": "leeway-monitor", "instance": "m:9108", "severity": "critical"}
SERVE_DOWN = {"alertname": "LeewayDown", "job": "leeway-serve", "instance": "a:8080", "severity": "critical"}
STALE = {"alertname": "LeewayMonitorStale", "model": "support", "severity": "critical"}

pytestmark = pytest.mark.prometheus


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=LeewayDown", "job=leeway-serve", "severity=critical"], "page"),
        (["alertname=LeewayDrift", "model=support", "severity=critical"], "page"),
        (["alertname=LeewayDrift", "model=support", "severity=warning"], "ticket"),
        (["alertname=LeewayDrift", "model=support", "severity=info"], "nobody"),
        (["alertname=LeewayWatchdog", "severity=none"], "watchdog"),
        (["alertname=SomethingElse"], "ticket"),
    ],
)
def test_routes(amtool: Path, labels: list[str], receiver: str) -> None:
    _leads_to(amtool, CONFIG, labels, receiver)


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (["alertname=LeewayDown", "job=leeway-serve", "severity=critical"], "on-call"),
        (["alertname=LeewayDrift", "model=support", "severity=critical"], "support-channel,on-call"),
        (["alertname=LeewayDrift", "model=support-chat", "severity=warning"], "support-channel,nobody"),
        (["alertname=LeewayDrift", "model=supporters", "severity=warning"], "mail"),
        (["alertname=LeewayDrift", "model=support", "severity=info"], "nobody"),
        (["alertname=LeewayWatchdog", "severity=none"], "watchdog"),
    ],
)
def test_routes_of_the_examples_by_model_and_severity(amtool: Path, labels: list[str], receivers: str) -> None:
    _leads_to(amtool, EXAMPLES, labels, receivers)


def _leads_to(amtool: Path, config: Path, labels: list[str], receivers: str) -> None:
    command = [
        amtool,
        "config",
        "routes",
        "test",
        f"--config.file={config}",
        f"--verify.receivers={receivers}",
        *labels,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("config", [CONFIG, EXAMPLES], ids=lambda path: path.stem)
def test_configuration(amtool: Path, config: Path) -> None:
    subprocess.run([amtool, "check-config", config], capture_output=True, check=True)


def test_examples_show_each_kind_of_receiver_with_its_secret_in_a_file() -> None:
    text = EXAMPLES.read_text(encoding="utf-8")
    examples, config = yaml.safe_load(text), yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    kinds = {kind for receiver in examples["receivers"] for kind in receiver if kind != "name"}
    assert kinds == {"pagerduty_configs", "email_configs", "slack_configs", "webhook_configs"}
    secrets = re.findall(r"(\w+): /etc/alertmanager/secrets/", text)
    assert sorted(secrets) == ["api_url_file", "credentials_file", "routing_key_file", "smtp_auth_password_file"]
    assert examples["inhibit_rules"] == config["inhibit_rules"]


def test_what_is_matched_is_an_alert_that_exists() -> None:
    """amtool takes a misspelt name; then a fault of one thing pages for all that hangs on it."""
    text = CONFIG.read_text(encoding="utf-8") + EXAMPLES.read_text(encoding="utf-8")
    assert set(re.findall(r"\bLeeway[A-Z]\w+", text)) <= set(runbooks.alerts())


@pytest.fixture
def alerts_url(alertmanager: Path, tmp_path: Path) -> Iterator[str]:
    """The API of an Alertmanager that runs with the project's inhibitions and sends nothing anywhere."""
    text = CONFIG.read_text(encoding="utf-8").replace("http://host.docker.internal:9099", "http://127.0.0.1:9")
    (tmp_path / "alertmanager.yml").write_text(text, encoding="utf-8")
    command = [
        alertmanager,
        f"--config.file={tmp_path / 'alertmanager.yml'}",
        f"--storage.path={tmp_path / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--cluster.listen-address=",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield f"http://127.0.0.1:{_port(process.stderr)}/api/v2/alerts"
        finally:
            process.kill()


def _port(log: Iterator[str]) -> str:
    said = []
    for line in log:
        said.append(line)
        if found := LISTENING.search(line):
            return found[1]
    raise AssertionError("Alertmanager did not start:\n" + "".join(said))


def _silenced(url: str, *alerts: dict[str, str]) -> list[str]:
    """Send the alerts; the names of those that an inhibition keeps back."""
    body = json.dumps([{"labels": labels, "annotations": {}} for labels in alerts]).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10):
        pass
    deadline = time.monotonic() + 10
    while not (silenced := _inhibited(url, of=len(alerts))) and time.monotonic() < deadline:
        time.sleep(0.02)  # Alertmanager applies its inhibitions soon after it has answered, and tells nobody when
    return silenced


def _inhibited(url: str, *, of: int) -> list[str]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        kept: list[dict[str, Any]] = json.load(answer)
    assert len(kept) == of
    return sorted(alert["labels"]["alertname"] for alert in kept if alert["status"]["inhibitedBy"])


def test_a_monitor_that_is_down_explains_that_it_is_stale(alerts_url: str) -> None:
    absent = {"alertname": "LeewayMonitorAbsent", "model": "faq", "severity": "critical"}
    assert _silenced(alerts_url, MONITOR_DOWN, STALE, absent) == ["LeewayMonitorAbsent", "LeewayMonitorStale"]


def test_the_verdicts_of_a_monitor_that_is_down_are_not_called_resolved(alerts_url: str) -> None:
    quality = {"alertname": "LeewayQuality", "model": "support", "severity": "critical"}
    failed = {"alertname": "LeewayRetrainFailed", "model": "support", "severity": "warning"}
    assert _silenced(alerts_url, MONITOR_DOWN, quality, failed) == ["LeewayQuality", "LeewayRetrainFailed"]


def test_a_database_that_is_away_explains_what_the_monitor_cannot_do(alerts_url: str) -> None:
    ledger = {"alertname": "LeewayLedgerUnreadable", "job": "leeway-monitor", "instance": "m:9108"}
    stuck = {"alertname": "LeewayNotificationsStuck", "job": "leeway-monitor", "severity": "warning"}
    assert _silenced(alerts_url, ledger | {"severity": "critical"}, STALE, stuck) == [
        "LeewayMonitorStale",
        "LeewayNotificationsStuck",
    ]


def test_a_monitor_that_is_down_does_not_explain_the_lag_of_other_hosts(alerts_url: str) -> None:
    lagging = {"alertname": "LeewayLogLagging", "job": "leeway-monitor", "host": "c", "severity": "warning"}
    assert _silenced(alerts_url, MONITOR_DOWN, STALE, lagging) == ["LeewayMonitorStale"]


def test_a_stale_monitor_silences_the_verdicts_on_its_model_alone(alerts_url: str) -> None:
    quality = {"alertname": "LeewayQuality", "model": "support", "severity": "critical"}
    drift = {"alertname": "LeewayDrift", "model": "faq", "severity": "critical"}
    assert _silenced(alerts_url, STALE, quality, drift) == ["LeewayQuality"]


def test_what_is_down_silences_itself_and_not_its_neighbour(alerts_url: str) -> None:
    dropping = {"alertname": "LeewayLogDropping", "job": "leeway-serve", "severity": "warning"}
    here, there = dropping | {"instance": "a:8080"}, dropping | {"instance": "b:8080"}
    assert _silenced(alerts_url, SERVE_DOWN, here, there, STALE) == ["LeewayLogDropping"]


def test_a_page_silences_its_own_ticket(alerts_url: str) -> None:
    page = {"alertname": "LeewayErrors", "job": "leeway-serve", "severity": "critical"}
    latency = {"alertname": "LeewayLatency", "job": "leeway-serve", "severity": "warning"}
    disk = {"alertname": "LeewayDisk", "job": "leeway-serve", "instance": "a:8080", "severity": "critical"}
    elsewhere = disk | {"instance": "b:8080", "severity": "warning"}
    ticket = page | {"severity": "warning", "window": "1d"}
    assert _silenced(alerts_url, page, ticket, latency, disk, elsewhere) == ["LeewayErrors"]
