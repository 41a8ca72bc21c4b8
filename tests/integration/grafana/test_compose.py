"""docker-compose takes the file in every profile, and what it mounts is there."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.mark.parametrize("profiles", [(), ("monitoring",), ("postgres",), ("monitoring", "postgres")])
def test_compose_file_is_valid(docker_compose: Path, profiles: tuple[str, ...]) -> None:
    chosen = [word for profile in profiles for word in ("--profile", profile)]
    done = subprocess.run(
        [docker_compose, *chosen, "config", "-q"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_mounted_files_exist() -> None:
    mounts = [mount.split(":")[0] for service in SERVICES.values() for mount in service["volumes"]]
    local = [mount for mount in mounts if mount.startswith("./")]
    assert len(local) > 3
    assert [mount for mount in local if not (ROOT / mount).exists()] == []


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service.get("user") != "root"


def test_prometheus_scrapes_the_ports_that_are_served() -> None:
    config = yaml.safe_load((ROOT / "grafana/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    targets = {
        target
        for job in config["scrape_configs"]
        if job["job_name"].startswith("leeway-")
        for target in job["static_configs"][0]["targets"]
    }
    served = {f"{name}:{port.rsplit(':', 1)[1]}" for name in ("serve", "monitor") for port in SERVICES[name]["ports"]}
    assert targets == served
