"""Controllers that promote and roll back without end: `python ledger_child.py URL`; says `ready` when it begins."""

from __future__ import annotations

import sys
from itertools import count

from monitoring.core.ledger import rollouts
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import utc_now
from tests.contract.people import MODEL, champion, in_shadow, promote


def main(url: str) -> None:
    """Run until killed; each round is several transactions, so that it can die between and within them."""
    ledger = Ledger.open(url)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    with ledger.begin() as connection:
        under_way = rollouts.open_rollout(connection, MODEL)
        if under_way is not None:
            rollouts.abort(connection, under_way, actor="ada", reason="its controller died", now=utc_now())
    for number in count():
        now = utc_now()
        with ledger.begin() as connection:
            rollout = in_shadow(connection, now=now)
        with ledger.begin() as connection:
            rollout = rollouts.advance(connection, rollout, step=0, share=0.1, reason="no harm", now=now)
        with ledger.begin() as connection:
            if number % 3:
                promote(connection, rollout, now=now)
            else:
                rollouts.abort(connection, rollout, actor="ada", reason="worse", now=now)
        with ledger.begin() as connection:
            if number % 3 == 1:
                rollouts.restore_previous(connection, MODEL, actor="ada", reason="complaints", now=now)


def begin(url: str) -> None:
    """A ledger with a champion."""
    ledger = Ledger.open(url)
    ledger.upgrade()
    with ledger.begin() as connection:
        champion(connection)
    ledger.close()


if __name__ == "__main__":
    main(sys.argv[1])
