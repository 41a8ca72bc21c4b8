"""`make observe`: a real Prometheus and Alertmanager beside a live Leeway, without containers.

They run with the project's own configuration, pointed at the addresses in the settings; what Alertmanager sends arrives
in this terminal. Grafana needs `docker-compose --profile monitoring up`, or its own package.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import httpx
import yaml

from monitoring.core.settings import Settings, load_settings

FOLDER = Path(__file__).parent
PROMETHEUS = FOLDER / "prometheus" / "prometheus.yml"
RULES = FOLDER / "prometheus" / "rules"
ALERTMANAGER = FOLDER / "alertmanager" / "alertmanager.yml"
HOOK = "http://host.docker.internal:9099"
"""Where the receivers of alertmanager.yml post to."""
START_SECONDS = 30.0
STOP_SECONDS = 10.0
MISSING = """\
{name} is not here. Any of these brings it:
  Debian, Ubuntu: apt-get install --no-install-recommends prometheus prometheus-alertmanager
  others:         https://prometheus.io/download/, then name the folder that holds it: LEEWAY_TOOLS=FOLDER make observe
  containers:     docker-compose --profile monitoring up"""
STATUS_COLOURS = {"firing": "red", "resolved": "green"}

Listener = Callable[[str, Mapping[str, Any]], None]
"""Told of each message with its path, such as /page, and its body."""


def find_tool(*names: str) -> Path | None:
    """The first of `names` that LEEWAY_TOOLS or PATH holds; Debian gives Alertmanager a longer name."""
    folders = os.pathsep.join(filter(None, [os.environ.get("LEEWAY_TOOLS"), os.environ.get("PATH")]))
    return next((Path(found) for name in names if (found := shutil.which(name, path=folders))), None)


def addresses(settings: Settings) -> dict[str, str]:
    """Where each of Leeway's scrape jobs finds its process on this machine."""
    server, monitor = settings.server, settings.monitor
    return {
        "leeway-serve": f"{_reachable(server.host)}:{server.port}",
        "leeway-monitor": f"{_reachable(monitor.host)}:{monitor.port}",
    }


def prometheus_config(
    targets: Mapping[str, str], *, alertmanager: str, rules: Path = RULES, every: str | None = None
) -> str:
    """The project's prometheus.yml for this machine: only the jobs in `targets`, scraped `every` so often."""
    config = yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))
    if every is not None:
        config["global"] = {"scrape_interval": every, "evaluation_interval": every, "scrape_timeout": every}
    config["rule_files"] = [str(rules / "*.yml")]
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    config["scrape_configs"] = [
        {**job, "static_configs": [{"targets": [targets[job["job_name"]]]}]}
        for job in config["scrape_configs"]
        if job["job_name"] in targets
    ]
    return yaml.safe_dump(config, sort_keys=False)


def alertmanager_config(hook: str) -> str:
    """The project's alertmanager.yml, its receivers at `hook`."""
    return ALERTMANAGER.read_text(encoding="utf-8").replace(HOOK, hook)


@contextmanager
def receiver(listener: Listener, port: int = 0) -> Iterator[str]:
    """A webhook on this machine that tells `listener`; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(204)
            self.end_headers()
            listener(self.path, json.loads(body))

        def log_message(self, format: str, *args: Any) -> None:
            """What arrives is told by the listener."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def running(command: Sequence[str | Path], log: Path, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers `ready` before this goes on, and is stopped in the end. Raises ClickException."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            _wait_until_ready(process, log, ready)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def prometheus_command(binary: Path, config: Path, data: Path, port: int) -> list[str | Path]:
    """How Prometheus is started."""
    listen = f"--web.listen-address=127.0.0.1:{port}"
    return [binary, f"--config.file={config}", f"--storage.tsdb.path={data}", listen]


