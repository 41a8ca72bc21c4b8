"""The queue's order: which texts go together next. A plain data structure; whoever owns it holds the lock.

Padding is what hurts: batches in order of arrival compute two to four times the real tokens and are slower than none.
So the first text is joined only by texts of nearly its own length, and nobody waits for more to come.

Callers take turns: each text gets a tag, which grows with what its party has sent, and the least tag goes first (Goyal,
Vin & Cheng, "Start-time fair queueing", 1996). Who sends little is not kept waiting by who sends a lot; among the texts
of one party it is the order of arrival.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import count
from typing import TypeVar

from monitoring.core.errors import Overloaded
from service.engine.classifier import LoadedVersion
from service.engine.work import Work

K = TypeVar("K", bound=Hashable)
GREED = 4
"""A party's texts may wait while they are at most so many times the room that is left (Choudhury & Hahne, "Dynamic
queue length thresholds", 1998): one alone may fill four fifths of the queue, and a newcomer finds a place."""
CALL_COST = 64
"""What a text costs however short, in characters of its length."""
STALE = 64


class Bucket:
    """Texts of one version, or of one version and length, by tag. Those that leave early are passed over when met."""

    def __init__(self) -> None:
        self._waiting: dict[int, Work] = {}
        self._order: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, work: Work) -> None:
        """Let it wait."""
        self._waiting[work.sequence] = work
        heapq.heappush(self._order, (work.tag, work.sequence))

    def first(self) -> tuple[float, int]:
        """The least tag, with the text's number; there must be one."""
        while self._order[0][1] not in self._waiting:
            heapq.heappop(self._order)
        return self._order[0]

    def pop(self) -> Work:
        """Take the first one."""
        number = self.first()[1]
        heapq.heappop(self._order)
        return self._waiting.pop(number)

    def discard(self, work: Work) -> None:
        """Take one out, if it waits here."""
        self._waiting.pop(work.sequence, None)
        if len(self._order) > 2 * len(self._waiting) + STALE:  # so that those who give up leave nothing behind
            self._order = [entry for entry in self._order if entry[1] in self._waiting]
            heapq.heapify(self._order)


class Line:
    """Texts that wait for one kind of service, at most `capacity` of them.

    A text is first unread (not tokenised), then read, then taken in a batch. Costs grow with the logarithm of the
    number of waiting texts; that of taking also with the number of versions and lengths that wait at the same time.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting = 0
        self._sequence = count()
        self._now = 0.0  # the tag of what was last taken: virtual time
        self._ends: dict[str, float] = {}
        self._held: Counter[str] = Counter()
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

    def check_share(self, party: str) -> None:
        """Raise Overloaded if so many of its texts wait that others would find no place."""
        held = self._held.get(party, 0)
        if held > GREED * self.room:
            raise Overloaded(
                f"{held} texts of yours wait already, and the queue is nearly full: try again in a second",
                retry_after=1.0,
            )

    def ahead(self, party: str) -> int:
        """About how many texts go before the next one of `party`: of each other party as many as of its own."""
        own = self._held.get(party, 0)
        return own + sum(min(held, own + 1) for other, held in self._held.items() if other != party)

    def add(self, works: Sequence[Work]) -> None:
        """Let all of them wait, or none: raises Overloaded."""
        if len(works) > self.room:
            raise Overloaded(f"the queue is full ({self._waiting} texts wait): try again in a second", retry_after=1.0)
        self._waiting += len(works)
        for work in works:
            work.sequence = next(self._sequence)
            work.tag = max(self._now, self._ends.get(work.party, 0.0))
            self._ends[work.party] = work.tag + CALL_COST + len(work.text)
            self._held[work.party] += 1
            self._unread.setdefault(work.target, Bucket()).add(work)

    def take_unread(self, limit: int) -> list[Work]:
        """The first texts to be tokenised, all of one version; they go on waiting."""
        return _pop_first(self._unread, lambda _: limit)

    def add_read(self, works: Sequence[Work]) -> None:
        """Back from the tokenizer; those removed meanwhile stay out."""
        for work in works:
            if not work.taken:
                self._read.setdefault(_read_key(work), Bucket()).add(work)

    def take_batch(self) -> list[Work]:
        """The first text with those of its version and length that wait, as many as its version runs at once."""
        batch = _pop_first(self._read, lambda key: key[0].batch_of(longest_of(key[1])))
        if batch:
            self._now = max(self._now, batch[0].tag)
        for work in batch:
            self._leave(work)
        return batch

    def remove(self, work: Work) -> None:
        """Take a text out, wherever it waits; nothing happens if it waits no more."""
        if work.taken:
            return
        self._leave(work)
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

    def _leave(self, work: Work) -> None:
        work.taken = True
        self._waiting -= 1
        self._held[work.party] -= 1
        if not self._held[work.party]:  # who has nothing waiting begins anew: what is kept does not grow with callers
            del self._held[work.party], self._ends[work.party]


def length_class(tokens: int) -> int:
    """Texts of one class differ in length by less than a fifth."""
    return int(4 * math.log2(max(tokens, 1)))


def longest_of(length: int) -> int:
    """The most tokens that a text of this class has."""
    return math.ceil(2 ** ((length + 1) / 4)) - 1


def _read_key(work: Work) -> tuple[LoadedVersion, int]:
    assert work.encoded is not None
    return work.target, length_class(len(work.encoded))


def _pop_first(buckets: dict[K, Bucket], most_of: Callable[[K], int]) -> list[Work]:
    """From the bucket with the least tag, its first ones, as many as `most_of` says."""
    if not buckets:
        return []
    key = min(buckets, key=lambda key: buckets[key].first())
    bucket = buckets[key]
    works, most = [bucket.pop()], most_of(key)
    while len(bucket) and len(works) < most:
        works.append(bucket.pop())
    if not len(bucket):
        del buckets[key]
    return works


def _discard(buckets: dict[K, Bucket], key: K, work: Work) -> None:
    bucket = buckets.get(key)
    if bucket is None:
        return
    bucket.discard(work)
    if not len(bucket):
        del buckets[key]
