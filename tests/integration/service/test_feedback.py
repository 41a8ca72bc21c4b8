"""Saying what was right: durable before it is confirmed, kept once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from monitoring.core.ids import new_id
from monitoring.core.ledger import labels
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import Feedback, LabelSource, Role
from tests.integration.service.conftest import Running

JSON = {"content-type": "application/json"}


def _prediction_id(running: Running) -> str:
    return str(running.predict("my parcel is late").json()["predictions"][0]["id"])


def _kept(running: Running) -> list[Feedback]:
    """What another process sees in the ledger."""
    ledger = Ledger.open(running.settings.ledger_url)
    with ledger.read() as connection:
        found = [item for _, item in labels.feedback_after(connection, 0, limit=1000)]
    ledger.close()
    return found


def test_feedback_is_durable_when_it_is_confirmed_and_names_its_author(support: Running) -> None:
    item = {"prediction_id": _prediction_id(support), "label": "delivery", "source": "random_sample"}
    response = support.http.post("/v1/feedback", json=item | {"sampling_probability": 0.1})
    assert response.status_code == 201
    (kept,) = _kept(support)
    assert response.json() == {"id": kept.id, "new": True}
    assert (kept.label, kept.source, kept.sampling_probability) == ("delivery", LabelSource.RANDOM_SAMPLE, 0.1)
    assert kept.author == "tester"


def test_the_same_said_twice_is_kept_once(support: Running) -> None:
    item = {"prediction_id": _prediction_id(support), "label": "billing", "source": "complaint"}
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(lambda _: support.http.post("/v1/feedback", json=item).json(), range(4)))
    assert len({answer["id"] for answer in answers}) == 1
    assert sorted(answer["new"] for answer in answers) == [False, False, False, True]
    assert len(_kept(support)) == 1
    assert support.metric("leeway_feedback_total", source="complaint") == 1


def test_a_label_that_the_model_does_not_know_is_kept(support: Running) -> None:
    item = {"prediction_id": _prediction_id(support), "label": "  returns ", "source": "ground_truth"}
    assert support.http.post("/v1/feedback", json=item).status_code == 201
    assert _kept(support)[0].label == "returns"


def test_several_are_kept_together_or_not_at_all(support: Running) -> None:
    items = [{"prediction_id": _prediction_id(support), "rating": 0.5, "source": "review"} for _ in range(3)]
    response = support.http.post("/v1/feedback", json={"items": items})
    assert response.status_code == 201
    assert [item["new"] for item in response.json()["items"]] == [True, True, True]
    bad = [{"prediction_id": _prediction_id(support), "rating": 1.0, "source": "review"}, items[0] | {"rating": None}]
    refused = support.http.post("/v1/feedback", json={"items": bad})
    assert refused.status_code == 422
    assert refused.json()["error"]["field"] == "items[1].label"
    assert len(_kept(support)) == 3


UNUSABLE: list[tuple[dict[str, Any], str]] = [
    ({"prediction_id": "nothing"}, "prediction_id"),
    ({"prediction_id": "00000000-0000-4000-8000-000000000000"}, "prediction_id"),
    ({"prediction_id": "f" * 37}, "prediction_id"),
    ({"label": None}, "label"),
    ({"label": "  "}, "label"),
    ({"label": "x" * 201}, "label"),
    ({"label": "\ud800"}, "label"),
    ({"label": "a\0b"}, "label"),
    ({"source": "rumour"}, "source"),
    ({"source": "random_sample"}, "sampling_probability"),
    ({"sampling_probability": 0.0}, "sampling_probability"),
    ({"sampling_probability": 1.5}, "sampling_probability"),
    ({"rating": "good"}, "rating"),
    ({"lable": "x"}, "lable"),
]


def test_feedback_that_cannot_be_used_is_refused_with_the_field_named(
    support: Running, subtests: pytest.Subtests
) -> None:
    for change, field in UNUSABLE:
        item = {"prediction_id": new_id(), "label": "billing", "source": "ground_truth"} | change
        with subtests.test(change=change):
            # in ASCII, so that half a character can be sent
            response = support.http.post("/v1/feedback", content=json.dumps(item), headers=JSON)
            assert response.status_code == 422, response.text
            assert response.json()["error"]["field"] == field
            batch = support.http.post("/v1/feedback", content=json.dumps({"items": [item]}), headers=JSON)
            assert batch.json()["error"]["field"] == f"items[0].{field}"
    assert _kept(support) == []


PLAIN_WORDS: list[tuple[dict[str, Any], str]] = [
    ({"source": "hearsay"}, "source is \"hearsay\": give 'ground_truth', 'random_sample', 'review' or 'complaint'"),
    ({"label": "x" * 201}, "label has 201 characters: give at most 200 characters"),
    ({"label": "a\0b"}, 'label is "a\\u0000b": it holds the character U+0000: leave that out'),
    ({"rating": "good"}, 'rating is "good": give a number'),
    ({"sampling_probability": 0}, "sampling_probability is 0: give a number above 0"),
    ({"labels": ["billing"]}, "labels is not known: leave it out"),
]


def test_a_refusal_says_in_plain_words_what_to_give(support: Running, subtests: pytest.Subtests) -> None:
    for change, words in PLAIN_WORDS:
        item = {"prediction_id": new_id(), "label": "billing", "source": "ground_truth"} | change
        with subtests.test(change=change):
            assert words in support.http.post("/v1/feedback", json=item).json()["error"]["message"]
            batch = support.http.post("/v1/feedback", json={"items": [item]}).json()["error"]["message"]
            assert f"items[0].{words}" in batch


def test_too_many_items_are_refused(support: Running) -> None:
    item = {"prediction_id": new_id(), "label": "billing", "source": "ground_truth"}
    response = support.http.post("/v1/feedback", json={"items": [item] * 257})
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "items"
    assert response.json()["error"]["message"] == "items has 257 entries: give at most 256 entries"


def test_feedback_needs_its_own_role(support: Running) -> None:
    item = {"prediction_id": new_id(), "label": "billing", "source": "ground_truth"}
    headers = {"authorization": f"Bearer {support.key(Role.PREDICT, name='asker')}"}
    response = httpx.post(f"{support.http.base_url}/v1/feedback", json=item, headers=headers)
    assert response.status_code == 403
