"""LitServe: worker processes behind an API server, batches in the order of arrival."""

import litserve as ls
from classifier import BATCH, BATCH_WAIT_SECONDS, PORT, WORKERS, Classifier


class Api(ls.LitAPI):
    def setup(self, device):
        self.classifier = Classifier()

    def decode_request(self, request):
        return request["inputs"]

    def predict(self, asked):
        return self.classifier.many(asked) if BATCH > 1 else self.classifier(asked)

    def encode_response(self, output):
        return {"predictions": output}


if __name__ == "__main__":
    api = Api(max_batch_size=BATCH, batch_timeout=BATCH_WAIT_SECONDS if BATCH > 1 else 0.0)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=WORKERS)
    server.run(host="127.0.0.1", port=PORT, log_level="warning", generate_client_file=False)
