"""The table in docs/runbooks/README.md: alert → what it means → first three steps, taken from the pages themselves."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "runbooks"
TABLE = PAGES / "README.md"
RULES = ROOT / "grafana" / "prometheus" / "rules"
HEAD = """\
# Runbooks

What each alert in `grafana/prometheus/rules/` means, and the first three steps; its page says more. The table is made
from the pages by `python -m grafana.build`.

| alert | what it means | first three steps |
|---|---|---|
"""
END_OF_SENTENCE = re.compile(r"(?<=[.?!])\s+(?=[A-Z`*\[])")
SHORT = 70  # characters
STEP = re.compile(r"^\d\. (.+)$", re.MULTILINE)


def alerts() -> list[str]:
    """Names of all alerts, in the order of the rule files."""
    groups = [
        group for path in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
    ]
    return list(dict.fromkeys(rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule))


def table() -> str:
    """The page with the table: of each alert's page the first sentence, and of each step enough to begin with."""
    return HEAD + "".join(_row(name, (PAGES / f"{name}.md").read_text("utf-8")) for name in alerts())


def _row(name: str, page: str) -> str:
    meaning = END_OF_SENTENCE.split(page.split("\n\n")[1], maxsplit=1)[0]
    steps = "<br>".join(f"{number}. {_beginning(step)}" for number, step in enumerate(STEP.findall(page), 1))
    return f"| [{name}]({name}.md) | {meaning} | {steps} |\n"


def _beginning(step: str) -> str:
    """Its first sentences: a question alone is no step yet."""
    sentences = END_OF_SENTENCE.split(step)
    told = sentences.pop(0)
    while sentences and len(told) < SHORT:
        told += f" {sentences.pop(0)}"
    return told
