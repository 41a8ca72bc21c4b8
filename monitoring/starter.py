"""What `leeway init` writes: every setting with its default and meaning, commented out."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import PydanticUndefined

from monitoring.core.settings import Section, Settings

HEADER = """\
# Leeway's settings. Everything below is commented out and shows the default; a variable such as
# LEEWAY_MONITOR__WINDOW_SIZE=1000 overrides what is set here.

# database_url = "postgresql+psycopg://USER@HOST/DATABASE"  # default: ledger.db in this folder
# storage_url = "s3://BUCKET/PREFIX"  # default: storage/ in this folder
"""
EXAMPLES = {
    "grpc_port": 9000,
    "label_volume": 1000,
    "cron": "0 3 * * mon",
    "webhook_url": "https://example.org/hook",
    "notify_file": "/run/secrets/notifiers",
}


def starter_config() -> str:
    """The text of a new leeway.toml."""
    parts = [HEADER]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            parts.append(f"[{name}]\n" + "".join(_line(key, section) for key in section.model_fields))
    return "\n".join(parts)


def _line(name: str, section: type[Section]) -> str:
    field = section.model_fields[name]
    default = field.get_default(call_default_factory=True, validated_data={})
    unset = default is None or default is PydanticUndefined
    value = _toml(EXAMPLES[name] if unset else default)
    notes = [note for note in (field.description, "not set by default" if unset else None) if note]
    return f"# {name} = {value}" + (f"  # {'; '.join(notes)}" if notes else "") + "\n"


def _toml(value: Any) -> str:
    """A plain value in TOML, which writes these as JSON does."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)
