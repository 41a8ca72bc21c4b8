"""tritonclient over HTTP, as its own examples use it: URL KEY."""

import sys

import numpy as np
import tritonclient.http as triton

url, key = sys.argv[1:]
client = triton.InferenceServerClient(url.removeprefix("http://"))
assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready("support")
assert client.is_model_ready("support", "1")
assert client.get_server_metadata()["name"] == "leeway"
assert client.get_model_metadata("support")["inputs"][0]["datatype"] == "BYTES"
texts = np.array(["my parcel is late", "mein Päckchen? refund the invoice"], dtype=object)
for binary in (True, False):
    tensor = triton.InferInput("text", [2], "BYTES")
    tensor.set_data_from_numpy(texts, binary_data=binary)
    label, probability = (
        triton.InferRequestedOutput("label", binary_data=binary),
        triton.InferRequestedOutput("probability", binary_data=binary),
    )
    for outputs in (None, [label, probability]):
        for packing in (None, "gzip", "deflate"):
            answer = client.infer(
                "support",
                [tensor],
                outputs=outputs,
                request_id="42",
                headers={"Authorization": f"Bearer {key}"},
                request_compression_algorithm=packing,
                response_compression_algorithm=packing,
            )
            said = [one.decode() if isinstance(one, bytes) else one for one in answer.as_numpy("label")]
            assert said == ["delivery", "billing"], said
            assert answer.as_numpy("probability").dtype == np.float32
            assert answer.get_response()["id"] == "42"
try:
    client.infer("nobody", [tensor], headers={"Authorization": f"Bearer {key}"})
except triton.InferenceServerException as error:
    assert "nobody" in error.message(), error
else:
    raise AssertionError("a model that does not exist has answered")
