"""A model as it is served: one folder, whose manifest lists every file with its SHA-256.

manifest.json     files and hashes; its own hash names the bundle
config.json       BundleConfig: labels, temperature, precision, lineage
tokenizer.json    Hugging Face tokenizers format
model.fp32.onnx   inputs input_ids, attention_mask (batch, tokens); outputs logits (batch, classes), embedding
model.int8*.onnx  the same with weights quantised per channel, where that is the precision that serves
reference.npz     what turns embeddings into signals (`signals.Reference`)
baseline.npz      what traffic is compared with (`monitoring.baseline.Baseline`)
evaluation.json   metrics on the hold-out, gates, timings
card.md           the model card
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitoring.core.errors import BrokenBundle

FORMAT = 1
MANIFEST = "manifest.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
REFERENCE = "reference.npz"
BASELINE = "baseline.npz"
EVALUATION = "evaluation.json"
CARD = "card.md"
REQUIRED = (CONFIG, TOKENIZER, REFERENCE, BASELINE, EVALUATION)


@dataclass(frozen=True)
class BundleConfig:
    """How to run the model, and where it came from.

    `max_batch` is the largest batch in which a text's score stays the same as alone: 1 for dynamic int8.
    `lineage` holds data hash, snapshot, code version, base model and revision, recipe, seed, cause.
    """

    model: str
    labels: tuple[str, ...]
    temperature: float
    max_tokens: int
    precision: str
    max_batch: int
    embedding_size: int
    lineage: Mapping[str, Any]
    format: int = FORMAT

    @property
    def model_file(self) -> str:
        """The ONNX file that serves."""
        return f"model.{self.precision}.onnx"


@dataclass(frozen=True)
class Bundle:
    """An opened, verified bundle."""

    folder: Path
    config: BundleConfig
    hash: str

    def path(self, name: str) -> Path:
        """A file of the bundle."""
        return self.folder / name

    def evaluation(self) -> dict[str, Any]:
        """The stored evaluation."""
        return dict(json.loads(self.path(EVALUATION).read_text()))


def write_config(folder: Path, config: BundleConfig) -> None:
    """Write config.json."""
    (folder / CONFIG).write_text(json.dumps(dataclasses.asdict(config), indent=2, sort_keys=True))


def seal(folder: Path) -> Bundle:
    """Write the manifest over all files of `folder` and open the result."""
    files = {
        path.name: {"sha256": _sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": files}, indent=2, sort_keys=True))
    return open_bundle(folder)


def open_bundle(folder: Path, *, expected_hash: str | None = None, known_as: str | None = None) -> Bundle:
    """Verify every file and read the configuration. Raises BrokenBundle, naming the file and what is wrong with it.

    `known_as` is what a message calls the bundle: where it came from, if `folder` is only a copy.
    """
    where = known_as or str(folder)
    try:
        content = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise BrokenBundle(f"{where} is not a Leeway bundle: {MANIFEST} is missing or unreadable") from error
    files = read_manifest(content, where, expected_hash=expected_hash)
    for name, entry in files.items():
        _verify_file(folder, name, entry, where)
    config = _read_config(folder, where)
    if config.model_file not in files:
        raise BrokenBundle(f"{where} lacks {config.model_file}, its serving precision")
    return Bundle(folder, config, hashlib.sha256(content).hexdigest())


def read_manifest(content: bytes, where: str, *, expected_hash: str | None = None) -> dict[str, Any]:
    """The files that a manifest lists, each with `sha256` and `bytes`. Raises BrokenBundle, which names `where`."""
    try:
        manifest = json.loads(content)
        files = dict(manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenBundle(f"{where} is not a Leeway bundle: {MANIFEST} is missing or unreadable") from error
    if manifest.get("format") != FORMAT:
        raise BrokenBundle(f"{where} has bundle format {manifest.get('format')!r}; this version reads {FORMAT}")
    found = hashlib.sha256(content).hexdigest()
    if expected_hash is not None and found != expected_hash:
        raise BrokenBundle(f"{where} is not the registered bundle: its hash is {found}, not {expected_hash}")
    for name in REQUIRED:
        if name not in files:
            raise BrokenBundle(f"{where} lacks {name}: train or register the model again")
    return files


def _verify_file(folder: Path, name: str, entry: object, where: str) -> None:
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise BrokenBundle(f"{where}: {name} is in the manifest but not in the folder")
    if not isinstance(entry, dict) or _sha256(path) != entry.get("sha256"):
        raise BrokenBundle(f"{where}: {name} was altered or cut (its hash differs from the manifest)")


def _read_config(folder: Path, where: str) -> BundleConfig:
    try:
        values = json.loads((folder / CONFIG).read_bytes())
        return BundleConfig(**(values | {"labels": tuple(values["labels"])}))
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenBundle(f"{where}: {CONFIG} cannot be read ({error})") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
