"""Receivers from the settings: clear errors, and no address in any of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from pydantic import SecretStr

from monitoring.core.errors import MisConfigured
from monitoring.core.settings import AlertSettings, load_settings
from monitoring.receivers import receivers_of

SECRET = "TIiajkdnlazkcOXrIdevi7FQ"
SLACK = f"slack://T1JJ3T3L2/A1BRTD4JD/{SECRET}/#alerts"


def test_a_receiver_is_known_by_its_kind_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "notifiers").write_text(f"# the team's channel\n\n{SLACK}\n")
    settings = AlertSettings(
        notify=(SecretStr("mailtos://u:p@example.org?to=a@b.org"),), notify_file=tmp_path / "notifiers"
    )
    names = [receiver.name for receiver in receivers_of(settings)]
    assert [name.split()[0] for name in names] == ["E-Mail", "Slack"]
    assert names == [receiver.name for receiver in receivers_of(settings)]  # as stable as the account of it has to be
    assert SECRET not in repr(settings)


def test_without_any_the_log_is_told() -> None:
    assert [receiver.name for receiver in receivers_of(AlertSettings())] == ["log"]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (f"slak://T1JJ3T3L2/A1BRTD4JD/{SECRET}", "address 1 (slak://…) is none that Apprise understands"),
        (f"pagerduty://A/{SECRET}", "address 1 (pagerduty://…) is none that Apprise understands"),
        (SECRET, "address 1 (something without scheme://) is none that Apprise understands"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused_and_not_told(
    address: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(MisConfigured) as raised:
        receivers_of(AlertSettings(notify=(SecretStr(address),)))
    assert told in raised.value.message
    assert SECRET not in raised.value.message + caplog.text


def test_the_same_receiver_twice_is_refused() -> None:
    with pytest.raises(MisConfigured, match="twice"):
        receivers_of(AlertSettings(notify=(SecretStr(SLACK), SecretStr(SLACK))))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisConfigured) as raised:
        receivers_of(AlertSettings(notify_file=tmp_path / "nothing"))
    assert raised.value.field == "alerts.notify_file"


def test_a_variable_holds_a_list(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEEWAY_ALERTS__NOTIFY", f'["{SLACK}"]')
    assert [secret.get_secret_value() for secret in load_settings().alerts.notify] == [SLACK]


@pytest.mark.parametrize("text", [f'notify = "{SLACK}"', f'notify = ["{SLACK}"]'])
def test_the_file_holds_one_address_or_a_list(home: Path, text: str) -> None:
    (home / "leeway.toml").write_text(f"[alerts]\n{text}\n", encoding="utf-8")
    assert [secret.get_secret_value() for secret in load_settings().alerts.notify] == [SLACK]


def test_what_is_no_text_is_refused_without_being_told(home: Path) -> None:
    (home / "leeway.toml").write_text(f'[alerts]\nnotify = [{{url = "{SLACK}"}}]\n', encoding="utf-8")
    with pytest.raises(MisConfigured) as raised:
        load_settings()
    assert SECRET not in raised.value.message
