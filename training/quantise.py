"""Two ways to int8: activations scaled as each batch comes, or by ranges frozen beforehand on a few hundred texts.

With frozen ranges ("static") a text's score cannot depend on the texts beside it. What costs accuracy is a few channels
that reach far beyond the rest: the range that holds them leaves too few steps for the others. So their size is moved
from the activations into the weights, channel by channel, which changes no product (Xiao et al., "SmoothQuant", 2023).
Only inputs and weights of the linear layers are quantised; sums, softmax and layer norms stay in fp32, and so does the
head, which is small and decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Floats = NDArray[np.float32]

SMOOTHINGS = (0.0, 0.35, 0.5, 0.65, 0.8)
"""How much of a channel's size moves into the weights; each layer takes what leaves its own outputs truest."""
CLIPPINGS = (1.0, 0.8)
"""How much of the seen range the eight bits cover; what lies beyond is cut."""
CALIBRATION_TOKENS = 2_048
KEPT_ROWS = 128
DOWN_RATIO = 2
"""A layer that narrows its input at least so much is a down-projection."""


@dataclass(frozen=True)
class Activation:
    """What calibration texts put into some linear layers: the extremes of its d channels, (d,) each, and some rows."""

    low: Floats
    high: Floats
    rows: Floats

    @property
    def size(self) -> Floats:
        """The largest magnitude of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


@dataclass(frozen=True)
class Frozen:
    """How one input is quantised: divided by `smooth` (d,), then in steps of `scale` from `zero` on."""

    smooth: Floats
    scale: np.float32
    zero: np.uint8

    def through(self, rows: Floats) -> Floats:
        """Rows (n, d) as the integer product sees them."""
        zero = np.float32(self.zero)
        steps = np.clip(np.rint(rows / self.smooth / self.scale) + zero, 0, 255) - zero
        return np.asarray(steps * self.scale, dtype=np.float32)


def quantise_dynamic(source: Path, target: Path) -> None:
    """Weights to int8 per output channel; activations are quantised as they come, by each batch's own range."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)


def quantise_static(source: Path, every: Path, mixed: Path, tokens: Sequence[Sequence[int]]) -> None:
    """Weights to int8 per output channel, activations to eight bits by what the texts `tokens` put there.

    `every` gets all linear layers quantised; `mixed` keeps down-projections, whose inputs are the hardest, in fp32.
    """
    model = onnx.load(source)
    weights = {one.name: one for one in model.graph.initializer}
    layers = list(_linear(model))
    seen = observe(model, sorted({node.input[0] for node in layers}), tokens)
    inputs: dict[str, list[str]] = {}
    for node in layers:
        inputs.setdefault(node.input[0], []).append(node.input[1])
    matrices = {name: numpy_helper.to_array(weights[name]) for names in inputs.values() for name in names}
    frozen = {name: freeze(seen[name], [matrices[one] for one in names]) for name, names in inputs.items()}
    for target in (every, mixed):
        chosen = [node for node in layers if target is every or not _narrows(weights[node.input[1]])]
        onnx.save(_quantised(model, {node.name for node in chosen}, frozen, matrices), target)


def observe(model: onnx.ModelProto, names: Sequence[str], tokens: Sequence[Sequence[int]]) -> Mapping[str, Activation]:
    """Run texts one by one, up to `CALIBRATION_TOKENS` tokens, and keep the extremes of the tensors `names`."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    lows: dict[str, Floats] = {}
    highs: dict[str, Floats] = {}
    kept: dict[str, list[Floats]] = {name: [] for name in names}
    chosen = list(_within(tokens, CALIBRATION_TOKENS))
    stride = max(1, sum(map(len, chosen)) // KEPT_ROWS)
    passed = 0
    for text in chosen:
        ids = np.array([text], dtype=np.int64)
        values = session.run(names, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        for name, rows in zip(names, (one.reshape(-1, one.shape[-1]) for one in values), strict=True):
            lows[name] = np.minimum(rows.min(axis=0), lows.get(name, np.inf))
            highs[name] = np.maximum(rows.max(axis=0), highs.get(name, -np.inf))
            kept[name].append(rows[-passed % stride :: stride])
        passed += len(text)
    return {name: Activation(lows[name], highs[name], np.concatenate(kept[name])) for name in names}


def freeze(seen: Activation, matrices: Sequence[Floats]) -> Frozen:
    """The way to quantise one input that leaves what its layers, weights (d, out), make of it nearest to the truth."""
    wide = np.hstack(matrices)
    exact = seen.rows @ wide
    best, least = None, np.inf
    for share in SMOOTHINGS:
        smooth = smoothing(seen.size, wide, share)
        weight, scales = quantise_weight(wide, smooth)
        inexact = weight * scales
        for clipping in CLIPPINGS:
            frozen = _range(seen, smooth, clipping)
            error = float(((frozen.through(seen.rows) @ inexact - exact) ** 2).sum())
            if error < least:
                best, least = frozen, error
    assert best is not None
    return best


def smoothing(size: Floats, weights: Floats, share: float) -> Floats:
    """What each input channel (d,) is divided by, and the rows of its layers' weights (d, out) multiplied with."""
    smooth = np.maximum(size, 1e-5) ** share / np.maximum(np.abs(weights).max(axis=1), 1e-5) ** (1 - share)
    if share == 0.0:
        smooth = np.ones_like(size)
    return np.asarray(smooth / np.exp(np.log(smooth).mean()), dtype=np.float32)


