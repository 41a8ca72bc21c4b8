"""Every alert says what it means, how bad it is and what to do, and every runbook belongs to an alert."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana import runbooks
from grafana.build import dashboards

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "docs" / "runbooks"
RULES = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in runbooks.RULES.glob("*.yml")]
ALERTS = [rule for rules in RULES for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
NAMES = {alert["alert"] for alert in ALERTS}
TESTED = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "grafana/prometheus/tests").glob("*.yml"))


@pytest.mark.parametrize("alert", ALERTS, ids=["-".join([a["alert"], *a["labels"].values()]) for a in ALERTS])
def test_alert_is_complete(alert: dict[str, Any]) -> None:
    name, annotations = alert["alert"], alert["annotations"]
    assert alert["labels"]["severity"] in {"critical", "warning", "none", "{{ $labels.severity }}"}
    assert annotations["summary"]
    assert all(annotations[key].endswith((".", "?")) for key in ("description", "impact", "action"))
    assert annotations["runbook_url"].endswith(f"/public/runbooks/{name}.md")
    assert any(f'"uid": "{dashboard_of(annotations)}"' in text for text in dashboards().values())
    assert f'ALERTS{{alertname="{name}", alertstate="firing"' in TESTED or f"alertname: {name}\n" in TESTED


def dashboard_of(annotations: dict[str, str]) -> str:
    return annotations["dashboard_url"].split("/d/")[1].partition("?")[0]


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("Leeway*.md")} == NAMES


def test_the_table_is_what_the_pages_say_of_every_alert() -> None:
    table = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    assert table == runbooks.table(), "run `python -m grafana.build` and commit"
    assert set(runbooks.alerts()) == NAMES
    assert [name for name in sorted(NAMES) if f"| [{name}]({name}.md) | " not in table] == []


@pytest.mark.parametrize("name", sorted(NAMES))
def test_runbook_says_what_it_means_and_the_first_three_steps(name: str) -> None:
    page = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    assert [f"\n{step}. " in page for step in (1, 2, 3)] == [True, True, True]


def test_panels_that_runbooks_name_are_on_the_board_that_they_name() -> None:
    boards = [json.loads(text) for text in dashboards().values()]
    panels = {
        (board["title"].removeprefix("Leeway / "), panel["title"]) for board in boards for panel in board["panels"]
    }
    titles = "|".join(sorted({board for board, _ in panels}))
    pages = "".join(path.read_text(encoding="utf-8") for path in RUNBOOKS.glob("Leeway*.md"))
    named = set(re.findall(rf"({titles}) → \*([^*]+)\*", pages))
    assert len(named) > 5
    assert named - panels == set()
    assert pages.count(" → *") == len(re.findall(rf"({titles}) → \*", pages))
