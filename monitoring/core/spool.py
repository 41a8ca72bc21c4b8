"""The crash-safe spool: a local append-only file per writer, so that `kill -9` loses nothing that was answered.

A frame is `magic, length, CRC-32, sequence` and a JSON payload of rows; sequences are gapless. A frame is one `write`
call: the kernel keeps it even if the process dies. A torn tail (power loss) fails its CRC and is cut by the reader.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import IO, Any

import orjson

HEADER = struct.Struct("<4sIIQ")
MAGIC = b"LWS1"
LOCK = "writer.lock"
Row = Mapping[str, Any]


class SpoolWriter:
    """Appends rows for one process. Thread-safe. A failure is counted and never raised: answers go on."""

    def __init__(self, root: Path, *, writer: str, segment_bytes: int, max_bytes: int, fsync: bool = False) -> None:
        self.writer = writer
        self.dropped_rows = 0
        self.written_rows = 0
        self._folder = root / writer
        self._root = root
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._fsync = fsync
        self._mutex = threading.Lock()
        self._sequence = 0
        self._retries = 0
        self._torn = False
        self._folder.mkdir(parents=True)
        self._lock = (self._folder / LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # held while this process lives: the shipper sees who is gone
        self._segment = self._open_segment()
        self._waiting = spool_bytes(root)

    def append(self, rows: Sequence[Row]) -> bool:
        """Write rows as one frame; False (and counted) if the spool is full or the disk refuses."""
        try:
            payload = orjson.dumps(list(rows), option=orjson.OPT_SERIALIZE_NUMPY)
            with self._mutex:
                return self._write(payload, len(rows))
        except (OSError, ValueError, TypeError):  # a disk error, a closed writer, a row that JSON cannot hold
            self.dropped_rows += len(rows)
            return False

    @property
    def limit_bytes(self) -> int:
        """How much may wait in the spool, of all writers together, before rows are dropped."""
        return self._max_bytes

    @property
    def root(self) -> Path:
        """The folder of all writers."""
        return self._root

    def waiting_bytes(self) -> int:
        """What this writer has written and nobody has shipped yet, in whole segments."""
        return spool_bytes(self._folder)

    def close(self) -> None:
        """End the writer; its segments stay until they are shipped."""
        with self._mutex:
            self._segment.close()
            self._lock.close()

    def _write(self, payload: bytes, rows: int) -> bool:
        if self._torn or self._segment.tell() >= self._segment_bytes:
            self._next_segment()
        if self._waiting + len(payload) > self._max_bytes:
            self._waiting = spool_bytes(self._root)
            if self._waiting + len(payload) > self._max_bytes:
                self.dropped_rows += rows
                return False
        frame = HEADER.pack(MAGIC, len(payload), zlib.crc32(payload), self._sequence + 1) + payload
        written = self._segment.write(frame)
        if written != len(frame):
            self._torn = True
            raise OSError("the disk took only a part of the frame")
        self._sequence += 1  # used up, even where the disk refuses to make it durable
        self._waiting += len(frame)
        if self._fsync:
            os.fsync(self._segment.fileno())
        self.written_rows += rows
        return True

    def _next_segment(self) -> None:
        """Go on in a new file: this one is full, or nothing readable may follow its torn frame."""
        self._retries = self._retries + 1 if self._torn else 0
        following = self._open_segment()  # where the disk refuses it, this one is tried again with the next frame
        self._segment.close()
        self._segment, self._torn = following, False
        self._waiting = spool_bytes(self._root)

    def _open_segment(self) -> IO[bytes]:
        return (self._folder / f"{self._sequence + 1:020d}-{self._retries:06d}.seg").open("ab", buffering=0)


@dataclass(frozen=True)
class Frame:
    """One frame as read: whose, which, and its rows."""

    writer: str
    sequence: int
    rows: list[dict[str, Any]]


def read_frames(folder: Path, *, after: int) -> Iterator[Frame]:
    """The whole frames of one writer's folder with a sequence above `after`, in order; stops at a torn tail."""
    segments = sorted(folder.glob("*.seg"))
    for segment, following in zip_longest(segments, segments[1:]):
        if following is not None and _first_sequence(following) <= after + 1:
            continue
        try:
            content = segment.read_bytes()
        except FileNotFoundError:  # another shipper has just shipped and deleted it
            return
        for sequence, payload in _frames(content):
            if sequence > after:
                yield Frame(folder.name, sequence, orjson.loads(payload))


def writers(root: Path) -> list[Path]:
    """The folders of all writers that have anything here."""
    return sorted(path for path in root.glob("*") if path.is_dir()) if root.exists() else []


def discard_shipped(folder: Path, *, shipped: int) -> int:
    """Delete segments whose frames all have a sequence of at most `shipped`; returns the torn tails cut (0 or 1).

    The newest segment is deleted only when its writer is gone.
    """
    segments = sorted(folder.glob("*.seg"))
    for segment, following in pairwise(segments):
        if _first_sequence(following) <= shipped + 1:
            segment.unlink(missing_ok=True)
    if not segments or not _writer_is_gone(folder):
        return 0
    last = segments[-1]
    try:
        content = last.read_bytes()
    except FileNotFoundError:  # another shipper was faster
        return 0
    frames = list(_frames(content))
    if frames and frames[-1][0] > shipped:
        return 0
    whole = sum(HEADER.size + len(payload) for _, payload in frames)
    last.unlink(missing_ok=True)
    (folder / LOCK).unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        folder.rmdir()
    return int(len(content) > whole)


def spool_bytes(root: Path) -> int:
    """Bytes of all segments that wait here; what a shipper deletes meanwhile counts as gone."""
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(folder, name).stat().st_size if name.endswith(".seg") else 0
    return total


def _frames(content: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + HEADER.size <= len(content):
        magic, length, checksum, sequence = HEADER.unpack_from(content, position)
        payload = content[position + HEADER.size : position + HEADER.size + length]
        if magic != MAGIC or len(payload) < length or zlib.crc32(payload) != checksum:
            return
        yield sequence, payload
        position += HEADER.size + length


def _first_sequence(segment: Path) -> int:
    return int(segment.stem.partition("-")[0])


def _writer_is_gone(folder: Path) -> bool:
    try:
        with (folder / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
