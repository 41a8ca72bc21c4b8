"""From a finished batch to rows of the prediction log and answers: once per batch, on the inference thread."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import orjson

from monitoring.core.prediction_record import PredictionRecord
from monitoring.core.signals import PROJECTED, Predictions
from monitoring.core.spool import SpoolWriter
from monitoring.core.types import Variant
from service.engine.work import Answer, FinishedBatch, Work

TextPolicy = Literal["store", "hash", "off"]
NOTHING = (0.0,) * PROJECTED


class Recorder:
    """Writes rows to the spool: one write a batch. What the spool cannot take, it counts; no answer fails for it."""

    def __init__(self, spool: SpoolWriter, *, text: TextPolicy, top_k: int) -> None:
        self._spool = spool
        self._text = text
        self._top_k = top_k

    def record(self, batch: FinishedBatch, answers: Sequence[Answer]) -> None:
        """Write a batch that was answered."""
        assert batch.predictions is not None
        self._append(
            [
                self._answered(work, answer, batch, row)
                for work, answer, row in zip(batch.works, answers, batch.rows, strict=True)
            ]
        )

    def record_failures(self, works: Sequence[Work], error: str, *, ended: float) -> None:
        """Write works that nobody will get an answer to; `ended` in `time.perf_counter()` seconds."""
        self._append([self._failed(work, error, ended) for work in works])

    def _append(self, records: Sequence[PredictionRecord]) -> None:
        if records:
            self._spool.append([record.row() for record in records])

    def _answered(self, work: Work, answer: Answer, batch: FinishedBatch, row: int) -> PredictionRecord:
        predictions = batch.predictions
        assert predictions is not None
        return PredictionRecord(
            prediction_id=work.prediction_id,
            model=work.call.model,
            version=work.target.id,
            variant=work.variant,
            rollout=work.step.rollout,
            step=work.step.step,
            share=work.step.share,
            unit=work.call.unit,
            at_us=work.call.at_us,
            text=self._kept_text(work.text),
            predicted=answer.label,
            confidence=float(predictions.confidence[row]),
            entropy=float(predictions.entropy[row]),
            margin=float(predictions.margin[row]),
            similarity=float(predictions.similarity[row]),
            rarity=float(predictions.rarity[row]),
            length=float(predictions.length[row]),
            # float16 has three good digits: more would only fill the log
            projected=predictions.projected[row].astype(np.float64).round(4).tolist(),
            top_k=orjson.dumps(dict(answer.top_k[: self._top_k])).decode(),
            latency_ms=_latency_ms(work, batch),
            error=None,
            metadata=work.call.metadata,
        )

    def _failed(self, work: Work, error: str, ended: float) -> PredictionRecord:
        return PredictionRecord(
            prediction_id=work.prediction_id,
            model=work.call.model,
            version=work.target.id,
            variant=work.variant,
            rollout=work.step.rollout,
            step=work.step.step,
            share=work.step.share,
            unit=work.call.unit,
            at_us=work.call.at_us,
            text=self._kept_text(work.text),
            predicted="",
            confidence=0.0,
            entropy=0.0,
            margin=0.0,
            similarity=0.0,
            rarity=0.0,
            length=0.0,
            projected=NOTHING,
            top_k="{}",
            latency_ms=(ended - work.call.started) * 1000,
            error=error,
            metadata=work.call.metadata,
        )

    def _kept_text(self, text: str) -> str | None:
        if self._text == "store":
            return text
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest() if self._text == "hash" else None


def answers_of(batch: FinishedBatch, *, logged_top_k: int) -> list[Answer]:
    """The answers to a batch's works, each with as many of the likeliest labels as its caller or the log wants."""
    predictions = batch.predictions
    assert predictions is not None
    labels = batch.works[0].target.labels
    depth = min(max(logged_top_k, *(work.call.top_k for work in batch.works)), len(labels))
    best, shares = _best(predictions, batch.rows, depth)
    return [
        Answer(
            id=work.prediction_id,
            label=labels[classes[0]],
            probability=probabilities[0],
            top_k=[(labels[number], share) for number, share in zip(classes, probabilities, strict=True)],
            version=work.target.name,
            variant=work.variant,
        )
        for work, classes, probabilities in zip(batch.works, best, shares, strict=True)
    ]


def _best(predictions: Predictions, rows: Sequence[int], depth: int) -> tuple[list[list[int]], list[list[float]]]:
    """The `depth` likeliest class numbers of each row, best first, and their probabilities."""
    probabilities = predictions.probabilities[list(rows)]
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :depth]
    shares = np.take_along_axis(probabilities, order, axis=1).round(6)
    return order.tolist(), shares.tolist()


def _latency_ms(work: Work, batch: FinishedBatch) -> float:
    """What the caller waited; for a shadow copy, which nobody waits for, the model call alone."""
    began = batch.began if work.variant is Variant.SHADOW else work.call.started
    return (batch.ended - began) * 1000
