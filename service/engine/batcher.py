"""The queue's order: which texts go together next. A plain data structure; whoever owns it holds the lock.

Padding is what hurts: batches in order of arrival compute two to four times the real tokens and are slower than none.
So the oldest text is joined only by texts of nearly its own length, and nobody waits for more to come.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from itertools import count
from typing import TypeVar

from monitoring.core.errors import Overloaded
from service.engine.classifier import LoadedVersion
from service.engine.work import Work

K = TypeVar("K", bound=Hashable)
Bucket = OrderedDict[int, Work]


class Line:
    """Texts that wait for one kind of service, at most `capacity` of them.

    A text is first unread (not tokenised), then read, then taken in a batch. All costs are independent of the number of
    waiting texts; taking grows with the number of versions and lengths that wait at the same time.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting = 0
        self._sequence = count()
        self._unread: dict[LoadedVersion, Bucket] = {}
        self._read: dict[tuple[LoadedVersion, int], Bucket] = {}

    def __len__(self) -> int:
        return self._waiting

    @property
    def room(self) -> int:
        """How many more texts may wait."""
        return self._capacity - self._waiting

    @property
    def has_task(self) -> bool:
        """Whether a thread would find something to do."""
        return bool(self._unread or self._read)

    def add(self, works: Sequence[Work]) -> None:
        """Let all of them wait, or none: raises Overloaded."""
        if len(works) > self.room:
            raise Overloaded(f"the queue is full ({self._waiting} texts wait): try again in a second", retry_after=1.0)
        self._waiting += len(works)
        for work in works:
            work.sequence = next(self._sequence)
            self._unread.setdefault(work.target, OrderedDict())[work.sequence] = work

    def take_unread(self, limit: int) -> list[Work]:
        """The oldest texts to be tokenised, all of one version; they go on waiting."""
        return _pop_oldest(self._unread, limit)

    def add_read(self, works: Sequence[Work]) -> None:
        """Back from the tokenizer; those removed meanwhile stay out."""
        for work in works:
            if not work.taken:
                self._read.setdefault(_read_key(work), OrderedDict())[work.sequence] = work

    def take_batch(self) -> list[Work]:
        """The oldest text with those of its version and length that wait, up to the version's largest batch."""
        batch = _pop_oldest(self._read, None)
        for work in batch:
            work.taken = True
        self._waiting -= len(batch)
        return batch

    def remove(self, work: Work) -> None:
        """Take a text out, wherever it waits; nothing happens if it waits no more."""
        if work.taken:
            return
        work.taken = True
        self._waiting -= 1
        if work.encoded is None:
            _discard(self._unread, work.target, work)
        else:
            _discard(self._read, _read_key(work), work)

    def depths(self) -> Counter[str]:
        """Waiting texts by model."""
        depths: Counter[str] = Counter()
        for target, bucket in [*self._unread.items(), *((key[0], bucket) for key, bucket in self._read.items())]:
            depths[target.version.model] += len(bucket)
        return depths


def length_class(tokens: int) -> int:
    """Texts of one class differ in length by less than a fifth."""
    return int(4 * math.log2(max(tokens, 1)))


def _read_key(work: Work) -> tuple[LoadedVersion, int]:
    assert work.encoded is not None
    return work.target, length_class(len(work.encoded))


def _pop_oldest(buckets: dict[K, Bucket], limit: int | None) -> list[Work]:
    """From the bucket with the oldest text, its oldest ones; without a limit, as many as its version runs at once."""
    if not buckets:
        return []
    key = min(buckets, key=lambda key: next(iter(buckets[key])))
    bucket = buckets[key]
    oldest = next(iter(bucket.values()))
    size = min(len(bucket), oldest.target.max_batch if limit is None else limit)
    works = [bucket.popitem(last=False)[1] for _ in range(size)]
    if not bucket:
        del buckets[key]
    return works


def _discard(buckets: dict[K, Bucket], key: K, work: Work) -> None:
    bucket = buckets.get(key)
    if bucket is None:
        return
    bucket.pop(work.sequence, None)
    if not bucket:
        del buckets[key]
