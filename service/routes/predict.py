"""The plain way to ask: texts in, labels with calibrated probabilities out."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Header, Request, Response

from monitoring.core.types import Principal, Role
from service.auth import SECURITY, require
from service.context import context_of
from service.engine.work import Answer
from service.lean import TIMEOUT, LeanRoute
from service.schemas import ERRORS, PredictRequest, PredictResponse, check_texts

router = APIRouter(tags=["inference"], route_class=LeanRoute)

Predictor = Annotated[Principal, Depends(require(Role.PREDICT))]
Timeout = Annotated[
    float | None,
    Header(
        alias=TIMEOUT,
        gt=0,
        allow_inf_nan=False,
        description="seconds after which the answer is of no use: the texts then leave the queue, and it is 504; at "
        "most `server.deadline_seconds`",
        examples=[0.5],
    ),
]


@router.post(
    "/v1/models/{model}/predict",
    summary="Classify texts",
    response_model=PredictResponse,
    responses=ERRORS,
    openapi_extra={"security": SECURITY},
)
async def predict(
    request: Request, model: str, body: PredictRequest, caller: Predictor, within: Timeout = None
) -> Response:
    """Answers with label, calibrated probability, prediction id, and the version and variant that answered."""
    context = context_of(request)
    check_texts(body.inputs, context.settings.server)
    top_k = body.top_k or context.settings.server.top_k
    answers = await context.inference.predict(
        model,
        body.inputs,
        caller=caller.name,
        within=within,
        key=body.key,
        metadata=body.metadata,
        top_k=top_k,
        gone=lambda: until_gone(request),
    )
    content = {"model": model, "predictions": [_prediction(answer, top_k) for answer in answers]}
    return Response(orjson.dumps(content), media_type="application/json")


async def until_gone(request: Request) -> None:
    """Return when the caller has hung up; to be asked after the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _prediction(answer: Answer, top_k: int) -> dict[str, object]:
    return {
        "id": answer.id,
        "label": answer.label,
        "probability": answer.probability,
        "top_k": [{"label": label, "probability": share} for label, share in answer.top_k[:top_k]],
        "version": answer.version,
        "variant": answer.variant,
    }
