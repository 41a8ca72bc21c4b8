"""Customers who write, and labels that come a little later: everything goes through the HTTP API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from monitoring.core.errors import LeewayError
from service.demo.corpus import Message

LABEL_PROBABILITY = 0.8
COMPLAINT_PROBABILITY = 0.1  # of the wrongly answered, beside the random sample
LABEL_DELAY = (0.3, 1.2)


class Api:
    """Leeway's HTTP API with the demo's key; an error answer becomes a LeewayError with its message."""

    def __init__(self, url: str, key: str) -> None:
        limits = httpx.Limits(max_connections=32)
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx.AsyncClient(base_url=url, headers=headers, timeout=30, limits=limits)

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        """GET a JSON object."""
        return self._read(await self._sent(self._client.get(path, params=query)))

    async def post(self, path: str, body: object) -> dict[str, Any]:
        """POST a JSON object."""
        return self._read(await self._sent(self._client.post(path, json=body)))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @staticmethod
    async def _sent(request: Awaitable[httpx.Response]) -> httpx.Response:
        try:
            return await request
        except httpx.HTTPError as error:
            raise LeewayError(f"the service does not answer: {type(error).__name__} {error}") from error

    @staticmethod
    def _read(response: httpx.Response) -> dict[str, Any]:
        if response.is_success:
            return dict(response.json())
        raise LeewayError(f"{response.request.url.path} answered {response.status_code}: {response.text[:300]}")


@dataclass(frozen=True)
class Answer:
    """What the service said to one message. `position`: how many messages were sent before it."""

    message: Message
    position: int
    label: str
    version: str
    variant: str

    @property
    def correct(self) -> bool:
        """Whether the service understood."""
        return self.label == self.message.label


class Traffic:
    """Sends messages at a pace that the story sets, and their delayed labels."""

    def __init__(self, api: Api, model: str, rng: np.random.Generator) -> None:
        self.answers: list[Answer] = []
        self.failures: list[str] = []
        self.pace = 40.0  # messages a second
        self.reserve = 0  # messages to hold back for what comes later
        self._api = api
        self._model = model
        self._rng = rng
        self._queue: list[Message] = []
        self._sent = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Messages not sent yet."""
        return len(self._queue)

    def enqueue(self, messages: Sequence[Message]) -> None:
        """More to send."""
        self._queue += messages

    async def run(self) -> None:
        """Send for ever; cancelled when the story ends."""
        while True:
            if len(self._queue) <= self.reserve:
                await asyncio.sleep(0.1)
                continue
            message = self._queue.pop(0)
            self._start(self._exchange(message, self._sent))
            self._sent += 1
            await asyncio.sleep(1 / self.pace)

    def stop(self) -> None:
        """Drop what is under way: the story is over."""
        for task in self._tasks:
            task.cancel()

    async def drain(self) -> None:
        """Wait until everything enqueued is sent, answered and labelled."""
        while self._queue or self._tasks:
            await asyncio.sleep(0.05)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _exchange(self, message: Message, position: int) -> None:
        body = {"inputs": [message.text], "key": message.customer}
        try:
            reply = await self._api.post(f"/v1/models/{self._model}/predict", body)
        except LeewayError as error:
            self.failures.append(error.message)
            return
        prediction = reply["predictions"][0]
        answer = Answer(message, position, prediction["label"], prediction["version"], prediction["variant"])
        self.answers.append(answer)
        await self._label(answer, prediction["id"])

    async def _label(self, answer: Answer, prediction_id: str) -> None:
        """A random sample of all, and complaints from those who were misunderstood."""
        sampled = self._rng.random() < LABEL_PROBABILITY
        complains = not answer.correct and self._rng.random() < COMPLAINT_PROBABILITY
        await asyncio.sleep(self._rng.uniform(*LABEL_DELAY))
        said: dict[str, object] = {"prediction_id": prediction_id, "label": answer.message.label}
        items: list[dict[str, object]] = []
        if sampled:
            items.append(said | {"source": "random_sample", "sampling_probability": LABEL_PROBABILITY})
        if complains:
            items.append(said | {"source": "complaint"})
        if items:
            try:
                await self._api.post("/v1/feedback", {"items": items})
            except LeewayError as error:
                self.failures.append(error.message)
