"""`leeway load`: how much a running service bears, and how long its callers then wait."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from monitoring.core.cli import key_option, print_json
from monitoring.core.types import Role
from service.cli_common import json_option

if TYPE_CHECKING:
    from service.load import Borne, Plan

POSITIVE = click.FloatRange(0, min_open=True)


@click.command()
@click.argument("url")
@click.option("--model", required=True, help="The model to ask.")
@click.option(
    "--concurrency", type=click.IntRange(1, 10_000), default=8, show_default=True, help="Closed loop: callers."
)
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Open loop: requests a second; no closed loop then."
)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="How long.")
@click.option("--texts", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file, one text a line.")
@click.option("--texts-per-request", type=click.IntRange(1), default=1, show_default=True)
@click.option("--timeout", type=POSITIVE, default=30.0, show_default=True, help="Seconds.")
@key_option(Role.PREDICT)
@json_option
def load(
    *,
    url: str,
    model: str,
    concurrency: int,
    rate: float | None,
    seconds: float,
    texts: Path | None,
    texts_per_request: int,
    timeout: float,
    key: str | None,
    as_json: bool,
) -> None:
    """Make load on the service at URL and print its throughput and latencies.

    Closed loop: CONCURRENCY callers, each of whom waits for one answer before the next question. Open loop (--rate):
    requests at random moments, as many a second on average, and latencies from the moment when each was due.

    The answers are logged and judged as any traffic, as that of one client: it counts little as evidence.
    """
    from service.exchange import predict_path
    from service.load import Plan, bodies_of, make_load

    plan = Plan(
        url=url,
        path=predict_path(model),
        api_key=key or "",
        bodies=bodies_of(_texts(texts), texts_per_request),
        texts_per_request=texts_per_request,
        seconds=seconds,
        callers=concurrency,
        rate=rate,
        timeout=timeout,
    )
    _ask_once(plan, model)
    borne = make_load(plan)
    if as_json:
        print_json(dataclasses.asdict(borne))
    else:
        click.echo(_told(plan, borne))


def _texts(path: Path | None) -> list[str]:
    """The lines of a file, or the demo's messages. Raises InvalidInput."""
    import numpy as np

    from monitoring.core.errors import InvalidInput
    from service.demo.corpus import own_script

    if path is None:
        return [message.text for message in own_script(np.random.default_rng(0)).drifted]
    try:
        found = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read as UTF-8 text: {error}", field="texts") from error
    if not found:
        raise InvalidInput(f"{path} holds no text: write one a line", field="texts")
    return found


def _ask_once(plan: Plan, model: str) -> None:
    """One question before the many, so that a wrong URL, key or model is told in words. Raises LeewayError."""
    import orjson

    from service.client import Client

    first = orjson.loads(plan.bodies[0])
    with Client(plan.url, plan.api_key or None, timeout=plan.timeout) as client:
        client.predict(model, first["inputs"], key=first["key"])


def _told(plan: Plan, borne: Borne) -> str:
    from service.load import tell_counts

    callers = "caller" if plan.callers == 1 else "callers"
    loop = f"{plan.callers} {callers}" if plan.rate is None else f"{plan.rate:g} requests/s due"
    quantiles = "  ".join(f"{name} {value:.1f}" for name, value in borne.latency_ms.items()) or "nothing was answered"
    lines = [
        f"{loop}, {borne.seconds:.1f} s, {borne.requests} requests",
        f"answered    {borne.answered}, {borne.texts_per_second:.1f} texts/s",
        f"refused     {tell_counts(borne.refused)}",
        f"failed      {tell_counts(borne.failed)}",
        f"latency ms  {quantiles}",
    ]
    if plan.rate is not None:
        lines.append(f"sent late   p99 {borne.sent_late_ms:.1f} ms; latencies are from when each was due")
    return "\n".join(lines)
