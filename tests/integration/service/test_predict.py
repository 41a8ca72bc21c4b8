"""Asking: answers, refusals, overload, and what the log says of each."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import httpx
import pytest

from monitoring.core.bundle import Bundle
from monitoring.core.ids import unit_hash
from monitoring.core.ledger import access
from monitoring.core.types import Role, utc_now
from tests.integration.service.conftest import Running, Start, with_champion


def test_an_answer_carries_label_probability_top_k_id_version_and_variant(support: Running) -> None:
    response = support.predict("my parcel is late", "refund the invoice", key="customer-7", top_k=2)
    assert response.status_code == 200
    body = response.json()
    assert body["model"] == "support"
    assert [p["label"] for p in body["predictions"]] == ["delivery", "billing"]
    for prediction in body["predictions"]:
        assert UUID(prediction["id"]).version == 7
        assert prediction["version"] == "support@1"
        assert prediction["variant"] == "production"
        assert len(prediction["top_k"]) == 2
        assert prediction["top_k"][0] == {"label": prediction["label"], "probability": prediction["probability"]}
        assert 0.5 < prediction["probability"] <= 1


def test_the_answer_is_in_the_spool_before_it_leaves(support: Running) -> None:
    response = support.predict("my parcel is late", key="customer-7", metadata={"channel": "mail"})
    prediction = response.json()["predictions"][0]
    (row,) = support.rows()
    assert row["prediction_id"] == prediction["id"]
    assert row["predicted"] == prediction["label"]
    assert row["confidence"] == pytest.approx(prediction["probability"], abs=1e-6)
    assert row["unit"] == unit_hash("customer-7")
    assert row["variant"] == "production"
    assert row["version"] == next(iter(support.context.serving.loaded))
    assert row["text"] == "my parcel is late"
    assert row["metadata"] == '{"channel":"mail"}'
    assert row["rollout"] is None
    assert row["error"] is None
    assert row["latency_ms"] > 0
    assert len(row["projected"]) == 32


def test_without_a_key_every_request_is_a_unit_of_its_own(support: Running) -> None:
    support.predict("my parcel is late", "my card")
    support.predict("my parcel is late")
    first, second, third = (row["unit"] for row in support.rows())
    assert first == second
    assert first != third


@pytest.mark.parametrize(("policy", "kept"), [("hash", str), ("off", type(None))])
def test_the_text_is_logged_as_the_policy_says(start: Start, champion_bundle: Bundle, policy: str, kept: type) -> None:
    running = with_champion(start(log={"text": policy}), champion_bundle)
    running.predict("my parcel is late")
    (row,) = running.rows()
    assert isinstance(row["text"], kept)
    assert "parcel" not in str(row)


BAD_REQUESTS: list[tuple[dict[str, object], int, str]] = [
    ({"inputs": ["a", "b", "c", " "]}, 422, "inputs[3]"),
    ({"inputs": ["a", "x" * 40_000]}, 413, "inputs[1]"),
    ({"inputs": ["a", "ü" * 20_000]}, 413, "inputs[1]"),
    ({"inputs": ["a"] * 65}, 413, "inputs"),
    ({"inputs": []}, 422, "inputs"),
    ({"inputs": ["a", 7]}, 422, "inputs[1]"),
    ({"inputs": "a"}, 422, "inputs"),
    ({"text": "a"}, 422, "inputs"),
    ({"inputs": ["a"], "kye": "b"}, 422, "kye"),
    ({"inputs": ["a"], "key": ""}, 422, "key"),
    ({"inputs": ["a"], "key": "k" * 257}, 422, "key"),
    ({"inputs": ["a"], "metadata": {str(n): "v" for n in range(17)}}, 422, "metadata"),
    ({"inputs": ["a"], "metadata": {"name": "v" * 257}}, 422, "metadata.name"),
    ({"inputs": ["a"], "top_k": 0}, 422, "top_k"),
]


def test_a_bad_request_is_refused_with_the_field_named(support: Running, subtests: pytest.Subtests) -> None:
    for body, status, field in BAD_REQUESTS:
        with subtests.test(field=field):
            response = support.http.post("/v1/models/support/predict", json=body)
            assert response.status_code == status, response.text
            assert response.json()["error"]["field"] == field
            assert field in response.json()["error"]["message"]
    assert support.rows() == []


PLAIN_WORDS = [
    ({"inputs": ["a", 7]}, "inputs[1] is 7: give a text in quotes"),
    ({"inputs": "a"}, 'inputs is "a": give a list'),
    ({"text": "a"}, "inputs is missing: give it, it is required; text is not known: leave it out"),
    ({"inputs": ["a"], "key": "k" * 257}, "key has 257 characters: give at most 256"),
    ({"inputs": ["a"], "metadata": {str(n): "v" for n in range(17)}}, "metadata has 17 entries: give at most 16"),
    ({"inputs": ["a"], "metadata": {"n" * 65: "v"}}, "… has a name that has 65 characters: give at most 64"),
    ({"inputs": ["a"], "metadata": {"name": "\ud800"}}, 'metadata.name is "\\ud800": give a text in UTF-8'),
    ({"inputs": ["a"], "\n": 7}, "\\n is not known"),
    ({"inputs": ["a"], "\ud800": 7}, 'the body is "\\ud800": give a text in UTF-8'),
    ({"inputs": ["a"], "top_k": "all"}, 'top_k is "all": give a whole number'),
    ({"inputs": ["a"], "top_k": 0}, "top_k is 0: give a number of at least 1"),
    ({"inputs": [1, 2, 3, 4, 5]}, "inputs[2] is 3: give a text in quotes; and 2 more"),
    (b'{"inputs": ["a"', "the body is not valid JSON at character 15 (expecting ',' delimiter): check its quotes"),
    (b'{"inputs": ["\xff"]}', "the body cannot be read: send JSON in UTF-8"),
]


def test_a_refusal_says_in_plain_words_what_to_give(support: Running, subtests: pytest.Subtests) -> None:
    headers = {"content-type": "application/json"}
    for body, words in PLAIN_WORDS:
        # in ASCII, so that half a character can be sent
        content = body if isinstance(body, bytes) else json.dumps(body)
        with subtests.test(words=words):
            response = support.http.post("/v1/models/support/predict", content=content, headers=headers)
            assert response.status_code in (400, 422), response.text
            message = response.json()["error"]["message"]
            assert words in message
            assert "nput should" not in message


BAD_BODIES = [
    (b'{"inputs": ["a"', 400),
    (b'{"inputs": ["\xff"]}', 400),
    (b'{"inputs": ["\\ud800"]}', 422),
    (b"[]", 422),
    (b"", 422),
]


def test_a_body_that_is_no_json_object_of_utf8_is_refused(support: Running, subtests: pytest.Subtests) -> None:
    headers = {"content-type": "application/json"}
    for content, status in BAD_BODIES:
        with subtests.test(content=content):
            response = support.http.post("/v1/models/support/predict", content=content, headers=headers)
            assert response.status_code == status, response.text
            assert set(response.json()["error"]) == {"code", "message", "field"}


def test_a_huge_body_is_refused_before_it_has_come(support: Running) -> None:
    with socket.create_connection(("127.0.0.1", support.server.port), timeout=10) as caller:
        caller.sendall(
            b"POST /v1/models/support/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000000\r\n\r\n{"
        )
        assert b" 413 " in caller.recv(4096)


def test_a_body_of_unknown_length_is_refused_at_the_limit(start: Start, champion_bundle: Bundle) -> None:
    running = with_champion(start(server={"max_body_bytes": 1000}), champion_bundle)
    chunks = (b"x" * 400 for _ in range(3))
    response = running.http.post("/v1/models/support/predict", content=chunks)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"


def test_a_body_may_come_compressed(support: Running) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    body = gzip.compress(b'{"inputs": ["my parcel is late"]}')
    answer = support.http.post("/v1/models/support/predict", content=body, headers=headers)
    assert answer.json()["predictions"][0]["label"] == "delivery"
    cut = support.http.post("/v1/models/support/predict", content=body[:-4], headers=headers)
    assert cut.status_code == 422
    assert cut.json()["error"]["field"] == "Content-Encoding"
    bomb = gzip.compress(b" " * 10_000_000)
    assert support.http.post("/v1/models/support/predict", content=bomb, headers=headers).status_code == 413


def test_bodies_under_way_are_bounded_together(start: Start, champion_bundle: Bundle) -> None:
    limits = {"max_body_bytes": 1000, "max_bodies_bytes": 1500}
    running = with_champion(start(server=limits), champion_bundle)
    large = "please " * 100
    with socket.create_connection(("127.0.0.1", running.server.port), timeout=10) as slow:
        slow.sendall(
            b"POST /v1/models/support/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b" " * 900
        )
        _until(lambda: running.predict(large).status_code == 429)  # what has come is held until that caller is done
        refused = running.predict(large)
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "overloaded"
        assert running.predict("a small one passes").status_code == 200
    _until(lambda: running.predict(large).status_code == 200)


def test_an_unknown_model_is_refused_with_the_known_ones(support: Running) -> None:
    response = support.predict("a", model="suport")
    assert response.status_code == 404
    assert "known: support" in response.json()["error"]["message"]


def test_unknown_paths_and_methods_have_the_same_error_shape(support: Running) -> None:
    assert support.http.get("/nothing").json()["error"]["code"] == "not_found"
    wrong = support.http.get("/v1/models/support/predict").json()["error"]
    assert wrong["code"] == "method_not_allowed"
    assert wrong["message"] == "GET is not possible at /v1/models/support/predict; /docs lists what is"


def test_a_caller_without_a_valid_key_is_refused(support: Running) -> None:
    for headers in ({}, {"authorization": "Bearer lw_wrong"}, {"authorization": "Basic x"}, {"x-api-key": "wrong"}):
        response = httpx.post(
            f"{support.http.base_url}/v1/models/support/predict", json={"inputs": ["a"]}, headers=headers
        )
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"


def test_a_key_without_the_role_is_refused(support: Running) -> None:
    key = support.key(Role.FEEDBACK, name="labeller")
    headers = {"authorization": f"Bearer {key}"}
    response = support.http.post("/v1/models/support/predict", json={"inputs": ["a"]}, headers=headers)
    assert response.status_code == 403
    assert "'labeller' lacks the role predict" in response.json()["error"]["message"]


def test_x_api_key_is_as_good(support: Running) -> None:
    headers = {"x-api-key": support.key(Role.PREDICT, name="other")}
    url = f"{support.http.base_url}/v1/models/support/predict"
    assert httpx.post(url, json={"inputs": ["a"]}, headers=headers).status_code == 200


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(start: Start, champion_bundle: Bundle) -> None:
    running = with_champion(start(server={"threads": 1, "queue_size": 2}), champion_bundle)
    running.gate.close()
    with ThreadPoolExecutor(3) as callers:
        first = callers.submit(running.predict, "one")
        assert running.gate.reached.acquire(timeout=10)  # it is in the model, no longer in the queue
        waiting = callers.submit(running.predict, "two", "three")
        _until(lambda: running.context.inference.pool.depths()["support"] == 2)
        refused = running.predict("four")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "overloaded"
        running.gate.open.set()
        assert first.result().status_code == waiting.result().status_code == 200
    assert len(running.rows()) == 3
    labels = {"model": "support", "version": "support@1", "variant": "production", "reason": "overload"}
    assert running.metric("leeway_prediction_errors_total", **labels) == 1


def test_a_request_that_takes_too_long_gets_504_and_an_honest_row(start: Start, champion_bundle: Bundle) -> None:
    running = with_champion(start(server={"threads": 1, "deadline_seconds": 0.2}), champion_bundle)
    running.gate.close()
    response = running.predict("one", "two")
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "deadline_exceeded"
    running.gate.open.set()
    assert running.predict("three").status_code == 200
    assert [row["error"] for row in running.rows()] == ["deadline_exceeded", "deadline_exceeded", None]


def test_a_caller_may_have_less_patience_than_the_server(
    start: Start, champion_bundle: Bundle, subtests: pytest.Subtests
) -> None:
    support = with_champion(start(server={"threads": 1}), champion_bundle)
    support.gate.close()
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["two"]}
    for path, body in (
        ("/v1/models/support/predict", {"inputs": ["one"]}),
        ("/v2/models/support/infer", {"inputs": [tensor]}),
    ):
        with subtests.test(path=path):
            response = support.http.post(path, json=body, headers={"x-request-timeout": "0.05"})
            assert response.status_code == 504
            assert response.json().get("code", "deadline_exceeded") == "deadline_exceeded"
    assert support.context.inference.pool.depths()["support"] == 0
    support.gate.open.set()


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "soon"])
def test_a_patience_that_is_no_number_of_seconds_is_refused(support: Running, given: str) -> None:
    url, headers = "/v1/models/support/predict", {"x-request-timeout": given}
    response = support.http.post(url, json={"inputs": ["one"]}, headers=headers)
    assert response.status_code == 422
    assert response.json()["error"]["field"].lower() == "x-request-timeout"


def test_a_caller_who_floods_the_queue_is_refused_and_others_are_not(start: Start, champion_bundle: Bundle) -> None:
    running = with_champion(start(server={"threads": 1, "queue_size": 10}), champion_bundle)
    other = {"authorization": f"Bearer {running.key(Role.PREDICT, name='other')}"}
    running.gate.close()
    with ThreadPoolExecutor(4) as callers:
        first = callers.submit(running.predict, "one")
        assert running.gate.reached.acquire(timeout=10)
        flood = callers.submit(running.predict, *["flood"] * 9)
        _until(lambda: running.context.inference.pool.depths()["support"] == 9)
        refused = running.predict("one more")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        url, body = f"{running.http.base_url}/v1/models/support/predict", {"inputs": ["of another"]}
        welcome = callers.submit(httpx.post, url, json=body, headers=other, timeout=30)
        _until(lambda: running.context.inference.pool.depths()["support"] == 10)
        running.gate.open.set()
        assert first.result().status_code == flood.result().status_code == welcome.result().status_code == 200


def test_a_caller_who_hangs_up_leaves_the_queue(start: Start, champion_bundle: Bundle) -> None:
    running = with_champion(start(server={"threads": 1}), champion_bundle)
    running.gate.close()
    with ThreadPoolExecutor(1) as callers:
        first = callers.submit(running.predict, "one")
        assert running.gate.reached.acquire(timeout=10)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{running.http.base_url}/v1/models/support/predict",
                json={"inputs": ["two"]},
                headers=running.http.headers,
                timeout=0.3,
            )
        _until(lambda: running.context.inference.pool.depths()["support"] == 0)
        running.gate.open.set()
        assert first.result().status_code == 200
    assert [row["text"] for row in running.rows()] == ["one"]


def test_a_model_that_fails_gives_500_without_a_trace_and_a_row_with_the_reason(support: Running) -> None:
    (loaded,) = support.context.serving.loaded.values()
    support.gate.broken.add(loaded.version.bundle_hash)
    response = support.predict("one")
    assert response.status_code == 500
    assert "Traceback" not in response.text
    assert "the test broke" not in response.text
    (row,) = support.rows()
    assert row["error"] == "RuntimeError: the test broke this model"
    assert row["predicted"] == ""


def test_a_full_spool_is_counted_and_fails_no_answer(start: Start, champion_bundle: Bundle) -> None:
    running = with_champion(start(log={"spool_max_bytes": 1_048_576}), champion_bundle)
    filler = running.settings.spool_dir / "another-writer"
    filler.mkdir()
    (filler / "00000000000000000001-000.seg").write_bytes(b"x" * 2_000_000)
    running.service.spool.append([{"text": "x" * 1_100_000}])  # the writer notices that there is no room
    assert running.predict("one").status_code == 200
    assert running.metric("leeway_spool_dropped_rows_total") >= 1


def test_many_callers_at_once_each_get_their_own_answer(support: Running) -> None:
    words = {"delivery": "parcel", "billing": "invoice", "account": "password"}
    asked = [(label, f"{word} {'please ' * (number % 9)}") for number in range(40) for label, word in words.items()]
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda pair: support.predict(pair[1]).json()["predictions"][0]["label"], asked))
    assert answers == [label for label, _ in asked]
    assert len(support.rows()) == len(asked)
    assert len({row["prediction_id"] for row in support.rows()}) == len(asked)


def test_metrics_tell_of_requests_stages_and_predictions(support: Running) -> None:
    support.predict("my parcel is late")
    support.predict("")
    support.context.inference.pool.stop()  # counting comes after the answer
    text = support.http.get("/metrics").text
    assert 'leeway_http_requests_total{method="POST",route="/v1/models/{model}/predict",status="200"} 1.0' in text
    assert 'leeway_http_requests_total{method="POST",route="/v1/models/{model}/predict",status="422"} 1.0' in text
    assert 'leeway_predictions_total{model="support",variant="production",version="support@1"} 1.0' in text
    assert 'leeway_traffic_share{model="support",variant="production",version="support@1"} 1.0' in text
    assert 'leeway_queue_depth{model="support"} 0.0' in text
    assert "leeway_spool_rows_total 1.0" in text
    assert "leeway_loaded_versions 1.0" in text
    for stage in ("queue", "tokenize", "inference"):
        assert f'leeway_stage_duration_seconds_count{{stage="{stage}"}} 1.0' in text
    assert "_created" not in text


def test_a_revoked_key_is_refused_after_a_few_seconds(support: Running) -> None:
    keyring = support.context.keyring
    now = [0.0]
    keyring._monotonic = lambda: now[0]
    headers = {"authorization": f"Bearer {support.key(Role.PREDICT, name='leaver')}"}
    url, body = "/v1/models/support/predict", {"inputs": ["a"]}
    assert support.http.post(url, json=body, headers=headers).status_code == 200
    with support.context.ledger.begin() as connection:
        access.revoke_key(connection, "leaver", actor="test", reason="left", now=utc_now())
    now[0] = 10.0
    assert support.http.post(url, json=body, headers=headers).status_code == 401


def test_the_openapi_document_has_examples_and_the_ways_to_log_in(support: Running) -> None:
    document = support.http.get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "api_key"}
    operation = document["paths"]["/v1/models/{model}/predict"]["post"]
    assert operation["security"]
    assert {"200", "401", "403", "404", "413", "422", "429", "503", "504"} <= set(operation["responses"])
    for name in ("PredictRequest", "PredictResponse", "FeedbackItem", "InferRequest"):
        assert document["components"]["schemas"][name]["examples"]


def _until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread is about to do."""
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen within ten seconds")
