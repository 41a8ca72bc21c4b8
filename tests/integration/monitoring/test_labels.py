"""`leeway labels` on a real log and ledger: ask, fill in, take in, ask again."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from monitoring.asking import MAX_POOL, REDRAWN_AFTER, ask, keep_queue, newest_rows
from monitoring.cli import commands
from monitoring.core.bundle import Bundle
from monitoring.core.cli import program
from monitoring.core.errors import InvalidInput, NotReady
from monitoring.core.ids import id_time
from monitoring.core.ledger import access, label_queue, labels
from monitoring.core.settings import LabelSettings, LogSettings
from monitoring.core.types import Feedback, LabelSource, Role, Variant
from monitoring.intake import Reign
from monitoring.label_queue import Part, drawn_at_random
from monitoring.process import Routines
from tests.bundles import LABELS
from tests.conftest import FrozenClock
from tests.integration.monitoring.world import MODEL, Answer, World, settings_for


@pytest.fixture(autouse=True)
def _commands(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in commands:
        program.add_command(command)
    with world.ledger.begin() as connection:
        key = access.add_key(connection, name="ann", roles=[Role.FEEDBACK], actor="test", now=world.clock())
    monkeypatch.setenv("LEEWAY_API_KEY", key)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(program, arguments)


def run_json(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def fill_in(path: Path, answers: list[Answer]) -> list[dict[str, str]]:
    """The file with the true labels; its rows."""
    truth = {answer.id: answer.label for answer in answers}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row | {"label": truth[row["prediction_id"]]} for row in csv.DictReader(file)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows


def given(world: World, answers: list[Answer]) -> list[Feedback]:
    with world.ledger.read() as connection:
        return labels.labels_for(connection, [answer.id for answer in answers])


def test_labels_are_asked_for_given_and_asked_for_no_more(world: World, tmp_path: Path) -> None:
    answers = world.serve(world.champion(), 600, topics=(*LABELS, "returns"))
    path = tmp_path / "queue.csv"
    asked = run_json("labels", "queue", MODEL, "--size", "40", "--out", str(path))
    assert asked["files"] == [str(path)]
    assert asked["parts"] == {"random": 20, "drifted": 10, "uncertain": 10}
    assert asked["labels"] == list(LABELS)
    rows = fill_in(path, answers)
    kept = run_json("labels", "import", str(path))
    assert kept["new"] == 40
    assert (kept["known"], kept["unanswered"]) == (0, 0)
    assert kept["unfamiliar"] == {"returns": sum(row["label"] == "returns" for row in rows)}
    sources = {item.prediction_id: (item.source, item.sampling_probability) for item in given(world, answers)}
    for row in rows:
        at_random = row["part"] == "random"
        expected = (LabelSource.RANDOM_SAMPLE, 0.1) if at_random else (LabelSource.REVIEW, 1.0)
        assert sources[row["prediction_id"]] == expected
    assert {item.author for item in given(world, answers)} == {"ann"}
    assert run_json("labels", "import", str(path))["known"] == 40
    assert len(given(world, answers)) == 40
    later = tmp_path / "later.jsonl"
    run_json("labels", "queue", MODEL, "--size", "40", "--out", str(later), "--format", "jsonl")
    again = [json.loads(line)["prediction_id"] for line in later.read_text().splitlines()]
    assert not set(again) & set(sources)
    world.watch()
    assert {outcome.source for outcome in world.outcomes()} == {LabelSource.RANDOM_SAMPLE, LabelSource.REVIEW}


@pytest.mark.parametrize("kind", ["label-studio", "argilla"])
def test_tools_get_a_file_to_set_them_up(world: World, tmp_path: Path, kind: str) -> None:
    world.serve(world.champion(), 100)
    path = tmp_path / "tasks.json"
    said = run("labels", "queue", MODEL, "--size", "10", "--out", str(path), "--format", kind)
    assert said.exit_code == 0, said.output
    assert "how to set the tool up" in said.stdout
    assert len(json.loads(path.read_text())) == 10
    again = run("labels", "queue", MODEL, "--out", str(path))
    assert again.exit_code == 1
    assert "may hold labels" in again.stderr
    empty = run("labels", "import", str(path))
    assert empty.exit_code == 1
    assert "holds no label" in empty.stderr or "none of annotations" in empty.stderr


def test_only_the_champions_own_answers_of_this_reign_are_asked_for(world: World) -> None:
    champion = world.champion()
    before = world.serve(champion, 100)
    world.serve(champion, 50, variant=Variant.SHADOW)
    world.serve(champion, 50, error="deadline_exceeded")
    _, items = ask(world.ledger, world.log, world.settings, MODEL, size=1_000, now=world.clock())
    assert {item.prediction_id for item in items} <= {answer.id for answer in before}
    assert [item.at for item in items] == [id_time(item.prediction_id) for item in items]
    later = Reign(champion.id, world.clock() + timedelta(seconds=1))
    assert len(newest_rows(world.log, later, now=world.clock())) == 0


def test_a_long_reign_is_read_from_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitoring.asking.MAX_POOL", 120)
    champion = world.champion()
    answers = [answer for _ in range(4) for answer in world.serve(champion, 100)]
    rows = newest_rows(world.log, Reign(champion.id, champion.created_at), now=world.clock())
    assert rows["prediction_id"].to_pylist() == [answer.id for answer in reversed(answers)][:120]
    assert MAX_POOL > 120


def test_a_complaint_takes_nothing_out_of_the_random_part(world: World) -> None:
    answers = world.serve(world.champion(), 300)
    drawn = [answer for answer in answers if drawn_at_random(answer.id, 0.1)]
    world.label(drawn[:5], LabelSource.COMPLAINT)
    world.label(drawn[5:8], LabelSource.GROUND_TRUTH)
    _, items = ask(world.ledger, world.log, world.settings, MODEL, size=200, now=world.clock())
    random = [item.prediction_id for item in items if item.part is Part.RANDOM]
    assert random == [answer.id for answer in reversed(drawn) if answer not in drawn[5:8]]


@pytest.mark.parametrize("policy", ["hash", "off"])
def test_the_policy_on_texts_holds_for_the_queue(world: World, policy: Any) -> None:
    world.serve(world.champion(), 50)
    settings = world.settings.model_copy(update={"log": LogSettings(text=policy)})
    _, items = ask(world.ledger, world.log, settings, MODEL, size=10, now=world.clock())
    assert items
    assert all(item.text is None for item in items)
    with pytest.raises(InvalidInput, match=f"log.text is '{policy}'.*join the texts by prediction_id"):
        ask(world.ledger, world.log, settings, MODEL, size=10, now=world.clock(), with_texts=True)


def test_nothing_of_a_file_with_a_bad_row_is_kept(world: World, tmp_path: Path) -> None:
    answers = world.serve(world.champion(), 100)
    path = tmp_path / "queue.csv"
    run_json("labels", "queue", MODEL, "--size", "10", "--out", str(path))
    good = fill_in(path, answers)
    future = "ffffffff-ffff-7fff-bfff-ffffffffffff"
    for field, value, told in (
        ("prediction_id", "not-an-id", "row 3, prediction_id: prediction_id is not one that a predict call returned"),
        ("prediction_id", future, "row 3, prediction_id"),
        ("sampling_probability", "", "row 3, sampling_probability: a random_sample needs its sampling_probability"),
        ("sampling_probability", "nan", "row 3, sampling_probability"),
        ("sampling_probability", "1.5", "row 3, sampling_probability"),
        ("source", "guess", "row 3, source"),
    ):
        rows = [row | ({field: value} if number == 2 else {}) for number, row in enumerate(good)]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        said = run("labels", "import", str(path))
        assert said.exit_code == 1
        assert told in said.stderr
        assert "Traceback" not in said.output
        assert given(world, answers) == []


def test_random_ones_that_are_left_out_are_pointed_at(world: World, tmp_path: Path) -> None:
    answers = world.serve(world.champion(), 200)
    path = tmp_path / "queue.csv"
    run_json("labels", "queue", MODEL, "--size", "20", "--out", str(path))
    rows = fill_in(path, answers)
    rows[0]["label"] = ""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    said = run("labels", "import", str(path))
    assert "1 of the 10 random ones have no label" in said.stdout
    assert said.exit_code == 0


def test_labels_need_a_key_with_the_role(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with world.ledger.begin() as connection:
        other = access.add_key(connection, name="app", roles=[Role.PREDICT], actor="test", now=world.clock())
    for key, told in ((other, "lacks the role feedback"), ("lw_x", "not known here"), ("", "no API key")):
        monkeypatch.setenv("LEEWAY_API_KEY", key)
        said = run("labels", "import", str(tmp_path / "none.csv"))
        assert said.exit_code == 1
        assert told in said.stderr


def test_nothing_to_ask_for(world: World, tmp_path: Path) -> None:
    assert run_json("labels", "queue", MODEL, "--out", str(tmp_path / "queue.csv"))["items"] == 0
    unknown = run("labels", "queue", "nonesuch", "--out", str(tmp_path / "other.csv"))
    assert unknown.exit_code == 1
    assert f"known: {MODEL}" in unknown.stderr


def test_a_model_that_serves_nowhere_has_no_answers(home: Path, clock: FrozenClock, bundle: Bundle) -> None:
    with closing(World(home / "other", clock, np.random.default_rng(1), settings_for(home / "other"))) as waiting:
        waiting.register(bundle)
        with pytest.raises(NotReady, match="no production version"):
            ask(waiting.ledger, waiting.log, waiting.settings, MODEL, size=1, now=clock())


def test_the_share_is_a_setting_and_goes_with_the_label(world: World) -> None:
    answers = world.serve(world.champion(), 60)
    settings = world.settings.model_copy(update={"labels": LabelSettings(random_share=1.0)})
    _, items = ask(world.ledger, world.log, settings, MODEL, size=40, now=world.clock())
    assert [item.prediction_id for item in items] == [answer.id for answer in reversed(answers)][:20]
    assert {item.sampling_probability for item in items} == {1.0}


def kept_queue(world: World, *, since: datetime | None = None) -> list[dict[str, Any]]:
    with world.ledger.read() as connection:
        return label_queue.waiting(
            connection, model=MODEL, version=world.champion().id, since=since or world.champion().created_at
        )


def test_the_monitor_keeps_the_newest_queue_for_the_api_as_windows_end(world: World) -> None:
    routines = Routines(world.settings, world.ledger, world.clock)
    answers = world.serve(world.champion(), world.settings.monitor.window_size - 1)
    routines._watch(MODEL)
    assert kept_queue(world) == []
    answers += world.serve(world.champion(), 1)
    routines._watch(MODEL)
    entries = kept_queue(world)
    assert {entry["prediction_id"] for entry in entries} <= {answer.id for answer in answers}
    assert {entry["part"] for entry in entries} == set(Part)
    sampled, drifted = ([entry for entry in entries if entry["part"] == part] for part in (Part.RANDOM, Part.DRIFTED))
    assert all(entry["predicted"] is None for entry in sampled)
    truth = {answer.id: answer for answer in answers}
    world.label([truth[entry["prediction_id"]] for entry in (sampled[0], drifted[0])], LabelSource.COMPLAINT)
    world.label([truth[sampled[1]["prediction_id"]]], LabelSource.RANDOM_SAMPLE, sampling_probability=0.1)
    assert kept_queue(world) == [entry for entry in entries if entry not in (sampled[1], drifted[0])]


def test_the_kept_queue_is_drawn_anew_but_not_all_the_time(world: World) -> None:
    world.serve(world.champion(), 100)
    arguments = (world.ledger, world.log, world.settings, MODEL)
    assert keep_queue(*arguments, now=world.clock())
    before = kept_queue(world)
    newer = world.serve(world.champion(), 100)
    assert not keep_queue(*arguments, now=world.clock())
    assert kept_queue(world) == before
    assert keep_queue(*arguments, now=world.clock.advance(REDRAWN_AFTER))
    assert {entry["prediction_id"] for entry in kept_queue(world)} & {answer.id for answer in newer}


def test_the_kept_queue_is_forgotten_with_its_predictions_and_holds_no_text_against_the_policy(world: World) -> None:
    world.serve(world.champion(), 100)
    settings = world.settings.model_copy(update={"log": LogSettings(text="hash")})
    keep_queue(world.ledger, world.log, settings, MODEL, now=world.clock())
    entries = kept_queue(world)
    assert len(entries) > 20
    assert all(entry["text"] is None for entry in entries)
    middle = datetime.fromisoformat(sorted(entry["at"] for entry in entries)[10])
    assert len(kept_queue(world, since=middle)) == len(entries) - 10
    with world.ledger.begin() as connection:
        label_queue.forget(connection, before=middle)
    assert len(kept_queue(world)) == len(entries) - 10
    world.clock.advance(timedelta(days=world.settings.log.retention_days + 1))
    Routines(world.settings, world.ledger, world.clock)._maintain("")
    assert kept_queue(world) == []
