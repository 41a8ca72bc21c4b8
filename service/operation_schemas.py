"""What the operation routes take and answer: the shapes and their examples. `service.views` makes the values."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from monitoring.core.ledger.approvals import Approval
from monitoring.core.ledger.audit import AuditEvent
from monitoring.core.types import Alert, RolloutPhase, Stage, TrainingJob, Verdict
from service.operation import MAX_REASON
from service.schemas import ERRORS, ErrorResponse, Shape

OPERATION_ERRORS = ERRORS | {
    409: {"model": ErrorResponse, "description": "The state has moved on, or does not allow this step."}
}
Why = Annotated[str, Field(min_length=1, max_length=MAX_REASON, description="for the audit trail")]
AN_ID = "019aaf0e-7c1e-7d3a-9a51-0c3f5d2b8e11"
A_TIME = "2026-01-05T12:00:00+00:00"
A_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

A_JOB = {
    "id": AN_ID,
    "model": "support",
    "cause": "manual",
    "state": "queued",
    "reason": "the new product line starts today",
    "request": {"onset_at": None, "alert": None},
    "result": {},
    "attempts": 0,
    "fence": 0,
    "created_at": A_TIME,
    "finished_at": None,
}


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [values]})


class ReasonRequest(Shape):
    """Why it is done."""

    reason: Why

    model_config = _example(reason="errors rose on mobile, looking into it")


class ApproveRequest(Shape):
    """An approval; with `bundle_hash` it is refused unless that is the bundle registered."""

    reason: Why
    bundle_hash: Annotated[str | None, Field(description="hash of the bundle that was reviewed")] = None

    model_config = _example(reason="better on the new topics, no slice lost", bundle_hash=A_HASH)


class ProposedClass(Shape):
    """A label that feedback used and the champion lacks."""

    label: str
    examples: int
    needed: int
    note: str


class ModelView(Shape):
    """Who serves, who stands by, what is under way."""

    name: str
    champion: str | None
    previous: str | None
    watch_until: datetime | None
    promoted_at: datetime | None
    rollout: str | None
    awaiting_approval: list[str]
    open_jobs: list[str]
    open_alerts: list[str]
    proposed_classes: list[ProposedClass]

    model_config = _example(
        name="support",
        champion="support@3",
        previous="support@2",
        watch_until=A_TIME,
        promoted_at=A_TIME,
        rollout=None,
        awaiting_approval=["support@4"],
        open_jobs=[],
        open_alerts=["drift"],
        proposed_classes=[
            {
                "label": "gift_card",
                "examples": 7,
                "needed": 20,
                "note": "7 of 20 examples: added by retraining from 20 examples on",
            }
        ],
    )


class Models(Shape):
    """All models, by name."""

    models: list[ModelView]


class VersionView(Shape):
    """One registered bundle, its stage, where it comes from and what it has shown."""

    id: str
    name: str
    model: str
    number: int
    stage: Stage
    bundle_hash: str
    labels: list[str]
    lineage: dict[str, Any]
    evidence: dict[str, Any]
    created_at: datetime
    approval: Annotated[Approval | None, Field(description="the newest decision")]
    measured_against: Annotated[str | None, Field(description="the champion that its gates compared it with")]
    outdated: Annotated[str | None, Field(description="why its evidence no longer holds: it cannot be approved")]

    model_config = _example(
        id=AN_ID,
        name="support@3",
        model="support",
        number=3,
        stage="awaiting_approval",
        bundle_hash=A_HASH,
        labels=["billing", "delivery"],
        lineage={"cause": "drift", "parent": AN_ID, "recipe": {"method": "lora"}, "seed": 1},
        evidence={
            "gates": [{"name": "old_holdout", "passed": True, "value": -0.004, "limit": -0.02, "reason": "…"}],
            "metrics": {"candidate": {"accuracy": 0.93}, "champion": {"accuracy": 0.81}},
            "parity": {"precision": "int8-mixed", "max_batch": 32, "agreement": 0.9975, "dependence": 0.0},
        },
        created_at=A_TIME,
        approval=None,
        measured_against="support@2",
        outdated=None,
    )


class Versions(Shape):
    """Newest first."""

    versions: list[VersionView]


class RolloutView(Shape):
    """A candidate's way to production. `analysis` holds the newest comparisons, candidate minus champion."""

    id: str
    model: str
    candidate: str
    candidate_name: str
    champion: str
    champion_name: str
    phase: RolloutPhase
    stage: Stage
    step: Annotated[int, Field(description="-1 in shadow, then 0, 1, …")]
    share: Annotated[float, Field(description="the candidate's share of the traffic")]
    salt: str
    fence: int
    reason: str
    analysis: dict[str, Any]
    started_at: datetime
    step_started_at: datetime
    ended_at: datetime | None

    model_config = _example(
        id=AN_ID,
        model="support",
        candidate=AN_ID,
        candidate_name="support@3",
        champion=AN_ID,
        champion_name="support@2",
        phase="running",
        stage="ab_test",
        step=1,
        share=0.25,
        salt="5be1f0a2c9d3e874",
        fence=41,
        reason="25% of the traffic: 31 candidate and 88 champion units labelled, 50 of each needed",
        analysis={"accuracy": {"difference": 0.11, "low": -0.03, "high": 0.25, "verdict": "inconclusive"}},
        started_at=A_TIME,
        step_started_at=A_TIME,
        ended_at=None,
    )


