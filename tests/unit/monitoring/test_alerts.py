from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.alerts import OutboxSender
from monitoring.core.errors import MisConfigured
from monitoring.core.ledger.database import Ledger
from monitoring.core.settings import AlertSettings
from monitoring.deliveries import LONGEST_PAUSE, pause_after
from tests.conftest import FrozenClock


@given(st.integers(1, 10**6))
def test_pauses_grow_and_stay_bounded(attempts: int) -> None:
    assert timedelta(0) < pause_after(attempts) <= pause_after(attempts + 1) <= LONGEST_PAUSE


@pytest.mark.parametrize("url", ["hooks.example.org/x", "ftp://example.org", "http://", "http://host:port"])
def test_an_address_that_cannot_be_posted_to_is_refused_at_start(url: str, clock: FrozenClock) -> None:
    with pytest.raises(MisConfigured) as raised:
        OutboxSender(Ledger.open("sqlite://"), AlertSettings(webhook_url=url), clock)
    assert raised.value.field == "alerts.webhook_url"
