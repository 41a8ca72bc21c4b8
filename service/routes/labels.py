"""Which answers want a label: the monitor draws them and keeps them in the ledger, for serving reads no log."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import ConfigDict

from monitoring.core.errors import NotReady
from monitoring.core.ledger import label_queue, versions
from monitoring.core.types import LabelSource, Role
from monitoring.label_queue import Part, shorter
from service.auth import SECURITY, require
from service.context import Here
from service.operation_schemas import OPERATION_ERRORS
from service.schemas import Shape

router = APIRouter(prefix="/v1/labels", tags=["feedback"])

EXAMPLE: dict[str, Any] = {
    "model": "support",
    "version": "support@1",
    "labels": ["account", "billing", "delivery"],
    "items": [
        {
            "prediction_id": "019b8e2c-0000-7000-8000-000000000000",
            "at": "2026-01-05T12:00:00+00:00",
            "text": "can I send it back?",
            "part": "drifted",
            "reason": "of those that wait, among the least like what was learnt: similarity 0.31",
            "predicted": "delivery",
            "confidence": 0.44,
            "choices": ["delivery", "billing"],
            "source": "review",
            "sampling_probability": None,
        }
    ],
}


class WantedLabel(Shape):
    """An answer to label, to be sent to `/v1/feedback` with this `source` and `sampling_probability`.

    `text` is null where the log keeps none. What the model answered is null in the random part: who sees it labels
    less honestly.
    """

    prediction_id: str
    at: datetime
    text: str | None
    part: Part
    reason: str
    predicted: str | None
    confidence: float | None
    choices: list[str]
    source: LabelSource
    sampling_probability: float | None


class LabelQueue(Shape):
    """The random part first, newest first; `labels`: all classes of the version."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    model: str
    version: str
    labels: list[str]
    items: list[WantedLabel]


@router.get(
    "/queue",
    summary="Answers that most want a label",
    responses=OPERATION_ERRORS,
    openapi_extra={"security": SECURITY},
    dependencies=[Depends(require(Role.FEEDBACK, Role.OPERATE))],
)
def show_queue(
    context: Here,
    model: Annotated[str, Query(description="whose answers")],
    size: Annotated[int, Query(ge=1, le=500)] = 100,
) -> LabelQueue:
    """Half of them at random, the rest unlike what was learnt or unsure. Drawn anew as windows end; what is answered
    is left out at once."""
    kept_for = timedelta(days=context.settings.log.retention_days)
    with context.ledger.read() as connection:
        production = versions.model_state(connection, model).production
        if production is None:
            raise NotReady(f"{model} has no production version, so there are no answers to label")
        version = versions.get(connection, production)
        since = context.clock() - kept_for
        entries = label_queue.waiting(connection, model=model, version=version.id, since=since)
    chosen = [entries[place] for place in shorter([entry["part"] for entry in entries], size)]
    texts_kept = context.settings.log.text == "store"
    items = [_wanted(entry if texts_kept else {**entry, "text": None}) for entry in chosen]
    return LabelQueue(model=model, version=version.name, labels=list(version.labels), items=items)


def _wanted(entry: dict[str, Any]) -> WantedLabel:
    return WantedLabel.model_validate({name: entry[name] for name in WantedLabel.model_fields})
