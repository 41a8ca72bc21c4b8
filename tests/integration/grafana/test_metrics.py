"""Every metric that a dashboard or a rule asks for is one that the running parts export."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from grafana.build import dashboards
from monitoring.core.ledger import verdicts
from monitoring.core.ledger.database import Ledger
from monitoring.core.settings import Settings
from monitoring.core.spool import SpoolWriter
from monitoring.exporter import LedgerCollector, RoutineMetrics, registry_of
from monitoring.shipping import ROUTINE
from service.metrics import Metrics, StateCollector
from service.routing import RoutingTable

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
RULES = {path.name: path for path in (Path(__file__).parents[3] / "grafana" / "prometheus" / "rules").glob("*.yml")}
NAME = re.compile(r"(?<![\w:])leeway_[a-z0-9_]+")


def _names(families: Iterable[Metric]) -> Iterator[str]:
    for family in families:
        endings = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",), "info": ("_info",)}
        yield from (f"{family.name}{ending}" for ending in endings.get(family.type, ("",)))


@pytest.fixture
def exported(tmp_path: Path) -> set[str]:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.upgrade()
    with ledger.begin() as connection:
        verdicts.save_cursor(connection, f"{ROUTINE}:a", {"host": "a", "rows": 1, "at": NOW.isoformat()})
    spool = SpoolWriter(tmp_path / "spool", writer="test", segment_bytes=4096, max_bytes=1_048_576)
    state = StateCollector(table=RoutingTable, loaded=lambda: 0, depths=dict, capacity=64, spool=spool)
    monitor = LedgerCollector(ledger, lambda: NOW, settings=Settings(), missed_firings=lambda: 0)
    registry = registry_of(monitor)
    RoutineMetrics(registry)
    names = {*_names(Metrics().registry.collect()), *_names(state.collect()), *_names(registry.collect())}
    spool.close()
    return names


@pytest.mark.parametrize("source", [*dashboards(), *RULES])
def test_metrics_asked_for_are_exported(source: str, exported: set[str]) -> None:
    text = RULES[source].read_text(encoding="utf-8") if source in RULES else dashboards()[source]
    asked = set(NAME.findall(text))
    assert len(asked) > 2
    assert asked - exported == set()
