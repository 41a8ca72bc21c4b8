"""The images' commands, started outside of any container exactly as Dockerfile and docker-compose.yml write them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.core.settings import variables
from service.demo.backstage import free_ports

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))[
    "services"
]
BIN = Path(sys.executable).parent
PATIENCE = 120.0


def test_the_image_has_no_root_and_the_commands_of_compose() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, flags=re.MULTILINE)
    assert stages[-2:] == ["worker", "serving"]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", DOCKERFILE, flags=re.MULTILINE)
    commands = {tuple(words.replace('"', "").split(", ")) for words in re.findall(r"^CMD \[(.*)\]$", DOCKERFILE, re.M)}
    assert commands == {tuple(SERVICES[name]["command"]) for name in ("worker", "serve")}


def test_the_settings_of_the_image_are_settings() -> None:
    names = {name for name in [*_image_environment(), *SERVICES["serve"]["environment"]] if name.startswith("LEEWAY_")}
    assert names - {"LEEWAY_HOME"} <= set(variables())


@pytest.mark.slow
def test_serve_and_monitor_start_are_healthy_and_end(home: Path) -> None:
    """As a user with a home folder, as the first steps in docker-compose.yml say; only the ports are free ones."""
    ports = dict(zip(("8080", "9108"), map(str, free_ports(2)), strict=True))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LEEWAY_")},
        **_image_environment(),
        **_compose_environment(),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "LEEWAY_HOME": str(home),
        "LEEWAY_SERVER__PORT": ports["8080"],
        "LEEWAY_MONITOR__PORT": ports["9108"],
    }
    subprocess.run(["leeway", "init"], env=environment, check=True, capture_output=True, timeout=PATIENCE)
    for name, port in (("serve", "8080"), ("monitor", "9108")):
        check = [word.replace(port, ports[port]) for word in SERVICES[name]["healthcheck"]["test"][1:]]
        with subprocess.Popen(SERVICES[name]["command"], env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                _wait_until_healthy(check, environment, process)
            finally:
                process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
    status = SERVICES["worker"]["healthcheck"]["test"][1:]
    subprocess.run(status, env=environment, check=True, capture_output=True, timeout=PATIENCE)


def _wait_until_healthy(check: list[str], environment: dict[str, str], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(check, env=environment, capture_output=True, check=False).returncode:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it is not healthy"


def _image_environment() -> dict[str, str]:
    """What ENV sets in the stage that both images come from; PATH is the image's own."""
    runtime = DOCKERFILE.partition(" AS runtime\n")[2].partition("\nFROM")[0]
    block = re.search(r"^ENV (.*?[^\\])$", runtime, flags=re.MULTILINE | re.DOTALL)
    assert block is not None
    pairs = (word.partition("=") for word in block[1].replace("\\\n", " ").split())
    return {name: value for name, _, value in pairs if name != "PATH"}


def _compose_environment() -> dict[str, str]:
    """As with no .env file: variables at their defaults, secrets as what they are then, empty files."""
    told = {
        name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", str(text)) for name, text in SERVICES["serve"]["environment"].items()
    }
    return {name: "/dev/null" if value.startswith("/run/secrets/") else value for name, value in told.items()}
