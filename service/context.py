"""What the routes work with: one object per application, found at `app.state.context`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

if TYPE_CHECKING:
    from monitoring.core.ledger.database import Ledger
    from monitoring.core.registry import Registry
    from monitoring.core.settings import Settings
    from monitoring.core.types import Clock
    from service.auth import Keyring
    from service.inference import Inference
    from service.metrics import Metrics
    from service.serving import Serving


@dataclass(frozen=True)
class Context:
    """The parts of a running service that answer requests."""

    settings: Settings
    ledger: Ledger
    registry: Registry
    keyring: Keyring
    inference: Inference
    serving: Serving
    metrics: Metrics
    clock: Clock


def context_of(request: Request) -> Context:
    """The context of the application that this request has reached."""
    return cast(Context, request.app.state.context)


Here = Annotated[Context, Depends(context_of)]
