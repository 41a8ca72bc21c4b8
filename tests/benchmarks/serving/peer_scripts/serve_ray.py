"""Ray Serve: replicas behind a proxy, dynamic batching where batches are asked for."""

import os
import signal
from pathlib import Path

import ray
from classifier import BATCH, BATCH_WAIT_SECONDS, PORT, WORKERS, Classifier
from ray import serve


@serve.deployment(num_replicas=WORKERS, max_ongoing_requests=max(2 * BATCH, 16), ray_actor_options={"num_cpus": 1})
class Deployment:
    def __init__(self):
        self.classifier = Classifier()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=BATCH_WAIT_SECONDS)
    async def batched(self, asked):
        return self.classifier.many(asked)

    async def __call__(self, request):
        texts = (await request.json())["inputs"]
        return {"predictions": await self.batched(texts) if BATCH > 1 else self.classifier(texts)}


if __name__ == "__main__":
    scripts = str(Path(__file__).resolve().parent)
    variables = {name: value for name, value in os.environ.items() if name.startswith("PEER_")}
    ray.init(
        num_cpus=WORKERS + 1,
        include_dashboard=False,
        logging_level="error",
        runtime_env={"env_vars": variables | {"PYTHONPATH": scripts}},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Deployment.bind(), route_prefix="/", logging_config={"enable_access_log": False})
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
