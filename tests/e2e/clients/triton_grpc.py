"""tritonclient over gRPC, as its own examples use it: ADDRESS KEY."""

import sys

import numpy as np
import tritonclient.grpc as triton

address, key = sys.argv[1:]
client = triton.InferenceServerClient(address)
assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready("support")
assert client.get_server_metadata().name == "leeway"
assert client.get_model_metadata("support", "1").outputs[0].name == "label"
headers = {"authorization": f"Bearer {key}"}
tensor = triton.InferInput("text", [2], "BYTES")
tensor.set_data_from_numpy(np.array(["my parcel is late", "mein Päckchen? refund the invoice"], dtype=object))
for outputs in (None, [triton.InferRequestedOutput("label"), triton.InferRequestedOutput("probability")]):
    answer = client.infer("support", [tensor], outputs=outputs, request_id="42", headers=headers, client_timeout=30)
    assert list(answer.as_numpy("label")) == [b"delivery", b"billing"]
    assert answer.as_numpy("probability").dtype == np.float32
    assert answer.get_response().id == "42"
try:
    client.infer("nobody", [tensor], headers=headers)
except triton.InferenceServerException as error:
    assert error.status() == "StatusCode.NOT_FOUND", error
else:
    raise AssertionError("a model that does not exist has answered")
