"""Bad input, over real HTTP and the real command line: one clear line with the cure, and never a stack trace."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitoring.core.cli import open_ledger, open_registry
from monitoring.core.ledger import access
from monitoring.core.settings import load_settings
from monitoring.core.types import Role as Permission
from monitoring.core.types import utc_now
from tests.approving import approve
from tests.bundles import make_bundle
from tests.e2e.conftest import Start
from tests.e2e.processes import Role, leeway

pytestmark = pytest.mark.slow

PREDICT = "/v1/models/support/predict"
TEXT = {"inputs": ["where is my parcel"]}
NOT_A_PREDICTION = "019aaf0e-7c1e-4d3a-9a51-0c3f5d2b8e11"  # a UUID, but not of the kind that carries its time
GROUND_TRUTH = {"label": "billing", "source": "ground_truth"}


@dataclass(frozen=True)
class Running:
    """A server with the model `support`, the broken one `cracked`, and a key of each kind."""

    home: Path
    server: Role
    http: httpx.Client
    keys: dict[str, str]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LEEWAY_HOME", str(home))
        keys = furnish(home, tmp_path_factory.mktemp("bundles"))
        server = Role("serve", "--port", "0", "--threads", "1")
        found = re.search(r"http://[\d.:]+", server.until("listening on"))
        assert found is not None
        with httpx.Client(base_url=found[0], timeout=60) as http:
            yield Running(home, server, http, keys)
        server.clean_up()


def furnish(home: Path, bundles: Path) -> dict[str, str]:
    """Two models in production, one of whose files is then altered; two keys."""
    (home / "leeway.toml").write_text("[monitor]\nport = 0\ninterval_seconds = 0.5\n")
    settings = load_settings()
    ledger = open_ledger(settings, create=True)
    registry = open_registry(settings, ledger)
    for model in ("support", "cracked"):
        bundle = make_bundle(bundles / model, model=model)
        version = registry.add(bundle, evidence={}, actor="test", gates_passed=True)
        approve(ledger, version.name)
    stored = home / "storage" / version.bundle_uri / bundle.config.model_file
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(content)
    with ledger.begin() as connection:
        roles = {"all": [*Permission], "predictor": [Permission.PREDICT]}
        keys = {
            name: access.add_key(connection, name=name, roles=granted, actor="test", now=utc_now())
            for name, granted in roles.items()
        }
    ledger.close()
    return keys | {"wrong": "lw_nobody"}


@pytest.mark.parametrize(
    ("path", "key", "body", "status", "field", "words"),
    [
        ("/v1/models/suport/predict", "all", TEXT, 404, "model", "'suport' does not exist (known: cracked, support)"),
        (PREDICT, "all", {"inputs": ["fine", "  "]}, 422, "inputs[1]", "is empty: send a text"),
        (PREDICT, "all", {"inputs": ["x" * 1_000_000]}, 413, "inputs[0]", "1000000 bytes in UTF-8; at most 32768"),
        (PREDICT, "all", {"inputs": ["x" * 3_000_000]}, 413, None, "larger than the limit of 2097152 bytes"),
        (PREDICT, "all", {"inputs": []}, 422, "inputs", "at least 1"),
        (PREDICT, "all", {"inputs": "one"}, 422, "inputs", "list"),
        (PREDICT, "all", {"texts": ["one"]}, 422, "inputs", "required"),
        (PREDICT, "all", b'{"inputs": ["one"', 400, None, "not valid JSON"),
        (PREDICT, "all", b"", 422, None, "the body is missing"),
        (PREDICT, None, TEXT, 401, None, "API key"),
        (PREDICT, "wrong", TEXT, 401, None, "not known here, or was revoked"),
        ("/v1/feedback", "predictor", {}, 403, None, "feedback"),
        ("/v1/models/cracked/predict", "all", TEXT, 503, "model", "model.fp32.onnx was altered or cut"),
        (
            "/v1/feedback",
            "all",
            {"prediction_id": NOT_A_PREDICTION} | GROUND_TRUTH,
            422,
            "prediction_id",
            "not one that a predict call returned",
        ),
        ("/v1/feedback", "all", {"prediction_id": "?"} | GROUND_TRUTH, 422, "prediction_id", "not one that a predict"),
        ("/v1/versions/support@9/approve", "all", {"reason": "good"}, 404, "version", "'support@9' does not exist"),
        ("/v1/versions/support@1/approve", "all", {"reason": " "}, 422, "reason", "say in a few words why"),
        ("/v1/versions/support@1/approve", "all", {"reason": "again"}, 409, None, "support@1"),
        ("/v1/models/support/rollback", "all", {"reason": "no"}, 409, None, "no previous version to go back to"),
        ("/v1/nothing", "all", {}, 404, None, "there is nothing at /v1/nothing"),
    ],
)
def test_http_says_what_is_wrong(
    running: Running, path: str, key: str | None, body: Any, status: int, field: str | None, words: str
) -> None:
    headers = {"content-type": "application/json"}
    if key is not None:
        headers["authorization"] = f"Bearer {running.keys[key]}"
    given = {"content": body} if isinstance(body, bytes) else {"json": body}
    response = running.http.post(path, headers=headers, **given)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["field"] == field
    assert words in error["message"]
    assert "\n" not in error["message"]


def test_after_all_that_it_answers_as_ever_and_its_log_holds_no_stack_trace(running: Running) -> None:
    response = running.http.post(PREDICT, json=TEXT, headers={"authorization": f"Bearer {running.keys['all']}"})
    assert response.json()["predictions"][0]["label"] == "delivery"
    running.server.until("cracked@1 (production) CANNOT BE LOADED, the others serve on")
    assert "Traceback" not in "".join(running.server.said)


def test_the_monitor_names_a_broken_bundle_and_watches_the_others(running: Running, role: Start) -> None:
    monitor = role("monitor")
    monitor.until("model.fp32.onnx was altered or cut")
    assert monitor.stop() == 0
    assert "Traceback" not in "".join(monitor.said)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "suport", "--out", "r.html"], "model 'suport' does not exist (known: cracked, support)"),
        (["approve", "support@9", "--reason", "good", "--key", "KEY"], "version 'support@9' does not exist"),
        (["approve", "support@1", "--reason", "", "--key", "KEY"], "reason is empty"),
        (["approve", "support@1", "--reason", "good"], "no API key: set LEEWAY_API_KEY or pass --key"),
        (["approve", "support@1", "--reason", "good", "--key", "lw_nobody"], "not known"),
        (["retrain", "suport", "--reason", "good", "--key", "KEY"], "model 'suport' does not exist"),
        (["rollback", "support", "--reason", "good", "--key", "KEY"], "no previous version to go back to"),
        (["keys", "add", "all", "--role", "predict"], "all"),
        (["init"], "is set up already; make further keys with `leeway keys add`"),
    ],
    ids=" ".join,
)
def test_a_command_says_what_is_wrong(running: Running, arguments: Sequence[str], words: str) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LEEWAY_HOME", str(running.home))
        assert_refused([running.keys["all"] if word == "KEY" else word for word in arguments], words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.csv", b"body,topic\na,b\n", "has no column 'text'; it has: body, topic"),
        ("rows.xlsx", b"", "unknown kind of file; give one of .csv, .jsonl"),
        ("rows.csv", None, "does not exist"),
        ("rows.csv", b"", "cannot be read as csv"),
        ("rows.csv", b"text,label\n", "holds no rows"),
        ("rows.csv", b"text,label\n\xff\xfe,a\n\xff,b\n", "rows.csv"),
        ("rows.csv", b"text,label\nhello,a\nbye,a\n", "holds 1 classes; a classifier needs two"),
        ("rows.csv", b"text,label\nhello,a\n,b\n", "row 2: text is empty; fill it in or leave the row out"),
        ("rows.parquet", b"PAR1", "cannot be read as parquet"),
    ],
    ids=["wrong columns", "unknown kind", "absent", "empty", "no rows", "not text", "one class", "gap", "cut"],
)
def test_training_says_what_is_wrong_with_the_file(
    home: Path, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert_refused(["train", "--data", str(tmp_path / name), "--json"], words)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (b"[monitor]\nwindow_size = 10\n", "monitor.window_size"),
        (b"[monitor]\nwindowsize = 500\n", "monitor.windowsize"),
        (b"[watching]\n", "watching"),
        (b"[monitor\n", "is not valid TOML"),
        (b"[monitor]\nwindow_size = \xff\n", "leeway.toml"),
        (b'[retrain]\ncron = "every day"\n[monitor]\nport = 0\n', "is not a cron expression of five fields"),
        (b'database_url = "nonsense"\n', "is not a database URL"),
    ],
    ids=["out of range", "misspelt", "unknown table", "not TOML", "not UTF-8", "cron", "database"],
)
def test_a_bad_configuration_is_one_line(home: Path, config: bytes, words: str) -> None:
    (home / "leeway.toml").write_bytes(config)
    assert_refused(["monitor"], words)


def test_a_ledger_that_is_no_database_is_one_line(home: Path) -> None:
    (home / "ledger.db").write_bytes(b"this is not a database" * 100)
    assert_refused(["status"], "the ledger cannot be opened")


def assert_refused(arguments: Sequence[str], words: str) -> None:
    """Exit code 1 and one line that begins with `error:` and holds `words`."""
    ended = leeway(*arguments)
    said = ended.stdout + ended.stderr
    assert "Traceback" not in said, said
    assert ended.returncode == 1, said
    (line,) = said.splitlines()
    assert line.startswith("error: ")
    assert words in line