def quantise_weight(matrix: Floats, smooth: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Smoothed weights (d, out) as int8, and the scale of each output channel (out,)."""
    smoothed = matrix * smooth[:, None]
    scale = np.maximum(np.abs(smoothed).max(axis=0), 1e-8).astype(np.float32) / np.float32(127)
    return np.clip(np.rint(smoothed / scale), -127, 127).astype(np.int8), scale


def _range(seen: Activation, smooth: Floats, clipping: float) -> Frozen:
    low = min(float((seen.low / smooth).min()), 0.0) * clipping
    high = max(float((seen.high / smooth).max()), 0.0) * clipping
    scale = np.float32(max(high - low, 1e-8) / 255)
    return Frozen(smooth, scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255)))


def _linear(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Products of an activation with a weight matrix; the head is a Gemm, and is not among them."""
    weights = {one.name for one in model.graph.initializer if len(one.dims) == 2}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights and node.input[0] not in weights:
            yield node


def _narrows(weight: onnx.TensorProto) -> bool:
    return bool(weight.dims[0] >= DOWN_RATIO * weight.dims[1])


def _within(tokens: Sequence[Sequence[int]], most: int) -> Iterator[Sequence[int]]:
    for text in tokens:
        most -= len(text)
        yield text
        if most <= 0:
            return


def _quantised(
    source: onnx.ModelProto, layers: Collection[str], frozen: Mapping[str, Frozen], matrices: Mapping[str, Floats]
) -> onnx.ModelProto:
    """A copy of the model with these layers quantised; layers that read one input share its quantised form."""
    model = onnx.ModelProto()
    model.CopyFrom(source)
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    for node in model.graph.node:
        if node.name in layers:
            name, matrix = node.input[0], matrices[node.input[1]]
            if name not in done:
                done.add(name)
                nodes.extend(_quantised_input(model, name, frozen[name]))
            nodes.append(_quantised_weight(model, node, matrix, frozen[name].smooth))
            node.input[0] = f"{name}_dequantised"
        nodes.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]  # the list's own nodes go with it
    del model.graph.node[:]
    model.graph.node.extend(kept)
    _drop_unread(model)
    return model


def _quantised_input(model: onnx.ModelProto, name: str, frozen: Frozen) -> Iterator[onnx.NodeProto]:
    """x → x / smooth → eight bits → back; the runtime fuses the last step into the integer product."""
    _constant(model, f"{name}_smooth", 1 / frozen.smooth)
    _constant(model, f"{name}_scale", np.array(frozen.scale))
    _constant(model, f"{name}_zero", np.array(frozen.zero))
    how = [f"{name}_scale", f"{name}_zero"]
    yield helper.make_node("Mul", [name, f"{name}_smooth"], [f"{name}_smoothed"])
    yield helper.make_node("QuantizeLinear", [f"{name}_smoothed", *how], [f"{name}_quantised"])
    yield helper.make_node("DequantizeLinear", [f"{name}_quantised", *how], [f"{name}_dequantised"])


def _quantised_weight(model: onnx.ModelProto, reader: onnx.NodeProto, matrix: Floats, smooth: Floats) -> onnx.NodeProto:
    """int8 per output channel, symmetric."""
    weight, scale = quantise_weight(matrix, smooth)
    name = f"{reader.output[0]}_weight"
    _constant(model, f"{name}_quantised", weight)
    _constant(model, f"{name}_scale", scale)
    _constant(model, f"{name}_zero", np.zeros(len(scale), dtype=np.int8))
    reader.input[1] = name
    return helper.make_node("DequantizeLinear", [f"{name}_quantised", f"{name}_scale", f"{name}_zero"], [name], axis=1)


def _constant(model: onnx.ModelProto, name: str, values: NDArray[np.generic]) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))


def _drop_unread(model: onnx.ModelProto) -> None:
    """Initializers that nothing reads any more: the fp32 weights."""
    read = {name for node in model.graph.node for name in node.input} | {one.name for one in model.graph.output}
    kept = [one for one in model.graph.initializer if one.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
