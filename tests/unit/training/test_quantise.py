"""Which layers stay fp32."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from training.quantise import feeds_of, sensitive

WEIGHTS = {"same": (8, 8), "up": (8, 32), "down": (32, 8), "head": (8, 3)}


@pytest.mark.parametrize(
    ("careful", "left"), [(False, ["down", "head", "flipped"]), (True, ["up", "down", "head", "flipped"])]
)
def test_what_changes_the_width_stays_fp32(careful: bool, left: list[str]) -> None:
    nodes = [helper.make_node("MatMul", ["x", f"{name}.weight"], [f"{name}.y"], name=name) for name in WEIGHTS]
    nodes.append(helper.make_node("Gemm", ["x", "head.flipped"], ["z"], name="flipped", transB=1))
    nodes.append(helper.make_node("MatMul", ["x", "x"], ["attention"], name="attention"))
    arrays = {f"{name}.weight": np.zeros(shape, np.float32) for name, shape in WEIGHTS.items()}
    arrays["head.flipped"] = np.zeros((3, 8), np.float32)
    tensor = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model = helper.make_model(helper.make_graph(nodes, "toy", [tensor], [tensor], constants))
    assert sensitive(model, careful=careful) == left


def test_ranges_are_learnt_from_texts_without_padding() -> None:
    first, second = feeds_of([[1, 2, 3], [4]])
    assert first["input_ids"].tolist() == [[1, 2, 3]]
    assert second["attention_mask"].tolist() == [[1]]
