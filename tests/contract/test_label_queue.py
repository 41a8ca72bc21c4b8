"""The kept label queue: one for each model, in order, without what is answered."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from monitoring.core.ledger import label_queue
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import LabelSource
from tests.contract.people import NOON
from tests.contract.test_labels import MINUTE, prediction, say


def entry(number: int, source: LabelSource = LabelSource.REVIEW) -> dict[str, Any]:
    at = NOON + number * MINUTE
    return {
        "prediction_id": prediction(number),
        "source": source.value,
        "at": at.isoformat(),
        "text": "“ciao” \u2028 ok",
    }


def waiting(ledger: Ledger, model: str = "support", *, version: str = "v1", since: datetime = NOON) -> list[Any]:
    with ledger.read() as connection:
        return label_queue.waiting(connection, model=model, version=version, since=since)


def test_a_queue_replaces_the_models_last_one_and_no_others(ledger: Ledger) -> None:
    entries = [entry(2), entry(0), entry(1)]
    for model, kept, now in (("support", [entry(7)], NOON), ("sales", [entry(0)], NOON), ("support", entries, NOON)):
        with ledger.begin() as connection:
            label_queue.keep(connection, model=model, version="v1", entries=kept, now=now)
    assert waiting(ledger) == entries
    assert waiting(ledger, "sales") == [entry(0)]
    assert waiting(ledger, version="v2") == []
    assert waiting(ledger, since=NOON + MINUTE) == [entry(2), entry(1)]
    with ledger.begin() as connection:
        assert label_queue.drawn_at(connection, "support") == NOON
        assert label_queue.drawn_at(connection, "nonesuch") is None
        label_queue.forget(connection, before=NOON + 2 * MINUTE)
    assert waiting(ledger) == [entry(2)]
    with ledger.begin() as connection:
        label_queue.keep(connection, model="support", version="v1", entries=[], now=NOON)
    assert waiting(ledger) == []


def test_only_a_blind_label_answers_what_was_drawn_at_random(ledger: Ledger) -> None:
    entries = [entry(0, LabelSource.RANDOM_SAMPLE), entry(1)]
    with ledger.begin() as connection:
        label_queue.keep(connection, model="support", version="v1", entries=entries, now=NOON)
        for number in (0, 1):
            complaint = {"prediction_id": prediction(number), "source": LabelSource.COMPLAINT}
            say(connection, **complaint, now=NOON + timedelta(hours=1))
    assert waiting(ledger) == [entries[0]]
    with ledger.begin() as connection:
        say(connection, source=LabelSource.RANDOM_SAMPLE, sampling_probability=0.1)
    assert waiting(ledger) == []
