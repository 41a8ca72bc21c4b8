from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

from monitoring.cli import commands
from monitoring.core.cli import open_ledger, program
from monitoring.core.ledger import access, jobs, versions
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.settings import Settings, load_settings
from monitoring.core.tables import audit as audit_table
from monitoring.core.types import JobState, RetrainCause, Role, Stage
from monitoring.doctor import NETWORK_FILESYSTEMS, filesystem_of
from monitoring.starter import starter_config
from tests.bundles import LABELS, make_bundle
from tests.integration.monitoring.patience import wait_until
from tests.integration.monitoring.world import MODEL, World

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _commands() -> None:
    for command in commands:
        program.add_command(command)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(program, arguments)


def run_json(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_init_shows_a_key_with_every_role_once(home: Path) -> None:
    made = run_json("init", "--name", "ann")
    assert Path(made["home"]) == home
    settings = load_settings()
    ledger = open_ledger(settings)
    with ledger.read() as connection:
        principal = access.authenticate(connection, made["key"])
    ledger.close()
    assert (principal.name, principal.roles) == ("ann", frozenset(Role))
    again = run("init")
    assert again.exit_code == 1
    assert "is set up already" in again.stderr


def test_init_works_for_a_user_without_a_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)
    made = run_json("init")
    ledger = open_ledger(load_settings())
    with ledger.read() as connection:
        assert access.authenticate(connection, made["key"]).name == "uid 4000000"
    ledger.close()


