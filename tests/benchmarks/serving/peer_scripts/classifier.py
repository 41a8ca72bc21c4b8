"""What every peer puts behind its HTTP: the bundle's model, on ONNX Runtime. Needs numpy, onnxruntime and tokenizers.

The environment says how: PEER_BUNDLE (a folder), PEER_FILE (an ONNX file in it), PEER_PORT, PEER_WORKERS (processes),
PEER_THREADS (of a session; 0: ONNX Runtime's own choice), PEER_BATCH (requests in a model call; 1: no batching).
"""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
BUNDLE = Path(os.environ["PEER_BUNDLE"])
PORT = int(os.environ["PEER_PORT"])
WORKERS = int(os.environ["PEER_WORKERS"])
THREADS = int(os.environ["PEER_THREADS"])
BATCH = int(os.environ["PEER_BATCH"])
BATCH_WAIT_SECONDS = 0.005


class Classifier:
    """One session."""

    def __init__(self):
        config = json.loads((BUNDLE / "config.json").read_text())
        self._labels = config["labels"]
        self._temperature = config["temperature"]
        self._tokenizer = Tokenizer.from_file(str(BUNDLE / "tokenizer.json"))
        self._tokenizer.enable_truncation(config["max_tokens"])
        self._tokenizer.no_padding()
        options = ort.SessionOptions()
        if THREADS:
            options.intra_op_num_threads = THREADS
            options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(
            str(BUNDLE / os.environ["PEER_FILE"]), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, texts):
        """Of each text its likeliest label and that label's probability, from one model call."""
        encoded = [item.ids for item in self._tokenizer.encode_batch_fast(list(texts))]
        ids = np.zeros((len(encoded), max(map(len, encoded))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(encoded):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        logits = self._session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0] / self._temperature
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        best = shares.argmax(axis=1)
        return [
            {"label": self._labels[number], "probability": float(row[number])}
            for number, row in zip(best.tolist(), shares, strict=True)
        ]

    def many(self, requests):
        """The same for requests of some texts each, in one model call."""
        answers = iter(self([text for texts in requests for text in texts]))
        return [[next(answers) for _ in texts] for texts in requests]