def alertmanager_command(binary: Path, config: Path, data: Path, port: int) -> list[str | Path]:
    """How Alertmanager is started: alone, without looking for others."""
    listen = f"--web.listen-address=127.0.0.1:{port}"
    return [binary, f"--config.file={config}", f"--storage.path={data}", listen, "--cluster.listen-address="]


def tell(path: str, message: Mapping[str, Any]) -> None:
    """Print what a receiver got; the watchdog's beat is no news."""
    if path == "/watchdog":
        return
    for alert in message["alerts"]:
        status, notes = alert["status"], alert["annotations"]
        moment = click.style(time.strftime("%H:%M:%S"), dim=True)
        click.echo(
            f"{moment} {path[1:]} {click.style(status, fg=STATUS_COLOURS.get(status))} {notes.get('summary', '')}"
        )
        if status == "firing":
            click.echo(f"         {notes.get('action', '')}\n         {_page(notes.get('runbook_url', ''))}")


def _page(url: str) -> str:
    """A runbook's file: no Grafana serves the page here."""
    return f"docs/runbooks/{url.rpartition('/')[2]}" if url else ""


@click.command()
@click.option("--prometheus-port", default=9090, show_default=True)
@click.option("--alertmanager-port", default=9093, show_default=True)
@click.option("--every", help="Scrape and evaluate so often, such as 5s, instead of as in prometheus.yml.")
@click.option("--seconds", type=float, help="End after so long instead of at Ctrl-C.")
def observe(*, prometheus_port: int, alertmanager_port: int, every: str | None, seconds: float | None) -> None:
    """Run Prometheus and Alertmanager beside a live Leeway, and show the alerts here."""
    found = {
        "prometheus": find_tool("prometheus"),
        "alertmanager": find_tool("alertmanager", "prometheus-alertmanager"),
    }
    binaries = {name: _needed(name, path) for name, path in found.items()}
    settings = load_settings()
    targets = addresses(settings)
    folder = settings.home.absolute() / "observe"
    folder.mkdir(parents=True, exist_ok=True)
    for job, address in targets.items():
        if not answers(f"http://{address}/metrics"):
            click.secho(f"{job} does not answer at {address} yet: start `leeway up` beside this", fg="yellow")
    with ExitStack() as stack:
        hook = stack.enter_context(receiver(tell))
        config = folder / "alertmanager.yml"
        config.write_text(alertmanager_config(hook), encoding="utf-8")
        url = f"http://127.0.0.1:{alertmanager_port}"
        command = alertmanager_command(binaries["alertmanager"], config, folder / "alertmanager", alertmanager_port)
        stack.enter_context(running(command, folder / "alertmanager.log", f"{url}/-/ready"))
        click.echo(f"Alertmanager {url}")
        config = folder / "prometheus.yml"
        scraped = {**targets, "prometheus": f"127.0.0.1:{prometheus_port}"}
        config.write_text(
            prometheus_config(scraped, alertmanager=f"127.0.0.1:{alertmanager_port}", every=every), encoding="utf-8"
        )
        url = f"http://127.0.0.1:{prometheus_port}"
        command = prometheus_command(binaries["prometheus"], config, folder / "prometheus", prometheus_port)
        stack.enter_context(running(command, folder / "prometheus.log", f"{url}/-/ready"))
        click.echo(f"Prometheus   {url}/alerts   logs and data in {folder}; Ctrl-C stops both")
        _wait(seconds)


def answers(url: str) -> bool:
    """Whether something answers there with success."""
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


def _needed(name: str, path: Path | None) -> Path:
    if path is None:
        raise click.ClickException(MISSING.format(name=name))
    return path


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "") else host


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path, ready: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers(ready):
        if process.poll() is not None or time.monotonic() > deadline:
            last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
            raise click.ClickException(f"{process.args!s} does not get ready:\n{last}")
        time.sleep(0.05)


def _wait(seconds: float | None) -> None:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    stopping.wait(seconds)


if __name__ == "__main__":
    sys.exit(observe())
