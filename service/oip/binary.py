"""The binary tensor extension: tensors whose elements follow the JSON, one after the other, in little-endian order.

A BYTES element is its length in four bytes, then itself; an FP32 element is four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from monitoring.core.errors import InvalidInput
from service.oip.shapes import InferRequest

HEADER = "Inference-Header-Content-Length"
LENGTH = struct.Struct("<I")


def parted(body: bytes, header: str) -> tuple[bytes, bytes]:
    """The JSON of a body and what follows it. `header` tells the length of the JSON; raises InvalidInput."""
    if not (header.isascii() and header.isdigit() and int(header) <= len(body)):
        raise InvalidInput(
            f"{HEADER} is {header!r}; it must be the length in bytes of the JSON that begins the body of {len(body)}",
            field=HEADER,
        )
    return body[: int(header)], body[int(header) :]


def fill(request: InferRequest, elements: bytes) -> None:
    """Give `request` the data of its binary tensors, which lie in `elements` in their order. Raises InvalidInput."""
    place = 0
    for number, tensor in enumerate(request.inputs):
        size = tensor.parameters.binary_data_size
        if size is None:
            continue
        field = f"inputs[{number}].parameters.binary_data_size"
        if place + size > len(elements):
            raise InvalidInput(
                f"{field} is {size}, but only {len(elements) - place} bytes of binary data are left: send {HEADER} and "
                "the elements behind the JSON, or send `data`",
                field=field,
            )
        if tensor.data:
            raise InvalidInput(f"inputs[{number}] has both data and {field}: send one of them", field=field)
        if tensor.datatype == "BYTES":
            tensor.data = texts_in(elements[place : place + size], field=f"inputs[{number}]")
        place += size
    if place < len(elements):
        raise InvalidInput(
            f"{len(elements) - place} bytes of binary data belong to no tensor: their binary_data_size must add up to "
            "all that follows the JSON",
            field="inputs",
        )


def texts_in(elements: bytes, *, field: str) -> list[str]:
    """The texts of a BYTES tensor. Raises InvalidInput, naming `field`."""
    texts: list[str] = []
    place = 0
    while place < len(elements):
        begin = place + LENGTH.size
        end = begin + LENGTH.unpack_from(elements, place)[0] if begin <= len(elements) else begin
        if end > len(elements):
            raise InvalidInput(
                f"{field} ends within text {len(texts)}: each needs its length in four bytes, little-endian, then its "
                "bytes in UTF-8",
                field=field,
            )
        texts.append(text_of(elements[begin:end], field=field, number=len(texts)))
        place = end
    return texts


def text_of(element: bytes, *, field: str, number: int) -> str:
    """One element as text. Raises InvalidInput, naming `field`."""
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{field}: text {number} is not UTF-8: send UTF-8", field=field) from error


def packed(values: Sequence[str] | Sequence[float], datatype: str) -> bytes:
    """The elements of an output, as BYTES or as FP32."""
    if datatype == "FP32":
        return struct.pack(f"<{len(values)}f", *values)
    elements = [str(value).encode() for value in values]
    return b"".join(LENGTH.pack(len(element)) + element for element in elements)