class Rollouts(Shape):
    """Newest first."""

    rollouts: list[RolloutView]


class Jobs(Shape):
    """Retrainings that were asked for, newest first."""

    jobs: list[TrainingJob]

    model_config = _example(jobs=[A_JOB])


class IntervalView(Shape):
    """A point with its bounds; null where nothing can be said."""

    value: float | None
    low: float | None
    high: float | None


class FindingView(Shape):
    """One signal of one window: how far it moved (`effect`), against the `leeway` tolerated, and how sure that is."""

    signal: str
    statistic: float | None
    p_value: float | None
    effect: float | None
    leeway: float | None
    significant: bool


class SliceView(Shape):
    """One declared slice against its own first traffic: which signal moved most, and what labels say of it."""

    slice: str
    n: int
    signal: str
    effect: float | None
    p_value: float | None
    leeway: float | None
    significant: bool
    harmful: bool
    note: str
    labelled: int
    accuracy: IntervalView | None
    accuracy_before: float | None
    lost: bool


class ReportView(Shape):
    """The verdict on one window of one version, with its evidence."""

    id: str
    model: str
    version: str
    version_name: str
    window_start: datetime
    window_end: datetime
    n: int
    verdict: Verdict
    reason: str
    effect: float | None
    findings: list[FindingView]
    estimated_accuracy: IntervalView
    estimate_trustworthy: bool
    estimate_note: str
    realised_accuracy: IntervalView | None
    labelled: int
    calibration: dict[str, float | None]
    moved: dict[str, Any]
    slices: list[SliceView]


class Reports(Shape):
    """Newest first."""

    reports: list[ReportView]


class Alerts(Shape):
    """Episodes, newest first; `resolved_at` is null while one lasts."""

    alerts: list[Alert]

    model_config = _example(
        alerts=[
            {
                "id": AN_ID,
                "model": "support",
                "name": "drift",
                "severity": "critical",
                "summary": "support@2: the traffic has changed, seen in similarity after 1841 predictions",
                "detail": {"detector": "sequential", "signal": "similarity", "n_seen": 1841},
                "started_at": A_TIME,
                "resolved_at": None,
            }
        ]
    )


class Trail(Shape):
    """Newest first. `first_broken_link`: the first event that was tampered with; null where none was, or not asked."""

    events: list[AuditEvent]
    first_broken_link: int | None

    model_config = _example(
        events=[
            {
                "sequence": 12,
                "at": A_TIME,
                "actor": "ada",
                "action": "stage:approved",
                "subject": "support@3",
                "reason": "better on the new topics, no slice lost",
                "detail": {"from": "awaiting_approval", "bundle_hash": A_HASH},
                "previous_hash": A_HASH,
                "hash": A_HASH,
            }
        ],
        first_broken_link=None,
    )
