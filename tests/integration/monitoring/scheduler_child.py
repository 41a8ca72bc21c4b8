"""A scheduler in a process of its own: `python scheduler_child.py LEDGER JOURNAL NAME [hang]`.

It has one routine, whose single window lasts for years, and writes to the journal what it does.
"""

from __future__ import annotations

import sys
import threading
from datetime import timedelta
from pathlib import Path

from monitoring.core.ledger.database import Ledger
from monitoring.core.types import utc_now
from monitoring.scheduler import Routine, Scheduler


def main(url: str, journal: Path, name: str, hangs: bool) -> None:
    """Run until killed."""

    def note(what: str) -> None:
        with journal.open("a") as file:
            file.write(f"{what} {name}\n")

    def work(_: str) -> None:
        note("begun")
        if hangs:
            threading.Event().wait()
        note("done")

    routine = Routine("probe", timedelta(days=36_500), work)
    ledger = Ledger.open(url)
    Scheduler([routine], ledger=ledger, clock=utc_now, owner=name, lease=timedelta(seconds=3)).start()
    note("ready")
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], hangs="hang" in sys.argv)
