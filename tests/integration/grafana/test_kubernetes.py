"""The Kubernetes base agrees with itself and with the program: names, ports, probes, commands, settings."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.core.settings import Settings, variables
from tests.e2e.test_readme import find_command

ROOT = Path(__file__).parents[3]
BASE = ROOT / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))
OBJECTS: list[dict[str, Any]] = [
    one for name in KUSTOMIZATION["resources"] for one in yaml.safe_load_all((BASE / name).read_text(encoding="utf-8"))
]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
ALERTED_JOBS = ("leeway-serve", "leeway-monitor")


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [one for one in OBJECTS if one["kind"] == kind]


def pods() -> Iterator[dict[str, Any]]:
    for deployment in of_kind("Deployment"):
        yield deployment["spec"]["template"]
    for cron in of_kind("CronJob"):
        yield cron["spec"]["jobTemplate"]["spec"]["template"]


def containers() -> Iterator[dict[str, Any]]:
    for pod in pods():
        yield from pod["spec"].get("initContainers", [])
        yield from pod["spec"]["containers"]


def named_port(name: str) -> int:
    [port] = [one["containerPort"] for box in containers() for one in box.get("ports", []) if one["name"] == name]
    return int(port)


CONTAINERS = {box["name"]: box for box in containers()}


def test_every_file_is_a_resource() -> None:
    assert {path.name for path in BASE.glob("*.yaml")} == {*KUSTOMIZATION["resources"], "kustomization.yaml"}
    kinds = {one["kind"] for one in OBJECTS}
    assert {"Deployment", "CronJob", "Service", "PodDisruptionBudget", "ServiceMonitor"} <= kinds


@pytest.mark.parametrize("name", CONTAINERS)
def test_container_runs_a_command_that_exists_in_an_image_that_is_built(name: str) -> None:
    program, *words = CONTAINERS[name]["command"]
    assert program == "leeway"
    command, context = find_command(words)
    command.make_context(command.name, words[1:], parent=context.parent)
    images = {service["image"] for service in COMPOSE["services"].values()}
    assert CONTAINERS[name]["image"] in images & {image["name"] for image in KUSTOMIZATION["images"]}
    assert COMPOSE["services"][name]["image"] == CONTAINERS[name]["image"]


@pytest.mark.parametrize("name", CONTAINERS)
def test_container_is_confined(name: str) -> None:
    context = CONTAINERS[name]["securityContext"]
    assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert CONTAINERS[name]["resources"].keys() == {"requests", "limits"}


@pytest.mark.parametrize("pod", list(pods()), ids=lambda pod: pod["metadata"]["labels"]["app.kubernetes.io/name"])
def test_pod_is_the_user_of_the_image_and_has_what_it_mounts(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    user = f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}"
    assert spec["securityContext"]["runAsNonRoot"]
    assert f"\nUSER {user}\n" in dockerfile
    volumes = {volume["name"] for volume in spec["volumes"]}
    for box in [*spec.get("initContainers", []), *spec["containers"]]:
        assert {mount["name"] for mount in box["volumeMounts"]} == volumes
        assert "LEEWAY_HOME=" + box["volumeMounts"][0]["mountPath"] in dockerfile


def test_ports_are_those_that_are_listened_on() -> None:
    defaults = Settings()
    assert named_port("http") == defaults.server.port
    assert named_port("metrics") == defaults.monitor.port


def test_services_select_the_pods_and_name_their_ports() -> None:
    labels = [pod["metadata"]["labels"] for pod in pods()]
    ports = {one["name"] for box in containers() for one in box.get("ports", [])}
    for service in of_kind("Service"):
        assert service["spec"]["selector"] in labels
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for holder in (*of_kind("Deployment"), *of_kind("PodDisruptionBudget")):
        assert holder["spec"]["selector"]["matchLabels"] in labels


def test_prometheus_finds_the_jobs_that_the_rules_speak_of() -> None:
    """The operator calls a job after the service, unless it is told otherwise."""
    [watched] = of_kind("ServiceMonitor")
    [chosen] = watched["spec"]["selector"]["matchExpressions"]
    services = {one["metadata"]["name"]: one for one in of_kind("Service")}
    named = {name for name, one in services.items() if one["metadata"]["labels"][chosen["key"]] in chosen["values"]}
    assert named == set(ALERTED_JOBS)
    ports = {port["name"] for one in services.values() for port in one["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in watched["spec"]["endpoints"]} == ports
    assert "jobLabel" not in watched["spec"]


def test_probes_ask_what_is_answered() -> None:
    routes = (ROOT / "service" / "routes" / "health.py").read_text(encoding="utf-8")
    asked = 0
    for box in containers():
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe in box:
                asked += 1
                assert f'"{box[probe]["httpGet"]["path"]}"' in routes
                assert box[probe]["httpGet"]["port"] in {port["name"] for port in box["ports"]}
    assert asked == 5
    assert CONTAINERS["serve"]["readinessProbe"]["httpGet"]["path"].endswith("/ready")


def test_a_pod_drains_before_it_ends() -> None:
    [pod] = [one for one in pods() if one["spec"].get("initContainers")]
    spec = pod["spec"]
    [serve] = spec["containers"]
    waits = float(serve["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] > waits + Settings().server.deadline_seconds
    assert [one["restartPolicy"] for one in spec["initContainers"]] == ["Always"]  # so that it ends after what it ships


def test_settings_are_settings() -> None:
    [generated] = KUSTOMIZATION["configMapGenerator"]
    names = {literal.partition("=")[0] for literal in generated["literals"]}
    assert {name for name in names if name.startswith("LEEWAY_")} <= set(variables())
    assert {source["configMapRef"]["name"] for box in containers() for source in box["envFrom"]} == {generated["name"]}


def test_kustomize_builds_it(kubectl: Path) -> None:
    done = subprocess.run([kubectl, "kustomize", BASE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert len(built) == len(OBJECTS) + 1
