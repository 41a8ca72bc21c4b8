"""Every error that Leeway raises on purpose.

    LeewayError
    ├── InvalidInput         the caller sent something that cannot be used
    │   ├── TooLarge         … because it is over a limit
    │   └── BrokenBundle     a model bundle is incomplete, altered or of another format
    ├── NotFound             no such model, version, rollout, job or prediction
    ├── Conflict             the state has moved on, or does not allow this step
    ├── NotAuthenticated     no valid key or session
    ├── NotAllowed           the key lacks the role
    ├── Overloaded           the queue is full; try again after `retry_after` seconds
    ├── NotReady             the model is still warming, or has no production version
    ├── DeadlineExceeded     no answer within the request's deadline
    └── MisConfigured        a setting, file or missing extra keeps Leeway from starting

A message names the field, what is wrong with its value, and the cure. `code` is stable and machine-readable;
what it means over HTTP is decided in one place, `service/routes/errors.py`.
"""

from __future__ import annotations


class LeewayError(Exception):
    """Base of all; `field` names the offending input where there is one."""

    code = "error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidInput(LeewayError):
    """The caller sent something that cannot be used."""

    code = "invalid_input"


class TooLarge(InvalidInput):
    """The input is over a limit."""

    code = "too_large"


class BrokenBundle(InvalidInput):
    """A model bundle is incomplete, altered or of another format."""

    code = "broken_bundle"


class NotFound(LeewayError):
    """No such model, version, rollout, job or prediction."""

    code = "not_found"


class Conflict(LeewayError):
    """The state has moved on, or does not allow this step."""

    code = "conflict"


class NotAuthenticated(LeewayError):
    """No valid key or session."""

    code = "not_authenticated"


class NotAllowed(LeewayError):
    """The key lacks the role."""

    code = "not_allowed"


class Overloaded(LeewayError):
    """The queue is full; try again after `retry_after` seconds."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotReady(LeewayError):
    """The model is still warming, or has no production version."""

    code = "not_ready"


class DeadlineExceeded(LeewayError):
    """No answer within the request's deadline."""

    code = "deadline_exceeded"


class MisConfigured(LeewayError):
    """A setting, a file or a missing extra keeps Leeway from starting."""

    code = "misconfigured"
