"""The Open Inference Protocol v2, as its clients speak it."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx
import pytest

from monitoring.core.bundle import Bundle
from monitoring.core.ids import unit_hash
from tests.integration.service.conftest import Running, bytes_tensor

JSON = {"content-type": "application/json"}


def _infer(running: Running, *texts: str, **more: Any) -> httpx.Response:
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}
    return running.http.post("/v2/models/support/infer", json={"inputs": [tensor]} | more)


def test_the_server_and_its_models_describe_themselves(support: Running) -> None:
    server = support.http.get("/v2").json()
    assert (server["name"], server["extensions"]) == ("leeway", ["binary_tensor_data"])
    assert support.http.get("/v2/health/live").json() == {"live": True}
    assert support.http.get("/v2/health/ready").json() == {"ready": True}
    model = support.http.get("/v2/models/support").json()
    assert model["name"] == "support"
    assert model["versions"] == ["1"]
    assert model["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert {(o["name"], o["datatype"]) for o in model["outputs"]} == {
        ("label", "BYTES"),
        ("probability", "FP32"),
        ("prediction_id", "BYTES"),
    }
    assert support.http.get("/v2/models/support/ready").json() == {"name": "support", "ready": True}


def test_infer_answers_in_tensors(support: Running) -> None:
    response = _infer(support, "my parcel is late", "refund the invoice", id="42", parameters={"key": "customer-7"})
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("support", "1", "42")
    outputs = {output["name"]: output for output in body["outputs"]}
    assert outputs["label"] == {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["delivery", "billing"]}
    assert all(0 < value <= 1 for value in outputs["probability"]["data"])
    rows = {row["prediction_id"]: row for row in support.rows()}
    assert [rows[one]["predicted"] for one in outputs["prediction_id"]["data"]] == ["delivery", "billing"]
    assert {row["unit"] for row in rows.values()} == {unit_hash("customer-7")}


def test_a_column_of_texts_and_a_choice_of_outputs_are_understood(support: Running) -> None:
    tensor = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": [["my parcel"], ["my invoice"]]}
    body = {"inputs": [tensor], "outputs": [{"name": "label"}]}
    response = support.http.post("/v2/models/support/infer", json=body)
    assert [output["name"] for output in response.json()["outputs"]] == ["label"]
    assert response.json()["outputs"][0]["data"] == ["delivery", "billing"]


UNFITTING: list[tuple[dict[str, Any], str]] = [
    ({"name": "tokens"}, "inputs"),
    ({"datatype": "FP32"}, "inputs[0].datatype"),
    ({"shape": [3]}, "inputs[0].shape"),
    ({"shape": [1, 2]}, "inputs[0].shape"),
    ({"shape": [-1]}, "inputs[0].shape[0]"),
    ({"data": ["a", 7]}, "inputs[0].data"),
    ({"data": ["a", "\ud800"]}, "inputs[1]"),
    ({"data": ["a", ""]}, "inputs[1]"),
    ({"data": [], "shape": [0]}, "inputs[0].data"),
    ({"parameters": {"binary_data_size": 8}}, "inputs[0].parameters.binary_data_size"),
]


def test_a_tensor_that_does_not_fit_is_refused_as_the_protocol_says(
    support: Running, subtests: pytest.Subtests
) -> None:
    for change, field in UNFITTING:
        tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]} | change
        content = json.dumps({"inputs": [tensor]})  # in ASCII, so that half a character can be sent
        with subtests.test(change=change):
            response = support.http.post("/v2/models/support/infer", content=content, headers=JSON)
            assert response.status_code == 422, response.text
            body = response.json()
            assert isinstance(body["error"], str)  # the protocol's shape: the message itself
            assert body["field"] == field


def _binary(running: Running, elements: bytes, *, size: int | None = None, **more: Any) -> httpx.Response:
    parameters = {"binary_data_size": len(elements) if size is None else size}
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "parameters": parameters}
    start = json.dumps({"inputs": [tensor]} | more).encode()
    headers = {"Inference-Header-Content-Length": str(len(start))}
    return running.http.post("/v2/models/support/infer", content=start + elements, headers=headers)


def test_binary_tensors_come_and_go_behind_the_json(support: Running) -> None:
    wanted = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "probability"}]
    response = _binary(support, bytes_tensor("mein Päckchen, my parcel", "refund the invoice"), outputs=wanted)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers["inference-header-content-length"])
    label, probability = json.loads(response.content[:length])["outputs"]
    assert (label["parameters"], "data" in label) == ({"binary_data_size": len(response.content) - length}, False)
    assert response.content[length:] == bytes_tensor("delivery", "billing")
    assert len(probability["data"]) == 2


def test_all_outputs_are_binary_where_the_request_says_so_and_the_output_does_not(support: Running) -> None:
    wanted = [{"name": "label", "parameters": {"binary_data": False}}, {"name": "probability"}]
    response = _infer(support, "my parcel", outputs=wanted, parameters={"binary_data_output": True})
    length = int(response.headers["inference-header-content-length"])
    label, probability = json.loads(response.content[:length])["outputs"]
    assert label["data"] == ["delivery"]
    assert probability["parameters"] == {"binary_data_size": 4}
    (value,) = struct.unpack("<f", response.content[length:])
    assert 0 < value <= 1


def test_binary_tensors_that_do_not_fit_are_refused(support: Running, subtests: pytest.Subtests) -> None:
    texts = bytes_tensor("a", "b")
    for elements, size, says in (
        (texts, len(texts) + 1, "bytes of binary data are left"),
        (texts, len(texts) - 1, "ends within text 1"),
        (texts, len(texts) - 5, "belong to no tensor"),
        (texts[:-3], None, "ends within text 1"),
        (b"\xff\xff\xff\xff" + texts, None, "ends within text 0"),
        (bytes_tensor("a") + struct.pack("<I", 1) + b"\xff", None, "text 1 is not UTF-8"),
        (texts, -1, "a number of at least 0"),
        (bytes_tensor("a", "b", "c"), None, "the shape should be [3]"),
    ):
        with subtests.test(says=says, size=size):
            response = _binary(support, elements, size=size)
            assert response.status_code == 422, response.text
            assert says in response.json()["error"]
            assert response.json()["field"].startswith("inputs")


@pytest.mark.parametrize("length", ["1000", "-1", "many", "٣"])
def test_a_header_that_does_not_fit_its_body_is_refused(support: Running, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length.encode()}
    response = support.http.post("/v2/models/support/infer", content=b"{}", headers=headers)
    assert response.status_code == 422, response.text
    assert response.json()["field"] == "Inference-Header-Content-Length"


def test_an_unknown_model_or_output_is_refused(support: Running) -> None:
    assert support.http.get("/v2/models/nobody").status_code == 404
    assert support.http.get("/v2/models/nobody/ready").status_code == 404
    response = _infer(support, "a", outputs=[{"name": "logits"}])
    assert response.status_code == 422
    assert response.json()["field"] == "outputs[0].name"


def _pinned(running: Running, version: str, *texts: str) -> httpx.Response:
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}
    body = {"inputs": [tensor], "parameters": {"key": "customer-7"}}
    return running.http.post(f"/v2/models/support/versions/{version}/infer", json=body)


def test_a_pinned_version_answers_outside_of_the_rollout(support: Running, candidate_bundle: Bundle) -> None:
    rollout = support.start_rollout(support.register(candidate_bundle), share=0.5)
    support.context.serving.reconcile()
    assert support.http.get("/v2/models/support").json()["versions"] == ["1", "2"]
    for version, label, variant in (("1", "billing", "production"), ("2", "delivery", "candidate")):
        assert support.http.get(f"/v2/models/support/versions/{version}").json()["versions"] == [version]
        ready = support.http.get(f"/v2/models/support/versions/{version}/ready")
        assert ready.json() == {"name": "support", "version": version, "ready": True}
        answer = _pinned(support, version, "refund the invoice").json()
        assert (answer["model_version"], answer["parameters"]) == (version, {"variant": variant})
        assert answer["outputs"][0]["data"] == [label]
    rows = support.rows()
    assert [row["version"] for row in rows] == [rollout.champion, rollout.candidate]
    assert {row["rollout"] for row in rows} == {None}


def test_in_shadow_the_candidate_answers_who_pins_it_and_gets_no_copy_of_who_pins_the_champion(
    support: Running, candidate_bundle: Bundle
) -> None:
    support.start_rollout(support.register(candidate_bundle))
    support.context.serving.reconcile()
    assert _pinned(support, "2", "refund the invoice").json()["outputs"][0]["data"] == ["delivery"]
    assert _pinned(support, "1", "refund the invoice").json()["outputs"][0]["data"] == ["billing"]
    support.service.stop()  # what waits is answered first, also copies
    assert sorted(row["variant"] for row in support.rows()) == ["candidate", "production"]


def test_no_other_answers_in_the_place_of_a_pinned_version_that_fails(
    support: Running, candidate_bundle: Bundle
) -> None:
    support.start_rollout(support.register(candidate_bundle), share=0.5)
    support.context.serving.reconcile()
    support.gate.broken.add(candidate_bundle.hash)
    response = _pinned(support, "2", "refund the invoice")
    assert response.status_code == 500
    assert "the model failed on this text" in response.json()["error"]


def test_a_version_that_does_not_answer_is_refused_with_the_reason(support: Running, candidate_bundle: Bundle) -> None:
    support.register(candidate_bundle, approved=False)
    for path in ("/v2/models/support/versions/2", "/v2/models/support/versions/2/infer"):
        response = _pinned(support, "2", "a") if path.endswith("infer") else support.http.get(path)
        assert response.status_code == 409
        assert "support@2 is awaiting_approval: only" in response.json()["error"]
        assert response.json()["field"] == "version"
    ready = support.http.get("/v2/models/support/versions/2/ready")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)


@pytest.mark.parametrize("version", ["3", "latest", "0", "99999999999999999999", "1.0"])
def test_a_version_that_does_not_exist_is_not_found(support: Running, version: str) -> None:
    assert support.http.get(f"/v2/models/support/versions/{version}").status_code == 404
    assert support.http.get(f"/v2/models/support/versions/{version}/ready").status_code == 404
    response = _pinned(support, version, "a")
    assert response.status_code == 404
    assert f"'support@{version}' does not exist" in response.json()["error"]


def test_a_version_that_is_on_its_way_says_so(support: Running, candidate_bundle: Bundle) -> None:
    support.start_rollout(support.register(candidate_bundle), share=0.5)  # not reconciled yet
    response = _pinned(support, "2", "a")
    assert response.status_code == 503
    assert "support@2 is being loaded, try again" in response.json()["error"]
    assert "retry-after" in response.headers


def test_infer_needs_a_key(support: Running) -> None:
    for path in ("infer", "versions/1/infer"):
        response = httpx.post(f"{support.http.base_url}/v2/models/support/{path}", json={"inputs": []})
        assert response.status_code == 401
        assert isinstance(response.json()["error"], str)
