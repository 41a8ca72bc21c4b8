"""A monitor that ships without end: `python shipper_child.py SPOOL LOG`; says `ready` when it begins."""

from __future__ import annotations

import sys
from pathlib import Path

from monitoring.core.prediction_log import PredictionLog


def main(root: Path, url: str) -> None:
    """Run until killed."""
    log = PredictionLog(url)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        log.ship(root)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
