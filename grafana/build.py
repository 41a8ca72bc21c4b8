"""`python -m grafana.build` writes what Grafana is provisioned with, the dashboards as JSON, and the runbook table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from grafana import calibration, drift, monitoring_itself, overview, retraining, rollout, runbooks, serving
from grafana.board import as_json

FOLDER = Path(__file__).parent / "dashboards"


def dashboards() -> Mapping[str, str]:
    """File name → JSON."""
    return {
        "overview.json": as_json(overview.dashboard()),
        "serving.json": as_json(serving.dashboard()),
        "drift-and-quality.json": as_json(drift.dashboard()),
        "calibration.json": as_json(calibration.dashboard()),
        "rollout.json": as_json(rollout.dashboard()),
        "retraining.json": as_json(retraining.dashboard()),
        "monitoring-itself.json": as_json(monitoring_itself.dashboard()),
    }


def main() -> None:
    """Write every dashboard and the table of runbooks."""
    runbooks.TABLE.write_text(runbooks.table(), encoding="utf-8")
    FOLDER.mkdir(exist_ok=True)
    for name, text in dashboards().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
