"""The Python client and `leeway load` against a real service."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from monitoring.core.bundle import Bundle
from monitoring.core.cli import Program
from monitoring.core.errors import InvalidInput, NotAuthenticated, NotFound, Overloaded
from monitoring.core.types import Role
from service.cli import commands
from service.client import AsyncClient, Client, Feedback, Retries
from tests.integration.service.conftest import Running, Start, with_champion

TEXTS = ["my parcel is late", "refund the invoice", "password locked"]
LABELS = ["delivery", "billing", "account"]
AT_ONCE = Retries(attempts=1)


def client(running: Running, **more: Any) -> Client:
    key = running.http.headers["authorization"].removeprefix("Bearer ")
    return Client(str(running.http.base_url), key, **more)


def test_many_texts_are_answered_in_their_order_by_several_requests(support: Running) -> None:
    with client(support, batch=8) as leeway:
        answers = leeway.predict("support", TEXTS * 10, key="customer-7", top_k=2, metadata={"channel": "mail"})
    assert [answer.label for answer in answers] == LABELS * 10
    assert {len(answer.top_k) for answer in answers} == {2}
    assert answers[0].version == "support@1"
    assert answers[0].top_k[0] == (answers[0].label, answers[0].probability)
    rows = support.rows()
    assert len(rows) == 30
    assert len({row["unit"] for row in rows}) == 1
    assert {row["metadata"] for row in rows} == {'{"channel":"mail"}'}


def test_the_asyncio_client_does_the_same(support: Running) -> None:
    async def ask() -> tuple[list[str], list[bool]]:
        async with AsyncClient(str(support.http.base_url), support.key(*Role, name="async"), batch=4) as leeway:
            answers = await leeway.predict("support", TEXTS * 10)
            kept = await leeway.feedback(*(Feedback(answer.id, "ground_truth", answer.label) for answer in answers))
            with pytest.raises(InvalidInput) as refused:
                await leeway.predict("support", [*TEXTS * 2, " "])
            assert refused.value.field == "inputs[6]"
            return [answer.label for answer in answers], kept

    labels, kept = asyncio.run(ask())
    assert labels == LABELS * 10
    assert kept == [True] * 30


def test_feedback_is_kept_once(support: Running) -> None:
    with client(support) as leeway:
        (answer,) = leeway.predict("support", TEXTS[:1])
        said = Feedback(answer.id, source="ground_truth", label="delivery")
        assert leeway.feedback(said) == [True]
        assert leeway.feedback(said, said) == [False, False]


def test_what_the_server_refuses_is_raised_as_its_error(support: Running) -> None:
    with client(support) as leeway:
        with pytest.raises(NotFound, match="known: support"):
            leeway.predict("suport", TEXTS)
        with pytest.raises(InvalidInput) as refused:
            leeway.predict("support", ["fine"] * 70 + [" "])
        assert refused.value.field == "inputs[70]"
    with Client(str(support.http.base_url), "lw_wrong") as stranger, pytest.raises(NotAuthenticated):
        stranger.predict("support", TEXTS)


def test_a_full_queue_is_waited_for_as_long_as_the_server_asks(start: Start, champion_bundle: Bundle) -> None:
    running = with_champion(start(server={"threads": 1, "queue_size": 1}), champion_bundle)
    running.gate.close()
    slept: list[float] = []

    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(running.predict, "one")
        assert running.gate.reached.acquire(timeout=10)
        second = callers.submit(running.predict, "two")
        _until_waiting(running, 1)

        def free(seconds: float) -> None:
            slept.append(seconds)
            running.gate.open.set()
            assert first.result().status_code == second.result().status_code == 200

        with client(running, sleep=free) as leeway:
            assert [answer.label for answer in leeway.predict("support", TEXTS[:1])] == ["delivery"]
    assert len(slept) == 1
    assert slept[0] >= 1
    with client(running, retries=AT_ONCE) as leeway:
        running.gate.close()
        with ThreadPoolExecutor(2) as callers:
            callers.submit(running.predict, "one")
            assert running.gate.reached.acquire(timeout=10)
            callers.submit(running.predict, "two")
            _until_waiting(running, 1)
            with pytest.raises(Overloaded):
                leeway.predict("support", TEXTS[:1])
            running.gate.open.set()


def load(running: Running, *options: str) -> Result:
    program = Program(commands={command.name or "": command for command in commands})
    arguments = ["load", str(running.http.base_url), "--model", "support", *options]
    key = running.http.headers["authorization"].removeprefix("Bearer ")
    return CliRunner().invoke(program, arguments, env={"LEEWAY_API_KEY": key})


@pytest.mark.parametrize("loop", [("--concurrency", "4"), ("--rate", "200")])
def test_load_says_how_it_was_borne(support: Running, tmp_path: Path, loop: tuple[str, str]) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS))
    result = load(support, *loop, "--seconds", "0.3", "--texts", str(texts), "--texts-per-request", "2", "--json")
    assert result.exit_code == 0, result.stderr
    borne = json.loads(result.stdout)
    assert borne["requests"] == borne["answered"] > 0
    assert borne["refused"] == borne["failed"] == {}
    assert list(borne["latency_ms"]) == ["p50", "p90", "p99", "p99.9", "max"]
    assert sorted(borne["latency_ms"].values()) == list(borne["latency_ms"].values())
    rows = support.rows()
    assert len(rows) == 2 * borne["answered"] + 2  # and one question before
    assert len({row["unit"] for row in rows}) == 1


def test_load_counts_refusals_apart_from_failures(start: Start, champion_bundle: Bundle) -> None:
    running = with_champion(start(server={"threads": 1, "queue_size": 1}), champion_bundle)
    result = load(running, "--concurrency", "32", "--seconds", "0.5", "--json")
    borne = json.loads(result.stdout)
    assert borne["failed"] == {}
    assert list(borne["refused"]) == ["429"]
    assert borne["answered"] > 0
    assert borne["requests"] == borne["answered"] + borne["refused"]["429"]


def test_load_tells_people_in_a_few_lines(support: Running) -> None:
    result = load(support, "--rate", "50", "--seconds", "0.2")
    assert result.exit_code == 0, result.stderr
    for words in (
        "50 requests/s due",
        "answered",
        "refused     none",
        "failed      none",
        "latency ms  p50",
        "sent late",
    ):
        assert words in result.stdout


def test_load_without_a_service_a_model_or_a_text_says_so(support: Running, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    result = load(support, "--texts", str(empty))
    assert result.exit_code == 1
    assert "holds no text" in result.stderr
    program = Program(commands={command.name or "": command for command in commands})
    for url, words in (("localhost:8080", "is the URL right?"), ("http://127.0.0.1:1", "does not answer")):
        result = CliRunner().invoke(program, ["load", url, "--model", "support"], env={"LEEWAY_API_KEY": "x"})
        assert result.exit_code == 1
        assert words in result.stderr
    assert load(support, "--model", "suport").exit_code == 1


def _until_waiting(running: Running, texts: int) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if running.context.inference.pool.depths()["support"] == texts:
            return
        pause.wait(0.01)
    raise AssertionError("the queue did not fill within ten seconds")
