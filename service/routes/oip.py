"""Open Inference Protocol v2 over HTTP: https://github.com/kserve/open-inference-protocol, with binary tensors.

A text classifier is a model with one input `text` of BYTES, and the outputs `label`, `probability` and `prediction_id`,
one element a text. The request parameter `key` is the assignment key.

Below `/versions/{version}` the caller says who answers: the version in production or the candidate of the rollout,
outside of the rollout's split and of its evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from monitoring.core.types import Principal
from service.auth import SECURITY
from service.context import context_of
from service.engine.work import Answer
from service.lean import LeanRoute
from service.oip import answering, binary
from service.oip.shapes import OUTPUTS, InferRequest, InferResponse
from service.oip.tensors import column, wanted_outputs
from service.routes.predict import Predictor, Timeout, until_gone
from service.schemas import PROTOCOL_ERRORS, ProtocolErrorResponse


class InferRoute(LeanRoute):
    """Behind the JSON of a request, binary tensors may follow."""

    def content_of(self, request: Request, body: bytes) -> Any:
        """The request, with the data of its binary tensors."""
        header = request.headers.get(binary.HEADER)
        start, elements = (body, b"") if header is None else binary.parted(body, header)
        content = super().content_of(request, start)
        binary.fill(content, elements)
        return content


router = APIRouter(prefix="/v2", tags=["open inference protocol"], responses=PROTOCOL_ERRORS)
inference = APIRouter(prefix="/v2", tags=["open inference protocol"], responses=PROTOCOL_ERRORS, route_class=InferRoute)

PINNED: dict[int | str, dict[str, Any]] = {
    409: {"model": ProtocolErrorResponse, "description": "The version exists, but neither serves nor is tried."}
}
BINARY: dict[str, Any] = {
    "security": SECURITY,
    "parameters": [
        {
            "name": binary.HEADER,
            "in": "header",
            "required": False,
            "schema": {"type": "integer", "minimum": 0},
            "description": "length in bytes of the JSON, where binary tensors follow it; an answer with binary outputs "
            "has it, too",
        }
    ],
}


@router.get("", summary="Server metadata")
async def server() -> dict[str, Any]:
    """Name, version and extensions."""
    return answering.server_metadata()


@router.get("/models/{model}", summary="Model metadata")
async def model_metadata(request: Request, model: str) -> dict[str, Any]:
    """Inputs and outputs of a model, and the numbers of its versions that can be asked for."""
    return await answering.model_metadata(context_of(request), model, None)


@router.get("/models/{model}/versions/{version}", summary="Metadata of a version", responses=PINNED)
async def version_metadata(request: Request, model: str, version: str) -> dict[str, Any]:
    """Inputs and outputs of a version that answers."""
    return await answering.model_metadata(context_of(request), model, version)


@router.get("/models/{model}/ready", summary="Whether a model can answer")
async def model_ready(request: Request, model: str) -> Response:
    """503 while it cannot."""
    return _readiness(await answering.is_ready(context_of(request), model, None), name=model)


@router.get("/models/{model}/versions/{version}/ready", summary="Whether a version can answer")
async def version_ready(request: Request, model: str, version: str) -> Response:
    """503 while it cannot; 404 if there is no such version."""
    return _readiness(await answering.is_ready(context_of(request), model, version), name=model, version=version)


@inference.post(
    "/models/{model}/infer",
    summary="Classify texts",
    response_model=InferResponse,
    response_model_exclude_none=True,
    openapi_extra=BINARY,
)
async def infer(
    request: Request, model: str, body: InferRequest, caller: Predictor, within: Timeout = None
) -> Response:
    """The same engine as the plain route."""
    return await _infer(request, model, None, body, caller, within)


@inference.post(
    "/models/{model}/versions/{version}/infer",
    summary="Classify texts with a certain version",
    response_model=InferResponse,
    response_model_exclude_none=True,
    responses=PINNED,
    openapi_extra=BINARY,
)
async def infer_with_version(
    request: Request, model: str, version: str, body: InferRequest, caller: Predictor, within: Timeout = None
) -> Response:
    """That version answers, or none does."""
    return await _infer(request, model, version, body, caller, within)


async def _infer(
    request: Request, model: str, version: str | None, body: InferRequest, caller: Principal, within: float | None
) -> Response:
    wanted = wanted_outputs(body)
    answers = await answering.answers_to(
        body,
        context_of(request),
        model,
        version,
        caller=caller.name,
        within=within,
        gone=lambda: until_gone(request),
    )
    return _response(model, body, answers, wanted)


def _readiness(ready: bool, **of: str) -> Response:
    return Response(orjson.dumps(of | {"ready": ready}), 200 if ready else 503, media_type="application/json")


def _response(model: str, body: InferRequest, answers: Sequence[Answer], wanted: Sequence[str]) -> Response:
    asked = {output.name: output.parameters.binary_data for output in body.outputs}
    behind, outputs = b"", []
    for name in wanted:
        values = column(name, answers)
        output: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name], "shape": [len(answers)]}
        in_binary = asked.get(name)
        if body.parameters.binary_data_output if in_binary is None else in_binary:
            elements = binary.packed(values, OUTPUTS[name])
            output["parameters"] = {"binary_data_size": len(elements)}
            behind += elements
        else:
            output["data"] = values
        outputs.append(output)
    content: dict[str, Any] = {
        "model_name": model,
        "model_version": answering.version_of(answers),
        "parameters": {"variant": answers[0].variant},
        "outputs": outputs,
    }
    if body.id is not None:
        content["id"] = body.id
    start = orjson.dumps(content)
    if not behind:
        return Response(start, media_type="application/json")
    return Response(start + behind, headers={binary.HEADER: str(len(start))}, media_type="application/octet-stream")
