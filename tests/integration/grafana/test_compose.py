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
    local = [mount for mount in mounts if mount.startswith("./") and not mount.startswith("./secrets/")]
    assert len(local) > 3
    assert [mount for mount in local if not (ROOT / mount).exists()] == []


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service["user"].partition(":")[0] not in ("root", "0")
    assert service["healthcheck"]["test"]
    assert not [name for name in service.get("environment", {}) if "PASSWORD" in name and not name.endswith("_FILE")]


def test_leeway_runs_as_the_user_that_its_image_makes() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for name in ("serve", "monitor", "worker"):
        assert f"\nUSER {SERVICES[name]['user']}\n" in dockerfile


def test_profiles_add_to_a_default_that_needs_nothing_else() -> None:
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert [name for name, of in profiles.items() if not of] == ["serve", "monitor", "worker"]
    assert [name for name, of in profiles.items() if of == ["monitoring"]] == ["prometheus", "alertmanager", "grafana"]
    assert [name for name, of in profiles.items() if of == ["postgres"]] == ["postgres"]


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
