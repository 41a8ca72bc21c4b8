"""From torch to ONNX files: fp32, and those quantised to int8 in the ways that `quantise` knows."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import torch
from torch.export import Dim

from monitoring.core import bundle as bundles
from monitoring.core.bundle import Bundle, BundleConfig
from monitoring.core.signals import Reference
from training.classifier import SequenceClassifier, tokenise
from training.finetune import FineTuned
from training.precision import DYNAMIC, FP32, MIXED, PRECISIONS, STATIC
from training.quantise import quantise_dynamic, quantise_static

OPSET = 20
OUTPUTS = ("logits", "embedding")
INPUTS = ("input_ids", "attention_mask")
MAX_BATCH = 1024
CALIBRATION_TEXTS = 256


def export(tuned: FineTuned, folder: Path, calibration: Sequence[str], *, frozen_graph: Path | None = None) -> None:
    """Write a model file for each of PRECISIONS, and tokenizer.json, into `folder`.

    `calibration`: training texts; the ranges of static int8 are those that some of them reach.
    `frozen_graph`: where the graph of an encoder that no training changes is kept. Tracing takes longest of all, so it
    is done once, and each head is set into the result.
    """
    if frozen_graph is None:
        export_onnx(tuned.model, tuned.max_tokens, folder / "model.fp32.onnx")
    else:
        if not frozen_graph.exists():
            frozen_graph.parent.mkdir(parents=True, exist_ok=True)
            staging = frozen_graph.with_suffix(f".{os.getpid()}")
            export_onnx(tuned.model, tuned.max_tokens, staging)
            staging.replace(frozen_graph)
        set_head(frozen_graph, tuned.model.classifier, folder / "model.fp32.onnx")
    tokens = tokenise(tuned.tokenizer, calibration[:CALIBRATION_TEXTS], tuned.max_tokens)
    files = {name: folder / f"model.{name}.onnx" for name in PRECISIONS}
    with _quiet():
        quantise_dynamic(files[FP32], files[DYNAMIC])
        quantise_static(files[FP32], files[STATIC], files[MIXED], tokens)
    tuned.tokenizer.no_truncation()  # the runtime cuts by its configuration
    tuned.tokenizer.save(str(folder / bundles.TOKENIZER))


def export_onnx(model: SequenceClassifier, max_tokens: int, path: Path) -> None:
    """Trace the model with free batch and length; an exporter that saw training mode would keep dropout."""
    size = {0: Dim("batch", min=1, max=MAX_BATCH), 1: Dim("tokens", min=2, max=max_tokens)}
    ids, mask = torch.ones((2, 8), dtype=torch.int64), torch.ones((2, 8), dtype=torch.int64)  # one tensor would alias
    with _quiet():
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


def keep_only(folder: Path, precision: str) -> None:
    """Leave out what was not chosen; fp32 stays, as what the others were made from and are compared with."""
    for name in PRECISIONS:
        if name not in (FP32, precision):
            (folder / f"model.{name}.onnx").unlink()


def open_draft(folder: Path, config: BundleConfig) -> Bundle:
    """A bundle in the making, for the runtime to read; its reference is blank until the real one is learnt."""
    if not (folder / bundles.REFERENCE).exists():
        Reference.blank(len(config.labels), config.embedding_size).save(folder / bundles.REFERENCE)
    return Bundle(folder, config, hash="")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter and quantiser talk about their own insides; errors still come through."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
