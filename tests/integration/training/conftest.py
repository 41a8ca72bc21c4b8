"""A base model small enough to be trained in a test: real architecture, real files, random weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from monitoring.core.cli import open_ledger, open_registry
from monitoring.core.ledger import versions
from monitoring.core.settings import Settings, load_settings
from monitoring.core.types import ModelVersion, utc_now
from tests.bundles import FILLERS, words_of
from tests.integration.training.support import LABELS, MODEL, NEW_LABEL, put_into_production
from training.plan import Workshop
from training.progress import silent

torch.set_num_threads(1)  # two threads on a busy machine wait for each other
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer in the Hugging Face layout, which knows the words of the toy texts."""
    folder = tmp_path_factory.mktemp("base")
    words = sorted({*FILLERS, *(word for label in (*LABELS, NEW_LABEL) for word in words_of(label))})
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=128,
            max_position_embeddings=66,
        )
        BertModel(config).save_pretrained(folder)
    return folder


def write_settings(home: Path) -> None:
    """The gates that a loaded machine or a toy model could fail stand wide open."""
    lines = ("[gates]", "max_latency_ratio = 100.0", "max_calibration_error = 0.5", "min_agreement = 0.9")
    (home / "leeway.toml").write_text("\n".join(lines))


@pytest.fixture
def settings(home: Path) -> Settings:
    """Settings of an empty home."""
    write_settings(home)
    return load_settings()


@pytest.fixture(scope="session")
def trained_home(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a version in production, trained once; tests get copies of it."""
    home = tmp_path_factory.mktemp("trained") / "home"
    home.mkdir()
    write_settings(home)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LEEWAY_HOME", str(home))
        settings = load_settings()
        ledger = open_ledger(settings, create=True)
        put_into_production(Workshop(settings, ledger, open_registry(settings, ledger), utc_now, silent), tiny_base)
        ledger.close()
    return home


@pytest.fixture
def served(home: Path, trained_home: Path) -> Workshop:
    """A workshop whose model has a version in production."""
    shutil.copytree(trained_home, home, dirs_exist_ok=True)
    settings = load_settings()
    ledger = open_ledger(settings, create=True)
    return Workshop(settings, ledger, open_registry(settings, ledger), utc_now, silent)


@pytest.fixture
def champion(served: Workshop) -> ModelVersion:
    """The version in production."""
    with served.ledger.read() as connection:
        return versions.get(connection, f"{MODEL}@1")


@pytest.fixture
def workshop(settings: Settings) -> Workshop:
    """A workshop over an empty ledger."""
    ledger = open_ledger(settings, create=True)
    return Workshop(settings, ledger, open_registry(settings, ledger), utc_now, silent)
