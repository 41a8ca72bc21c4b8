"""MLServer with a runtime of one's own: processes of inference, adaptive batching where batches are asked for."""

import json
import os
import socket
import sys
import tempfile
from pathlib import Path

from classifier import BATCH, BATCH_WAIT_SECONDS, PORT, WORKERS, Classifier
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceResponse


class Runtime(MLModel):
    async def load(self):
        self.classifier = Classifier()
        return True

    async def predict(self, payload):
        answers = self.classifier(StringCodec.decode_input(payload.inputs[0]))
        outputs = [StringCodec.encode_output("label", [answer["label"] for answer in answers])]
        return InferenceResponse(model_name=self.name, outputs=outputs)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


if __name__ == "__main__":
    folder = Path(tempfile.mkdtemp(prefix="mlserver-"))
    settings = {
        "host": "127.0.0.1",
        "http_port": PORT,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": WORKERS if WORKERS > 1 else 0,
        "debug": False,
    }
    model = {"name": "bench", "implementation": "serve_mlserver.Runtime"}
    if BATCH > 1:
        model |= {"max_batch_size": BATCH, "max_batch_time": BATCH_WAIT_SECONDS}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    mlserver = str(Path(sys.executable).with_name("mlserver"))
    os.execv(mlserver, [mlserver, "start", str(folder)])
