"""The inference threads: production before shadow, poison alone, abandoned texts unanswered, all drained at the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from monitoring.core.bundle import Bundle
from monitoring.core.errors import NotReady, Overloaded
from monitoring.core.runtime import ClassifierRuntime, Encoded
from monitoring.core.signals import Predictions
from service.engine.classifier import LoadedVersion
from service.engine.pace import Pace
from service.engine.pool import Pool
from service.engine.work import FinishedBatch, Work
from tests.bundles import make_bundle, toy_texts
from tests.unit.service.works import unread, version

POISON = "poison"


class Hindered(ClassifierRuntime):
    """The real runtime, behind a gate; it chokes on a batch with an empty text, which only POISON gives."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.gate = threading.Event()
        self.reached = threading.Semaphore(0)
        self.gate.set()

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [Encoded(()) if text == POISON else one for text, one in zip(texts, super().encode(texts), strict=True)]

    def run(self, batch: Sequence[Encoded]) -> Predictions:
        self.reached.release()
        assert self.gate.wait(timeout=30)
        if any(len(item) == 0 for item in batch):
            raise ValueError("nothing to read")
        return super().run(batch)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("pool") / "bundle")


class Rig:
    """A pool of one thread, with what it finished."""

    def __init__(self, bundle: Bundle) -> None:
        self.runtime = Hindered(bundle)
        self.target = LoadedVersion(version(), self.runtime, max_batch=8, max_batch_tokens=512)
        self.finished: list[FinishedBatch] = []
        self.pool = Pool(
            threads=1,
            capacity=8,
            shadow_capacity=4,
            finish=self.finished.append,
            observe_tokenize=lambda seconds: None,
        )

    def works(self, *texts: str) -> list[Work]:
        return [unread(self.target, text) for text in texts]

    def block(self) -> None:
        """Keep the only thread in the model."""
        self.runtime.gate.clear()
        self.pool.submit(self.works("first"))
        assert self.runtime.reached.acquire(timeout=10)

    def order(self) -> list[str]:
        return [work.text for batch in self.finished for work in batch.works]


@pytest.fixture
def rig(bundle: Bundle) -> Iterator[Rig]:
    rig = Rig(bundle)
    rig.pool.start()
    yield rig
    rig.runtime.gate.set()
    rig.pool.stop()


def test_batches_answer_as_the_runtime_alone_does(rig: Rig, rng: np.random.Generator) -> None:
    texts, _ = toy_texts(("billing", "delivery", "account"), 8, rng)
    rig.pool.submit(rig.works(*texts))
    rig.pool.stop()
    alone = rig.runtime.predict(texts)
    for batch in rig.finished:
        assert batch.predictions is not None
        for row, work in zip(batch.rows, batch.works, strict=True):
            expected = alone.probabilities[texts.index(work.text)]
            np.testing.assert_allclose(batch.predictions.probabilities[row], expected, atol=1e-6)
    assert sorted(rig.order()) == sorted(texts)


def test_production_goes_before_shadow_that_came_first(rig: Rig) -> None:
    rig.block()
    assert rig.pool.offer(rig.works("shadow", "shadow")) == 0
    rig.pool.submit(rig.works("production"))
    rig.runtime.gate.set()
    rig.pool.stop()
    assert rig.order() == ["first", "production", "shadow", "shadow"]


def test_shadow_copies_beyond_the_room_are_dropped_and_counted(rig: Rig) -> None:
    rig.block()
    assert rig.pool.offer(rig.works(*["shadow"] * 6)) == 2
    assert rig.pool.offer(rig.works("shadow")) == 1
    rig.runtime.gate.set()
    rig.pool.stop()
    assert rig.order() == ["first", *["shadow"] * 4]


def test_a_full_queue_refuses_and_serves_on(rig: Rig) -> None:
    rig.block()
    rig.pool.submit(rig.works(*["waiting"] * 8))
    with pytest.raises(Overloaded):
        rig.pool.submit(rig.works("one too many"))
    rig.runtime.gate.set()
    rig.pool.stop()
    assert rig.order() == ["first", *["waiting"] * 8]


