"""A version made ready to answer: its bundle loaded, checked against its registration, and warmed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from monitoring.core.bundle import Bundle
from monitoring.core.errors import BrokenBundle
from monitoring.core.runtime import ClassifierRuntime, Encoded
from monitoring.core.types import ModelVersion

RuntimeFactory = Callable[[Bundle], ClassifierRuntime]
WARM_UP = "a first text, so that the first caller does not wait for memory and kernels to be prepared"


@dataclass(frozen=True, eq=False)
class LoadedVersion:
    """A version in memory. Its runtime is shared by all inference threads; it lives while anything refers to it.

    A model call takes at most `max_batch` texts and, unless one alone has more, `max_batch_tokens` with the padding.
    """

    version: ModelVersion
    runtime: ClassifierRuntime
    max_batch: int
    max_batch_tokens: int

    @property
    def id(self) -> str:
        """The version's id."""
        return self.version.id

    @property
    def name(self) -> str:
        """As people write it: `support@3`."""
        return self.version.name

    @property
    def labels(self) -> tuple[str, ...]:
        """Its classes, in the order of its outputs."""
        return self.runtime.config.labels

    def batch_of(self, longest: int) -> int:
        """How many texts of at most `longest` tokens go into one model call."""
        return min(self.max_batch, max(1, self.max_batch_tokens // longest))


def load_version(
    version: ModelVersion,
    bundle: Bundle,
    *,
    max_batch: int,
    max_batch_tokens: int,
    runtime: RuntimeFactory = ClassifierRuntime,
) -> LoadedVersion:
    """Load and warm. Raises BrokenBundle if the bundle is of another model, or does not answer as it says it would."""
    config = bundle.config
    if config.model != version.model or config.labels != version.labels:
        raise BrokenBundle(f"{version.name}: the bundle is of {config.model!r} with other labels than registered")
    loaded = LoadedVersion(version, runtime(bundle), min(max_batch, config.max_batch), max_batch_tokens)
    _warm(loaded)
    return loaded


def _warm(loaded: LoadedVersion) -> None:
    """Answer a short and a longest text, alone and as a full batch: whatever comes later needs no more memory."""
    limit = loaded.runtime.config.max_tokens
    try:
        ids = loaded.runtime.encode([WARM_UP])[0].ids
        for length in (len(ids), limit):
            text = Encoded((ids * limit)[:length])
            for size in {1, loaded.batch_of(length)}:
                answer = loaded.runtime.run([text] * size)
    except Exception as error:  # ONNX Runtime and numpy raise what they like
        raise BrokenBundle(f"{loaded.name} loads but does not answer: {error}") from error
    if answer.probabilities.shape[1] != len(loaded.labels) or not np.isfinite(answer.probabilities).all():
        raise BrokenBundle(
            f"{loaded.name} answers with {answer.probabilities.shape[1]} numbers, some perhaps not finite; "
            f"it should give {len(loaded.labels)}, one a label"
        )
