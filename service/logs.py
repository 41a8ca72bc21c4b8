"""Log lines that people and machines read: one JSON object a line on standard error."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import orjson


class OneLine(logging.Formatter):
    """Time, level, logger and message; a stack trace stays in its line as `trace`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send what this process logs to standard error; libraries only from warnings on."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for package in ("service", "monitoring"):
        logging.getLogger(package).setLevel(level)
