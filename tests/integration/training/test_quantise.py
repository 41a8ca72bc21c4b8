from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from training.quantise import Activation, freeze, quantise_static, quantise_weight

WIDE, NARROW, VOCABULARY = 64, 16, 50


@pytest.fixture
def model(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Ids → table → up → down, with one channel of the table a hundred times as large as the others."""
    table = rng.normal(size=(VOCABULARY, NARROW)).astype(np.float32)
    table[:, 3] *= 100
    weights = {
        "table": table,
        "up": rng.normal(size=(NARROW, WIDE)).astype(np.float32) / 4,
        "down": rng.normal(size=(WIDE, NARROW)).astype(np.float32) / 8,
    }
    weights["up"][3] /= 100
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"], name="embed"),
        helper.make_node("MatMul", ["embedded", "up"], ["raised"], name="up"),
        helper.make_node("Tanh", ["raised"], ["bent"], name="bend"),
        helper.make_node("MatMul", ["bent", "down"], ["lowered"], name="down"),
        helper.make_node("Cast", ["attention_mask"], ["mask"], name="mask", to=TensorProto.FLOAT),
        helper.make_node("Identity", ["lowered"], ["logits"], name="end"),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids", "attention_mask")
    ]
    out = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", "t", NARROW])]
    graph = helper.make_graph(nodes, "g", ids, out, [numpy_helper.from_array(w, name) for name, w in weights.items()])
    path = tmp_path / "model.fp32.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def answers(path: Path, ids: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]


def test_frozen_ranges_give_the_same_answers_nearly_and_alone_or_in_company_the_very_same(
    model: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    tokens = rng.integers(0, VOCABULARY, size=(64, 8))
    every, mixed = tmp_path / "every.onnx", tmp_path / "mixed.onnx"
    quantise_static(model, every, mixed, tokens.tolist())

    exact = answers(model, tokens)
    errors = {}
    for path in (every, mixed):
        found = answers(path, tokens)
        errors[path] = np.abs(found - exact).mean() / np.abs(exact).mean()
        np.testing.assert_array_equal(answers(path, tokens[5:6])[0], found[5])
    assert errors[mixed] < errors[every] < 0.05

    weights = {one.name: one.data_type for one in onnx.load(mixed).graph.initializer}
    assert weights["down"] == TensorProto.FLOAT
    assert "up" not in weights  # nothing reads the fp32 weights any more
    assert sum(kind == TensorProto.INT8 for kind in weights.values()) == 2  # its weights and their zero points


def test_a_channel_far_larger_than_the_others_does_not_take_their_steps_away(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(200, NARROW)).astype(np.float32)
    rows[:, 0] *= 200
    weights = rng.normal(size=(NARROW, WIDE)).astype(np.float32)
    frozen = freeze(Activation(rows.min(axis=0), rows.max(axis=0), rows), [weights[:, :20], weights[:, 20:]])

    weight, scale = quantise_weight(weights, frozen.smooth)
    exact = rows @ weights
    smoothed = np.abs(frozen.through(rows) @ (weight * scale) - exact).mean()
    step = np.ptp(rows) / 255
    plain = np.abs((np.rint(rows / step) * step) @ weights - exact).mean()
    assert smoothed < plain / 2


def test_a_text_that_leaves_an_input_at_zero_is_quantised_too() -> None:
    zeros = np.zeros((3, NARROW), dtype=np.float32)
    frozen = freeze(Activation(zeros[0], zeros[0], zeros), [np.ones((NARROW, 4), dtype=np.float32)])
    np.testing.assert_array_equal(frozen.through(zeros), zeros)
