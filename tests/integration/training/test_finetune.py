from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from monitoring.core.bundle import BundleConfig
from monitoring.core.runtime import ClassifierRuntime
from monitoring.core.settings import GateSettings
from monitoring.stats.calibration import fit_temperature
from tests.bundles import toy_texts
from tests.integration.training.support import LABELS
from training.classifier import SequenceClassifier, infer, length_grouped, tokenise
from training.draft import with_one_doubt
from training.encoder import resolve
from training.export import export, export_onnx, keep_only, open_draft, set_head
from training.finetune import FineTuned, LabelledTexts, fine_tune
from training.logits import raw_outputs
from training.parity import measure_precisions, top_shift
from training.recipe import Recipe

RNG_SEED = 3


def tuned_by(base: Path, method: str, *, seed: int = 0, texts: int = 200) -> FineTuned:
    rng = np.random.default_rng(RNG_SEED)
    train, validation = LabelledTexts(*toy_texts(LABELS, texts, rng)), LabelledTexts(*toy_texts(LABELS, 60, rng))
    rate = {"head": None, "lora": 1e-2, "full": 3e-3}[method]
    recipe = Recipe.for_method(method, epochs=4 if rate else None, learning_rate=rate, batch_size=16)
    return fine_tune(resolve(str(base)), train, validation, LABELS, recipe, seed=seed, report=lambda share: None)


def weights(tuned: FineTuned) -> dict[str, torch.Tensor]:
    return dict(tuned.model.state_dict())


@pytest.mark.parametrize("method", ["head", "lora", "full"])
def test_a_method_learns_and_is_repeatable(tiny_base: Path, method: str) -> None:
    tuned = tuned_by(tiny_base, method)
    texts, labels = toy_texts(LABELS, 200, np.random.default_rng(9))
    logits, _ = infer(tuned.model, tokenise(tuned.tokenizer, texts, 64), torch.device("cpu"))
    right = np.mean([LABELS[number] == label for number, label in zip(logits.argmax(axis=1), labels, strict=True)])
    assert right > 0.8

    again = weights(tuned_by(tiny_base, method))
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights(tuned).items())


def test_a_merged_adapter_leaves_the_bases_own_architecture(tiny_base: Path) -> None:
    plain = SequenceClassifier(tuned_by(tiny_base, "head").model.encoder, 3, unit_length=False, dropout=0.1)
    assert set(weights(tuned_by(tiny_base, "lora"))) == set(plain.state_dict())


@pytest.mark.parametrize("method", ["head", "full"])
def test_the_artefact_read_back_answers_as_torch_does(tiny_base: Path, tmp_path: Path, method: str) -> None:
    tuned = tuned_by(tiny_base, method)
    texts, labels = toy_texts(LABELS, 100, np.random.default_rng(4))
    export(tuned, tmp_path, texts, frozen_graph=tmp_path / "cache" / "graph.onnx" if method == "head" else None)
    draft = open_draft(tmp_path, BundleConfig("m", LABELS, 1.0, tuned.max_tokens, "fp32", 8, 64, {}))

    runtime = ClassifierRuntime(draft)
    expected = infer(tuned.model, tokenise(tuned.tokenizer, texts, tuned.max_tokens), torch.device("cpu"))
    for read, wanted in zip(raw_outputs(runtime, runtime.encode(texts), 8), expected, strict=True):
        np.testing.assert_allclose(read, wanted, atol=1e-4)

    choice, measured = measure_precisions(draft, tuned, texts, labels, GateSettings(), seed=0)
    offers = {offer.precision: offer for offer in measured}
    assert offers.keys() == {"fp32", "int8-static", "int8-mixed", "int8"}
    assert (offers["fp32"].agreement, offers["fp32"].accuracy_loss, offers["fp32"].max_batch) == (1.0, 0.0, 32)
    assert offers["int8-static"].max_batch == offers["int8-mixed"].max_batch == 32  # no batch moves their scores
    assert choice.agreement >= 0.995
    assert choice.dependence <= 0.02

    keep_only(tmp_path, "int8-mixed")
    assert {path.name for path in tmp_path.glob("*.onnx")} == {"model.fp32.onnx", "model.int8-mixed.onnx"}


def test_a_graph_serves_any_head_on_the_same_encoder(tiny_base: Path, tmp_path: Path) -> None:
    model = tuned_by(tiny_base, "head").model
    export_onnx(model, 64, tmp_path / "three.onnx")
    five = SequenceClassifier(model.encoder, 5, unit_length=True, dropout=0.0)
    set_head(tmp_path / "three.onnx", five.classifier, tmp_path / "five.onnx")
    onnx.checker.check_model(tmp_path / "five.onnx", full_check=True)
    assert onnx.load(tmp_path / "five.onnx").graph.output[0].type.tensor_type.shape.dim[1].dim_value == 5


def test_the_exported_file_tells_nothing_of_the_machine_that_made_it(tiny_base: Path, tmp_path: Path) -> None:
    export_onnx(tuned_by(tiny_base, "head").model, 64, tmp_path / "model.onnx")
    assert str(Path(__file__).parents[3]).encode() not in (tmp_path / "model.onnx").read_bytes()


def test_batches_cover_every_row_once_and_hold_texts_of_like_length() -> None:
    rng = np.random.default_rng(0)
    tokens = [[1] * int(length) for length in rng.integers(2, 100, size=1000)]
    batches = list(length_grouped(tokens, 10, rng))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    spread = [max(len(tokens[row]) for row in batch) - min(len(tokens[row]) for row in batch) for batch in batches]
    assert np.mean(spread) < 8


def test_dependence_is_the_shift_of_the_first_label_alone() -> None:
    alone = np.array([[2.0, 0.0], [0.0, 1.0]], np.float32)
    together = np.array([[2.0, 0.0], [0.5, 1.0]], np.float32)
    expected = 1 / (1 + np.exp(-1.0)) - 1 / (1 + np.exp(-0.5))
    assert top_shift(alone, together, 1.0) == pytest.approx(expected, abs=1e-6)


def test_a_model_without_mistakes_is_not_called_certain() -> None:
    logits = np.eye(3, dtype=np.float32)[np.arange(60) % 3] * 6
    labels = np.arange(60) % 3
    assert fit_temperature(logits, labels) < 0.2
    assert 0.5 < fit_temperature(*with_one_doubt(logits, labels)) < 2.0


def test_among_real_mistakes_the_doubt_changes_little(rng: np.random.Generator) -> None:
    logits = rng.normal(size=(400, 4)).astype(np.float32) * 3
    labels = np.array([rng.choice(4, p=np.exp(row / 2) / np.exp(row / 2).sum()) for row in logits])
    assert fit_temperature(*with_one_doubt(logits, labels)) == pytest.approx(fit_temperature(logits, labels), rel=0.02)
