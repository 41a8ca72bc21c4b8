"""Tiny real bundles: a keyword classifier in ONNX with tokenizer, baseline and manifest, made in milliseconds.

    bundle = make_bundle(tmp_path / "one", labels=("billing", "delivery"))
    texts, labels = toy_texts(("billing", "delivery"), 100, rng)

Each label has a few words of its own; a text of them is answered with that label, and the more of them the surer. A
model that is wrong on purpose is made with `mistakes={"billing": "delivery"}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from monitoring.baseline import build_baseline
from monitoring.core import bundle as bundles
from monitoring.core.bundle import Bundle, BundleConfig, seal, write_config
from monitoring.core.runtime import ClassifierRuntime
from monitoring.core.signals import Reference

LABELS = ("billing", "delivery", "account")
WORDS: Mapping[str, tuple[str, ...]] = {
    "billing": ("invoice", "refund", "charged", "card", "payment"),
    "delivery": ("parcel", "courier", "late", "tracking", "address"),
    "account": ("password", "login", "email", "locked", "profile"),
    "returns": ("return", "exchange", "wrong", "size", "label"),
}
FILLERS = ("my", "the", "please", "hello", "is", "where", "help", "with", "a", "still", "about", "question")
UNKNOWN = "[UNK]"


def toy_texts(
    labels: Sequence[str], n: int, rng: np.random.Generator, *, misleading: float = 0.05
) -> tuple[list[str], list[str]]:
    """`n` short messages with their labels; of any label, also one that a bundle does not know.

    A share of them, `misleading`, speaks in another label's words, so that no model is right always.
    """
    texts, chosen = [], []
    for _ in range(n):
        label, other = (str(name) for name in rng.choice(np.array(labels), size=2))
        keywords = rng.choice(np.array(words_of(other if rng.random() < misleading else label)), size=2)
        fillers = rng.choice(np.array(FILLERS), size=rng.integers(1, 9))
        texts.append(" ".join(str(word) for word in rng.permutation([*keywords, *fillers])))
        chosen.append(label)
    return texts, chosen


def words_of(label: str) -> tuple[str, ...]:
    """The words by which a label is known."""
    return WORDS.get(label, tuple(f"{label}{number}" for number in range(5)))


def make_bundle(
    folder: Path,
    *,
    model: str = "support",
    labels: Sequence[str] = LABELS,
    mistakes: Mapping[str, str] | None = None,
    max_batch: int = 32,
    temperature: float = 1.0,
    max_tokens: int = 64,
    rows: int = 300,
    lineage: Mapping[str, Any] | None = None,
    seed: int = 7,
) -> Bundle:
    """Write and seal a bundle of `labels` in `folder`, which must not exist or be empty.

    `mistakes` maps a label to the one that the model answers instead. `rows` hold-out rows make the baseline. `lineage`
    adds to or replaces the usual entries.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = [UNKNOWN, *FILLERS, *(word for label in labels for word in words_of(label))]
    table = _word_vectors(vocabulary, labels, rng)
    _write_tokenizer(folder / bundles.TOKENIZER, vocabulary)
    _write_model(folder / "model.fp32.onnx", table, _head(labels, mistakes or {}, table.shape[1]))
    config = BundleConfig(
        model=model,
        labels=tuple(labels),
        temperature=temperature,
        max_tokens=max_tokens,
        precision="fp32",
        max_batch=max_batch,
        embedding_size=table.shape[1],
        lineage=_lineage(seed) | dict(lineage or {}),
    )
    write_config(folder, config)
    train, train_labels = toy_texts(labels, rows, rng)
    classes = np.array([labels.index(label) for label in train_labels])
    pooled = np.stack([_pool(text, vocabulary, table) for text in train])
    tokens = [_rows(text, vocabulary) for text in train]
    Reference.fit(pooled, classes, tokens, classes=len(labels), vocabulary=len(vocabulary)).save(
        folder / bundles.REFERENCE
    )
    runtime = ClassifierRuntime(Bundle(folder, config, hash=""))
    holdout, holdout_labels = toy_texts(labels, rows, rng)
    predictions = runtime.predict(holdout)
    build_baseline(
        predictions=predictions,
        texts=holdout,
        labels=holdout_labels,
        classes=tuple(labels),
        edges_from=runtime.predict(toy_texts(labels, rows, rng)[0]),
        vocabulary=train,
        seed=seed,
    ).save(folder / bundles.BASELINE)
    truth = np.array([labels.index(label) for label in holdout_labels])
    accuracy = float((predictions.predicted == truth).mean())
    (folder / bundles.EVALUATION).write_text(json.dumps({"accuracy": accuracy, "rows": rows}))
    (folder / bundles.CARD).write_text(f"# {model}\n\nA toy classifier for tests.\n")
    return seal(folder)


def _lineage(seed: int) -> dict[str, Any]:
    return {
        "data_hash": "0" * 64,
        "snapshot": None,
        "as_of": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
        "code_version": "test",
        "base_model": "toy",
        "base_revision": "1",
        "recipe": {"name": "toy"},
        "seed": seed,
        "cause": "initial",
        "parent": None,
        "classes_added": [],
        "classes_waiting": {},
        "new_labels": 0,
    }


def _word_vectors(vocabulary: Sequence[str], labels: Sequence[str], rng: np.random.Generator) -> NDArray[np.float32]:
    """A word of label k points along axis k; the other axes are noise, so that embeddings are not degenerate."""
    size = len(labels) + 8
    table = rng.normal(0, 0.05, (len(vocabulary), size)).astype(np.float32)
    for axis, label in enumerate(labels):
        for word in words_of(label):
            table[vocabulary.index(word), axis] += 1.0
    return table


def _head(labels: Sequence[str], mistakes: Mapping[str, str], size: int) -> NDArray[np.float32]:
    """(size, classes): axis k votes for label k, or for the label that it is mistaken for."""
    weights = np.zeros((size, len(labels)), dtype=np.float32)
    for axis, label in enumerate(labels):
        weights[axis, labels.index(mistakes.get(label, label))] = 12.0
    return weights


def _pool(text: str, vocabulary: Sequence[str], table: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(table[_rows(text, vocabulary)].mean(axis=0), dtype=np.float32)


def _rows(text: str, vocabulary: Sequence[str]) -> list[int]:
    return [vocabulary.index(word) if word in vocabulary else 0 for word in text.split()]


def _write_tokenizer(path: Path, vocabulary: Sequence[str]) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))


def _write_model(path: Path, table: NDArray[np.float32], head: NDArray[np.float32]) -> None:
    """Embedding look-up, mean over the unmasked tokens, linear head."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["tokens", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "middle"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "one"], ["divisor"]),
        helper.make_node("Div", ["total", "divisor"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "head"], ["logits"]),
    ]
    constants = {
        "table": table,
        "head": head,
        "last": np.array([2], dtype=np.int64),
        "middle": np.array([1], dtype=np.int64),
        "one": np.array([1.0], dtype=np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "toy",
        [_tensor(name, TensorProto.INT64, "tokens") for name in ("input_ids", "attention_mask")],
        [_tensor("logits", TensorProto.FLOAT, head.shape[1]), _tensor("embedding", TensorProto.FLOAT, table.shape[1])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))


def _tensor(name: str, kind: int, width: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["batch", width])