def test_who_cannot_be_answered_in_time_is_refused_at_once(rig: Rig) -> None:
    rig.block()
    rig.pool.pace.observe(1, 10.0)
    rig.pool.submit(rig.works("waiting"), within=1.0)  # nothing waited: trying is the way to learn the pace
    with pytest.raises(Overloaded, match=r"about 10\.0 s of work wait") as refused:
        rig.pool.submit(rig.works("hasty"), within=12.0)
    assert refused.value.retry_after == 4.0
    rig.pool.submit(rig.works("patient"), within=21.0)
    rig.pool.submit(rig.works("for ever"))
    rig.runtime.gate.set()
    rig.pool.stop()
    assert sorted(rig.order()) == ["first", "for ever", "patient", "waiting"]


def test_who_sends_little_is_not_refused_for_what_another_has_waiting(rig: Rig) -> None:
    rig.block()
    rig.pool.pace.observe(1, 1.0)
    rig.pool.submit(rig.works(*["greedy"] * 6))
    with pytest.raises(Overloaded, match="of work wait"):
        rig.pool.submit(rig.works("greedy"), within=4.0)
    modest = rig.works("modest")
    modest[0].party = "another"
    rig.pool.submit(modest, within=4.0)  # its turn comes after one of the other's
    rig.runtime.gate.set()
    rig.pool.stop()
    assert len(rig.order()) == 8


def test_the_pace_is_learnt_from_what_was_answered(rig: Rig) -> None:
    assert rig.pool.pace.wait(100) == 0.0
    rig.pool.submit(rig.works("first"))
    rig.pool.stop()
    assert rig.pool.pace.wait(100) > 0.0


def test_the_pace_follows_slowly_and_divides_by_the_threads() -> None:
    pace = Pace(threads=2)
    pace.observe(4, 4.0)
    assert pace.wait(6) == 3.0
    pace.observe(1, 2.0)
    assert pace.wait(1) == pytest.approx(1.05 / 2)
    for _ in range(200):
        pace.observe(1, 2.0)
    assert pace.wait(1) == pytest.approx(1.0, abs=0.01)


def test_a_text_that_breaks_the_model_fails_alone(rig: Rig) -> None:
    rig.block()
    rig.pool.submit([*rig.works("hello", POISON, "please"), *rig.works(POISON)])
    rig.runtime.gate.set()
    rig.pool.stop()
    failed = {work.text: batch.error for batch in rig.finished for work in batch.works}
    assert failed == {"first": None, "hello": None, "please": None, POISON: "ValueError: nothing to read"}


def test_abandoned_texts_are_neither_run_nor_finished(rig: Rig) -> None:
    rig.block()
    waiting = rig.works("one", "two")
    rig.pool.submit(waiting)
    assert rig.pool.abandon(waiting) == waiting
    assert rig.pool.abandon(waiting) == []
    assert rig.pool.depths().total() == 0
    rig.runtime.gate.set()
    rig.pool.stop()
    assert rig.order() == ["first"]


def test_a_text_abandoned_in_the_model_is_not_finished(rig: Rig) -> None:
    rig.runtime.gate.clear()
    works = rig.works("hello", "please")
    rig.pool.submit(works)
    assert rig.runtime.reached.acquire(timeout=10)
    assert rig.pool.abandon(works[:1]) == works[:1]
    rig.runtime.gate.set()
    rig.pool.stop()
    assert rig.order() == ["please"]


def test_stopping_finishes_what_waits_and_refuses_what_comes(rig: Rig) -> None:
    rig.block()
    rig.pool.submit(rig.works("waiting"))
    rig.pool.offer(rig.works("shadow"))
    rig.runtime.gate.set()
    rig.pool.stop()
    assert rig.order() == ["first", "waiting", "shadow"]
    with pytest.raises(NotReady):
        rig.pool.submit(rig.works("late"))
    assert rig.pool.offer(rig.works("late")) == 1


def test_an_error_after_the_model_does_not_end_the_thread(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    finished: list[FinishedBatch] = []

    def finish(batch: FinishedBatch) -> None:
        finished.append(batch)
        if len(finished) == 1:
            raise RuntimeError("the recorder broke")

    target = LoadedVersion(version(), ClassifierRuntime(bundle), max_batch=1, max_batch_tokens=512)
    pool = Pool(threads=1, capacity=8, shadow_capacity=1, finish=finish, observe_tokenize=lambda seconds: None)
    pool.start()
    pool.submit([unread(target, "one"), unread(target, "two")])
    pool.stop()
    assert len(finished) == 2
    assert "failed outside of the model" in caplog.text
