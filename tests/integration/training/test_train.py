"""`leeway train`, from a file to a registered version."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from monitoring.baseline import Baseline
from monitoring.core.bundle import BASELINE, CARD
from monitoring.core.cli import Program
from monitoring.core.ledger import versions
from monitoring.core.runtime import ClassifierRuntime
from monitoring.core.settings import Settings
from monitoring.core.types import Stage
from tests.bundles import toy_texts
from tests.integration.training.support import LABELS
from training.cli import commands
from training.plan import Workshop
from training.snapshot import load


def leeway(*arguments: str) -> Result:
    return CliRunner().invoke(Program("leeway", commands=commands), arguments)


def write_rows(path: Path, n: int, *, parts: bool = False) -> Path:
    texts, labels = toy_texts(LABELS, n, np.random.default_rng(1))
    part = [("train", "train", "test")[row % 3] for row in range(n)]
    rows = [f"{text},{label},{name}" for text, label, name in zip(texts, labels, part, strict=True)]
    path.write_text("\n".join(["text,label,part", *rows]) + "\n")
    return path


def test_a_file_becomes_a_version_that_waits_for_approval(
    workshop: Workshop, settings: Settings, tiny_base: Path, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "support.csv", 300)
    result = leeway("train", "--data", str(path), "--base", str(tiny_base), "--max-tokens", "32", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)

    with workshop.ledger.read() as connection:
        version = versions.get(connection, "support@1")
    assert version.stage is Stage.AWAITING_APPROVAL
    assert version.labels == tuple(sorted(LABELS))
    assert told["bundle_hash"] == version.bundle_hash
    names = {gate["name"] for gate in told["gates"]}
    assert names == {"parity", "accuracy_loss", "batch_dependence", "calibration", "size"}
    assert told["metrics"]["accuracy"] > 0.8
    assert told["parity"]["agreement"] >= 0.9

    bundle = workshop.registry.fetch(version)
    lineage = bundle.config.lineage
    assert lineage["cause"] == "initial"
    assert lineage["base_model"] == str(tiny_base)
    assert lineage["recipe"]["method"] == "head"
    snapshot = load(workshop.storage, lineage["snapshot"], cache=tmp_path / "cache")
    assert snapshot.as_of.isoformat() == lineage["as_of"]
    assert len(snapshot.rows) == 300
    baseline = Baseline.load(bundle.path(BASELINE))
    assert baseline.n == baseline.labelled == snapshot.counts()["holdout"]
    card = bundle.path(CARD).read_text()
    assert "# support" in card
    assert lineage["snapshot"] in card
    texts, labels = toy_texts(LABELS, 60, np.random.default_rng(8))
    answers = ClassifierRuntime(bundle).predict(texts)
    right = [bundle.config.labels[number] == label for number, label in zip(answers.predicted, labels, strict=True)]
    assert np.mean(right) > 0.8


def test_a_person_reads_what_came_of_it_and_what_to_do_next(
    settings: Settings, tiny_base: Path, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.csv", 240, parts=True)
    options = ("--base", str(tiny_base), "--max-tokens", "32", "--model", "desk", "--split-column", "part")
    result = leeway("train", "--data", str(path), *options)
    assert result.exit_code == 0, result.output
    assert "desk@1 on 80 held-out rows" in result.output
    assert "leeway approve desk@1" in result.output


def test_a_model_that_fails_a_gate_is_registered_as_rejected(
    workshop: Workshop, home: Path, tiny_base: Path, tmp_path: Path
) -> None:
    (home / "leeway.toml").write_text(
        "[gates]\nmax_size_mb = 0.001\nmin_agreement = 0.9\nmax_calibration_error = 0.5\n"
    )
    path = write_rows(tmp_path / "support.csv", 120)
    result = leeway("train", "--data", str(path), "--base", str(tiny_base), "--max-tokens", "32", "--json")
    assert result.exit_code == 1
    assert [gate["name"] for gate in json.loads(result.stdout)["gates"] if not gate["passed"]] == ["size"]
    with workshop.ledger.read() as connection:
        assert versions.get(connection, "support@1").stage is Stage.REJECTED


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--text-column", "message"), "no column 'message'; it has: text, label, part"),
        (("--model", "a/b"), "use letters, digits"),
        (("--base", "package:no_such_model"), "pip install no-such-model"),
        (("--split-column", "label"), "a split is one of"),
    ],
)
def test_a_mistake_ends_in_one_readable_line(
    settings: Settings, tmp_path: Path, options: tuple[str, str], says: str
) -> None:
    path = write_rows(tmp_path / "support.csv", 40)
    result = leeway("train", "--data", str(path), *options)
    assert result.exit_code == 1
    assert says in result.stderr
    assert "Traceback" not in result.output
