"""What long work says while it is under way."""

from __future__ import annotations

import subprocess
import sys

SPEAK = """
import logging
from training.progress import log_own_steps
log_own_steps()
logging.getLogger("alembic.runtime.migration").info("Context impl SQLiteImpl.")
logging.getLogger("alembic.runtime.migration").warning("a warning")
logging.getLogger("training").info("a job is claimed")
"""


def test_a_worker_logs_its_own_steps_and_of_others_only_warnings() -> None:
    said = subprocess.run([sys.executable, "-c", SPEAK], capture_output=True, text=True, check=True, timeout=60).stderr
    assert said.splitlines() == ["WARNING alembic.runtime.migration: a warning", "INFO training: a job is claimed"]
