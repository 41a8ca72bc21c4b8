"""BentoML: a process a worker, adaptive batching where batches are asked for."""

import os
import sys

import bentoml
from classifier import BATCH, PORT, WORKERS, Classifier


@bentoml.service(workers=WORKERS, traffic={"timeout": 60, "max_concurrency": 1024})
class Service:
    def __init__(self):
        self.classifier = Classifier()

    @bentoml.api(route="/predict", batchable=BATCH > 1, max_batch_size=max(BATCH, 2), max_latency_ms=60_000)
    def predict(self, inputs: list[str]) -> list[dict]:
        return self.classifier(inputs)


if __name__ == "__main__":
    command = [sys.executable, "-m", "bentoml", "serve", "serve_bentoml:Service", "--host", "127.0.0.1"]
    os.execv(sys.executable, [*command, "--port", str(PORT)])
