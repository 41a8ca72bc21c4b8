"""The domain vocabulary: the words that every part of Leeway uses for the same things."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock, for composition roots; everything below them is handed a clock."""
    return datetime.now(UTC)


class Stage(StrEnum):
    """Where a model version stands between training and retirement."""

    CANDIDATE = "candidate"
    AWAITING_APPROVAL = "awaiting_approval"
    APPROVED = "approved"
    SHADOW = "shadow"
    AB_TEST = "ab_test"
    PRODUCTION = "production"
    ARCHIVED = "archived"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"


class RolloutPhase(StrEnum):
    """How a rollout itself is doing, after Argo Rollouts' phases."""

    PENDING = "pending"
    RUNNING = "running"
    INCONCLUSIVE = "inconclusive"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    ERROR = "error"


class JobState(StrEnum):
    """State of a training job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RetrainCause(StrEnum):
    """Why a training job was asked for; at most one open job per model and cause.

    CALIBRATION asks for another temperature alone; every other cause for a retraining.
    """

    DRIFT = "drift"
    SCHEDULE = "schedule"
    LABEL_VOLUME = "label_volume"
    CALIBRATION = "calibration"
    MANUAL = "manual"


class LabelSource(StrEnum):
    """Where a label came from; only the outcome-blind ones may judge a model."""

    GROUND_TRUTH = "ground_truth"
    RANDOM_SAMPLE = "random_sample"
    REVIEW = "review"
    COMPLAINT = "complaint"

    @property
    def outcome_blind(self) -> bool:
        """Whether rows of this source were chosen without looking at what the model answered."""
        return self in (LabelSource.GROUND_TRUTH, LabelSource.RANDOM_SAMPLE)


class Variant(StrEnum):
    """The part a version played in answering one request."""

    PRODUCTION = "production"
    CANDIDATE = "candidate"
    SHADOW = "shadow"


class Verdict(StrEnum):
    """What a window, read against its baseline, is judged to be."""

    STABLE = "stable"
    NOTICE = "notice"
    DRIFT = "drift"
    INCONCLUSIVE = "inconclusive"


class Severity(StrEnum):
    """How loudly an alert asks for a person."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Role(StrEnum):
    """What an API key may do."""

    PREDICT = "predict"
    FEEDBACK = "feedback"
    OPERATE = "operate"
    APPROVE = "approve"


@dataclass(frozen=True)
class Interval:
    """A point with its bounds; nan where nothing can be said."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Principal:
    """Who is acting: the person or service that an API key was made for."""

    name: str
    roles: frozenset[Role]


@dataclass(frozen=True)
class ModelVersion:
    """One registered bundle and its stage."""

    id: str
    model: str
    number: int
    stage: Stage
    bundle_uri: str
    bundle_hash: str
    labels: tuple[str, ...]
    lineage: Mapping[str, Any]
    evidence: Mapping[str, Any]
    created_at: datetime

    @property
    def name(self) -> str:
        """How people write it: `support@3`."""
        return f"{self.model}@{self.number}"


@dataclass(frozen=True)
class ModelState:
    """Which versions of a model serve now, and which one stands by for a rollback."""

    model: str
    production: str | None
    previous: str | None
    watch_until: datetime | None
    promoted_at: datetime | None


@dataclass(frozen=True)
class Rollout:
    """One candidate's way to production. `stage` is SHADOW (step -1) or AB_TEST (step 0, 1, …).

    `fence` grows by one with every transition: a controller that acts on an old reading is refused.
    """

    id: str
    model: str
    candidate: str
    champion: str
    phase: RolloutPhase
    stage: Stage
    step: int
    share: float
    salt: str
    fence: int
    reason: str
    analysis: Mapping[str, Any]
    started_at: datetime
    step_started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class TrainingJob:
    """A request to retrain, as a worker claims it."""

    id: str
    model: str
    cause: RetrainCause
    state: JobState
    reason: str
    request: Mapping[str, Any]
    result: Mapping[str, Any]
    attempts: int
    fence: int
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class Feedback:
    """What somebody said about one prediction. `sampling_probability` is the recorded chance of being asked."""

    id: str
    prediction_id: str
    source: LabelSource
    label: str | None
    rating: float | None
    sampling_probability: float
    received_at: datetime
    author: str


@dataclass(frozen=True)
class Outcome:
    """A prediction joined with its label: the unit of every judgement that needs labels.

    `unit` is the hashed assignment key; `variant` says which part the version played; `slices`: the declared slices
    that it belongs to, as in `channel=chat`.
    """

    prediction_id: str
    model: str
    version: str
    variant: Variant
    rollout: str | None
    step: int
    unit: str
    predicted: str
    label: str
    confidence: float
    source: LabelSource
    sampling_probability: float
    predicted_at: datetime
    labelled_at: datetime
    slices: tuple[str, ...] = ()

    @property
    def correct(self) -> bool:
        """A label that the version does not know counts as wrong."""
        return self.predicted == self.label


@dataclass(frozen=True)
class SignalFinding:
    """One signal of one window: how far it moved, and how sure that is."""

    signal: str
    statistic: float
    p_value: float
    effect: float
    leeway: float
    significant: bool


@dataclass(frozen=True)
class SliceFinding:
    """One declared slice, against its own first traffic: did it move, did it lose accuracy?

    Of its `n` rows `signal` moved most surely, by `effect`; `significant` at the level of the whole window, and
    `harmful` where it moved beyond the leeway and its estimated or labelled accuracy fell by more than is tolerated, or
    where that cannot be told. While there is too little to compare, `signal` is "". By `labelled` units its accuracy is
    `accuracy`, None without labels, and was `accuracy_before`; `lost`: labels prove the loss.
    """

    slice: str
    n: int
    signal: str
    effect: float
    p_value: float
    leeway: float
    significant: bool
    harmful: bool
    note: str
    labelled: int
    accuracy: Interval | None
    accuracy_before: float | None
    lost: bool


@dataclass(frozen=True)
class DriftReport:
    """The verdict on one window of one version, with its evidence. Pure data: no plots, no models."""

    model: str
    version: str
    window_start: datetime
    window_end: datetime
    n: int
    verdict: Verdict
    reason: str
    effect: float
    findings: tuple[SignalFinding, ...]
    estimated_accuracy: Interval
    estimate_trustworthy: bool
    estimate_note: str
    realised_accuracy: Interval | None
    labelled: int
    calibration: Mapping[str, float]
    moved: Mapping[str, Any] = field(default_factory=dict)
    slices: tuple[SliceFinding, ...] = ()


@dataclass(frozen=True)
class Alert:
    """One episode of one condition of one model, from its first firing to its resolution."""

    id: str
    model: str
    name: str
    severity: Severity
    summary: str
    detail: Mapping[str, Any]
    started_at: datetime
    resolved_at: datetime | None
