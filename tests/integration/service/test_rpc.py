"""The Open Inference Protocol over a real gRPC channel, in front of the same engine as HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from monitoring.core.bundle import Bundle
from monitoring.core.errors import MisConfigured
from monitoring.core.ids import unit_hash
from monitoring.core.types import Role
from service.oip import open_inference_pb2 as wire
from service.oip.rpc import SERVICE, RpcServer
from tests.integration.service.conftest import Running, bytes_tensor


@dataclass
class Caller:
    """Calls methods by their names, with a key unless told otherwise."""

    running: Running
    channel: grpc.Channel
    key: str

    def call(self, method: str, asked: Any, **more: Any) -> Any:
        answer = getattr(wire, type(asked).__name__.replace("Request", "Response"))
        ask = self.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=type(asked).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return ask(asked, **{"metadata": (("authorization", f"Bearer {self.key}"),), "timeout": 30} | more)

    def refused(self, method: str, asked: Any, **more: Any) -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(method, asked, **more)
        return caught.value


@pytest.fixture
def caller(support: Running) -> Iterator[Caller]:
    server = RpcServer(support.context, host="127.0.0.1", port=0, drain_seconds=5)
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Caller(support, channel, support.key(Role.PREDICT, name="grpc"))
    server.stop()


def _request(*texts: str, **more: Any) -> wire.ModelInferRequest:
    tensor = wire.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(texts)])
    tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    return wire.ModelInferRequest(**{"model_name": "support", "inputs": [tensor]} | more)


def _trailing(error: grpc.RpcError) -> dict[str, str]:
    return dict(error.trailing_metadata())


def test_the_server_and_its_models_describe_themselves_without_a_key(caller: Caller) -> None:
    stranger = {"metadata": ()}
    assert caller.call("ServerLive", wire.ServerLiveRequest(), **stranger).live
    assert caller.call("ServerReady", wire.ServerReadyRequest(), **stranger).ready
    assert caller.call("ModelReady", wire.ModelReadyRequest(name="support"), **stranger).ready
    assert caller.call("ModelReady", wire.ModelReadyRequest(name="support", version="1"), **stranger).ready
    server = caller.call("ServerMetadata", wire.ServerMetadataRequest(), **stranger)
    assert (server.name, list(server.extensions)) == ("leeway", ["binary_tensor_data"])
    model = caller.call("ModelMetadata", wire.ModelMetadataRequest(name="support"), **stranger)
    assert (model.name, list(model.versions)) == ("support", ["1"])
    assert [(one.name, one.datatype, list(one.shape)) for one in model.inputs] == [("text", "BYTES", [-1])]
    assert [one.name for one in model.outputs] == ["label", "probability", "prediction_id"]


def test_texts_in_contents_are_answered_in_contents(caller: Caller) -> None:
    request = _request("my parcel is late", "refund the invoice", id="42")
    request.parameters["key"].string_param = "customer-7"
    response = caller.call("ModelInfer", request)
    assert (response.model_name, response.model_version, response.id) == ("support", "1", "42")
    assert response.parameters["variant"].string_param == "production"
    label, probability, ids = response.outputs
    assert list(label.contents.bytes_contents) == [b"delivery", b"billing"]
    assert all(0 < value <= 1 for value in probability.contents.fp32_contents)
    rows = {row["prediction_id"]: row for row in caller.running.rows()}
    assert [rows[one.decode()]["predicted"] for one in ids.contents.bytes_contents] == ["delivery", "billing"]
    assert {row["unit"] for row in rows.values()} == {unit_hash("customer-7")}


def test_raw_texts_are_answeredbytes_tensor(caller: Caller) -> None:
    request = _request(
        "my parcel", "my invoice", raw_input_contents=[bytes_tensor("mein Päckchen, my parcel", "my invoice")]
    )
    del request.inputs[0].contents.bytes_contents[:]
    request.outputs.add(name="label")
    response = caller.call("ModelInfer", request)
    assert [(one.name, one.datatype, list(one.shape)) for one in response.outputs] == [("label", "BYTES", [2])]
    assert list(response.raw_output_contents) == [bytes_tensor("delivery", "billing")]


def test_bad_input_is_refused_by_name(caller: Caller, subtests: pytest.Subtests) -> None:
    negative, twice = _request("a"), _request("a", raw_input_contents=[bytes_tensor("a")])
    negative.inputs[0].shape[0] = -1
    long = _request("a")
    long.parameters["key"].string_param = "k" * 257
    half = _request("a")
    half.inputs[0].contents.bytes_contents[0] = b"\xff"
    for request, field in (
        (_request(" "), "inputs[0]"),
        (wire.ModelInferRequest(model_name="support"), "inputs"),
        (_request("a", outputs=[wire.ModelInferRequest.InferRequestedOutputTensor(name="logits")]), "outputs[0].name"),
        (_request("a", raw_input_contents=[b"", b""]), "raw_input_contents"),
        (twice, "inputs[0]"),
        (half, "inputs[0]"),
        (negative, "inputs[0].shape[0]"),
        (long, "parameters.key"),
    ):
        with subtests.test(field=field):
            error = caller.refused("ModelInfer", request)
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
            assert (_trailing(error)["code"], _trailing(error)["field"]) == ("invalid_input", field)


def test_errors_have_the_status_that_fits(caller: Caller, candidate_bundle: Bundle) -> None:
    caller.running.register(candidate_bundle, approved=False)
    for request, code in (
        (_request("a", model_name="nobody"), grpc.StatusCode.NOT_FOUND),
        (_request("a", model_version="7"), grpc.StatusCode.NOT_FOUND),
        (_request("a", model_version="2"), grpc.StatusCode.FAILED_PRECONDITION),
        (_request("a" * 40_000), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        assert caller.refused("ModelInfer", request).code() == code
    assert caller.refused("ModelInfer", _request("a"), metadata=()).code() == grpc.StatusCode.UNAUTHENTICATED
    operator = (("x-api-key", caller.running.key(Role.OPERATE, name="operator")),)
    assert caller.refused("ModelInfer", _request("a"), metadata=operator).code() == grpc.StatusCode.PERMISSION_DENIED
    waiting = wire.ModelReadyRequest(name="support", version="2")
    assert not caller.call("ModelReady", waiting).ready
    assert caller.refused("ModelReady", wire.ModelReadyRequest(name="nobody")).code() == grpc.StatusCode.NOT_FOUND


def test_a_model_that_fails_says_so_without_a_stack_trace(caller: Caller, champion_bundle: Bundle) -> None:
    caller.running.gate.broken.add(champion_bundle.hash)
    error = caller.refused("ModelInfer", _request("my parcel"))
    assert error.code() == grpc.StatusCode.INTERNAL
    assert "the model failed on this text" in (error.details() or "")


def test_who_hangs_up_or_waits_too_long_leaves_the_queue(caller: Caller) -> None:
    gate, pool = caller.running.gate, caller.running.context.inference.pool
    gate.close()
    error = caller.refused("ModelInfer", _request("my parcel"), timeout=0.3)
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    late = [
        caller.channel.unary_unary(f"/{SERVICE}/ModelInfer").future(
            _request("my parcel").SerializeToString(), metadata=(("x-api-key", caller.key),)
        )
        for _ in range(8)
    ]
    for one in late:
        one.cancel()
    gate.open.set()
    assert caller.call("ModelInfer", _request("my parcel")).outputs[0].contents.bytes_contents[0] == b"delivery"
    assert sum(pool.depths().values()) == 0


def test_calls_are_counted_as_requests(caller: Caller) -> None:
    caller.call("ModelInfer", _request("my parcel"))
    caller.refused("ModelInfer", _request("a", model_name="nobody"))
    route = f"/{SERVICE}/ModelInfer"
    for status in ("200", "404"):
        assert caller.running.metric("leeway_http_requests_total", route=route, method="POST", status=status) == 1
    assert caller.running.metric("leeway_request_duration_seconds_count", route=route) >= 1


def test_a_port_that_is_taken_is_told(support: Running) -> None:
    taken = RpcServer(support.context, host="127.0.0.1", port=0, drain_seconds=1)
    taken.start()
    try:
        with pytest.raises(MisConfigured, match=r"server\.grpc_port"):
            RpcServer(support.context, host="127.0.0.1", port=taken.port, drain_seconds=1).start()
    finally:
        taken.stop()
