"""docs/metrics.md, read as a table: what is exported, by whom, and how it adds up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(?P<name>[a-z_]+)` \|(?P<cells>.*)\|$", flags=re.MULTILINE)
LISTED = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Documented:
    """One row. `process`: serve or monitor; `over_replicas`: how its series are put together, `sum`, `max` or `avg`."""

    name: str
    process: str
    type: str
    labels: frozenset[str]
    over_replicas: str
    meaning: str
    opentelemetry: str


def read_page() -> dict[str, Documented]:
    """All rows by name."""
    found: dict[str, Documented] = {}
    for heading, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE):
        process = re.search(r"`leeway (serve|monitor)`", heading)
        for row in ROW.finditer(body) if process else ():
            kind, labels, over, meaning, opentelemetry = (cell.strip() for cell in row["cells"].split(" | "))
            assert row["name"] not in found, f"{row['name']} stands on the page twice"
            found[row["name"]] = Documented(
                row["name"], process[1], kind, frozenset(LISTED.findall(labels)), over, meaning, opentelemetry
            )
    return found
