"""Whatever happens to files or disk, a reader gets exactly the whole frames, in order, and drops are counted."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.core.spool import (
    HEADER,
    SpoolWriter,
    discard_shipped,
    read_frames,
    spool_bytes,
    writers,
)

Rows = list[dict[str, Any]]
ROWS: Rows = [{"text": "héllo", "n": 1}, {"text": None, "n": 2.5}]
rows_of_any_kind = st.lists(
    st.dictionaries(st.text(max_size=3), st.none() | st.integers(-9, 9) | st.text(max_size=20)), max_size=4
)


def writer(root: Path, name: str = "w", *, segment_bytes: int = 1 << 20, max_bytes: int = 1 << 26) -> SpoolWriter:
    return SpoolWriter(root, writer=name, segment_bytes=segment_bytes, max_bytes=max_bytes)


def read(folder: Path, after: int = 0) -> list[tuple[int, Rows]]:
    return [(frame.sequence, frame.rows) for frame in read_frames(folder, after=after)]


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.seg"))


def test_what_is_appended_is_read_in_order_without_gaps(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    assert all(spool.append([{"n": n}]) for n in range(5))
    assert read(tmp_path / "w") == [(n + 1, [{"n": n}]) for n in range(5)]
    assert read(tmp_path / "w", after=3) == [(4, [{"n": 3}]), (5, [{"n": 4}])]
    assert (spool.written_rows, spool.dropped_rows) == (5, 0)
    spool.close()


@settings(max_examples=40)
@given(frames=st.lists(rows_of_any_kind, max_size=12), segment_bytes=st.integers(1, 400), data=st.data())
def test_a_tail_torn_anywhere_costs_its_own_frame_only(
    frames: list[Rows], segment_bytes: int, data: st.DataObject
) -> None:
    with TemporaryDirectory() as root:
        spool = writer(Path(root), segment_bytes=segment_bytes)
        assert all(spool.append(frame) for frame in frames)
        spool.close()
        last = segments(Path(root, "w"))[-1]
        before = [frame for segment in segments(Path(root, "w"))[:-1] for frame in _frames_of(segment)]
        content = last.read_bytes()
        cut = data.draw(st.integers(0, len(content)))
        last.write_bytes(content[:cut])
        whole = before + [frame for frame, end in _ends(content) if end <= cut]
        assert read(Path(root, "w")) == list(enumerate(frames[: len(whole)], start=1))


def test_every_byte_at_which_the_power_may_go(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    for n in range(3):
        spool.append([{"n": n}])
    spool.close()
    [segment] = segments(tmp_path / "w")
    content = segment.read_bytes()
    ends = [end for _, end in _ends(content)]
    for cut in range(len(content) + 1):
        segment.write_bytes(content[:cut])
        assert len(read(tmp_path / "w")) == sum(end <= cut for end in ends)


def test_no_altered_byte_is_read_as_a_frame(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    spool.append(ROWS)
    spool.close()
    [segment] = segments(tmp_path / "w")
    content = segment.read_bytes()
    for place in set(range(len(content))) - set(range(HEADER.size - 8, HEADER.size)):  # the sequence has no checksum
        segment.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert read(tmp_path / "w") == []


def test_segments_rotate_and_those_shipped_are_deleted(tmp_path: Path) -> None:
    spool = writer(tmp_path, segment_bytes=1)
    for n in range(4):
        spool.append([{"n": n}])
    assert len(segments(tmp_path / "w")) == 4
    assert discard_shipped(tmp_path / "w", shipped=2) == 0
    assert read(tmp_path / "w", after=2) == [(3, [{"n": 2}]), (4, [{"n": 3}])]
    assert discard_shipped(tmp_path / "w", shipped=4) == 0
    assert len(segments(tmp_path / "w")) == 1, "the newest stays while its writer lives"
    assert spool.append([{"n": 4}])
    assert read(tmp_path / "w", after=4) == [(5, [{"n": 4}])]
    spool.close()
    discard_shipped(tmp_path / "w", shipped=5)
    assert writers(tmp_path) == []


def test_frames_not_shipped_yet_stay_when_their_writer_is_gone(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    spool.append(ROWS)
    spool.append(ROWS)
    spool.close()
    assert discard_shipped(tmp_path / "w", shipped=1) == 0
    assert read(tmp_path / "w", after=1) == [(2, ROWS)]


def test_a_torn_tail_is_counted_when_it_is_cut(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    spool.append(ROWS)
    spool.close()
    with segments(tmp_path / "w")[0].open("ab") as segment:
        segment.write(b"LWS1 torn")
    assert read(tmp_path / "w") == [(1, ROWS)]
    assert discard_shipped(tmp_path / "w", shipped=1) == 1
    assert writers(tmp_path) == []


@pytest.mark.parametrize("shipped", [0, 3])
def test_a_second_shipper_that_finds_everything_gone_does_nothing(tmp_path: Path, shipped: int) -> None:
    spool = writer(tmp_path, segment_bytes=1)
    for n in range(3):
        spool.append([{"n": n}])
    spool.close()
    reading = read_frames(tmp_path / "w", after=0)
    assert next(reading).sequence == 1
    discard_shipped(tmp_path / "w", shipped=3)
    assert list(reading) == []
    assert discard_shipped(tmp_path / "w", shipped=shipped) == 0
    assert writers(tmp_path / "absent") == []


def test_a_folder_whose_segments_another_shipper_has_just_deleted_reads_as_empty(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    assert read(tmp_path / "w") == []


def test_a_full_spool_drops_and_counts_until_there_is_room(tmp_path: Path) -> None:
    other = writer(tmp_path, "other")
    other.append([{"text": "x" * 900}])
    spool = writer(tmp_path, segment_bytes=1, max_bytes=1000)
    assert not spool.append([{"text": "y" * 200}, {"text": "z"}])
    assert (spool.written_rows, spool.dropped_rows) == (0, 2)
    other.close()
    discard_shipped(tmp_path / "other", shipped=1)
    assert spool.append([{"text": "y" * 200}])
    assert read(tmp_path / "w") == [(1, [{"text": "y" * 200}])]
    assert spool_bytes(tmp_path) <= 1000
    spool.close()


@pytest.mark.parametrize(
    "row", [{"n": object()}, {"n": 1 << 70}, {"text": "\ud800"}], ids=["object", "big", "surrogate"]
)
def test_a_row_that_json_cannot_hold_is_dropped_and_counted(tmp_path: Path, row: dict[str, Any]) -> None:
    spool = writer(tmp_path)
    assert not spool.append([row])
    assert spool.append(ROWS)
    assert spool.dropped_rows == 1
    assert read(tmp_path / "w") == [(1, ROWS)]
    spool.close()


def test_a_closed_writer_counts_what_it_is_given(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    spool.close()
    assert not spool.append(ROWS)
    assert spool.dropped_rows == len(ROWS)


def test_no_two_writers_share_a_name(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    with pytest.raises(FileExistsError):
        writer(tmp_path)
    spool.close()


class FaultyDisk(SpoolWriter):
    """A writer whose disk has room for so many more bytes, and may refuse new files; refilled by a test."""

    room = 1 << 30
    files_refused = False

    def _open_segment(self) -> Any:
        if self.files_refused:
            raise OSError(errno.ENOSPC, "No space left on device")
        with super()._open_segment() as segment:
            return FaultyFile(segment.name, self)


class FaultyFile(io.FileIO):
    """A real file on that disk: as with ENOSPC, a write takes what fits, and fails where nothing does."""

    def __init__(self, name: str, disk: FaultyDisk) -> None:
        super().__init__(name, "ab")
        self._disk = disk

    def write(self, content: Any) -> int:
        if self._disk.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = super().write(bytes(content)[: self._disk.room])
        self._disk.room -= taken
        return taken


@pytest.fixture
def make_faulty(tmp_path: Path) -> Iterator[Callable[..., FaultyDisk]]:
    """Makes writers on a faulty disk."""
    made: list[FaultyDisk] = []

    def make(segment_bytes: int = 1 << 20) -> FaultyDisk:
        made.append(FaultyDisk(tmp_path, writer="w", segment_bytes=segment_bytes, max_bytes=1 << 26))
        return made[-1]

    yield make
    for disk in made:
        disk.close()


@pytest.mark.parametrize("room", [0, 1, HEADER.size, HEADER.size + 1])
def test_after_a_full_disk_writing_goes_on(tmp_path: Path, make_faulty: Callable[..., FaultyDisk], room: int) -> None:
    disk = make_faulty()
    assert disk.append([{"n": 0}])
    disk.room = room
    assert not any(disk.append([{"n": -1}]) for _ in range(1_200))
    disk.room = 1 << 20
    assert disk.append([{"n": 1}])
    assert disk.append([{"n": 2}])
    assert read(tmp_path / "w") == [(1, [{"n": 0}]), (2, [{"n": 1}]), (3, [{"n": 2}])]
    assert disk.dropped_rows == 1_200
    assert len(segments(tmp_path / "w")) <= 2, "failed attempts leave no files behind"


@pytest.mark.parametrize(("room", "segment_bytes"), [(5, 1 << 20), (1 << 20, 1)], ids=["torn frame", "rotation"])
def test_a_disk_that_refuses_new_files_is_asked_again(
    tmp_path: Path, make_faulty: Callable[..., FaultyDisk], room: int, segment_bytes: int
) -> None:
    disk = make_faulty(segment_bytes)
    assert disk.append([{"n": 0}])
    disk.room, disk.files_refused = room, True
    assert not disk.append([{"n": -1}])
    disk.room = 1 << 20
    assert not disk.append([{"n": -1}])
    disk.files_refused = False
    assert disk.append([{"n": 1}])
    assert read(tmp_path / "w") == [(1, [{"n": 0}]), (2, [{"n": 1}])]
    assert disk.dropped_rows == 2


@settings(max_examples=40)
@given(rooms=st.lists(st.integers(0, 90), max_size=25), segment_bytes=st.integers(1, 200))
def test_what_was_reported_written_is_what_is_read(rooms: list[int], segment_bytes: int) -> None:
    with TemporaryDirectory() as root:
        disk = FaultyDisk(Path(root), writer="w", segment_bytes=segment_bytes, max_bytes=1 << 26)
        kept = []
        for n, disk.room in enumerate(rooms):
            disk.files_refused = n % 5 == 4
            if disk.append([{"n": n}]):
                kept.append([{"n": n}])
        disk.close()
        assert read(Path(root, "w")) == list(enumerate(kept, start=1))
        assert disk.written_rows + disk.dropped_rows == len(rooms)


def test_a_failed_fsync_costs_no_later_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = SpoolWriter(tmp_path, writer="w", segment_bytes=1 << 20, max_bytes=1 << 26, fsync=True)

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("monitoring.core.spool.os.fsync", refuse)
        assert not spool.append([{"n": 0}])
    assert spool.append([{"n": 1}])
    assert [sequence for sequence, _ in read(tmp_path / "w")] == [1, 2]
    assert (spool.written_rows, spool.dropped_rows) == (1, 1)
    spool.close()


def _ends(content: bytes) -> list[tuple[int, int]]:
    """Each frame's sequence and the byte after it."""
    found, position = [], 0
    while position < len(content):
        _, length, _, sequence = HEADER.unpack_from(content, position)
        position += HEADER.size + length
        found.append((sequence, position))
    return found


def _frames_of(segment: Path) -> list[int]:
    return [sequence for sequence, _ in _ends(segment.read_bytes())]
