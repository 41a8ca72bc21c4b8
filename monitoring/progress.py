"""How far the monitor has come with one model: kept as a cursor in the transaction that keeps what it concluded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection

from monitoring.core.ledger import verdicts
from monitoring.core.types import Verdict
from monitoring.intake import Reign, StreamPoint

MAX_MARKS = 64


START = StreamPoint(0, 0, 0)


@dataclass(frozen=True)
class Progress:
    """How far: `commit` of the log and `feedback` sequence; the rest is of the present reign.

    `window`: where the unfinished window starts, with `pending` rows so far; `marks`: where the last ones started;
    `last_alarm`: position of the detector's last alarm, -1 before any; `quiet`: windows in a row without drift or
    alarm.
    """

    commit: int = 0
    feedback: int = 0
    reign: Reign | None = None
    window: StreamPoint = START
    pending: int = 0
    marks: tuple[StreamPoint, ...] = ()
    last_alarm: int = -1
    quiet: int = 0

    @property
    def seen(self) -> int:
        """Predictions of the reign that were judged."""
        return self.window.position + self.pending

    def under(self, reign: Reign) -> Progress:
        """The progress in `reign`: this one, or the start of a new one, whose rows all lie in later commits."""
        if self.reign == reign:
            return self
        return Progress(self.commit, self.feedback, reign, window=StreamPoint(0, self.commit + 1, 0))

    def past(self, window: pa.Table, verdict: Verdict, alarms: Sequence[int]) -> Progress:
        """With the `window` finished; `alarms`: positions of the detector's alarms, of other windows too."""
        end = self.window.after(window, len(window))
        quiet = self.quiet
        if verdict is Verdict.DRIFT or any(self.window.position <= alarm < end.position for alarm in alarms):
            quiet = 0
        elif verdict is not Verdict.INCONCLUSIVE:
            quiet += 1
        marks = (*self.marks, self.window)[-MAX_MARKS:]
        return dataclasses.replace(self, window=end, pending=0, marks=marks, quiet=quiet)

    def mark_before(self, position: int) -> StreamPoint:
        """The latest known place at or before `position`, or the earliest known."""
        known = (*self.marks, self.window)
        return max((mark for mark in known if mark.position <= position), key=_position, default=known[0])

    def save(self, connection: Connection, model: str) -> None:
        """Keep it."""
        body = dataclasses.asdict(self)
        if self.reign is not None:
            body["reign"]["since"] = self.reign.since.isoformat()
        verdicts.save_cursor(connection, f"watch:{model}", body)

    @classmethod
    def load(cls, connection: Connection, model: str) -> Progress:
        """Read it; the beginning where there is none."""
        body: dict[str, Any] = verdicts.load_cursor(connection, f"watch:{model}")
        if not body:
            return cls()
        reign = body["reign"]
        return cls(
            **(
                body
                | {
                    "reign": reign and Reign(reign["version"], datetime.fromisoformat(reign["since"])),
                    "window": StreamPoint(**body["window"]),
                    "marks": tuple(StreamPoint(**mark) for mark in body["marks"]),
                }
            )
        )


def _position(mark: StreamPoint) -> int:
    return mark.position
