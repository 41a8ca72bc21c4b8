"""KServe's client over HTTP: URL KEY."""

import asyncio
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

TEXTS = ["my parcel is late", "mein Päckchen? refund the invoice"]


async def main(url: str, key: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "support")
    plain = InferInput("text", [2], "BYTES", data=TEXTS)
    binary = InferInput("text", [2], "BYTES")
    binary.set_data_from_numpy(np.array(TEXTS, dtype=object), binary_data=True)
    for tensor, parameters in ((plain, {}), (binary, {}), (binary, {"binary_data_output": True})):
        request = InferRequest(model_name="support", infer_inputs=[tensor], parameters=parameters)
        headers = {"Authorization": f"Bearer {key}"}
        answer = await client.infer(url, request, headers=headers, model_name="support")
        outputs = {output.name: output for output in answer.outputs}
        assert list(outputs["label"].as_numpy()) == ["delivery", "billing"]
        assert len(outputs["probability"].as_numpy()) == 2
    await client.close()


asyncio.run(main(*sys.argv[1:]))
