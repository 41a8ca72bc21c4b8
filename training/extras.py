"""What must hold before the training libraries are imported: they are there, and know how many cores are theirs."""

from __future__ import annotations

import os
from importlib.util import find_spec

from monitoring.core.cores import usable_cores
from monitoring.core.errors import MisConfigured

NEEDED = ("torch", "transformers", "peft", "safetensors", "onnx", "onnxscript")
THREADS = "OMP_NUM_THREADS"


def require_training() -> None:
    """Raise MisConfigured, with the cure, where the extra `train` is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise MisConfigured(f"training needs {', '.join(missing)}: pip install 'leeway[train]'")


def use_half_of_the_cores() -> None:
    """Leave the other half to serving, unless the environment says otherwise.

    The threads of one operation wait for the slowest: where a core is busy, two threads were measured to take ten times
    as long as one. numpy and torch read the variable as they are imported.
    """
    os.environ.setdefault(THREADS, str(max(1, usable_cores() // 2)))
