"""What travels through the engine: a call with its texts, each a piece of work, and the answers that come back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from monitoring.core.runtime import Encoded
from monitoring.core.signals import Predictions
from monitoring.core.types import Variant
from service.engine.classifier import LoadedVersion


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller gets for one text; `top_k`: the likeliest labels with their probabilities, best first."""

    id: str
    label: str
    probability: float
    top_k: Sequence[tuple[str, float]]
    version: str
    variant: Variant


@dataclass(frozen=True, slots=True)
class RolloutStep:
    """The rollout step under which a text is answered; `rollout` is None outside of one."""

    rollout: str | None = None
    step: int = -1
    share: float = 0.0


NO_ROLLOUT = RolloutStep()


class Call:
    """One request while it waits. Belongs to the event loop that made it: everything in it changes there alone."""

    def __init__(self, *, model: str, unit: str, at_us: int, started: float, metadata: str, top_k: int) -> None:
        self.model = model
        self.unit = unit
        self.at_us = at_us
        self.started = started
        self.metadata = metadata
        self.top_k = top_k
        self.loop = asyncio.get_running_loop()
        self.answers: dict[int, Answer] = {}
        self.failures: dict[int, str] = {}
        self.done: asyncio.Future[None]

    def expect(self, rows: int) -> None:
        """Begin to wait for so many results; failures of an earlier attempt are forgotten."""
        self.failures.clear()
        self.done = self.loop.create_future()
        self._missing = rows

    def deliver(self, row: int, result: Answer | str) -> None:
        """Take the answer to a row, or the reason why there is none."""
        if isinstance(result, Answer):
            self.answers[row] = result
        else:
            self.failures[row] = result
        self._missing -= 1
        if self._missing == 0 and not self.done.done():
            self.done.set_result(None)


@dataclass(eq=False, slots=True)
class Work:
    """One text on its way through one version. The last fields are the queue's own; its lock guards them.

    `party`: whose text it is, model and caller, for parties take turns. `champion_label`: in a shadow copy, what the
    caller was told.
    """

    call: Call
    row: int
    prediction_id: str
    text: str
    target: LoadedVersion
    variant: Variant
    step: RolloutStep
    party: str = ""
    shadow: LoadedVersion | None = None
    champion_label: str | None = None
    encoded: Encoded | None = None
    sequence: int = 0
    tag: float = 0.0
    waiting_since: float = 0.0
    taken: bool = False
    abandoned: bool = False
    finished: bool = False


@dataclass(frozen=True)
class FinishedBatch:
    """Works of one version that ran together, without those that were abandoned meanwhile.

    `rows`: where each work stands in `predictions`, which is None where they failed, for the reason `error`.
    `began`, `ended`: of the model call, in `time.perf_counter()` seconds.
    """

    works: Sequence[Work]
    rows: Sequence[int]
    predictions: Predictions | None
    error: str | None
    began: float
    ended: float
