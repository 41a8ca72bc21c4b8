"""What goes between a client and the service: how many texts at once, when to ask again, what an answer means.

Without I/O: an exchange yields what is to be sent and how long to wait, so that the blocking and the asyncio client
share it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx

from monitoring.core.errors import DeadlineExceeded, InvalidInput, LeewayError, NotReady, Overloaded
from monitoring.core.types import utc_now

BATCH = 64
"""Texts in one request: as many as a server takes by default."""
BATCH_BYTES = 1_000_000
FEEDBACK_BATCH = 256
GRACE_SECONDS = 1.0
"""How much longer a client listens than it lets the server work: a refusal in words is better than none."""
TEMPORARY = frozenset({429, 502, 503})
HOPELESS = (httpx.ReadTimeout, httpx.UnsupportedProtocol)
"""What asking again does not cure: the caller has waited as long as it would, or the URL is none."""


@dataclass(frozen=True)
class Prediction:
    """The answer to one text; `top_k`: the likeliest labels with probabilities, best first. Feedback needs `id`."""

    id: str
    label: str
    probability: float
    top_k: tuple[tuple[str, float], ...]
    version: str
    variant: str


@dataclass(frozen=True)
class Feedback:
    """What is known by now about one prediction; `source` as the API has it, for example `ground_truth`."""

    prediction_id: str
    source: str
    label: str | None = None
    rating: float | None = None
    sampling_probability: float | None = None


@dataclass(frozen=True)
class Retries:
    """How often to try, and how long to wait in between: exponential, with full jitter so that callers do not return
    together, and never sooner than the server's Retry-After."""

    attempts: int = 4
    first_seconds: float = 0.2
    longest_seconds: float = 10.0

    def pause(self, attempt: int, retry_after: float, luck: float) -> float | None:
        """Seconds to wait after the `attempt`-th try (from 1) failed; None: give up. `luck`: uniform in [0, 1)."""
        if attempt >= self.attempts or retry_after > self.longest_seconds:
            return None
        backoff: float = min(self.first_seconds * 2 ** (attempt - 1), self.longest_seconds)
        return min(retry_after + luck * backoff, self.longest_seconds)


@dataclass(frozen=True)
class Post:
    """A step of an exchange: send this; the answer, or what kept it away, is handed back."""

    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Pause:
    """A step of an exchange: wait."""

    seconds: float


Outcome = httpx.Response | httpx.TransportError | None
Step = Post | Pause


def chunks(texts: Sequence[str], size: int) -> Iterator[tuple[int, Sequence[str]]]:
    """`texts` in pieces of at most `size` and about a megabyte, each with the number of its first text."""
    start, weight = 0, 0
    for place, text in enumerate(texts):
        bytes_of_text = len(text) * 4  # at most, in UTF-8
        if place > start and (place - start == size or weight + bytes_of_text > BATCH_BYTES):
            yield start, texts[start:place]
            start, weight = place, 0
        weight += bytes_of_text
    if start < len(texts):
        yield start, texts[start:]


def predict_path(model: str) -> str:
    """Where a model answers."""
    return f"/v1/models/{quote(model, safe='')}/predict"


def refusal(response: httpx.Response) -> LeewayError:
    """The error that an answer tells of: of the class that the server raised, where it was a Leeway that answered."""
    try:
        told = response.json()["error"]
        code, message, field = told["code"], str(told["message"]), told["field"]
    except (ValueError, KeyError, TypeError):  # a proxy's own page
        return LeewayError(f"{response.request.url.path} answered {response.status_code}: {response.text[:300]}")
    if code == Overloaded.code:
        return Overloaded(message, retry_after=_retry_after(response, utc_now()))
    return _classes().get(code, LeewayError)(message, field=field)


def _exchange(path: str, body: Mapping[str, Any], retries: Retries) -> Generator[Step, Outcome, httpx.Response]:
    """One question, asked until it is answered or there is no point in asking again. Raises LeewayError."""
    attempt = 0
    while True:
        attempt += 1
        outcome = yield Post(path, body)
        if isinstance(outcome, httpx.Response):
            if outcome.is_success:
                return outcome
            error, again = refusal(outcome), outcome.status_code in TEMPORARY
            wait = _retry_after(outcome, utc_now())
        else:
            error, again = _no_answer(outcome), not isinstance(outcome, HOPELESS)
            wait = 0.0
        pause = retries.pause(attempt, wait, random.random()) if again else None
        if pause is None:
            raise error
        yield Pause(pause)


def prediction(
    model: str,
    texts: Sequence[str],
    start: int,
    key: str | None,
    metadata: Mapping[str, str] | None,
    top_k: int | None,
    retries: Retries,
) -> Generator[Step, Outcome, list[Prediction]]:
    """Ask about `texts`, of which the first is the caller's number `start`; gives their Predictions."""
    for number, text in enumerate(texts, start):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            field = f"inputs[{number}]"
            raise InvalidInput(f"{field} holds half a character (a lone surrogate): send UTF-8", field=field) from error
    body = {"inputs": list(texts), "key": key, "metadata": dict(metadata or {}), "top_k": top_k}
    try:
        response = yield from _exchange(predict_path(model), body, retries)
    except LeewayError as error:
        raise _renumbered(error, "inputs", start) from None
    return [_read(answer) for answer in response.json()["predictions"]]


def feedback(items: Sequence[Feedback], start: int, retries: Retries) -> Generator[Step, Outcome, list[bool]]:
    """Give feedback, of which the first is the caller's number `start`; for each, whether it was new."""
    try:
        response = yield from _exchange("/v1/feedback", {"items": [vars(item) for item in items]}, retries)
    except LeewayError as error:
        raise _renumbered(error, "items", start) from None
    return [kept["new"] for kept in response.json()["items"]]


def _read(prediction: Mapping[str, Any]) -> Prediction:
    ranked = tuple((entry["label"], entry["probability"]) for entry in prediction["top_k"])
    return Prediction(**{**prediction, "top_k": ranked})


def _renumbered(error: LeewayError, name: str, start: int) -> LeewayError:
    """The error with the caller's numbers: `inputs[3]` of the second request is `inputs[67]`."""
    found = re.match(rf"{name}\[(\d+)\]", error.field or "")
    if found:
        said, meant = found[0], f"{name}[{int(found[1]) + start}]"
        error.message, error.field = error.message.replace(said, meant), (error.field or "").replace(said, meant)
        error.args = (error.message,)
    return error


def _retry_after(response: httpx.Response, now: datetime) -> float:
    """Seconds that the server asks to wait: given as such, or as a date; 0 where it asks for nothing readable."""
    said = response.headers.get("retry-after", "")
    try:
        return max(float(said), 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(said) - now).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0


def _no_answer(error: httpx.TransportError | None) -> LeewayError:
    if isinstance(error, httpx.ReadTimeout):
        return DeadlineExceeded("no answer within the client's timeout: send fewer texts, or allow more time")
    return NotReady(f"the service does not answer ({type(error).__name__}: {error}): is it up, and is the URL right?")


def _classes() -> dict[str, type[LeewayError]]:
    """Error classes by code."""
    found: dict[str, type[LeewayError]] = {}
    waiting = [LeewayError]
    while waiting:
        kind = waiting.pop()
        found[kind.code] = kind
        waiting += kind.__subclasses__()
    return found
