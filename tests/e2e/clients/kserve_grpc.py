"""KServe's client over gRPC: ADDRESS KEY."""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

TEXTS = ["my parcel is late", "mein Päckchen? refund the invoice"]


async def main(address: str, key: str) -> None:
    client = InferenceGRPCClient(address)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("support")
    plain = InferInput("text", [2], "BYTES", data=TEXTS)
    binary = InferInput("text", [2], "BYTES")
    binary.set_data_from_numpy(np.array(TEXTS, dtype=object), binary_data=True)
    for tensor in (plain, binary):
        request = InferRequest(model_name="support", infer_inputs=[tensor])
        answer = await client.infer(request, headers=[("authorization", f"Bearer {key}")])
        outputs = {output.name: output for output in answer.outputs}
        said = [one.decode() if isinstance(one, bytes) else one for one in outputs["label"].as_numpy()]
        assert said == ["delivery", "billing"], said
        assert len(outputs["probability"].as_numpy()) == 2
    await client.close()


asyncio.run(main(*sys.argv[1:]))
