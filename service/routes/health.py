"""Is it alive, is it ready, and what does it count: open to every probe, without a key."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from service.context import Context, context_of

router = APIRouter(tags=["health"])


@router.get("/health", summary="What serves, and what is wrong")
async def health(request: Request) -> dict[str, Any]:
    """Always 200 while the process answers; `status` is ok, degraded or not_ready."""
    serving = context_of(request).serving
    problems = [*([serving.ledger_fault] if serving.ledger_fault else []), *serving.faults.values()]
    status = "not_ready" if not is_ready(context_of(request)) else "degraded" if problems else "ok"
    models = {
        model: [
            {"version": target.name, "variant": variant, "share": share} for target, variant, share in route.shares()
        ]
        for model, route in serving.table.routes.items()
    }
    return {"status": status, "models": models, "unserved": serving.table.unserved, "problems": problems}


@router.get("/v2/health/live", summary="The process answers")
async def live() -> dict[str, bool]:
    """Open Inference Protocol."""
    return {"live": True}


@router.get("/v2/health/ready", summary="What should serve can answer")
async def ready(request: Request) -> Response:
    """Open Inference Protocol; 503 while something that should serve does not."""
    is_so = is_ready(context_of(request))
    return Response(orjson.dumps({"ready": is_so}), 200 if is_so else 503, media_type="application/json")


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """The exposition format of Prometheus, or OpenMetrics where the scraper accepts it."""
    context = context_of(request)
    context.metrics.forget_ended({version.name for version in context.serving.loaded.values()}, now=context.clock())
    exposition, content_type = context.metrics.exposition(request.headers.get("accept", ""))
    return Response(exposition, media_type=content_type)


def is_ready(context: Context) -> bool:
    """Whether the ledger was ever read, and what it wants served is."""
    return context.serving.read_once and context.serving.table.ready