def test_init_makes_a_home_for_its_owner_alone_and_leaves_one_that_is_there_as_it_is(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.chmod(0o750)
    run_json("init")
    assert home.stat().st_mode & 0o777 == 0o750
    monkeypatch.setenv("LEEWAY_HOME", str(home / "deep" / "new"))
    run_json("init")
    assert (home / "deep" / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("bundles", [False, True], ids=["a new home", "a home whose ledger was lost"])
def test_only_init_and_training_make_a_ledger(home: Path, *, bundles: bool) -> None:
    if bundles:
        (home / "storage" / "bundles").mkdir(parents=True)
    cure = "bring it back from a backup" if bundles else "run `leeway init`"
    for command in (["status"], ["doctor"], ["audit"], ["report", "support", "--out", "r.html"], ["monitor"]):
        result = CliRunner().invoke(program, command)
        assert result.exit_code == 1
        if command != ["doctor"]:
            assert f"there is no ledger {home / 'ledger.db'}" in result.stderr
            assert cure in result.stderr
    assert not (home / "ledger.db").exists()


def test_init_keeps_the_settings_that_are_there(home: Path) -> None:
    (home / "leeway.toml").write_text("[server]\nport = 9999\n")
    run_json("init")
    assert load_settings().server.port == 9999


def test_every_line_of_the_starter_settings_is_a_valid_default() -> None:
    commented = starter_config()
    assert tomllib.loads(commented) == {section: {} for section in tomllib.loads(commented)}
    lines = commented.partition("\n[")[2].splitlines()
    used = "\n".join(
        line.removeprefix("# ") for line in ["[" + lines[0], *lines[1:]] if "not set by default" not in line
    )
    assert Settings.model_validate(tomllib.loads(used)) == Settings()


def test_keys_are_made_listed_and_revoked(home: Path) -> None:
    run_json("init")
    made = run_json("keys", "add", "app", "--role", "predict", "--role", "feedback")
    assert made["key"].startswith(access.PREFIX)
    assert run("keys", "add", "app", "--role", "predict").exit_code == 1
    run_json("keys", "revoke", "app", "--reason", "left")
    [_, listed] = run_json("keys", "list")["keys"]
    assert listed["roles"] == ["feedback", "predict"]
    assert listed["revoked_at"] is not None
    assert made["key"] not in run("keys", "list").stdout


def test_doctor_tells_what_is_missing_and_what_is_fine(home: Path) -> None:
    before = run("doctor", "--json")
    assert before.exit_code == 1
    ledger = {check["name"]: check for check in json.loads(before.stdout)["checks"]}["ledger"]
    assert ledger["health"] == "bad"
    assert "leeway init" in ledger["found"]
    run_json("init")
    after = run("doctor", "--json")
    assert after.exit_code == 0, after.stdout
    assert "bad" not in run("doctor").stdout


def test_doctor_tells_of_the_receivers_and_tries_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_json("init")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        monkeypatch.setenv("LEEWAY_ALERTS__WEBHOOK_URL", f"http://127.0.0.1:{port}/hook")
        monkeypatch.setenv("LEEWAY_ALERTS__NOTIFY", '["mailto://someone:hidden@example.org"]')
        there = run("doctor").output
    assert "webhook: it listens" in there
    assert "E-Mail" in there
    assert "hidden" not in there
    assert "nobody listens there now" in run("doctor").output
    monkeypatch.setenv("LEEWAY_ALERTS__NOTIFY", "[]")
    tried = run("doctor", "--notify")
    assert tried.exit_code == 1
    assert "the webhook cannot be reached" in tried.output
    monkeypatch.setenv("LEEWAY_ALERTS__NOTIFY", '["slak://hidden"]')
    refused = run("doctor")
    assert refused.exit_code == 1
    assert "slak://…" in refused.output
    assert "hidden" not in refused.output


def test_doctor_looks_into_the_bundles_that_serve_stand_by_and_wait(world: World) -> None:
    run_json("init")
    waiting = world.register(make_bundle(world.home / "next", seed=2))
    whole = next(check for check in run_json("doctor")["checks"] if check["name"] == "bundles")
    assert whole["found"] == "whole in storage: support@2, support@1"
    stored = world.home / "storage" / waiting.bundle_uri
    (stored / "tokenizer.json").unlink()
    result = run("doctor", "--json")
    assert result.exit_code == 1
    found = {check["name"]: check["found"] for check in json.loads(result.stdout)["checks"]}
    assert found["bundles"] == "whole in storage: support@1"
    assert found["bundle"].startswith(f"support@2 (awaiting_approval): {stored}: tokenizer.json is in the manifest")


def test_doctor_knows_a_network_filesystem_by_the_mount_above() -> None:
    mounted = {Path("/"): "ext4", Path("/data"): "nfs4", Path("/data/local"): "xfs"}
    assert filesystem_of(Path("/data/leeway"), mounted) in NETWORK_FILESYSTEMS
    assert filesystem_of(Path("/data/local/leeway"), mounted) == "xfs"
    assert filesystem_of(Path("/database"), mounted) == "ext4"
    assert filesystem_of(Path("/data"), {}) is None


def test_a_misspelt_setting_is_one_line(home: Path) -> None:
    (home / "leeway.toml").write_text("[monitor]\nwindow_sise = 5\n")
    result = run("doctor")
    assert result.exit_code == 1
    assert "monitor.window_sise" in result.stderr
    assert "Traceback" not in result.stderr


def test_audit_tells_who_did_what_and_finds_a_change(world: World) -> None:
    told = run_json("audit", "--subject", f"{MODEL}@1")
    assert told["unbroken"]
    assert "stage:production" in [event["action"] for event in told["events"]]
    with world.ledger.begin() as connection:
        connection.execute(update(audit_table).where(audit_table.c.sequence == 2).values(actor="nobody"))
    changed = run("audit", "--json")
    assert changed.exit_code == 1
    assert json.loads(changed.stdout)["first_broken"] == 2


def test_status_and_report_of_a_watched_model(world: World, tmp_path: Path) -> None:
    world.serve(world.champion(), 2 * world.settings.monitor.window_size)
    world.watch()
    status = run_json("status")
    (model,) = status["models"]
    assert model["champion"] == f"{MODEL}@1"
    assert model["predictions_seen"] == 2 * world.settings.monitor.window_size
    assert "support@1" in run("status").stdout
    page = tmp_path / "report.html"
    written = run_json("report", MODEL, "--out", str(page))
    assert written["windows"] == 2
    assert "support@1" in page.read_text()
    assert (written["span"]["windows"], written["span"]["predictions"]) == (2, 400)
    assert {finding["signal"] for finding in written["span"]["findings"]} >= {"labels", "entropy", "vocabulary"}
    assert "distribution of entropy" in page.read_text()
    unknown = run("report", "nonesuch", "--out", str(page))
    assert unknown.exit_code == 1
    assert f"known: {MODEL}" in unknown.stderr


def test_a_past_span_is_judged_from_what_its_windows_left(world: World, tmp_path: Path) -> None:
    champion, size = world.champion(), world.settings.monitor.window_size
    world.serve(champion, 2 * size)
    calm_until = world.clock()
    world.clock.advance(timedelta(days=2))
    world.serve(champion, 2 * size, topics=("returns",))
    world.watch()
    shutil.rmtree(world.settings.log_url)  # not a row is read again
    page = tmp_path / "report.html"

    def effects(*span: str) -> dict[str, tuple[int, float, bool]]:
        found = run_json("report", f"{MODEL}@1", "--out", str(page), *span)["span"]
        return {item["signal"]: (found["windows"], item["effect"], item["significant"]) for item in found["findings"]}

    calm = effects("--until", f"{calm_until + timedelta(minutes=1):%Y-%m-%dT%H:%M}")
    later = effects("--since", f"{calm_until + timedelta(days=1):%Y-%m-%d}")
    assert calm["similarity"][0] == later["similarity"][0] == 2
    assert not any(significant for _, _, significant in calm.values())
    assert later["similarity"][2]
    assert later["similarity"][1] > 0.3
    both = effects("--since", f"{calm_until - timedelta(days=1):%Y-%m-%d}")
    assert both["similarity"][0] == 4
    assert calm["similarity"][1] < both["similarity"][1] < later["similarity"][1]
    assert effects() == later  # without a span: since the drift began
    assert "since the drift began, about 2026-01-05 12:06" in page.read_text()
    empty = run("report", MODEL, "--out", str(page), "--since", "2026-02-01", "--until", "2026-01-01")
    assert empty.exit_code == 1
    assert "is empty" in empty.stderr
    nothing = run_json("report", MODEL, "--out", str(page), "--until", "2025-01-01")
    assert nothing["span"] is None
    assert "No window of support@1 was judged in that span" in page.read_text()


@pytest.mark.slow
def test_evidently_gives_a_second_opinion(world: World, tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="needs the extra 'reports'")
    world.serve(world.champion(), world.settings.monitor.window_size, topics=("returns",))
    world.watch()
    page = tmp_path / "report.html"
    opinion = run_json("report", MODEL, "--out", str(page), "--evidently")["evidently"]
    assert opinion["dataset_drift"]
    assert {"similarity", "predicted"} <= {column["column"] for column in opinion["columns"]}
    assert opinion["drifted"] == sum(column["drifted"] for column in opinion["columns"])
    assert "A second opinion" in page.read_text()
    assert (tmp_path / "report.evidently.html").stat().st_size > 100_000


def test_evidently_reads_no_more_of_the_log_than_the_window(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = world.settings.monitor.window_size
    world.serve(world.champion(), size)
    first_until = world.clock() + timedelta(minutes=1)
    world.clock.advance(timedelta(days=2))
    world.serve(world.champion(), 2 * size)
    world.watch()
    lengths = []
    read = PredictionLog.read

    def counted(log: PredictionLog, **asked: Any) -> Any:
        rows = read(log, **asked)
        lengths.append(len(rows))
        return rows

    monkeypatch.setattr(PredictionLog, "read", counted)
    page, span = str(tmp_path / "report.html"), ("--until", f"{first_until:%Y-%m-%dT%H:%M}")
    run("report", MODEL, "--out", page, "--evidently", *span)  # with or without the extra, it reads first
    assert lengths == [size]


def test_without_its_extra_evidently_says_what_to_install(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serve(world.champion(), world.settings.monitor.window_size)
    world.watch()
    monkeypatch.setitem(sys.modules, "evidently", None)
    missing = run("report", MODEL, "--out", str(tmp_path / "report.html"), "--evidently")
    assert missing.exit_code == 1
    assert "pip install 'leeway[reports]'" in missing.stderr


def test_status_tells_what_came_of_the_last_retraining(world: World) -> None:
    world.champion()
    assert run_json("status")["models"][0]["last_job"] is None
    with world.ledger.begin() as connection:
        rejected = versions.add(
            connection,
            model=MODEL,
            bundle_uri="bundles/worse",
            bundle_hash="0" * 64,
            labels=LABELS,
            lineage={},
            evidence={},
            actor="worker",
            now=world.clock(),
        )
        rejected = versions.move(
            connection, rejected, Stage.REJECTED, actor="worker", reason="a gate failed", now=world.clock()
        )
        jobs.request(
            connection,
            model=MODEL,
            cause=RetrainCause.DRIFT,
            reason="r",
            request={},
            actor="monitor",
            now=world.clock(),
        )
        job = jobs.claim(connection, owner="w", lasts=timedelta(minutes=1), now=world.clock())
        assert job is not None
        reason = "support@2 rejected: better_on_recent: no gain; trade_in: 12 of 20 examples, it waits"
        result = {"version": rejected.id, "name": rejected.name, "stage": rejected.stage, "reason": reason}
        jobs.finish(connection, job, JobState.SUCCEEDED, reason=reason, result=result, now=world.clock())
    last = run_json("status")["models"][0]["last_job"]
    assert (last["reason"], last["version"], last["since_then"]) == (reason, "support@2", None)
    assert reason in " ".join(run("status").stdout.split())


def test_status_names_what_waits_as_people_do(world: World) -> None:
    waiting = world.register(make_bundle(world.home / "next"))
    assert f"leeway approve {waiting.name} --reason" in run("status").stdout


def test_the_monitor_runs_until_it_is_told_to_stop(world: World) -> None:
    world.serve(world.champion(), 50, ship=False)
    environment = os.environ | {"LEEWAY_MONITOR__PORT": "0", "PYTHONPATH": str(ROOT)}
    environment["LEEWAY_LOG__RETENTION_DAYS"] = "36500"  # the world's predictions are as old as its frozen clock
    code = "from monitoring.cli import monitor; monitor()"
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = next(line.rpartition(" ")[2].strip() for line in process.stderr if "listening on" in line)
            rows = f'leeway_monitored_predictions_total{{model="{MODEL}",version="{MODEL}@1"}} 50.0'
            wait_until(lambda: rows in _scrape(address))
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read()
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0, said
    assert "Traceback" not in said


def _scrape(address: str) -> str:
    with urllib.request.urlopen(address) as response:
        return str(response.read().decode())
