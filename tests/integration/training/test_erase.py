"""After an erasure no file of the home folder holds the person's texts, and everybody else's are where they were."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import insert, select

from monitoring.core.cli import open_ledger, open_registry
from monitoring.core.errors import InvalidInput, NotAllowed
from monitoring.core.ids import new_id, unit_hash
from monitoring.core.ledger import access, audit, label_queue, labels
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.settings import Settings, load_settings
from monitoring.core.spool import SpoolWriter
from monitoring.core.storage import Storage
from monitoring.core.tables import alerts, drift_reports, exposures
from monitoring.core.types import LabelSource, ModelVersion, Outcome, Role, Variant, utc_now
from tests.bundles import make_bundle
from tests.integration.training.support import MODEL, Traffic, label_traffic, record
from training.cli_erase import erase as command
from training.erasure import Erased, Whose, erase
from training.snapshot import RECENT_UNLABELLED, Row, Snapshot, load, store

THEIRS, OTHERS = "customer 7", "customer 8"
SECRET = "zebrafinch"
"""In each of their texts."""


@dataclass(frozen=True)
class Kept:
    """A home folder in which traffic of two customers has gone everywhere."""

    settings: Settings
    ledger: Ledger
    log: PredictionLog
    version: ModelVersion
    theirs: list[str]
    others: list[str]
    snapshot: str

    def erase(self, **whose: str) -> dict[str, int]:
        return dict(self.erased(**whose).rows)

    def erased(self, **whose: str) -> Erased:
        return erase(
            Whose(**whose),
            ledger=self.ledger,
            log=self.log,
            settings=self.settings,
            actor="ada",
            reason="they asked for it",
            now=utc_now(),
        )

    def files_with(self, words: str) -> list[str]:
        home = self.settings.home
        return sorted(
            str(path.relative_to(home))
            for path in home.rglob("*")
            if path.is_file() and words.encode() in path.read_bytes()
        )


@pytest.fixture
def kept(home: Path, tmp_path: Path) -> Iterator[Kept]:
    settings = load_settings()
    ledger = open_ledger(settings, create=True)
    version = open_registry(settings, ledger).add(
        make_bundle(tmp_path / "bundle"), evidence={}, actor="test", gates_passed=True
    )
    theirs, others = ([new_id() for _ in range(5)] for _ in range(2))
    log = PredictionLog(settings.log_url)
    write(settings, version, dict.fromkeys(theirs[:4], THEIRS) | dict.fromkeys(others, OTHERS))
    log.ship(settings.spool_dir)
    write(settings, version, {theirs[4]: THEIRS})  # waits in the spool
    label_traffic(ledger, Traffic([theirs[0], others[0]], ["billing", "billing"]))
    rows = [
        Row(text_of(name, whose), None, RECENT_UNLABELLED, 1.0, unit_hash(whose), "log", name)
        for ids, whose in ((theirs, THEIRS), (others, OTHERS))
        for name in ids
    ]
    storage = Storage(settings.store_url)
    stored = store(storage, Snapshot((*rows, Row("from a file", "billing", "train")), ("billing",), utc_now()))
    load(storage, stored.name, cache=settings.cache_dir)  # leaves a copy
    show(ledger, version, theirs[1], others[1])
    yield Kept(settings, ledger, log, version, theirs, others, stored.name)
    ledger.close()


def text_of(prediction_id: str, whose: str) -> str:
    return f"{SECRET if whose == THEIRS else 'magpie'} {prediction_id}"


def write(settings: Settings, version: ModelVersion, units: dict[str, str]) -> None:
    writer = SpoolWriter(settings.spool_dir, writer=f"w-{new_id()}", segment_bytes=1 << 20, max_bytes=1 << 30)
    with closing(writer):
        records = [record(name, version, text_of(name, whose), unit=whose) for name, whose in units.items()]
        assert writer.append([one.row() for one in records])


def show(ledger: Ledger, version: ModelVersion, mine: str, other: str) -> None:
    """Texts of both in a report, an alert and the label queue; an outcome and an exposure of the first."""
    now = utc_now()
    examples = [{"id": name, "text": text_of(name, whose)} for name, whose in ((mine, THEIRS), (other, OTHERS))]
    moved = {"examples": examples, "clusters": [{"name": "birds", "examples": examples}]}
    common = {"model": MODEL, "version": version.id}
    with ledger.begin() as connection:
        connection.execute(
            insert(drift_reports).values(
                id=new_id(), window_start=now, window_end=now, verdict="drift", report={"moved": moved}, **common
            )
        )
        alert = {"name": "drift", "severity": "warning", "summary": "moved", "started_at": now}
        connection.execute(insert(alerts).values(id=new_id(), detail={"moved": moved}, **alert, **common))
        entries = [
            {"prediction_id": one["id"], "at": now.isoformat(), "source": LabelSource.REVIEW, "text": one["text"]}
            for one in examples
        ]
        label_queue.keep(connection, model=MODEL, version=version.id, entries=entries, now=now)
        counts = {"candidate": 0, "share": 0.5, "first_seen": now, "requests": 1, "errors": 0, "slow": 0}
        connection.execute(insert(exposures).values(rollout="r", step=0, unit=unit_hash(THEIRS), **counts))
        labels.add_outcomes(
            connection,
            [
                Outcome(
                    prediction_id=mine,
                    model=MODEL,
                    version=version.id,
                    variant=Variant.PRODUCTION,
                    rollout=None,
                    step=-1,
                    unit=unit_hash(THEIRS),
                    predicted="billing",
                    label="billing",
                    confidence=0.5,
                    source=LabelSource.REVIEW,
                    sampling_probability=1.0,
                    predicted_at=now,
                    labelled_at=now,
                    slices=(),
                )
            ],
        )


def test_nothing_is_left_of_a_client_and_everything_of_the_others(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    before = kept.files_with(SECRET)
    for place in ("predictions/", "spool/", "ledger.db", "storage/snapshots/", "cache/snapshots/"):
        assert any(place in name for name in before), f"the test has nothing of theirs in {place}: {before}"

    assert kept.erase(client=THEIRS) == {
        "feedback": 1,
        "outcomes": 1,
        "label_queue": 1,
        "exposures": 1,
        "drift_reports": 1,
        "alerts": 1,
        "outbox": 0,
        "snapshots": 5,
        "predictions": 5,
    }

    assert kept.files_with(SECRET) == []
    assert kept.files_with(THEIRS) == []
    assert kept.log.read(columns=["prediction_id"])["prediction_id"].to_pylist() == kept.others
    with kept.ledger.read() as connection:
        [report] = connection.execute(select(drift_reports.c.report)).scalars()
        [said] = labels.labels_for(connection, [*kept.theirs, *kept.others])
        assert audit.first_broken_link(connection) is None
        [event] = [event for event in audit.events(connection) if event.action == "erase"]
    assert [one["id"] for one in report["moved"]["clusters"][0]["examples"]] == [kept.others[1]]
    assert said.prediction_id == kept.others[0]
    assert (event.subject, event.detail["predictions"], event.detail["snapshots"]) == ("client", 5, [kept.snapshot])
    assert not any(name in json.dumps(vars(event), default=str) for name in (*kept.theirs, unit_hash(THEIRS)))

    with caplog.at_level(logging.WARNING):
        snapshot = load(Storage(kept.settings.store_url), kept.snapshot, cache=kept.settings.cache_dir)
    assert (len(snapshot.rows), snapshot.erased) == (6, 5)
    assert f"{kept.snapshot}: 5 of its rows were erased" in caplog.text
    assert sum(kept.erase(client=THEIRS).values()) == 0, "there is nothing left to erase"


def test_one_prediction_alone(kept: Kept) -> None:
    erased = kept.erase(prediction=kept.theirs[1])
    assert (erased["predictions"], erased["snapshots"], erased["feedback"]) == (1, 1, 0)
    assert kept.files_with(text_of(kept.theirs[1], THEIRS)) == []
    left = kept.log.read(columns=["prediction_id"])["prediction_id"].to_pylist()
    assert sorted(left) == sorted({*kept.theirs, *kept.others} - {kept.theirs[1]})


def test_an_erasure_that_was_interrupted_is_begun_again(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Storage, name: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            kept.erase(client=THEIRS)
    storage = Storage(kept.settings.store_url)
    assert len(load(storage, kept.snapshot, cache=kept.settings.home / "another").rows) == 6
    assert kept.erase(client=THEIRS)["predictions"] == 5
    (kept.settings.home / "another").rename(kept.settings.home.parent / "another")
    assert kept.files_with(SECRET) == []


def test_a_process_that_serves_is_said_to_hold_what_it_wrote_last(kept: Kept) -> None:
    writer = SpoolWriter(kept.settings.spool_dir, writer="serving", segment_bytes=1 << 20, max_bytes=1 << 30)
    with closing(writer):
        assert writer.append([record(new_id(), kept.version, text_of("", THEIRS), unit=THEIRS).row()])
        done = kept.erased(client=THEIRS)
        assert (done.rows["predictions"], done.waiting) == (6, True)
        assert {Path(name).parts[0] for name in kept.files_with(SECRET)} == {"spool"}
    kept.log.ship(kept.settings.spool_dir)
    assert kept.files_with(SECRET) == []
    assert len(kept.log.read()) == 5, "what was shipped and erased is not shipped again"


@pytest.mark.parametrize(
    ("whose", "said"),
    [
        ({}, "name a client by its key"),
        ({"client": "a", "prediction": "b"}, "name a client by its key"),
        ({"client": ""}, "name a client by its key"),
        ({"prediction": "nonsense"}, "no id that a predict call returned"),
    ],
)
def test_nobody_or_two_are_not_erased(whose: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Whose(**whose)


def test_the_command_needs_the_role_a_consent_and_a_reason_that_names_nobody(kept: Kept) -> None:
    with kept.ledger.begin() as connection:
        keys = {
            role: access.add_key(connection, name=role, roles={role}, actor="test", now=utc_now())
            for role in (Role.FEEDBACK, Role.OPERATE)
        }
    asked = ["--client", THEIRS, "--json", "--key"]
    refused = CliRunner().invoke(command, [*asked, keys[Role.FEEDBACK], "--reason", "asked", "--yes"])
    assert isinstance(refused.exception, NotAllowed)
    named = CliRunner().invoke(command, [*asked, keys[Role.OPERATE], "--reason", f"{THEIRS} asked", "--yes"])
    assert "names whom it is about" in str(named.exception)
    unsure = CliRunner().invoke(command, [*asked, keys[Role.OPERATE], "--reason", "asked"], input="n\n")
    assert unsure.exit_code == 1
    assert kept.files_with(SECRET) != []
    done = CliRunner().invoke(command, [*asked, keys[Role.OPERATE], "--reason", "asked", "--yes"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"]["predictions"] == 5
    assert not json.loads(done.stdout)["waiting"]
