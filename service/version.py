"""The version of the installed program."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def program_version() -> str:
    """As packaged; `0` for a source tree that was never installed."""
    try:
        return version("leeway")
    except PackageNotFoundError:
        return "0"
