"""From torch to ONNX files, in each precision that may serve."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch.export import Dim

from monitoring.core import bundle as bundles
from monitoring.core.bundle import Bundle, BundleConfig
from monitoring.core.signals import Reference
from training.classifier import SequenceClassifier, Tokens, tokenise
from training.finetune import FineTuned
from training.precision import FP32, INT8, INT8_MIXED, INT8_STATIC, PRECISIONS
from training.quantise import feeds_of, quantise_dynamic, quantise_static, quiet

log = logging.getLogger(__name__)

OPSET = 20
OUTPUTS = ("logits", "embedding")
INPUTS = ("input_ids", "attention_mask")
MAX_BATCH = 1024
CALIBRATION_TEXTS = 128
FILES = {precision: f"model.{precision}.onnx" for precision in PRECISIONS}


def export(tuned: FineTuned, folder: Path, *, calibration: Sequence[str], frozen_graph: Path | None = None) -> None:
    """Write the model in every precision, and tokenizer.json, into `folder`.

    `calibration`: texts like those to come, at best of the training, from which static int8 learns its ranges.
    `frozen_graph`: where the graph of an encoder that no training changes is kept. Tracing takes longest of all, so it
    is done once, and each head is set into the result.
    """
    if frozen_graph is None:
        export_onnx(tuned.model, tuned.max_tokens, folder / FILES[FP32])
    else:
        if not frozen_graph.exists():
            frozen_graph.parent.mkdir(parents=True, exist_ok=True)
            staging = frozen_graph.with_suffix(f".{os.getpid()}")
            export_onnx(tuned.model, tuned.max_tokens, staging)
            staging.replace(frozen_graph)
        set_head(frozen_graph, tuned.model.classifier, folder / FILES[FP32])
    quantise(folder, tokenise(tuned.tokenizer, calibration[:CALIBRATION_TEXTS], tuned.max_tokens))
    tuned.tokenizer.no_truncation()  # the runtime cuts by its configuration
    tuned.tokenizer.save(str(folder / bundles.TOKENIZER))


def export_onnx(model: SequenceClassifier, max_tokens: int, path: Path) -> None:
    """Trace the model with free batch and length; an exporter that saw training mode would keep dropout."""
    size = {0: Dim("batch", min=1, max=MAX_BATCH), 1: Dim("tokens", min=2, max=max_tokens)}
    ids, mask = torch.ones((2, 8), dtype=torch.int64), torch.ones((2, 8), dtype=torch.int64)  # one tensor would alias
    with quiet():
        program = torch.onnx.export(
            model.eval(),
            (ids, mask),
            input_names=INPUTS,
            dynamic_shapes=dict.fromkeys(INPUTS, size),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
        )
        if program is None:
            raise RuntimeError("the ONNX exporter gave no program")
        # the outputs are named last: an inner value of the encoder may bear the same name
        for node in program.model.graph:
            node.metadata_props.clear()  # the exporter's notes hold paths of this machine
            for value in node.outputs:
                if value.name in OUTPUTS:
                    value.name = f"{value.name}_inside"
        for value, name in zip(program.model.graph.outputs, OUTPUTS, strict=True):
            value.name = name
        program.save(str(path), external_data=False)


def set_head(source: Path, head: torch.nn.Linear, target: Path) -> None:
    """Copy an exported model with another linear head, of any number of classes."""
    model = onnx.load(source)
    weights = {f"classifier.{name}": tensor.detach().numpy() for name, tensor in head.named_parameters()}
    for initializer in model.graph.initializer:
        if initializer.name in weights:
            initializer.CopyFrom(onnx.numpy_helper.from_array(weights.pop(initializer.name), initializer.name))
    if weights:
        raise RuntimeError(f"the exported graph has no {', '.join(weights)}")
    for value in model.graph.value_info:
        if value.name.startswith("classifier."):
            value.type.tensor_type.shape.dim[0].dim_value = head.out_features
    logits = next(output for output in model.graph.output if output.name == OUTPUTS[0])
    logits.type.tensor_type.shape.dim[1].dim_value = head.out_features
    onnx.save(model, target)


def quantise(folder: Path, tokens: Sequence[Tokens]) -> None:
    """Write the int8 models beside the fp32 one; `tokens`: of texts that show the range of activations.

    Only fp32 must succeed: what cannot be quantised is not on offer, and the log says why.
    """
    source = folder / FILES[FP32]
    feeds = feeds_of(tokens)
    ways: Mapping[str, Callable[[Path], None]] = {
        INT8: lambda target: quantise_dynamic(source, target),
        INT8_STATIC: lambda target: quantise_static(source, target, feeds, careful=False),
        INT8_MIXED: lambda target: quantise_static(source, target, feeds, careful=True),
    }
    for precision, way in ways.items():
        try:
            way(folder / FILES[precision])
        except Exception as error:  # the quantiser raises what it likes about graphs that it does not know
            log.warning("%s is not on offer: %s: %s", precision, type(error).__name__, error)
            (folder / FILES[precision]).unlink(missing_ok=True)


def discard_others(folder: Path, chosen: str) -> None:
    """Leave the chosen precision and fp32 in the bundle: the others would only fill storage."""
    for precision, name in FILES.items():
        if precision not in (chosen, FP32):
            (folder / name).unlink(missing_ok=True)


def open_draft(folder: Path, config: BundleConfig) -> Bundle:
    """A bundle in the making, for the runtime to read; its reference is blank until the real one is learnt."""
    if not (folder / bundles.REFERENCE).exists():
        Reference.blank(len(config.labels), config.embedding_size).save(folder / bundles.REFERENCE)
    return Bundle(folder, config, hash="")
