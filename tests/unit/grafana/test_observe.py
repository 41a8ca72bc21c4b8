"""What `make observe` makes of the project's configuration, and what it says where something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from grafana import observe
from monitoring.core.settings import load_settings


def test_prometheus_scrapes_where_the_settings_say(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEEWAY_SERVER__HOST", "0.0.0.0")
    monkeypatch.setenv("LEEWAY_SERVER__PORT", "8081")
    targets = observe.addresses(load_settings())
    config = yaml.safe_load(observe.prometheus_config(targets, alertmanager="127.0.0.1:9093", every="5s"))
    scraped = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert scraped == {"leeway-serve": ["127.0.0.1:8081"], "leeway-monitor": ["127.0.0.1:9108"]}
    assert config["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["127.0.0.1:9093"]}]}]
    assert config["global"]["scrape_interval"] == "5s"
    assert list(Path(config["rule_files"][0]).parent.glob("*.yml"))


def test_alertmanager_sends_everything_here() -> None:
    config = yaml.safe_load(observe.alertmanager_config("http://127.0.0.1:1234"))
    urls = [hook["url"] for receiver in config["receivers"] for hook in receiver.get("webhook_configs", [])]
    assert urls == [f"http://127.0.0.1:1234/{path}" for path in ("page", "ticket", "watchdog")]


def test_it_says_how_to_get_what_is_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = CliRunner().invoke(observe.observe, [])
    assert result.exit_code == 1
    assert "prometheus is not here" in result.output
    assert "apt-get install" in result.output


def test_an_alert_is_told_with_its_first_step_and_the_watchdog_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    notes = {
        "summary": "it is down",
        "action": "Start it.",
        "runbook_url": "http://grafana/public/runbooks/LeewayDown.md",
    }
    message = {"alerts": [{"status": "firing", "annotations": notes}, {"status": "resolved", "annotations": notes}]}
    observe.tell("/page", message)
    observe.tell("/watchdog", message)
    said = capsys.readouterr().out
    assert said.count("it is down") == 2
    assert said.count("Start it.") == 1
    assert "docs/runbooks/LeewayDown.md" in said
