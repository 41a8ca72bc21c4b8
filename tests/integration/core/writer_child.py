"""A server that answers without end: `python writer_child.py SPOOL`; prints each row's number once it is answered."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from tests.integration.core.prediction_rows import open_writer, row


def main(root: Path) -> None:
    """Run until killed."""
    spool = open_writer(root, segment_bytes=20_000)
    for number in count():
        assert spool.append([row(number)])
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
