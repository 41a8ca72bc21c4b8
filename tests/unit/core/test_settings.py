"""Defaults, then the file, then the environment; whatever is wrong is said in one line that names the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring.core.errors import MisConfigured
from monitoring.core.settings import CONFIG_FILE, load_settings
from monitoring.core.variables import OTHERS

ROOT = Path(__file__).parents[3]


def write(home: Path, text: str) -> None:
    (home / CONFIG_FILE).write_text(text)


def test_without_a_file_everything_lives_in_the_home_folder(home: Path) -> None:
    settings = load_settings()
    assert settings.home == home
    assert settings.ledger_url == f"sqlite:///{home / 'ledger.db'}"
    assert settings.log_url == f"{home / 'storage'}/predictions"
    assert settings.spool_dir == home / "spool"
    assert settings.cache_dir == home / "cache"


def test_the_file_overrides_defaults_and_a_variable_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, "[monitor]\nwindow_size = 700\nleeway = 0.2\n[server]\nport = 0\n")
    monkeypatch.setenv("LEEWAY_MONITOR__WINDOW_SIZE", "900")
    monkeypatch.setenv("LEEWAY_ROLLOUT__STEPS", "[0.2, 0.4]")
    settings = load_settings()
    assert (settings.monitor.window_size, settings.monitor.leeway) == (900, 0.2)
    assert settings.server.port == 0
    assert settings.rollout.steps == (0.2, 0.4)


def test_what_the_caller_passes_wins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEEWAY_STORAGE_URL", "s3://theirs")
    assert load_settings(storage_url="memory://mine").store_url == "memory://mine"


def test_the_log_follows_the_storage_but_the_spool_stays_local(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEEWAY_STORAGE_URL", "s3://bucket/leeway/")
    settings = load_settings()
    assert settings.log_url == "s3://bucket/leeway/predictions"
    assert settings.spool_dir == home / "spool"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[monitor]\nwindw_size = 700\n", "monitor.windw_size"),
        ("[montor]\nwindow_size = 700\n", "montor"),
        ("[monitor]\nwindow_size = 3\n", "monitor.window_size"),
        ("[monitor]\nwindow_size = 'many'\n", "monitor.window_size"),
        ("[monitor]\nleeway = nan\n", "monitor.leeway"),
        ("monitor = 3\n", "monitor"),
        ("[server]\nport = 65536\n", "server.port"),
        ("[log]\ntext = 'sometimes'\n", "log.text"),
        ("[retrain]\nrecipe = 'magic'\n", "retrain.recipe"),
        ("[rollout]\nsteps = []\n", "rollout.steps"),
        ("[rollout]\nsteps = [0.5, 0.1]\n", "rollout.steps"),
        ("[rollout]\nsteps = [0.5, 1.0]\n", "rollout.steps"),
    ],
)
def test_a_bad_key_or_value_is_named_with_its_file(home: Path, text: str, field: str) -> None:
    write(home, text)
    with pytest.raises(MisConfigured, match=rf"{CONFIG_FILE}.*\b{field} ") as caught:
        load_settings()
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("text", "name", "nearest"),
    [
        ("[monitor]\nwindw_size = 700\n", "monitor.windw_size", "monitor.window_size"),
        ("[monitr]\nwindow_size = 700\n", "monitr", "monitor"),
        ("window_size = 700\n", "window_size", "monitor.window_size"),
        ("[server]\nwindow_size = 700\n", "server.window_size", "monitor.window_size"),
        ("databse_url = ''\n", "databse_url", "database_url"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest_right_one(home: Path, text: str, name: str, nearest: str) -> None:
    write(home, text)
    with pytest.raises(MisConfigured) as caught:
        load_settings()
    assert caught.value.message.endswith(f"{name} is no setting: did you mean {nearest}?")
    assert caught.value.field == name


def test_a_key_like_no_other_is_named_alone(home: Path) -> None:
    write(home, '"q\\nxz" = 1\n')
    with pytest.raises(MisConfigured, match="is not known: leave it out, or check how it is spelt"):
        load_settings()


@pytest.mark.parametrize(
    ("cron", "problem"),
    [
        ("every day", "is not a cron expression of five fields"),
        ("99 3 * * mon", "is not a cron expression of five fields"),
        ("0 3 * * 8", "is not a cron expression of five fields"),
        ("0 3 * * 5-1", "is not a cron expression of five fields (the weekdays 5-1 end before they begin)"),
        ("0 3 30 2 *", "is a time that never comes"),
    ],
)
def test_a_schedule_is_read_with_the_settings(home: Path, cron: str, problem: str) -> None:
    write(home, f'[retrain]\ncron = "{cron}"\n')
    with pytest.raises(MisConfigured) as caught:
        load_settings()
    assert f'retrain.cron is "{cron}": this {problem}' in caught.value.message
    assert "write five fields (minute hour day month weekday, UTC)" in caught.value.message
    assert caught.value.field == "retrain.cron"


def test_a_schedule_that_can_be_kept_is_taken_as_it_stands(home: Path) -> None:
    write(home, '[retrain]\ncron = "0 3 29 2 mon"\n')
    assert load_settings().retrain.cron == "0 3 29 2 mon"


def test_all_faults_are_told_at_once(home: Path) -> None:
    write(home, "[monitor]\nwindow_size = 3\n[server]\nport = -1\n")
    with pytest.raises(MisConfigured, match=r"server\.port.*monitor\.window_size"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LEEWAY_SERVER__PORT", "http", r"server\.port"),
        ("LEEWAY_SERVER__PORT", "", r"server\.port"),
        ("LEEWAY_MONITOR", "fast", "monitor.*JSON"),
        ("LEEWAY_ROLLOUT__STEPS", "a few", "rollout.*JSON"),
    ],
)
def test_a_bad_variable_is_named(home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(MisConfigured, match=told):
        load_settings()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("LEEWAY_MONITR__WINDOW_SIZE", "LEEWAY_MONITOR__WINDOW_SIZE"),
        ("LEEWAY_MONITOR__WINDWSIZE", "LEEWAY_MONITOR__WINDOW_SIZE"),
        ("LEEWAY_WINDOW_SIZE", "LEEWAY_MONITOR__WINDOW_SIZE"),
        ("LEEWAY_MONITOR_WINDOW_SIZE", "LEEWAY_MONITOR__WINDOW_SIZE"),
        ("LEEWAY_SERVER_PORT", "LEEWAY_SERVER__PORT"),
        ("LEEWAY_PORT", "LEEWAY_SERVER__PORT"),
        ("LEEWAY_SERVING__PORT", "LEEWAY_SERVER__PORT"),
        ("LEEWAY_RETRAIN__WINDOW_SIZE", "LEEWAY_MONITOR__WINDOW_SIZE"),
        ("LEEWAY_DATABSE_URL", "LEEWAY_DATABASE_URL"),
        ("LEEWAY_APIKEY", "LEEWAY_API_KEY"),
        ("leeway_monitr__window_size", "LEEWAY_MONITOR__WINDOW_SIZE"),
    ],
)
def test_a_misspelt_variable_is_named_with_the_nearest_right_one(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, "700")
    with pytest.raises(MisConfigured, match=rf"{name} is no setting: did you mean {nearest}\?") as caught:
        load_settings()
    assert caught.value.field == name


def test_a_variable_like_no_other_is_named_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEEWAY_QXZ", "1")
    with pytest.raises(MisConfigured, match="LEEWAY_QXZ is no setting: unset it"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "1") for name in sorted(OTHERS)),
        ("LEEWAY_SERVICE_HOST", "10.0.0.7"),
        ("LEEWAY_SERVICE_PORT_HTTP", "8080"),
        ("LEEWAY_PORT", "tcp://10.0.0.7:8080"),
        ("LEEWAY_MONITOR_PORT", "tcp://10.0.0.7:9108"),
        ("LEEWAY_MONITOR_PORT_9108_TCP_ADDR", "10.0.0.7"),
        ("leeway_monitor__window_size", "700"),
    ],
)
def test_variables_that_are_no_mistake_are_let_be(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    load_settings()


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_every_variable_that_is_no_setting_is_used_somewhere(name: str) -> None:
    readers = ["docker-compose.yml", "service/cli_common.py", "tests/conftest.py"]
    assert any(name in (ROOT / reader).read_text() for reader in readers)


@pytest.mark.parametrize("content", [b"[monitor\n", b"\xff\xfe[\0"], ids=["cut", "not UTF-8"])
def test_a_file_that_is_not_toml_is_named(home: Path, content: bytes) -> None:
    (home / CONFIG_FILE).write_bytes(content)
    with pytest.raises(MisConfigured, match=rf"{CONFIG_FILE} is not valid TOML"):
        load_settings()
