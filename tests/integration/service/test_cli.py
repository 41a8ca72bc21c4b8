"""The operation commands, on the ledger of a home folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from monitoring.core.cli import Program
from monitoring.core.ledger import audit, jobs
from monitoring.core.types import RetrainCause, Role, RolloutPhase, Stage, utc_now
from service.cli import commands
from tests.evidence import recalibrated_from, recalibration_evidence
from tests.world import World, furnish

Run = Callable[..., Result]


@pytest.fixture
def world(home: Path) -> World:
    return World.create(home, utc_now)


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("approve", "support@2", key="lw_…")`"""
    monkeypatch.setenv("COLUMNS", "200")
    program = Program(commands={command.name or "": command for command in commands})

    def _run(*arguments: str, key: str | None = None) -> Result:
        return CliRunner().invoke(program, list(arguments), env={"LEEWAY_API_KEY": key})

    return _run


def document(result: Result) -> Any:
    """The one JSON document on standard output."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_every_command_helps(run: Run) -> None:
    assert {
        "serve",
        "up",
        "load",
        "candidates",
        "approve",
        "reject",
        "rollout",
        "rollback",
        "retrain",
        "recalibrate",
        "demo",
    } <= {command.name for command in commands}
    for command in commands:
        shown = run(str(command.name), "--help")
        assert shown.exit_code == 0
        assert "Usage" in shown.output


@pytest.mark.parametrize("command", [["candidates"], ["rollout", "list"], ["rollback", "m", "--reason", "r"]])
def test_without_a_home_the_cure_is_named_and_nothing_is_made(run: Run, home: Path, command: list[str]) -> None:
    refused = run(*command)
    assert refused.exit_code == 1
    assert "run `leeway init`" in refused.stderr
    assert not (home / "ledger.db").exists()


def test_candidates_for_people(run: Run, world: World) -> None:
    furnish(world)
    shown = run("candidates").stdout
    row = next(line for line in shown.splitlines() if line.startswith("support@2"))
    assert row.split()[:7] == ["support@2", "awaiting", "approval", "4/4", "92.1%", "87.4%", "412"]
    assert "learns gift_card" in row
    assert "leeway approve support@2 --reason" in shown
    assert "triage@2" not in run("candidates", "--model", "support").stdout
    assert "does not exist" in run("candidates", "--model", "suport").stderr


def test_a_candidate_measured_against_a_former_champion_is_said_to_be_so(run: Run, world: World) -> None:
    world.champion()
    world.candidate(parent="gone")
    shown = run("candidates").stdout
    why = "measured against gone, but support@1 serves now: retrain `support` to measure anew"
    assert f"support@2 cannot be approved: {why}, and reject it." in " ".join(shown.split())
    assert "Approve with" not in shown
    refused = run("approve", "support@2", "--reason", "fine", key=world.key("grace", Role.APPROVE))
    assert (refused.exit_code, why in refused.stderr) == (1, True)
    [found] = document(run("candidates", "--json"))["candidates"]
    assert (found["measured_against"], found["outdated"]) == ("gone", why)


def test_candidates_for_machines(run: Run, world: World) -> None:
    furnish(world)
    found = document(run("candidates", "--json"))["candidates"]
    assert {version["name"]: version["stage"] for version in found} == {
        "support@2": "awaiting_approval",
        "triage@2": "ab_test",
    }
    assert document(run("candidates", "--json", "--model", "triage"))["candidates"][0]["approval"]["person"] == "ada"


def test_an_empty_house(run: Run, world: World) -> None:
    assert document(run("candidates", "--json")) == {"candidates": []}
    assert document(run("rollout", "list", "--json")) == {"rollouts": []}
    assert "No version waits" in run("candidates").stdout
    assert "None so far" in run("rollout", "list").stdout


def test_approving_needs_a_key_with_the_role_and_names_its_holder(run: Run, world: World) -> None:
    furnish(world)
    approve = ("approve", "support@2", "--reason", "better on gift cards")
    no_key = run(*approve)
    assert no_key.exit_code == 1
    assert "LEEWAY_API_KEY" in no_key.stderr
    assert "not known here" in run(*approve, key="lw_wrong").stderr
    assert "lacks the role approve" in run(*approve, key=world.key("olga", Role.OPERATE)).stderr
    assert world.version("support@2").stage is Stage.AWAITING_APPROVAL
    done = run(*approve, key=world.key("grace", Role.APPROVE))
    assert done.stdout == (
        "support@2 is approved by grace: its rollout begins in shadow as soon as every serving process has loaded it.\n"
    )
    with world.ledger.read() as connection:
        event = audit.events(connection, subject="support@2")[0]
    assert (event.actor, event.reason) == ("grace", "better on gift cards")


def test_the_key_may_be_an_option_and_the_answer_json(run: Run, world: World) -> None:
    furnish(world)
    key = world.key("grace", Role.APPROVE)
    other = run("approve", "support@2", "--reason", "fine", "--bundle-hash", "0" * 64, "--key", key, "--json")
    assert other.exit_code == 1
    assert other.stdout == ""
    assert "not the bundle that was reviewed" in other.stderr
    approved = document(run("approve", "support@2", "--reason", "fine", "--key", key, "--json"))
    assert (approved["stage"], approved["approval"]["person"]) == ("approved", "grace")


def test_rejecting(run: Run, world: World) -> None:
    furnish(world)
    key = world.key("grace", Role.APPROVE)
    assert "Missing option '--reason'" in run("reject", "support@2", key=key).stderr
    assert "reason is empty" in run("reject", "support@2", "--reason", " ", key=key).stderr
    assert run("reject", "support@2", "--reason", "too slow", key=key).stdout == "support@2 is rejected by grace.\n"
    assert "cannot become" in run("approve", "support@2", "--reason", "no, good", key=key).stderr


def test_a_rollout_is_shown_and_steered_by_model_or_id(run: Run, world: World) -> None:
    rollout = furnish(world)["rollout"]
    key = world.key("olga", Role.OPERATE)
    shown = document(run("rollout", "show", "triage", "--json"))
    assert shown["id"] == rollout.id
    assert run("rollout", "show", rollout.id).stdout.startswith("triage@1 → triage@2: running, ab_test, 25% of the")
    assert "triage@1 → triage@2" in run("rollout", "list").stdout
    assert document(run("rollout", "list", "--model", "support", "--json")) == {"rollouts": []}

    def act(verb: str) -> Result:
        return run("rollout", verb, "triage", "--reason", f"to {verb}", "--json", key=key)

    assert document(act("pause"))["phase"] == "inconclusive"
    assert document(act("resume"))["phase"] == "running"
    assert document(act("promote"))["phase"] == "successful"
    assert act("abort").exit_code == 1
    assert world.read_rollout(rollout).phase is RolloutPhase.SUCCESSFUL
    undone = run("rollback", "triage", "--reason", "worse", key=key)
    assert undone.stdout == "triage@1 serves triage again.\n"


def test_aborting(run: Run, world: World) -> None:
    rollout = furnish(world)["rollout"]
    done = run("rollout", "abort", rollout.id, "--reason", "errors", key=world.key("olga", Role.OPERATE))
    assert done.stdout.startswith("triage@1 → triage@2: failed, ab_test, 0% of the traffic\n  errors")


def test_recalibrating(run: Run, world: World) -> None:
    champion = world.champion()
    key = world.key("olga", Role.OPERATE)
    told = run("recalibrate", "support", "--reason", "it is too sure", key=key)
    assert told.stdout.startswith("Asked for a recalibration of support (job ")
    with world.ledger.read() as connection:
        (job,) = jobs.find(connection, model="support")
    assert (job.cause, job.reason) == (RetrainCause.CALIBRATION, "it is too sure")
    world.candidate(origin=recalibrated_from(champion), evidence=recalibration_evidence())
    assert "0.40 → 1.42" in run("candidates").stdout


def test_retraining(run: Run, world: World) -> None:
    furnish(world)
    key = world.key("olga", Role.OPERATE)
    assert document(run("retrain", "support", "--reason", "new words", "--json", key=key))["cause"] == "manual"
    again = run("retrain", "support", "--reason", "again", key=key)
    assert again.exit_code == 1
    assert "already has an open training job" in again.stderr
    assert "Traceback" not in again.output
