"""Prometheus's own checker takes the configuration and the rules, and runs the rules' unit tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "grafana" / "prometheus"

pytestmark = pytest.mark.prometheus


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_configuration(promtool: Path) -> None:
    _run(promtool, "check", "config", "prometheus.yml")


def test_rules_are_clean(promtool: Path) -> None:
    _run(promtool, "check", "rules", "--lint=all", "--lint-fatal", "rules/leeway.yml")


@pytest.mark.parametrize("suite", sorted(path.name for path in (FOLDER / "tests").glob("*.yml")))
def test_rules(promtool: Path, suite: str) -> None:
    _run(promtool, "test", "rules", f"tests/{suite}")
