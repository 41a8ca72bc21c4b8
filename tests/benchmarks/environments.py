"""Environments of others' software, so that it runs as its makers ship it, beside ours and without touching it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path


def install(requirements: Path, home: Path) -> Path:
    """The Python of the environment `home`, which is made anew where its requirements have changed.

    The requirements name every package at one version, so that nothing is resolved: pip, left alone, falls back to
    ancient versions without a word. Raises OSError, CalledProcessError.
    """
    stamp = home / "installed"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    python = home / "bin" / "python"
    if stamp.exists() and stamp.read_text() == digest:
        return python
    print(f"installing {requirements.stem} in {home} ...", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile", "--no-deps"]
    for command in ([sys.executable, "-m", "venv", str(home)], [*pip, "--requirement", str(requirements)]):
        subprocess.run(command, check=True, capture_output=True, text=True)
    stamp.write_text(digest)
    return python


def why(error: BaseException) -> str:
    """The last line that says something."""
    output = getattr(error, "stderr", None) or getattr(error, "output", None) or ""
    text = output.decode() if isinstance(output, bytes) else str(output)
    lines = [line.strip() for line in text.splitlines() if line.strip() and "WARNING" not in line]
    return (lines[-1] if lines else str(error))[:200]
