"""`leeway report`: a page on one version, for the last windows or any past span."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monitoring.core.cli import json_option, open_ledger, open_registry, print_json
from monitoring.core.errors import NotReady
from monitoring.core.settings import Settings, load_settings
from monitoring.core.types import utc_now

if TYPE_CHECKING:
    from monitoring.baseline import Baseline
    from monitoring.dossier import Found

A_DAY, A_MINUTE = "%Y-%m-%d", "%Y-%m-%dT%H:%M"
Moment = click.DateTime([A_DAY, A_MINUTE])


@click.command()
@click.argument("model")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="HTML file to write.")
@click.option("--since", type=Moment, help="Begin of the span, UTC: 2026-01-31 or 2026-01-31T08:00.")
@click.option("--until", type=Moment, help="End of the span, UTC; a day without a time is part of it.")
@click.option("--evidently", is_flag=True, help="Also write Evidently's report on the last window, beside it.")
@json_option
def report(
    *, model: str, out: Path, since: datetime | None, until: datetime | None, evidently: bool, as_json: bool
) -> None:
    """Write a page on MODEL's champion, or on a version such as support@2: what it is worth, what moved, what to do.

    The span's windows are judged as one from what they left in the ledger, without reading a prediction again.
    """
    from monitoring import dossier
    from monitoring.report import render_report

    begin, end = dossier.span_of(since, until)
    settings = load_settings()
    ledger = open_ledger(settings)
    now = utc_now()
    with ledger.read() as connection:
        version = dossier.version_named(connection, model)
        found = dossier.find(connection, version, since=begin, until=end, now=now)
    baseline, problem = dossier.read_baseline(open_registry(settings, ledger), found)
    ledger.close()
    rival = _second_opinion(settings, found, baseline, out) if evidently else None
    page = render_report(found, baseline, settings.monitor, made_at=now, problem=problem, rival=rival)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page)
    span = None if baseline is None else dossier.judge_span(found, baseline, settings.monitor)
    latest = found.reports[-1] if found.reports else None
    if as_json:
        print_json(
            {
                "file": str(out),
                "version": version.name,
                "windows": len(found.reports),
                "verdict": None if latest is None else latest.verdict,
                "span": None if span is None else span.as_json(),
                "evidently": rival,
            }
        )
        return
    none = ": none was judged in that span, so nothing can be said of it" if begin or end else ": none is judged yet"
    click.echo(f"{out}: {len(found.reports)} windows of {version.name}{'' if found.reports else none}")
    if problem is not None:
        click.echo(f"without distributions, since its baseline cannot be read: {problem}", err=True)
    if rival is not None:
        ours = "none" if latest is None else latest.verdict
        theirs = "dataset drift" if rival["dataset_drift"] else "no dataset drift"
        click.echo(f"{out.with_name(rival['file'])}: Evidently finds {theirs}; our verdict: {ours}")


def _second_opinion(settings: Settings, found: Found, baseline: Baseline | None, out: Path) -> dict[str, Any]:
    """Evidently's verdict on the rows of the newest window; its page goes beside ours."""
    from monitoring.core.prediction_log import PredictionLog
    from monitoring.evidently_export import export_evidently
    from monitoring.intake import WINDOW_COLUMNS, Reign, as_traffic

    if baseline is None or not found.reports:
        raise NotReady("Evidently's report needs a judged window and the version's baseline")
    window = found.reports[-1]
    log = PredictionLog(settings.log_url)
    span = (window.window_start, window.window_end + timedelta(microseconds=1))  # the last row is part of it
    read = log.read(version=found.version.id, within=span, columns=WINDOW_COLUMNS)
    rows = Reign(found.version.id, window.window_start).stream(read)
    rows = rows.slice(0, window.n)
    if len(rows) == 0:
        raise NotReady("the window's rows are beyond the prediction log's retention: Evidently has nothing to read")
    traffic = as_traffic(rows, texts_kept=settings.log.text == "store")
    return export_evidently(baseline, traffic, out.with_suffix(".evidently.html"))
