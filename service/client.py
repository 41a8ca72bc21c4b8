"""A running Leeway from Python: ask it, and tell it later what became of its answers.

    with Client("http://localhost:8080", api_key="lw_…") as leeway:
        for prediction in leeway.predict("support", texts, key="customer-7"):
            print(prediction.label, prediction.probability)
        leeway.feedback(Feedback(prediction.id, source="ground_truth", label="billing"))

`AsyncClient` is the same for asyncio. Many texts are sent in several requests. A refusal comes as the error that the
server raised (`Overloaded`, `NotReady`, `InvalidInput` with its `field`, …). Where trying again can help, that is done
first: asking twice is harmless, and feedback said twice is kept once.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Self, TypeVar

import httpx

from service.exchange import (
    BATCH,
    FEEDBACK_BATCH,
    GRACE_SECONDS,
    Feedback,
    Outcome,
    Post,
    Prediction,
    Retries,
    Step,
    chunks,
    feedback,
    prediction,
)

__all__ = ["AsyncClient", "Client", "Feedback", "Prediction", "Retries"]

T = TypeVar("T")


class Client:
    """Asks one Leeway. Safe to share between threads; close it, or use it as a context manager."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        batch: int = BATCH,
        retries: Retries | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`api_key`: else LEEWAY_API_KEY. `timeout`: seconds for one request. `batch`: texts in one request."""
        self._http = httpx.Client(base_url=url, headers=_headers(api_key, timeout), timeout=timeout + GRACE_SECONDS)
        self._batch = batch
        self._retries = retries or Retries()
        self._sleep = sleep

    def predict(
        self,
        model: str,
        texts: Sequence[str],
        *,
        key: str | None = None,
        metadata: Mapping[str, str] | None = None,
        top_k: int | None = None,
    ) -> list[Prediction]:
        """The answers to `texts`, in their order. `key`: who asks; the same key meets the same version during a test.

        Raises LeewayError: its heirs say what is wrong and, as `field`, with which of the texts.
        """
        answers: list[Prediction] = []
        for start, chunk in chunks(texts, self._batch):
            answers += self._run(prediction(model, chunk, start, key, metadata, top_k, self._retries))
        return answers

    def feedback(self, *items: Feedback) -> list[bool]:
        """Give feedback; for each, whether it was new. Of each 256, all are kept or none. Raises LeewayError."""
        kept: list[bool] = []
        for start in range(0, len(items), FEEDBACK_BATCH):
            kept += self._run(feedback(items[start : start + FEEDBACK_BATCH], start, self._retries))
        return kept

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, exchange: Generator[Step, Outcome, T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                step = exchange.send(outcome)
                outcome = None
                if isinstance(step, Post):
                    outcome = self._post(step)
                else:
                    self._sleep(step.seconds)
        except StopIteration as end:
            value: T = end.value
            return value

    def _post(self, step: Post) -> Outcome:
        try:
            return self._http.post(step.path, json=step.body)
        except httpx.TransportError as error:
            return error


class AsyncClient:
    """`Client` for asyncio; the requests that many texts make go out `at_once`."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        batch: int = BATCH,
        at_once: int = 4,
        retries: Retries | None = None,
    ) -> None:
        """`api_key`: else LEEWAY_API_KEY. `timeout`: seconds for one request. `batch`: texts in one request."""
        self._http = httpx.AsyncClient(
            base_url=url, headers=_headers(api_key, timeout), timeout=timeout + GRACE_SECONDS
        )
        self._batch = batch
        self._turn = asyncio.Semaphore(at_once)
        self._retries = retries or Retries()

    async def predict(
        self,
        model: str,
        texts: Sequence[str],
        *,
        key: str | None = None,
        metadata: Mapping[str, str] | None = None,
        top_k: int | None = None,
    ) -> list[Prediction]:
        """As `Client.predict`."""
        asked = [
            asyncio.ensure_future(self._run(prediction(model, chunk, start, key, metadata, top_k, self._retries)))
            for start, chunk in chunks(texts, self._batch)
        ]
        try:
            answers = await asyncio.gather(*asked)
        finally:
            for one in asked:
                one.cancel()  # after a refusal nobody wants the others' answers
        return [one for answer in answers for one in answer]

    async def feedback(self, *items: Feedback) -> list[bool]:
        """As `Client.feedback`."""
        kept: list[bool] = []
        for start in range(0, len(items), FEEDBACK_BATCH):
            kept += await self._run(feedback(items[start : start + FEEDBACK_BATCH], start, self._retries))
        return kept

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, exchange: Generator[Step, Outcome, T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                step = exchange.send(outcome)
                outcome = None
                if isinstance(step, Post):
                    outcome = await self._post(step)
                else:
                    await asyncio.sleep(step.seconds)
        except StopIteration as end:
            value: T = end.value
            return value

    async def _post(self, step: Post) -> Outcome:
        async with self._turn:
            try:
                return await self._http.post(step.path, json=step.body)
            except httpx.TransportError as error:
                return error


def _headers(api_key: str | None, timeout: float) -> dict[str, str]:
    key = api_key or os.environ.get("LEEWAY_API_KEY", "")
    wanted = {"X-Request-Timeout": f"{timeout:g}"}  # nobody works for a caller who has given up
    return wanted | ({"Authorization": f"Bearer {key}"} if key else {})
