"""The Open Inference Protocol v2 over gRPC, in front of the same engine: `inference.GRPCInferenceService`.

A key comes in the metadata `authorization` or `x-api-key`. A caller's deadline (`grpc-timeout`) is the request's, and
the texts of one who hangs up leave the queue. An error has the status that fits its HTTP status, and in its trailing
metadata `code`, `field` and `retry-after` as HTTP tells them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import Message

from monitoring.core.errors import MisConfigured
from monitoring.core.faults import one_line
from monitoring.core.types import Role
from service.auth import check_role, key_in
from service.context import Context
from service.oip import answering
from service.oip import open_inference_pb2 as wire
from service.oip.messages import request_of, response_of
from service.oip.tensors import wanted_outputs
from service.routes.errors import Refusal, refusal_of
from service.routes.health import is_ready

SERVICE = "inference.GRPCInferenceService"
CODES: Mapping[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
Call = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[Any, Call], Awaitable[Message]]


class RpcServer:
    """Serves until it is stopped, on a thread and event loop of its own; requests under way are answered first."""

    def __init__(self, context: Context, *, host: str, port: int, drain_seconds: float) -> None:
        """Takes the port in `start`; 0 is any free one."""
        self._context = context
        self._host, self._asked = host, port
        self._drain_seconds = drain_seconds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="grpc", daemon=True)
        self.port = 0

    def start(self) -> None:
        """Begin to accept. Raises MisConfigured if the port is in use or not allowed."""
        self._thread.start()
        try:
            self._server, self.port = self._do(self._started())
        except RuntimeError as error:
            self._end()
            raise MisConfigured(
                f"port {self._asked} on {self._host} cannot be had for gRPC: stop the process that has it, or set "
                "another server.grpc_port or server.host",
                field="server.grpc_port",
            ) from error

    def stop(self) -> None:
        """Refuse new calls, answer what is under way, end."""
        self._do(self._server.stop(self._drain_seconds))
        self._end()

    async def _started(self) -> tuple[grpc.aio.Server, int]:
        limits = self._context.settings.server
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # a second server on the port is a mistake to be told, not a share of calls
                ("grpc.max_receive_message_length", limits.max_body_bytes),
            ],
            maximum_concurrent_rpcs=max(1, limits.max_bodies_bytes // limits.max_body_bytes) + limits.queue_size,
        )
        server.add_generic_rpc_handlers((Methods(self._context).handlers(),))
        host = f"[{self._host}]" if ":" in self._host else self._host
        port = server.add_insecure_port(f"{host}:{self._asked}")
        await server.start()
        return server, port

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Methods:
    """What the service can be asked."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def handlers(self) -> grpc.GenericRpcHandler:
        """All methods, each measured and with its errors told."""
        methods: dict[str, tuple[type[Message], Method]] = {
            "ServerLive": (wire.ServerLiveRequest, self.server_live),
            "ServerReady": (wire.ServerReadyRequest, self.server_ready),
            "ModelReady": (wire.ModelReadyRequest, self.model_ready),
            "ServerMetadata": (wire.ServerMetadataRequest, self.server_metadata),
            "ModelMetadata": (wire.ModelMetadataRequest, self.model_metadata),
            "ModelInfer": (wire.ModelInferRequest, self.model_infer),
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    self._told(f"/{SERVICE}/{name}", method),
                    request_deserializer=asked.FromString,
                    response_serializer=_serialized,
                )
                for name, (asked, method) in methods.items()
            },
        )

    async def server_live(self, _: wire.ServerLiveRequest, call: Call) -> wire.ServerLiveResponse:
        """The process answers."""
        return wire.ServerLiveResponse(live=True)

    async def server_ready(self, _: wire.ServerReadyRequest, call: Call) -> wire.ServerReadyResponse:
        """Whether what should serve can answer."""
        return wire.ServerReadyResponse(ready=is_ready(self._context))

    async def model_ready(self, asked: wire.ModelReadyRequest, call: Call) -> wire.ModelReadyResponse:
        """Whether the model, or its version, can answer."""
        ready = await answering.is_ready(self._context, asked.name, asked.version or None)
        return wire.ModelReadyResponse(ready=ready)

    async def server_metadata(self, _: wire.ServerMetadataRequest, call: Call) -> wire.ServerMetadataResponse:
        """Name, version and extensions."""
        return wire.ServerMetadataResponse(**answering.server_metadata())

    async def model_metadata(self, asked: wire.ModelMetadataRequest, call: Call) -> wire.ModelMetadataResponse:
        """Inputs and outputs of the model."""
        described = await answering.model_metadata(self._context, asked.name, asked.version or None)
        return wire.ModelMetadataResponse(**described)

    async def model_infer(self, message: wire.ModelInferRequest, call: Call) -> wire.ModelInferResponse:
        """Classify texts, as over HTTP."""
        caller = await self._context.keyring.principal(key_in(_headers(call)))
        check_role(caller, Role.PREDICT)
        request = request_of(message)
        wanted = wanted_outputs(request)
        answers = await answering.answers_to(
            request,
            self._context,
            message.model_name,
            message.model_version or None,
            caller=caller.name,
            within=call.time_remaining(),
            gone=_never,  # a caller who leaves cancels the method
        )
        return response_of(message, answers, wanted)

    def _told(self, route: str, method: Method) -> Method:
        async def told(asked: Any, call: Call) -> Message:
            began, status = time.perf_counter(), 499
            try:
                answer = await method(asked, call)
                status = 200
                return answer
            except Exception as error:
                refusal = refusal_of(error, "gRPC", route)
                status = refusal.status
            finally:  # before the caller hears of it, as where it is answered
                self._context.metrics.request(route, "POST", status, time.perf_counter() - began)
            code = CODES.get(status, grpc.StatusCode.INTERNAL)
            await call.abort(code, one_line(refusal.message), _trailing(refusal))

        return told


def _headers(call: Call) -> dict[str, str]:
    """The call's metadata, with what is binary left out."""
    return {name: value for name, value in call.invocation_metadata() or () if isinstance(value, str)}


def _trailing(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    told = {"code": refusal.code, "field": one_line(refusal.field or "")}
    told |= {name.lower(): value for name, value in (refusal.headers or {}).items()}
    return tuple((name, value) for name, value in told.items() if value.isascii() and value)


def _serialized(message: Message) -> bytes:
    return bytes(message.SerializeToString())


async def _never() -> None:
    await asyncio.get_running_loop().create_future()
