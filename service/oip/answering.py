"""What the protocol answers, over HTTP as over gRPC: who is ready, what a model takes, and its answers to texts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from monitoring.core.errors import Conflict, NotReady
from service.context import Context
from service.engine.work import Answer
from service.inference import Gone
from service.oip.shapes import OUTPUTS, InferRequest
from service.oip.tensors import texts_of
from service.routing import Part
from service.schemas import check_texts
from service.version import program_version

EXTENSIONS = ("binary_tensor_data",)


def server_metadata() -> dict[str, Any]:
    """Name, version and extensions."""
    return {"name": "leeway", "version": program_version(), "extensions": list(EXTENSIONS)}


async def model_metadata(context: Context, model: str, version: str | None) -> dict[str, Any]:
    """Inputs and outputs of a model, and the numbers of its versions that can be asked for; or only of `version`.

    Raises NotFound, NotReady or Conflict.
    """
    if version is None:
        shares = context.serving.table.route(model).shares()
        numbers = [str(target.version.number) for target, _, _ in shares]
    else:
        await pin(context, model, version)
        numbers = [version]
    return {
        "name": model,
        "versions": numbers,
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in OUTPUTS.items()],
    }


async def is_ready(context: Context, model: str, version: str | None) -> bool:
    """Whether the model, or its `version`, can answer. Raises NotFound where it does not exist."""
    try:
        if version is None:
            context.serving.table.route(model)
        else:
            await pin(context, model, version)
    except (NotReady, Conflict):
        return False
    return True


async def pin(context: Context, model: str, version: str) -> Part:
    """Who answers for this version. Raises NotFound, Conflict or NotReady with the reason why nobody does."""
    part = context.serving.table.route(model).pinned(version)
    if part is None:
        raise await asyncio.to_thread(context.serving.why_not, model, version)
    return part


async def answers_to(
    request: InferRequest,
    context: Context,
    model: str,
    version: str | None,
    *,
    caller: str,
    within: float | None,
    gone: Gone,
) -> list[Answer]:
    """An answer to each text. With a `version`, that one answers or none does. Raises what `Inference.predict` does."""
    pinned = None if version is None else await pin(context, model, version)
    texts = texts_of(request)
    check_texts(texts, context.settings.server)
    return await context.inference.predict(
        model,
        texts,
        caller=caller,
        within=within,
        key=request.parameters.key,
        metadata={},
        top_k=1,
        gone=gone,
        pinned=pinned,
    )


def version_of(answers: Sequence[Answer]) -> str:
    """The number of the version that answered."""
    return answers[0].version.rpartition("@")[2]
