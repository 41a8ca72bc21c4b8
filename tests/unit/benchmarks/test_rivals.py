"""A rival that cannot be measured costs its own row and nothing else."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from tests.benchmarks.verdicts import rivals
from tests.benchmarks.verdicts.draws import Extent

MEASURED = {"version": "1.0", "windows": [{"detector": "x", "scenario": "none", "n": 100, "alarms": 1, "windows": 2}]}


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of rivals; `made` is installed already, in this very Python."""
    monkeypatch.setattr(rivals, "SCRIPTS", tmp_path)
    requirements = b"# nothing\n"
    (tmp_path / "made.txt").write_bytes(requirements)
    home = tmp_path / "envs" / "made"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").symlink_to(sys.executable)
    (home / "installed").write_text(hashlib.sha256(requirements).hexdigest())
    return tmp_path


def play(scripts: Path, name: str) -> rivals.Played:
    return rivals.play_one(name, scripts / "rows.npz", Extent(2), scripts / "envs")


def test_what_it_prints_last_is_what_it_measured(scripts: Path) -> None:
    (scripts / "run_made.py").write_text(f"print('chatter')\nprint('''{json.dumps(MEASURED)}''')\n")
    played = play(scripts, "made")
    assert (played.name, played.version, played.missing) == ("made", "1.0", "")
    assert list(played.windows) == MEASURED["windows"]


def test_one_that_breaks_says_how(scripts: Path) -> None:
    (scripts / "run_made.py").write_text("raise SystemExit('no such column')\n")
    assert play(scripts, "made").missing == "failed: no such column"


def test_one_that_prints_no_json_failed(scripts: Path) -> None:
    (scripts / "run_made.py").write_text("print('done')\n")
    assert play(scripts, "made").missing.startswith("failed: ")


def test_one_that_cannot_be_installed_says_why(scripts: Path) -> None:
    assert play(scripts, "absent").missing.startswith("not installed: ")


def test_every_rival_has_a_script_and_nothing_but_pinned_packages() -> None:
    for name in rivals.RIVALS:
        assert (rivals.SCRIPTS / f"run_{name}.py").exists()
        lines = (rivals.SCRIPTS / f"{name}.txt").read_text().split()
        assert [line for line in lines if "==" not in line] == []
