"""The committed dashboards are what the code makes, and each panel explains itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from grafana.build import FOLDER, dashboards
from tests.metrics_page import read_page

BOARDS = {name: json.loads(text) for name, text in dashboards().items()}


def _panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (panel for panel in board["panels"] if panel["type"] != "row")


PANELS = [
    pytest.param(panel, id=f"{name} {panel['id']}: {panel['title']}")
    for name, b in BOARDS.items()
    for panel in _panels(b)
]


def test_committed_json_is_what_the_code_makes() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert committed == dict(dashboards()), "run `python -m grafana.build` and commit"


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_board_is_provisioned_not_edited(board: dict[str, Any]) -> None:
    assert board["editable"] is False
    assert board["uid"].startswith("leeway-")
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert {variable["name"] for variable in board["templating"]["list"]} == {
        "datasource",
        "job",
        "instance",
        "model",
        "version",
    }
    assert {annotation["name"] for annotation in board["annotations"]["list"]} == {
        "Alarms",
        "Promotions",
        "Baseline changes",
    }


def test_boards_link_to_each_other_the_console_and_the_runbooks() -> None:
    uids = {board["uid"] for board in BOARDS.values()}
    for board in BOARDS.values():
        urls = {link["url"] for link in board["links"]}
        assert {f"/d/{uid}" for uid in uids - {board["uid"]}} < urls
        assert {"http://127.0.0.1:8080/console", "/public/runbooks/README.md"} < urls


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_fill_each_line_and_never_overlap(board: dict[str, Any]) -> None:
    cells = [
        (x, y)
        for box in (panel["gridPos"] for panel in board["panels"])
        for x in range(box["x"], box["x"] + box["w"])
        for y in range(box["y"], box["y"] + box["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert len(cells) == 24 * (1 + max(y for _, y in cells)), "a line of panels is not 24 columns wide"


@pytest.mark.parametrize("panel", PANELS)
def test_panel_explains_itself(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["description"].endswith(".")
    assert defaults["unit"]
    steps = [step["value"] for step in defaults["thresholds"]["steps"]]
    assert steps[0] is None
    assert steps[1:] == sorted(steps[1:])
    for target in panel["targets"]:
        assert target["legendFormat"] or target["format"] == "table"
        assert 'job=~"$job", instance=~"$instance"' in target["expr"]


@pytest.mark.parametrize("panel", [p for p in PANELS if p.values[0]["type"] == "timeseries"])
def test_time_series_show_their_legend(panel: dict[str, Any]) -> None:
    assert panel["options"]["legend"]["showLegend"] is True


@pytest.mark.parametrize("panel", PANELS)
def test_replicas_add_up(panel: dict[str, Any]) -> None:
    """Each metric is put together over instances as docs/metrics.md says: what every monitor shows is never summed."""
    page = read_page()
    for target in panel["targets"]:
        for found in METRIC.finditer(target["expr"]):
            row = page[found["name"]] if found["name"] in page else page[found["base"]]
            assert _aggregation(target["expr"][: found.start()]) in ALLOWED[row.over_replicas], found["name"]


METRIC = re.compile(r"\b(?P<name>(?P<base>leeway_[a-z_]+?)(_bucket|_sum|_count)?)(?={)")
OPENED = re.compile(r"(\w+)(?: by \([^()]*\))? ?$")
ALLOWED = {
    "sum": {"sum"},
    "max": {"max", "min"},
    "avg": {"avg"},
    "each": {"sum", "count", "min", "max"},
}


def _aggregation(before: str) -> str:
    """The innermost aggregation that is open where `before` ends."""
    closed = 0
    for at in range(len(before) - 1, -1, -1):
        closed += {")": 1, "(": -1}.get(before[at], 0)
        if closed < 0:
            closed = 0
            opened = OPENED.search(before[:at])
            if opened and opened[1] in {"sum", "max", "min", "avg", "count"}:
                return opened[1]
    return "none"
