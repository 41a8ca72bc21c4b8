"""Feedback as it arrives, and outcomes: feedback joined with the predictions it speaks of."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from monitoring.core.corrections import standing_outcomes
from monitoring.core.errors import InvalidInput
from monitoring.core.ids import id_time, new_id
from monitoring.core.ledger.database import insert_ignore
from monitoring.core.tables import feedback, outcomes, versions
from monitoring.core.types import Feedback, LabelSource, Outcome, Variant

OUTCOME_FIELDS = tuple(Outcome.__dataclass_fields__)


def add_feedback(
    connection: Connection,
    *,
    prediction_id: str,
    source: LabelSource,
    label: str | None,
    rating: float | None,
    sampling_probability: float | None,
    author: str,
    now: datetime,
    from_file: bool = False,
) -> tuple[Feedback, bool]:
    """Keep one piece of feedback; (it, whether it is new). The same thing said twice is kept once.

    Said again after its source had said otherwise, it is new: a correction that was taken back. Not so `from_file`: one
    that is taken in again, nightly perhaps, says nothing new, and must not undo what was corrected since.
    A random sample must say with which probability it was drawn; ground truth comes for all, so its probability is 1.
    """
    made = id_time(prediction_id)
    if made is None or made > now:
        raise InvalidInput("prediction_id is not one that a predict call returned", field="prediction_id")
    if label is None and rating is None:
        raise InvalidInput("feedback needs a label or a rating", field="label")
    if sampling_probability is None and source is LabelSource.RANDOM_SAMPLE:
        raise InvalidInput(
            "a random_sample needs its sampling_probability, a number in (0, 1]", field="sampling_probability"
        )
    if sampling_probability is not None and not 0 < sampling_probability <= 1:
        raise InvalidInput(
            f"sampling_probability is {sampling_probability}, not a number in (0, 1]", field="sampling_probability"
        )
    said = f"{prediction_id}\0{source}\0{label}\0{rating}"
    item = Feedback(
        id=new_id(),
        prediction_id=prediction_id,
        source=source,
        label=label,
        rating=rating,
        sampling_probability=1.0 if sampling_probability is None else sampling_probability,
        received_at=now,
        author=author,
    )
    digest = hashlib.sha256(said.encode()).hexdigest()
    if insert_ignore(connection, feedback, [vars(item) | {"digest": digest}]):
        return item, True
    known = _feedback(connection.execute(select(feedback).where(feedback.c.digest == digest)).one())
    if from_file:
        return known, False
    of_source = feedback.c.prediction_id == prediction_id, feedback.c.source == source, feedback.c.label.is_not(None)
    newest = select(feedback).where(*of_source).order_by(feedback.c.sequence.desc()).limit(1)
    last = connection.execute(newest).first()
    if label is None or last is None or last.label == label:
        return known, False
    digest = hashlib.sha256(f"{said}\0after {last.id}".encode()).hexdigest()
    new = bool(insert_ignore(connection, feedback, [vars(item) | {"digest": digest}]))
    return item if new else known, new


def feedback_after(connection: Connection, sequence: int, *, limit: int) -> list[tuple[int, Feedback]]:
    """Feedback with its sequence number, in order of arrival, after `sequence`."""
    query = select(feedback).where(feedback.c.sequence > sequence).order_by(feedback.c.sequence).limit(limit)
    return [(row.sequence, _feedback(row)) for row in connection.execute(query)]


def labels_for(connection: Connection, prediction_ids: Sequence[str]) -> list[Feedback]:
    """All labels (not ratings) given to these predictions, oldest first."""
    found: list[Feedback] = []
    for start in range(0, len(prediction_ids), 500):
        chunk = prediction_ids[start : start + 500]
        query = select(feedback).where(feedback.c.prediction_id.in_(chunk), feedback.c.label.is_not(None))
        found += [_feedback(row) for row in connection.execute(query.order_by(feedback.c.sequence))]
    return found


def first_labelled_since(connection: Connection, moment: datetime) -> list[str]:
    """Predictions whose first label came after `moment`: those that nobody could have learnt from before."""
    query = select(feedback.c.prediction_id).where(feedback.c.label.is_not(None)).group_by(feedback.c.prediction_id)
    return list(connection.execute(query.having(func.min(feedback.c.received_at) > moment)).scalars())


def labelled_since(connection: Connection, moment: datetime) -> list[str]:
    """Predictions about which a label was said after `moment`, for the first time or once more."""
    query = select(feedback.c.prediction_id).where(feedback.c.label.is_not(None), feedback.c.received_at > moment)
    return list(connection.execute(query.distinct()).scalars())


def add_outcomes(connection: Connection, rows: Iterable[Outcome]) -> int:
    """Keep outcomes, corrections beside what they correct; the same one is kept once. The number that was new."""
    return insert_ignore(connection, outcomes, [vars(row) for row in rows])


def find_outcomes(
    connection: Connection,
    *,
    version: str | None = None,
    rollout: str | None = None,
    model: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    variants: Iterable[Variant] | None = None,
    sources: Iterable[LabelSource] | None = None,
    newest: int | None = None,
) -> list[Outcome]:
    """Outcomes of predictions from `since` to before `until`, in their order; the `newest` of them, if given."""
    columns = [outcomes.c[name] for name in OUTCOME_FIELDS]
    query = select(*columns).order_by(outcomes.c.predicted_at.desc(), outcomes.c.sequence.desc()).limit(newest)
    for column, value in ((outcomes.c.version, version), (outcomes.c.rollout, rollout), (outcomes.c.model, model)):
        if value is not None:
            query = query.where(column == value)
    if since is not None:
        query = query.where(outcomes.c.predicted_at >= since)
    if until is not None:
        query = query.where(outcomes.c.predicted_at < until)
    if variants is not None:
        query = query.where(outcomes.c.variant.in_(list(variants)))
    if sources is not None:
        query = query.where(outcomes.c.source.in_(list(sources)))
    return [_outcome(row) for row in reversed(connection.execute(query).all())]


def count_labelled(
    connection: Connection, model: str, *, since: datetime, labelled_since: datetime | None = None
) -> int:
    """Predictions of `model` made since then and labelled by now (after `labelled_since`); no shadow copies."""
    query = select(func.count(func.distinct(outcomes.c.prediction_id))).where(
        outcomes.c.model == model, outcomes.c.predicted_at >= since, outcomes.c.variant != Variant.SHADOW
    )
    if labelled_since is not None:
        query = query.where(outcomes.c.labelled_at > labelled_since)
    return int(connection.execute(query).scalar_one())


def proposed_classes(connection: Connection, model: str, version: str) -> dict[str, int]:
    """Labels that `version` does not know and that count for some prediction, with the number of those."""
    known = connection.execute(select(versions.c.labels).where(versions.c.id == version)).scalar_one()
    columns = [outcomes.c[name] for name in OUTCOME_FIELDS]
    unknown = select(outcomes.c.prediction_id).where(outcomes.c.model == model, outcomes.c.label.not_in(known))
    query = select(*columns).where(outcomes.c.model == model, outcomes.c.prediction_id.in_(unknown))
    said = standing_outcomes(_outcome(row) for row in connection.execute(query.order_by(outcomes.c.sequence)))
    counts = Counter(label for _, label in {(one.prediction_id, one.label) for one in said} if label not in known)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _feedback(row: Row[Any]) -> Feedback:
    values = {name: row._mapping[name] for name in Feedback.__dataclass_fields__}
    return Feedback(**(values | {"source": LabelSource(row.source)}))


def _outcome(row: Row[Any]) -> Outcome:
    values = dict(zip(OUTCOME_FIELDS, row, strict=True))  # by position: thousands of rows are read at every tick
    values |= {"source": LabelSource(values["source"]), "variant": Variant(values["variant"])}
    return Outcome(**(values | {"slices": tuple(values["slices"])}))
