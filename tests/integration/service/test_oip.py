"""The Open Inference Protocol v2, as its clients speak it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from monitoring.core.ids import unit_hash
from tests.integration.service.conftest import Running

JSON = {"content-type": "application/json"}


def _infer(running: Running, *texts: str, **more: Any) -> httpx.Response:
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}
    return running.http.post("/v2/models/support/infer", json={"inputs": [tensor]} | more)


def test_the_server_and_its_models_describe_themselves(support: Running) -> None:
    server = support.http.get("/v2").json()
    assert server["name"] == "leeway"
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
    ({"parameters": {"binary_data_size": 8}}, "parameters"),
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


def test_binary_tensors_are_refused_clearly(support: Running) -> None:
    headers = {"inference-header-content-length": "100"}
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    response = support.http.post("/v2/models/support/infer", json={"inputs": [tensor]}, headers=headers)
    assert response.status_code == 422
    assert "binary" in response.json()["error"]
    asked = _infer(support, "a", outputs=[{"name": "label", "parameters": {"binary_data": True}}])
    assert "binary_data=False" in asked.json()["error"]


def test_an_unknown_model_or_output_is_refused(support: Running) -> None:
    assert support.http.get("/v2/models/nobody").status_code == 404
    assert support.http.get("/v2/models/nobody/ready").status_code == 404
    response = _infer(support, "a", outputs=[{"name": "logits"}])
    assert response.status_code == 422
    assert response.json()["field"] == "outputs[0].name"


def test_infer_needs_a_key(support: Running) -> None:
    response = httpx.post(f"{support.http.base_url}/v2/models/support/infer", json={"inputs": []})
    assert response.status_code == 401
    assert isinstance(response.json()["error"], str)
