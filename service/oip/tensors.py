"""Between tensors and texts: a classifier has one input `text`, and an element of each output for every text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from monitoring.core.errors import InvalidInput
from service.engine.work import Answer
from service.oip.shapes import OUTPUTS, InferRequest


def texts_of(request: InferRequest) -> list[str]:
    """The texts of the one input tensor. Raises InvalidInput, naming what does not fit."""
    tensor = request.inputs[0]
    if len(request.inputs) > 1 or tensor.name != "text":
        names = ", ".join(repr(tensor.name) for tensor in request.inputs)
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


def wanted_outputs(request: InferRequest) -> list[str]:
    """The outputs to return, in the order asked for; all, where none is. Raises InvalidInput for an unknown one."""
    names = [output.name for output in request.outputs]
    for number, name in enumerate(names):
        if name not in OUTPUTS:
            raise InvalidInput(
                f"outputs[{number}].name is {name!r}; there are {', '.join(OUTPUTS)}", field=f"outputs[{number}].name"
            )
    return names or list(OUTPUTS)


def column(name: str, answers: Sequence[Answer]) -> list[str] | list[float]:
    """The elements of an output."""
    if name == "probability":
        return [answer.probability for answer in answers]
    return [answer.label if name == "label" else answer.id for answer in answers]


def _flat(data: Sequence[Any]) -> Iterator[Any]:
    for item in data:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item
