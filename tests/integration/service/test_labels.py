"""The label queue over HTTP: what the monitor kept in the ledger, as far as nobody has answered it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from monitoring.core.ids import new_id
from monitoring.core.ledger import label_queue, labels
from monitoring.core.settings import LogSettings, Settings
from monitoring.core.types import LabelSource, Role
from monitoring.label_queue import Part
from service.routes import labels as routes
from tests.conftest import FrozenClock
from tests.world import LABELS, World, application

Client = Callable[..., TestClient]
QUEUE = "/v1/labels/queue"


@pytest.fixture
def world(tmp_path: Path, clock: FrozenClock) -> World:
    return World.create(tmp_path, clock)


@pytest.fixture
def client(world: World) -> Client:
    app = application(world, routes.router)

    def with_key(*roles: Role, name: str = "ann") -> TestClient:
        return TestClient(app, headers={"Authorization": f"Bearer {world.key(name, *roles)}"})

    return with_key


def entry(part: Part, world: World, *, days_old: int = 0) -> dict[str, Any]:
    blind = part is Part.RANDOM
    return {
        "prediction_id": new_id(),
        "text": "where is it?",
        "label": None,
        "predicted": None if blind else LABELS[0],
        "confidence": None if blind else 0.5,
        "choices": [] if blind else list(LABELS[:2]),
        "part": part.value,
        "reason": "a test",
        "source": "random_sample" if blind else "review",
        "sampling_probability": 0.1 if blind else None,
        "model": "support",
        "at": (world.clock() - timedelta(days=days_old)).isoformat(),
    }


def keep(world: World, version: str, parts: list[Part], **options: Any) -> list[dict[str, Any]]:
    entries = [entry(part, world, **options) for part in parts]
    with world.ledger.begin() as connection:
        label_queue.keep(connection, model="support", version=version, entries=entries, now=world.clock())
    return entries


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["prediction_id"] for item in response.json()["items"]]


def test_the_queue_is_shown_in_parts_of_the_size_asked_for(client: Client, world: World) -> None:
    champion = world.champion()
    kept = keep(world, champion.id, [Part.RANDOM] * 10 + [Part.DRIFTED] * 5 + [Part.UNCERTAIN] * 5)
    speaks = client(Role.FEEDBACK)
    assert ids(speaks.get(QUEUE, params={"model": "support"})) == [item["prediction_id"] for item in kept]
    some = speaks.get(QUEUE, params={"model": "support", "size": 4}).json()
    assert [item["part"] for item in some["items"]] == ["random", "random", "drifted", "uncertain"]
    assert some["version"] == champion.name
    assert some["labels"] == list(champion.labels)
    first = dict(some["items"][0])
    assert first.pop("at").startswith("2026-01-05T12:00:00")
    assert first == {name: value for name, value in kept[0].items() if name in first}


def test_what_was_answered_replaced_or_kept_too_long_is_left_out(client: Client, world: World) -> None:
    champion, speaks = world.champion(), client(Role.OPERATE)
    asked = {"model": "support"}
    answered, *others = keep(world, champion.id, [Part.UNCERTAIN] * 3)
    with world.ledger.begin() as connection:
        labels.add_feedback(
            connection,
            prediction_id=answered["prediction_id"],
            source=LabelSource.REVIEW,
            label="billing",
            rating=None,
            sampling_probability=None,
            author="ann",
            now=world.clock.advance(timedelta(days=36_500)),  # the id is as new as the test
        )
    world.clock.advance(timedelta(days=-36_500))
    assert ids(speaks.get(QUEUE, params=asked)) == [item["prediction_id"] for item in others]
    keep(world, "another version", [Part.RANDOM])
    assert ids(speaks.get(QUEUE, params=asked)) == []
    keep(world, champion.id, [Part.RANDOM], days_old=LogSettings().retention_days + 1)
    assert ids(speaks.get(QUEUE, params=asked)) == []


def test_no_text_leaves_against_the_policy(client: Client, world: World) -> None:
    keep(world, world.champion().id, [Part.RANDOM])
    speaks = client(Role.FEEDBACK)
    context = cast(FastAPI, speaks.app).state.context
    object.__setattr__(context, "settings", Settings(log=LogSettings(text="off")))
    assert speaks.get(QUEUE, params={"model": "support"}).json()["items"][0]["text"] is None


def test_only_those_who_may_give_feedback_or_operate_see_texts(client: Client, world: World) -> None:
    world.champion()
    refused = client(Role.PREDICT, Role.APPROVE).get(QUEUE, params={"model": "support"})
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "not_allowed"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 422),
        ({"model": "support", "size": 0}, 422),
        ({"model": "support", "size": 501}, 422),
        ({"model": "nonesuch"}, 404),
    ],
)
def test_a_bad_question_is_one_readable_error(client: Client, world: World, query: Any, status: int) -> None:
    world.champion()
    refused = client(Role.OPERATE).get(QUEUE, params=query)
    assert refused.status_code == status
    assert refused.json()["error"]["message"]


def test_a_model_without_a_champion_is_not_ready(client: Client, world: World) -> None:
    world.candidate()
    refused = client(Role.OPERATE).get(QUEUE, params={"model": "support"})
    assert refused.json()["error"]["code"] == "not_ready"
