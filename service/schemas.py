"""What callers send and get: the shapes, their limits and their examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from monitoring.core.errors import InvalidInput, TooLarge
from monitoring.core.settings import ServerSettings
from monitoring.core.types import LabelSource, Variant

MAX_FEEDBACK_ITEMS = 256


def _without_nul(text: str) -> str:
    if "\0" in text:  # PostgreSQL keeps no such text
        raise ValueError("it holds the character U+0000: leave that out")
    return text


Key = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Label = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_without_nul)
]
MetadataName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=256)]
Metadata = Annotated[dict[MetadataName, MetadataValue], Field(max_length=16)]
TopK = Annotated[int, Field(ge=1, le=1000, description="how many of the likeliest labels to return")]


class Shape(BaseModel):
    """A misspelt field is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PredictRequest(Shape):
    """Texts to classify."""

    inputs: Annotated[list[str], Field(min_length=1, description="the texts")]
    key: Annotated[Key | None, Field(description="who asks: the same key meets the same version during a test")] = None
    metadata: Annotated[Metadata, Field(description="kept in the prediction log")] = {}
    top_k: TopK | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "inputs": ["my parcel is late", "I was charged twice"],
                    "key": "customer-7",
                    "metadata": {"channel": "mail"},
                    "top_k": 2,
                }
            ]
        }
    )


class LabelProbability(Shape):
    """One label and its calibrated probability."""

    label: str
    probability: float


class Prediction(Shape):
    """The answer to one text. Keep `id`: feedback refers to it."""

    id: str
    label: str
    probability: float
    top_k: list[LabelProbability]
    version: str
    variant: Variant


class PredictResponse(Shape):
    """Answers in the order of the inputs."""

    model: str
    predictions: list[Prediction]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "support",
                    "predictions": [
                        {
                            "id": "019aaf0e-7c1e-7d3a-9a51-0c3f5d2b8e11",
                            "label": "delivery",
                            "probability": 0.941,
                            "top_k": [
                                {"label": "delivery", "probability": 0.941},
                                {"label": "billing", "probability": 0.032},
                            ],
                            "version": "support@3",
                            "variant": "production",
                        }
                    ],
                }
            ]
        }
    )


class FeedbackItem(Shape):
    """What is known by now about one prediction."""

    prediction_id: Annotated[str, Field(max_length=36)]
    label: Annotated[Label | None, Field(description="the true label; also one that the model does not know")] = None
    rating: Annotated[float | None, Field(allow_inf_nan=False, description="how good the answer was")] = None
    source: Annotated[LabelSource, Field(description="ground_truth and random_sample may judge a model")]
    sampling_probability: Annotated[
        float | None, Field(gt=0, le=1, description="the chance with which this prediction was chosen for labelling")
    ] = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "prediction_id": "019aaf0e-7c1e-7d3a-9a51-0c3f5d2b8e11",
                    "label": "billing",
                    "source": "random_sample",
                    "sampling_probability": 0.1,
                }
            ]
        }
    )


class FeedbackBatch(Shape):
    """Several at once: all are kept, or none."""

    items: Annotated[list[FeedbackItem], Field(min_length=1, max_length=MAX_FEEDBACK_ITEMS)]


def _one_or_batch(body: Any) -> str:
    several = "items" in body if isinstance(body, dict) else isinstance(body, FeedbackBatch)
    return "(batch)" if several else "(one)"


FeedbackRequest = Annotated[
    Annotated[FeedbackItem, Tag("(one)")] | Annotated[FeedbackBatch, Tag("(batch)")], Discriminator(_one_or_batch)
]


class FeedbackKept(Shape):
    """`new` is false where the same had been said before."""

    id: str
    new: bool


class FeedbackBatchKept(Shape):
    """In the order of the items."""

    items: list[FeedbackKept]


class ErrorBody(Shape):
    """`code` is stable and machine-readable; `field` names the offending input where there is one."""

    code: str
    message: str
    field: str | None


class ErrorResponse(Shape):
    """Every refusal has this shape."""

    error: ErrorBody


class ProtocolErrorResponse(Shape):
    """A refusal as the Open Inference Protocol wants it: `error` is the message."""

    error: str
    code: str
    field: str | None


MEANINGS = {
    400: "The body is not JSON.",
    401: "No valid API key.",
    403: "The key lacks the role.",
    404: "No such model, version or prediction.",
    413: "Over a limit.",
    422: "An input cannot be used; `field` names it.",
    429: "Too much waits already; try again after `Retry-After` seconds.",
    503: "Not ready; try again after `Retry-After` seconds.",
    504: "No answer within the deadline.",
}
Responses = dict[int | str, dict[str, Any]]
ERRORS: Responses = {status: {"model": ErrorResponse, "description": text} for status, text in MEANINGS.items()}
PROTOCOL_ERRORS: Responses = {
    status: {"model": ProtocolErrorResponse, "description": text} for status, text in MEANINGS.items()
}


def check_texts(texts: Sequence[str], limits: ServerSettings) -> None:
    """Raise InvalidInput or TooLarge for the first text that cannot be classified, naming it `inputs[3]`."""
    most = min(limits.max_texts, limits.queue_size)
    if len(texts) > most:
        raise TooLarge(f"inputs holds {len(texts)} texts; at most {most} in one request", field="inputs")
    for number, text in enumerate(texts):
        field = f"inputs[{number}]"
        if not text.strip():
            raise InvalidInput(f"{field} is empty: send a text", field=field)
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidInput(f"{field} holds half a character (a lone surrogate): send UTF-8", field=field) from error
        if size > limits.max_text_bytes:
            raise TooLarge(f"{field} has {size} bytes in UTF-8; at most {limits.max_text_bytes}", field=field)
