"""Between gRPC's messages and the shapes that HTTP uses as well."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from monitoring.core.errors import InvalidInput
from service.engine.work import Answer
from service.lean import read
from service.oip import open_inference_pb2 as wire
from service.oip.answering import version_of
from service.oip.binary import packed, text_of, texts_in
from service.oip.shapes import OUTPUTS, InferRequest
from service.oip.tensors import column

REQUEST = TypeAdapter(InferRequest)


def request_of(message: wire.ModelInferRequest) -> InferRequest:
    """What it asks. Raises InvalidInput or RequestValidationError."""
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidInput(
            f"raw_input_contents has {len(raw)} entries for {len(message.inputs)} inputs: send one for each, or "
            "contents in each input",
            field="raw_input_contents",
        )
    inputs = []
    for number, tensor in enumerate(message.inputs):
        texts: list[str] = []
        if tensor.datatype == "BYTES":
            texts = _texts(tensor, raw[number] if raw else None, field=f"inputs[{number}]")
        shape = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype, "data": texts}
        inputs.append(shape)
    parameters = {"key": message.parameters["key"].string_param} if "key" in message.parameters else {}
    outputs = [{"name": output.name} for output in message.outputs]
    content = {"id": message.id or None, "parameters": parameters, "inputs": inputs, "outputs": outputs}
    request: InferRequest = read(REQUEST, content, "message")
    return request


def response_of(
    message: wire.ModelInferRequest, answers: Sequence[Answer], wanted: Sequence[str]
) -> wire.ModelInferResponse:
    """The answers, in the form in which the texts came: raw, or each in its tensor's contents."""
    response = wire.ModelInferResponse(model_name=message.model_name, model_version=version_of(answers), id=message.id)
    response.parameters["variant"].string_param = answers[0].variant
    for name in wanted:
        output = response.outputs.add(name=name, datatype=OUTPUTS[name], shape=[len(answers)])
        values = column(name, answers)
        if message.raw_input_contents:
            response.raw_output_contents.append(packed(values, OUTPUTS[name]))
        elif OUTPUTS[name] == "FP32":
            output.contents.fp32_contents.extend(float(value) for value in values)
        else:
            output.contents.bytes_contents.extend(str(value).encode() for value in values)
    return response


def _texts(tensor: wire.ModelInferRequest.InferInputTensor, raw: bytes | None, *, field: str) -> list[str]:
    contents = tensor.contents.bytes_contents
    if raw is None:
        return [text_of(element, field=field, number=number) for number, element in enumerate(contents)]
    if contents:
        raise InvalidInput(f"{field} has contents beside raw_input_contents: send one of them", field=field)
    return texts_in(raw, field=field)
