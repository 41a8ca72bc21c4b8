"""What the demo shows: one line for each stage that is done, and a living line for the one under way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.rule import Rule
from rich.table import Table


class Stage:
    """A stage under way; its last detail is printed when it is done."""

    def __init__(self, display: Display, title: str) -> None:
        self._display = display
        self._title = title
        self.detail = ""

    def show(self, text: str) -> None:
        """Update the living line."""
        self._display.live(f"[bold]{self._title}[/]  [dim]{escape(text)}[/]")


class Display:
    """Prints to a terminal or a log alike; keeps how long each stage took (seconds)."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}
        self._status = console.status("", spinner="dots")

    @contextmanager
    def stage(self, key: str, title: str) -> Iterator[Stage]:
        """A stage named `key` in the summary; leaves a line when it ends well."""
        stage, start = Stage(self, title), time.monotonic()
        self._status.start()
        stage.show("")
        try:
            yield stage
        finally:
            self._status.stop()
        self.seconds[key] = round(time.monotonic() - start, 1)
        self.console.print(f"[green]✔[/] [bold]{title}[/]  {stage.detail}  [dim]{self.seconds[key]:.0f} s[/]")

    def live(self, text: str) -> None:
        """Replace the living line."""
        self._status.update(text)

    def note(self, text: str) -> None:
        """A line of its own, above the living one."""
        self.console.print(f"  {text}")

    def chapter(self, title: str) -> None:
        """A headline."""
        self.console.print()
        self.console.print(Rule(f"[bold]{title}", align="left", style="cyan"))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A small table."""
        table = Table(*columns, box=None, pad_edge=True, header_style="dim", padding=(0, 2))
        for row in rows:
            table.add_row(*row)
        self.console.print(table)
