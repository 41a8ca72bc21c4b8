"""Open Inference Protocol v2 over HTTP: https://github.com/kserve/open-inference-protocol (JSON tensors).

A text classifier is a model with one input `text` of BYTES, and the outputs `label`, `probability` and `prediction_id`,
one element a text. The request parameter `key` is the assignment key. The binary tensor extension is refused.

Below `/versions/{version}` the caller says who answers: the version in production or the candidate of the rollout,
outside of the rollout's split and of its evidence.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from monitoring.core.errors import Conflict, InvalidInput, NotReady
from monitoring.core.types import Principal
from service.auth import SECURITY
from service.context import context_of
from service.engine.work import Answer
from service.routes.predict import Predictor, Timeout, until_gone
from service.routing import Part
from service.schemas import PROTOCOL_ERRORS, Key, ProtocolErrorResponse, check_texts
from service.version import program_version

router = APIRouter(prefix="/v2", tags=["open inference protocol"], responses=PROTOCOL_ERRORS)

BINARY_HEADER = "inference-header-content-length"
NO_BINARY = "the binary tensor extension is not supported: send JSON (tritonclient: binary_data=False)"
PINNED: dict[int | str, dict[str, Any]] = {
    409: {"model": ProtocolErrorResponse, "description": "The version exists, but neither serves nor is tried."}
}
OUTPUTS = {"label": "BYTES", "probability": "FP32", "prediction_id": "BYTES"}


class Parameters(BaseModel):
    """Parameters of a request or tensor; unknown ones are ignored, as the protocol asks."""

    key: Key | None = None
    binary_data: bool = False
    binary_data_output: bool = False
    binary_data_size: int | None = None


class InputTensor(BaseModel):
    """The texts, as a flat or a one-column tensor."""

    name: str
    shape: Annotated[list[Annotated[StrictInt, Field(ge=0)]], Field(min_length=1)]
    datatype: str
    parameters: Parameters = Parameters()
    data: list[Any] = []


class RequestedOutput(BaseModel):
    """An output that the caller wants; all, where none is named."""

    name: str
    parameters: Parameters = Parameters()


class InferRequest(BaseModel):
    """An inference request."""

    id: str | None = None
    parameters: Parameters = Parameters()
    inputs: Annotated[list[InputTensor], Field(min_length=1)]
    outputs: list[RequestedOutput] = []

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "42",
                    "parameters": {"key": "customer-7"},
                    "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["my parcel is late"]}],
                }
            ]
        }
    )


class OutputTensor(BaseModel):
    """One output, an element a text."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class InferResponse(BaseModel):
    """`model_version` is the number of the version that answered."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, str] = {}
    outputs: list[OutputTensor]


@router.get("", summary="Server metadata")
async def server() -> dict[str, Any]:
    """Name, version and extensions."""
    return {"name": "leeway", "version": program_version(), "extensions": []}


@router.get("/models/{model}", summary="Model metadata")
async def model_metadata(request: Request, model: str) -> dict[str, Any]:
    """Inputs and outputs of a model, and the numbers of its versions that can be asked for."""
    shares = context_of(request).serving.table.route(model).shares()
    return _metadata(model, [str(target.version.number) for target, _, _ in shares])


@router.get("/models/{model}/versions/{version}", summary="Metadata of a version", responses=PINNED)
async def version_metadata(request: Request, model: str, version: str) -> dict[str, Any]:
    """Inputs and outputs of a version that answers."""
    await pin(request, model, version)
    return _metadata(model, [version])


@router.get("/models/{model}/ready", summary="Whether a model can answer")
async def model_ready(request: Request, model: str) -> Response:
    """503 while it cannot."""
    try:
        context_of(request).serving.table.route(model)
        ready = True
    except NotReady:
        ready = False
    return _readiness(ready, name=model)


@router.get("/models/{model}/versions/{version}/ready", summary="Whether a version can answer")
async def version_ready(request: Request, model: str, version: str) -> Response:
    """503 while it cannot; 404 if there is no such version."""
    try:
        await pin(request, model, version)
        ready = True
    except (NotReady, Conflict):
        ready = False
    return _readiness(ready, name=model, version=version)


@router.post(
    "/models/{model}/infer",
    summary="Classify texts",
    response_model=InferResponse,
    response_model_exclude_none=True,
    openapi_extra={"security": SECURITY},
)
async def infer(
    request: Request, model: str, body: InferRequest, caller: Predictor, within: Timeout = None
) -> Response:
    """The same engine as the plain route."""
    return await _infer(request, model, body, caller, within, None)


@router.post(
    "/models/{model}/versions/{version}/infer",
    summary="Classify texts with a certain version",
    response_model=InferResponse,
    response_model_exclude_none=True,
    responses=PINNED,
    openapi_extra={"security": SECURITY},
)
async def infer_with_version(
    request: Request, model: str, version: str, body: InferRequest, caller: Predictor, within: Timeout = None
) -> Response:
    """That version answers, or none does."""
    return await _infer(request, model, body, caller, within, await pin(request, model, version))


async def pin(request: Request, model: str, version: str) -> Part:
    """Who answers for this version. Raises NotFound, Conflict or NotReady with the reason why nobody does."""
    serving = context_of(request).serving
    part = serving.table.route(model).pinned(version)
    if part is None:
        raise await asyncio.to_thread(serving.why_not, model, version)
    return part


async def _infer(
    request: Request, model: str, body: InferRequest, caller: Principal, within: float | None, pinned: Part | None
) -> Response:
    context = context_of(request)
    refuse_binary(request, body)
    texts = texts_of(body)
    wanted = wanted_outputs(body)
    check_texts(texts, context.settings.server)
    answers = await context.inference.predict(
        model,
        texts,
        caller=caller.name,
        within=within,
        key=body.parameters.key,
        metadata={},
        top_k=1,
        gone=lambda: until_gone(request),
        pinned=pinned,
    )
    return Response(orjson.dumps(_response(model, body, answers, wanted)), media_type="application/json")


def refuse_binary(request: Request, body: InferRequest) -> None:
    """Raise InvalidInput if tensors come, or are wanted, in the binary form."""
    tensors = [*(tensor.parameters for tensor in body.inputs), *(output.parameters for output in body.outputs)]
    asked = any(parameters.binary_data or parameters.binary_data_size is not None for parameters in tensors)
    if asked or body.parameters.binary_data_output or BINARY_HEADER in request.headers:
        raise InvalidInput(NO_BINARY, field="parameters")


def texts_of(body: InferRequest) -> list[str]:
    """The texts of the one input tensor. Raises InvalidInput, naming what does not fit."""
    tensor = body.inputs[0]
    if len(body.inputs) > 1 or tensor.name != "text":
        names = ", ".join(repr(tensor.name) for tensor in body.inputs)
        raise InvalidInput(f"inputs: this model takes one tensor named 'text', not {names}", field="inputs")
    if tensor.datatype != "BYTES":
        raise InvalidInput(f"inputs[0].datatype is {tensor.datatype!r}; texts are BYTES", field="inputs[0].datatype")
    texts = list(_flat(tensor.data))
    if not all(isinstance(text, str) for text in texts):
        raise InvalidInput("inputs[0].data must hold strings only", field="inputs[0].data")
    if math.prod(tensor.shape) != len(texts) or math.prod(tensor.shape[1:]) != 1:
        raise InvalidInput(
            f"inputs[0].shape is {tensor.shape}, data holds {len(texts)} texts: the shape should be [{len(texts)}]",
            field="inputs[0].shape",
        )
    if not texts:
        raise InvalidInput("inputs[0].data is empty: send at least one text", field="inputs[0].data")
    return texts


def wanted_outputs(body: InferRequest) -> list[str]:
    """Names of the outputs to return, in the order asked for. Raises InvalidInput for one that does not exist."""
    for number, output in enumerate(body.outputs):
        if output.name not in OUTPUTS:
            raise InvalidInput(
                f"outputs[{number}].name is {output.name!r}; there are {', '.join(OUTPUTS)}",
                field=f"outputs[{number}].name",
            )
    return [output.name for output in body.outputs] or list(OUTPUTS)


def _metadata(model: str, versions: Sequence[str]) -> dict[str, Any]:
    return {
        "name": model,
        "versions": list(versions),
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in OUTPUTS.items()],
    }


def _readiness(ready: bool, **of: str) -> Response:
    return Response(orjson.dumps(of | {"ready": ready}), 200 if ready else 503, media_type="application/json")


def _response(model: str, body: InferRequest, answers: Sequence[Answer], wanted: Sequence[str]) -> dict[str, Any]:
    columns: dict[str, list[str] | list[float]] = {
        "label": [answer.label for answer in answers],
        "probability": [answer.probability for answer in answers],
        "prediction_id": [answer.id for answer in answers],
    }
    response: dict[str, Any] = {
        "model_name": model,
        "model_version": answers[0].version.rpartition("@")[2],
        "parameters": {"variant": answers[0].variant},
        "outputs": [
            {"name": name, "datatype": OUTPUTS[name], "shape": [len(answers)], "data": columns[name]} for name in wanted
        ],
    }
    if body.id is not None:
        response["id"] = body.id
    return response


def _flat(data: Sequence[Any]) -> Iterator[Any]:
    for item in data:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item
