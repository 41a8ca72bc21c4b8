"""What callers learn later about their predictions. Kept durably before it is confirmed; said twice, kept once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from sqlalchemy.exc import IntegrityError

from monitoring.core.errors import InvalidInput
from monitoring.core.ledger import labels
from monitoring.core.types import Principal, Role
from service.auth import SECURITY, require
from service.context import Context, context_of
from service.schemas import ERRORS, FeedbackBatchKept, FeedbackItem, FeedbackKept, FeedbackRequest

router = APIRouter(tags=["feedback"])


@router.post(
    "/v1/feedback",
    status_code=201,
    summary="Give labels or ratings to predictions",
    responses=ERRORS,
    openapi_extra={"security": SECURITY},
)
async def give_feedback(
    request: Request, body: FeedbackRequest, caller: Annotated[Principal, Depends(require(Role.FEEDBACK))]
) -> FeedbackKept | FeedbackBatchKept:
    """One item, or `{"items": [...]}`. A label that the model does not know is kept as a proposed class."""
    context = context_of(request)
    if isinstance(body, FeedbackItem):
        return (await asyncio.to_thread(_keep, context, [body], caller.name, batch=False))[0]
    return FeedbackBatchKept(items=await asyncio.to_thread(_keep, context, body.items, caller.name, batch=True))


def _keep(context: Context, items: Sequence[FeedbackItem], author: str, *, batch: bool) -> list[FeedbackKept]:
    try:
        kept = _insert(context, items, author, batch=batch)
    except IntegrityError:  # another caller said the same in this very moment: now it is there to be found
        kept = _insert(context, items, author, batch=batch)
    for item, result in zip(items, kept, strict=True):
        if result.new:
            context.metrics.feedback(item.source)
    return kept


def _insert(context: Context, items: Sequence[FeedbackItem], author: str, *, batch: bool) -> list[FeedbackKept]:
    now = context.clock()
    kept = []
    with context.ledger.begin() as connection:
        for number, item in enumerate(items):
            try:
                feedback, new = labels.add_feedback(
                    connection,
                    prediction_id=item.prediction_id,
                    source=item.source,
                    label=item.label,
                    rating=item.rating,
                    sampling_probability=item.sampling_probability,
                    author=author,
                    now=now,
                )
            except InvalidInput as error:
                if batch:
                    error.field = f"items[{number}].{error.field}"
                raise
            kept.append(FeedbackKept(id=feedback.id, new=new))
    return kept
