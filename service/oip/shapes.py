"""What Open Inference Protocol v2 sends and gets in JSON."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from service.schemas import Key

OUTPUTS = {"label": "BYTES", "probability": "FP32", "prediction_id": "BYTES"}


class Parameters(BaseModel):
    """Parameters of a request or tensor; unknown ones are ignored, as the protocol asks."""

    key: Annotated[Key | None, Field(description="who asks: the same key meets the same version during a test")] = None
    binary_data: Annotated[
        bool | None, Field(description="of an output: send its elements behind the JSON, or do not")
    ] = None
    binary_data_output: Annotated[bool, Field(description="the same for all outputs that do not say")] = False
    binary_data_size: Annotated[
        int | None, Field(ge=0, description="of an input: its bytes behind the JSON, instead of `data`")
    ] = None


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
    """One output, an element a text; the parameter `binary_data_size` stands for `data` that follow the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, int] = {}
    data: list[Any] = []


class InferResponse(BaseModel):
    """`model_version` is the number of the version that answered."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, str] = {}
    outputs: list[OutputTensor]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model_name": "support",
                    "model_version": "3",
                    "id": "42",
                    "parameters": {"variant": "production"},
                    "outputs": [
                        {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["delivery"]},
                        {"name": "probability", "datatype": "FP32", "shape": [1], "data": [0.941]},
                        {
                            "name": "prediction_id",
                            "datatype": "BYTES",
                            "shape": [1],
                            "data": ["019aaf0e-7c1e-7d3a-9a51-0c3f5d2b8e11"],
                        },
                    ],
                }
            ]
        }
    )
