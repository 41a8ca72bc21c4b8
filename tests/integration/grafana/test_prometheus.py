"""Prometheus's own checker takes the configuration and the rules, and runs their tests, which notice any mistake."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.grafana import burning
from tests.integration.grafana.mutants import mutants

FOLDER = Path(__file__).parents[3] / "grafana" / "prometheus"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
SUITES = {path: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((FOLDER / "tests").glob("*.yml"))}
NO_MISTAKE = ("vector(",)  # the watchdog fires whatever its number
CASES = [
    pytest.param(path, group, number, id=f"{path.stem}-{rule.get('alert') or rule['record']}-{number}")
    for path in RULES
    for group, content in enumerate(yaml.safe_load(path.read_text(encoding="utf-8"))["groups"])
    for number, rule in enumerate(content["rules"])
]

pytestmark = pytest.mark.prometheus


def _run(*command: str | Path, cwd: Path = FOLDER) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_configuration(promtool: Path) -> None:
    _run(promtool, "check", "config", "prometheus.yml")


def test_rules_are_clean(promtool: Path) -> None:
    _run(promtool, "check", "rules", "--lint=all", "--lint-fatal", *RULES)


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_rules(promtool: Path, path: Path) -> None:
    _run(promtool, "test", "rules", path)


def test_windows_and_thresholds_of_the_budgets(promtool: Path, tmp_path: Path) -> None:
    (tmp_path / "burning.yml").write_text(burning.suite(FOLDER / "rules" / "slo.yml"), encoding="utf-8")
    _run(promtool, "test", "rules", tmp_path / "burning.yml")


@pytest.mark.slow
@pytest.mark.parametrize(("path", "group", "number"), CASES)
def test_a_mistake_in_a_rule_is_noticed(promtool: Path, tmp_path: Path, path: Path, group: int, number: int) -> None:
    """All mutants in one run of promtool, which tells of each suite by itself how it went."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    rule = content["groups"][group]["rules"][number]
    tried = {}
    for what, mutant in mutants(rule):
        if not any(word in what for word in NO_MISTAKE):
            folder = tmp_path / str(len(tried))
            folder.mkdir()
            _write(folder / path.name, content, group, number, mutant)
            tried[folder] = what
            suites = list(_suites(path, folder, rule))
    assert tried
    every = [folder / name for folder in tried for name in suites]
    done = subprocess.run([promtool, "test", "rules", *every], capture_output=True, text=True, check=False)
    passed = {Path(name) for name in re.findall(r"Unit Testing:\s+(\S+)\s+SUCCESS", done.stdout)}
    assert [what for folder, what in tried.items() if passed.issuperset(folder / name for name in suites)] == []


def _suites(path: Path, folder: Path, rule: Mapping[str, Any]) -> Iterator[str]:
    """Write into `folder` the tests that speak of `rule`, which is in the file `path`; the names of their files."""
    about = rule.get("alert", "")  # what is recorded shows in any of them
    for name, suite in SUITES.items():
        tests = [test for test in suite["tests"] if about in str(test) or "'expr': 'ALERTS'" in str(test)]
        if tests and suite["rule_files"] == [f"../rules/{path.name}"]:
            text = yaml.safe_dump({**suite, "rule_files": [path.name], "tests": tests})
            (folder / f"test-{name.name}").write_text(text, encoding="utf-8")
            yield f"test-{name.name}"
    if path.stem == "slo":
        window = (
            f"over {rule['labels']['window']} and"
            if "alert" in rule
            else f"half of {rule['record'].rpartition('rate')[2]}."
        )
        (folder / "burning.yml").write_text(burning.suite(folder / path.name, window), encoding="utf-8")
        yield "burning.yml"


def _write(path: Path, content: Mapping[str, Any], group: int, number: int, mutant: Mapping[str, Any]) -> None:
    groups = [dict(one) for one in content["groups"]]
    groups[group]["rules"] = [*groups[group]["rules"]]
    groups[group]["rules"][number] = dict(mutant)
    path.write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
